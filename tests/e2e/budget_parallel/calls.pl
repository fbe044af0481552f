# Calls the model many times at once, by the gateway's port: a line for each answer, its status and its body.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($port, $count, $tokens) = @ARGV;
my $body = qq({"contents":[{"role":"user","parts":[{"text":"hello"}]}],"generationConfig":{"maxOutputTokens":$tokens}});
my @sockets = map { IO::Socket::INET->new("127.0.0.1:$port") or die "no gateway: $!" } 1 .. $count;
print $_ "POST /v1beta/models/m:generateContent HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    . "content-type: application/json\r\ncontent-length: " . length($body) . "\r\n\r\n$body"
    for @sockets;
my $open = IO::Select->new(@sockets);
my %said;
while ($open->count) {
    my @ready = $open->can_read(60) or last;
    for my $socket (@ready) {
        next if sysread $socket, $said{$socket}, 65536, length($said{$socket} // '');
        $open->remove($socket);
    }
}
for my $said (map { $_ // '' } @said{@sockets}) {
    my ($status, $answer) = $said =~ m{^HTTP/1\.1 (\d+).*?\r\n\r\n(.*)}s;
    ($answer //= '') =~ s/\s+/ /g;
    print $status // 'nothing', " $answer\n";
}

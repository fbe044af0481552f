# Tries one way out of a sandbox, and says in one line what came of it: `refused WHY`, `silence`, `open`, or `said: …`.
use strict;
use warnings;
use Errno;
use IO::Select;
use Socket qw(:DEFAULT getaddrinfo);

my %deeds = (
    socket => \&any_socket, tcp => \&tcp, udp => \&udp, unix => \&unix, vsock => \&vsock, route => \&route,
    icmp => \&icmp, listen => \&serve, proxy => \&proxy,
);
my $deed = shift;
$deeds{$deed}->(@ARGV);

sub done { print "@_\n"; exit }

sub refused {
    my @names = sort grep { $!{$_} } keys %!;
    done('refused', $names[0] // "$!");
}

sub addresses {
    my ($host, $port, $kind) = @_;
    my ($error, @found) = getaddrinfo($host, $port, { socktype => $kind });
    done('refused', 'no such name') if $error;
    return @found;
}

# Makes any kind of socket.
sub any_socket {
    my ($family, $kind, $protocol) = @_;
    socket(my $socket, $family, $kind, $protocol) ? done('open') : refused();
}

sub tcp {
    my ($host, $port) = @_;
    for my $address (addresses($host, $port, SOCK_STREAM)) {
        socket(my $socket, $address->{family}, SOCK_STREAM, 0) or next;
        local $SIG{ALRM} = sub { done('silence') };
        alarm 3;
        my $through = connect($socket, $address->{addr});
        alarm 0;
        done('open') if $through;
    }
    refused();
}

sub udp {
    my ($host, $port) = @_;
    my ($address) = addresses($host, $port, SOCK_DGRAM);
    socket(my $socket, $address->{family}, SOCK_DGRAM, 0) or refused();
    setsockopt($socket, SOL_SOCKET, SO_BROADCAST, 1);
    # A question for the address of `example.com`, which is as good as any other.
    my $question = pack('n6', 7, 256, 1, 0, 0, 0) . "\7example\3com\0" . pack('n2', 1, 1);
    send($socket, $question, 0, $address->{addr}) or refused();
    IO::Select->new($socket)->can_read(1) or done('silence');
    recv($socket, my $answer, 512, 0) // refused();
    done('open');
}

# A path, or a name in the abstract after `@`.
sub unix {
    my ($path) = @_;
    $path =~ s/^\@/\0/;
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or refused();
    # `pack_sockaddr_un` would fill up an abstract name.
    connect($socket, pack('S a*', AF_UNIX, $path =~ /^\0/ ? $path : "$path\0")) ? done('open') : refused();
}

sub vsock {
    my ($machine, $port) = @_;
    socket(my $socket, 40, SOCK_STREAM, 0) or refused();
    connect($socket, pack('S S L L x4', 40, 0, $port, $machine)) ? done('open') : refused();
}

# An echo by the kind of socket that needs no right.
sub icmp {
    my ($host) = @_;
    socket(my $socket, AF_INET, SOCK_DGRAM, 1) or refused();
    send($socket, pack('C2 n3', 8, 0, 0, 0, 1), 0, pack_sockaddr_in(0, inet_aton($host))) or refused();
    IO::Select->new($socket)->can_read(1) ? done('open') : done('silence');
}

# Asks the kernel for a default route by way of the loopback.
sub route {
    socket(my $socket, 16, SOCK_RAW, 0) or refused();
    my $message = pack('C8 L', 2, 0, 0, 0, 254, 3, 253, 1, 0) . pack('S S L', 8, 4, 1);
    send($socket, pack('L S S L L', 16 + length $message, 24, 0x605, 1, 0) . $message, 0) or refused();
    recv($socket, my $answer, 4096, 0) // refused();
    my ($length, $kind, $flags, $number, $port, $error) = unpack('L S S L L l', $answer);
    $! = -$error;
    $error ? refused() : done('open');
}

# Listens for a neighbour.
sub serve {
    my ($port, $name) = @_;
    socket(my $network, AF_INET, SOCK_STREAM, 0) or refused();
    bind($network, pack_sockaddr_in($port, INADDR_ANY)) && listen($network, 9) or refused();
    socket(my $abstract, AF_UNIX, SOCK_STREAM, 0) or refused();
    bind($abstract, pack('S a*', AF_UNIX, "\0$name")) && listen($abstract, 9) or refused();
    sleep 600;
}

# Says something to the proxy, and more once it has agreed; both in hexadecimal.
sub proxy {
    my ($first, $more) = map { pack 'H*', $_ } @_;
    my ($host, $port) = ($ENV{http_proxy} // '') =~ m{^http://([^:/]+):(\d+)/?$} or done('refused', 'no proxy');
    socket(my $socket, AF_INET, SOCK_STREAM, 0);
    connect($socket, pack_sockaddr_in($port, inet_aton($host))) or refused();
    $SIG{PIPE} = 'IGNORE';
    syswrite $socket, $first;
    my $said = hear($socket, 8);
    if (defined $more && $said =~ m{^HTTP/1\.[01] 2}) {
        syswrite $socket, $more;
        my $inside = hear($socket, 5);
        done('cut') unless length $inside;
        $said .= $inside;
    }
    $said =~ s/[^ -~]+/ | /g;
    done(length $said ? 'said: ' . substr($said, 0, 1500) : 'closed');
}

# Reads until a whole answer is there, the end of all, or nothing more comes.
sub hear {
    my ($socket, $patience) = @_;
    my ($said, $select) = ('', IO::Select->new($socket));
    while ($select->can_read(length $said ? 0.5 : $patience)) {
        my $read = sysread $socket, $said, 65536, length $said;
        return $said unless $read;
        my ($head, $body) = $said =~ /^(.*?\r\n\r\n)(.*)$/s or next;
        return $said if $head !~ /^content-length:/im && $head =~ m{^HTTP/1\.[01] 2} && $head !~ /^transfer-encoding:/im;
        return $said if $head =~ /^content-length: *(\d+)/im && length $body >= $1;
    }
    done('silence') unless length $said;
    return $said;
}

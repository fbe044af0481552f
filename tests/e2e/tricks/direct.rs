//! What needs no proxy: every kind of socket and address, and what lies about in the file system.

use super::{Must, PROBE, Trick, targets::Targets};
use crate::house::House;

fn fails(what: impl Into<String>, command: impl Into<String>, why: &'static str) -> Trick {
    Trick { what: what.into(), command: command.into(), must: Must::Fail, why }
}

fn probe(way: &str, why: &'static str) -> Trick {
    fails(way, format!("{PROBE} {way}"), why)
}

/// All of them.
pub fn tricks(targets: &Targets, house: &House) -> Vec<Trick> {
    let mut all = addresses(targets, house);
    all.extend(spellings(targets));
    all.extend(kinds_of_sockets());
    all.extend(paths(targets, house));
    all
}

fn addresses(targets: &Targets, house: &House) -> Vec<Trick> {
    let no_route = "there is only `lo`, and no route to anything";
    let mut all = Vec::new();
    for (host, why) in [
        ("10.0.0.1", no_route),
        ("172.17.0.1", "the engine's bridge, where the host itself listens"),
        ("192.168.0.1", no_route),
        ("1.1.1.1", no_route),
        ("169.254.169.254", "the metadata service of most clouds"),
        ("100.100.100.200", "the metadata service of another"),
        ("fd00:ec2::254", "the same by version 6"),
        ("metadata.google.internal", "nobody answers questions about names"),
        ("example.com", "nobody answers questions about names"),
        ("fe80::1", "link-local, without a link"),
        ("fd00::1", "unique local, without a network"),
        ("2001:db8::1", no_route),
        ("::ffff:1.1.1.1", "version 4 in the clothes of version 6"),
        ("255.255.255.255", "everybody, and there is nobody"),
    ] {
        all.push(probe(&format!("tcp {host} 80"), why));
    }
    let own = "the sandbox's own loopback, where nothing of the host listens";
    for port in [targets.bystander.port(), house.address.port(), house.admin.port()] {
        all.push(probe(&format!("tcp 127.0.0.1 {port}"), own));
    }
    all.push(probe(&format!("tcp ::1 {}", targets.bystander6.port()), own));
    all.push(probe("tcp 127.0.0.1 7777", "a neighbour listens there, on a loopback of its own"));
    all.push(probe("tcp localhost 2375", own));
    all.push(probe("udp 8.8.8.8 53", "no question leaves by way of a name server"));
    all.push(probe("tcp 8.8.8.8 53", "nor by this way"));
    all.push(probe("udp 224.0.0.251 5353", "no neighbour is asked for its name"));
    all.push(probe("udp 255.255.255.255 67", "nor for an address"));
    all.push(probe("udp ff02::1 9", "nor all of them"));
    all
}

/// To `inet_aton` these are all the loopback: the sandbox's own.
fn spellings(targets: &Targets) -> Vec<Trick> {
    let port = targets.bystander.port();
    let why = "the loopback in another spelling is still the sandbox's own";
    let hosts = [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1.1",
        "0",
        "0.0.0.0",
        "::ffff:127.0.0.1",
    ];
    hosts.iter().map(|host| probe(&format!("tcp {host} {port}"), why)).collect()
}

fn kinds_of_sockets() -> Vec<Trick> {
    let mut all = Vec::new();
    let seccomp = "no rule of seccomp lets such a socket be made";
    for (name, family, kind, protocol) in [
        ("raw IP", 2, 3, 255),
        ("raw ICMP", 2, 3, 1),
        ("raw ICMP of version 6", 10, 3, 58),
        ("packets of the link", 17, 3, 768),
        ("VSOCK", 40, 1, 0),
        ("VSOCK datagrams", 40, 2, 0),
        ("crypto", 38, 5, 0),
        ("XDP", 44, 3, 0),
        ("TIPC", 30, 1, 0),
        ("RDS", 21, 5, 0),
        ("Bluetooth", 31, 3, 0),
        ("CAN", 29, 3, 1),
        ("SMC", 43, 1, 0),
        ("QIPCRTR", 42, 2, 0),
        ("keys of IPsec", 15, 3, 2),
        ("netfilter's netlink", 16, 3, 12),
    ] {
        all.push(fails(format!("a socket for {name}"), format!("{PROBE} socket {family} {kind} {protocol}"), seccomp));
    }
    all.push(probe("vsock 2 22", "the machine that a virtual machine runs on"));
    all.push(probe("route", "no capability to change the network, and perhaps no such socket"));
    all.push(probe("icmp 1.1.1.1", "no echo leaves, whoever may make such a socket"));
    all
}

fn paths(targets: &Targets, house: &House) -> Vec<Trick> {
    let absent = "nothing of the host's is mounted";
    let mut all = Vec::new();
    for path in [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/systemd/private",
        "/proc/1/root/run/docker.sock",
        "/proc/self/root/run/docker.sock",
        "/.greenroom/run/../../run/docker.sock",
    ] {
        all.push(probe(&format!("unix {path}"), absent));
    }
    let slots = house.state().join("slots");
    for slot in std::fs::read_dir(&slots).expect("there are slots") {
        let slot = slot.expect("it can be read").path();
        for socket in ["gateway.sock", "link.sock"] {
            let path = slot.join("run").join(socket);
            assert!(path.exists(), "{} is not where a slot's socket is", path.display());
            all.push(probe(&format!("unix {}", path.display()), "another slot's sockets are in other sandboxes only"));
        }
    }
    all.push(probe(&format!("unix @{}", targets.hidden), "names without a file belong to a network namespace"));
    all.push(probe("unix @neighbour", "a neighbour listens there, in a namespace of its own"));
    for (what, command) in [
        ("the root of the first process", "ls /proc/1/root/"),
        ("the open files of the first process", "ls /proc/1/fd/"),
        ("the network of the first process", "nsenter --net=/proc/1/ns/net true"),
        ("the memory of the first process", "head -c 1 /proc/1/mem"),
        ("a namespace of one's own", "unshare --user --net true"),
        ("a device of one's own", "mknod /tmp/device c 10 200"),
        ("the tunnel device", "head -c 1 /dev/net/tun"),
        ("the machine's memory", "head -c 1 /dev/mem"),
        ("the kernel's settings", "echo 1 >/proc/sys/net/ipv4/ip_forward"),
    ] {
        let command = format!("({command}) >/dev/null 2>&1 && echo open || echo refused by the kernel");
        all.push(fails(what, command, "the supervisor is out of its agent's reach, and there are no capabilities"));
    }
    all
}

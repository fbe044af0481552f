//! Things the probe tries for real. Each should fail in a sandbox; each is harmless, and undone, where it works.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::Path,
    process,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    mount::{FsOpenFlags, MountFlags, fsopen, mount, unmount},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, getuid, pidfd_getfd, pidfd_open},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::{Outcome, facts::Outcomes};

/// Deadline of each connection.
const CONNECT_DEADLINE: Duration = Duration::from_millis(200);
/// A documentation address, a cloud's metadata service, and the same in IPv6.
const OUTSIDE: [&str; 3] = ["192.0.2.1:80", "169.254.169.254:80", "[2001:db8::1]:80"];

/// Makes and removes a file.
pub fn write_in(folder: &Path) -> Outcome {
    let path = folder.join(format!(".greenroom-probe-{}", process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| file.write_all(b"x"));
    let _absent = fs::remove_file(&path);
    Outcome::of(written)
}

/// Tries to get out.
pub fn outside_connections() -> Outcomes {
    let connect = |address: &str| {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        TcpStream::connect_timeout(&address, CONNECT_DEADLINE)
    };
    OUTSIDE.iter().map(|address| ((*address).to_owned(), Outcome::of(connect(address)))).collect()
}

/// Tries calls that widen what a sandbox can reach. As root nothing is tried: it would work, and on a machine without containers it would
/// be felt by others; a report with uid 0 fails anyway.
pub fn forbidden_calls() -> Outcomes {
    if getuid().is_root() {
        return Outcomes::new();
    }
    let hostname = rustix::system::uname().nodename().to_bytes().to_vec();
    let trials: [(&str, io::Result<()>); 12] = [
        ("socket(AF_ALG)", socket(AddressFamily::from_raw(38))),
        ("socket(AF_PACKET)", socket(AddressFamily::from_raw(17))),
        ("socket(AF_VSOCK)", socket(AddressFamily::from_raw(40))),
        ("mount", mount_and_undo()),
        ("fsopen", done(fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC))),
        ("setns", enter_own_network()),
        ("unshare(NEWUSER)", unshare_user()),
        ("mknod", make_device()),
        ("sethostname", done(rustix::system::sethostname(&hostname))),
        ("chroot", done(rustix::process::chroot("/"))),
        ("pidfd_getfd(1)", take_file_of_init()),
        ("open(/proc/1/mem)", File::open("/proc/1/mem").map(drop)),
    ];
    trials.into_iter().map(|(name, result)| (name.to_owned(), Outcome::of(result))).collect()
}

fn done<T>(result: rustix::io::Result<T>) -> io::Result<()> {
    result.map(drop).map_err(io::Error::from)
}

fn socket(family: AddressFamily) -> io::Result<()> {
    let kind = if family == AddressFamily::from_raw(38) { SocketType::SEQPACKET } else { SocketType::STREAM };
    let kind = if family == AddressFamily::from_raw(17) { SocketType::RAW } else { kind };
    done(socket_with(family, kind, SocketFlags::CLOEXEC, None))
}

fn mount_and_undo() -> io::Result<()> {
    done(mount("none", "/tmp", "tmpfs", MountFlags::empty(), None))?;
    done(unmount("/tmp", rustix::mount::UnmountFlags::DETACH))
}

fn enter_own_network() -> io::Result<()> {
    let own = File::open("/proc/self/ns/net")?;
    done(move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)))
}

fn unshare_user() -> io::Result<()> {
    #[expect(deprecated, reason = "unsafe only with the FILES flag, which is not given; the probe has one thread")]
    done(rustix::thread::unshare(UnshareFlags::NEWUSER))
}

fn make_device() -> io::Result<()> {
    let path = format!("/tmp/.greenroom-probe-device-{}", process::id());
    let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 3));
    let _absent = fs::remove_file(&path);
    done(made)
}

fn take_file_of_init() -> io::Result<()> {
    let init = pidfd_open(Pid::INIT, PidfdFlags::empty())?;
    done(pidfd_getfd(init, 0, PidfdGetfdFlags::empty()))
}

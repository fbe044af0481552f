//! Servers of this machine: one that is allowed and keeps what it hears, and three that nobody may connect to.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::linux::net::SocketAddrExt as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
};

/// The most that is kept of one connection, in bytes.
const KEPT: usize = 64 * 1024;

/// What the server that is allowed says.
pub const GREETING: &str = "hello from the allowed server";

/// All of them; they end with the test.
#[derive(Debug)]
pub struct Targets {
    /// It answers each first request of a connection, and whoever begins with TLS, and keeps all it hears.
    pub allowed: SocketAddr,
    /// On loopback, version 4; it counts.
    pub bystander: SocketAddr,
    /// On loopback, version 6; it counts.
    pub bystander6: SocketAddr,
    /// A socket without a file; it counts.
    pub hidden: String,
    heard: Heard,
    disturbed: Arc<AtomicUsize>,
}

/// What was said on each connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

impl Targets {
    pub async fn start() -> Self {
        let allowed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let bystander = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let bystander6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("there is a loopback of version 6");
        let address = |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
        let targets = Self {
            allowed: address(&allowed),
            bystander: address(&bystander),
            bystander6: address(&bystander6),
            hidden: format!("greenroom-bystander-{}", address(&bystander).port()),
            heard: Heard::default(),
            disturbed: Arc::default(),
        };
        tokio::spawn(listen(allowed, address(&bystander).port(), Arc::clone(&targets.heard)));
        for listener in [bystander, bystander6] {
            let disturbed = Arc::clone(&targets.disturbed);
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    disturbed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let hidden = hidden_listener(&targets.hidden);
        let disturbed = Arc::clone(&targets.disturbed);
        tokio::spawn(async move {
            while hidden.accept().await.is_ok() {
                disturbed.fetch_add(1, Ordering::SeqCst);
            }
        });
        targets
    }

    /// How many connected who may not.
    pub fn disturbed(&self) -> usize {
        self.disturbed.load(Ordering::SeqCst)
    }

    /// What the server that is allowed has heard since, by connection.
    pub fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|said| String::from_utf8_lossy(said).into_owned()).collect()
    }

    pub fn forget(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Connects to each bystander from outside of sandboxes.
    pub async fn visit(&self) {
        for address in [self.bystander, self.bystander6] {
            TcpStream::connect(address).await.expect("it listens");
        }
        let name = std::os::unix::net::SocketAddr::from_abstract_name(&self.hidden).expect("a short name");
        let socket = std::os::unix::net::UnixStream::connect_addr(&name).expect("it listens");
        drop(socket);
        let seen = async || (self.disturbed() >= 3).then_some(());
        crate::wait::until("they have seen it", std::time::Duration::from_secs(5), seen).await;
    }
}

/// Whether all that was heard is one request a connection, for the server's own name.
pub fn in_bounds(heard: &[String]) -> Result<(), String> {
    for said in heard {
        let hosts = said.lines().filter(|line| line.to_ascii_lowercase().starts_with("host:"));
        let hosts = hosts.map(|line| line[5..].trim().to_ascii_lowercase()).collect::<Vec<_>>();
        let own = |host: &String| host.starts_with("allowed.test") || host.starts_with("a.wild.test");
        if hosts.len() > 1 || !hosts.iter().all(own) {
            return Err(format!("the server that is allowed heard of other hosts, or twice: {said:?}"));
        }
        let lower = said.to_ascii_lowercase();
        for private in ["x-goog-api-key", "proxy-", "key-of-this-session"] {
            if lower.contains(private) {
                return Err(format!("the server that is allowed was told {private}: {said:?}"));
            }
        }
    }
    Ok(())
}

fn hidden_listener(name: &str) -> UnixListener {
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a short name");
    let listener = std::os::unix::net::UnixListener::bind_addr(&name).expect("nobody has that name");
    listener.set_nonblocking(true).expect("it can be told");
    UnixListener::from_std(listener).expect("a runtime is here")
}

/// Answers once a connection; goes on listening until the other end has enough.
async fn listen(listener: TcpListener, bystander: u16, heard: Heard) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        let place = {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push(Vec::new());
            heard.len() - 1
        };
        tokio::spawn(async move {
            let mut said = Vec::new();
            let mut answered = false;
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = socket.read(&mut piece).await {
                said.extend_from_slice(&piece[..read]);
                said.truncate(KEPT);
                if let Some(kept) = heard.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
                    kept.clone_from(&said);
                }
                // A request's end, or the beginning of TLS.
                if !answered && (said[0] == 22 || said.windows(4).any(|end| end == b"\r\n\r\n")) {
                    answered = true;
                    let _gone = socket.write_all(answer(&said, bystander).as_bytes()).await;
                }
            }
        });
    }
}

fn answer(said: &[u8], bystander: u16) -> String {
    let line = String::from_utf8_lossy(said).lines().next().unwrap_or_default().to_owned();
    if line.contains("/redirect") {
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{bystander}/\r\ncontent-length: 0\r\n\r\n")
    } else {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{GREETING}", GREETING.len())
    }
}

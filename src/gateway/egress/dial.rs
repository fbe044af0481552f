//! A connection to a checked address, and what passes on it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{asked::Asked, names::Found, refusal::Refusal};
use crate::{gateway::lease::Lease, telemetry::Metrics};

/// Deadline for all addresses of a name together.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const TRIES: u32 = 4;

/// What a connection of an agent's is used for at the moment.
#[derive(Debug)]
pub(super) struct Use {
    /// In whose name.
    pub lease: Arc<Lease>,
    /// For what.
    pub asked: Asked,
    metrics: Metrics,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Use {
    /// Nothing has passed yet.
    pub fn new(lease: Arc<Lease>, asked: Asked, metrics: Metrics) -> Self {
        Self { lease, asked, metrics, sent: AtomicU64::default(), received: AtomicU64::default() }
    }

    /// Where it is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until it may not go on, because a rule was taken away.
    pub async fn until_refused(&self) {
        self.lease.binding.egress.until_refused(&self.asked.host, self.asked.port).await;
    }

    /// Waits until nothing passed for so long, or up to twice as long.
    pub async fn until_silent(&self, limit: Duration) {
        let passed = || self.sent.load(Ordering::Relaxed).wrapping_add(self.received.load(Ordering::Relaxed));
        let mut before = None;
        while before != Some(passed()) {
            before = Some(passed());
            tokio::time::sleep(limit).await;
        }
    }

    fn passed(&self, sent: usize, received: usize) {
        let (sent, received) = (sent as u64, received as u64);
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
        self.lease.binding.egress.add(sent, received);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.metrics.egress_bytes(*self.sent.get_mut(), *self.received.get_mut());
    }
}

/// Connects to one of the addresses that were found, and to no other.
pub(super) async fn dial(found: Found, used: Arc<Use>) -> Result<Counted, Refusal> {
    if !found.pinned && found.addresses.iter().any(|address| is_our_own(*address)) {
        return Err(Refusal::NotPublic);
    }
    let tries = u32::try_from(found.addresses.len()).unwrap_or(TRIES).clamp(1, TRIES);
    let mut refusal = Refusal::Unreachable;
    for address in found.addresses.into_iter().take(TRIES as usize) {
        match tokio::time::timeout(CONNECT / tries, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps small pieces back");
                }
                return Ok(Counted { stream, used });
            }
            Ok(Err(error)) => tracing::debug!(%error, egress.host = %used.asked.host, "a host can't be reached"),
            Err(_elapsed) => refusal = Refusal::Deadline,
        }
    }
    Err(refusal)
}

/// Whether it is this machine's, though the internet may see it too. Asks the kernel for the way there and sends nothing.
fn is_our_own(address: SocketAddr) -> bool {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let way = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    // Without a way there is nothing to connect to either.
    way.is_ok_and(|way| way.ip() == address.ip())
}

/// A connection to a host that counts what passes.
#[derive(Debug)]
pub(super) struct Counted {
    stream: TcpStream,
    used: Arc<Use>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.used.passed(0, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.used.passed(written, 0);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_knows_its_own_addresses() {
        for own in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
            let own: SocketAddr = own.parse().expect("an address");
            // A machine may do without IPv6.
            let has_it = UdpSocket::bind((own.ip(), 0)).is_ok();
            assert!(is_our_own(own) || !has_it || own.ip() == IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9)), "{own}");
        }
    }
}

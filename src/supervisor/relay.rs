//! The sandbox's only way out: each connection to a loopback port is carried to the gateway's socket.
//!
//! The relay knows nothing of what it carries. Each direction has one fixed buffer, an end of stream is passed on and the other
//! direction goes on. At most [`CONNECTIONS_MAX`] connections at a time; further ones wait in the kernel's queue.

use std::{io, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
};

/// Connections carried at the same time.
pub const CONNECTIONS_MAX: usize = 64;
/// Buffer of each direction, in bytes.
const BUFFER: usize = 16 * 1024;
/// Pause after a failed accept (such as: no file left), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on this port of the loopback; 0 picks one.
///
/// # Errors
/// The port is taken or there is no loopback.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Carries connections to `gateway` until it is dropped.
pub async fn serve(listener: TcpListener, gateway: Arc<Path>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                let gateway = Arc::clone(&gateway);
                // Ends with the runtime, which ends with the supervisor.
                tokio::spawn(async move {
                    // A failure is seen by both ends as a closed connection; there is nobody else to tell.
                    let _ended = carry(connection, &gateway).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(mut inside: TcpStream, gateway: &Path) -> io::Result<()> {
    inside.set_nodelay(true)?;
    let mut outside = UnixStream::connect(gateway).await?;
    copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
        time::timeout,
    };

    use super::*;

    async fn relay_to(gateway: &Path) -> u16 {
        let listener = listen(0).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(serve(listener, Arc::from(gateway)));
        port
    }

    #[tokio::test]
    async fn an_end_of_stream_is_passed_on_and_the_answer_still_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let gateway = UnixListener::bind(&path).expect("bound");
        let port = relay_to(&path).await;
        let mut inside = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        inside.write_all(b"question").await.expect("sent");
        inside.shutdown().await.expect("half closed");
        let (mut outside, _) = gateway.accept().await.expect("relayed");
        let mut question = String::new();
        outside.read_to_string(&mut question).await.expect("its end arrives");
        outside.write_all(b"answer").await.expect("sent");
        drop(outside);
        let mut answer = String::new();
        inside.read_to_string(&mut answer).await.expect("read");
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn without_a_gateway_the_connection_is_closed() {
        let port = relay_to(Path::new("/nowhere/gateway.sock")).await;
        let mut inside = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let mut nothing = Vec::new();
        let read = timeout(Duration::from_secs(5), inside.read_to_end(&mut nothing)).await.expect("closed at once");
        assert!(read.is_err() || nothing.is_empty());
    }

    #[tokio::test]
    async fn a_connection_over_the_limit_waits_for_a_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let gateway = UnixListener::bind(&path).expect("bound");
        let port = relay_to(&path).await;
        let mut inside = Vec::new();
        for _ in 0..=CONNECTIONS_MAX {
            inside.push(TcpStream::connect(("127.0.0.1", port)).await.expect("connected"));
        }
        let mut outside = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            outside.push(gateway.accept().await.expect("relayed"));
        }
        assert!(timeout(Duration::from_millis(50), gateway.accept()).await.is_err(), "one too many");
        drop(outside.pop());
        drop(inside.remove(CONNECTIONS_MAX - 1));
        timeout(Duration::from_secs(5), gateway.accept()).await.expect("a place is free").expect("relayed");
    }
}

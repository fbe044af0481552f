//! The sandbox's only ways out: each connection to a loopback port is carried to a socket of the gateway's. One port leads to the model, one to
//! the proxy for the agent's tools.
//!
//! The relay knows nothing of what it carries. Each direction has one fixed buffer, an end of stream is passed on and the other
//! direction goes on. At most [`CONNECTIONS_MAX`] connections at a time; further ones wait in the kernel's queue.
//!
//! While the gateway's socket is away, because the server is being replaced, a connection is held and the gateway tried again until it is back
//! or the agent has closed its end: a restart costs the agent a wait, not an error.

use std::{io, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    time::sleep,
};

/// Connections of one port carried at the same time.
pub const CONNECTIONS_MAX: usize = 64;
/// Buffer of each direction, in bytes.
const BUFFER: usize = 16 * 1024;
/// Pause after a failed accept (such as: no file left), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pause after the first try to reach a gateway that isn't there. It doubles with every try.
const GATEWAY_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest such pause.
const GATEWAY_PAUSE_MAX: Duration = Duration::from_millis(500);

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
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(mut inside: TcpStream, gateway: &Path) -> io::Result<()> {
    inside.set_nodelay(true)?;
    let Some(mut outside) = reach(gateway, &inside).await? else { return Ok(()) };
    copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}

/// Tries until the gateway is there; none when the agent has gone meanwhile. What it has sent stays unread, so that nobody's request reaches
/// the model after its sender gave up.
async fn reach(gateway: &Path, inside: &TcpStream) -> io::Result<Option<UnixStream>> {
    let mut pause = GATEWAY_PAUSE_FIRST;
    loop {
        if let Ok(outside) = UnixStream::connect(gateway).await {
            return Ok(Some(outside));
        }
        sleep(pause).await;
        if is_closed(inside).await? {
            return Ok(None);
        }
        pause = (pause * 2).min(GATEWAY_PAUSE_MAX);
    }
}

/// Whether the other end will send no more, also if something is unread. An end that is only half closed counts: who asks for an answer over
/// HTTP keeps both halves.
async fn is_closed(connection: &TcpStream) -> io::Result<bool> {
    tokio::select! {
        biased;
        ready = connection.ready(Interest::READABLE) => Ok(ready?.is_read_closed()),
        () = std::future::ready(()) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

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
    async fn a_connection_waits_for_a_gateway_that_is_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let port = relay_to(&path).await;
        let mut inside = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        inside.write_all(b"question").await.expect("sent");
        // Long enough for some tries.
        let mut answer = [0; 6];
        assert!(
            timeout(GATEWAY_PAUSE_FIRST * 4, inside.read(&mut answer)).await.is_err(),
            "it is neither answered nor closed"
        );
        // First the socket of a server that is dead, then the next server's.
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(
            timeout(GATEWAY_PAUSE_FIRST * 4, inside.read(&mut answer)).await.is_err(),
            "it is neither answered nor closed"
        );
        std::fs::remove_file(&path).expect("removed");
        let gateway = UnixListener::bind(&path).expect("bound");
        let (mut outside, _) = timeout(PATIENCE, gateway.accept()).await.expect("in time").expect("relayed");
        let mut question = [0; 8];
        outside.read_exact(&mut question).await.expect("the question arrives");
        outside.write_all(b"answer").await.expect("sent");
        inside.read_exact(&mut answer).await.expect("the answer arrives");
        assert_eq!((&question, &answer), (b"question", b"answer"));
    }

    #[tokio::test]
    async fn a_request_whose_sender_gave_up_waiting_never_reaches_the_gateway() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let port = relay_to(&path).await;
        let mut impatient = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        impatient.write_all(b"costly").await.expect("sent");
        assert!(timeout(GATEWAY_PAUSE_FIRST * 2, impatient.read_u8()).await.is_err(), "it waits");
        drop(impatient);
        let gateway = UnixListener::bind(&path).expect("bound");
        let mut patient = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        patient.write_all(b"wanted").await.expect("sent");
        let (mut outside, _) = timeout(PATIENCE, gateway.accept()).await.expect("in time").expect("relayed");
        let mut question = [0; 6];
        outside.read_exact(&mut question).await.expect("the question arrives");
        assert_eq!(&question, b"wanted");
        assert!(timeout(GATEWAY_PAUSE_MAX * 2, gateway.accept()).await.is_err(), "nobody else is relayed");
    }

    #[tokio::test]
    async fn places_of_those_who_gave_up_are_free_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let port = relay_to(&path).await;
        for _ in 0..CONNECTIONS_MAX {
            drop(TcpStream::connect(("127.0.0.1", port)).await.expect("connected"));
        }
        let _patient = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let gateway = UnixListener::bind(&path).expect("bound");
        timeout(PATIENCE, gateway.accept()).await.expect("in time").expect("relayed");
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

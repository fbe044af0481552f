//! A connection's socket with deadlines: reading fails when the client's turn took too long, writing when the client takes nothing.
//!
//! The deadlines sit here because only here both protocols look the same. They are checked when hyper waits, so a connection that
//! is not waited for costs nothing.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::pulse::{IDLE, Pulse};

pub(super) struct Socket<S> {
    stream: S,
    pulse: Arc<Pulse>,
    /// Set to when the pulse should be looked at again; never later than the pulse's own deadline.
    read_alarm: Pin<Box<Sleep>>,
    write_stall: Duration,
    /// Runs while the client takes nothing.
    write_alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>, write_stall: Duration) -> Self {
        let look_again = pulse.due().unwrap_or_else(|| Instant::now() + IDLE);
        Self { stream, pulse, read_alarm: Box::pin(sleep_until(look_again)), write_stall, write_alarm: None }
    }

    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let due = self.pulse.due();
            let look_again = due.unwrap_or_else(|| Instant::now() + IDLE);
            if look_again < self.read_alarm.deadline() || self.read_alarm.is_elapsed() {
                self.read_alarm.as_mut().reset(look_again);
            }
            if self.read_alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn watch_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_alarm = None;
            return written;
        }
        let stall = self.write_stall;
        let alarm = self.write_alarm.get_or_insert_with(|| Box::pin(sleep(stall)));
        alarm.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                self.pulse.bytes_came();
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_read_deadline(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    use poem::http::Version;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const STALL: Duration = Duration::from_secs(20);

    fn socket() -> (Socket<DuplexStream>, DuplexStream, Arc<Pulse>) {
        let (ours, theirs) = tokio::io::duplex(16);
        let pulse = Pulse::new(HEAD);
        (Socket::new(ours, Arc::clone(&pulse), STALL), theirs, pulse)
    }

    /// How long the next read waits before it gives up.
    async fn patience(socket: &mut Socket<DuplexStream>) -> Duration {
        let start = Instant::now();
        assert_eq!(socket.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Tokio's timer counts in whole milliseconds.
        Duration::from_secs(start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_has_the_head_deadline() {
        let (mut socket, _theirs, _pulse) = socket();
        assert_eq!(patience(&mut socket).await, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_its_head_gains_no_time() {
        let (mut socket, mut theirs, _pulse) = socket();
        let start = Instant::now();
        let dripping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if theirs.write_u8(b'x').await.is_err() {
                    return;
                }
            }
        });
        while socket.read_u8().await.is_ok() {}
        assert_eq!(start.elapsed().as_secs(), HEAD.as_secs());
        drop(socket);
        dripping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_has_no_read_deadline_and_an_idle_connection_has_a_longer_one() {
        let (mut socket, mut theirs, pulse) = socket();
        let request = pulse.request(Version::HTTP_11);
        let waited = tokio::time::timeout(IDLE * 3, socket.read_u8()).await;
        assert!(waited.is_err());
        drop(request);
        assert_eq!(patience(&mut socket).await, IDLE);

        let (mut second, pulse) = (socket, pulse);
        drop(pulse.request(Version::HTTP_11));
        theirs.write_u8(b'x').await.unwrap();
        second.read_u8().await.unwrap();
        assert_eq!(patience(&mut second).await, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
        let (mut socket, mut theirs, _pulse) = socket();
        let slow = async {
            for _ in 0..4 {
                tokio::time::sleep(STALL / 2).await;
                theirs.read_u8().await.unwrap();
            }
        };
        let write = socket.write_all(&[0; 20]);
        let (written, ()) = tokio::join!(write, slow);
        written.unwrap();

        let start = Instant::now();
        assert_eq!(socket.write_all(&[0; 20]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), STALL.as_secs());
    }
}

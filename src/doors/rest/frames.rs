//! Bytes on their way to one client, who may be slow or gone.
//!
//! A task writes frames into a short queue, from which the connection takes them as fast as the client reads. Small pieces are gathered
//! into frames of our own; a large event goes in slices as it lies in the log, shared by all who read it. So a client who is behind holds
//! at most [`OWN_BYTES_MAX`] of its own, however large the events are. The task lives until the client has taken everything: whoever
//! takes nothing for `write_stall` is cut, and all that was held is given back, on HTTP/2 too, where the connection's own watch sees
//! nothing and the queue may lie untouched for as long as the client likes. The task ends as well when the client leaves, since the
//! queue closes then.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use poem::Body;
use tokio::{
    sync::mpsc,
    time::{Instant, error::Elapsed, timeout},
};

/// A frame of this size, in bytes, is sent; nothing more is gathered into it. Large events are sliced into frames of this size.
const FRAME_BYTES: usize = 48 * 1024;
/// The largest event that is copied into a frame, in bytes.
pub(super) const COPY_MAX: usize = 2 * 1024;
/// What stands around one event, and more.
const AROUND_MAX: usize = 512;
/// Frames a client may be behind.
const QUEUE_FRAMES: usize = 4;
/// What the queue and the frame that waits for a place in it hold at most beside shared events, in bytes.
pub(super) const OWN_BYTES_MAX: usize = 256 * 1024;
const _: () =
    assert!((QUEUE_FRAMES + 1) * (FRAME_BYTES + COPY_MAX + AROUND_MAX) <= OWN_BYTES_MAX, "the promise is kept");

/// Why a client gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is gone.
    Left,
    /// It took nothing for too long.
    Stalled,
}

/// A frame in the queue; emptied when its client is cut. Locked to take it out, never across an await.
#[derive(Debug, Clone)]
struct Slot(Arc<Mutex<Option<Bytes>>>);

impl Slot {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The end that writes.
#[derive(Debug)]
pub(super) struct FrameWriter {
    queue: mpsc::Sender<Slot>,
    /// The last that were sent: those which may lie in the queue.
    queued: VecDeque<Slot>,
    write_stall: Duration,
    gathered: Vec<u8>,
    sent_at: Instant,
}

/// The end the connection takes from.
#[derive(Debug)]
pub(super) struct Frames(mpsc::Receiver<Slot>);

/// A queue to one client.
pub(super) fn frames(write_stall: Duration) -> (FrameWriter, Frames) {
    let (queue, taken) = mpsc::channel(QUEUE_FRAMES);
    let writer =
        FrameWriter { queue, queued: VecDeque::new(), write_stall, gathered: Vec::new(), sent_at: Instant::now() };
    (writer, Frames(taken))
}

impl FrameWriter {
    /// Adds a few words to the frame that is gathered.
    pub(super) fn add(&mut self, words: &str) {
        self.gathered.extend_from_slice(words.as_bytes());
    }

    /// Adds an event's bytes, or sends them as they are if they are many.
    pub(super) async fn add_event(&mut self, json: &Bytes) -> Result<(), Cut> {
        if json.len() > COPY_MAX {
            self.flush().await?;
            return self.send_sliced(json).await;
        }
        self.gathered.extend_from_slice(json);
        if self.gathered.len() >= FRAME_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends bytes as they are.
    pub(super) async fn send_sliced(&mut self, bytes: &Bytes) -> Result<(), Cut> {
        for start in (0..bytes.len()).step_by(FRAME_BYTES) {
            self.send(bytes.slice(start..bytes.len().min(start + FRAME_BYTES))).await?;
        }
        Ok(())
    }

    /// Sends what is gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Cut> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let frame = std::mem::take(&mut self.gathered).into();
        self.send(frame).await
    }

    /// Sends what is gathered, and waits until the client has taken everything.
    pub(super) async fn finish(&mut self) -> Result<(), Cut> {
        self.flush().await?;
        for free in 1..=QUEUE_FRAMES {
            let taken = timeout(self.write_stall, self.queue.reserve_many(free)).await;
            let outcome = taken.map(|places| places.map(drop));
            self.check(outcome)?;
        }
        // All of it is the client's now, also what its connection holds in its hand at this moment.
        self.queued.clear();
        Ok(())
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), Cut> {
        let slot = Slot(Arc::new(Mutex::new(Some(frame))));
        let sent = timeout(self.write_stall, self.queue.send(slot.clone())).await;
        self.check(sent)?;
        self.sent_at = Instant::now();
        self.queued.push_back(slot);
        if self.queued.len() > QUEUE_FRAMES {
            self.queued.pop_front();
        }
        Ok(())
    }

    fn check<E>(&mut self, outcome: Result<Result<(), E>, Elapsed>) -> Result<(), Cut> {
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Cut::Left),
            Err(_elapsed) => {
                self.give_back();
                Err(Cut::Stalled)
            }
        }
    }

    fn give_back(&mut self) {
        self.queued.drain(..).for_each(|slot| drop(slot.take()));
    }

    /// When the last frame was sent.
    pub(super) const fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Waits until the client is gone.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

/// Whoever isn't to have the rest gets nothing that still lies in the queue either. After [`FrameWriter::finish`] nothing does.
impl Drop for FrameWriter {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Frames {
    /// The next frame; none: that was all, or the client was cut.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await?.take()
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_bytes_stream(stream::unfold(self, |mut frames| async {
            frames.next().await.map(|frame| (Ok::<_, io::Error>(frame), frames))
        }))
    }
}

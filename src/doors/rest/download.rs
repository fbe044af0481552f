//! Bytes of files and archives on their way to a client.
//!
//! A task takes pieces from the service and writes them into the queue to its client; what becomes of a client who is slow is told in
//! [`frames`](super::frames). If the rest can't be had the answer breaks off, so that nobody takes half of it for the whole.

use std::{io, marker::PhantomData};

use futures_util::stream;
use poem::{
    Body, IntoResponse, Response,
    http::header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaResponse, MetaResponses, MetaSchemaRef, Registry},
};
use tokio::sync::oneshot;

use super::{
    frames::{Cut, FrameWriter, Frames, frames},
    media::{Media, bytes},
};
use crate::{config, problem::Problem, service::files::Outgoing};

/// For a browser that shows a file all the same: as of no origin, without scripts, and nothing is fetched for it.
const POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// Bytes on their way to a client.
pub(super) struct Download<M> {
    frames: Frames,
    /// Fires when all of them were given to the queue.
    whole: oneshot::Receiver<()>,
    size: Option<u64>,
    media: PhantomData<M>,
}

impl<M> Download<M> {
    /// Starts sending.
    pub(super) fn start(outgoing: Outgoing, settings: &config::Server) -> Self {
        let (writer, frames) = frames(settings.write_stall);
        let (told, whole) = oneshot::channel();
        let (size, standing) = (outgoing.size(), outgoing.standing.clone());
        // Ends with the client and its token, or when that takes nothing.
        tokio::spawn(async move {
            let sent = tokio::select! {
                sent = send(outgoing, writer) => sent,
                () = standing.ended() => Err(Broken::Unauthenticated),
            };
            match sent {
                Ok(()) => drop(told.send(())),
                Err(Broken::Unauthenticated) => tracing::debug!("a client's token ended before its file did"),
                Err(Broken::Client(cut)) => tracing::debug!(?cut, "a client did not take the whole of a file"),
                Err(Broken::Source(problem)) => {
                    let cause = problem.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
                    tracing::debug!(code = problem.code.as_str(), cause, "the rest of a file could not be had");
                }
            }
        });
        Self { frames, whole, size, media: PhantomData }
    }
}

/// Why a client did not get all of it.
enum Broken {
    Unauthenticated,
    Client(Cut),
    Source(Problem),
}

async fn send(mut outgoing: Outgoing, mut writer: FrameWriter) -> std::result::Result<(), Broken> {
    while let Some(bytes) = outgoing.next().await.map_err(Broken::Source)? {
        writer.send_sliced(&bytes).await.map_err(Broken::Client)?;
    }
    writer.finish().await.map_err(Broken::Client)
}

impl<M: Media> IntoResponse for Download<M> {
    fn into_response(self) -> Response {
        let Self { frames, whole, size, .. } = self;
        let body = stream::unfold(Some((frames, whole)), |sending| async {
            let (mut frames, mut whole) = sending?;
            match frames.next().await {
                Some(frame) => Some((Ok(frame), Some((frames, whole)))),
                // The queue is empty, but the last word may be on its way: the writer waits for the queue before it says it.
                None => match (&mut whole).await {
                    Ok(()) => None,
                    Err(_) => Some((Err(io::Error::other("the rest could not be had")), None)),
                },
            }
        });
        let response = Response::builder()
            .content_type(M::TYPE)
            .header(CACHE_CONTROL, "no-store")
            // What an agent wrote is never a page of ours: it is kept instead of shown, not guessed at, and runs nothing if it is shown all the same.
            .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(CONTENT_DISPOSITION, M::DISPOSITION)
            .header(CONTENT_SECURITY_POLICY, POLICY);
        let response = match size {
            Some(size) => response.header(CONTENT_LENGTH, size),
            None => response,
        };
        response.body(Body::from_bytes_stream(body))
    }
}

impl<M: Media> Payload for Download<M> {
    const CONTENT_TYPE: &'static str = M::TYPE;

    fn schema_ref() -> MetaSchemaRef {
        bytes()
    }
}

impl<M: Media> ApiResponse for Download<M> {
    fn meta() -> MetaResponses {
        let content = M::described();
        let response =
            MetaResponse { description: "The bytes.", status: Some(200), status_range: None, content, headers: vec![] };
        MetaResponses { responses: vec![response] }
    }

    fn register(_registry: &mut Registry) {}
}

//! Bytes of files and archives, on their way to a client or from one.
//!
//! To a client: a task takes pieces from the service and writes them into the queue to its client; what becomes of a client who is slow is told in
//! [`frames`](super::frames). If the rest can't be had the answer breaks off, so that nobody takes half of it for the whole.
//! From a client: every [`PACE`] bytes have the deadline that a whole body has elsewhere. A client who leaves or is too slow leaves nothing behind.

use std::{io, marker::PhantomData};

use futures_util::stream;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result,
    http::header::{CACHE_CONTROL, CONTENT_LENGTH, X_CONTENT_TYPE_OPTIONS},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    payload::Payload,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    frames::{Cut, FrameWriter, Frames, frames},
    refusal::Refusal,
};
use crate::{
    config,
    problem::{Code, Problem},
    service::files::{Incoming, Outgoing},
};

/// Bytes a client has the body's deadline for.
const PACE: usize = 1024 * 1024;
/// Bytes of a client that are gathered before they are written.
const GATHERED: usize = 128 * 1024;

/// A kind of bytes.
pub(super) trait Media: Send + Sync + 'static {
    /// As it is named.
    const TYPE: &'static str;

    /// Whether a client may call it so.
    fn is_called(_name: &str) -> bool {
        true
    }
}

/// Any file: what a client calls it is passed over.
pub(super) struct Octets;

impl Media for Octets {
    const TYPE: &'static str = "application/octet-stream";
}

/// A tar archive.
pub(super) struct Tar;

impl Media for Tar {
    const TYPE: &'static str = "application/x-tar";

    fn is_called(name: &str) -> bool {
        let name = name.split(';').next().unwrap_or_default().trim();
        ["application/x-tar", "application/tar", "application/octet-stream"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    }
}

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
        let size = outgoing.size();
        // Ends with the client, or when that takes nothing.
        tokio::spawn(async move {
            match send(outgoing, writer).await {
                Ok(()) => drop(told.send(())),
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
            // What an agent wrote is never a page of ours.
            .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
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
        let content = vec![MetaMediaType { content_type: M::TYPE, schema: bytes() }];
        let response =
            MetaResponse { description: "The bytes.", status: Some(200), status_range: None, content, headers: vec![] };
        MetaResponses { responses: vec![response] }
    }

    fn register(_registry: &mut Registry) {}
}

/// Bytes a client sends. Nothing of them is read yet.
pub(super) struct Upload<M> {
    body: Body,
    pub(super) announced: Option<u64>,
    media: PhantomData<M>,
}

impl<M> Upload<M> {
    /// Hands everything over, and says that it was all.
    pub(super) async fn into_sink(
        self,
        mut sink: Incoming,
        settings: &config::Server,
    ) -> std::result::Result<crate::service::files::Written, Problem> {
        let mut body = BoxBody::from(self.body);
        let mut gathered = Vec::new();
        let mut all = false;
        while !all {
            let mut taken = 0;
            let pace = async {
                while taken < PACE {
                    let Some(frame) = body.frame().await else { return Ok(true) };
                    let frame = frame
                        .map_err(|fault| Problem::new(Code::InvalidRequest, "the body broke off").because(fault))?;
                    let Ok(bytes) = frame.into_data() else { continue };
                    taken += bytes.len();
                    gathered.extend_from_slice(&bytes);
                    if gathered.len() >= GATHERED {
                        sink.write(std::mem::take(&mut gathered)).await?;
                    }
                }
                Ok::<_, Problem>(false)
            };
            all = timeout(settings.body_timeout, pace).await.map_err(|_elapsed| {
                let detail = format!("a MiB of the body did not come within {} s", settings.body_timeout.as_secs());
                Problem::new(Code::InvalidRequest, detail)
            })??;
        }
        if !gathered.is_empty() {
            sink.write(gathered).await?;
        }
        sink.finish().await
    }
}

impl<'a, M: Media> ApiExtractor<'a> for Upload<M> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: M::TYPE, schema: bytes() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        if let Some(name) = request.content_type().filter(|name| !M::is_called(name)) {
            let name: String = name.chars().take(100).collect();
            let detail = format!("this call takes {}, and the body is called {name}", M::TYPE);
            return Err(Refusal(Problem::new(Code::UnsupportedMediaType, detail)).into());
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { body: body.take()?, announced, media: PhantomData })
    }
}

fn bytes() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")))
}

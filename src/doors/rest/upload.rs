//! Bytes of files and archives on their way from a client.
//!
//! Every [`PACE`] bytes have the deadline that a whole body has elsewhere. A client who leaves or is too slow leaves nothing behind. One who is
//! refused is listened to for a while all the same: who is still talking when the connection is closed never hears why.

use std::{marker::PhantomData, time::Duration};

use http_body_util::{BodyExt as _, combinators::BoxBody};
use poem::{
    Body, Request, RequestBody,
    http::header::{CONTENT_LENGTH, EXPECT},
};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::MetaRequest};
use tokio::time::timeout;

use super::{media::Media, refusal::Refusal};
use crate::{
    config,
    problem::{Code, Problem},
    service::files::{Incoming, Written},
};

/// Bytes a client has the body's deadline for.
const PACE: usize = 1024 * 1024;
/// Bytes of a client that are gathered before they are written.
const GATHERED: usize = 128 * 1024;
/// How long a client who is refused may go on talking.
const LINGER: Duration = Duration::from_secs(5);

type Bytes = BoxBody<bytes::Bytes, std::io::Error>;

/// What a client sends. Nothing of it is read yet.
pub(super) struct Upload<M> {
    body: Body,
    announced: Option<u64>,
    /// The client waits to hear that it may begin.
    waits: bool,
    media: PhantomData<M>,
}

impl<M> Upload<M> {
    /// How many bytes will come, if the client said so.
    pub(super) const fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Hands everything over once there is somebody to take it, and says that it was all.
    pub(super) async fn hand_over(
        self,
        sink: impl Future<Output = Result<Incoming, Problem>>,
        settings: &config::Server,
    ) -> Result<Written, Problem> {
        let mut body = BoxBody::from(self.body);
        let sink = match sink.await {
            Ok(sink) => sink,
            Err(problem) if self.waits => return Err(problem),
            Err(problem) => {
                hear_out(body);
                return Err(problem);
            }
        };
        let standing = sink.standing.clone();
        let outcome = tokio::select! {
            outcome = move_all(&mut body, sink, settings.body_timeout) => outcome,
            () = standing.ended() => Err(Problem::unauthenticated()),
        };
        if outcome.is_err() {
            hear_out(body);
        }
        outcome
    }
}

async fn move_all(body: &mut Bytes, mut sink: Incoming, deadline: Duration) -> Result<Written, Problem> {
    let mut gathered = Vec::new();
    let mut all = false;
    while !all {
        all = timeout(deadline, move_some(body, &mut sink, &mut gathered)).await.map_err(|_elapsed| {
            let detail = format!("a MiB of the body did not come within {} s", deadline.as_secs());
            Problem::new(Code::InvalidRequest, detail)
        })??;
    }
    if !gathered.is_empty() {
        sink.write(gathered).await?;
    }
    sink.finish().await
}

/// Moves what has one deadline. Says whether that was all.
async fn move_some(body: &mut Bytes, sink: &mut Incoming, gathered: &mut Vec<u8>) -> Result<bool, Problem> {
    let mut taken = 0;
    while taken < PACE {
        let Some(frame) = body.frame().await else { return Ok(true) };
        let frame = frame.map_err(|fault| Problem::new(Code::InvalidRequest, "the body broke off").because(fault))?;
        let Ok(bytes) = frame.into_data() else { continue };
        taken += bytes.len();
        gathered.extend_from_slice(&bytes);
        if gathered.len() >= GATHERED {
            sink.write(std::mem::take(gathered)).await?;
        }
    }
    Ok(false)
}

/// Takes what still comes and forgets it. Ends with the body, its connection, or its time.
fn hear_out(mut body: Bytes) {
    tokio::spawn(timeout(LINGER, async move { while let Some(Ok(_forgotten)) = body.frame().await {} }));
}

impl<'a, M: Media> ApiExtractor<'a> for Upload<M> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest { description: None, content: M::described(), required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        if let Some(name) = request.content_type().filter(|name| !M::is_called(name)) {
            let name: String = name.chars().take(100).collect();
            let detail = format!("this call takes {}, and the body is called {name}", M::TYPE);
            return Err(Refusal(Problem::new(Code::UnsupportedMediaType, detail)).into());
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let waits = request.headers().contains_key(EXPECT);
        Ok(Self { body: body.take()?, announced, waits, media: PhantomData })
    }
}

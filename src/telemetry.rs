//! Logs, traces, metrics and the audit log.
//!
//! Set up once by the program itself. Logs go to stderr, traces to a collector if one is configured, [`Metrics`] are a value that is handed
//! down. Prompts, answers, keys, headers and file contents are in none of them; that is the duty of whoever writes a line or a span.

pub mod audit;
pub mod labels;
mod lines;
pub mod metrics;
mod traces;

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, Telemetry as Settings};

pub use audit::{Audit, SessionAudit, Trail};
pub use metrics::{Metrics, SkippedLines};
pub use traces::continue_trace;

/// How long the last spans may take to be sent when the server stops.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);
/// What other crates may say unless the filter names them: below `info`, HTTP libraries write headers and bodies, and with them keys.
/// `OpenTelemetry` is silent because a failing collector is told in a line of ours.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,reqwest=info,rustls=info,tonic=info,tower=info,bollard=info,poem=info,\
     opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off,opentelemetry_otlp=off,opentelemetry-http=off";

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log` is no filter.
    #[error("telemetry.log is not a filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The collector can't be reached from here.
    #[error("{0}: must be an http:// address; for TLS, send to a collector beside this server")]
    Endpoint(&'static str),
    /// The sender of traces could not be made.
    #[error("traces can't be sent; check the OTEL_EXPORTER_OTLP variables")]
    Traces(#[source] opentelemetry_otlp::ExporterBuildError),
    /// It was set up before.
    #[error("telemetry is already set up")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Telemetry at work. Has to be shut down for the last spans to be sent.
#[derive(Debug)]
#[must_use = "the last spans are sent by `shutdown`"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs and traces for this process. `env` is the environment: whether and where traces go is said by `OTEL_*` variables.
///
/// # Errors
/// The filter or the sender's settings are wrong, or it was done before.
pub fn init(settings: &Settings, env: &BTreeMap<String, String>) -> Result<Telemetry, TelemetryError> {
    let wanted = traces::wanted(env).map_err(TelemetryError::Endpoint)?;
    let provider = wanted.then(|| traces::provider(env, None)).transpose().map_err(TelemetryError::Traces)?;
    let traced = provider.as_ref().map(traces::layer);
    Registry::default()
        .with(traced)
        .with(logs(settings, std::io::stderr)?)
        .try_init()
        .map_err(TelemetryError::Twice)?;
    Ok(Telemetry { provider })
}

fn logs<S, W>(settings: &Settings, writer: W) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.log)).map_err(TelemetryError::Filter)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match settings.format {
        LogFormat::Json => {
            layer.fmt_fields(JsonFields::new()).event_format(lines::JsonLines).with_filter(filter).boxed()
        }
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
    })
}

impl Telemetry {
    /// Sends the last spans, for at most three seconds. A collector that doesn't answer is not waited for longer.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // The SDK blocks: it must not hold up the workers.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_DEADLINE));
        match tokio::time::timeout(FLUSH_DEADLINE + Duration::from_millis(500), flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(_elapsed) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

#[cfg(test)]
mod tests;

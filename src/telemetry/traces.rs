//! Traces: spans of ours, sent by OTLP (HTTP, protobuf) when a collector is configured, and W3C context from callers.
//!
//! Only spans of this crate at `info` are sent, and never log lines: a line may hold a private cause. Sending is the SDK's own thread with a
//! bounded queue; a collector that is slow or away costs spans, never time. It is told once when it goes and once when it is back.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::HeaderMap;
use opentelemetry::{
    propagation::Extractor,
    trace::{TraceContextExt as _, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// Variables that name a collector. Without them nothing is sent, and no span costs anything.
pub(super) const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// The name in traces unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` gives another.
const SERVICE_NAME: &str = "greenroom";

/// Whether a collector is configured.
///
/// # Errors
/// The name of a variable whose address isn't plain HTTP: the sender has no TLS of its own.
pub(super) fn wanted(env: &BTreeMap<String, String>) -> Result<bool, &'static str> {
    let set = |name: &&str| env.get(*name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let mut named = ENDPOINTS.iter().filter_map(|name| Some((*name, set(name)?))).peekable();
    let wanted = named.peek().is_some();
    match named.find(|(_, address)| !address.starts_with("http://")) {
        Some((name, _)) => Err(name),
        None => Ok(wanted),
    }
}

/// The sender. `endpoint` is for tests; none: the SDK reads `OTEL_*` itself, headers, sampler and batch sizes too.
pub(super) fn provider(
    env: &BTreeMap<String, String>,
    endpoint: Option<&str>,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder().with_http();
    if let Some(endpoint) = endpoint {
        exporter = exporter.with_endpoint(endpoint);
    }
    let watched = Watched { inner: exporter.build()?, failing: AtomicBool::new(false) };
    let mut resource = Resource::builder();
    let named = env.contains_key("OTEL_SERVICE_NAME")
        || env.get("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
    if !named {
        resource = resource.with_service_name(SERVICE_NAME);
    }
    Ok(SdkTracerProvider::builder().with_batch_exporter(watched).with_resource(resource.build()).build())
}

/// The layer that turns our spans into the provider's.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE_NAME))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|metadata| {
            metadata.is_span()
                && *metadata.level() <= tracing::Level::INFO
                && metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
        }))
}

/// Makes `span` a child of the caller's trace, if the request names one (`traceparent`, `tracestate`).
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if !headers.contains_key("traceparent") {
        return;
    }
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    // Fails only without a layer for traces: then there is no trace to continue.
    let _not_traced = span.set_parent(parent);
}

/// The trace this happens in, if there is one.
pub(super) fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let trace = context.span().span_context().trace_id();
    (trace != TraceId::INVALID).then(|| trace.to_string())
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Tells when sending begins to fail and when it works again, instead of once a batch.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        let failed = result.is_err();
        match (self.failing.swap(failed, Ordering::Relaxed), &result) {
            (false, Err(error)) => {
                tracing::warn!(%error, spans, "traces can't be sent; they are dropped until the collector answers");
            }
            (true, Ok(())) => tracing::info!("traces are sent again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

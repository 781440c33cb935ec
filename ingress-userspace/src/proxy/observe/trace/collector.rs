//! Where spans go: a collector that speaks OTLP over gRPC.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use thiserror::Error;

/// Where spans go, and of how many requests.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// URL of the collector, `http` or `https`; its port is 4317 in most places.
    pub endpoint: String,
    /// Share of the traces that begin here to sample, from 0 to 1. Of a trace that began
    /// elsewhere, whoever began it has decided.
    pub sample_ratio: f64,
    /// `service.name` of the spans.
    pub service_name: String,
}

/// Why spans can't go there.
#[derive(Debug, Error)]
#[error("failed to prepare the connection to the trace collector")]
pub struct CollectorError(#[from] ExporterBuildError);

/// Takes spans of all workers. Clones are the same one.
#[derive(Clone)]
pub struct Tracer {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    /// A trace is sampled if its random number is below this.
    threshold: u64,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// Starts to tell a collector, which need not be there yet. Has to be called within a tokio
    /// runtime, which carries the connection.
    ///
    /// Errors when the endpoint is no URL.
    pub fn start(options: &TraceOptions) -> Result<Self, CollectorError> {
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&options.endpoint);
        if options.endpoint.starts_with("https:") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        let mut processor = BatchSpanProcessor::builder(exporter.build()?).build();
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let resource = Resource::builder()
            .with_service_name(options.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", node.trim().to_owned()))
            .build();
        processor.set_resource(&resource);
        Ok(Self {
            processor: Arc::new(processor),
            scope: InstrumentationScope::builder("sluice").build(),
            threshold: threshold(options.sample_ratio),
        })
    }

    /// Sends what is left, for so long at most. Blocks, and needs the runtime to go on meanwhile.
    pub fn stop(&self, timeout: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(timeout) {
            tracing::warn!(%error, "timed out sending the last spans to the trace collector");
        }
    }

    pub(crate) fn scope(&self) -> &InstrumentationScope {
        &self.scope
    }

    /// Whether a trace that begins here is sampled.
    pub(crate) fn samples(&self, random: u64) -> bool {
        random < self.threshold
    }

    /// Takes a span that has ended; never waits.
    pub(crate) fn tell(&self, span: SpanData) {
        self.processor.on_end(span);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of all numbers; casts of floats saturate"
)]
fn threshold(ratio: f64) -> u64 {
    (ratio * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_shares_of_all_numbers() {
        assert_eq!(threshold(0.0), 0);
        assert_eq!(threshold(1.0), u64::MAX);
        assert_eq!(threshold(0.5), 1 << 63);
        assert_eq!(threshold(-1.0), 0);
        assert_eq!(threshold(f64::NAN), 0);
    }
}

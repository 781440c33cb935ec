//! Traces: every request becomes a span of the trace that its client began, or of a new one, and
//! sampled spans are told to a collector.
//!
//! `span` is one request; `collector` takes spans off the request's path, in batches and by a
//! thread of its own, and drops them when it can't keep up. With tracing off none of this runs,
//! and the trace context of a client goes through as it came.
//!
//! Source: W3C Trace Context; OpenTelemetry semantic conventions for HTTP spans.

mod collector;
mod span;

pub use collector::{CollectorError, TraceOptions, Tracer};

pub(crate) use span::{Ending, Span};

//! One request as a span.

use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Tracer;
use crate::proxy::observe::metrics::exemplars::TraceNumber;
use crate::proxy::observe::metrics::labels::Labels;
use crate::proxy::observe::metrics::record::ClientInfo;
use crate::proxy::runtime::transport::{Downstream, Scheme};

/// A request's place in a trace, from its head to its end.
pub(crate) struct Span {
    context: SpanContext,
    parent: SpanId,
    begun: SystemTime,
    /// Kept of what is sampled only.
    asked: Option<Asked>,
}

/// What was asked for.
struct Asked {
    host: String,
    path: String,
    scheme: Scheme,
    downstream: Downstream,
    client: HeaderValue,
}

/// What came of a request.
pub(crate) struct Ending<'a> {
    pub(crate) method: &'a Method,
    pub(crate) labels: &'a Labels,
    pub(crate) status: u16,
    pub(crate) took: Duration,
    /// The endpoint that was asked last.
    pub(crate) endpoint: Option<std::net::SocketAddr>,
}

impl Span {
    /// Continues the trace that the head of a request names, or begins one. `random` gives
    /// numbers that differ from each other's.
    pub(crate) fn begin<B>(
        tracer: &Tracer,
        request: &Request<B>,
        client: &ClientInfo<'_>,
        random: impl Fn() -> u64,
    ) -> Box<Self> {
        let fields = Fields(request.headers());
        let remote = TraceContextPropagator::new().extract_with_context(&Context::new(), &fields);
        let remote = remote.span().span_context().clone();
        // Zero is no id (W3C Trace Context §3.2.2).
        let id = SpanId::from_bytes(random().max(1).to_be_bytes());
        let context = if remote.is_valid() {
            let state = remote.trace_state().clone();
            SpanContext::new(remote.trace_id(), id, remote.trace_flags(), false, state)
        } else {
            let number = u128::from(random()) << 64 | u128::from(random().max(1));
            let flags = TraceFlags::default().with_sampled(tracer.samples(random()));
            let trace = TraceId::from_bytes(number.to_be_bytes());
            SpanContext::new(trace, id, flags, false, TraceState::NONE)
        };
        let asked = context.is_sampled().then(|| Asked {
            host: host_of(request),
            path: request.uri().path().to_owned(),
            scheme: client.scheme,
            downstream: client.downstream,
            client: client.address.clone(),
        });
        Box::new(Self {
            parent: remote.span_id(),
            context,
            begun: SystemTime::now(),
            asked,
        })
    }

    /// The trace, if it is sampled.
    pub(crate) fn sampled_trace(&self) -> Option<TraceNumber> {
        let is_sampled = self.asked.is_some();
        is_sampled.then(|| TraceNumber(self.context.trace_id().to_bytes()))
    }

    /// Makes the endpoint's part of the trace a child of this span.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        let context = Context::new().with_remote_span_context(self.context.clone());
        TraceContextPropagator::new().inject_context(&context, &mut FieldsMut(headers));
    }

    /// Tells of the request, if it is sampled.
    pub(crate) fn end(&self, tracer: &Tracer, ending: &Ending<'_>) {
        let Some(asked) = &self.asked else {
            return;
        };
        let route = &ending.labels.key.path;
        tracer.tell(SpanData {
            span_context: self.context.clone(),
            parent_span_id: self.parent,
            parent_span_is_remote: self.parent != SpanId::INVALID,
            span_kind: SpanKind::Server,
            name: format!("{} {route}", ending.method)
                .trim_end()
                .to_owned()
                .into(),
            start_time: self.begun,
            end_time: self.begun + ending.took,
            attributes: asked.attributes(ending),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            // Of a server, only its own failures are errors.
            status: if ending.status >= 500 {
                Status::error("")
            } else {
                Status::Unset
            },
            instrumentation_scope: tracer.scope().clone(),
        });
    }
}

impl Asked {
    /// Under the names of the semantic conventions, and ours where these have none.
    fn attributes(&self, ending: &Ending<'_>) -> Vec<KeyValue> {
        let key = &ending.labels.key;
        let client = String::from_utf8_lossy(self.client.as_bytes()).into_owned();
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let version = match self.downstream {
            Downstream::Http10 => "1.0",
            Downstream::Http11 => "1.1",
            Downstream::Http2 => "2",
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", ending.method.as_str().to_owned()),
            KeyValue::new("http.response.status_code", i64::from(ending.status)),
            KeyValue::new("url.scheme", scheme),
            KeyValue::new("url.path", self.path.clone()),
            KeyValue::new("server.address", self.host.clone()),
            KeyValue::new("client.address", client),
            KeyValue::new("network.protocol.version", version),
        ];
        let named = [
            ("http.route", &key.path),
            ("k8s.namespace.name", &key.namespace),
            ("k8s.ingress.name", &key.ingress),
            ("k8s.service.name", &key.service),
        ];
        let named = named.into_iter().filter(|(_, text)| !text.is_empty());
        attributes
            .extend(named.map(|(key, text)| KeyValue::new(key, Value::from(text.to_string()))));
        if let Some(endpoint) = ending.endpoint {
            attributes.push(KeyValue::new("sluice.endpoint", endpoint.to_string()));
        }
        attributes
    }
}

fn host_of<B>(request: &Request<B>) -> String {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let field = || request.headers().get(HOST)?.to_str().ok();
    authority.or_else(field).unwrap_or_default().to_owned()
}

/// The fields of a request, to be read.
struct Fields<'a>(&'a HeaderMap);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// The fields of a request, to be written.
struct FieldsMut<'a>(&'a mut HeaderMap);

impl Injector for FieldsMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

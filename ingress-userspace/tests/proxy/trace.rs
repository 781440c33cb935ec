//! Traces: what an endpoint learns of them, and what a collector is told by OTLP over gRPC.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingress_userspace::proxy::{TraceOptions, Tracer, WorkerOptions};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::rig::{Options, Origin, Proxy, Reply, config};

/// What the collector was told, in the order of arrival.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector, and a proxy that tells it.
struct Traced {
    runtime: Runtime,
    tracer: Tracer,
    collected: Collected,
    proxy: Proxy,
    _origin: Origin,
}

impl Traced {
    fn start(sample_ratio: f64) -> Self {
        let runtime = Runtime::new().unwrap();
        let collected = Collected::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let tracer = runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let service = TraceServiceServer::new(collected.clone());
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            Tracer::start(&TraceOptions {
                endpoint: format!("http://{address}"),
                sample_ratio,
                service_name: "edge".to_owned(),
            })
            .unwrap()
        });
        let origin = Origin::echo("origin");
        let options = WorkerOptions {
            tracer: Some(tracer.clone()),
            ..WorkerOptions::default()
        };
        let config = config(&[("one.test", "/shop", &[origin.address])]);
        Self {
            proxy: Proxy::start_with(config, Options::worker(options)),
            runtime,
            tracer,
            collected,
            _origin: origin,
        }
    }

    /// The spans that were told when all is over.
    fn end(self) -> Vec<Span> {
        drop(self.proxy);
        self.tracer.stop(Duration::from_secs(20));
        let spans = self.collected.0.lock().unwrap().clone();
        drop(self.runtime);
        spans
    }
}

fn ask(proxy: &Proxy, path: &str, fields: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!(
        "GET {path} HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n"
    ));
    client.read_reply()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| {
        if let Value::StringValue(text) = value {
            return text.clone();
        }
        if let Value::IntValue(number) = value {
            return number.to_string();
        }
        panic!("{value:?}")
    };
    let known = span.attributes.iter().filter_map(|attribute| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        Some((attribute.key.as_str(), text(value)))
    });
    known.collect()
}

fn hex(bytes: &[u8]) -> String {
    let text = bytes.iter();
    text.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn a_sampled_trace_goes_on_and_its_span_is_told() {
    let traced = Traced::start(0.0);
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\n");
    let reply = ask(&traced.proxy, "/shop/cart?id=7", &fields);
    let seen = reply.seen("traceparent").unwrap().to_owned();
    assert_eq!(reply.seen("tracestate"), Some("vendor=1"));
    let [version, trace, parent, flags] = seen.split('-').collect::<Vec<_>>()[..] else {
        panic!("{seen}")
    };
    assert_eq!((version, trace, flags), ("00", TRACE, "01"));
    assert_ne!(parent, PARENT);

    let spans = traced.end();
    let [span] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), PARENT);
    assert_eq!(hex(&span.span_id), parent);
    assert_eq!(span.name, "GET /shop");
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let attributes = attributes(span);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/shop"),
        ("url.path", "/shop/cart"),
        ("url.scheme", "http"),
        ("server.address", "one.test"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(
            attributes.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
}

#[test]
fn a_trace_that_is_not_sampled_goes_on_and_is_not_told() {
    let traced = Traced::start(1.0);
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let reply = ask(&traced.proxy, "/shop", &fields);
    let seen = reply.seen("traceparent").unwrap();
    assert!(
        seen.starts_with(&format!("00-{TRACE}-")) && seen.ends_with("-00"),
        "{seen}"
    );
    assert_eq!(traced.end().len(), 0);
}

#[test]
fn traces_begin_here_where_nobody_began_one() {
    let traced = Traced::start(1.0);
    let mut seen = Vec::new();
    let broken = format!("traceparent: 00-{TRACE}-{PARENT}\r\ntracestate: vendor=1\r\n");
    for fields in ["", &broken] {
        let reply = ask(&traced.proxy, "/shop", fields);
        assert_eq!(reply.seen("tracestate"), None);
        seen.push(reply.seen("traceparent").unwrap().to_owned());
    }
    let missing = ask(&traced.proxy, "/nowhere", "");
    assert_eq!(missing.status, 404);
    let spans = traced.end();
    assert_eq!(spans.len(), 3);
    for (seen, span) in seen.iter().zip(&spans) {
        assert!(!seen.contains(TRACE) && seen.ends_with("-01"), "{seen}");
        assert_eq!(
            *seen,
            format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
        );
        assert!(span.parent_span_id.is_empty());
    }
    assert_eq!(attributes(&spans[2])["http.response.status_code"], "404");
}

#[test]
fn without_a_collector_the_context_goes_through() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let fields = format!("traceparent: {parent}\r\ntracestate: vendor=1\r\n");
    let reply = ask(&proxy, "/", &fields);
    assert_eq!(reply.seen("traceparent"), Some(&*parent));
    assert_eq!(reply.seen("tracestate"), Some("vendor=1"));
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

//! Flags of what can be seen of a running daemon.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::proxy::{Escape, RequestMetrics, Target, Template, TemplateError, TraceOptions};

/// Flags of what can be seen.
#[derive(Debug, Args)]
pub struct Observe {
    /// Address for /metrics, /healthz and /readyz; the port is 10254 unless it is given. Clients
    /// that reach it read the names of all hosts, namespaces and Services: bind it to loopback or
    /// to an address of the cluster's own network [default: 127.0.0.1:10254].
    #[arg(long, env = "SLUICE_METRICS_ADDRESS", value_name = "IP[:PORT]",
          value_parser = metrics_address)]
    pub metrics_address: Option<SocketAddr>,

    /// Whether requests are counted by route, status and method, in the counter and the histograms
    /// of ingress-nginx; everything else in /metrics is there anyway.
    #[arg(long, env = "SLUICE_ENABLE_METRICS", value_name = "BOOL",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub enable_metrics: bool,

    /// Whether and how requests are logged, one line each.
    #[arg(long, env = "SLUICE_ACCESS_LOG", value_enum, default_value = "nginx")]
    pub access_log: AccessLogFormat,

    /// Format of the access log in place of the default, with nginx's variables such as $status;
    /// values are escaped for JSON with --access-log json.
    #[arg(long, env = "SLUICE_ACCESS_LOG_FORMAT", value_name = "FORMAT")]
    pub access_log_format: Option<String>,

    /// File for the access log [default: standard output].
    #[arg(long, env = "SLUICE_ACCESS_LOG_PATH", value_name = "FILE")]
    pub access_log_path: Option<PathBuf>,

    /// Collector that requests are told to as spans, by OTLP over gRPC; its usual port is 4317
    /// [default: none].
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = collector)]
    pub otlp_endpoint: Option<String>,

    /// Share of the traces that begin here to sample, from 0 to 1; of others their beginner has
    /// decided.
    #[arg(
        long,
        env = "SLUICE_OTLP_SAMPLE_RATIO",
        value_name = "SHARE",
        default_value = "0.01",
        value_parser = share
    )]
    pub otlp_sample_ratio: f64,

    /// Name of the service in spans.
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub otlp_service_name: String,
}

/// An address with or without a port; an empty text, as of an unset field of a pod, is refused.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let ip = text.trim_start_matches('[').trim_end_matches(']');
    match ip.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, METRICS_ADDRESS.port())),
        Err(_) => Err("expected an IP address, with or without a port".to_owned()),
    }
}

fn collector(text: &str) -> Result<String, String> {
    let url: http::Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(text.to_owned()),
        _ => Err("a URL such as http://otel-collector:4317 is expected".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1 is expected".to_owned())
}

/// Where metrics are served unless something else is asked for: the port of ingress-nginx.
pub const METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10254);

/// Format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// There is none.
    Off,
    /// ingress-nginx's default format.
    Nginx,
    /// One JSON object a line.
    Json,
}

impl Observe {
    /// Whether requests are counted by route.
    pub fn request_metrics(&self) -> RequestMetrics {
        if self.enable_metrics {
            RequestMetrics::On
        } else {
            RequestMetrics::Off
        }
    }

    /// Where spans go, if they go anywhere.
    pub fn traces(&self) -> Option<TraceOptions> {
        Some(TraceOptions {
            endpoint: self.otlp_endpoint.clone()?,
            sample_ratio: self.otlp_sample_ratio,
            service_name: self.otlp_service_name.clone(),
        })
    }

    /// What a line of the access log looks like and where it goes, if there is one.
    pub fn access_log(&self) -> Result<Option<(Template, Target)>, TemplateError> {
        let (escape, usual) = match self.access_log {
            AccessLogFormat::Off => return Ok(None),
            AccessLogFormat::Nginx => (Escape::Text, Template::nginx()),
            AccessLogFormat::Json => (Escape::Json, Template::json()),
        };
        let template = match &self.access_log_format {
            Some(format) => Template::parse(format, escape)?,
            None => usual,
        };
        let path = self.access_log_path.clone();
        Ok(Some((template, path.map_or(Target::Stdout, Target::File))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_address_takes_an_address_of_either_family_with_or_without_a_port() {
        let read = |text: &str| metrics_address(text).map(|address| address.to_string());
        assert_eq!(read("10.0.0.7"), Ok("10.0.0.7:10254".to_owned()));
        assert_eq!(read("10.0.0.7:9"), Ok("10.0.0.7:9".to_owned()));
        assert_eq!(read("fd00::7"), Ok("[fd00::7]:10254".to_owned()));
        assert_eq!(read("[fd00::7]:9"), Ok("[fd00::7]:9".to_owned()));
        for text in ["", ":9", "localhost", "10.0.0.7:port"] {
            read(text).unwrap_err();
        }
    }
}

//! Flags of how endpoints share requests.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ingress_core::ir::Balance;

use crate::proxy::{Balancing, Timeouts};

/// Flags of how endpoints share requests.
#[derive(Debug, Args)]
pub struct Upstream {
    /// Which endpoint a request goes to, where its Ingress does not say.
    #[arg(
        long,
        env = "SLUICE_LOAD_BALANCE",
        value_enum,
        default_value = "least_request"
    )]
    pub load_balance: LoadBalance,

    /// Seconds for a connection to an endpoint, where no Ingress says otherwise. A request that may
    /// go to another endpoint does so after half a second.
    #[arg(long, env = "SLUICE_PROXY_CONNECT_TIMEOUT", value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_connect_timeout: u32,

    /// Seconds between two reads of a request body before an endpoint is chosen, where no class says
    /// otherwise.
    #[arg(long, env = "SLUICE_CLIENT_BODY_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub client_body_timeout: u32,

    /// Seconds without a byte from or to an endpoint while a client sends a body.
    #[arg(long, env = "SLUICE_PROXY_SEND_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_send_timeout: u32,

    /// Seconds without a byte from or to an endpoint that has the request, or in a tunnel such as a
    /// WebSocket.
    #[arg(long, env = "SLUICE_PROXY_READ_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_read_timeout: u32,

    /// Seconds from a request's head to the end of its response, whatever moves; the annotation
    /// request-timeout counts before it [default: unlimited].
    #[arg(long, env = "SLUICE_REQUEST_TIMEOUT", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub request_timeout: Option<u32>,

    /// Seconds that an idle connection to an endpoint is kept.
    #[arg(long, env = "SLUICE_UPSTREAM_KEEPALIVE_TIMEOUT", value_name = "SECONDS",
          default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub upstream_keepalive_timeout: u32,

    /// Seconds in which an endpoint that has come gets more and more of its share.
    #[arg(
        long,
        env = "SLUICE_SLOW_START",
        value_name = "SECONDS",
        default_value_t = 0
    )]
    pub slow_start: u64,

    /// Requests that one worker has at one endpoint at a time; further ones wait [default: any
    /// number].
    #[arg(long, env = "SLUICE_UPSTREAM_MAX_REQUESTS", value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub upstream_max_requests: Option<u32>,

    /// Requests of one worker that wait for one backend; further ones are answered with 503.
    #[arg(
        long,
        env = "SLUICE_UPSTREAM_MAX_PENDING",
        value_name = "NUMBER",
        default_value_t = 1024
    )]
    pub upstream_max_pending: usize,

    /// Seconds that one waits before it is answered with 503.
    #[arg(
        long,
        env = "SLUICE_UPSTREAM_PENDING_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub upstream_pending_timeout: u64,
}

/// Which endpoint a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum LoadBalance {
    /// The one with fewer requests of two drawn at random.
    LeastRequest,
    /// One after another.
    RoundRobin,
    /// The one that is expected to answer sooner of two drawn at random.
    Ewma,
}

impl Upstream {
    /// How long endpoints are waited for.
    pub fn timeouts(&self) -> Timeouts {
        let seconds = |number: u32| Duration::from_secs(number.into());
        let read = seconds(self.proxy_read_timeout);
        Timeouts {
            client_body: seconds(self.client_body_timeout),
            upstream_connect: seconds(self.proxy_connect_timeout),
            upstream_send: seconds(self.proxy_send_timeout),
            response_head: read,
            body_idle: read,
            tunnel_idle: read,
            request: self.request_timeout.map(seconds),
            upstream_idle: seconds(self.upstream_keepalive_timeout),
            ..Timeouts::default()
        }
    }

    /// What the proxy has to know.
    pub fn balancing(&self) -> Balancing {
        Balancing {
            balance: match self.load_balance {
                LoadBalance::LeastRequest => Balance::LeastRequest,
                LoadBalance::RoundRobin => Balance::RoundRobin,
                LoadBalance::Ewma => Balance::PeakEwma,
            },
            slow_start: Duration::from_secs(self.slow_start),
            requests_max: self.upstream_max_requests,
            pending_max: self.upstream_max_pending,
            pending_time: Duration::from_secs(self.upstream_pending_timeout),
        }
    }
}

//! The proxy on real sockets: workers in this process, origins and clients around them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access_log;
mod asleep;
mod balancing;
mod bodies;
mod body_size;
mod challenges;
mod client;
mod client_auth;
mod client_auth_version1;
mod client_limit;
mod client_names;
mod compression;
mod connect;
mod datagram;
mod failures;
mod filters;
mod gone;
mod grpc;
mod h2spec;
mod headers;
mod health_checks;
mod http1;
mod http2;
mod http2_bounds;
mod http2_resets;
mod https;
mod jwt;
mod lending;
mod linger;
mod literal_heads;
mod metrics;
mod mirror;
mod next_upstream;
mod overtaking;
mod ports;
mod queue;
mod relay;
mod reload;
mod removal;
mod retries;
mod reuse;
mod shutdown;
mod slow_uploads;
mod smuggling;
mod specs;
mod splice;
mod substitution;
mod tls;
mod trace;
mod tunnels;
mod upgrade;
mod upstream_resets;
mod waits;

use proxy_rig::{frames, h2rig, rig};

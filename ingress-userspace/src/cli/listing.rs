//! `sluice routes`, `endpoints`, `certificates` and `datapath`: lists of a running daemon.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use http::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{socket, table};
use crate::admin::{CERTIFICATES, ENDPOINTS, ROUTES};
use crate::api::{
    Certificate, CertificateOrder, Endpoint, EndpointPath, EndpointState, PathType, Route,
    RouteTarget,
};
use crate::settings::{ListFormat, Listing};

/// A list as text, and the exit status: 1 if something in it needs attention.
pub type Listed = (String, ExitCode);

/// Lists the routes; a route that nobody serves needs attention.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub async fn routes(flags: &Listing) -> Result<Listed> {
    let routes: Vec<Route> = fetch(flags, ROUTES).await?;
    let columns = ["HOST", "PATH", "TYPE", "TLS", "TO", "READY", "OBJECT"];
    list(flags, routes, &columns, |route| {
        let (target, ready, is_well) = match &route.target {
            RouteTarget::Backends { backends } => {
                let names: Vec<_> = backends.iter().map(|share| &*share.backend).collect();
                let ready: usize = backends.iter().map(|share| share.endpoints).sum();
                (names.join(", "), ready.to_string(), ready > 0)
            }
            RouteTarget::Redirect { location, status } => {
                (format!("{status} {location}"), "-".to_owned(), true)
            }
            RouteTarget::Respond { status } => (status.to_string(), "-".to_owned(), true),
            RouteTarget::Unavailable => {
                ("503, see `sluice status`".to_owned(), "-".to_owned(), false)
            }
        };
        let path_type = match route.path_type {
            PathType::Exact => "exact",
            PathType::Prefix => "prefix",
            PathType::Regex => "regex",
            PathType::Default => "default",
        };
        let path = if route.path.is_empty() {
            "-"
        } else {
            &route.path
        };
        let tls = if route.tls { "yes" } else { "no" };
        let cells = [
            route.host.clone(),
            path.to_owned(),
            path_type.to_owned(),
            tls.to_owned(),
            target,
            ready,
            route.object.to_string(),
        ];
        (cells.to_vec(), is_well)
    })
}

/// Lists the endpoints.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub async fn endpoints(flags: &Listing) -> Result<Listed> {
    let endpoints: Vec<Endpoint> = fetch(flags, ENDPOINTS).await?;
    let columns = ["BACKEND", "ADDRESS", "PROTOCOL", "STATE", "PATH"];
    list(flags, endpoints, &columns, |endpoint| {
        let state = match endpoint.state {
            EndpointState::Ready => "ready",
            EndpointState::Draining => "draining",
        };
        let path = match endpoint.path {
            EndpointPath::Direct => "direct",
            EndpointPath::Host => "host",
        };
        let cells = [
            endpoint.backend.clone(),
            endpoint.address.to_string(),
            endpoint.protocol.clone(),
            state.to_owned(),
            path.to_owned(),
        ];
        (cells.to_vec(), true)
    })
}

/// Lists the certificates, those that end first at the top; one that ends within two weeks or cannot be
/// read needs attention, and one that an ACME issuer refused to issue. One that is renewed by itself may
/// end earlier.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub async fn certificates(flags: &Listing) -> Result<Listed> {
    let mut certificates: Vec<Certificate> = fetch(flags, CERTIFICATES).await?;
    certificates.sort_by_key(|certificate| certificate.days_left);
    let columns = ["HOST", "DAYS LEFT", "ENDS", "SECRET", "ISSUER", "ACME"];
    list(flags, certificates, &columns, |certificate| {
        let days = certificate.days_left;
        let cells = [
            certificate.host.clone(),
            days.map_or_else(|| "-".to_owned(), |days| days.to_string()),
            certificate
                .not_after
                .clone()
                .unwrap_or_else(|| "cannot be read".to_owned()),
            certificate.secret.to_string(),
            certificate.issuer.clone(),
            order_text(certificate.order.as_ref()),
        ];
        (
            cells.to_vec(),
            match &certificate.order {
                Some(order) => order.error.is_none() && days.is_some_and(|days| days >= 0),
                None => days.is_some_and(|days| days >= RENEWAL_DAYS),
            },
        )
    })
}

fn order_text(order: Option<&CertificateOrder>) -> String {
    let Some(order) = order else {
        return "-".to_owned();
    };
    let issuer = &order.issuer;
    match (&order.error, &order.retry_at, &order.renews_at) {
        (Some(error), Some(retry_at), _) => {
            let attempts = order.failed_attempts;
            format!("{issuer}: failed {attempts} times, next at {retry_at}: {error}")
        }
        (_, _, Some(renews_at)) => format!("{issuer}: renews at {renews_at}"),
        _ => format!("{issuer}: ordered"),
    }
}

/// Lists what the kernel's programs did with packets.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub async fn datapath(flags: &Listing) -> Result<Listed> {
    let status: Value = fetch_one(flags, "/status").await?;
    let datapath = &status["datapath"];
    if flags.output != ListFormat::Table && flags.output != ListFormat::Wide {
        return Ok((written(flags.output, datapath)?, ExitCode::SUCCESS));
    }
    let counters = datapath["counters"].as_array();
    let counters = counters.map_or(&[][..], Vec::as_slice);
    let cell = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let rows = counters.iter().map(|counter| {
        ["program", "reason", "packets"]
            .map(|key| cell(&counter[key]))
            .to_vec()
    });
    let rows: Vec<_> = rows.filter(|row| is_wanted(flags, row)).collect();
    let mode = format!("datapath {}\n", cell(&datapath["mode"]));
    let reason = datapath["reason"]
        .as_str()
        .map(|reason| format!("{reason}\n"));
    let head = mode + &reason.unwrap_or_default();
    let text = table::render(&["PROGRAM", "REASON", "PACKETS"], &rows, width(flags));
    Ok((head + &text, ExitCode::SUCCESS))
}

fn list<T: Serialize>(
    flags: &Listing,
    items: Vec<T>,
    columns: &[&str],
    row: impl Fn(&T) -> (Vec<String>, bool),
) -> Result<Listed> {
    let with_rows = items.into_iter().map(|item| {
        let row = row(&item);
        (item, row)
    });
    let wanted: Vec<_> = with_rows
        .filter(|(_, (row, _))| is_wanted(flags, row))
        .collect();
    let is_well = wanted.iter().all(|(_, (_, is_well))| *is_well);
    let text = match flags.output {
        ListFormat::Table | ListFormat::Wide => {
            let rows: Vec<_> = wanted.into_iter().map(|(_, (row, _))| row).collect();
            table::render(columns, &rows, width(flags))
        }
        format @ (ListFormat::Json | ListFormat::Yaml) => {
            let items: Vec<_> = wanted.iter().map(|(item, _)| item).collect();
            written(format, &items)?
        }
    };
    Ok((
        text,
        if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    ))
}

fn is_wanted(flags: &Listing, row: &[String]) -> bool {
    let text = flags.text.as_deref().unwrap_or_default();
    row.iter().any(|cell| cell.contains(text))
}

fn width(flags: &Listing) -> Option<usize> {
    (flags.output == ListFormat::Table).then_some(table::COLUMNS)
}

fn written(format: ListFormat, value: &impl Serialize) -> Result<String> {
    match format {
        ListFormat::Yaml => serde_saphyr::to_string(value).context("failed to write YAML"),
        ListFormat::Table | ListFormat::Wide | ListFormat::Json => {
            Ok(serde_json::to_string_pretty(value)? + "\n")
        }
    }
}

async fn fetch<T: DeserializeOwned>(flags: &Listing, path: &str) -> Result<Vec<T>> {
    fetch_one(flags, path).await
}

async fn fetch_one<T: DeserializeOwned>(flags: &Listing, path: &str) -> Result<T> {
    let json = socket::fetch(&flags.run_dir.path(), Request::get(path)).await?;
    serde_json::from_slice(&json).context("the daemon returned JSON of another version")
}

/// cert-manager renews a certificate of 90 days when 30 are left.
const RENEWAL_DAYS: i64 = 14;

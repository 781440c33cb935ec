//! `sluice explain`: who serves a request, and why nobody else does.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use http::Request;
use ingress_core::explain::{Explanation, Loser, Server, explain};

use super::{objects, socket};
use crate::admin::{EXPLAIN_HOST, EXPLAIN_PATH};
use crate::settings::{self, Output};

/// Gives the explanation in the form that was asked for, and whether the request is served.
pub async fn run(flags: &settings::Explain) -> Result<(String, bool)> {
    let flags = &with_url_split(flags);
    let explanation = if flags.manifests.is_some() || flags.cluster {
        of_objects(flags).await?
    } else {
        of_daemon(flags).await?
    };
    let text = match flags.output {
        Output::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Output::Text => render(&explanation),
    };
    Ok((text, explanation.served_by.is_some()))
}

/// A URL in place of the host stands for its host and path.
fn with_url_split(flags: &settings::Explain) -> settings::Explain {
    let mut flags = flags.clone();
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| flags.host.strip_prefix(scheme));
    if let Some(rest) = rest {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, path) = (host.to_owned(), path.to_owned());
        flags.host = host;
        if !path.is_empty() {
            flags.path = path;
        }
    }
    flags
}

async fn of_objects(flags: &settings::Explain) -> Result<Explanation> {
    let is_unclassed_ours = flags.meaning.watch_ingress_without_class;
    let is_unclassed_ours = is_unclassed_ours.unwrap_or(!flags.cluster);
    let options = flags.meaning.options(is_unclassed_ours, None);
    let mut observation = match &flags.manifests {
        Some(path) => objects::of_manifests(std::slice::from_ref(path))?,
        None => objects::of_cluster(&flags.api_server, &options).await?,
    };
    objects::look_up_names(&mut observation, &options).await;
    let snapshot = &observation.snapshot;
    Ok(explain(snapshot, &options, &flags.host, &flags.path))
}

async fn of_daemon(flags: &settings::Explain) -> Result<Explanation> {
    let question = Request::get("/explain")
        .header(EXPLAIN_HOST, &flags.host)
        .header(EXPLAIN_PATH, &flags.path);
    let json = socket::fetch(&flags.run_dir.path(), question).await?;
    let explanation: Option<Explanation> =
        serde_json::from_slice(&json).context("daemon returned an unexpected answer")?;
    explanation.context("the daemon serves nothing yet: it has not read all objects")
}

fn render(explanation: &Explanation) -> String {
    let Explanation {
        host,
        path,
        served_by,
        lost,
        problems,
    } = explanation;
    let mut out = String::new();
    let _ = writeln!(out, "{host}{path}");
    match served_by {
        None => out.push_str("  not served: 404\n"),
        Some(server) => render_server(&mut out, server),
    }
    if !lost.is_empty() {
        out.push_str("\nshadowed rules\n");
    }
    for loser in lost {
        let Loser {
            object,
            field,
            reason,
            ..
        } = loser;
        let _ = writeln!(out, "  {object} {field}: {reason}");
    }
    if !problems.is_empty() {
        out.push_str("\nproblems\n");
    }
    for problem in problems {
        let _ = writeln!(out, "  {problem}");
    }
    out
}

fn render_server(out: &mut String, server: &Server) {
    let Server {
        object,
        host,
        path,
        answer,
        backend,
        protocol,
        endpoints,
        draining,
    } = server;
    let path = if path.is_empty() {
        "default backend"
    } else {
        path
    };
    let _ = writeln!(out, "  ingress    {object}\n  rule       {host} {path}");
    let Some(backend) = backend else {
        let answer = answer.as_deref().unwrap_or("503");
        let _ = writeln!(out, "  answer     {answer}");
        return;
    };
    let protocol = protocol.as_deref().unwrap_or_default();
    let _ = writeln!(out, "  service    {backend} ({protocol})");
    let listed = match &endpoints[..] {
        [] => "none: 503".to_owned(),
        endpoints => endpoints.join(" "),
    };
    let _ = writeln!(out, "  endpoints  {listed}");
    if !draining.is_empty() {
        let _ = writeln!(out, "  draining   {}", draining.join(" "));
    }
}

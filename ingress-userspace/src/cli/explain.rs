//! `sluice explain`: who serves a request, and why nobody else does.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use http::Request;
use ingress_core::explain::{Explanation, Loser, Passage, Question, Server, explain};

use super::{objects, socket};
use crate::admin::{
    EXPLAIN_FIELD, EXPLAIN_FROM, EXPLAIN_HOST, EXPLAIN_METHOD, EXPLAIN_PATH, EXPLAIN_SCHEME,
    EXPLAIN_SNI,
};
use crate::settings::{self, Output};

/// Gives the explanation in the form that was asked for, and whether the request is served.
pub async fn run(flags: &settings::Explain) -> Result<(String, bool)> {
    let question = question(flags);
    let explanation = if flags.manifests.is_some() || flags.cluster {
        of_objects(flags, &question).await?
    } else {
        of_daemon(&flags.run_dir.path(), &question).await?
    };
    let text = match flags.output {
        Output::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Output::Text => render(&explanation),
    };
    Ok((text, explanation.served_by.is_some()))
}

/// The request of the flags; a URL in place of the host stands for its scheme, host and path.
fn question(flags: &settings::Explain) -> Question {
    let mut question = Question::new(&flags.host, &flags.path);
    for (scheme, is_https) in [("http://", false), ("https://", true)] {
        let Some(rest) = flags.host.strip_prefix(scheme) else {
            continue;
        };
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        host.clone_into(&mut question.authority);
        if !target.is_empty() {
            target.clone_into(&mut question.target);
        }
        question.is_https = Some(is_https);
    }
    if flags.sni.is_some() {
        question.is_https = Some(true);
    }
    question.method.clone_from(&flags.method);
    question.headers.extend(flags.headers.iter().cloned());
    question.sni.clone_from(&flags.sni);
    question.client = flags.from;
    question
}

async fn of_objects(flags: &settings::Explain, question: &Question) -> Result<Explanation> {
    let is_unclassed_ours = flags.meaning.watch_ingress_without_class;
    let is_unclassed_ours = is_unclassed_ours.unwrap_or(!flags.cluster);
    let options = flags.meaning.options(is_unclassed_ours, None);
    let mut observation = match &flags.manifests {
        Some(path) => objects::of_manifests(std::slice::from_ref(path))?,
        None => objects::of_cluster(&flags.api_server, &options).await?,
    };
    objects::look_up_names(&mut observation, &options).await;
    let snapshot = &observation.snapshot;
    Ok(explain(snapshot, &options, question))
}

/// The explanation of the daemon at an admin socket.
pub(super) async fn of_daemon(run_dir: &Path, asked: &Question) -> Result<Explanation> {
    let mut question = Request::get("/explain")
        .header(EXPLAIN_HOST, &asked.authority)
        .header(EXPLAIN_PATH, &asked.target)
        .header(EXPLAIN_METHOD, &asked.method);
    for (name, value) in &asked.headers {
        let field = [name.as_str().as_bytes(), b":", value.as_bytes()].concat();
        question = question.header(EXPLAIN_FIELD, field);
    }
    if let Some(is_https) = asked.is_https {
        question = question.header(EXPLAIN_SCHEME, if is_https { "https" } else { "http" });
    }
    if let Some(sni) = &asked.sni {
        question = question.header(EXPLAIN_SNI, sni);
    }
    if let Some(client) = asked.client {
        question = question.header(EXPLAIN_FROM, client.to_string());
    }
    let json = socket::fetch(run_dir, question).await?;
    let explanation: Option<Explanation> =
        serde_json::from_slice(&json).context("daemon returned an unexpected answer")?;
    explanation.context("the daemon serves nothing yet: it has not read all objects")
}

fn render(explanation: &Explanation) -> String {
    let Explanation {
        host,
        path,
        served_by,
        passage,
        lost,
        problems,
    } = explanation;
    let mut out = String::new();
    let _ = writeln!(out, "{host}{path}");
    match served_by {
        None => out.push_str("  not served: 404\n"),
        Some(server) => render_server(&mut out, server),
    }
    render_passage(&mut out, passage);
    if !lost.is_empty() {
        out.push_str("\nother rules\n");
    }
    for loser in lost.iter().take(LOSERS_MAX) {
        let Loser {
            object,
            field,
            reason,
            ..
        } = loser;
        let _ = writeln!(out, "  {object} {field}: {reason}");
    }
    if lost.len() > LOSERS_MAX {
        let _ = writeln!(out, "  and {} more: -o json", lost.len() - LOSERS_MAX);
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

fn render_passage(out: &mut String, passage: &Passage) {
    let Passage {
        is_https,
        certificate,
        passed_through_to,
        answer,
        answered_by,
        checks,
        sent_path,
        sent_host,
        canaries,
    } = passage;
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<10} {text}");
    };
    if *is_https {
        line(
            "tls",
            certificate.as_deref().unwrap_or("default certificate"),
        );
    }
    if let Some(backend) = passed_through_to {
        line(
            "passed",
            &format!("unread to {backend}, by the server name"),
        );
    }
    for text in canaries {
        line("canary", text);
    }
    for text in checks {
        line("check", text);
    }
    if let Some(answer) = answer {
        let by = answered_by.as_deref().unwrap_or_default();
        line(
            "answer",
            &format!("{answer}, by {by}; no endpoint is asked"),
        );
    }
    if let Some(path) = sent_path {
        line("sent path", path);
    }
    if let Some(host) = sent_host {
        line("sent host", host);
    }
}

/// Rules that are shown as text.
const LOSERS_MAX: usize = 20;

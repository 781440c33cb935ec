//! One scenario: a request, and every assertion on what comes of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::feature::Feature;
use super::suite::{Echo, Request};
use crate::curl;

/// Sends the request of a scenario and checks what the suite asserts.
pub fn check(feature: &Feature, request: &Request) -> Result<()> {
    let expect = &request.expect;
    let response = send(feature, request)?;
    let (head, body) = response.split_head()?;
    ensure!(
        response.status == expect.status,
        "the status is {}",
        response.status
    );
    if let Some(proto) = &expect.response_proto {
        let answered = format!("HTTP/{}", response.version);
        ensure!(answered == *proto, "the response is {answered}");
    }
    for field in &expect.response_headers_present {
        let start = format!("{}:", field.to_ascii_lowercase());
        let mut fields = head.lines().map(str::to_ascii_lowercase);
        ensure!(
            fields.any(|line| line.starts_with(&start)),
            "no field `{field}` in:\n{head}"
        );
    }
    let Some(service) = &expect.service else {
        return Ok(());
    };
    let report: Value = serde_json::from_slice(body).context("the body is no report")?;
    ensure!(
        report["service"] == **service,
        "`{}` answered",
        report["service"]
    );
    expect
        .echo
        .as_ref()
        .map_or(Ok(()), |echo| check_echo(echo, &report))
}

fn check_echo(echo: &Echo, report: &Value) -> Result<()> {
    for (name, expected) in [
        ("host", &echo.host),
        ("method", &echo.method),
        ("path", &echo.path),
        ("proto", &echo.proto),
    ] {
        if let Some(expected) = expected {
            ensure!(
                report[name] == **expected,
                "the pod saw the {name} {}",
                report[name]
            );
        }
    }
    for (name, expected) in &echo.headers {
        let seen = &report["headers"][name.to_ascii_lowercase()];
        ensure!(*seen == **expected, "the pod saw `{name}: {seen}`");
    }
    Ok(())
}

fn send(feature: &Feature, request: &Request) -> Result<curl::Response> {
    let Request {
        method,
        scheme,
        host,
        path,
        expect,
        ..
    } = request;
    let address = &feature.address;
    let host = if host.is_empty() { address } else { host };
    let mut asked = curl::Request::get(&format!("{scheme}://{host}{path}"), host);
    let every_host = format!("::{address}:");
    asked = asked.with(&["--http1.1", "--include", "--connect-to", &every_host]);
    asked = asked.with(&["--user-agent", "Go-http-client/1.1", "--request", method]);
    if expect.follow_redirects {
        asked = asked.with(&["--location"]);
    }
    if let Some(name) = &expect.cert_hostname {
        ensure!(
            name == host,
            "the suite asks for a certificate of another host"
        );
        let certificate = feature
            .certificate
            .as_deref()
            .context("no certificate was given")?;
        asked = asked.trusting(certificate);
    }
    asked.send(feature.client())
}

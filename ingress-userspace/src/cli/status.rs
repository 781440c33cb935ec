//! `sluice status`: asks the daemon over its admin socket and shows the answer.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use serde_json::Value;
use tokio::time::sleep;

use super::socket;
use crate::settings::{Output, Status};

/// Gives the status in the form that was asked for.
pub async fn run(flags: &Status) -> Result<String> {
    let json = socket::fetch(&flags.run_dir.path(), Request::get("/status")).await?;
    let value: Value = serde_json::from_slice(&json).context("daemon returned invalid JSON")?;
    match flags.output {
        Output::Json => Ok(serde_json::to_string_pretty(&value)? + "\n"),
        Output::Text => Ok(render(&value)),
    }
}

/// Shows the status again every second, until writing fails. A daemon that cannot be reached may come
/// back.
///
/// # Errors
///
/// An I/O error if `output` can't be written.
pub async fn watch(flags: &Status, output: &mut (impl io::Write + IsTerminal)) -> io::Result<()> {
    let before_each = if output.is_terminal() { CLEAR } else { "" };
    loop {
        let shown = run(flags).await;
        let text = shown.unwrap_or_else(|error| format!("{error:#}\n"));
        write!(output, "{before_each}{text}")?;
        output.flush()?;
        sleep(PAUSE).await;
    }
}

/// Clears a terminal (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

fn render(status: &Value) -> String {
    let mut out = String::new();
    let datapath = &status["datapath"];
    let _ = writeln!(
        out,
        "sluice {}, pid {}, up {} s, generation {}",
        text(&status["version"]),
        status["pid"],
        status["uptime_seconds"],
        status["generation"]
    );
    let config = &status["config"];
    let _ = writeln!(
        out,
        "{} hosts, {} rules, {} backends, {} endpoints ({} direct), {} certificates",
        config["hosts"],
        config["rules"],
        config["backends"],
        config["endpoints"],
        datapath["direct_endpoints"],
        config["certificates"]
    );
    let _ = write!(out, "\ndatapath {}", text(&datapath["mode"]));
    match datapath["reason"].as_str() {
        Some(reason) => {
            let _ = writeln!(out, ": {reason}");
        }
        None => out.push('\n'),
    }
    if let Some(gate) = datapath["gate"].as_object() {
        let _ = writeln!(
            out,
            "  return_path on {} ({}), dispatch in netns {} (sk_lookup)",
            text(&gate["device"]),
            text(&gate["return_path"]),
            text(&gate["netns"])
        );
    }
    if datapath["is_flooded"] == true {
        out.push_str("  there is a flood of SYNs, which the guard answers\n");
    }
    render_shortcut(&mut out, &datapath["shortcut"]);
    render_devices(&mut out, rows(&datapath["devices"]));
    render_frontends(&mut out, rows(&status["frontends"]));
    render_counters(&mut out, rows(&datapath["counters"]));
    render_workers(&mut out, rows(&status["workers"]));
    render_health_checks(&mut out, rows(&status["health_checks"]));
    let ignored = rows(&status["ignored_annotations"]).iter().map(text);
    let ignored: Vec<_> = ignored.collect();
    if !ignored.is_empty() {
        let keys = ignored.join(", ");
        let _ = writeln!(out, "\nignored although they restrict access: {keys}");
    }
    let problems = rows(&status["problems"]);
    if !problems.is_empty() {
        out.push_str("\nproblems\n");
    }
    for problem in problems {
        let _ = writeln!(
            out,
            "  {:<8} {}",
            text(&problem["severity"]),
            text(&problem["text"])
        );
    }
    out
}

fn render_shortcut(out: &mut String, shortcut: &Value) {
    if shortcut["is_on"] == true {
        let _ = writeln!(out, "  shortcut on, {} endpoints", shortcut["endpoints"]);
    } else if let Some(reason) = shortcut["reason"].as_str() {
        let _ = writeln!(out, "  shortcut off: {reason}");
    }
}

fn render_devices(out: &mut String, devices: &[Value]) {
    if devices.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "  {:<16} {:<10} {:<9} {:<8} {:<9} REASON",
        "DEVICE", "ROLE", "DATAPATH", "STEER", "GUARD"
    );
    for device in devices {
        let _ = writeln!(
            out,
            "  {:<16} {:<10} {:<9} {:<8} {:<9} {}",
            text(&device["name"]),
            text(&device["role"]),
            text(&device["datapath"]),
            text(&device["steer"]),
            text(&device["guard"]),
            text(&device["reason"])
        );
    }
}

fn render_frontends(out: &mut String, frontends: &[Value]) {
    if frontends.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n  {:<40} {:<16} GIVEN BY", "ADDRESS", "PORTS");
    for frontend in frontends {
        let ports = rows(&frontend["ports"]).iter().map(Value::to_string);
        let ports: Vec<_> = ports.collect();
        let ports = if ports.is_empty() {
            "all".to_owned()
        } else {
            ports.join(",")
        };
        let carried = if frontend["is_steered"] == true {
            ""
        } else {
            ", carried by kube-proxy"
        };
        let _ = writeln!(
            out,
            "  {:<40} {ports:<16} {}{carried}",
            text(&frontend["address"]),
            text(&frontend["given_by"])
        );
    }
}

fn render_counters(out: &mut String, counters: &[Value]) {
    if counters.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n  {:<12} {:<20} {:>14}",
        "PROGRAM", "REASON", "PACKETS"
    );
    for counter in counters {
        let _ = writeln!(
            out,
            "  {:<12} {:<20} {:>14}",
            text(&counter["program"]),
            text(&counter["reason"]),
            counter["packets"].to_string()
        );
    }
}

fn render_workers(out: &mut String, workers: &[Value]) {
    let _ = writeln!(
        out,
        "\n  {:<7} {:>10} {:>12} {:>12} {:>11} {:>11} {:>8} {:>7}",
        "WORKER",
        "GENERATION",
        "NETNS REQS",
        "HOST REQS",
        "OPEN CONNS",
        "UP CONNECTS",
        "REUSES",
        "PANICS"
    );
    for worker in workers {
        let open = worker["netns"]["connections_open"].as_u64().unwrap_or(0)
            + worker["host"]["connections_open"].as_u64().unwrap_or(0);
        let _ = writeln!(
            out,
            "  {:<7} {:>10} {:>12} {:>12} {:>11} {:>11} {:>8} {:>7}",
            worker["worker"].to_string(),
            worker["generation"].to_string(),
            worker["netns"]["requests"].to_string(),
            worker["host"]["requests"].to_string(),
            open,
            worker["upstream_connects"].to_string(),
            worker["upstream_reuses"].to_string(),
            worker["panics"].to_string()
        );
    }
}

fn render_health_checks(out: &mut String, backends: &[Value]) {
    if backends.is_empty() {
        return;
    }
    let count = |backend: &Value| backend["endpoints"].as_u64().unwrap_or(0);
    let endpoints: u64 = backends.iter().map(count).sum();
    let failing = backends
        .iter()
        .map(|backend| rows(&backend["failing"]).len());
    let failing: usize = failing.sum();
    let _ = writeln!(
        out,
        "\nhealth checks of {endpoints} endpoints, {failing} failing"
    );
    for backend in backends {
        for endpoint in rows(&backend["failing"]) {
            let _ = writeln!(
                out,
                "  {:<30} {:<22} {}",
                text(&backend["backend"]),
                text(&endpoint["address"]),
                text(&endpoint["reason"])
            );
        }
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_listed_with_their_giver() {
        let frontend = |address: &str, ports: Value, given_by: &str, is_steered: bool| {
            json!({"address": address, "ports": ports, "given_by": given_by,
                   "is_steered": is_steered})
        };
        let text = render(&json!({"frontends": [
            frontend("10.1.0.1", json!([]), "device eth0", true),
            frontend("2001:db8::8", json!([80, 443]), "Service edge/web", true),
            frontend("192.0.2.8", json!([80]), "Service edge/web", false),
        ]}));
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let lines: Vec<_> = lines.collect();
        for line in [
            "10.1.0.1 all device eth0",
            "2001:db8::8 80,443 Service edge/web",
            "192.0.2.8 80 Service edge/web, carried by kube-proxy",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line}: {text}");
        }
    }
}

//! How options are shown: under headings, and by `-h` with one line each.

use std::ffi::OsStr;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use super::CommandLine;

/// Reads the command line of this process. Prints help, or what is wrong with it, and ends the
/// process then.
pub fn parse() -> CommandLine {
    let asks_briefly = std::env::args_os().any(|argument| argument == OsStr::new("-h"));
    let length = if asks_briefly {
        Length::Brief
    } else {
        Length::Full
    };
    let matches = command(length).get_matches();
    let parsed = CommandLine::from_arg_matches(&matches);
    parsed.unwrap_or_else(|error| error.exit())
}

/// How much help says of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// One line.
    Brief,
    /// All there is to say, with the default, the values and the variable.
    Full,
}

fn command(length: Length) -> Command {
    let command = CommandLine::command().mut_subcommand("run", |run| {
        run.mut_args(|option| {
            let heading = heading(option.get_id().as_str(), option.get_long());
            option.help_heading(heading)
        })
    });
    match length {
        Length::Full => command,
        // Without a width, clap breaks no line.
        Length::Brief => command
            .max_term_width(0)
            .term_width(0)
            .mut_subcommands(|sub| sub.mut_args(brief)),
    }
}

/// The heading of an option of `run`; options that no heading names are in `Options`.
fn heading(id: &str, long: Option<&str>) -> Option<&'static str> {
    let name = long.unwrap_or(id);
    let named = |(_, names): &&(&str, &[&str])| names.contains(&name);
    HEADINGS.iter().find(named).map(|(heading, _)| *heading)
}

/// An option with one line of help: up to the first detail.
fn brief(option: Arg) -> Arg {
    let Some(help) = option.get_help().map(ToString::to_string) else {
        return option;
    };
    let end = DETAILS.iter().filter_map(|detail| help.find(detail)).min();
    let line = help[..end.unwrap_or(help.len())].trim_end_matches('.');
    let option = option.help(line.to_owned()).hide_env(true);
    if option.get_action().takes_values() {
        option.hide_default_value(true).hide_possible_values(true)
    } else {
        option
    }
}

/// The separators between the subject of a help text and its details.
const DETAILS: [&str; 8] = [
    "; ",
    " [",
    " (",
    ": ",
    ", ",
    ". ",
    " after which ",
    " in which ",
];

const HEADINGS: &[(&str, &[&str])] = &[
    (
        "Objects",
        &[
            "manifests",
            "kubeconfig",
            "kube-context",
            "watch-namespace",
            "watch-namespace-selector",
            "topology-hints",
            "last-known-good",
        ],
    ),
    (
        "Status and leader election",
        &[
            "node-name",
            "pod-name",
            "pod-namespace",
            "pod-selector",
            "update-status",
            "publish-status-address",
            "publish-service",
            "report-node-internal-ip-address",
            "election-id",
            "election-ttl",
        ],
    ),
    (
        "Ingress selection",
        &[
            "ingress-class",
            "controller-class",
            "configmap",
            "watch-ingress-without-class",
            "default-backend-service",
            "ignore-annotation",
            "host-ownership",
            "compat",
            "disable-svc-external-name",
        ],
    ),
    (
        "Listeners and datapath",
        &[
            "datapath",
            "http-port",
            "https-port",
            "workers",
            "confine-workers",
            "uplink",
            "uplink-in-netns",
            "node-address",
            "frontend-address",
            "adopt-service",
            "frontend-source-cidr",
            "steer-pod-clients",
            "xdp",
            "tc",
            "shortcut",
            "source-connection-rate",
            "source-connection-burst",
            "source-prefix-v4",
            "source-prefix-v6",
            "syn-flood-threshold",
            "upstream-ports",
        ],
    ),
    (
        "Dashboard",
        &[
            "dashboard-address",
            "dashboard-host",
            "dashboard-certificate",
            "dashboard-key",
            "dashboard-auth",
            "dashboard-tail",
        ],
    ),
    (
        "Trusted proxies",
        &[
            "proxy-real-ip-cidr",
            "use-forwarded-headers",
            "forwarded-for-header",
            "compute-full-forwarded-for",
            "add-forwarded-header",
            "use-proxy-protocol",
            "proxy-protocol-header-timeout",
        ],
    ),
    (
        "Client limits",
        &[
            "client-connections-max",
            "proxy-body-size",
            "client-body-timeout",
            "client-body-min-rate",
            "request-head-size",
            "http2-max-concurrent-streams",
            "keep-alive",
            "memory-limit",
        ],
    ),
    (
        "TCP and UDP services",
        &[
            "tcp-service",
            "udp-service",
            "tcp-services-configmap",
            "udp-services-configmap",
            "udp-session-timeout",
            "udp-sessions-max",
        ],
    ),
    (
        "TLS",
        &[
            "default-ssl-certificate",
            "tls-min-version",
            "tls-ciphers",
            "tls-ticket-keys",
            "tls-session-tickets",
            "acme-issuer",
            "acme-orders-per-hour",
            "acme-retry",
        ],
    ),
    (
        "Upstream",
        &[
            "load-balance",
            "proxy-connect-timeout",
            "proxy-send-timeout",
            "proxy-read-timeout",
            "request-timeout",
            "upstream-keepalive-timeout",
            "slow-start",
            "upstream-max-requests",
            "upstream-max-pending",
            "upstream-pending-timeout",
        ],
    ),
    (
        "Validating webhook",
        &[
            "validating-webhook",
            "validating-webhook-certificate",
            "validating-webhook-key",
            "validating-webhook-service",
            "validating-webhook-configuration",
        ],
    ),
    (
        "Logs, metrics and traces",
        &[
            "log",
            "log-format",
            "metrics-address",
            "enable-metrics",
            "access-log",
            "access-log-format",
            "access-log-path",
            "otlp-endpoint",
            "otlp-sample-ratio",
            "otlp-service-name",
        ],
    ),
    (
        "Process",
        &[
            "shutdown-delay",
            "shutdown-grace-period",
            "run-dir",
            "bpffs",
            "ingress-netns",
            "gate",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn help(length: Length) -> String {
        let mut command = command(length);
        command.build();
        let run = command.find_subcommand_mut("run").unwrap();
        let help = match length {
            Length::Brief => run.render_help(),
            Length::Full => run.render_long_help(),
        };
        help.to_string()
    }

    #[test]
    fn every_option_of_run_has_a_heading() {
        let mut command = command(Length::Full);
        command.build();
        let run = command.find_subcommand("run").unwrap();
        let without: Vec<_> = run
            .get_arguments()
            .filter(|option| option.get_help_heading().is_none())
            .map(|option| option.get_id().as_str())
            .filter(|id| !matches!(*id, "help" | "version"))
            .collect();
        assert!(without.is_empty(), "{without:?}");
        let names = HEADINGS.iter().flat_map(|(_, names)| names.iter());
        for name in names {
            let mut options = run.get_arguments();
            let is_there = options.any(|option| option.get_long() == Some(*name));
            assert!(is_there, "--{name} is no option any more");
        }
    }

    #[test]
    fn short_help_has_one_line_for_each_option() {
        let brief = help(Length::Brief);
        let options = brief.lines().filter(|line| line.contains("--"));
        for line in options.clone().filter(|line| line.starts_with(' ')) {
            assert!(line.len() <= LINE_MAX, "{} columns: {line}", line.len());
        }
        let other = |line: &&str| line.starts_with(' ') && !line.contains("--");
        assert_eq!(brief.lines().find(other), None);
        let full = help(Length::Full);
        assert!(full.lines().count() > 2 * brief.lines().count());
        assert!(full.contains("[env: SLUICE_HTTP_PORT=]"));
    }

    /// Columns of a line of short help.
    const LINE_MAX: usize = 150;
}

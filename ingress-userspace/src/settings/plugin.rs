//! Flags of `kubectl sluice`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};

use super::{Command, CommandLine};

/// Runs a verb of `sluice` on the edge nodes of a cluster, in the pods of Sluice, by `kubectl exec`.
///
/// `kubectl sluice dashboard` shows all edge nodes as one in a browser: it serves the dashboard on 127.0.0.1
/// and prints its URL.
///
/// The exit status is the worst of all nodes: 0 all is well, 1 something needs attention or failed,
/// 2 invalid flags, 3 a node was not reached.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-sluice",
    bin_name = "kubectl sluice",
    version,
    max_term_width = 100
)]
pub struct Plugin {
    /// An edge node; may be given more than once [default: all that have a pod of Sluice].
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,

    /// Namespace of the pods.
    #[arg(long, short, default_value = "sluice-system", value_name = "NAMESPACE")]
    pub namespace: String,

    /// Labels of the pods.
    #[arg(
        long,
        short = 'l',
        default_value = "app.kubernetes.io/name=sluice",
        value_name = "LABELS"
    )]
    pub selector: String,

    /// Context of the kubeconfig [default: the current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The kubeconfig [default: as kubectl finds it].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// How long to wait for a node, in seconds. `tail` and `dashboard` have no end.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u32,

    /// The verb and its arguments, such as `status`, `explain https://shop.example.com/`,
    /// `tail --status 5xx` or `dashboard --port 8080`.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "VERB"
    )]
    pub verb: Vec<String>,
}

/// How a verb that runs on several nodes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It ends by itself.
    Ends,
    /// It prints lines until it is stopped.
    Follows,
    /// It serves a dashboard of all nodes on this machine, at this port or a free one.
    Shows(Option<u16>),
}

impl Plugin {
    /// The longest time to wait for a node.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// How the verb runs, and whether it prints JSON. Ends the process with a message if the verb or
    /// its arguments are invalid, as `sluice` does.
    ///
    /// # Errors
    ///
    /// The reason why the verb cannot run on several nodes.
    pub fn manner(&self) -> Result<(Manner, bool), String> {
        let arguments = std::iter::once("sluice").chain(self.verb.iter().map(String::as_str));
        let matches = CommandLine::command().get_matches_from(arguments);
        let command = CommandLine::from_arg_matches(&matches);
        let command = command.unwrap_or_else(|error| error.exit()).command;
        Ok((manner(&command)?, prints_json(&matches)))
    }
}

fn manner(command: &Command) -> Result<Manner, String> {
    match command {
        Command::Status(flags) if flags.watch => Err(own("status --watch")),
        Command::Status(_)
        | Command::Ready(_)
        | Command::Explain(_)
        | Command::Routes(_)
        | Command::Endpoints(_)
        | Command::Certificates(_)
        | Command::Datapath(_)
        | Command::Drain(_)
        | Command::LogLevel(_)
        | Command::Deny(_)
        | Command::Probe(_) => Ok(Manner::Ends),
        Command::Tail(_) => Ok(Manner::Follows),
        Command::Top(_) => Err(own("top")),
        Command::Report(_) => Err(own("report")),
        Command::Dashboard(flags) if flags.command.is_some() => Err(own("dashboard url")),
        Command::Dashboard(flags) if !flags.view.endpoints.is_empty() => Err(
            "`kubectl sluice dashboard` finds the daemons by itself; --endpoints is for `sluice \
             dashboard`"
                .to_owned(),
        ),
        Command::Dashboard(flags) => Ok(Manner::Shows(flags.view.port)),
        Command::Check(_) => Err(
            "`sluice check` reads the cluster by itself: run it here with \
             `--cluster`"
                .to_owned(),
        ),
        Command::Run(_)
        | Command::Detach(_)
        | Command::Helper(_)
        | Command::Intruder(_)
        | Command::Completion { .. }
        | Command::Man { .. } => Err("this verb asks no running daemon".to_owned()),
    }
}

/// The reason why a verb that needs a terminal or writes a file runs on one node only.
fn own(verb: &str) -> String {
    format!(
        "`{verb}` is for one node: `kubectl -n sluice-system exec -it POD -- /sluice {verb}`, where \
         `kubectl sluice status` names the pods"
    )
}

/// Whether the verb was asked for JSON.
fn prints_json(matches: &ArgMatches) -> bool {
    let Some((_, verb)) = matches.subcommand() else {
        return false;
    };
    let mut formats = verb
        .try_get_raw("output")
        .ok()
        .flatten()
        .into_iter()
        .flatten();
    formats.any(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(arguments: &[&str]) -> Plugin {
        let arguments = std::iter::once(&"kubectl-sluice").chain(arguments);
        Plugin::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn flags_before_the_verb_are_the_plugins() {
        let plugin = plugin(&["--node", "a", "-n", "edge", "tail", "-o", "json", "--node"]);
        assert_eq!(plugin.nodes, ["a"]);
        assert_eq!(plugin.namespace, "edge");
        assert_eq!(plugin.verb, ["tail", "-o", "json", "--node"]);
    }

    #[test]
    fn verbs_end_or_follow_or_are_for_one_node() {
        let manner = |verb: &[&str]| plugin(verb).manner();
        assert_eq!(manner(&["status"]), Ok((Manner::Ends, false)));
        assert_eq!(manner(&["status", "-o", "json"]), Ok((Manner::Ends, true)));
        assert_eq!(manner(&["routes", "-o=json"]), Ok((Manner::Ends, true)));
        assert_eq!(manner(&["deny", "--list"]), Ok((Manner::Ends, false)));
        assert_eq!(manner(&["tail"]), Ok((Manner::Follows, false)));
        assert_eq!(manner(&["dashboard"]), Ok((Manner::Shows(None), false)));
        let shows = Manner::Shows(Some(8080));
        assert_eq!(manner(&["dashboard", "--port=8080"]), Ok((shows, false)));
        for verb in [
            &["top"][..],
            &["report"],
            &["status", "--watch"],
            &["man"],
            &["dashboard", "url"],
            &["dashboard", "--endpoints=unix:/a"],
        ] {
            manner(verb).unwrap_err();
        }
    }
}

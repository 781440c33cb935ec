//! `kubectl sluice dashboard`: the dashboard of all nodes on the machine of its user. In each pod runs
//! `sluice dashboard feed`, and the pods are listed again now and then, because updates replace them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::pods::{self, Pod};
use super::{kubectl, list_all};
use crate::cli::dashboard::show as show_view;
use crate::dashboard::{Connection, Dial, Nodes, Target};
use crate::settings::plugin::Plugin;

/// Serves the dashboard until it is stopped.
pub(super) async fn show(flags: &Plugin, pods: Vec<Pod>, port: Option<u16>) -> Result<()> {
    let nodes = Arc::new(Nodes::default());
    let mut seen = BTreeSet::new();
    let words = match pods.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    nodes.reach(targets(flags, pods, &mut seen));
    show_view(&nodes, port, &words, follow(flags, &nodes, seen)).await
}

/// Lists the pods again and again.
async fn follow(flags: &Plugin, nodes: &Arc<Nodes>, mut seen: BTreeSet<String>) -> Result<()> {
    loop {
        sleep(LIST_INTERVAL).await;
        // The links that there are go on while the API server is away.
        let Ok(Ok(pods)) = timeout(flags.timeout(), list_all(flags)).await else {
            continue;
        };
        let is_wanted = |pod: &Pod| flags.nodes.is_empty() || flags.nodes.contains(&pod.node);
        let pods = pods.into_iter().filter(is_wanted).collect();
        if let Ok(pods) = pods::select(pods, &[]) {
            nodes.reach(targets(flags, pods, &mut seen));
        }
    }
}

/// How nodes are reached. Those that were seen before and have no pod any more are away.
fn targets(
    flags: &Plugin,
    pods: Vec<Pod>,
    seen: &mut BTreeSet<String>,
) -> BTreeMap<String, Target> {
    let away = || Target::Away("it has no pod of Sluice any more".to_owned());
    let mut targets: BTreeMap<_, _> = seen.iter().map(|node| (node.clone(), away())).collect();
    for Pod {
        node,
        name,
        is_running,
    } in pods
    {
        let target = if is_running {
            let dial = dial(flags, &name);
            Target::Reach { key: name, dial }
        } else {
            Target::Away(format!("pod `{name}` does not run"))
        };
        seen.insert(node.clone());
        targets.insert(node, target);
    }
    targets
}

/// Starts kubectl, which carries the input and output of the verb in a pod.
fn dial(flags: &Plugin, pod: &str) -> Dial {
    let base = kubectl(flags);
    let mut arguments: Vec<OsString> = base.as_std().get_args().map(Into::into).collect();
    let exec = [
        "exec",
        "--stdin",
        pod,
        "--container=sluice",
        "--",
        "/sluice",
        "dashboard",
        "feed",
    ];
    arguments.extend(exec.map(OsString::from));
    Box::new(move || {
        let mut process = Command::new("kubectl")
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (Some((input, output)), Some(complaints)) = (pipes, process.stderr.take()) else {
            return Err(io::Error::other("kubectl has no pipes"));
        };
        Ok(Connection {
            input: Box::new(input),
            output: Box::new(output),
            complaints: Box::new(complaints),
            process: Some(process),
        })
    })
}

/// Between two lists of pods.
const LIST_INTERVAL: Duration = Duration::from_secs(10);

//! `kubectl sluice`: a verb on all edge nodes at once, by the user's own kubectl and rights.
//!
//! kubectl does what it does best (contexts, credentials, connections), and no node speaks to another.

mod dashboard;
mod join;
mod pods;

use std::io::{self, Write as _};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::join::Answer;
use self::pods::Pod;
use crate::settings::plugin::{Manner, Plugin};

/// Runs the verb on all nodes, prints their answers, and returns the worst of their exit statuses.
///
/// # Errors
///
/// If kubectl does not list the pods, a named node has none, or the verb is for one node only.
pub async fn run(flags: &Plugin) -> Result<ExitCode> {
    let (manner, is_json) = flags.manner().map_err(anyhow::Error::msg)?;
    let pods = list(flags).await?;
    let status = match manner {
        Manner::Ends => {
            let answers = join_all(pods.iter().map(|pod| ask(flags, pod))).await;
            let text = if is_json {
                join::json(&answers)
            } else {
                join::text(&answers)
            };
            io::stdout().write_all(text.as_bytes())?;
            join::worst(&answers)
        }
        Manner::Follows => {
            let followed = join_all(pods.iter().map(|pod| follow(flags, pod, is_json))).await;
            let worst = followed.into_iter().max();
            worst.unwrap_or(0)
        }
        Manner::Shows(port) => {
            dashboard::show(flags, pods, port).await?;
            0
        }
    };
    Ok(ExitCode::from(status))
}

/// The pods of Sluice on the nodes that the flags name.
async fn list(flags: &Plugin) -> Result<Vec<Pod>> {
    let pods = list_all(flags).await?;
    if pods.is_empty() {
        bail!(
            "no pod in namespace `{}` has the labels `{}`; --namespace and --selector name others",
            flags.namespace,
            flags.selector
        );
    }
    pods::select(pods, &flags.nodes).map_err(anyhow::Error::msg)
}

/// The pods of Sluice on all nodes.
async fn list_all(flags: &Plugin) -> Result<Vec<Pod>> {
    let mut kubectl = kubectl(flags);
    kubectl.args([
        "get",
        "pods",
        "--output=json",
        "--selector",
        &flags.selector,
    ]);
    let output = kubectl.output().await;
    let output = output.context("failed to start kubectl; is it in the PATH?")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl listed no pods: {}", complaint.trim());
    }
    pods::read(&output.stdout).context("kubectl printed no list of pods")
}

/// Runs the verb on a node and returns its answer.
async fn ask(flags: &Plugin, pod: &Pod) -> Answer {
    if !pod.is_running {
        return Answer::away(&pod.node, &format!("pod `{}` does not run", pod.name));
    }
    let outcome = timeout(flags.timeout(), exec(flags, pod).output()).await;
    match outcome {
        Ok(Ok(output)) => Answer::of(&pod.node, &output),
        Ok(Err(error)) => Answer::away(&pod.node, &format!("failed to start kubectl: {error}")),
        Err(_) => {
            let seconds = flags.timeout().as_secs();
            Answer::away(&pod.node, &format!("no answer in {seconds} s"))
        }
    }
}

/// Prints the lines of a node as they come; gives the exit status.
async fn follow(flags: &Plugin, pod: &Pod, is_json: bool) -> u8 {
    let started = exec(flags, pod).stderr(Stdio::inherit()).spawn();
    let outcome = match started {
        Ok(child) => copy_lines(child, &pod.node, is_json).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", pod.node);
            join::NOT_REACHED
        }
    }
}

async fn copy_lines(mut child: Child, node: &str, is_json: bool) -> io::Result<u8> {
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            let line = join::line(node, &line, is_json);
            io::stdout().write_all(line.as_bytes())?;
        }
    }
    let status = child.wait().await?;
    Ok(join::exit_status(status))
}

/// kubectl that runs the verb in a pod.
fn exec(flags: &Plugin, pod: &Pod) -> Command {
    let mut exec = kubectl(flags);
    exec.args(["exec", &pod.name, "--container=sluice", "--", "/sluice"])
        .args(&flags.verb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    exec
}

fn kubectl(flags: &Plugin) -> Command {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["--namespace", &flags.namespace]);
    if let Some(context) = &flags.context {
        kubectl.args(["--context", context]);
    }
    if let Some(kubeconfig) = &flags.kubeconfig {
        kubectl.arg("--kubeconfig").arg(kubeconfig);
    }
    kubectl
}

//! `sluice-cluster`: a cluster for a person to play with, gone with Ctrl-C.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use ingress_tests::cluster::control::Place;
use ingress_tests::cluster::demo;
use ingress_tests::cluster::node::ProxyMode;
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::rig::{CLIENT_V4, CLIENT_V6};
use ingress_tests::supervise::{supervise, wait_for_signal};

#[derive(Parser)]
#[command(about = "Runs a Kubernetes cluster on network namespaces until Ctrl-C")]
struct CommandLine {
    /// Nodes besides the edge node.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Nodes that clients come to.
    #[arg(long, default_value_t = 1)]
    edges: usize,
    /// How kube-proxy makes Services reachable.
    #[arg(long, default_value = "nftables")]
    proxy_mode: Mode,
    /// A program that stands for an image; may be given more than once.
    #[arg(long, value_name = "IMAGE=PROGRAM", value_parser = image)]
    image: Vec<(String, PathBuf)>,
    /// Show the main job on it, and end.
    #[arg(long)]
    demo: bool,
    /// After the demo, go on running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Names of this cluster; given by the parent process to its child.
    #[arg(long, hide = true)]
    prefix: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Nftables,
    Iptables,
}

fn image(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("it has no `=`")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

fn main() -> Result<ExitCode> {
    let flags = CommandLine::parse();
    match &flags.prefix {
        Some(prefix) => perform(&flags, prefix),
        None => supervise(&format!("cluster{}", std::process::id())),
    }
}

fn perform(flags: &CommandLine, prefix: &str) -> Result<ExitCode> {
    let start = Instant::now();
    say("==> start the control plane, kube-proxies and nodes");
    let mut options = Options::from_env()?;
    options.edges = flags.edges;
    options.workers = flags.workers;
    options.proxy_mode = match flags.proxy_mode {
        Mode::Nftables => ProxyMode::Nftables,
        Mode::Iptables => ProxyMode::Iptables,
    };
    for (name, program) in &flags.image {
        options.images = options.images.with(name, program);
    }
    let kubectl = options.programs.path("kubectl")?;
    let cluster = Cluster::start_with_prefix(&options, prefix)?;
    say("==> sluice on the edge node");
    cluster.install_sluice(&[])?;
    say(&format!("    {:.1} s", start.elapsed().as_secs_f64()));
    if flags.demo {
        say("==> a Deployment, a Service and an Ingress, and requests to them");
        let page = demo::show(&cluster)?;
        std::io::stdout().write_all(page.as_bytes())?;
        if !flags.keep {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let kubeconfig = cluster.plane.kubeconfig(Place::Machine);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "export KUBECONFIG={}", kubeconfig.display())?;
    writeln!(stdout, "alias kubectl={}", kubectl.display())?;
    hint(&cluster);
    wait_for_signal()?;
    Ok(ExitCode::SUCCESS)
}

fn hint(cluster: &Cluster) {
    let client = cluster.network.client.name();
    let mut nodes = String::new();
    for node in cluster.nodes() {
        let (name, netns) = (&node.name, node.host.name());
        let _ = write!(
            nodes,
            "\n{name} {} {}: ip netns exec {netns}",
            node.v4, node.v6
        );
    }
    say(&format!(
        "Images that pods can run, by the last part of their name: {}\n\
         client {CLIENT_V4} {CLIENT_V6}: ip netns exec {client}{nodes}\n\
         kubeconfig for programs on nodes: {}\n\
         what containers print: {}\n\
         It goes on running until Ctrl-C.",
        cluster.images().collect::<Vec<_>>().join(", "),
        cluster.plane.kubeconfig(Place::Lan).display(),
        cluster.path("logs").display(),
    ));
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

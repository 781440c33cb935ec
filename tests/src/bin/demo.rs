//! `sluice-demo`: shows the main job, and leaves nothing behind.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use ingress_tests::demo::{Demo, Programs, Stage, render, run};
use ingress_tests::rig::{EDGE_V4, EDGE_V6};
use ingress_tests::supervise::{supervise, wait_for_signal};

#[derive(Parser)]
#[command(about = "Shows what Sluice does, on an edge node out of network namespaces")]
struct CommandLine {
    /// The daemon.
    #[arg(long)]
    sluice: PathBuf,
    /// What pods run.
    #[arg(long)]
    origin: PathBuf,
    /// Print the same as JSON.
    #[arg(long)]
    json: bool,
    /// Leave everything running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Names of this demo; given by the parent process to its child.
    #[arg(long, hide = true)]
    prefix: Option<String>,
}

fn main() -> Result<ExitCode> {
    let flags = CommandLine::parse();
    match flags.prefix.clone() {
        Some(prefix) => perform(&flags, &prefix),
        None => supervise(&format!("demo{}", std::process::id())),
    }
}

fn perform(flags: &CommandLine, prefix: &str) -> Result<ExitCode> {
    let programs = Programs {
        sluice: flags.sluice.clone(),
        origin: flags.origin.clone(),
    };
    let stage = Stage::set(&programs, prefix, |what| {
        eprint_line(&format!("==> {what}"));
    })?;
    eprint_line("==> send requests");
    let demo = run(&stage)?;
    show(&demo, flags.json)?;
    if flags.keep {
        hint(&stage);
        wait_for_signal()?;
    }
    if demo.ok {
        stage.sluice.stop()?;
        stage.proxy.stop()?;
    }
    Ok(if demo.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(demo: &Demo, json: bool) -> Result<()> {
    let mut stdout = std::io::stdout();
    let text = if json {
        serde_json::to_string_pretty(demo)? + "\n"
    } else {
        render(demo, stdout.is_terminal())
    };
    Ok(stdout.write_all(text.as_bytes())?)
}

fn hint(stage: &Stage) {
    let rig = &stage.rig;
    let (client, edge) = (rig.client.name(), rig.edge.name());
    let sluice = rig.options.sluice.display();
    let run_dir = rig.path("sluice");
    eprint_line(&format!(
        "It goes on running until Ctrl-C. Try, in another terminal:\n\
         \n  ip netns exec {client} curl -H 'Host: shop.example.com' http://{EDGE_V4}/cart\
         \n  ip netns exec {client} curl -gk --connect-to '::[{EDGE_V6}]:443' https://blog.example.com/\
         \n  ip netns exec {edge} conntrack -L\
         \n  {sluice} status --run-dir {}\
         \n  edit a file in {} and ask again",
        run_dir.display(),
        ingress_tests::demo::manifests_path().display(),
    ));
}

fn eprint_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

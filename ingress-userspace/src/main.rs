//! `sluice`: reads the command line and hands over.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use ingress_userspace::allocator::Allocator;
use ingress_userspace::cli::Unreachable;
use ingress_userspace::settings::plugin::Plugin;
use ingress_userspace::settings::{self, Command};
use ingress_userspace::{app, cli, telemetry};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    let outcome = if is_plugin() {
        on_all_nodes(&Plugin::parse())
    } else {
        run(settings::help::parse().command)
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sluice: {error:#}");
            if error.is::<Unreachable>() {
                ExitCode::from(UNREACHABLE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The exit status of verbs that cannot reach the daemon.
const UNREACHABLE: u8 = 3;

/// Whether this process was started as `kubectl-sluice`, the name by which kubectl finds a plugin.
fn is_plugin() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_stem() == Some(OsStr::new("kubectl-sluice")))
}

fn on_all_nodes(flags: &Plugin) -> Result<ExitCode> {
    runtime()?.block_on(cli::plugin::run(flags))
}

/// For control work only: requests are served by threads of their own.
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the control runtime")
}

fn run(command: Command) -> Result<ExitCode> {
    let runtime = runtime()?;
    match command {
        Command::Run(flags) => {
            runtime.block_on(app::run(*flags))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Helper(flags) => {
            let log = telemetry::init(&flags.log, flags.log_format);
            let _log = log.map_err(anyhow::Error::msg)?;
            runtime.block_on(app::serve_as_helper())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Intruder(flags) => {
            let _runtime = runtime.enter();
            let outcomes = app::intruder::run(&flags)?;
            std::io::stdout().write_all(outcomes.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(flags) if flags.watch => {
            let mut output = std::io::stdout();
            runtime.block_on(cli::status::watch(&flags, &mut output))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(flags) => printed(&runtime.block_on(cli::status::run(&flags))?),
        Command::Tail(flags) => {
            let mut output = std::io::stdout();
            runtime.block_on(cli::tail::run(&flags, &mut output))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Top(flags) => {
            runtime.block_on(cli::top::run(&flags))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Dashboard(flags) => printed(&runtime.block_on(cli::dashboard::run(&flags))?),
        Command::Report(flags) => {
            let mut output = std::io::stdout();
            runtime.block_on(cli::report::run(&flags, &mut output))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Drain(flags) => printed(&runtime.block_on(cli::change::drain(&flags))?),
        Command::LogLevel(flags) => printed(&runtime.block_on(cli::change::log_level(&flags))?),
        Command::Detach(flags) => printed(&runtime.block_on(app::detach::detach(&flags))?),
        Command::Deny(flags) => printed(&runtime.block_on(cli::deny::run(&flags))?),
        Command::Explain(flags) => verdict(runtime.block_on(cli::explain::run(&flags))?),
        Command::Ready(flags) => verdict(runtime.block_on(cli::ready::run(&flags))?),
        Command::Routes(flags) => listed(runtime.block_on(cli::listing::routes(&flags))?),
        Command::Endpoints(flags) => listed(runtime.block_on(cli::listing::endpoints(&flags))?),
        Command::Certificates(flags) => {
            listed(runtime.block_on(cli::listing::certificates(&flags))?)
        }
        Command::Datapath(flags) => listed(runtime.block_on(cli::listing::datapath(&flags))?),
        Command::Check(flags) => verdict(runtime.block_on(cli::check::run(&flags))?),
        Command::Probe(flags) => verdict(cli::probe::run(&flags)),
        Command::Completion { shell } => {
            std::io::stdout().write_all(&cli::manual::completion(shell))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { verb } => {
            let page = cli::manual::page(verb.as_deref())?;
            std::io::stdout().write_all(&page)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a text.
fn printed(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a list and gives its exit status.
fn listed((text, code): (String, ExitCode)) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(code)
}

/// Prints a text whose verdict is the exit status.
fn verdict((text, is_good): (String, bool)) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! Serves the dashboard of several nodes on a loopback address, and prints URLs that open it.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::dashboard::{Dashboard, Doors, Nodes};

/// Serves until Ctrl-C, or until `meanwhile` ends; then ends all links.
///
/// # Errors
///
/// An error if the port is in use, or of `meanwhile`.
pub(in crate::cli) async fn show(
    nodes: &Arc<Nodes>,
    port: Option<u16>,
    words: &str,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<()> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    let listener = TcpListener::bind(wanted);
    let listener = listener.with_context(|| format!("failed to listen on `{wanted}`"))?;
    let address = listener.local_addr()?;
    let doors = Doors::default();
    let dashboard = Dashboard::of_nodes(address, doors.clone(), Arc::clone(nodes));
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    print(address, &doors)?;
    writeln!(
        io::stderr(),
        "The dashboard of {words} is served. The URL opens it once, within a minute. Enter prints \
         another URL, Ctrl-C ends."
    )?;
    let mut presses = presses();
    let outcome = tokio::select! {
        outcome = dashboard.serve(listener, None) => outcome,
        outcome = meanwhile => outcome,
        outcome = async {
            while presses.recv().await.is_some() {
                print(address, &doors)?;
            }
            std::future::pending().await
        } => outcome,
        _ = interrupts.recv() => Ok(()),
        _ = terminations.recv() => Ok(()),
        _ = hangups.recv() => Ok(()),
    };
    nodes.close();
    outcome
}

fn print(address: SocketAddr, doors: &Doors) -> Result<()> {
    let path = doors.url().context("the kernel gives no random numbers")?;
    let mut output = io::stdout();
    writeln!(output, "http://{address}{path}")?;
    Ok(output.flush()?)
}

/// A message for each line of standard input.
fn presses() -> mpsc::Receiver<()> {
    let (sender, presses) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines() {
            if line.is_err() || sender.blocking_send(()).is_err() {
                return;
            }
        }
    });
    presses
}

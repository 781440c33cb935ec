//! `sluice dashboard --endpoints`: joins daemons whose admin sockets are files of this machine, its own or
//! such as SSH forwards.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex,
};
use tokio::sync::mpsc;

use super::{feed, view};
use crate::api::NodeLine;
use crate::dashboard::{Connection, Nodes, Target};
use crate::settings::DashboardView;

/// Serves the view until it is stopped.
pub(super) async fn run(flags: &DashboardView) -> Result<()> {
    let nodes = Arc::new(Nodes::default());
    let targets = flags.endpoints.iter().map(|endpoint| {
        let path = endpoint.socket.clone();
        let target = Target::Reach {
            key: path.display().to_string(),
            dial: Box::new(move || Ok(connect(path.clone()))),
        };
        (endpoint.name.clone(), target)
    });
    let targets: BTreeMap<_, _> = targets.collect();
    let words = match targets.len() {
        1 => "1 daemon".to_owned(),
        count => format!("{count} daemons"),
    };
    nodes.reach(targets);
    view::show(&nodes, flags.port, &words, pending()).await
}

/// A connection to what `sluice dashboard feed` does, in this process.
fn connect(place: PathBuf) -> Connection {
    let (input, requests) = duplex(PIPE_BYTES);
    let (output, told) = duplex(PIPE_BYTES);
    let (complaints, mut words) = duplex(PIPE_BYTES);
    tokio::spawn(async move {
        if let Err(error) = carry(&place, requests, told).await {
            // The view has left if this fails.
            let _ = words.write_all(format!("{error:#}\n").as_bytes()).await;
        }
    });
    Connection {
        input: Box::new(input),
        output: Box::new(output),
        complaints: Box::new(complaints),
        process: None,
    }
}

async fn carry(place: &Path, requests: DuplexStream, told: DuplexStream) -> Result<()> {
    let (sender, asked) = mpsc::channel(1);
    let (lines, mut written) = mpsc::channel(1);
    tokio::select! {
        outcome = feed::serve(place, asked, lines) => outcome,
        outcome = read(requests, sender) => Ok(outcome?),
        outcome = write(told, &mut written) => Ok(outcome?),
    }
}

async fn read(requests: DuplexStream, sender: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut requests = BufReader::new(requests);
    loop {
        let mut line = Vec::new();
        let read = (&mut requests).take(feed::REQUEST_BYTES_MAX);
        if { read }.read_until(b'\n', &mut line).await? == 0 || sender.send(line).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(mut told: DuplexStream, written: &mut mpsc::Receiver<NodeLine>) -> io::Result<()> {
    while let Some(line) = written.recv().await {
        told.write_all(&feed::text(&line)?).await?;
    }
    Ok(())
}

/// Bytes on their way in one direction.
const PIPE_BYTES: usize = 64 << 10;

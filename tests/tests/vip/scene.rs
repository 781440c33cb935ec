//! Two edge nodes that serve `web.test`, and `six.test` over IPv6, each by a pod of its own.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::host::{self, Host};
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, POD1_V4, POD1_V6, POD3_V4, POD3_V6, Rig, wait_until};
use ingress_tests::services;

use super::flow::Flow;

/// Fields drop in order: the daemons go first.
pub(crate) struct Scene {
    /// While it runs.
    pub(crate) first: Option<Running>,
    _second: Running,
    /// What the first one is started with.
    daemon: Daemon,
    pub(crate) rig: Rig,
}

/// One of the two edge nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    First,
    Second,
}

impl Node {
    pub(crate) const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// What its daemon and its files are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// The pod that answers there.
    fn pod(self) -> &'static str {
        match self {
            Self::First => "pod1",
            Self::Second => "pod3",
        }
    }

    pub(crate) fn host(self, rig: &Rig) -> &Host {
        match self {
            Self::First => &rig.edge,
            Self::Second => &rig.node2,
        }
    }
}

impl Scene {
    /// With these manifests beside those of `web.test`, and these flags.
    pub(crate) fn set(more: &str, flags: &[&str]) -> Result<Self> {
        let rig = Rig::build(Options::from_env()?)?;
        // The rig has them on its edge node alone.
        services::install(&rig.node2, rig.options.services)?;
        let daemon = |node: Node, pod: &str, pod_v6: &str| -> Result<Daemon> {
            let manifests = rig.path(&format!("manifests-{}", node.name()));
            Manifest::default()
                .serve("web.test", &[pod])
                .serve("six.test", &[pod_v6])
                .save(&manifests)?;
            std::fs::write(manifests.join(MORE), more)?;
            let daemon = Daemon::new(&rig, node.name(), &manifests).with("--datapath=netns");
            Ok(flags.iter().fold(daemon, |daemon, flag| daemon.with(flag)))
        };
        let first = daemon(Node::First, POD1_V4, POD1_V6)?;
        let second = daemon(Node::Second, POD3_V4, POD3_V6)?;
        Ok(Self {
            first: Some(first.start(&rig.edge)?),
            _second: second.start(&rig.node2)?,
            daemon: first,
            rig,
        })
    }

    /// Puts other manifests beside those of `web.test` on a node.
    pub(crate) fn change(&self, node: Node, more: &str) -> Result<()> {
        let directory = self.rig.path(&format!("manifests-{}", node.name()));
        let unfinished = directory.join(".new");
        std::fs::write(&unfinished, more)?;
        Ok(std::fs::rename(unfinished, directory.join(MORE))?)
    }

    /// The command by which announcers ask whether the node should be announced.
    pub(crate) fn health_check(&self, node: Node) -> String {
        format!(
            "{} ready --serving --require-datapath --run-dir={}",
            self.rig.options.sluice.display(),
            self.rig.path(node.name()).display()
        )
    }

    /// Tells the daemon of a node that clients should go elsewhere, and waits until announcers hear it.
    pub(crate) fn drain(&self, node: Node) -> Result<()> {
        let mut drain = Command::new(&self.rig.options.sluice);
        drain.arg("drain");
        drain.arg(format!(
            "--run-dir={}",
            self.rig.path(node.name()).display()
        ));
        host::run(&mut drain)?;
        let said = node
            .host(&self.rig)
            .sh(&format!("{} || true", self.health_check(node)))?;
        ensure!(said == "no: the daemon is draining\n", "{said}");
        Ok(())
    }

    /// Checks that a client is served at these addresses past connection tracking, and that pods are told
    /// its own: each address stands beside the one that the client has.
    pub(crate) fn check(&self, nodes: &[Node], client: &Host, at: &[(&str, &str)]) -> Result<()> {
        for node in nodes {
            node.host(&self.rig).flush_conntrack()?;
        }
        for (address, own) in at {
            for _ in 0..REQUESTS {
                let response = Request::get(&url(address), "web.test").send(client)?;
                assert_eq!(response.status, 200, "{address}");
                assert_eq!(response.client_address()?, *own, "{address}");
                let pod = response.pod()?;
                let is_there = nodes.iter().any(|node| node.pod() == pod);
                ensure!(is_there, "{pod} answered at {address}");
            }
            // Tracking is on: what is not served here is tracked.
            let datagram_to = SocketAddr::new(address.parse()?, CLOSED);
            client.run(|| -> std::io::Result<()> {
                let any = if datagram_to.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                UdpSocket::bind(any)?.send_to(b"x", datagram_to).map(drop)
            })??;
        }
        for node in nodes {
            let table = node.host(&self.rig).conntrack_table()?;
            let of_client = |entry: &&String| {
                at.iter()
                    .any(|(_, own)| entry.contains(&format!("src={own} ")))
            };
            let entries: Vec<_> = table.iter().filter(of_client).collect();
            let is_closed = |entry: &&&String| entry.contains(&format!("dport={CLOSED} "));
            let others: Vec<_> = entries.iter().filter(|entry| !is_closed(entry)).collect();
            ensure!(others.is_empty(), "{node:?} tracks {others:?}");
        }
        let tracked = nodes.iter().map(|node| {
            let table = node.host(&self.rig).conntrack_table()?;
            Ok(table
                .iter()
                .any(|entry| entry.contains(&format!("dport={CLOSED} "))))
        });
        let tracked = tracked.collect::<Result<Vec<bool>>>()?;
        ensure!(tracked.contains(&true), "nothing at all is tracked");
        Ok(())
    }

    /// Drains the first node under load, waits by `withdraw` until the second one serves alone, and ends the
    /// first daemon: no request is lost.
    pub(crate) fn withdraw(
        &mut self,
        client: fn(&Rig) -> &Host,
        at: &[&str],
        announcer: &str,
        withdraw: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let flow = Flow::start(client(&self.rig), at)?;
        flow.wait_for(SOME)?;
        self.drain(Node::First)?;
        withdraw(self)?;
        flow.wait_for(SOME)?;
        self.first.take().context("it has ended")?.stop()?;
        flow.wait_for(SOME)?;
        let outcome = flow.stop()?;
        say(&format!(
            "{announcer}: planned withdrawal: {} requests at {:.0} a second, {} lost, {} repeated by the \
             client after a reset",
            outcome.answered,
            outcome.rate,
            outcome.lost.len(),
            outcome.repeated
        ));
        ensure!(outcome.lost.is_empty(), "lost: {:?}", outcome.lost);
        ensure!(
            outcome.repeated <= REPEATED_MAX,
            "{} were repeated",
            outcome.repeated
        );
        Ok(())
    }

    /// Starts the first daemon again.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.first = Some(self.daemon.start(&self.rig.edge)?);
        Ok(())
    }

    /// Kills the first daemon under load, and measures how long requests are lost.
    pub(crate) fn kill(
        &mut self,
        client: fn(&Rig) -> &Host,
        at: &[&str],
        announcer: &str,
        withdrawn: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let flow = Flow::start(client(&self.rig), at)?;
        flow.wait_for(SOME)?;
        let killed = Instant::now();
        self.first.take().context("it has ended")?.kill();
        withdrawn(self)?;
        flow.wait_for(SOME)?;
        let outcome = flow.stop()?;
        let outage = outcome.outage_after(killed);
        let lost = outcome.lost.len();
        say(&format!(
            "{announcer}: daemon killed: {lost} requests lost, {} answered, outage {} ms",
            outcome.answered,
            outage.as_millis()
        ));
        ensure!(lost > 0, "nobody noticed that the daemon was killed");
        ensure!(outage < OUTAGE_MAX, "requests were lost for {outage:?}");
        Ok(())
    }
}

/// The node that serves a client at an address; `None` while no node does.
pub(crate) fn server(client: &Host, address: &str) -> Option<Node> {
    let request = Request::get(&url(address), "web.test").with(&["--max-time", "1"]);
    let pod = request.send(client).ok()?.pod().ok()?;
    Node::BOTH.into_iter().find(|node| node.pod() == pod)
}

/// Waits until this node serves a client at each of these addresses.
pub(crate) fn wait_for_server(node: Node, client: &Host, at: &[&str]) -> Result<()> {
    for address in at {
        wait_until(&format!("{node:?} to serve {address}"), || {
            Ok(server(client, address) == Some(node))
        })?;
    }
    Ok(())
}

/// Prints a measured figure.
#[expect(clippy::print_stdout, reason = "figures are for people")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Writes a file of this rig and gives its path.
pub(crate) fn write(rig: &Rig, name: &str, text: &str) -> Result<PathBuf> {
    let path = rig.path(name);
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

fn url(address: &str) -> String {
    format!("{}/", base(address))
}

fn base(address: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]")
    } else {
        format!("http://{address}")
    }
}

const MORE: &str = "more.yaml";
/// Requests to each address: enough to meet both nodes where both serve.
const REQUESTS: usize = 8;
/// A port that nobody listens on.
const CLOSED: u16 = 9;
/// Requests that show that all goes well.
const SOME: u64 = 500;
/// Checks run every second, and the other node waits for three advertisements.
const OUTAGE_MAX: Duration = Duration::from_millis(2500);
/// Connections that may be open while the address moves: one for each thread of the load, twice as much
/// where both families move one after the other.
const REPEATED_MAX: u64 = 16;

//! The eBPF programs, loaded into the kernel with filled maps and run on one packet at a time by
//! `BPF_PROG_TEST_RUN`.
//!
//! They stand in a network namespace of their own, which has an uplink, a gate and a device that
//! is not steered; nothing is attached unless a test asks for it. The invariant: each run adds one
//! to exactly one counter, or it is an error.
//!
//! What a test run can't show: the tag that the kernel puts into the metadata of a buffer
//! (`vlan_present` must be 0 in the context, it is `EINVAL` else, and is not told afterwards),
//! buffers of several segments (they have no transport header), buffers that are not linear, and
//! where a redirected packet ends: `bpf_redirect_peer` and `bpf_redirect_neigh` only take a note
//! that the hook would act on. The first two, and arrival, are asked of real devices: [`Wire`].

pub mod connection;
mod cost;
mod lookup;
mod maps;
mod wire;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, fs};

use anyhow::{Context as _, Result, bail};
use aya::programs::{TestRun, TestRunOptions, TestRunResult};
use ingress_common::verdict::{Program, Reason};
use ingress_userspace::datapath::{Object, open_bpf_file_system};
use rustix::thread::{CpuSet, sched_setaffinity};

pub use cost::nanoseconds_per_packet;
pub use lookup::Lookup;
pub use maps::Maps;
pub use wire::{Wire, set_udp_segment};

use crate::host::{self, Host};
use crate::packet::NODE_MAC;

/// What a program did with a packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it returned: `XDP_*`, `TC_ACT_*`.
    pub action: u32,
    /// Why, as counted.
    pub reason: Reason,
    /// The packet as it left it.
    pub packet: Vec<u8>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            action,
            reason,
            packet,
        } = self;
        write!(formatter, "{action} {reason:?}, {} bytes: ", packet.len())?;
        let head = packet.iter().take(SHOWN_BYTES_MAX);
        head.into_iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The loaded programs. Dropping it removes all that it made.
pub struct Programs {
    /// Their maps.
    pub maps: Maps,
    /// Ifindex of the uplink, which is steered.
    pub uplink: u32,
    /// Ifindex of the host side of the gate.
    pub gate: u32,
    /// The namespace that they run in.
    pub host: Host,
    /// The namespace behind the gate.
    pub ingress: Host,
    object: Object,
    _pins: Pins,
}

impl Programs {
    /// Loads the programs and leaves their maps empty, as they are before user space speaks.
    pub fn load() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sl{}p{number}", std::process::id());
        let host = Host::create(&name)?;
        let ingress = Host::create(&format!("{name}i"))?;
        wire(&host, &ingress)?;
        let pins = Pins::create(&name)?;
        let mut object = Object::load(&pins.0)?;
        Ok(Self {
            maps: Maps::take(&mut object)?,
            uplink: ifindex(&host, "uplink")?,
            gate: ifindex(&host, "gate")?,
            host,
            ingress,
            object,
            _pins: pins,
        })
    }

    /// Loads the programs and fills their maps as on a node that serves [`TCP_PORT`] and
    /// [`UDP_PORT`] at its addresses.
    pub fn load_and_fill() -> Result<Self> {
        let mut programs = Self::load()?;
        programs.maps.fill(programs.gate, programs.uplink)?;
        Ok(programs)
    }

    /// Runs guard on a frame.
    pub fn guard(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_and_count(Program::Guard, Input::Frame(frame))
            .map(|(outcome, _)| outcome)
    }

    /// Runs steer on a frame that came in on the uplink.
    pub fn steer(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_and_count(Program::Steer, Input::Frame(frame))
            .map(|(outcome, _)| outcome)
    }

    /// Runs `return_path` on a frame that came in on the gate.
    pub fn return_path(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_and_count(Program::ReturnPath, Input::Frame(frame))
            .map(|(outcome, _)| outcome)
    }

    /// Runs dispatch; gives the reason and the cookie of the socket that it assigned, or 0.
    pub fn dispatch(&mut self, lookup: Lookup) -> Result<(Reason, u64)> {
        let (outcome, cookie) = self.run_and_count(Program::Dispatch, Input::Lookup(lookup))?;
        // Dispatch never refuses a lookup: what it does not assign goes on as without it.
        if outcome.action != SK_PASS {
            bail!("dispatch returned {}", outcome.action);
        }
        Ok((outcome.reason, cookie))
    }

    /// Instructions that the kernel's verifier has walked through in each program (kernel 5.16+).
    pub fn verified_instructions(&mut self) -> Result<Vec<(Program, u32)>> {
        let object = &mut self.object;
        let infos = [
            (Program::Guard, object.guard()?.info()?),
            (Program::Steer, object.steer()?.info()?),
            (Program::ReturnPath, object.return_path()?.info()?),
            (Program::Dispatch, object.dispatch()?.info()?),
        ];
        let counts = infos.map(|(program, info)| (program, info.verified_instruction_count()));
        let counts = counts.into_iter().map(|(program, count)| {
            let count = count.with_context(|| format!("no count for {}", program.name()))?;
            Ok((program, count))
        });
        counts.collect()
    }

    /// Runs a program once and looks which counter it moved.
    fn run_and_count(&mut self, program: Program, input: Input<'_>) -> Result<(Outcome, u64)> {
        let before = self.maps.counters()?;
        let ran = self.run(program, input, 1)?;
        let after = self.maps.counters()?;
        let moved: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .collect();
        let [(&(at, reason, before), &(_, _, after))] = moved[..] else {
            bail!("{} moved not one counter but {moved:?}", program.name());
        };
        if at != program || after != before + 1 {
            bail!(
                "{} moved {at:?} {reason:?} from {before} to {after}",
                program.name()
            );
        }
        Ok((
            Outcome {
                action: ran.action,
                reason,
                packet: ran.packet,
            },
            ran.cookie,
        ))
    }

    /// Runs a program, in the namespace.
    fn run(&mut self, program: Program, input: Input<'_>, repeat: u32) -> Result<Ran> {
        let Self {
            host,
            object,
            uplink,
            gate,
            ..
        } = self;
        let mut run = || match (program, input) {
            (Program::Guard, Input::Frame(frame)) => run(object.guard()?, frame, None, repeat),
            (Program::Steer, Input::Frame(frame)) => {
                run(object.steer()?, frame, Some(&context(*uplink)), repeat)
            }
            (Program::ReturnPath, Input::Frame(frame)) => {
                run(object.return_path()?, frame, Some(&context(*gate)), repeat)
            }
            (Program::Dispatch, Input::Lookup(lookup)) => {
                Ok(lookup.run(object.dispatch()?.fd()?, repeat)?)
            }
            (program, input) => bail!("{} does not take {input:?}", program.name()),
        };
        host.run(|| {
            // What programs remember, each CPU remembers for itself.
            let mut first = CpuSet::new();
            first.set(0);
            sched_setaffinity(None, &first)?;
            run()
        })?
    }
}

/// What a program judges.
#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Frame(&'a [u8]),
    Lookup(Lookup),
}

/// What one or many runs of a program gave.
struct Ran {
    action: u32,
    /// The packet as it left it; a lookup has none.
    packet: Vec<u8>,
    /// The socket that was assigned, or 0.
    cookie: u64,
    /// For each run.
    nanoseconds: u64,
}

/// Runs an XDP or TC program.
fn run<P>(program: &P, frame: &[u8], context: Option<&[u8]>, repeat: u32) -> Result<Ran>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut packet = vec![0; FRAME_BYTES_MAX];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut packet),
        ctx_in: context,
        repeat,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options)?;
    packet.truncate(usize::try_from(result.data_size_out)?);
    let nanoseconds = u64::try_from(result.duration.as_nanos())?;
    Ok(Ran {
        action: result.return_value,
        packet,
        cookie: 0,
        nanoseconds,
    })
}

/// A `struct __sk_buff` of a packet that came in on a device; the kernel wants all other fields
/// that it can't simulate to be 0.
fn context(ifindex: u32) -> [u8; SK_BUFF_BYTES] {
    let mut context = [0; SK_BUFF_BYTES];
    for at in [SK_BUFF_INGRESS_IFINDEX, SK_BUFF_IFINDEX] {
        context[at..at + 4].copy_from_slice(&ifindex.to_ne_bytes());
    }
    context
}

/// Lays devices and routes: clients are behind the uplink, a part of the world is behind a device
/// that is not steered, and the rest is unreachable.
fn wire(host: &Host, ingress: &Host) -> Result<()> {
    host.ip(&format!("netns set {} {INGRESS_NETNS}", ingress.name()))?;
    let mac = NODE_MAC.map(|byte| format!("{byte:02x}")).join(":");
    for (device, peer, peer_host) in [
        ("uplink", "lan", host),
        ("gate", "inner", ingress),
        ("other", "far", host),
    ] {
        let netns = peer_host.name();
        host.ip(&format!(
            "link add {device} address {mac} type veth peer name {peer} netns {netns}"
        ))?;
        host.ip(&format!("link set {device} up"))?;
        peer_host.ip(&format!("link set {peer} up"))?;
    }
    host.ip(&format!("addr add {NODE_V4}/24 dev uplink"))?;
    host.ip(&format!("addr add {NODE_V6}/64 dev uplink nodad"))?;
    host.ip(&format!("route add {CLIENT_V4}/32 via 192.0.2.254"))?;
    host.ip(&format!("-6 route add {CLIENT_V6}/128 via 2001:db8::fe"))?;
    host.ip(&format!("route add {OTHER_V4}/32 dev other"))?;
    host.ip(&format!("-6 route add {OTHER_V6}/128 dev other"))?;
    host.sysctl("net/ipv4/ip_forward", "1")?;
    host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // The node's addresses are those of the ingress netns too, and its way out is the gate.
    ingress.ip(&format!("addr add {NODE_V4}/32 dev lo"))?;
    ingress.ip(&format!("addr add {NODE_V6}/128 dev lo nodad"))?;
    ingress.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    ingress.sysctl("net/ipv4/conf/inner/rp_filter", "0")?;
    for (family, next_hop) in [("-4", "169.254.1.1"), ("-6", "fe80::1")] {
        ingress.ip(&format!(
            "{family} neigh add {next_hop} lladdr {mac} dev inner"
        ))?;
        ingress.ip(&format!(
            "{family} route add default via {next_hop} dev inner onlink"
        ))?;
    }
    Ok(())
}

fn ifindex(host: &Host, device: &str) -> Result<u32> {
    let text = host.sh(&format!("ip -o link show dev {device}"))?;
    let index = text.split(':').next().context("`ip` printed nothing")?;
    Ok(index.trim().parse()?)
}

/// A directory in bpffs.
#[derive(Debug)]
struct Pins(PathBuf);

impl Pins {
    fn create(name: &str) -> Result<Self> {
        let path = host::bpffs_directory(name);
        open_bpf_file_system(&path)
            .with_context(|| format!("failed to make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The node, on the uplink.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The node, on the uplink.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// A client behind the uplink.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// A client behind the uplink.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
/// Somebody behind a device that is not steered.
pub const OTHER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Somebody behind a device that is not steered.
pub const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 9);
/// Somebody whom no route reaches.
pub const NOWHERE_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Somebody whom no route reaches.
pub const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// Port of the TCP frontends.
pub const TCP_PORT: u16 = 443;
/// Port of the UDP frontends.
pub const UDP_PORT: u16 = 5353;
/// Key of the hashes of programs, which no client knows.
pub const HASH_KEY: [u32; 2] = [1, 2];
/// Id of the ingress netns, as seen from the host's.
const INGRESS_NETNS: u32 = 1;
/// Listener group of [`TCP_PORT`].
pub const TCP_GROUP: u32 = 0;
/// Listener group of [`UDP_PORT`].
pub const UDP_GROUP: u32 = 1;
/// First port of upstream connections.
pub const UPSTREAM_PORT_MIN: u16 = 20_000;
/// Last port of upstream connections.
pub const UPSTREAM_PORT_MAX: u16 = 29_999;

/// `linux/bpf.h`: XDP.
pub const XDP_DROP: u32 = 1;
/// `linux/bpf.h`: XDP.
pub const XDP_PASS: u32 = 2;
/// `linux/pkt_cls.h`: the next program decides; of the same value as `TCX_NEXT`.
pub const TC_ACT_UNSPEC: u32 = u32::MAX;
/// `linux/pkt_cls.h`.
pub const TC_ACT_SHOT: u32 = 2;
/// `linux/pkt_cls.h`.
pub const TC_ACT_REDIRECT: u32 = 7;

/// `enum sk_action`.
const SK_PASS: u32 = 1;

/// More than a test run takes: a page less head and tail room.
const FRAME_BYTES_MAX: usize = 4096;
/// Bytes of a packet that a failed test prints.
const SHOWN_BYTES_MAX: usize = 128;
const SK_BUFF_BYTES: usize = 192;
const SK_BUFF_INGRESS_IFINDEX: usize = 36;
const SK_BUFF_IFINDEX: usize = 40;

//! What this machine offers: kernel, capabilities, bpffs, ports; told on one screen.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use serde::Serialize;

use super::gate::PortRange;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub subject: &'static str,
    /// Whether it is as needed.
    pub state: State,
    /// What was found, and for what is missing what helps.
    pub detail: String,
}

/// How a finding bears on the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As needed.
    Ok,
    /// The datapath works without it, by other means.
    Reduced,
    /// The netns datapath can't work without it.
    Missing,
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of the screen.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Looks at this machine; bpffs is mounted at `/sys/fs/bpf` where it is not yet.
    pub fn of_this_machine(bpffs: &Path, ports: PortRange) -> Self {
        let kernel = kernel(&rustix::system::uname().release().to_string_lossy());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = capabilities(&status);
        // Who can't load a program has no business in bpffs, which anybody may be able to write.
        let bpf_file_system = match capabilities.state {
            State::Ok | State::Reduced => bpf_file_system(bpffs),
            State::Missing => Finding {
                subject: "bpffs",
                state: State::Missing,
                detail: "not looked at without the capabilities".into(),
            },
        };
        let findings = vec![
            kernel,
            capabilities,
            bpf_file_system,
            local_ports(
                &fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default(),
                ports,
            ),
        ];
        Self { findings }
    }

    /// The first thing without which the netns datapath can't work.
    pub fn obstacle(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.state == State::Missing)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => "ok     ",
                State::Reduced => "reduced",
                State::Missing => "missing",
            };
            writeln!(f, "  {mark}  {:<14} {}", finding.subject, finding.detail)?;
        }
        Ok(())
    }
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    let (state, detail) = if version < KERNEL_MIN {
        let (major, minor) = KERNEL_MIN;
        (
            State::Missing,
            format!("Linux {release}, {major}.{minor} or newer is needed"),
        )
    } else if version < KERNEL_TCX {
        (
            State::Reduced,
            format!("Linux {release}, no TCX before 6.6: clsact is used"),
        )
    } else {
        (State::Ok, format!("Linux {release}"))
    };
    Finding {
        subject: "kernel",
        state,
        detail,
    }
}

fn capabilities(status: &str) -> Finding {
    let subject = "capabilities";
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Finding {
            subject,
            state: State::Ok,
            detail: "all that are needed".into(),
        }
    } else {
        let detail = format!("{} missing: run as root or grant them", missing.join(", "));
        Finding {
            subject,
            state: State::Missing,
            detail,
        }
    }
}

fn bpf_file_system(directory: &Path) -> Finding {
    let subject = "bpffs";
    match open_bpf_file_system(directory) {
        Ok(()) => Finding {
            subject,
            state: State::Ok,
            detail: format!("{}", directory.display()),
        },
        Err(error) => {
            let detail = format!("`{}` can't be used: {error}", directory.display());
            Finding {
                subject,
                state: State::Missing,
                detail,
            }
        }
    }
}

/// Makes a directory for pins. Mounts the BPF file system at `/sys/fs/bpf` first if it is not mounted.
///
/// # Errors
///
/// An I/O error if the kernel refuses, or if the directory is in another file system.
pub fn open_bpf_file_system(directory: &Path) -> io::Result<()> {
    if !is_bpf(Path::new(BPFFS)) && directory.starts_with(BPFFS) {
        mount("bpf", BPFFS, "bpf", MountFlags::empty(), Some(c"mode=700"))?;
    }
    fs::create_dir_all(directory)?;
    if is_bpf(directory) {
        Ok(())
    } else {
        Err(io::Error::other("no BPF file system there"))
    }
}

fn is_bpf(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == BPF_FS_MAGIC)
}

fn local_ports(host_range: &str, ports: PortRange) -> Finding {
    let subject = "upstream ports";
    let mut bounds = host_range.split_whitespace().map(str::parse::<u16>);
    let overlaps = match (bounds.next(), bounds.next()) {
        (Some(Ok(min)), Some(Ok(max))) => min <= ports.max && ports.min <= max,
        _ => false,
    };
    let PortRange { min, max } = ports;
    if overlaps {
        let detail = format!(
            "{min}-{max} overlap the host's ip_local_port_range ({}): choose others by \
             --upstream-ports",
            host_range.trim().replace('\t', "-"),
        );
        Finding {
            subject,
            state: State::Missing,
            detail,
        }
    } else {
        Finding {
            subject,
            state: State::Ok,
            detail: format!("{min}-{max}"),
        }
    }
}

/// `bpf_xdp_load_bytes` is the newest helper that the programs call.
const KERNEL_MIN: (u32, u32) = (5, 18);
const KERNEL_TCX: (u32, u32) = (6, 6);
/// `linux/capability.h`. Moving between namespaces and mounting their names is `SYS_ADMIN`.
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "NET_ADMIN"),
    (21, "SYS_ADMIN"),
    (38, "PERFMON"),
    (39, "BPF"),
];
const BPFFS: &str = "/sys/fs/bpf";
/// `linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named_with_what_is_needed() {
        let finding = kernel("5.4.0-42-generic");
        assert_eq!(finding.state, State::Missing);
        assert!(finding.detail.contains("5.18"), "{}", finding.detail);
    }

    #[test]
    fn a_kernel_without_tcx_is_reduced() {
        assert_eq!(kernel("6.1.0-13-amd64").state, State::Reduced);
        assert_eq!(kernel("6.6.1").state, State::Ok);
    }

    #[test]
    fn missing_capabilities_are_named() {
        let finding = capabilities("Name:\tx\nCapEff:\t0000000000001000\n");
        assert_eq!(finding.state, State::Missing);
        assert_eq!(
            finding.detail,
            "SYS_ADMIN, PERFMON, BPF missing: run as root or grant them"
        );
        assert_eq!(capabilities("CapEff:\t000001ffffffffff\n").state, State::Ok);
    }

    #[test]
    fn ports_of_the_host_are_refused() {
        let ports = PortRange {
            min: 61_000,
            max: 65_535,
        };
        assert_eq!(local_ports("32768\t60999\n", ports).state, State::Ok);
        assert_eq!(local_ports("1024\t65535\n", ports).state, State::Missing);
    }
}

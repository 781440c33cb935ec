//! Programs of others on the devices that Sluice works on: each counts the packets that reach it
//! and leaves them to whoever comes next.
//!
//! They are a few instructions, loaded by bpf(2) without a compiler. Dropping one detaches it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::{self, Host};

/// A program that counts.
#[derive(Debug)]
pub struct Neighbour {
    cell: OwnedFd,
    _held: Held,
}

/// What keeps it attached.
#[derive(Debug)]
enum Held {
    Link(#[expect(dead_code, reason = "held for its drop")] OwnedFd),
    /// The filter goes with its device, the pin with the rig.
    Filter,
}

impl Neighbour {
    /// A TCX program on the ingress of a device, behind those that are there.
    pub fn tcx(host: &Host, device: &str) -> Result<Self> {
        Self::linked(host, device, Kind::Classifier, TCX_INGRESS)
    }

    /// An XDP program on a device.
    pub fn xdp(host: &Host, device: &str) -> Result<Self> {
        Self::linked(host, device, Kind::Xdp, XDP)
    }

    /// A filter of the clsact qdisc on the ingress of a device, behind those that are there; the
    /// program is pinned for a rig of this prefix.
    pub fn clsact(host: &Host, device: &str, prefix: &str) -> Result<Self> {
        let cell = make_cell()?;
        let program = load(Kind::Classifier, &cell)?;
        let directory = host::bpffs_directory(prefix);
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("neighbour-{device}"));
        pin(&program, &path)?;
        // Somebody may have made the qdisc already.
        let _ = host.sh(&format!("tc qdisc add dev {device} clsact"));
        host.sh(&format!(
            "tc filter add dev {device} ingress prio 2 bpf direct-action object-pinned {}",
            path.display()
        ))?;
        Ok(Self {
            cell,
            _held: Held::Filter,
        })
    }

    /// Packets that have reached it.
    pub fn packets(&self) -> Result<u64> {
        let (key, mut value) = (0_u32, 0_u64);
        let mut element = MapElement {
            map: self.cell.as_raw_fd(),
            _padding: 0,
            key: (&raw const key) as u64,
            value: (&raw mut value) as u64,
            flags: 0,
        };
        bpf(MAP_LOOKUP_ELEM, &mut element).context("failed to read the counter")?;
        Ok(value)
    }

    fn linked(host: &Host, device: &str, kind: Kind, attach: u32) -> Result<Self> {
        let cell = make_cell()?;
        let program = load(kind, &cell)?;
        let name = CString::new(device)?;
        let link = host.run(|| {
            // SAFETY: the name is a C string for as long as the call lasts.
            let device = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let mut link = LinkCreate {
                program: program.as_raw_fd(),
                device,
                attach,
                flags: 0,
            };
            bpf_fd(LINK_CREATE, &mut link)
        })?;
        let link = link.with_context(|| format!("failed to attach to `{device}`"))?;
        Ok(Self {
            cell,
            _held: Held::Link(link),
        })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Classifier,
    Xdp,
}

impl Kind {
    fn program_type(self) -> u32 {
        match self {
            Self::Classifier => 3,
            Self::Xdp => 6,
        }
    }

    fn attach_type(self) -> u32 {
        match self {
            Self::Classifier => 0,
            Self::Xdp => XDP,
        }
    }

    /// `TC_ACT_UNSPEC`, `XDP_PASS`.
    fn verdict(self) -> i32 {
        match self {
            Self::Classifier => -1,
            Self::Xdp => 2,
        }
    }
}

/// An array map of one 64-bit value.
fn make_cell() -> Result<OwnedFd> {
    let mut map = MapCreate {
        kind: 2,
        key_bytes: 4,
        value_bytes: 8,
        entries_max: 1,
    };
    bpf_fd(MAP_CREATE, &mut map).context("failed to make the counter")
}

/// Loads `if (cell) *cell += 1; return verdict`.
fn load(kind: Kind, cell: &OwnedFd) -> Result<OwnedFd> {
    let instructions = [
        // *(u32 *)(r10 - 4) = 0; r2 = r10 - 4
        instruction(0x62, 10, 0, -4, 0),
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -4),
        // r1 = the map, in two parts; r0 = bpf_map_lookup_elem(r1, r2)
        instruction(0x18, 1, 1, 0, cell.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(0x85, 0, 0, 0, 1),
        // if r0 == 0 skip 2; r1 = 1; lock *(u64 *)r0 += r1
        instruction(0x15, 0, 0, 2, 0),
        instruction(0xb7, 1, 0, 0, 1),
        instruction(0xdb, 0, 1, 0, 0),
        // return the verdict
        instruction(0xb7, 0, 0, 0, kind.verdict()),
        instruction(0x95, 0, 0, 0, 0),
    ];
    let mut program = ProgramLoad {
        kind: kind.program_type(),
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 4],
        kernel_version: 0,
        flags: 0,
        name: *b"neighbour\0\0\0\0\0\0\0",
        device: 0,
        attach: kind.attach_type(),
    };
    bpf_fd(PROG_LOAD, &mut program).context("failed to load the program")
}

fn pin(program: &OwnedFd, path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut object = ObjectPin {
        path: text.as_ptr() as u64,
        descriptor: program.as_raw_fd(),
        flags: 0,
    };
    bpf(OBJ_PIN, &mut object).with_context(|| format!("failed to pin {}", path.display()))?;
    Ok(())
}

/// One instruction (`struct bpf_insn`).
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    u64::from_le_bytes([code, destination | source << 4, o0, o1, i0, i1, i2, i3])
}

fn bpf_fd<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attributes are a member of `union bpf_attr` of the size that is told, all of it
    // initialised, and what they point to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

/// `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
struct MapElement {
    map: RawFd,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    /// Level, size and address.
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

/// `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjectPin {
    path: u64,
    descriptor: RawFd,
    flags: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    device: u32,
    attach: u32,
    flags: u32,
}

// `linux/bpf.h`, `enum bpf_cmd` and `enum bpf_attach_type`.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const LINK_CREATE: libc::c_int = 28;
const XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;

//! `bpf(2)`, for what aya does not do: links of netkit devices, and maps without an object file.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Attaches a program to what the other end of netkit device `primary` (ifindex) sends.
///
/// # Errors
///
/// The kernel's error: `EINVAL` where it has no netkit, `ENXIO` where the device is another one.
pub(super) fn create_netkit_link(program: BorrowedFd<'_>, primary: u32) -> io::Result<OwnedFd> {
    let link = LinkCreate {
        program: number(program),
        device: primary,
        kind: NETKIT_PEER,
        flags: 0,
        relative_to: 0,
        reserved: 0,
        revision: 0,
    };
    bpf(LINK_CREATE, &link).map(owned)
}

/// Gives a link that is pinned at `path` another program.
///
/// # Errors
///
/// The kernel's error: `ENOENT` where there is no pin.
pub(super) fn update_link(program: BorrowedFd<'_>, path: &CString) -> io::Result<()> {
    let found = Object {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    let link = bpf(OBJ_GET, &found).map(owned)?;
    let update = LinkUpdate {
        link: number(link.as_fd()),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &update).map(drop)
}

/// Makes a map of one value, `bytes` long, by index 0.
///
/// # Errors
///
/// The kernel's error.
pub(super) fn create_value(bytes: u32) -> io::Result<OwnedFd> {
    let map = MapCreate {
        kind: ARRAY,
        key_bytes: 4,
        value_bytes: bytes,
        entries: 1,
        flags: 0,
        reserved: 0,
    };
    bpf(MAP_CREATE, &map).map(owned)
}

/// Pins a map or link at `path`.
///
/// # Errors
///
/// The kernel's error: `EEXIST` where there is a pin already.
pub(super) fn pin(descriptor: BorrowedFd<'_>, path: &CString) -> io::Result<()> {
    let pinned = Object {
        path: path.as_ptr() as u64,
        descriptor: number(descriptor),
        flags: 0,
    };
    bpf(OBJ_PIN, &pinned).map(drop)
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just opened it for us alone: only commands that give a descriptor get here.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// `bpf(2)`; the result is a descriptor or 0.
fn bpf<T: Attributes>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the attributes are those of the command, of the size that is told, without padding, and
    // what they point to lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    match RawFd::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => Ok(descriptor),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Parts of `union bpf_attr` (`linux/bpf.h`).
trait Attributes {}

/// Of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Of `BPF_LINK_CREATE`, with the part for netkit.
#[repr(C)]
struct LinkCreate {
    program: u32,
    device: u32,
    kind: u32,
    flags: u32,
    relative_to: u32,
    reserved: u32,
    revision: u64,
}

/// Of `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Of `BPF_MAP_CREATE`, the first fields.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
    reserved: u32,
}

impl Attributes for Object {}
impl Attributes for LinkCreate {}
impl Attributes for LinkUpdate {}
impl Attributes for MapCreate {}

/// `enum bpf_cmd`.
const MAP_CREATE: libc::c_int = 0;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
/// `enum bpf_attach_type`: what the other end sends.
const NETKIT_PEER: u32 = 55;
/// `enum bpf_map_type`.
const ARRAY: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Object>(), 16);
        assert_eq!(size_of::<LinkCreate>(), 32);
        assert_eq!(std::mem::offset_of!(LinkCreate, revision), 24);
        assert_eq!(size_of::<LinkUpdate>(), 16);
        assert_eq!(size_of::<MapCreate>(), 24);
    }

    #[test]
    fn kernels_refusal_is_an_error() {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        assert!(create_netkit_link(nothing.as_fd(), 0).is_err());
        assert!(pin(nothing.as_fd(), &c"/dev/null/pin".to_owned()).is_err());
        assert!(create_value(0).is_err());
    }
}

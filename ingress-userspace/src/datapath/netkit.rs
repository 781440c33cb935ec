//! Attaches a program to the inner device of a netkit pair (kernel 6.7+): it runs while the ingress netns
//! sends, where a veth pair has the packet wait for a softirq first. aya has no attachment of this kind,
//! so the system calls are made here.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::programs::links::PinnedLink;

/// Attaches a program to what the other end of device `primary` (ifindex) sends, by a link that is pinned
/// at `pin`. If there is a link already, it gets the program.
///
/// # Errors
///
/// The kernel's error: `EINVAL` where it has no netkit, `ENXIO` where the device is another one.
pub(super) fn attach(program: BorrowedFd<'_>, primary: u32, pin: &Path) -> io::Result<PinnedLink> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    if replace(program, &path).is_err() {
        let _ = fs::remove_file(pin);
        let link = create(program, primary)?;
        bpf(
            OBJ_PIN,
            &Object {
                path: path.as_ptr() as u64,
                descriptor: number(link.as_fd()),
                flags: 0,
            },
        )?;
    }
    PinnedLink::from_pin(pin).map_err(io::Error::other)
}

/// Gives the link that is pinned at `path` another program.
fn replace(program: BorrowedFd<'_>, path: &CString) -> io::Result<()> {
    let link = bpf(
        OBJ_GET,
        &Object {
            path: path.as_ptr() as u64,
            descriptor: 0,
            flags: 0,
        },
    )?;
    // SAFETY: the kernel has just opened it for us alone.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let update = LinkUpdate {
        link: number(link.as_fd()),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &update).map(drop)
}

fn create(program: BorrowedFd<'_>, primary: u32) -> io::Result<OwnedFd> {
    let link = bpf(
        LINK_CREATE,
        &LinkCreate {
            program: number(program),
            device: primary,
            kind: NETKIT_PEER,
            flags: 0,
            relative_to: 0,
            reserved: 0,
            revision: 0,
        },
    )?;
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
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

impl Attributes for Object {}
impl Attributes for LinkCreate {}
impl Attributes for LinkUpdate {}

/// `enum bpf_cmd`.
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
/// `enum bpf_attach_type`: what the other end sends.
const NETKIT_PEER: u32 = 55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Object>(), 16);
        assert_eq!(size_of::<LinkCreate>(), 32);
        assert_eq!(std::mem::offset_of!(LinkCreate, revision), 24);
        assert_eq!(size_of::<LinkUpdate>(), 16);
    }

    #[test]
    fn kernels_refusal_is_an_error() {
        let nothing = fs::File::open("/dev/null").unwrap();
        assert!(attach(nothing.as_fd(), 0, Path::new("/dev/null/link")).is_err());
    }
}

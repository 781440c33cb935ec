//! Attaches a program to the inner device of a netkit pair (kernel 6.7+): it runs while the ingress netns
//! sends, where a veth pair has the packet wait for a softirq first. aya has no attachment of this kind.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::programs::links::PinnedLink;

use super::bpf;

/// Attaches a program to what the other end of device `primary` (ifindex) sends, by a link that is pinned
/// at `pin`. If there is a link already, it gets the program.
///
/// # Errors
///
/// The kernel's error: `EINVAL` where it has no netkit, `ENXIO` where the device is another one.
pub(super) fn attach(program: BorrowedFd<'_>, primary: u32, pin: &Path) -> io::Result<PinnedLink> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    if bpf::update_link(program, &path).is_err() {
        let _ = fs::remove_file(pin);
        let link = bpf::create_netkit_link(program, primary)?;
        bpf::pin(link.as_fd(), &path)?;
    }
    PinnedLink::from_pin(pin).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_refusal_is_an_error() {
        let nothing = fs::File::open("/dev/null").unwrap();
        assert!(attach(nothing.as_fd(), 0, Path::new("/dev/null/link")).is_err());
    }
}

//! How the kernel gives turns to threads that have little to do and should do it at once.
//!
//! Workers may take all that a core has. Whoever brings a change to them, or answers a probe, then
//! waits until their turn is over, which is milliseconds, although it needs a fraction of one. Asking
//! for short turns brings the next one forward and changes nobody's share (EEVDF; Linux 6.12,
//! `sched_setattr(2)`). No privilege is needed; older kernels take no notice.

use std::io;

/// Has the calling thread scheduled in short turns. Threads that it starts are not.
pub fn take_short_turns() -> io::Result<()> {
    let mut attributes = attributes()?;
    attributes.sched_flags |= u64::from(libc::SCHED_FLAG_RESET_ON_FORK.cast_unsigned());
    attributes.sched_runtime = TURN_NANOSECONDS;
    // SAFETY: zero is the calling thread, and the kernel reads as many bytes as the structure says
    // that it has, which are all there.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0,
            std::ptr::from_ref(&attributes),
            0,
        )
    };
    check(outcome)
}

/// How the calling thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
    let mut attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: zero is the calling thread, and the kernel writes at most `SIZE` bytes, which is how
    // large the structure is. Any bytes are good for it: it has integers only.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            0,
            std::ptr::from_mut(&mut attributes),
            SIZE,
            0,
        )
    };
    check(outcome)?;
    Ok(attributes)
}

fn check(outcome: libc::c_long) -> io::Result<()> {
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `SCHED_ATTR_SIZE_VER0` of the kernel.
const SIZE: u32 = 48;
const _: () = assert!(size_of::<libc::sched_attr>() == SIZE as usize);

/// As short as the kernel lets a turn be.
const TURN_NANOSECONDS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn turns_of_this_thread_get_short_and_those_of_its_children_do_not() {
        let before = attributes().unwrap();
        take_short_turns().unwrap();
        let after = attributes().unwrap();
        let child = thread::spawn(attributes).join().unwrap().unwrap();
        for now in [&after, &child] {
            assert_eq!(now.sched_policy, before.sched_policy);
            assert_eq!(now.sched_nice, before.sched_nice);
        }
        // Zero where the kernel knows nothing of it.
        if before.sched_runtime > 0 {
            assert_eq!(after.sched_runtime, TURN_NANOSECONDS);
            assert_eq!(child.sched_runtime, before.sched_runtime);
        }
    }
}

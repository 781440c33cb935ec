//! The system calls that no thread of the daemon makes once its helper process has been started, and
//! that would help whoever runs code in it.

use super::filter::{
    FIRST_ARGUMENT_AT, allow, fail, load, number, prologue, skip_unless, skip_without,
};

/// Refuses [`CALLS`] and new namespaces, allows everything else.
pub(super) fn program() -> Vec<libc::sock_filter> {
    let mut program = prologue();
    for call in CALLS {
        program.extend([skip_unless(number(*call), 1), fail(libc::EPERM)]);
    }
    program.extend([
        skip_unless(number(libc::SYS_clone), 3),
        load(FIRST_ARGUMENT_AT),
        skip_without(NAMESPACES, 1),
        fail(libc::EPERM),
        allow(),
    ]);
    program
}

/// The `CLONE_NEW*` flags of clone(2).
const NAMESPACES: u32 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS)
    .cast_unsigned();

const CALLS: &[libc::c_long] = &[
    // Programs and tracing.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    // A way around the permissions of directories.
    libc::SYS_open_by_handle_at,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    // Parts of the kernel with a history of faults.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

//! The programs' own words: rare events that they write to a ring buffer, brought into the log.
//!
//! The hot path counts and does not log; a program speaks about the first event of a kind and
//! then about every thousandth.

use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::object::Object;

/// Reads the ring buffer on the current runtime, until the runtime ends.
///
/// A kernel or an object without the ring buffer costs only the words.
pub(super) fn follow(object: &mut Object) {
    let logger = match EbpfLogger::init(object.ebpf_mut()) {
        Ok(logger) => logger,
        Err(error) => {
            debug!(%error, "the programs can't be heard");
            return;
        }
    };
    // SAFETY: the logger owns the descriptor of its ring buffer, never changes or closes it while
    // it lives, and lives inside the registration.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let Ok(mut logger) = registered else {
        debug!("the programs' ring buffer can't be polled");
        return;
    };
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
}

//! The daemon as it is run: `sluice run` on ordinary sockets, asked over the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod daemon;
mod ending;
mod exhausted;
mod flags;
#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "../proxy/frames.rs"]
mod frames;
mod probes;
mod rig {
    //! What `frames` shares with the tests of the proxy.

    pub(crate) use crate::daemon::PATIENCE;
}
mod services;
mod stalled;

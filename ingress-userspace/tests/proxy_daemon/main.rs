//! The daemon as it is run: `sluice run` on ordinary sockets, asked over the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod change;
mod daemon;
mod ending;
mod exhausted;
mod flags;
mod listing;
mod logging;
mod memory;
mod privileges;
mod probes;
mod services;
mod stalled;

use proxy_rig::frames;

//! The daemon as it is run: `sluice run` on ordinary sockets, asked over the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod change;
mod daemon;
mod dashboard;
mod ending;
mod exhausted;
mod explain;
mod flags;
mod listing;
mod logging;
mod memory;
mod privileges;
mod probes;
mod report;
mod services;
mod serving;
mod stalled;
mod tail;
mod top;
mod view;

use proxy_rig::frames;

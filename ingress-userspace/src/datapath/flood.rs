//! When the guard answers SYNs by cookies, in the place of the listeners: while more connections are
//! begun than a threshold says.
//!
//! Listeners take cookies back only while they give them themselves: `tcp_syncookies` of the ingress
//! netns is 2 for that time, and its timestamps are without their secret offset (`tcp_timestamps` is 2),
//! because the guard puts into them what the client has offered, and does not know the offset.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use ingress_common::verdict::{Program, Reason};
use tracing::{info, warn};

use super::netns::Namespace;
use super::{Datapath, DatapathError, io_error, sysctl};

/// How often [`super::Datapath::watch_flood`] is to be called.
pub const FLOOD_POLL: Duration = Duration::from_millis(250);

/// Counts new connections, and says when there are too many.
#[derive(Debug)]
pub(super) struct Flood {
    /// New connections a second from which on there is a flood; 0: never.
    threshold: u32,
    seen: Option<(Instant, u64)>,
    /// When there were too many last, while there is a flood.
    last: Option<Instant>,
    /// Whether the guard answers SYNs.
    is_answered: bool,
    /// When a change that failed may be tried again.
    retry_at: Option<Instant>,
}

impl Flood {
    /// There is none yet.
    pub(super) fn new(threshold: u32) -> Self {
        Self {
            threshold,
            seen: None,
            last: None,
            is_answered: false,
            retry_at: None,
        }
    }

    /// Whether the guard answers SYNs, because there is a flood.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Takes the number of connections that were ever begun. Returns whether the guard is to answer
    /// SYNs, if it does otherwise now.
    fn observe(&mut self, now: Instant, begun: u64) -> Option<bool> {
        let (before, begun_before) = self.seen.replace((now, begun))?;
        let elapsed = now.saturating_duration_since(before).as_secs_f64();
        let threshold = f64::from(self.threshold);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = begun.saturating_sub(begun_before) as f64 / elapsed.max(MIN_SECONDS);
        let was_on = self.last.is_some();
        if threshold > 0.0 && rate > if was_on { threshold / 2.0 } else { threshold } {
            self.last = Some(now);
        } else if (self.last).is_some_and(|last| now.saturating_duration_since(last) >= QUIET) {
            self.last = None;
        }
        let is_on = self.last.is_some();
        let may_change = self.retry_at.is_none_or(|at| now >= at);
        (is_on != self.is_answered && may_change).then_some(is_on)
    }

    /// The guard now does what [`Self::observe`] said, or could not be made to.
    fn conclude(&mut self, now: Instant, is_answered: bool, is_done: bool) {
        if is_done {
            self.is_answered = is_answered;
        }
        self.retry_at = (!is_done).then(|| now + RETRY);
    }
}

impl Datapath {
    /// Looks whether there is a flood of SYNs, and makes the guard answer them as long as there is. To
    /// be called each [`FLOOD_POLL`]. A change that fails is tried again every 5 seconds.
    pub fn watch_flood(&mut self) -> Result<(), DatapathError> {
        let reasons = [Reason::Opening, Reason::SynAnswered];
        let begun = self.maps.count(Program::Guard, &reasons);
        let now = Instant::now();
        let Some(is_on) = self.flood.observe(now, begun) else {
            return Ok(());
        };
        let changed = self.answer_syns(is_on);
        self.flood.conclude(now, is_on, changed.is_ok());
        changed
    }

    fn answer_syns(&mut self, answers: bool) -> Result<(), DatapathError> {
        if answers {
            let scale = window_scale(&self.ingress);
            let scale = scale.map_err(io_error("find the windows of the ingress netns"))?;
            take_cookies(&self.ingress, true)
                .map_err(io_error("have listeners take SYN cookies"))?;
            self.guarded.answer_syns(Some(scale))?;
            warn!(
                threshold = self.settings.flood_threshold,
                "there is a flood of SYNs: the guard answers them by cookies"
            );
        } else {
            self.guarded.answer_syns(None)?;
            take_cookies(&self.ingress, false).map_err(io_error("have listeners answer SYNs"))?;
            info!("the flood of SYNs is over");
        }
        Ok(())
    }
}

/// Has the listeners of the ingress netns take cookies, whoever made them; or only while they have
/// given some of their own.
fn take_cookies(ingress: &Namespace, takes: bool) -> io::Result<()> {
    ingress.run(|| {
        if takes {
            sysctl::set("ipv4/tcp_timestamps", "2")?;
            sysctl::set("ipv4/tcp_syncookies", "2")
        } else {
            // Cookies that are on their way were made with these timestamps.
            sysctl::set("ipv4/tcp_syncookies", "1")
        }
    })?
}

/// The shift of the windows that listeners in the ingress netns offer (RFC 7323 §2), as the kernel
/// chooses it there: of a connection over the loopback device.
fn window_scale(ingress: &Namespace) -> io::Result<u8> {
    ingress.run(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let _client = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
        let (accepted, _) = listener.accept()?;
        let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
        let mut length =
            libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes to `info`, which is as large, and the
        // descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                accepted.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all its fields are numbers, for which zeros are fine where the kernel knows fewer.
        let scales = unsafe { info.assume_init() }.tcpi_snd_rcv_wscale;
        // Two bit fields, the first of which is in the low bits on little-endian machines.
        Ok(if cfg!(target_endian = "little") {
            scales >> 4
        } else {
            scales & 0x0f
        })
    })?
}

/// Time without a flood after which it is over.
const QUIET: Duration = Duration::from_secs(10);
/// Time after a change that failed until it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Two looks that are closer than this say nothing about a second.
const MIN_SECONDS: f64 = 0.01;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes at each quarter of a second of so many connections each.
    fn changes(threshold: u32, begun: impl IntoIterator<Item = u64>) -> Vec<(usize, bool)> {
        let (start, mut flood, mut sum) = (Instant::now(), Flood::new(threshold), 0);
        let mut changes = Vec::new();
        for (turn, begun) in begun.into_iter().enumerate() {
            sum += begun;
            let now = start + FLOOD_POLL * u32::try_from(turn).unwrap();
            if let Some(is_on) = flood.observe(now, sum) {
                changes.push((turn, is_on));
                flood.conclude(now, is_on, true);
            }
        }
        changes
    }

    #[test]
    fn change_that_failed_is_tried_again_after_five_seconds() {
        let (start, mut flood) = (Instant::now(), Flood::new(1000));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(flood.observe(at(0), 0), None);
        assert_eq!(flood.observe(at(1), 2000), Some(true));
        flood.conclude(at(1), true, false);
        assert!(!flood.is_answered());
        assert_eq!(flood.observe(at(2), 4000), None);
        assert_eq!(flood.observe(at(6), 12_000), Some(true));
        flood.conclude(at(6), true, true);
        assert!(flood.is_answered());
        assert_eq!(flood.observe(at(7), 14_000), None);
    }

    #[test]
    fn flood_begins_above_the_threshold_and_ends_when_it_was_quiet_for_long() {
        let begun = [[200; 4].as_slice(), &[300; 4], &[100; 60]].concat();
        assert_eq!(changes(1000, begun), [(4, true), (47, false)]);
    }

    #[test]
    fn flood_goes_on_while_half_of_the_threshold_is_exceeded() {
        let begun = std::iter::once(0).chain([300]).chain([130; 200]);
        assert_eq!(changes(1000, begun), [(1, true)]);
        assert_eq!(changes(1000, [240; 200]), []);
    }

    #[test]
    fn threshold_of_zero_is_never_exceeded() {
        assert_eq!(changes(0, [1_000_000; 20]), []);
    }

    #[test]
    fn counters_that_start_anew_are_no_flood() {
        assert_eq!(changes(1000, [1_000_000, 0, 10]), []);
    }
}

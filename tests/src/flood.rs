//! A flood of SYNs from many sources that never go on: for the tests and benches of what answers it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::host::Host;
use crate::packet::{Packet, Tcp};
use crate::wire::FrameSender;

/// A flood that goes on until it is dropped, or for a minute.
#[derive(Debug)]
pub struct Flood {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
    start: Instant,
}

impl Flood {
    /// Sends SYNs to a port of `target`, out of a device of `host`, to the link-layer address `mac`;
    /// so many a second, or as many as there can be.
    pub fn start(
        host: &Host,
        (device, mac): (&str, [u8; 6]),
        (target, port): (IpAddr, u16),
        per_second: Option<u32>,
    ) -> Result<Self> {
        let frames = frames(mac, target, port);
        let (is_over, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (over, counter, device) = (Arc::clone(&is_over), Arc::clone(&sent), device.to_owned());
        let thread = host.spawn(move || -> io::Result<()> {
            let sender = FrameSender::open(&device)?;
            pour(&sender, &frames, per_second, &over, &counter)
        })?;
        let start = Instant::now();
        Ok(Self {
            is_over,
            sent,
            thread: Some(thread),
            start,
        })
    }

    /// SYNs a second that were sent so far.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let sent = self.sent.load(Ordering::Relaxed) as f64;
        sent / self.start.elapsed().as_secs_f64()
    }

    /// Ends it; gives how many SYNs were sent.
    pub fn stop(mut self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            outcome.map_err(|_| anyhow!("the thread of the flood has panicked"))??;
        }
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn pour(
    sender: &FrameSender,
    frames: &[Vec<u8>],
    per_second: Option<u32>,
    is_over: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<()> {
    let start = Instant::now();
    for batch in frames.chunks(BATCH).cycle() {
        if is_over.load(Ordering::Relaxed) || start.elapsed() > LONGEST {
            return Ok(());
        }
        for frame in batch {
            match sender.send(frame) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
                outcome => outcome?,
            }
        }
        let all = sent.fetch_add(batch.len() as u64, Ordering::Relaxed) + batch.len() as u64;
        if let Some(per_second) = per_second {
            let due = Duration::from_micros(all * 1_000_000 / u64::from(per_second));
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(())
}

/// SYNs of Linux clients behind a network that the rig routes to nobody.
fn frames(mac: [u8; 6], target: IpAddr, port: u16) -> Vec<Vec<u8>> {
    let syn = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let source: IpAddr = match target {
            IpAddr::V4(_) => Ipv4Addr::new(198, 18, high, low).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into(),
        };
        let tcp = Tcp {
            options: OPTIONS.to_vec(),
            ..Tcp::syn(1024 + number, port)
        };
        Packet::new(source, target, tcp).to_mac(mac).bytes()
    };
    (0..SOURCES).map(syn).collect()
}

/// MSS 1460, SACK, timestamp, NOP, window scale 7.
const OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];
const SOURCES: u16 = 16_384;
const BATCH: usize = 32;
const LONGEST: Duration = Duration::from_mins(1);

//! `sluice top`: which hosts, backends, endpoints or clients have most requests, errors and time, and
//! which devices most packets, live.
//!
//! `rates` makes numbers of a second out of what the daemon counts, `screen` is the state that keys
//! change and the text that it gives (both without I/O), and `terminal` is the terminal. Hosts and
//! backends are counted by the daemon; endpoints and clients are counted here, from the requests of
//! `sluice tail`. Packets of devices are counted by the kernel.

mod devices;
mod rates;
mod row;
mod screen;
mod terminal;

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::Request;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::devices::Counters;
use self::rates::{Counted, Key, Sample};
use self::row::Row;
use self::screen::{Outcome, Screen};
use self::terminal::Terminal;
use super::socket::{self, Lines};
use crate::admin::{TAIL, TRAFFIC_BACKENDS, TRAFFIC_HOSTS};
use crate::api::{TailEvent, Traffic};
use crate::settings::{Top, TopTable};

/// Shows the table until `q`. Where standard output is no terminal, prints it once, after a second.
///
/// # Errors
///
/// An error if the daemon cannot be reached at first, or the terminal cannot be set up.
pub async fn run(flags: &Top) -> Result<()> {
    let (sender, mut rates) = watch::channel(None);
    // The first sample tells whether there is a daemon.
    let source = Source::open(flags).await?;
    let sampling = tokio::spawn(source.run(sender));
    let mut screen = Screen::new(flags.table);
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        rates.changed().await.context("the daemon ended")?;
        screen.update(rates.borrow_and_update().clone());
        let text = screen.text(None);
        sampling.abort();
        io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    let terminal = Terminal::open()?;
    let mut keys = terminal::keys();
    let mut resized = signal(SignalKind::window_change())?;
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        terminal.show(&screen.text(Some(terminal.size())))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) if screen.keys(&key) == Outcome::Continue => {}
                Some(_) | None => break,
            },
            changed = rates.changed() => match changed {
                Ok(()) => screen.update(rates.borrow_and_update().clone()),
                Err(_) => break,
            },
            _ = resized.recv() => {}
            _ = ended.recv() => break,
        }
    }
    drop(terminal);
    sampling.abort();
    Ok(())
}

/// Where numbers come from.
enum Source {
    Counters {
        run_dir: PathBuf,
        path: &'static str,
        last: (Instant, Vec<Traffic>),
    },
    Requests(Key, mpsc::Receiver<TailEvent>),
    Devices {
        run_dir: PathBuf,
        last: (Instant, Counters),
    },
}

/// The content of the screen: rates, or the reason why there are none.
type Shown = Option<Result<Vec<Row>, String>>;

impl Source {
    async fn open(flags: &Top) -> Result<Self> {
        let run_dir = flags.run_dir.path();
        let path = match flags.table {
            TopTable::Hosts => TRAFFIC_HOSTS,
            TopTable::Backends => TRAFFIC_BACKENDS,
            TopTable::Endpoints => return Self::follow(flags, Key::Endpoint).await,
            TopTable::Clients => return Self::follow(flags, Key::Client).await,
            TopTable::Devices => {
                let last = (Instant::now(), devices::read(&run_dir).await?);
                return Ok(Self::Devices { run_dir, last });
            }
        };
        let last = (Instant::now(), fetch(&run_dir, path).await?);
        Ok(Self::Counters {
            run_dir,
            path,
            last,
        })
    }

    async fn follow(flags: &Top, key: Key) -> Result<Self> {
        Ok(Self::Requests(key, follow(flags).await?))
    }

    async fn run(self, shown: watch::Sender<Shown>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        match self {
            Self::Counters {
                run_dir,
                path,
                mut last,
            } => loop {
                ticks.tick().await;
                let outcome = match fetch(&run_dir, path).await {
                    Ok(traffic) => {
                        let now = (Instant::now(), traffic);
                        let sample = Sample {
                            before: &last.1,
                            after: &now.1,
                            elapsed: now.0.saturating_duration_since(last.0),
                        };
                        let rates = sample.rates();
                        last = now;
                        Ok(rates.into_iter().map(Row::from).collect())
                    }
                    // It may come back.
                    Err(error) => Err(format!("{error:#}")),
                };
                if shown.send(Some(outcome)).is_err() {
                    return;
                }
            },
            Self::Devices { run_dir, mut last } => loop {
                ticks.tick().await;
                let outcome = match devices::read(&run_dir).await {
                    Ok(counters) => {
                        let now = (Instant::now(), counters);
                        let elapsed = now.0.saturating_duration_since(last.0);
                        let rows = devices::rates(&last.1, &now.1, elapsed);
                        last = now;
                        Ok(rows)
                    }
                    Err(error) => Err(format!("{error:#}")),
                };
                if shown.send(Some(outcome)).is_err() {
                    return;
                }
            },
            Self::Requests(key, mut events) => {
                let mut counted = Counted::by(key);
                let mut begun = Instant::now();
                loop {
                    tokio::select! {
                        event = events.recv() => match event {
                            Some(event) => counted.add(event),
                            None => return,
                        },
                        _ = ticks.tick() => {
                            let elapsed = begun.elapsed();
                            begun = Instant::now();
                            let ended = std::mem::replace(&mut counted, Counted::by(key));
                            let rates = ended.rates(elapsed).into_iter();
                            let rows = rates.map(Row::from).collect();
                            if shown.send(Some(Ok(rows))).is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }
}

async fn fetch(run_dir: &std::path::Path, path: &str) -> Result<Vec<Traffic>> {
    let json = socket::fetch(run_dir, Request::get(path)).await?;
    serde_json::from_slice(&json).context("the daemon returned JSON of another version")
}

/// The requests of the daemon as they end.
async fn follow(flags: &Top) -> Result<mpsc::Receiver<TailEvent>> {
    let body = socket::open(&flags.run_dir.path(), Request::get(TAIL)).await?;
    let mut answer = Lines::of(body);
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        while let Ok(Some(lines)) = answer.next().await {
            for line in lines.split(|byte| *byte == b'\n') {
                if let Ok(event) = serde_json::from_slice(line)
                    && sender.send(event).await.is_err()
                {
                    return;
                }
            }
        }
    });
    Ok(events)
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Requests that wait to be counted.
const EVENTS_MAX: usize = 4096;

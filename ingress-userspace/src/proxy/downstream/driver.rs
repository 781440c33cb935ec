//! Drives one connection of a client: how long the client is silent, how long it takes no bytes,
//! and whether the worker is to end.
//!
//! The protocol has the connection; the driver polls it and looks after time only.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::proxy::request::connection::Connection;
use crate::proxy::runtime::timer::Alarm;

/// A connection that is served.
pub(crate) trait ConnectionDriver: Future<Output = Result<(), Self::Error>> + Unpin {
    /// Why it ends before its time.
    type Error;

    /// Whether a silent client is told before its connection is closed.
    const SAYS_GOODBYE: bool;

    /// Requests after which the client is told to make another connection.
    const REQUESTS_MAX: u64;

    /// Finishes what is in flight and nothing more.
    fn graceful_shutdown(&mut self);

    /// A while after [`graceful_shutdown`](Self::graceful_shutdown): requests that still begin are
    /// ignored, and the connection ends once it is idle.
    fn end_grace(&mut self) {}

    /// Whether it keeps buffers that an idle connection can do without.
    fn is_active(&self) -> bool {
        false
    }

    /// Releases those buffers, between two requests.
    fn release_buffers(&mut self) {}

    /// The future that the connection goes on as after HTTP, if there is one.
    fn into_next<'a>(
        self,
        outcome: &Result<(), Self::Error>,
        connection: &'a Rc<Connection>,
    ) -> Option<Next<'a>>;
}

/// What a connection goes on as.
pub(crate) type Next<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Drives a connection until it ends by itself, by the client's fault or by the worker's end.
pub(crate) async fn drive<C: ConnectionDriver>(mut served: C, connection: &Rc<Connection>) {
    let mut watch = Watch::new(connection);
    let outcome = std::future::poll_fn(|cx| watch.poll(&mut served, cx)).await;
    drop(watch);
    if let Some(outcome) = outcome
        && let Some(next) = served.into_next(&outcome, connection)
    {
        next.await;
    }
}

/// What the driver knows of a connection.
struct Watch<'a> {
    connection: &'a Rc<Connection>,
    alarm: Option<Alarm>,
    shutdown: Shutdown,
    was_in_flight: bool,
    was_active: bool,
    idle: Option<IdleGuard<'a>>,
}

/// How near a connection is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    None,
    /// The worker is to end. A request that the client sends in this time is still answered.
    Grace,
    /// The client is told with the next response, or by GOAWAY.
    Announced,
    /// New requests are ignored.
    Draining,
}

/// What the driver does next.
enum Step {
    /// It polls the connection again.
    Again,
    Wait,
    /// The client has to go.
    End,
}

impl<'a> Watch<'a> {
    fn new(connection: &'a Rc<Connection>) -> Self {
        Self {
            connection,
            alarm: None,
            shutdown: Shutdown::None,
            was_in_flight: false,
            was_active: false,
            idle: None,
        }
    }

    /// `None` if the client has to go, else how the protocol ended the connection.
    fn poll<C: ConnectionDriver>(
        &mut self,
        served: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<Option<C::Output>> {
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut *served).poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            let (worker, connection) = (&self.connection.worker, self.connection);
            let mut alarm = (self.alarm.take()).unwrap_or_else(|| {
                worker
                    .runtime
                    .timers
                    .alarm(connection.time_left(), cx.waker())
            });
            self.follow(served, &mut alarm);
            let step = self.step(served, &mut alarm);
            self.alarm = Some(alarm);
            match step {
                Step::Again => {}
                Step::Wait => return Poll::Pending,
                Step::End => return Poll::Ready(None),
            }
        }
    }

    /// Sets the alarm for what has changed since the last poll.
    fn follow<C: ConnectionDriver>(&mut self, served: &C, alarm: &mut Alarm) {
        let (worker, connection) = (&self.connection.worker, self.connection);
        if self.shutdown == Shutdown::None && worker.runtime.drain.has_begun() {
            self.shutdown = Shutdown::Grace;
            alarm.set(self.linger::<C>());
        }
        let is_active = served.is_active();
        if is_active && !self.was_active && self.shutdown == Shutdown::None {
            alarm.set(
                connection
                    .time_left()
                    .min(worker.runtime.timeouts.buffers_idle),
            );
            self.idle = None;
        }
        self.was_active = is_active;
        // Over HTTP/1.1 a client that takes nothing blocks the socket, over HTTP/2 it need not.
        let begins = C::SAYS_GOODBYE && connection.is_in_flight() && !self.was_in_flight;
        self.was_in_flight = connection.is_in_flight();
        let is_due = begins || connection.is_blocked();
        if is_due && !alarm.fired() && self.shutdown == Shutdown::None {
            // It may have been set when the client had all the time of an idle one.
            alarm.set(connection.time_left());
        }
    }

    /// How long a connection without a request outlives the beginning of its worker's end. Not all
    /// clients come back at once.
    fn linger<C: ConnectionDriver>(&self) -> Duration {
        if C::SAYS_GOODBYE {
            return LINGER;
        }
        let runtime = &self.connection.worker.runtime;
        let half = runtime.drain.idle_grace() / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(0).max(1);
        LINGER.max(half + Duration::from_millis(runtime.random() % spread))
    }

    fn step<C: ConnectionDriver>(&mut self, served: &mut C, alarm: &mut Alarm) -> Step {
        let connection = self.connection;
        let fired = alarm.fired();
        let is_over = fired && connection.time_left().is_zero();
        let is_to_announce = match self.shutdown {
            Shutdown::Grace => fired || connection.is_in_flight(),
            Shutdown::None => {
                (is_over && C::SAYS_GOODBYE) || connection.requests() >= C::REQUESTS_MAX
            }
            Shutdown::Announced | Shutdown::Draining => false,
        };
        if is_to_announce {
            self.shutdown = Shutdown::Announced;
            alarm.set(if C::SAYS_GOODBYE {
                GOODBYE_GRACE
            } else {
                connection.worker.runtime.timeouts.downstream_write
            });
            served.graceful_shutdown();
            return Step::Again;
        }
        if !fired {
            return Step::Wait;
        }
        match self.shutdown {
            Shutdown::Announced if C::SAYS_GOODBYE => {
                self.shutdown = Shutdown::Draining;
                alarm.set(connection.worker.runtime.timeouts.downstream_write);
                served.end_grace();
                Step::Again
            }
            Shutdown::None | Shutdown::Announced | Shutdown::Draining if is_over => Step::End,
            Shutdown::Grace | Shutdown::Announced | Shutdown::Draining => {
                alarm.set(connection.time_left());
                Step::Wait
            }
            Shutdown::None => self.release(served, alarm),
        }
    }

    /// Releases the buffers of a connection that has been idle for long enough.
    fn release<C: ConnectionDriver>(&mut self, served: &mut C, alarm: &mut Alarm) -> Step {
        let connection = self.connection;
        alarm.set(connection.time_left());
        if !self.was_active {
            return Step::Wait;
        }
        let left = connection.buffers_left();
        if !left.is_zero() {
            alarm.set(connection.time_left().min(left));
            return Step::Wait;
        }
        served.release_buffers();
        self.idle = Some(IdleGuard::new(connection));
        self.was_active = false;
        Step::Again
    }
}

/// Counts a connection that is idle and keeps no buffers.
struct IdleGuard<'a>(&'a Connection);

impl<'a> IdleGuard<'a> {
    fn new(connection: &'a Connection) -> Self {
        connection
            .counters()
            .connections_idle_unbuffered
            .increment();
        Self(connection)
    }
}

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.counters().connections_idle_unbuffered.decrement();
    }
}

/// How long a connection without a request outlives the beginning of its worker's end at least.
const LINGER: Duration = Duration::from_millis(50);

/// How long a client that was told to leave may not have heard of it.
pub(crate) const GOODBYE_GRACE: Duration = Duration::from_secs(1);

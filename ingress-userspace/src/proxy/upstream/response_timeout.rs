//! How long a request waits for an endpoint on whose connection nothing moves.

use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::timer::{Alarm, Timers};
use crate::proxy::runtime::upload::{Progress, Upload};
use crate::proxy::upstream::timeouts::EffectiveTimeouts;

/// How long a request waits for a connection on which nothing moves.
pub(crate) struct ResponseTimeout {
    timers: Rc<Timers>,
    limit: Duration,
    /// What counts in its place while the client still sends a body.
    sending: Option<(Rc<Upload>, Duration)>,
    /// When it is over whatever moves.
    deadline: Option<Instant>,
    /// Set when there is something to wait for.
    alarm: Option<Alarm>,
    /// After how long without a byte the endpoint is looked at next; never, once it has begun to
    /// answer.
    look: Duration,
}

/// How a wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    On,
    /// It took too long.
    Over,
    /// Nobody is there any more.
    Gone,
}

impl ResponseTimeout {
    /// For a request that has just come; `deadline` is what its client has said.
    pub(crate) fn new(
        timers: &Rc<Timers>,
        waits: &EffectiveTimeouts,
        deadline: Option<Instant>,
        upload: Option<Rc<Upload>>,
    ) -> Self {
        Self {
            timers: Rc::clone(timers),
            limit: waits.head,
            sending: upload.map(|upload| (upload, waits.send)),
            deadline: match waits.request {
                Some(limit) => {
                    let end = timers.now() + limit;
                    Some(deadline.map_or(end, |deadline| deadline.min(end)))
                }
                None => deadline,
            },
            alarm: None,
            look: LOOK_FIRST,
        }
    }

    /// Changes how long; takes effect with the next look.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Waits as long once more, for another endpoint. The deadline stays.
    pub(crate) fn begin_again(&mut self) {
        self.alarm = None;
        self.look = LOOK_FIRST;
    }

    /// Whether the request has a body.
    pub(crate) fn has_body(&self) -> bool {
        self.sending.is_some()
    }

    /// Whether it is over because of the deadline, and nobody's fault.
    pub(crate) fn is_past_deadline(&self) -> bool {
        self.until_deadline().is_zero()
    }

    /// How long it is until the deadline.
    pub(crate) fn until_deadline(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(self.timers.now());
        self.deadline.map_or(Duration::MAX, left)
    }

    fn limit(&self) -> Duration {
        match &self.sending {
            Some((upload, limit)) if upload.progress() == Progress::Streaming => *limit,
            Some(_) | None => self.limit,
        }
    }

    /// How long at least, whoever has his turn meanwhile.
    fn shortest(&self) -> Duration {
        let sending = self.sending.as_ref();
        sending.map_or(self.limit, |(_, limit)| self.limit.min(*limit))
    }

    /// Whether it is over. Begins to wait when it is asked first, and has the task woken in time.
    pub(crate) fn is_over(&mut self, activity: &Activity, cx: &Context<'_>) -> bool {
        self.look = Duration::MAX;
        self.wait(activity, || false, cx) == Wait::Over
    }

    /// How it stands. Begins to wait when it is asked first, and has the task woken in time. Where
    /// nothing moves, `is_gone` is asked after a while, and then less and less often.
    pub(crate) fn wait(
        &mut self,
        activity: &Activity,
        is_gone: impl FnOnce() -> bool,
        cx: &Context<'_>,
    ) -> Wait {
        let Some(alarm) = &self.alarm else {
            // The wait begins now, however long the connection was idle before.
            activity.touch();
            let limit = self.shortest().min(self.until_deadline()).min(self.look);
            self.alarm = Some(self.timers.alarm(limit, cx.waker()));
            return Wait::On;
        };
        if !alarm.fired() {
            return Wait::On;
        }
        let quiet = self.timers.now().saturating_duration_since(activity.last());
        let left = self.limit().saturating_sub(quiet);
        let left = left.min(self.until_deadline());
        if left.is_zero() {
            return Wait::Over;
        }
        if quiet >= self.look {
            if is_gone() {
                return Wait::Gone;
            }
            self.look = quiet.saturating_mul(2);
        }
        // The client may end its body before, and it is the endpoint's turn then.
        let next = left
            .min(self.shortest())
            .min(self.look.saturating_sub(quiet));
        alarm.set(next);
        Wait::On
    }
}

/// After how long without a byte an endpoint is looked at first. By then the kernel has sent three
/// times again what a lost endpoint does not acknowledge.
const LOOK_FIRST: Duration = Duration::from_secs(2);

//! Requests that go on to another endpoint, because one has failed them.
//!
//! Without being asked, only what no endpoint can have executed goes on, and what is idempotent and
//! without a body where its endpoint has gone (`reach.rs`). An Ingress asks for more with
//! `proxy-next-upstream`: then a request goes on after the outcomes that it names, if its method is
//! idempotent (RFC 9110 §9.2.2) or the Ingress says that this does not matter, and if its body is
//! small enough to have been kept and was sent to its end.

use std::time::Duration;

use http::Request;
use ingress_core::ir::{Retries, RetryCause};

use crate::proxy::request::attempt::{Exchange, Reply};
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::outcome;
use crate::proxy::runtime::limits::{REFUSALS_MAX, TRIES_MAX};
use crate::proxy::upstream::endpoint::InFlightGuard;
use crate::proxy::upstream::error::RetryCost;
use crate::proxy::upstream::pool::Pick;
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_timeout::ResponseTimeout;

/// Why an endpoint gave no answer, and the request if nothing has come of it.
pub(crate) struct Miss {
    failure: ProxyError,
    unsent: Option<Box<Request<RequestBody>>>,
}

impl<E: Into<ProxyError>> From<E> for Miss {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            unsent: None,
        }
    }
}

impl Miss {
    /// Nothing of the request has had an effect that asking again would have once more.
    pub(crate) fn before(failure: impl Into<ProxyError>, request: Request<RequestBody>) -> Self {
        Self {
            failure: failure.into(),
            unsent: Some(Box::new(request)),
        }
    }
}

impl Exchange<'_> {
    /// Sends a request to other endpoints if the first one has failed it.
    pub(crate) async fn elsewhere(
        &mut self,
        mut outcome: Result<Reply, Miss>,
        timeout: &mut ResponseTimeout,
    ) -> Result<Reply, ProxyError> {
        let mut address = self.first;
        let mut counted = 0;
        for _ in 0..REFUSALS_MAX {
            let (ended, request) = self.weigh(outcome);
            let Some(request) = request else {
                return ended;
            };
            let cost = match &ended {
                Ok(_) => RetryCost::Try,
                Err(failure) => failure.retry().cost,
            };
            counted += usize::from(cost == RetryCost::Try || self.retries.tries_max.is_some());
            // An endpoint that has left did not fail, and may be back.
            if cost != RetryCost::Left {
                self.tried.push(address);
            }
            if !self.may_go_on(counted) {
                return ended;
            }
            let Some(next) = self.next(cost) else {
                return ended;
            };
            self.dismiss(ended);
            self.worker.runtime.counters.upstream_retries.increment();
            self.record.try_next(next.address);
            address = next.address;
            timeout.begin_again();
            outcome = if self.protocol.is_multiplexed() {
                self.over_http2(next, request, timeout).await
            } else {
                self.over_http1(next, request, timeout).await
            };
        }
        self.weigh(outcome).0
    }

    /// What has come of one try, and the request if another endpoint may be asked for it.
    fn weigh(
        &self,
        outcome: Result<Reply, Miss>,
    ) -> (Result<Reply, ProxyError>, Option<Request<RequestBody>>) {
        let (ended, unsent) = match outcome {
            Ok(reply) => (Ok(reply), None),
            Err(Miss { failure, unsent }) => (Err(failure), unsent),
        };
        let request = unsent.map(|unsent| *unsent);
        let request = request.or_else(|| self.replay.after(outcome_of(&ended)));
        (ended, request)
    }

    /// Whether so many tries leave another one, by what the Ingress says.
    fn may_go_on(&self, tries: usize) -> bool {
        let Retries {
            after,
            tries_max,
            seconds_max,
        } = self.retries;
        let tries_max = match tries_max {
            None => TRIES_MAX,
            Some(0) => usize::MAX,
            Some(max) => max as usize,
        };
        let is_off = after.is_some_and(|after| after.has(RetryCause::Off));
        let is_late = seconds_max
            .is_some_and(|seconds| self.record.age() >= Duration::from_secs(seconds.get().into()));
        !is_off && !is_late && tries < tries_max
    }

    /// An endpoint that was not tried, if the backend has one and can take one more try.
    fn next(&self, cost: RetryCost) -> Option<InFlightGuard> {
        let (worker, tried) = (self.worker, &self.tried);
        let now = worker.runtime.timers.now();
        let pool = &worker.upstreams.pool;
        let Pick::Endpoint(next) = pool.pick(
            &self.backend,
            self.hint,
            tried,
            worker.runtime.random(),
            now,
        ) else {
            return None;
        };
        let is_charged = matches!(cost, RetryCost::Try | RetryCost::Budget);
        let is_other = !tried.contains(&next.address) && next.protocol == self.protocol;
        (is_other && (!is_charged || self.backend.may_retry(now))).then_some(next)
    }

    /// Draws conclusions from an answer that the client does not get.
    fn dismiss(&self, ended: Result<Reply, ProxyError>) {
        let Ok(Reply {
            response,
            mut source,
        }) = ended
        else {
            return;
        };
        let status = response.status();
        let took = self.record.answered(status);
        outcome::record(
            &self.worker.runtime,
            &self.backend,
            source.endpoint(),
            status,
            took,
        );
        if source.is_body_over() {
            source.release(&self.worker.upstreams);
        }
    }
}

/// The outcome of an attempt, as `proxy-next-upstream` names it.
fn outcome_of(ended: &Result<Reply, ProxyError>) -> Option<RetryCause> {
    match ended {
        Ok(reply) => RetryCause::of_status(reply.response.status().as_u16()),
        Err(failure) => failure.retry().cause,
    }
}

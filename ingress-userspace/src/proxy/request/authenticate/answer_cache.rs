//! Answers of services that decide, kept for as long as their Ingress says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue, StatusCode};

/// Answers that one worker has got.
#[derive(Default)]
pub(crate) struct AnswerCache(RefCell<HashMap<Box<[u8]>, Kept>>);

/// A cached answer of an authentication service.
pub(crate) struct ServiceAnswer {
    pub(crate) status: StatusCode,
    /// Fields for the endpoint; `None` where the answer did not have one.
    pub(crate) fields: Vec<(HeaderName, Option<HeaderValue>)>,
    pub(crate) cookies: Vec<HeaderValue>,
    /// WWW-Authenticate.
    pub(crate) challenge: Option<HeaderValue>,
}

struct Kept {
    answer: Rc<ServiceAnswer>,
    until: Instant,
}

impl AnswerCache {
    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Option<Rc<ServiceAnswer>> {
        let all = self.0.borrow();
        let kept = all.get(key).filter(|kept| now < kept.until)?;
        Some(Rc::clone(&kept.answer))
    }

    pub(crate) fn keep(
        &self,
        key: Vec<u8>,
        answer: &Rc<ServiceAnswer>,
        lifetime: Duration,
        now: Instant,
    ) {
        let mut all = self.0.borrow_mut();
        if all.len() >= ANSWERS_MAX {
            all.retain(|_, kept| now < kept.until);
        }
        if all.len() >= ANSWERS_MAX {
            all.clear();
        }
        let kept = Kept {
            answer: Rc::clone(answer),
            until: now + lifetime,
        };
        all.insert(key.into(), kept);
    }
}

const ANSWERS_MAX: usize = 4096;

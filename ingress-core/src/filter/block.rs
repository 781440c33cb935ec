//! Answers clients with 403 that get nothing.
//!
//! Source: ingress-nginx, ConfigMap keys `block-cidrs`, `block-user-agents` and `block-referers`.

use http::StatusCode;
use http::header::{HeaderName, REFERER, USER_AGENT};

use super::{Answer, Context, Decision};
use crate::ir::{Block, BlockPattern};

pub(super) fn on_request(block: &Block, context: &Context<'_>) -> Decision {
    let client = context.client.to_canonical();
    let is_in = block
        .networks
        .iter()
        .any(|network| network.contains(&client));
    let has = |name: HeaderName, patterns: &[BlockPattern]| {
        let value = context.headers.get(name);
        value.is_some_and(|value| patterns.iter().any(|one| one.matches(value.as_bytes())))
    };
    if is_in || has(USER_AGENT, &block.user_agents) || has(REFERER, &block.referers) {
        return Decision::Respond(Answer::status(StatusCode::FORBIDDEN));
    }
    Decision::Continue
}

//! Answers every request.
//!
//! Source: nginx, directive `return`.

use http::StatusCode;

use super::{Answer, Context, Decision, template};
use crate::ir::Respond;

pub(super) fn on_request(respond: &Respond, context: &Context<'_>) -> Decision {
    Decision::Respond(match &respond.location {
        Some(location) => Answer::redirect(respond.status, &template::render(location, context)),
        None => Answer::status(
            StatusCode::from_u16(respond.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        ),
    })
}

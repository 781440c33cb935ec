//! Sends requests for the root to another path of the same host.
//!
//! Source: ingress-nginx, annotation `app-root`: 302 to the scheme and host of the request.

use super::{Answer, Context, Decision};

pub(super) fn on_request(root: &str, context: &Context<'_>) -> Decision {
    if context.path != b"/" {
        return Decision::Continue;
    }
    let scheme = if context.is_https { "https" } else { "http" };
    let location = format!("{scheme}://{}{root}", context.authority);
    Decision::Respond(Answer::redirect(302, location.as_bytes()))
}

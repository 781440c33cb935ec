//! Sends every request to another host.
//!
//! Source: ingress-nginx, annotation `from-to-www-redirect`: scheme, port and target stay.

use super::{Answer, Context, Decision, host_of, template};
use crate::ir::HostRedirect;

pub(super) fn on_request(redirect: &HostRedirect, context: &Context<'_>) -> Decision {
    let port = &context.authority[host_of(context.authority).len()..];
    let scheme = template::scheme(context);
    let location = [
        scheme.as_bytes(),
        b"://",
        redirect.host.as_bytes(),
        port.as_bytes(),
        context.target,
    ];
    Decision::Respond(Answer::redirect(redirect.code, &location.concat()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::tests::context;
    use super::*;

    #[test]
    fn redirect_keeps_scheme_port_and_target() {
        let headers = HeaderMap::new();
        let mut context = context(&headers);
        context.authority = "www.a.test:8080";
        context.target = b"/x?y";
        let redirect = HostRedirect {
            host: "a.test".into(),
            code: 308,
        };
        let expected = Answer::redirect(308, b"http://a.test:8080/x?y");
        assert_eq!(on_request(&redirect, &context), Decision::Respond(expected));
    }
}

//! Which users a list of groups lets in.

use ingress_core::ir::OidcAuth;
use serde_json::{Value, json};

use super::{Provider, ask, auth, log_in, open, session, start};
use crate::rig::{Origin, Proxy};

fn only_groups(provider: &Provider, groups: &[&str]) -> OidcAuth {
    OidcAuth {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..auth(&provider.issuer())
    }
}

/// The status that a user with this claim gets for a page after the login, and for the page again.
fn statuses(proxy: &Proxy, provider: &Provider, groups: Value) -> (u16, u16) {
    provider.change(|script| script.claims = [("groups", groups)].into());
    let back = log_in(proxy, provider);
    assert_eq!(back.status, 302, "the login itself succeeds");
    let fields = format!("Cookie: {}\r\n", session(&back).unwrap());
    let first = ask(proxy, "/page", &fields).status;
    (first, ask(proxy, "/page", &fields).status)
}

#[test]
fn a_user_in_none_of_the_groups_is_refused_without_another_login() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let proxy = start(&origin, only_groups(&provider, &["dev", "admin"]));
    for groups in [
        json!(["dev"]),
        json!(["sales", "admin"]),
        json!("dev"),
        json!([7, null, "dev"]),
    ] {
        assert_eq!(
            statuses(&proxy, &provider, groups.clone()),
            (200, 200),
            "{groups}"
        );
    }
    for groups in [
        json!([]),
        json!(["sales"]),
        json!(["Dev", "dev ", "devs"]),
        json!("dev,admin"),
        json!({"dev": true}),
        json!([["dev"]]),
        Value::Null,
    ] {
        assert_eq!(
            statuses(&proxy, &provider, groups.clone()),
            (403, 403),
            "{groups}"
        );
    }
    assert_eq!(open(&proxy, "/").status, 302, "a user without a session");
}

#[test]
fn a_session_admits_to_no_ingress_with_other_groups() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let of_all = start(&origin, auth(&provider.issuer()));
    let of_admins = start(&origin, only_groups(&provider, &["admin"]));
    let cookie = session(&log_in(&of_all, &provider)).unwrap();
    let fields = format!("Cookie: {cookie}\r\n");
    assert_eq!(ask(&of_all, "/", &fields).status, 200);
    assert_eq!(ask(&of_admins, "/", &fields).status, 401);
}

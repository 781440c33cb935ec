//! Which endpoint a request goes to, and within which bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ingress_core::ir::{
    Affinity, AffinityMode, Backend, Balance, Canary, CanaryHeader, CanaryValue, Config, Endpoint,
    HashBy, Target, WeightedBackend,
};
use ingress_userspace::proxy::{Balancing, WorkerOptions};

use crate::rig::{Options, Origin, Proxy, Reply, config, dead};

/// The usual configuration, with something else for its one backend.
pub(crate) fn config_with(endpoints: &[SocketAddr], change: impl Fn(&mut Backend)) -> Config {
    let mut config = config(&[("one.test", "/", endpoints)]);
    let backends = std::mem::take(&mut config.backends);
    let mut backend = (**backends.values().next().unwrap()).clone();
    change(&mut backend);
    let key = backend.key.clone();
    for rules in config.hosts.values_mut() {
        for rule in &mut Arc::make_mut(rules).rules {
            Arc::make_mut(rule).target = Target::backend(key.clone());
        }
    }
    config.backends.insert(key, Arc::new(backend));
    config
}

fn balanced(endpoints: &[SocketAddr], balance: &Balance) -> Config {
    config_with(endpoints, |backend| {
        Arc::make_mut(&mut backend.key).policy.balance = Some(balance.clone());
    })
}

pub(crate) fn start(config: Config, balancing: Balancing) -> Proxy {
    let options = WorkerOptions {
        balancing,
        ..WorkerOptions::default()
    };
    Proxy::start_with(config, Options::worker(options))
}

fn echoes() -> [Origin; 4] {
    ["a", "b", "c", "d"].map(Origin::echo)
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

/// The name of the endpoint that has answered.
pub(crate) fn name(reply: &Reply) -> String {
    assert_eq!(reply.status, 200);
    reply.text().lines().next().unwrap().to_owned()
}

/// How often each endpoint answers.
fn shares(proxy: &Proxy, count: usize) -> BTreeMap<String, usize> {
    let mut client = proxy.client();
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares
            .entry(name(&client.get("one.test", "/")))
            .or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_takes_turns() {
    let origins = echoes();
    let config = balanced(&addresses(&origins), &Balance::RoundRobin);
    let proxy = start(config, Balancing::default());
    assert!(shares(&proxy, 40).values().all(|count| *count == 10));
}

#[test]
fn peak_ewma_leaves_a_slow_endpoint_alone() {
    let fast = Origin::echo("fast");
    let slow = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            std::thread::sleep(Duration::from_millis(100));
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nslow\n");
        }
    });
    let config = config(&[("one.test", "/", &[fast.address, slow.address])]);
    let balancing = Balancing {
        balance: Balance::PeakEwma,
        ..Balancing::default()
    };
    let shares = shares(&start(config, balancing), 200);
    assert!(
        shares.get("slow").is_none_or(|count| *count <= 2),
        "{shares:?}"
    );
}

fn ask(proxy: &Proxy, fields: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!("GET / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n"));
    client.read_reply()
}

#[test]
fn the_same_key_leads_to_the_same_endpoint_and_few_move_when_one_goes() {
    let origins = echoes();
    let all = addresses(&origins);
    let balance = Balance::Hash(HashBy::Field("x-user".into()));
    let proxy = start(balanced(&all, &balance), Balancing::default());
    let of_user = |user: usize| name(&ask(&proxy, &format!("X-User: {user}\r\n")));
    let before: Vec<_> = (0..100).map(of_user).collect();
    assert_eq!(
        before.iter().collect::<BTreeSet<_>>().len(),
        4,
        "all are used"
    );
    assert_eq!((0..100).map(of_user).collect::<Vec<_>>(), before);
    proxy.publish(balanced(&all[1..], &balance));
    for (user, before) in before.iter().enumerate() {
        let after = of_user(user);
        assert!(
            after == *before || before == "a",
            "{user}: {before} {after}"
        );
    }
}

#[test]
fn the_same_key_leads_to_a_subset_of_the_endpoints() {
    let origins = echoes();
    let all = addresses(&origins);
    let size = NonZeroU32::new(2).unwrap();
    let balance = Balance::HashSubset(HashBy::Field("x-user".into()), size);
    let proxy = start(balanced(&all, &balance), Balancing::default());
    let of_user = |user: usize| -> BTreeSet<_> {
        let fields = format!("X-User: {user}\r\n");
        (0..20).map(|_| name(&ask(&proxy, &fields))).collect()
    };
    let subsets: Vec<_> = (0..20).map(of_user).collect();
    assert!(
        subsets.iter().all(|subset| subset.len() == 2),
        "{subsets:?}"
    );
    let used: BTreeSet<_> = subsets.iter().flatten().collect();
    assert_eq!(used.len(), 4, "all are used");
}

/// A rule with a main backend and a canary that a field asks for; both have sessions.
fn with_canary(main: SocketAddr, canary: SocketAddr) -> Config {
    let mut config = sticky(&[main], &[], AffinityMode::Balanced);
    let main = (**config.backends.values().next().unwrap()).clone();
    let mut key = (*main.key).clone();
    key.service = "canary".into();
    let key = Arc::new(key);
    let backend = Backend {
        key: Arc::clone(&key),
        endpoints: vec![Endpoint { address: canary }],
        ..main.clone()
    };
    let by_field = Canary {
        header: Some(CanaryHeader {
            name: "x-canary".into(),
            value: CanaryValue::Switch,
        }),
        total: 100,
        ..Canary::default()
    };
    let weighted = |key, canary| WeightedBackend {
        key,
        weight: 1,
        canary,
    };
    let both = [
        weighted(main.key, None),
        weighted(Arc::clone(&key), Some(Arc::new(by_field))),
    ];
    for rules in config.hosts.values_mut() {
        for rule in &mut Arc::make_mut(rules).rules {
            Arc::make_mut(rule).target = Target::Backends(both.clone().into());
        }
    }
    config.backends.insert(key, Arc::new(backend));
    config
}

#[test]
fn a_session_stays_with_the_canary_or_the_main_backend() {
    let [main, canary] = ["main", "canary"].map(Origin::echo);
    let config = with_canary(main.address, canary.address);
    let proxy = start(config, Balancing::default());
    let begun = ask(&proxy, "X-Canary: always\r\n");
    assert_eq!(name(&begun), "canary");
    let of_canary = given(&begun).unwrap();
    let begun = ask(&proxy, "");
    assert_eq!(name(&begun), "main");
    let of_main = given(&begun).unwrap();
    for field in ["", "X-Canary: always\r\n", "X-Canary: never\r\n"] {
        for (cookie, expected) in [(&of_canary, "canary"), (&of_main, "main")] {
            let reply = ask(&proxy, &format!("{cookie}{field}"));
            assert_eq!(name(&reply), expected, "{cookie} {field}");
            assert_eq!(given(&reply), None);
        }
    }
    // A cookie of a backend that has left, and one of the time before there was a canary.
    let before = ask(
        &proxy,
        "Cookie: STICK=0000000000000001\r\nX-Canary: always\r\n",
    );
    assert_eq!(name(&before), "main");
    let other = "Cookie: STICK=0000000000000001|0000000000000002\r\nX-Canary: always\r\n";
    let other = ask(&proxy, other);
    assert_eq!(name(&other), "canary");
    assert!(given(&other).is_some());
}

/// Sessions by cookie.
pub(crate) fn sticky(
    endpoints: &[SocketAddr],
    draining: &[SocketAddr],
    mode: AffinityMode,
) -> Config {
    sticky_with(endpoints, draining, mode, false)
}

fn sticky_with(
    endpoints: &[SocketAddr],
    draining: &[SocketAddr],
    mode: AffinityMode,
    change_on_failure: bool,
) -> Config {
    let affinity = Arc::new(Affinity {
        cookie: "STICK".into(),
        mode,
        path: None,
        attributes: "; HttpOnly".into(),
        expires: None,
        secure_over_https: false,
        same_site_none_if_understood: false,
        change_on_failure,
    });
    config_with(endpoints, |backend| {
        Arc::make_mut(&mut backend.key).policy.affinity = Some(Arc::clone(&affinity));
        let endpoint = |address: &SocketAddr| Endpoint { address: *address };
        backend.draining = draining.iter().map(endpoint).collect();
    })
}

/// The cookie that a client is given, as it sends it back.
fn given(reply: &Reply) -> Option<String> {
    let cookie = reply.head.field("set-cookie")?;
    let (cookie, attributes) = cookie.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; HttpOnly");
    Some(format!("Cookie: other=1; {cookie}\r\n"))
}

const MODES: [AffinityMode; 2] = [AffinityMode::Balanced, AffinityMode::Persistent];

#[test]
fn a_session_stays_where_it_began() {
    let origins = echoes();
    for mode in MODES {
        let proxy = start(
            sticky(&addresses(&origins), &[], mode),
            Balancing::default(),
        );
        let mut used = BTreeSet::new();
        for _ in 0..30 {
            let first = ask(&proxy, "");
            let cookie = given(&first).expect("a new client gets a cookie");
            for _ in 0..3 {
                let next = ask(&proxy, &cookie);
                assert_eq!(given(&next), None, "{mode:?}");
                assert_eq!(name(&next), name(&first), "{mode:?}");
            }
            used.insert(name(&first));
        }
        assert_eq!(used.len(), 4, "{mode:?}");
        assert!(given(&ask(&proxy, "Cookie: STICK=nonsense\r\n")).is_some());
    }
}

#[test]
fn sessions_stay_on_an_endpoint_that_drains_and_new_ones_go_elsewhere() {
    let origins = echoes();
    let all = addresses(&origins);
    for mode in MODES {
        let proxy = start(sticky(&all, &[], mode), Balancing::default());
        let cookie = loop {
            let reply = ask(&proxy, "");
            if name(&reply) == "a" {
                break given(&reply).unwrap();
            }
        };
        proxy.publish(sticky(&all[1..], &all[..1], mode));
        for _ in 0..20 {
            assert_eq!(name(&ask(&proxy, &cookie)), "a", "{mode:?}");
            assert_ne!(name(&ask(&proxy, "")), "a", "{mode:?}");
        }
        proxy.publish(sticky(&all[1..], &[], mode));
        assert_ne!(name(&ask(&proxy, &cookie)), "a", "{mode:?}");
    }
}

#[test]
fn persistent_sessions_stay_when_endpoints_come_and_some_balanced_ones_move() {
    let origins = echoes();
    let all = addresses(&origins);
    for (mode, may_move) in [
        (AffinityMode::Persistent, false),
        (AffinityMode::Balanced, true),
    ] {
        let proxy = start(sticky(&all[..2], &[], mode), Balancing::default());
        let session = || {
            let reply = ask(&proxy, "");
            (given(&reply).unwrap(), name(&reply))
        };
        let sessions: Vec<_> = (0..60).map(|_| session()).collect();
        proxy.publish(sticky(&all, &[], mode));
        let moved = sessions
            .iter()
            .filter(|(cookie, before)| name(&ask(&proxy, cookie)) != *before);
        let moved = moved.count();
        assert!(moved < 50 && (moved > 0) == may_move, "{mode:?}: {moved}");
    }
}

#[test]
fn a_session_whose_endpoint_fails_is_served_elsewhere_and_moves_if_it_may() {
    let origins = echoes();
    let dead = dead();
    let endpoints = [origins[0].address, dead];
    let id = ingress_core::balance::hash_of_address(dead);
    let cookie = format!("Cookie: STICK={id:016x}\r\n");
    for may_move in [false, true] {
        let config = sticky_with(&endpoints, &[], AffinityMode::Persistent, may_move);
        let proxy = start(config, Balancing::default());
        let reply = ask(&proxy, &cookie);
        assert_eq!(name(&reply), "a");
        assert_eq!(given(&reply).is_some(), may_move);
    }
}

#[test]
fn an_endpoint_that_answers_with_errors_is_left_alone() {
    let good = ["a", "b"].map(Origin::echo);
    let bad = Origin::fixed("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let endpoints = [good[0].address, good[1].address, bad.address];
    let config = balanced(&endpoints, &Balance::RoundRobin);
    let proxy = start(config, Balancing::default());
    let mut client = proxy.client();
    let errors = (0..100)
        .filter(|_| client.get("one.test", "/").status == 500)
        .count();
    assert_eq!(errors, 5);
    assert_eq!(proxy.snapshot().upstream_ejections, 1);
}

#[test]
fn an_endpoint_that_has_come_begins_slowly() {
    let origins = echoes();
    let all = addresses(&origins);
    let balancing = Balancing {
        slow_start: Duration::from_hours(1),
        ..Balancing::default()
    };
    for balance in [Balance::LeastRequest, Balance::RoundRobin] {
        let proxy = start(balanced(&all[..1], &balance), balancing.clone());
        assert_eq!(shares(&proxy, 10)["a"], 10);
        proxy.publish(balanced(&all[..2], &balance));
        let shares = shares(&proxy, 400);
        let cold = shares.get("b").copied().unwrap_or_default();
        assert!((1..=60).contains(&cold), "{balance:?}: {shares:?}");
    }
}

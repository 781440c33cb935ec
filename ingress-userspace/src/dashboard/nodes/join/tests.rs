//! Properties of joining.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::api::{NodeLook, TrafficChange};
use crate::dashboard::nodes::view::Health;

#[derive(Clone, Debug)]
struct Given {
    looks: Vec<NodeLook>,
    health: Health,
}

fn traffic() -> impl Strategy<Value = TrafficChange> {
    let row = ("[ab]", 0u64..1_000, vec(0u64..50, 0..4));
    vec(row, 0..4).prop_map(|rows| {
        let rows = rows
            .into_iter()
            .map(|(name, requests, duration_buckets)| Traffic {
                name,
                requests,
                server_errors: requests / 2,
                duration_buckets,
                ..Traffic::default()
            });
        TrafficChange {
            rows: rows.collect(),
            gone: Vec::new(),
        }
    })
}

fn status() -> impl Strategy<Value = Map<String, Value>> {
    let state = prop::sample::select(vec!["ready", "draining", "starting"]);
    let mode = prop::sample::select(vec!["netns", "host"]);
    (state, mode, 0u64..3, vec("[xyz]", 0..3)).prop_map(|(state, mode, workers, problems)| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| json!({"worker": worker}))
            .collect();
        let problems = problems
            .iter()
            .map(|text| json!({"text": text, "severity": "error"}));
        let status = json!({
            "version": "1", "state": state, "uptime_seconds": 5,
            "config": {"hosts": workers.len()},
            "datapath": {
                "mode": mode, "reason": null, "direct_endpoints": 2,
                "devices": [{"name": "eth0"}],
                "counters": [{"program": "steer", "reason": "flow", "packets": 7}],
                "shortcut": {"is_on": false},
            },
            "workers": workers,
            "problems": problems.collect::<Vec<_>>(),
        });
        serde_json::from_value(status).unwrap()
    })
}

prop_compose! {
    fn look()(
        started in "[12]",
        requests in 0u64..1_000,
        open in 0u64..50,
        generation in 0u64..3,
        buckets in vec(0u64..50, 0..4),
        status in status(),
        (hosts, backends, routes) in (traffic(), traffic(), traffic()),
    ) -> NodeLook {
        let sample = Sample {
            state: status["state"].as_str().unwrap().to_owned(),
            requests,
            generation,
            connections_open: open,
            duration_buckets: buckets,
            ..Sample::default()
        };
        NodeLook { sample, started_at: started, status, hosts, backends, routes }
    }
}

fn given() -> impl Strategy<Value = BTreeMap<String, Given>> {
    let health = prop_oneof![
        3 => Just(Health::Well),
        1 => Just(Health::Busy("busy".to_owned())),
        1 => Just(Health::Slow("slow".to_owned())),
        1 => Just(Health::Away("away".to_owned())),
        1 => Just(Health::Unknown),
    ];
    let node = (vec(look(), 0..4), health).prop_map(|(looks, health)| Given { looks, health });
    btree_map("[a-d]", node, 0..4)
}

fn view(given: &Given) -> NodeView {
    let mut view = NodeView::default();
    view.begin();
    for look in &given.looks {
        view.take(look.clone()).unwrap();
    }
    view.set_health(given.health.clone());
    view
}

fn joined(views: &[(String, NodeView)]) -> Joined {
    let views: Vec<_> = views.iter().map(|(name, view)| (&**name, view)).collect();
    join(&views, "now".to_owned())
}

fn requests(rows: &[Traffic], name: &str) -> u64 {
    let row = rows.iter().find(|row| row.name == name);
    row.map_or(0, |row| row.requests)
}

fn buckets(rows: &[Traffic], name: &str) -> Vec<u64> {
    let row = rows.iter().find(|row| row.name == name);
    let mut buckets = row
        .map(|row| row.duration_buckets.clone())
        .unwrap_or_default();
    buckets.resize(4, 0);
    buckets
}

fn rows_of(list: &Value, node: &str) -> Vec<Value> {
    let rows = list.as_array().unwrap().iter();
    rows.filter(|row| row["node"] == node).cloned().collect()
}

fn not_of(list: &Value, node: &str) -> Vec<Value> {
    let rows = list.as_array().unwrap().iter();
    rows.filter(|row| row["node"] != node).cloned().collect()
}

proptest! {
    /// Joined numbers are those of the nodes one by one, added up.
    #[test]
    fn sums_are_those_of_all_nodes(given in given()) {
        let views: Vec<_> = given.iter().map(|(name, given)| (name.clone(), view(given))).collect();
        let all = joined(&views);
        let ones: Vec<_> = views.iter().map(|one| joined(std::slice::from_ref(one))).collect();
        let sum = |of: &dyn Fn(&Joined) -> u64| ones.iter().map(of).sum::<u64>();
        prop_assert_eq!(all.sample.requests, sum(&|one| one.sample.requests));
        prop_assert_eq!(all.sample.connections_open, sum(&|one| one.sample.connections_open));
        prop_assert_eq!(all.sample.generation, sum(&|one| one.sample.generation));
        for name in ["a", "b"] {
            prop_assert_eq!(requests(&all.hosts, name), sum(&|one| requests(&one.hosts, name)));
            prop_assert_eq!(requests(&all.routes, name), sum(&|one| requests(&one.routes, name)));
            let mut expected = vec![0; 4];
            for one in &ones {
                for (sum, more) in expected.iter_mut().zip(buckets(&one.backends, name)) {
                    *sum += more;
                }
            }
            prop_assert_eq!(buckets(&all.backends, name), expected);
        }
        for list in ["workers", "nodes"] {
            let length = |one: &Joined| one.status[list].as_array().unwrap().len() as u64;
            prop_assert_eq!(length(&all), sum(&length));
        }
        let packets = |one: &Joined| {
            one.status["datapath"]["counters"][0]["packets"].as_u64().unwrap_or(0)
        };
        prop_assert_eq!(packets(&all), sum(&packets));
    }

    /// The state is the worst of all nodes.
    #[test]
    fn state_is_the_worst(given in given()) {
        let views: Vec<_> = given.iter().map(|(name, given)| (name.clone(), view(given))).collect();
        let all = joined(&views);
        let rank = |state: &str| STATES.iter().position(|known| *known == state).unwrap();
        let nodes = all.status["nodes"].as_array().unwrap();
        let worst = nodes.iter().map(|node| rank(node["state"].as_str().unwrap())).max();
        prop_assert_eq!(rank(&all.sample.state), worst.unwrap_or(rank("starting")));
        for (node, given) in nodes.iter().zip(given.values()) {
            if matches!(given.health, Health::Away(_) | Health::Unknown) {
                prop_assert_eq!(&node["state"], "away");
            }
        }
    }

    /// The order in which nodes are given changes nothing.
    #[test]
    fn order_changes_nothing(given in given(), turn in 0usize..4) {
        let mut views: Vec<_> =
            given.iter().map(|(name, given)| (name.clone(), view(given))).collect();
        let all = joined(&views);
        views.reverse();
        prop_assert_eq!(&joined(&views), &all);
        if !views.is_empty() {
            let turn = turn % views.len();
            views.rotate_left(turn);
            prop_assert_eq!(&joined(&views), &all);
        }
    }

    /// A node that goes away takes its rows and gauges with it, and nothing else.
    #[test]
    fn node_that_goes_away_changes_its_own_part_alone(given in given(), choice in 0usize..4) {
        prop_assume!(!given.is_empty());
        let mut views: Vec<_> =
            given.iter().map(|(name, given)| (name.clone(), view(given))).collect();
        let before = joined(&views);
        let choice = choice % views.len();
        let own = joined(std::slice::from_ref(&views[choice]));
        let name = views[choice].0.clone();
        views[choice].1.set_health(Health::Away("unplugged".to_owned()));
        let after = joined(&views);
        prop_assert_eq!(&after.hosts, &before.hosts);
        prop_assert_eq!(&after.backends, &before.backends);
        prop_assert_eq!(&after.routes, &before.routes);
        prop_assert_eq!(after.sample.requests, before.sample.requests);
        prop_assert_eq!(
            after.sample.connections_open + own.sample.connections_open,
            before.sample.connections_open
        );
        let lists = |joined: &Joined| {
            let datapath = &joined.status["datapath"];
            [
                joined.status["workers"].clone(),
                datapath["devices"].clone(),
                joined.status["nodes"].clone(),
            ]
        };
        for (after, before) in lists(&after).iter().zip(&lists(&before)) {
            prop_assert_eq!(not_of(after, &name), not_of(before, &name));
        }
        prop_assert!(rows_of(&after.status["workers"], &name).is_empty());
        let nodes = rows_of(&after.status["nodes"], &name);
        prop_assert_eq!(&nodes[0]["state"], "away");
        prop_assert_eq!(&nodes[0]["reason"], "unplugged");
        for problem in after.status["problems"].as_array().unwrap() {
            let nodes = problem["nodes"].as_array().unwrap();
            prop_assert!(!nodes.is_empty() && !nodes.contains(&json!(name)));
        }
    }

    /// No row is lost or doubled, and each carries the nodes that have it.
    #[test]
    fn rows_carry_the_nodes_that_have_them(
        given in btree_map("[a-d]", vec("[xyz]", 0..4), 0..4),
    ) {
        let row = |text: &String| json!({"text": text});
        let lists: Vec<(String, Value)> = given
            .iter()
            .map(|(node, texts)| (node.clone(), texts.iter().map(row).collect()))
            .collect();
        let joined = rows(&lists);
        let mut reversed = lists.clone();
        reversed.reverse();
        prop_assert_eq!(&rows(&reversed), &joined);
        for text in ["x", "y", "z"] {
            let expected: Vec<_> = given
                .iter()
                .filter(|(_, texts)| texts.iter().any(|one| one == text))
                .map(|(node, _)| json!(node))
                .collect();
            let found: Vec<_> = joined.iter().filter(|row| row["text"] == text).collect();
            prop_assert_eq!(found.len(), usize::from(!expected.is_empty()));
            for row in found {
                prop_assert_eq!(&row["nodes"], &json!(expected));
            }
        }
    }
}

#[test]
fn explanations_that_agree_are_one() {
    let given = [("b", 1), ("a", 1), ("c", 2)]
        .map(|(node, answer)| (node.to_owned(), json!({"answer": answer})));
    let joined = answers(&given);
    assert_eq!(joined[0]["nodes"], json!(["a", "b"]));
    assert_eq!(joined[1]["nodes"], json!(["c"]));
    assert_eq!(joined.len(), 2);
}

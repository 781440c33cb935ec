//! The sums of one look at a daemon, from its status and its traffic. Pure.

use serde_json::{Map, Value};

use crate::api::{Sample, Traffic};

/// The sums that a status and the requests of all hosts add up to.
pub(crate) fn sample(status: &Map<String, Value>, hosts: &[Traffic], time: String) -> Sample {
    let text = |name| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut sample = Sample {
        time,
        state: text("state").to_owned(),
        generation: number("generation"),
        cpu_seconds: status
            .get("cpu_seconds")
            .and_then(Value::as_f64)
            .unwrap_or_default(),
        resident_bytes: number("resident_bytes"),
        ..Sample::default()
    };
    let workers = status.get("workers").and_then(Value::as_array);
    for worker in workers.into_iter().flatten() {
        sample.requests_open += count(worker, "requests_open");
        for way in ["netns", "host"] {
            let way = worker.get(way).unwrap_or(&Value::Null);
            sample.requests += count(way, "requests");
            sample.client_errors += count(way, "responses_4xx");
            sample.server_errors += count(way, "responses_5xx");
            sample.connections_accepted += count(way, "connections_accepted");
            sample.connections_open += count(way, "connections_open");
            sample.tls_handshake_failures += count(way, "tls_handshake_failures");
        }
    }
    for host in hosts {
        add_buckets(&mut sample.duration_buckets, &host.duration_buckets);
    }
    sample
}

/// Adds the buckets of a histogram to those of another with the same bounds.
pub(super) fn add_buckets(sums: &mut Vec<u64>, more: &[u64]) {
    sums.resize(sums.len().max(more.len()), 0);
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workers_of_both_datapaths_are_added_up() {
        let way =
            |requests| json!({"requests": requests, "responses_5xx": 1, "connections_open": 2});
        let status = json!({
            "state": "ready", "generation": 7, "cpu_seconds": 1.5, "resident_bytes": 9,
            "workers": [
                {"requests_open": 1, "netns": way(10), "host": way(1)},
                {"requests_open": 2, "netns": way(100), "host": way(0)},
            ],
        });
        let Value::Object(status) = status else {
            unreachable!()
        };
        let host = |buckets: &[u64]| Traffic {
            duration_buckets: buckets.to_vec(),
            ..Traffic::default()
        };
        let hosts = [host(&[1, 2]), host(&[1, 2, 3])];
        let sample = sample(&status, &hosts, "now".to_owned());
        assert_eq!((sample.requests, sample.requests_open), (111, 3));
        assert_eq!((sample.server_errors, sample.connections_open), (4, 8));
        assert_eq!((&*sample.state, sample.generation), ("ready", 7));
        assert_eq!(sample.duration_buckets, [2, 4, 3]);
    }
}

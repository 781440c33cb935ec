//! All metrics of the proxy at one instant: under the names and labels that dashboards made for
//! ingress-nginx ask for, and under names of our own for what only we have.

mod orders;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;

pub use self::traffic::{DURATION_BOUNDS, Traffic, TrafficBy};
use crate::proxy::observe::metrics::MetricsFormat;
use crate::proxy::observe::metrics::family::{LabelPairs, counter, encode, float, gauge, labels};
use crate::proxy::observe::metrics::labels::SlotKey;
use crate::proxy::observe::metrics::openmetrics;
use crate::proxy::observe::metrics::process;
use crate::proxy::observe::metrics::requests::{self, Sum};
use crate::proxy::observe::metrics::series::MethodLabel;
use crate::proxy::observe::metrics::worker;
use crate::proxy::runtime::counters::{DatapathSnapshot, WorkerSnapshot};
use crate::proxy::table::health::ProbedBackend;
use crate::proxy::table::{Table, TableHandle};
use crate::proxy::tls::certificate::Facts;
use crate::proxy::worker::{WorkerHandle, WorkerReader};

/// Who it is that has these metrics; on nearly every one of them.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `controller_class`.
    pub class: String,
    /// `controller_namespace`: empty outside of Kubernetes.
    pub namespace: String,
    /// `controller_pod`.
    pub pod: String,
    /// Keys that restrict access and are ignored all the same, as `--ignore-annotation` says.
    pub ignored_annotations: Vec<String>,
}

/// Reads what the workers count.
#[derive(Debug)]
pub struct Metrics {
    identity: Identity,
    workers: Vec<WorkerReader>,
    table: TableHandle,
    /// The generation that was hashed last, and its hash.
    hashed: Mutex<(u64, u64)>,
}

impl Metrics {
    /// The metrics of these workers, which serve this table.
    pub fn new(identity: Identity, workers: &[WorkerHandle], table: TableHandle) -> Self {
        Self {
            identity,
            workers: workers.iter().map(WorkerHandle::reader).collect(),
            table,
            hashed: Mutex::default(),
        }
    }

    /// All values at this instant. Takes a while when there are many routes: not for a thread that
    /// has something else to do.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let sums = self.sums();
        let mut others = self.families();
        others.extend((!sums.is_empty()).then(|| requests::upstream_latency(&sums)));
        MetricsSnapshot { sums, others }
    }

    fn families(&self) -> Vec<MetricFamily> {
        let constant = self.constant();
        let snapshots: Vec<_> = self.workers.iter().map(WorkerReader::snapshot).collect();
        let mut families = stub_status(&constant, &snapshots).to_vec();
        families.extend(process::families(&constant, self.workers.len()));
        families.extend(self.configuration(&constant));
        families.extend(self.certificates());
        families.extend(orders::families(self.table.current().config()));
        families.extend(worker::families(&snapshots));
        families.extend(self.health_checks());
        families.extend(self.overflow());
        // A family without samples is no valid text.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    fn constant(&self) -> LabelPairs {
        labels([
            ("controller_class", &*self.identity.class),
            ("controller_namespace", &*self.identity.namespace),
            ("controller_pod", &*self.identity.pod),
        ])
    }

    /// What all workers have counted of each route, status and method.
    fn sums(&self) -> Vec<Sum> {
        let constant = self.constant();
        let mut sums: HashMap<(SlotKey, u16, MethodLabel), Sum> = HashMap::new();
        for series in self.workers.iter().flat_map(|worker| worker.series.all()) {
            let key = (series.labels.slot, series.status, series.method);
            let sum = sums.entry(key);
            let sum = sum.or_insert_with(|| Sum::new(&constant, &series));
            sum.totals += &series.tally.read();
            series.exemplars.add_to(&mut sum.exemplars);
        }
        let mut sums: Vec<_> = sums.into_values().collect();
        sums.sort_unstable_by(|a, b| a.order.cmp(&b.order));
        sums
    }

    fn configuration(&self, constant: &LabelPairs) -> Vec<MetricFamily> {
        let table = self.table.current();
        let one = |value| [(constant.clone(), value)];
        let mut build = constant.clone();
        build.extend(labels([
            ("build", option_env!("SLUICE_BUILD").unwrap_or("unknown")),
            ("release", env!("CARGO_PKG_VERSION")),
            ("repository", env!("CARGO_PKG_NAME")),
        ]));
        vec![
            gauge(
                "nginx_ingress_controller_build_info",
                "Version of this daemon",
                [(build, 1.0)],
            ),
            gauge(
                "nginx_ingress_controller_config_hash",
                "Tells configurations apart; the same on all nodes that serve the same",
                one(float(self.hash(&table))),
            ),
            // A configuration that could not be served would not be published: the last one that
            // was is always a success.
            gauge(
                "nginx_ingress_controller_config_last_reload_successful",
                "Whether a configuration is served",
                one(f64::from(u8::from(table.generation() > 0))),
            ),
            gauge(
                "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds",
                "When the configuration that is served was published, in seconds since 1970",
                one(float(self.table.published_at())),
            ),
            counter(
                "nginx_ingress_controller_success",
                "Configurations that were published",
                one(float(table.generation())),
            ),
            gauge(
                "sluice_ignored_annotation_info",
                "Keys that are ignored although they restrict access: --ignore-annotation",
                self.identity.ignored_annotations.iter().map(|key| {
                    let key = labels([("key", &**key)]);
                    (key, 1.0)
                }),
            ),
        ]
    }

    /// A hash of the configuration, made once for each generation that is asked for.
    fn hash(&self, table: &Table) -> u64 {
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.0 != table.generation() {
            let mut hash = Hash(DefaultHasher::new());
            let _ = write!(hash, "{:?}", table.config());
            // Prometheus keeps 53 bits.
            *hashed = (table.generation(), hash.0.finish() >> 16);
        }
        hashed.1
    }

    fn certificates(&self) -> Vec<MetricFamily> {
        let table = self.table.current();
        let facts = table.certificate_facts();
        let facts: Vec<_> = facts
            .map(|(host, facts)| (host.to_string(), facts))
            .collect();
        let class = &*self.identity.class;
        let named = |(host, facts): &(String, &Facts)| {
            labels([
                ("class", class),
                ("host", &**host),
                ("identifier", &*facts.serial_number),
                ("namespace", &*facts.secret.namespace),
                ("secret_name", &*facts.secret.name),
            ])
        };
        let expiries = facts
            .iter()
            .map(|one| (named(one), float(one.1.expires_at)));
        let infos = facts.iter().map(|one| {
            let mut pairs = named(one);
            pairs.extend(labels([
                ("issuer_common_name", &*one.1.issuer_common_name),
                ("issuer_organization", &*one.1.issuer_organization),
                ("public_key_algorithm", one.1.public_key_algorithm),
                ("serial_number", &*one.1.serial_number),
            ]));
            (pairs, 1.0)
        });
        vec![
            gauge(
                "nginx_ingress_controller_ssl_expire_time_seconds",
                "When a certificate expires, in seconds since 1970",
                expiries,
            ),
            gauge(
                "nginx_ingress_controller_ssl_certificate_info",
                "Certificates that are served, with what they say about themselves",
                infos,
            ),
        ]
    }

    fn health_checks(&self) -> [MetricFamily; 4] {
        let health = self.table.health();
        let backends = health.backends();
        let (passed, failed) = health.counts();
        let by = |count: fn(&ProbedBackend) -> usize| {
            // Ingresses that ask for different probes have backends of the same name.
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for one in &backends {
                *sums.entry(&one.backend).or_default() += count(one) as u64;
            }
            let sample = |(backend, sum)| (labels([("backend", backend)]), float(sum));
            sums.into_iter().map(sample).collect::<Vec<_>>()
        };
        [
            gauge(
                "sluice_health_check_endpoints",
                "Endpoints of backends whose endpoints are probed",
                by(|backend| backend.endpoints),
            ),
            gauge(
                "sluice_health_check_failing_endpoints",
                "Endpoints that fail their probes",
                by(|backend| backend.failing.len()),
            ),
            gauge(
                "sluice_health_check_unchecked_endpoints",
                "Endpoints that are not probed because the limit of probed endpoints is reached",
                [(LabelPairs::new(), float(health.unchecked()))],
            ),
            counter(
                "sluice_health_checks_total",
                "Probes of endpoints, by what came of them",
                [
                    (labels([("result", "passed")]), float(passed)),
                    (labels([("result", "failed")]), float(failed)),
                ],
            ),
        ]
    }

    fn overflow(&self) -> [MetricFamily; 1] {
        let overflow = |reader: &WorkerReader| reader.series.overflow.value();
        let sum: u64 = self.workers.iter().map(overflow).sum();
        [counter(
            "sluice_request_series_dropped_total",
            "Requests that are counted in no series because the limit of series is reached",
            [(LabelPairs::new(), float(sum))],
        )]
    }
}

/// Hashes what is written to it.
struct Hash(DefaultHasher);

impl std::fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// All metrics at one instant, written as text part by part: the text of many routes is some
/// twenty times as large as what it is made from.
pub struct MetricsSnapshot {
    sums: Vec<Sum>,
    /// Everything that is not counted by route.
    others: Vec<MetricFamily>,
}

impl MetricsSnapshot {
    /// Adds families that workers do not count.
    pub fn extend(&mut self, families: impl IntoIterator<Item = MetricFamily>) {
        self.others.extend(families);
    }

    /// One part of the text, of at most some 100 KiB for each; `None` after the last. The parts in
    /// their order are the whole text.
    pub fn part(&self, index: usize, format: MetricsFormat) -> Option<String> {
        let parts = requests::parts(&self.sums);
        match (index.checked_sub(parts), format) {
            (None, _) => Some(requests::part(&self.sums, index, format)),
            (Some(0), MetricsFormat::Text) => Some(encode(&self.others)),
            (Some(0), MetricsFormat::OpenMetrics) => {
                Some(openmetrics::encode(&self.others) + openmetrics::END)
            }
            (Some(_), _) => None,
        }
    }

    /// The whole text, in the text format of Prometheus.
    pub fn text(&self) -> String {
        (0..)
            .map_while(|index| self.part(index, MetricsFormat::Text))
            .collect()
    }
}

/// What nginx's `stub_status` module tells.
fn stub_status(constant: &LabelPairs, workers: &[WorkerSnapshot]) -> [MetricFamily; 3] {
    let sum = |count: &dyn Fn(&DatapathSnapshot) -> u64| -> u64 {
        let both = workers
            .iter()
            .flat_map(|worker| [&worker.netns, &worker.host]);
        both.map(count).sum()
    };
    let with = |name, value, count| {
        let mut pairs = constant.clone();
        pairs.extend(labels([(name, value)]));
        (pairs, float(count))
    };
    let open = sum(&|count| count.connections_open);
    let busy = workers.iter().map(|worker| worker.requests_open).sum();
    let accepted = sum(&|count| count.connections_accepted);
    [
        gauge(
            "nginx_ingress_controller_nginx_process_connections",
            "Connections of clients: all, those with a request, those without",
            [
                with("state", "active", open),
                with("state", "writing", busy),
                with("state", "waiting", open.saturating_sub(busy)),
            ],
        ),
        counter(
            "nginx_ingress_controller_nginx_process_connections_total",
            "Connections of clients",
            [
                with("state", "accepted", accepted),
                with("state", "handled", accepted),
            ],
        ),
        counter(
            "nginx_ingress_controller_nginx_process_requests_total",
            "Requests read",
            [(constant.clone(), float(sum(&|count| count.requests)))],
        ),
    ]
}

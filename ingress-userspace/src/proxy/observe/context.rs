//! Where a worker's requests are recorded: series, access log, traces, error log.

use std::rc::Rc;
use std::sync::Arc;

use crate::proxy::observe::access_log::LogBuffer;
use crate::proxy::observe::metrics::labels::LabelSet;
use crate::proxy::observe::metrics::series::SeriesMap;
use crate::proxy::observe::tail::Tail;
use crate::proxy::observe::trace::Tracer;
use crate::proxy::observe::upstream_errors::UpstreamErrorLog;
use crate::proxy::runtime::context::Runtime;

/// The observers of one worker.
pub(crate) struct Observers {
    pub(crate) runtime: Rc<Runtime>,
    /// The labels of all routes; every table of a daemon has the same set.
    pub(crate) labels: Arc<LabelSet>,
    pub(crate) shelf: SeriesMap,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) tracer: Option<Tracer>,
    /// The watchers of `sluice tail`.
    pub(crate) tail: Tail,
    pub(crate) upstream_errors: UpstreamErrorLog,
}

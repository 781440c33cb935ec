//! The context of a worker's requests, for this floor and those below.

use std::rc::Rc;

use crate::proxy::observe::context::Observers;
use crate::proxy::request::authenticate::KnownClients;
use crate::proxy::runtime::client_policy::ClientPolicy;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::limits::ClientLimits;
use crate::proxy::table::Tables;
use crate::proxy::upstream::context::Upstreams;

/// The request side of one worker.
pub(crate) struct WorkerContext {
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) observers: Rc<Observers>,
    pub(crate) tables: Rc<Tables>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) clients: Rc<ClientPolicy>,
    pub(crate) limits: ClientLimits,
    /// Clients that have shown something before.
    pub(crate) known_clients: KnownClients,
}

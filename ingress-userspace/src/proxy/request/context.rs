//! The context of a worker's requests, for this floor and those below.

use std::cell::RefCell;
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
    clients: RefCell<Rc<ClientPolicy>>,
    pub(crate) limits: ClientLimits,
    /// Clients that have shown something before.
    pub(crate) known_clients: KnownClients,
}

impl WorkerContext {
    pub(crate) fn new(
        runtime: &Rc<Runtime>,
        observers: &Rc<Observers>,
        tables: &Rc<Tables>,
        upstreams: &Rc<Upstreams>,
        clients: ClientPolicy,
        limits: ClientLimits,
        known_clients: KnownClients,
    ) -> Rc<Self> {
        Rc::new(Self {
            runtime: Rc::clone(runtime),
            observers: Rc::clone(observers),
            tables: Rc::clone(tables),
            upstreams: Rc::clone(upstreams),
            clients: RefCell::new(Rc::new(clients)),
            limits,
            known_clients,
        })
    }

    /// Who is believed about clients.
    pub(crate) fn clients(&self) -> Rc<ClientPolicy> {
        Rc::clone(&self.clients.borrow())
    }

    /// Has others believed from the next connection on.
    pub(crate) fn set_clients(&self, clients: ClientPolicy) {
        let mut current = self.clients.borrow_mut();
        if **current != clients {
            *current = Rc::new(clients);
        }
    }
}

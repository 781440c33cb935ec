//! How many connections one client may have open on one worker.
//!
//! Clients at their bound are reset, so that one of them cannot have all descriptors that there are.
//! A proxy whose endpoint is itself is such a client: its request goes round until the bound.

use std::cell::RefCell;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::proxy::downstream::context::AcceptContext;
use crate::proxy::runtime::client_group::ClientGroup;
use crate::proxy::runtime::transport::Datapath;

/// The connections that each client has open on one worker.
pub(crate) struct ClientLimit {
    /// `None`: any number.
    max: Option<NonZeroU32>,
    open: RefCell<HashMap<ClientGroup, u32>>,
}

impl ClientLimit {
    pub(crate) fn new(max: Option<NonZeroU32>) -> Self {
        Self {
            max,
            open: RefCell::default(),
        }
    }

    /// Counts one more, unless there are as many as there may be.
    fn enter(&self, group: ClientGroup, max: NonZeroU32) -> bool {
        let mut open = self.open.borrow_mut();
        let count = open.entry(group).or_insert(0);
        let enters = *count < max.get();
        *count += u32::from(enters);
        enters
    }

    fn leave(&self, group: ClientGroup) {
        if let Entry::Occupied(mut count) = self.open.borrow_mut().entry(group) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A connection that is counted until this is dropped.
pub(crate) struct Admitted(Option<(Rc<AcceptContext>, ClientGroup)>);

impl Admitted {
    /// Admits a client's connection. `None` if the client has as many as it may have: the connection
    /// is reset when it is dropped. Who speaks for many clients is not counted.
    pub(crate) fn admit(
        context: &Rc<AcceptContext>,
        stream: &TcpStream,
        datapath: Datapath,
        client: IpAddr,
    ) -> Option<Self> {
        let limit = &context.client_limit;
        let worker = &context.worker;
        let Some(max) = limit.max.filter(|_| !worker.clients().trusts(client)) else {
            return Some(Self(None));
        };
        let group = ClientGroup::of(client);
        if limit.enter(group, max) {
            return Some(Self(Some((Rc::clone(context), group))));
        }
        let counters = worker.runtime.counters.datapath(datapath);
        counters.client_limit_refusals.increment();
        reset(stream);
        None
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((context, group)) = &self.0 {
            context.client_limit.leave(*group);
        }
    }
}

/// Has a connection be reset when it is dropped: the client is told at once, and nothing of it is
/// kept here.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_clients_that_have_left() {
        let limit = ClientLimit::new(None);
        let max = NonZeroU32::new(2).unwrap();
        let client = |text: &str| ClientGroup::of(text.parse().unwrap());
        let [a, b] = [client("192.0.2.1"), client("192.0.2.2")];
        assert!(limit.enter(a, max) && limit.enter(a, max));
        assert!(!limit.enter(a, max), "two are the bound");
        assert!(limit.enter(b, max), "of each");
        limit.leave(a);
        assert!(limit.enter(a, max), "one has left");
        for group in [a, a, b] {
            limit.leave(group);
        }
        assert!(limit.open.borrow().is_empty());
    }
}

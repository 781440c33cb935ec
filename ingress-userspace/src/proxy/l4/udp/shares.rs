//! The shares of clients in UDP sessions, and which session is evicted at the bound.
//!
//! Pure: it knows neither sockets nor time, only the order in which sessions were used.
//!
//! Invariant: there are at most `max` sessions, of which each client has at most a quarter. Sessions
//! that have had an answer are never evicted.

use std::collections::{BTreeMap, HashMap};

use crate::proxy::runtime::client_group::ClientGroup;

/// The sessions of one worker; `T` is what ends one.
pub(crate) struct Shares<T> {
    max: u64,
    /// How many each client has.
    clients: HashMap<ClientGroup, u64>,
    sessions: HashMap<Ticket, Entry<T>>,
    /// Those that have had no answer, by when they were used last.
    unanswered: BTreeMap<u64, Ticket>,
    next: u64,
}

/// Names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

struct Entry<T> {
    client: ClientGroup,
    value: T,
    /// Where it stands in `unanswered`; `None` once it has had an answer.
    used: Option<u64>,
}

impl<T> Shares<T> {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            max,
            clients: HashMap::new(),
            sessions: HashMap::new(),
            unanswered: BTreeMap::new(),
            next: 0,
        }
    }

    /// Whether a client may have one more session, as far as its share goes and others can give way.
    pub(crate) fn admits(&self, client: ClientGroup) -> bool {
        let own = self.clients.get(&client).copied().unwrap_or(0);
        let is_full = self.sessions.len() as u64 >= self.max;
        own < (self.max / CLIENT_PART).max(1) && !(is_full && self.unanswered.is_empty())
    }

    /// Adds a session of a client that is [admitted](Self::admits). Returns what has to give way.
    pub(crate) fn add(&mut self, client: ClientGroup, value: T) -> (Ticket, Option<T>) {
        let evicted = if self.sessions.len() as u64 >= self.max {
            let longest = self.unanswered.first_key_value();
            let longest = longest.map(|(_, ticket)| *ticket);
            longest.and_then(|ticket| self.remove(ticket))
        } else {
            None
        };
        let number = self.number();
        let ticket = Ticket(number);
        *self.clients.entry(client).or_insert(0) += 1;
        self.unanswered.insert(number, ticket);
        let entry = Entry {
            client,
            value,
            used: Some(number),
        };
        self.sessions.insert(ticket, entry);
        (ticket, evicted)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The client has sent something.
    pub(crate) fn used(&mut self, ticket: Ticket) {
        let now = self.number();
        if let Some(entry) = self.sessions.get_mut(&ticket)
            && let Some(used) = &mut entry.used
        {
            self.unanswered.remove(used);
            self.unanswered.insert(now, ticket);
            *used = now;
        }
    }

    /// The endpoint has answered.
    pub(crate) fn answered(&mut self, ticket: Ticket) {
        let entry = self.sessions.get_mut(&ticket);
        if let Some(used) = entry.and_then(|entry| entry.used.take()) {
            self.unanswered.remove(&used);
        }
    }

    /// Removes a session that has ended; `None` if it was evicted before.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let entry = self.sessions.remove(&ticket)?;
        if let Some(used) = entry.used {
            self.unanswered.remove(&used);
        }
        if let Some(count) = self.clients.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry.value)
    }
}

/// The part of all sessions that one client may have.
const CLIENT_PART: u64 = 4;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> ClientGroup {
        ClientGroup::of([192, 0, 2, number].into())
    }

    /// A step in the life of a session.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(u8),
        Use(usize),
        Answer(usize),
        End(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8_u8).prop_map(Step::Ask),
            2 => (0..20_usize).prop_map(Step::Use),
            1 => (0..20_usize).prop_map(Step::Answer),
            1 => (0..20_usize).prop_map(Step::End),
        ]
    }

    /// The same, as slow and plain as can be: sessions in the order of their last use.
    #[derive(Default)]
    struct Naive(Vec<(Ticket, u8, bool)>);

    impl Naive {
        fn ask(&self, max: usize, own: u8) -> Result<Option<Ticket>, ()> {
            let count = self.0.iter().filter(|(_, client, _)| *client == own);
            if count.count() >= (max / 4).max(1) {
                return Err(());
            }
            if self.0.len() < max {
                return Ok(None);
            }
            let longest = self.0.iter().find(|(_, _, is_answered)| !is_answered);
            longest.map(|(ticket, _, _)| Some(*ticket)).ok_or(())
        }
    }

    proptest! {
        #[test]
        fn shares_are_those_of_the_naive_table(max in 1..12_u64, steps in vec(step(), 1..200)) {
            let mut shares = Shares::new(max);
            let mut naive = Naive::default();
            for step in steps {
                match step {
                    Step::Ask(number) => {
                        let expected = naive.ask(usize::try_from(max).unwrap(), number);
                        prop_assert_eq!(shares.admits(client(number)), expected.is_ok());
                        let Ok(evicted) = expected else { continue };
                        naive.0.retain(|(ticket, _, _)| Some(*ticket) != evicted);
                        let next = Ticket(shares.next + 1);
                        let (ticket, given_way) = shares.add(client(number), next);
                        prop_assert_eq!((ticket, given_way), (next, evicted));
                        naive.0.push((ticket, number, false));
                    }
                    Step::Use(index) if index < naive.0.len() => {
                        let used = naive.0.remove(index);
                        naive.0.push(used);
                        shares.used(used.0);
                    }
                    Step::Answer(index) if index < naive.0.len() => {
                        naive.0[index].2 = true;
                        shares.answered(naive.0[index].0);
                    }
                    Step::End(index) if index < naive.0.len() => {
                        let ticket = naive.0.remove(index).0;
                        prop_assert_eq!(shares.remove(ticket), Some(ticket));
                    }
                    Step::Use(_) | Step::Answer(_) | Step::End(_) => {}
                }
                prop_assert_eq!(shares.sessions.len(), naive.0.len());
                prop_assert!(shares.sessions.len() as u64 <= max);
            }
            for (ticket, _, _) in naive.0 {
                shares.remove(ticket);
            }
            prop_assert!(shares.clients.is_empty() && shares.unanswered.is_empty());
        }
    }

    #[test]
    fn one_client_has_a_quarter_and_the_silent_give_way() {
        let mut shares = Shares::new(4);
        let [first, second] = [0, 1].map(|number| shares.add(client(number), number).0);
        assert!(!shares.admits(client(0)), "a quarter of four is one");
        shares.add(client(2), 2);
        shares.add(client(3), 3);
        shares.answered(first);
        shares.used(second);
        assert_eq!(shares.add(client(4), 4).1, Some(2), "the longest unused");
    }
}

//! What the guard drops at frontends (the tables of denied networks, of which one is in force, and the
//! budgets of sources), and whether it answers SYNs.
//!
//! The invariant: at every instant the programs see a whole list, the old or the new one. A few
//! changes are made in the table that is in force, as each is a whole list too; more are made in the
//! other one, which then takes its place.

use std::collections::BTreeMap;
use std::time::Duration;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, MapError};
use ingress_common::guard::{ANSWERING_MAX, DENIED_MAX, GuardSettings, Mac, NO_TABLE};
use ingress_common::steering::Address;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::maps::{self, MapFault};
use super::object::{Object, ObjectError};
use super::sources::{IPV4, IPV4_BITS, prefix};

/// A network whose packets to frontends are dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Denied {
    /// The network.
    pub network: IpNet,
    /// Until when (`CLOCK_MONOTONIC`, in nanoseconds); 0 is for ever.
    pub until_ns: u64,
}

/// New connections that a source may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBudget {
    /// Connections a second; 0: any number.
    pub per_second: u32,
    /// Connections at once.
    pub burst: u32,
    /// Bits of an IPv4 address that make a source.
    pub v4_bits: u8,
    /// Bits of an IPv6 address that make a source.
    pub v6_bits: u8,
}

/// The maps of the guard.
pub(super) struct Guarded {
    settings: Array<MapData, GuardSettings>,
    answering: HashMap<MapData, u32, Mac>,
    tables: [LpmTrie<MapData, Address, u64>; 2],
    /// The table that is in force; if none is, the one to write next.
    current: usize,
    held: BTreeMap<(u32, Address), u64>,
    known: GuardSettings,
}

impl Guarded {
    /// Takes the maps out of the object. Nobody is denied before [`Guarded::set`] is called.
    pub(super) fn take(object: &mut Object, budget: SourceBudget) -> Result<Self, GuardedError> {
        let mut guarded = Self {
            settings: object.take_map("GUARD_SETTINGS")?,
            answering: object.take_map("ANSWERING_DEVICES")?,
            tables: [object.take_map("DENIED")?, object.take_map("DENIED_NEXT")?],
            current: 0,
            held: BTreeMap::new(),
            known: settings(budget),
        };
        guarded.publish(NO_TABLE)?;
        Ok(guarded)
    }

    /// Denies these networks and no others. Gives how many found no room.
    pub(super) fn set(&mut self, denied: &[Denied]) -> Result<usize, MapFault> {
        let listed = denied.iter().take(DENIED_MAX as usize);
        let mut wanted: BTreeMap<_, _> = listed
            .map(|denied| (prefix(&denied.network), denied.until_ns))
            .collect();
        if wanted.keys().any(|(bits, _)| *bits < IPV4_BITS) {
            // Networks of IPv6 say nothing about IPv4, which is mapped into it.
            wanted.entry((IPV4_BITS, IPV4.octets())).or_insert(OVER);
        }
        let changes = changes(&self.held, &wanted);
        if self.known.denied_table != NO_TABLE && changes.len() <= CHANGES_IN_PLACE_MAX {
            for (at, until) in changes {
                write(&mut self.tables[self.current], at, until)?;
            }
        } else if !changes.is_empty() {
            self.replace(&wanted)?;
        }
        self.held = wanted;
        Ok(denied.len().saturating_sub(DENIED_MAX as usize))
    }

    /// Answers SYNs by cookies, with windows of this shift; or leaves them to the listeners.
    pub(super) fn answer_syns(&mut self, window_scale: Option<u8>) -> Result<(), MapFault> {
        let before = self.known;
        self.known.answers_syns = window_scale.is_some().into();
        self.known.window_scale = window_scale.unwrap_or(0).into();
        let published = self.publish(self.known.denied_table);
        if published.is_err() {
            self.known = before;
        }
        published
    }

    /// Makes the devices (ifindex) on which SYNs may be answered what `devices` says.
    pub(super) fn set_answering(&mut self, devices: &BTreeMap<u32, Mac>) -> Result<(), MapFault> {
        let devices = devices.iter().take(ANSWERING_MAX as usize);
        let devices = devices.map(|(device, mac)| (*device, *mac)).collect();
        maps::make(&mut self.answering, &devices).map_err(MapFault::of("ANSWERING_DEVICES"))
    }

    /// Fills the table that is not in force, and puts it in force.
    fn replace(&mut self, wanted: &BTreeMap<(u32, Address), u64>) -> Result<(), MapFault> {
        let next = if self.known.denied_table == NO_TABLE {
            self.current
        } else {
            1 - self.current
        };
        let table = &mut self.tables[next];
        let keys = table.keys().filter_map(Result::ok);
        let left: Vec<_> = keys.map(|key| (key.prefix_len(), key.data())).collect();
        for at in left.into_iter().filter(|at| !wanted.contains_key(at)) {
            write(table, at, None)?;
        }
        for (at, until) in wanted {
            write(table, *at, Some(*until))?;
        }
        self.current = next;
        let number = u32::try_from(next + 1).unwrap_or(NO_TABLE);
        self.publish(if wanted.is_empty() { NO_TABLE } else { number })
    }

    fn publish(&mut self, denied_table: u32) -> Result<(), MapFault> {
        self.known.denied_table = denied_table;
        let set = self.settings.set(0, self.known, 0);
        set.map_err(MapFault::of("GUARD_SETTINGS"))
    }
}

/// Why the maps can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum GuardedError {
    /// The object lacks one.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// One can't be written.
    #[error(transparent)]
    Map(#[from] MapFault),
}

fn write(
    table: &mut LpmTrie<MapData, Address, u64>,
    (bits, address): (u32, Address),
    until: Option<u64>,
) -> Result<(), MapFault> {
    let key = Key::new(bits, address);
    let written = match until {
        Some(until) => table.insert(&key, until, 0),
        None => match table.remove(&key) {
            Err(MapError::KeyNotFound) => Ok(()),
            outcome => outcome,
        },
    };
    written.map_err(MapFault::of("DENIED"))
}

/// What makes one list of another: what is added or changed, then what is removed.
fn changes(
    held: &BTreeMap<(u32, Address), u64>,
    wanted: &BTreeMap<(u32, Address), u64>,
) -> Vec<((u32, Address), Option<u64>)> {
    let written = wanted
        .iter()
        .filter(|(at, until)| held.get(*at) != Some(until));
    let written = written.map(|(at, until)| (*at, Some(*until)));
    let removed = held.keys().filter(|at| !wanted.contains_key(*at));
    written.chain(removed.map(|at| (*at, None))).collect()
}

fn settings(budget: SourceBudget) -> GuardSettings {
    let interval = Duration::from_secs(1).checked_div(budget.per_second);
    let interval_ns = interval.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(0));
    GuardSettings {
        denied_table: NO_TABLE,
        answers_syns: 0,
        window_scale: 0,
        interval_ns,
        burst_ns: interval_ns.saturating_mul(budget.burst.max(1).into()),
        v4_mask: mask(96 + u32::from(budget.v4_bits.min(32))),
        v6_mask: mask(budget.v6_bits.min(128).into()),
    }
}

fn mask(bits: u32) -> Address {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes()
}

/// An end that has passed, in nanoseconds of `CLOCK_MONOTONIC`.
const OVER: u64 = 1;

/// Changes that are made in the table that is in force. Filling the other one takes a write for each
/// network.
const CHANGES_IN_PLACE_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_an_interval_and_masks() {
        let settings = settings(SourceBudget {
            per_second: 100,
            burst: 50,
            v4_bits: 24,
            v6_bits: 64,
        });
        assert_eq!(settings.interval_ns, 10_000_000);
        assert_eq!(settings.burst_ns, 500_000_000);
        assert_eq!(settings.v4_mask[14..], [0xff, 0]);
        assert_eq!(settings.v6_mask[6..10], [0xff, 0xff, 0, 0]);
        assert_eq!(mask(0), [0; 16]);
    }

    #[test]
    fn budget_of_nothing_is_no_limit() {
        let unlimited = settings(SourceBudget {
            per_second: 0,
            burst: 50,
            v4_bits: 32,
            v6_bits: 64,
        });
        assert_eq!(unlimited.interval_ns, 0);
    }

    #[test]
    fn networks_are_added_before_others_are_removed() {
        let at = |number: u8| (8, [number; 16]);
        let held = BTreeMap::from([(at(1), 0), (at(2), 0), (at(3), 5)]);
        let wanted = BTreeMap::from([(at(2), 0), (at(3), 9), (at(4), 0)]);
        let expected = vec![(at(3), Some(9)), (at(4), Some(0)), (at(1), None)];
        assert_eq!(changes(&held, &wanted), expected);
        assert!(changes(&wanted, &wanted).is_empty());
    }
}

//! How many instances move at once: onto one host, and in all. Hosts are emptied side by side by
//! attempts that know nothing of each other, so the count is kept for the whole cloud.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use volutus_model::name::HostName;

/// The moves under way.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<BTreeMap<HostName, u32>>);

/// The place of one move, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    lanes: &'a Lanes,
    to: HostName,
}

impl Lanes {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<HostName, u32>> {
        // A count is changed by one statement, so a panic elsewhere leaves it right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a move onto a host, where fewer than these many are taken. 0 means no limit.
    pub(crate) fn take(&self, to: &HostName, onto_max: u32, all_max: u32) -> Option<Lane<'_>> {
        let mut under_way = self.under_way();
        let all: u32 = under_way.values().sum();
        let onto = under_way.entry(to.clone()).or_default();
        if (onto_max > 0 && *onto >= onto_max) || (all_max > 0 && all >= all_max) {
            return None;
        }
        *onto += 1;
        Some(Lane { lanes: self, to: to.clone() })
    }

    /// A place for a move that is under way already.
    pub(crate) fn join(&self, to: &HostName) -> Lane<'_> {
        *self.under_way().entry(to.clone()).or_default() += 1;
        Lane { lanes: self, to: to.clone() }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.lanes.under_way().get_mut(&self.to) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_per_host_and_in_all_and_given_back() {
        let (lanes, a, b): (_, HostName, HostName) =
            (Lanes::default(), "a".parse().unwrap(), "b".parse().unwrap());
        let first = lanes.take(&a, 1, 3).unwrap();
        assert!(lanes.take(&a, 1, 3).is_none(), "one onto a is the most");
        let second = lanes.take(&b, 2, 3).unwrap();
        // What an earlier process began counts, even beyond the limit.
        let third = lanes.join(&a);
        assert!(lanes.take(&b, 2, 3).is_none(), "three in all is the most");
        assert!(lanes.take(&b, 2, 0).is_some(), "no limit in all");
        drop((first, third));
        assert!(lanes.take(&a, 1, 3).is_some());
        drop(second);
    }
}

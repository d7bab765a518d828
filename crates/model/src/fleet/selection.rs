//! Which hosts of a fleet are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits::glob_matches;
use super::newcomers::TRIES_MAX;
use super::{Fleet, FleetHost, Part};
use crate::name::HostName;

/// The hosts that a plan is to reboot; all of them where nothing is named. What is named together
/// must hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Hosts by name or pattern (`*`, `?`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// Hosts of a zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Hosts of an aggregate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// What is not meant any more, where the plan goes on from another one.
    #[serde(skip_serializing_if = "Past::is_none")]
    pub past: Past,
}

/// What became of hosts under the plans that a plan goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Past {
    /// Done: they are not rebooted again, and may be moved to.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub done: BTreeSet<HostName>,
    /// Failed: they are neither rebooted nor moved to.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub failed: BTreeSet<HostName>,
    /// Did not take an instance: they are not moved to, unless they are rebooted before.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<HostName>,
    /// Could not be emptied for newcomers alone, and how often: they are planned again, with what came.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub newcomers: BTreeMap<HostName, u32>,
}

impl Past {
    /// Whether the plan goes on from no other.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Notes that a host could not be emptied for newcomers alone; whether it is planned again, and has not failed.
    pub fn stopped_by_newcomers(&mut self, host: &HostName) -> bool {
        let times = self.newcomers.entry(host.clone()).or_default();
        *times += 1;
        *times <= TRIES_MAX
    }

    fn part(&self, host: &FleetHost) -> Part {
        let name = &host.name;
        let part = match host.part {
            Part::Reboot if self.done.contains(name) => Part::Exempt,
            part => part,
        };
        match part {
            Part::Exempt if self.refused.contains(name) => Part::Untouched,
            _ if self.failed.contains(name) => Part::Untouched,
            part => part,
        }
    }
}

impl Selection {
    /// Whether it means all hosts.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it means a host.
    #[must_use]
    pub fn matches(&self, host: &FleetHost) -> bool {
        self.hosts.as_deref().is_none_or(|pattern| glob_matches(pattern, host.name.as_str()))
            && self.zone.as_ref().is_none_or(|zone| host.zone.as_ref() == Some(zone))
            && self.aggregate.as_ref().is_none_or(|aggregate| host.aggregates.contains(aggregate))
    }

    /// The fleet with every other host exempt: it is not rebooted, and may be moved to, because
    /// otherwise one host alone could never be emptied.
    #[must_use]
    pub fn applied_to(&self, fleet: &Fleet) -> Fleet {
        let mut fleet = fleet.clone();
        for host in fleet.hosts.iter_mut().filter(|host| !self.matches(host)) {
            if host.part == Part::Reboot {
                host.part = Part::Exempt;
            }
        }
        for host in &mut fleet.hosts {
            host.part = self.past.part(host);
        }
        fleet
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("hosts", &self.hosts), ("zone", &self.zone), ("aggregate", &self.aggregate)];
        let words: Vec<String> =
            parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value).as_ref()?))).collect();
        f.write_str(if words.is_empty() { "all hosts" } else { "" })?;
        f.write_str(&words.join(", "))?;
        if self.past.is_none() {
            return Ok(());
        }
        let counts = [self.past.done.len(), self.past.failed.len()];
        write!(f, ", but {} that are done and {} that failed", counts[0], counts[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_meant_may_still_be_moved_to() {
        let host = |name: &str, zone: &str, part| FleetHost {
            part,
            zone: Some(zone.to_owned()),
            ..FleetHost::named(name.parse().unwrap())
        };
        let fleet = Fleet {
            hosts: vec![
                host("c1", "a", Part::Reboot),
                host("c2", "b", Part::Reboot),
                host("c3", "b", Part::Untouched),
            ],
            ..Fleet::default()
        };
        let parts = |selection: &Selection| -> Vec<Part> {
            selection.applied_to(&fleet).hosts.iter().map(|host| host.part).collect()
        };
        assert_eq!(parts(&Selection::default()), [Part::Reboot, Part::Reboot, Part::Untouched]);
        let zone = Selection { zone: Some("a".to_owned()), ..Selection::default() };
        assert_eq!(parts(&zone), [Part::Reboot, Part::Exempt, Part::Untouched]);
        let neither = Selection { hosts: Some("c2".to_owned()), ..zone };
        assert_eq!(parts(&neither), [Part::Exempt, Part::Exempt, Part::Untouched]);
        assert_eq!(neither.to_string(), "hosts c2, zone a");
        assert_eq!(Selection::default().to_string(), "all hosts");
    }

    #[test]
    fn what_is_done_or_failed_or_refused_is_not_meant_again() {
        let host = |name: &str| FleetHost::named(name.parse().unwrap());
        let hosts = ["done", "failed", "refused", "waits"].map(host).to_vec();
        let fleet = Fleet { hosts, ..Fleet::default() };
        let set = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let past = Past {
            done: set(&["done"]),
            failed: set(&["failed"]),
            refused: set(&["refused", "done"]),
            newcomers: BTreeMap::from([("waits".parse().unwrap(), 1)]),
        };
        let parts = |past: &Past| -> Vec<Part> {
            let selection = Selection { past: past.clone(), ..Selection::default() };
            selection.applied_to(&fleet).hosts.iter().map(|host| host.part).collect()
        };
        // A host that refused and is yet to be rebooted may take instances after that.
        assert_eq!(parts(&past), [Part::Untouched, Part::Untouched, Part::Reboot, Part::Reboot]);
        let mut past = Past { refused: BTreeSet::new(), ..past };
        assert_eq!(parts(&past), [Part::Exempt, Part::Untouched, Part::Reboot, Part::Reboot]);
        // What newcomers stopped is planned again; not for ever.
        let waits = "waits".parse().unwrap();
        let planned: Vec<bool> = (0..TRIES_MAX).map(|_| past.stopped_by_newcomers(&waits)).collect();
        assert_eq!(planned, [true, true, false], "one time was noted before");
        assert_eq!(parts(&past)[3], Part::Reboot);
    }
}

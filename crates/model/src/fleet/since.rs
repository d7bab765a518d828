//! What became of instances since a plan was made: a cloud with users never stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::plan::RebootPlan;
use super::{Fleet, Instance};
use crate::name::HostName;

/// Instances that came, went, or were moved by others since a plan was made, as far as they concern it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// On hosts that the plan empties, and not in it.
    pub came: BTreeSet<String>,
    /// In the plan, and gone.
    pub went: BTreeSet<String>,
    /// In the plan, and on another host than it begins with; that host.
    pub moved: BTreeMap<String, HostName>,
}

impl Since {
    /// Compares a plan with the fleet as it is now.
    #[must_use]
    pub fn of(plan: &RebootPlan, fleet: &Fleet) -> Self {
        let content = &plan.content;
        let mut planned: BTreeMap<&str, &HostName> = BTreeMap::new();
        for stay in &content.stays {
            planned.insert(&stay.instance, &stay.host);
        }
        // Of an instance that moves twice the first move tells where it was. Moves are in their order.
        for one in &content.moves {
            planned.entry(&one.instance).or_insert(&one.from);
        }
        let emptied: BTreeSet<&HostName> = content.drains.iter().map(|drain| &drain.host).collect();
        let here: BTreeMap<&str, &HostName> =
            fleet.instances.iter().map(|instance| (instance.id.as_str(), &instance.host)).collect();
        let came = |instance: &&Instance| {
            emptied.contains(&instance.host) && !planned.contains_key(instance.id.as_str())
        };
        Self {
            came: fleet.instances.iter().filter(came).map(|instance| instance.id.clone()).collect(),
            went: planned.keys().filter(|id| !here.contains_key(*id)).map(|id| (*id).to_owned()).collect(),
            moved: planned
                .iter()
                .filter(|(id, host)| here.get(*id).is_some_and(|now| now != *host))
                .map(|(id, host)| ((*id).to_owned(), (*host).clone()))
                .collect(),
        }
    }

    /// Whether nothing came, went or was moved.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.came.is_empty() && self.went.is_empty() && self.moved.is_empty()
    }

    /// The plan without what went, and the fleet without what came and with everything back where the plan
    /// knew it. What is wrong with the one on the other has other reasons.
    #[must_use]
    pub fn undone(&self, plan: &RebootPlan, fleet: &Fleet) -> (RebootPlan, Fleet) {
        let (mut content, mut fleet) = (plan.content.clone(), fleet.clone());
        content.moves.retain(|one| !self.went.contains(&one.instance));
        content.stays.retain(|stay| !self.went.contains(&stay.instance));
        let mut moves: BTreeMap<HostName, u32> = BTreeMap::new();
        for one in &content.moves {
            *moves.entry(one.from.clone()).or_default() += 1;
        }
        for drain in &mut content.drains {
            drain.moves = moves.get(&drain.host).copied().unwrap_or(0);
        }
        fleet.instances.retain(|instance| !self.came.contains(&instance.id));
        let known: BTreeSet<HostName> = fleet.hosts.iter().map(|host| host.name.clone()).collect();
        for instance in &mut fleet.instances {
            let before = self.moved.get(&instance.id).filter(|host| known.contains(*host));
            if let Some(host) = before {
                instance.host = host.clone();
            }
        }
        (RebootPlan::new(content), fleet)
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.came.len(), "came"),
            (self.went.len(), "went"),
            (self.moved.len(), "were moved by others"),
        ];
        let told: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        f.write_str(&if told.is_empty() { "none came or went".to_owned() } else { told.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetHost;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A plan that empties `c1`, where `a` moves twice, `b` once, and `s` stays.
    fn plan() -> RebootPlan {
        let one = |instance: &str, from: &str, to: &str, again: bool| {
            format!(
                r#"{{"instance": "{instance}", "from": "{from}", "to": "{to}", "start_ms": 0, "end_ms": 1, "how": "live", "moves_again": {again}}}"#
            )
        };
        let drain = |host: &str, moves: u32| {
            format!(
                r#"{{"host": "{host}", "disable_ms": 0, "empty_ms": 1, "back_ms": 2, "wave": 1, "moves": {moves}}}"#
            )
        };
        let text = format!(
            r#"{{"format": 1, "cloud": "c", "created_at": "2026-01-01T00:00:00Z", "fleet": "", "policy": {{}},
            "drains": [{}, {}], "moves": [{}, {}, {}], "stays": [{{"instance": "s", "host": "c1", "why": "off"}}],
            "left": [], "findings": [], "figures": {{"hosts": 2, "instances_moved": 2, "moves": 3, "second_moves": 1,
            "waves": 2, "makespan_ms": 2, "headroom": [], "soft_groups_worse": 0, "bounds": {{"longest_host_ms": 0,
            "hosts_at_once_ms": 0, "moves_at_once_ms": 0, "growth_ms": 0}}}}}}"#,
            drain("c1", 2),
            drain("c2", 1),
            one("a", "c1", "c2", true),
            one("b", "c1", "c3", false),
            one("a", "c2", "c1", false),
        );
        RebootPlan::new(serde_json::from_str(&text).unwrap())
    }

    fn fleet(places: &[(&str, &str)]) -> Fleet {
        let instance = |(id, host): &(&str, &str)| -> Instance {
            let text = format!(r#"{{"id": "{id}", "host": "{host}", "resources": {{}}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        Fleet {
            hosts: ["c1", "c2", "c3"].map(|name| FleetHost::named(name.parse().unwrap())).to_vec(),
            instances: places.iter().map(instance).collect(),
            ..Fleet::default()
        }
    }

    #[test]
    fn what_came_went_and_was_moved_is_told_apart() {
        let plan = plan();
        // What is on hosts that the plan does not empty is none of its business.
        let same = fleet(&[("a", "c1"), ("b", "c1"), ("s", "c1"), ("other", "c3")]);
        assert!(Since::of(&plan, &same).is_none());
        let now = fleet(&[("a", "c3"), ("s", "c1"), ("new", "c2"), ("other", "c3")]);
        let since = Since::of(&plan, &now);
        assert_eq!((&since.came, &since.went), (&set(&["new"]), &set(&["b"])));
        assert_eq!(since.moved, BTreeMap::from([("a".to_owned(), "c1".parse().unwrap())]));
        assert_eq!(since.to_string(), "1 came, 1 went, 1 were moved by others");
        let (before, as_before) = since.undone(&plan, &now);
        assert_eq!(as_before, fleet(&[("a", "c1"), ("s", "c1"), ("other", "c3")]));
        assert!(before.content.moves.iter().all(|one| one.instance == "a"));
        let moves: Vec<u32> = before.content.drains.iter().map(|drain| drain.moves).collect();
        assert_eq!(moves, [1, 1]);
        assert_eq!(before.id, RebootPlan::compute_id(&before.content));
        assert!(Since::of(&before, &as_before).is_none());
    }

    /// Plans that are older than newcomers keep their ids.
    #[test]
    fn an_older_plan_is_what_its_id_says() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert!(!text.contains("newcomers"), "{text}");
    }
}

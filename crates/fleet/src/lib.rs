//! Pure: plans the reboot of a fleet, so that every instance moves at most once.
//!
//! [`plan`] takes a [`Fleet`] and a [`RebootPolicy`] and makes an immutable [`RebootPlan`]: which
//! host is disabled, emptied, rebooted and given back when, and which instance goes where. It
//! must never look at a cloud, a clock or a file; the same input always makes the same plan.
//!
//! Names are turned into numbers once (`index`), and everything that is asked often is asked of
//! numbers. The rules have a file each: what can be done with an instance (`ladder`), which hosts
//! may take it (`lanes`), how long things take (`timing`), how many hosts at once and in which
//! order (`budgets`), where the instances of one host go (`assign`), when everything happens
//! (`schedule`), what is done when no empty host is left (`again`), why a host cannot be emptied
//! (`causes`), what becomes of a live migration that does not converge (`converge`), where instances go that come
//! after the plan was made (`newcomers`), and what no schedule can beat (`bounds`). `volutus-plancheck` judges the
//! result and shares none of this.

mod again;
mod assign;
mod bounds;
mod budgets;
mod by_hand;
mod causes;
mod classes;
mod converge;
pub mod described;
mod duties;
mod explain;
mod figures;
mod index;
mod ladder;
mod lanes;
mod newcomers;
mod render;
mod schedule;
mod state;
mod timing;

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_model::fleet::plan::{Content, FORMAT, Left, RebootPlan, Work};
use volutus_model::fleet::{self, Fleet, RebootPolicy, Selection};
use volutus_model::{Finding, HostName, Severity};

pub use by_hand::{drain, undrain};
pub use converge::{Fate, fates};
pub use duties::with_control;
pub use explain::explain;
pub use render::{bytes, disk, duration, render_markdown, render_text};

/// Why no plan was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The description contradicts itself.
    #[error("the fleet is not described as one: {0}")]
    Description(#[from] fleet::Error),
    /// A limit makes no sense.
    #[error("the policy cannot be kept: {0}")]
    Policy(String),
    /// No host is meant.
    #[error("no host of the fleet is meant by {selection}; there are {known}")]
    NothingSelected {
        /// What was asked for.
        selection: Box<Selection>,
        /// What there is of the kind that was asked for.
        known: String,
    },
    /// One host is meant, and there is none of that name.
    #[error("the fleet has no host {host}; there are {known}")]
    NoSuchHost {
        /// What was asked for.
        host: HostName,
        /// What there is.
        known: String,
    },
    /// One host is to be emptied, and cannot be.
    #[error("{} cannot be emptied: {}", left.host, left.cause)]
    CannotBeEmptied {
        /// Why, and what would let it be.
        left: Box<Left>,
    },
    /// There is nothing to reboot.
    #[error("none of the {hosts} hosts is to be rebooted: {why}")]
    NothingToDo {
        /// Hosts of the fleet.
        hosts: usize,
        /// What became of them.
        why: String,
    },
}

/// Makes a plan of the reboot of every host that is selected and whose part it is.
///
/// # Errors
/// [`Error`]; a host that cannot be emptied is not an error but an entry of `left`.
pub fn plan(
    fleet: &Fleet,
    policy: &RebootPolicy,
    selection: &Selection,
    cloud: &HostName,
    now: Timestamp,
) -> Result<RebootPlan, Error> {
    fleet.check()?;
    policy.check().map_err(|error| Error::Policy(error.to_string()))?;
    let by_rack = policy.hosts.per_rack.is_some() || policy.overrides.iter().any(|part| part.rack.is_some());
    if by_rack && fleet.hosts.iter().all(|host| host.rack.is_none()) {
        return Err(Error::Policy(
            "reboot.hosts.per_rack and overrides by rack limit nothing, because no host's rack is known: no API \
             tells it. Say the same by aggregates"
                .to_owned(),
        ));
    }
    if !fleet.hosts.iter().any(|host| selection.matches(host)) {
        return Err(Error::NothingSelected {
            selection: Box::new(selection.clone()),
            known: known(fleet, selection),
        });
    }
    let chosen = selection.applied_to(fleet);
    let index = index::Index::new(&chosen, policy);
    if !index.hosts.iter().any(|host| host.role == index::Role::Reboot) {
        let count = |role| index.hosts.iter().filter(|host| host.role == role).count();
        let why = format!(
            "{} are exempt, and {} are not to be touched (disabled by a person, down, or by policy)",
            count(index::Role::Ready),
            count(index::Role::Untouched)
        );
        return Err(Error::NothingToDo { hosts: fleet.hosts.len(), why });
    }
    let done = schedule::schedule(&index);
    let mut findings = findings(&index, &done);
    findings.extend(fleet.unseen.iter().cloned());
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    let figures = figures::figures(&index, &done);
    let content = Content {
        format: FORMAT,
        cloud: cloud.clone(),
        created_at: now,
        fleet: fleet.digest(),
        work: Work::Reboot,
        upgrade: None,
        selection: selection.clone(),
        policy: policy.clone(),
        control: Vec::new(),
        drains: figures::drains(&index, &done),
        moves: figures::moves(&index, &done),
        stays: figures::stays(&index, &done),
        owners: figures::owners(&index, &done),
        undecided: figures::undecided(&index, &done),
        left: done.left,
        classes: classes::classes(&index),
        duties: BTreeMap::new(),
        findings,
        figures,
    };
    Ok(RebootPlan::new(duties::told(content, fleet)))
}

/// What there is of the kind that a selection asks for.
fn known(fleet: &Fleet, selection: &Selection) -> String {
    let names: std::collections::BTreeSet<&str> = if selection.hosts.is_some() {
        fleet.hosts.iter().map(|host| host.name.as_str()).collect()
    } else if selection.zone.is_some() {
        fleet.hosts.iter().filter_map(|host| host.zone.as_deref()).collect()
    } else {
        fleet.hosts.iter().flat_map(|host| &host.aggregates).map(String::as_str).collect()
    };
    render::list(names.into_iter(), 10)
}

/// What an operator should know before the start, besides the hosts that are left.
fn findings(index: &index::Index<'_>, done: &schedule::Schedule) -> Vec<Finding> {
    let mut found = converge::findings(index, done);
    for (zone, wanted, there) in &index.spares_missing {
        found.push(Finding::new(
            Severity::Warning,
            "spare-hosts-missing",
            if zone.is_empty() { "the hosts without a zone" } else { zone },
            format!("{wanted} empty hosts are to be kept as spares, and {there} are empty"),
            "Empty more hosts beforehand, or lower reboot.capacity.spare_hosts.",
        ));
    }
    if index.pins_unseen > 0 {
        found.push(Finding::new(
            Severity::Warning,
            "numa-unseen",
            "pinned instances",
            format!(
                "{} instances are pinned and the NUMA cells of possible destinations are not known; \
                 only nova can say whether a cell is free",
                index.pins_unseen
            ),
            "Look at the first of these moves, or describe the hosts' cells.",
        ));
    }
    let again = done.moves.iter().filter(|m| m.moves_again).count();
    if again > 0 {
        let hosts: std::collections::BTreeSet<&str> =
            done.moves.iter().filter(|m| m.moves_again).map(|m| index.name(m.from)).collect();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        found.push(Finding::new(
            Severity::Info,
            "second-moves",
            hosts.join(", "),
            format!(
                "{again} instances move twice: no rebooted or empty host could take what is on these \
                 hosts, so they are emptied onto hosts that are yet to be rebooted"
            ),
            "",
        ));
    }
    let notified = done.notified;
    if notified > 0 {
        found.push(Finding::new(
            Severity::Info,
            "owners-to-be-told",
            "instances with volutus:maintenance=notify",
            format!(
                "owners of {notified} instances are to be told {} days ahead",
                index.policy.drain.notice_days
            ),
            "",
        ));
    }
    found
}

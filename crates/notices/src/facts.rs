//! What there is to tell of a plan or a run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use volutus_model::Plan;
use volutus_model::fleet::RebootPlan;
use volutus_model::fleet::plan::{How, StayReason};
use volutus_model::plan::ImpactLevel;

use crate::config::{Moment, Recipient};

/// What is done to the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It goes to a newer series.
    Upgrade,
    /// It goes back.
    Rollback,
    /// Hosts are emptied and restarted.
    Reboot,
    /// A vulnerability is closed within the series.
    Patch,
}

/// What happens to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It goes to another host and runs on meanwhile.
    Moves,
    /// It is shut down, goes to another host, and is started there.
    MovesCold,
    /// It is shut down, and started again on its host.
    Stops,
    /// It cannot be moved while it runs, and keeps its host as it is unless its owner lets it be stopped.
    Undecided,
}

impl Fate {
    /// What happens, behind the name of the instance.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Moves => "goes to another host and runs on meanwhile",
            Self::MovesCold => "is shut down, goes to another host, and is started there",
            Self::Stops => "is shut down, and started again on its host",
            Self::Undecided => {
                "cannot be moved while it runs, and stays untouched unless you let it be stopped"
            }
        }
    }
}

/// What happens to one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceFate {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of the project that owns it.
    pub project: String,
    /// What happens to it.
    pub fate: Fate,
}

/// What users may notice of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceImpact {
    /// The service.
    pub service: String,
    /// How much.
    pub level: ImpactLevel,
    /// Why.
    pub why: BTreeSet<String>,
}

/// Everything that there is to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The cloud's name.
    pub cloud: String,
    /// The moment.
    pub moment: Moment,
    /// What is done.
    pub what: What,
    /// The id of the plan.
    pub plan: String,
    /// The id of the run; `None` before there is one.
    pub run: Option<String>,
    /// The series that it comes from.
    pub from: String,
    /// The series that it goes to.
    pub to: String,
    /// When it begins or began.
    pub begins: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How long it is expected to take, in seconds.
    pub expected_s: u64,
    /// What users may notice.
    pub services: Vec<ServiceImpact>,
    /// What happens to which instances.
    pub instances: Vec<InstanceFate>,
    /// Requests of the synthetic user that failed, and all of them.
    pub requests: Option<(u64, u64)>,
    /// Why it halted, was taken back, was not done, or why its schedule is held.
    pub cause: Option<String>,
    /// The schedule that it is due by, where it is told ahead of a run or of a schedule.
    pub schedule: Option<Occurrence>,
    /// The release that is new, where that is what is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<NewRelease>,
}

/// One time at which something is due by a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// The schedule's name.
    pub name: String,
    /// When it is due.
    pub due: Timestamp,
}

/// A release that was found and locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRelease {
    /// What it is locked as.
    pub name: String,
    /// Where it was found.
    pub source: String,
    /// What was the latest before it, of the same series and kind of source.
    pub before: Option<String>,
}

impl Facts {
    /// What stays of it for one recipient; `None` where it does not concern them.
    #[must_use]
    pub fn for_recipient(&self, recipient: &Recipient) -> Option<Self> {
        if !recipient.moments.contains(&self.moment) {
            return None;
        }
        let mut own = self.clone();
        let is_theirs = |project: &str| recipient.projects.as_ref().is_some_and(|all| all.contains(project));
        own.instances.retain(|instance| is_theirs(&instance.project));
        let uses = |name: &str| recipient.services.as_ref().is_none_or(|all| all.contains(name));
        own.services.retain(|impact| uses(&impact.service));
        if self.moment.is_of_schedule() || self.release.is_some() {
            return Some(own);
        }
        let concerned = match self.what {
            What::Reboot => recipient.projects.is_none() || !own.instances.is_empty(),
            What::Upgrade | What::Rollback | What::Patch => {
                recipient.services.is_none() || !own.services.is_empty()
            }
        };
        concerned.then_some(own)
    }
}

/// What a plan expects users to notice, by service.
#[must_use]
pub fn expected_impact(plan: &Plan) -> Vec<ServiceImpact> {
    let mut found: BTreeMap<String, (ImpactLevel, BTreeSet<String>)> = BTreeMap::new();
    for (_, step) in plan.steps() {
        let Some(service) = &step.impact.service else { continue };
        let entry = found.entry(service.to_string()).or_insert_with(|| (ImpactLevel::None, BTreeSet::new()));
        match step.impact.level.cmp(&entry.0) {
            std::cmp::Ordering::Greater => *entry = (step.impact.level, [step.impact.why.clone()].into()),
            std::cmp::Ordering::Equal => {
                entry.1.insert(step.impact.why.clone());
            }
            std::cmp::Ordering::Less => {}
        }
    }
    found.into_iter().map(|(service, (level, why))| ServiceImpact { service, level, why }).collect()
}

/// What happens by the plan of a reboot to each instance whose owner is known. Who has to decide something is
/// told so ahead, and not of what did not happen for it.
#[must_use]
pub fn fates(plan: &RebootPlan, moment: Moment) -> Vec<InstanceFate> {
    let content = &plan.content;
    let moved = content
        .moves
        .iter()
        .map(|moved| (&moved.instance, if moved.how == How::Live { Fate::Moves } else { Fate::MovesCold }));
    let stopped = content.stays.iter().filter(|stay| stay.why == StayReason::Stopped);
    let undecided = content.undecided.iter().filter(|_| moment == Moment::Before);
    let all: BTreeMap<&String, Fate> = undecided
        .map(|instance| (instance, Fate::Undecided))
        .chain(moved)
        .chain(stopped.map(|stay| (&stay.instance, Fate::Stops)))
        .collect();
    all.into_iter()
        .filter_map(|(id, fate)| {
            let owner = content.owners.get(id)?;
            Some(InstanceFate {
                id: id.clone(),
                name: owner.name.clone(),
                project: owner.project.clone(),
                fate,
            })
        })
        .collect()
}

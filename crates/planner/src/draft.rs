//! The plan while it is being made: the stages so far, and what is to be told about them.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::{Catalog, HopFacts, OptionSeen, Service, options_of};
use volutus_model::inventory::Releases;
use volutus_model::name::{DaemonId, DaemonKind, HostName, Series, StageId, StepId};
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, PlanKind, Stage, Step};
use volutus_model::{Finding, PatchName, Policy, Severity};

use crate::report::{Note, PlanReport, Wait};
use crate::state::{Member, State};
use crate::{Error, PlanningInput};

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub input: &'a PlanningInput,
    pub catalog: &'a Catalog,
    pub state: &'a State<'a>,
    pub kind: PlanKind,
    /// On the way back: the release directories that daemons came from, where it was seen.
    pub came_from: BTreeMap<DaemonId, String>,
    stages: Vec<Stage>,
    /// Per kind of daemon: the stage with which the last of them is replaced.
    ends: BTreeMap<DaemonKind, StageId>,
    awaited: BTreeSet<StageId>,
    /// The last gates, which every stage that is added from now on comes after, and the stages that
    /// do already.
    gate: Option<(StageId, BTreeSet<StageId>)>,
    report: PlanReport,
}

/// What a finished draft leaves.
pub(crate) struct Parts {
    pub stages: Vec<Stage>,
    pub report: PlanReport,
}

/// A stage that is about to be added.
pub(crate) struct NewStage {
    pub id: String,
    pub phase: Phase,
    pub title: String,
    pub parallel_max: u32,
    pub steps: Vec<Step>,
    /// The stages it waits for, each with the reason.
    pub after: Vec<(StageId, String)>,
}

impl<'a> Draft<'a> {
    pub fn new(input: &'a PlanningInput, catalog: &'a Catalog, state: &'a State<'a>, kind: PlanKind) -> Self {
        Self {
            input,
            catalog,
            state,
            kind,
            came_from: BTreeMap::new(),
            stages: Vec::new(),
            ends: BTreeMap::new(),
            awaited: BTreeSet::new(),
            gate: None,
            report: PlanReport::default(),
        }
    }

    /// Whether the plan takes another one back.
    pub fn is_back(&self) -> bool {
        self.kind.is_rollback()
    }

    /// Whether an upgrade empties a host, so that its daemons are not replaced beside instances.
    pub fn is_emptied(&self, host: &HostName) -> bool {
        let drains = self.input.drains.iter().filter(|_| self.kind.is_upgrade());
        drains.flat_map(|reboot| &reboot.content.drains).any(|drain| drain.host == *host)
    }

    /// What is done to a daemon, for titles.
    pub fn verb(&self) -> &'static str {
        if self.is_back() { "put back" } else { "replace" }
    }

    /// Whether only vulnerable versions are replaced, within a series.
    pub fn is_patch(&self) -> bool {
        self.kind.is_patch()
    }

    /// The older of the two series: where an upgrade comes from, and a rollback leads to.
    pub fn older(&self) -> Series {
        self.state.from.min(self.input.target)
    }

    /// The newer of the two series.
    pub fn newer(&self) -> Series {
        self.state.from.max(self.input.target)
    }

    /// Remembers the stage with which the last daemon of a kind is replaced.
    pub fn ends_with(&mut self, kind: &DaemonKind, stage: Option<StageId>) {
        if let Some(stage) = stage {
            self.ends.insert(kind.clone(), stage);
        }
    }

    /// An edge to the stage with which the last daemon of a kind is replaced, where there is one.
    pub fn end_of(&self, kind: &DaemonKind, why: impl Into<String>) -> Option<(StageId, String)> {
        self.ends.get(kind).map(|id| (id.clone(), why.into()))
    }

    pub fn policy(&self) -> &'a Policy {
        &self.input.policy
    }

    /// An option of a service as it was seen on one host; nothing where the service has no place there.
    pub fn option_on(&self, service: &Service, host: &HostName, option: &str) -> Option<OptionSeen> {
        options_of(service, &self.input.inventory, &self.input.observation, option).remove(host)
    }

    pub fn releases(&self) -> &'a Releases {
        &self.input.inventory.releases
    }

    /// Adds a stage, unless it has no steps, and tells what it waits for.
    pub fn add(&mut self, mut new: NewStage) -> Result<Option<StageId>, Error> {
        if new.steps.is_empty() {
            return Ok(None);
        }
        let id = StageId::new(new.id)?;
        if let Some((gate, behind)) = &mut self.gate {
            if !new.after.iter().any(|(on, _)| on == gate || behind.contains(on)) {
                new.after.push((gate.clone(), "the operator's gates have to pass first".to_owned()));
            }
            behind.insert(id.clone());
        }
        for (on, why) in &new.after {
            self.awaited.insert(on.clone());
            self.report.waits.push(Wait { stage: id.clone(), on: on.clone(), why: why.clone() });
        }
        self.stages.push(Stage {
            id: id.clone(),
            phase: new.phase,
            title: new.title,
            after: new.after.into_iter().map(|(on, _)| on).collect(),
            parallel_max: new.parallel_max.max(1),
            held: new.phase == Phase::Finalize,
            steps: new.steps,
        });
        Ok(Some(id))
    }

    /// Puts a stage of gates before everything that is added from now on.
    pub fn close_gate(&mut self, stage: StageId) {
        self.gate = Some((stage, BTreeSet::new()));
    }

    /// The id of a stage, where the plan has one of that name.
    pub fn stage(&self, id: &str) -> Option<StageId> {
        self.stages.iter().find(|stage| stage.id.as_str() == id).map(|stage| stage.id.clone())
    }

    /// An edge to a stage, where the plan has one of that name.
    pub fn edge(&self, id: &str, why: impl Into<String>) -> Option<(StageId, String)> {
        self.stage(id).map(|id| (id, why.into()))
    }

    /// The stages for which no other one waits.
    pub fn leaves(&self) -> Vec<StageId> {
        let leaf = |stage: &&Stage| !self.awaited.contains(&stage.id);
        self.stages.iter().filter(leaf).map(|stage| stage.id.clone()).collect()
    }

    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    pub fn note(&mut self, subject: impl ToString, text: impl Into<String>) {
        self.report.notes.push(Note { subject: subject.to_string(), text: text.into() });
    }

    pub fn find(
        &mut self,
        severity: Severity,
        code: &str,
        subject: impl ToString,
        explanation: impl Into<String>,
        action: impl Into<String>,
    ) {
        let finding = Finding::new(severity, code, subject.to_string(), explanation, action);
        if !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    /// The release directory of the target for one service.
    pub fn release(&self, series: Series, service: &Service) -> String {
        self.releases().path_of(series, &service.name)
    }

    /// The release directory that a daemon runs from before the plan: a patched one where its link points
    /// to one of the series.
    pub fn old_release(&self, member: &Member<'_>) -> String {
        let service = &member.service.name;
        let link = member.seen.link.value();
        let of_series = |link: &&String| self.releases().release_at(link, self.state.from, service).is_some();
        link.filter(of_series).cloned().unwrap_or_else(|| self.release(self.state.from, member.service))
    }

    /// The release directory that a daemon is to run from after the plan.
    pub fn new_release(&self, member: &Member<'_>) -> String {
        let (series, service) = (self.input.target, member.service);
        match &self.kind {
            PlanKind::Patch { release, .. } => {
                self.releases().patched_path_of(series, release, &service.name)
            }
            _ => self.came_from.get(&member.id).cloned().unwrap_or_else(|| self.release(series, service)),
        }
    }

    /// The name of that release, where it is a patched one.
    pub fn new_patch(&self, member: &Member<'_>) -> Option<PatchName> {
        self.releases().release_at(&self.new_release(member), self.input.target, &member.service.name)?
    }

    /// A command of the catalog with this cloud's paths in it.
    pub fn argv(&self, service: &Service, template: &[String]) -> Vec<String> {
        let release = self.release(self.input.target, service);
        let files = self
            .input
            .inventory
            .services
            .get(&service.name)
            .map(|declaration| declaration.config_files.as_slice())
            .unwrap_or_default();
        let mut argv = Vec::new();
        for word in template {
            if word == "{config_args}" {
                for file in files {
                    argv.push("--config-file".to_owned());
                    argv.push(file.clone());
                }
            } else {
                argv.push(word.replace("{release}", &release));
            }
        }
        argv
    }

    /// What this run does to the schema of a service, in this cloud.
    pub fn hop(&self, service: &Service) -> HopFacts {
        service.hop(&self.state.way, |option, text| {
            let seen = options_of(service, &self.input.inventory, &self.input.observation, option);
            let mut all_seen = true;
            for value in seen.values() {
                match value {
                    OptionSeen::Set(value) if value.contains(text) => return Some(true),
                    OptionSeen::Set(_) | OptionSeen::Unset => {}
                    OptionSeen::Unseen { .. } => all_seen = false,
                }
            }
            all_seen.then_some(false)
        })
    }

    pub fn finish(self) -> Parts {
        Parts { stages: self.stages, report: self.report }
    }
}

/// A step with no order among its siblings and nothing to give back.
pub(crate) fn step(
    id: String,
    title: String,
    actions: Vec<Action>,
    impact: Impact,
    expected_s: u32,
    action_timeout_s: u32,
) -> Result<Step, Error> {
    Ok(Step {
        id: StepId::new(id)?,
        title,
        requires: Vec::new(),
        actions,
        give_back: Vec::new(),
        impact,
        expected_s,
        action_timeout_s,
    })
}

/// An impact that nobody notices.
pub(crate) fn no_impact(why: &str) -> Impact {
    Impact { level: ImpactLevel::None, service: None, why: why.to_owned() }
}

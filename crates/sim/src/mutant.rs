//! Deliberately wrong rules. A simulation that does not notice them would not notice the same
//! mistake in the product either.

use std::collections::BTreeSet;

use volutus_model::name::StageId;
use volutus_model::plan::{Action, Phase, Plan, SchemaPhase, Step};

/// A rule that is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Plan: servers are not drained.
    SkipDrain,
    /// Plan: servers are not given back.
    ForgetUndrain,
    /// Plan: servers are given back before the proof.
    UndrainEarly,
    /// Plan: nothing is proved.
    SkipProof,
    /// Plan: replicas that should wait for an exchange are given back as soon as they are proved.
    WaitsForNobody,
    /// Plan: all replicas of an API at once, and the drivers are not told to keep any up.
    AllReplicasOut,
    /// Plan: no instance is booted on the first compute.
    SkipCanary,
    /// Plan: the other computes do not wait for the canary.
    WavesEarly,
    /// Plan: conductors come last of nova's control plane.
    ConductorLast,
    /// Plan: schemas are widened after their daemons are replaced.
    ExpandLate,
    /// Plan: one host does not get the new code.
    SkipStaging,
    /// Plan: schemas are contracted right after they are widened.
    ContractInRoll,
    /// Plan: what serves users is asked again while some of it is old.
    AskAgainEarly,
    /// Plan: nothing waits for finalize.
    HoldNothing,
    /// Plan: nothing is given back in an abort.
    GiveBackNothing,
    /// Plan: computes are not disabled.
    SkipDisable,
    /// Plan: computes are not enabled again.
    ForgetEnable,
    /// Plan: no record at the old version is kept.
    SkipAnchor,
    /// Plan: the anchor is released as soon as it was set.
    AnchorEarlyGone,
    /// Engine: a lost outcome counts as success.
    UnknownIsDone,
    /// Engine: a failure counts as success.
    FailedIsDone,
    /// Engine: nothing to do counts as failure.
    UnchangedIsFailed,
    /// Engine: effects begin before their events are durable.
    PerformsFirst,
    /// Engine: what was under way is begun anew under another id after a crash.
    TakeUpStartsAnew,
    /// Engine: an abort gives nothing back, and says that it did.
    GiveBackForgotten,
    /// Engine: a run finalizes itself.
    FinalizesItself,
    /// Engine: an answer that arrives twice is taken twice.
    DuplicatesCount,
    /// Store: an append that is confirmed may be lost.
    AppendIsLazy,
    /// Store: nobody is fenced.
    NoFence,
    /// Runtime: attempts go on after the lease may have been lost.
    StaleGoesOn,
    /// Driver: it does not look for work that is under way.
    TakeUpForgets,
    /// Driver: it enables computes that a person has disabled.
    EnablesAnyone,
    /// Driver: it drains without looking at the others.
    DrainUnguarded,
    /// Driver: it takes servers over that a person has drained.
    DrainsPersons,
    /// Driver: an abort puts in whatever is out, old and new.
    SettlesBlindly,
    /// Driver: a unit that is active counts as one that serves.
    ProofTrustsUnit,
    /// Driver: a proof does not look at the version.
    ProofIgnoresVersion,
    /// Driver: a proof does not wait for reports.
    ProofIgnoresReports,
}

impl Mutant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::SkipDrain,
        Self::ForgetUndrain,
        Self::UndrainEarly,
        Self::SkipProof,
        Self::WaitsForNobody,
        Self::AllReplicasOut,
        Self::SkipCanary,
        Self::WavesEarly,
        Self::ConductorLast,
        Self::ExpandLate,
        Self::SkipStaging,
        Self::ContractInRoll,
        Self::AskAgainEarly,
        Self::HoldNothing,
        Self::GiveBackNothing,
        Self::SkipDisable,
        Self::ForgetEnable,
        Self::SkipAnchor,
        Self::AnchorEarlyGone,
        Self::UnknownIsDone,
        Self::FailedIsDone,
        Self::UnchangedIsFailed,
        Self::PerformsFirst,
        Self::TakeUpStartsAnew,
        Self::GiveBackForgotten,
        Self::FinalizesItself,
        Self::DuplicatesCount,
        Self::AppendIsLazy,
        Self::NoFence,
        Self::StaleGoesOn,
        Self::TakeUpForgets,
        Self::EnablesAnyone,
        Self::DrainUnguarded,
        Self::DrainsPersons,
        Self::SettlesBlindly,
        Self::ProofTrustsUnit,
        Self::ProofIgnoresVersion,
        Self::ProofIgnoresReports,
    ];

    /// Whether it spoils plans, and not those who carry them out.
    pub(crate) fn spoils_plans(self) -> bool {
        Self::ALL.iter().take_while(|other| **other != Self::UnknownIsDone).any(|other| *other == self)
    }

    /// The plan as this mutant makes it; `None` where the mutant leaves plans as they are.
    pub(crate) fn plan(self, plan: &Plan) -> Option<Plan> {
        let mut plan = plan.clone();
        match self {
            Self::SkipDrain => without(&mut plan, |action| matches!(action, Action::DrainBackend { .. })),
            Self::ForgetUndrain => without(&mut plan, |a| matches!(a, Action::UndrainBackend { .. })),
            Self::SkipProof => without(&mut plan, |a| matches!(a, Action::ProveDaemon { .. })),
            Self::SkipCanary => without(&mut plan, |a| matches!(a, Action::BootCanary { .. })),
            Self::SkipDisable => without(&mut plan, |a| matches!(a, Action::DisableCompute { .. })),
            Self::ForgetEnable => without(&mut plan, |a| matches!(a, Action::EnableCompute { .. })),
            Self::SkipAnchor => without(&mut plan, |a| matches!(a, Action::KeepAnchor(_))),
            Self::AnchorEarlyGone => each_step(&mut plan, |step| {
                if let Some(Action::KeepAnchor(anchor)) = step.actions.first().cloned() {
                    step.actions.push(Action::ReleaseAnchor(anchor));
                }
            }),
            Self::UndrainEarly => each_step(&mut plan, |step| {
                let prove = step.actions.iter().position(|a| matches!(a, Action::ProveDaemon { .. }));
                if let Some(prove) = prove
                    && matches!(step.actions.get(prove + 1), Some(Action::UndrainBackend { .. }))
                {
                    step.actions.swap(prove, prove + 1);
                }
            }),
            Self::WaitsForNobody => each_step(&mut plan, waits_for_nobody),
            Self::AllReplicasOut => all_replicas_out(&mut plan),
            Self::WavesEarly => {
                let canary = plan.stages.iter().find(|stage| stage.phase == Phase::Canary).cloned()?;
                for stage in plan.stages.iter_mut().filter(|stage| stage.phase == Phase::Waves) {
                    if let Some(at) = stage.after.iter().position(|id| *id == canary.id) {
                        stage.after.remove(at);
                        stage.after.extend(canary.after.iter().cloned());
                    }
                }
            }
            Self::ConductorLast => conductor_last(&mut plan)?,
            Self::ExpandLate => expand_late(&mut plan),
            Self::SkipStaging => {
                let stage = plan.stages.iter_mut().find(|stage| stage.phase == Phase::Stage)?;
                stage.steps.last_mut()?.actions.clear();
            }
            Self::ContractInRoll => contract_in_roll(&mut plan)?,
            Self::AskAgainEarly => ask_again_early(&mut plan)?,
            Self::HoldNothing => plan.stages.iter_mut().for_each(|stage| stage.held = false),
            Self::GiveBackNothing => each_step(&mut plan, |step| step.give_back.clear()),
            _ => return None,
        }
        plan.id = plan.compute_id();
        Some(plan)
    }
}

fn each_step(plan: &mut Plan, mut change: impl FnMut(&mut Step)) {
    plan.stages.iter_mut().flat_map(|stage| &mut stage.steps).for_each(&mut change);
}

fn without(plan: &mut Plan, unwanted: fn(&Action) -> bool) {
    each_step(plan, |step| step.actions.retain(|action| !unwanted(action)));
}

fn waits_for_nobody(step: &mut Step) {
    let Some((backend, seat)) = step.actions.iter().find_map(|action| match action {
        Action::ExchangeReplicas { backend, enter, .. } => Some((backend.clone(), enter.first()?.clone())),
        _ => None,
    }) else {
        return;
    };
    let proved =
        |action: &Action| matches!(action, Action::ProveDaemon { daemon, .. } if *daemon == seat.daemon);
    if let Some(at) = step.actions.iter().position(proved) {
        let (daemon, server) = (seat.daemon, seat.server);
        step.actions.insert(at + 1, Action::UndrainBackend { daemon, backend, server });
    }
}

fn all_replicas_out(plan: &mut Plan) {
    plan.policy.parallel_steps_max = 8;
    for stage in &mut plan.stages {
        for step in &mut stage.steps {
            let drains = step.actions.iter().any(|action| matches!(action, Action::DrainBackend { .. }));
            if drains {
                stage.parallel_max = 8;
                step.requires.clear();
            }
            for action in &mut step.actions {
                if let Action::DrainBackend { others_up_min, .. } = action {
                    *others_up_min = 0;
                }
            }
        }
    }
}

fn conductor_last(plan: &mut Plan) -> Option<()> {
    let id = StageId::new("roll-nova-conductor").ok()?;
    let at = plan.stages.iter().position(|stage| stage.id == id)?;
    let own: Vec<StageId> = plan.stages[at].after.clone();
    let mut last = Vec::new();
    for stage in plan.stages.iter_mut().filter(|stage| stage.id != id && !stage.held) {
        if stage.after.contains(&id) {
            stage.after.retain(|after| *after != id);
            stage
                .after
                .extend(own.iter().filter(|own| !stage.after.contains(own)).cloned().collect::<Vec<_>>());
            if stage.phase == Phase::Roll {
                last.push(stage.id.clone());
            }
        }
    }
    plan.stages[at].after.extend(last);
    Some(())
}

fn expand_late(plan: &mut Plan) {
    let expands: BTreeSet<StageId> = plan
        .stages
        .iter()
        .filter(|stage| stage.phase == Phase::Expand)
        .map(|stage| stage.id.clone())
        .collect();
    let before: Vec<StageId> = plan
        .stages
        .iter()
        .filter(|stage| stage.phase == Phase::Expand)
        .flat_map(|stage| stage.after.iter().cloned())
        .collect();
    let mut rolls = Vec::new();
    for stage in plan.stages.iter_mut().filter(|stage| !stage.held) {
        if stage.after.iter().any(|after| expands.contains(after)) {
            stage.after.retain(|after| !expands.contains(after));
            stage.after.extend(before.iter().take(1).cloned());
            if stage.phase == Phase::Roll {
                rolls.push(stage.id.clone());
            }
        }
    }
    for stage in plan.stages.iter_mut().filter(|stage| stage.phase == Phase::Expand) {
        stage.after.extend(rolls.iter().cloned());
    }
}

/// It waits for what was asked before, and for nothing that is replaced.
fn ask_again_early(plan: &mut Plan) -> Option<()> {
    let asks = |stage: &&volutus_model::Stage| stage.phase == Phase::Shadow;
    let shadows: Vec<_> = plan.stages.iter().filter(asks).map(|stage| stage.id.clone()).collect();
    let stage = plan.stages.iter_mut().find(|stage| stage.id.as_str() == "contract-again")?;
    stage.after = shadows;
    Some(())
}

fn contract_in_roll(plan: &mut Plan) -> Option<()> {
    let contracts = |stage: &volutus_model::Stage| {
        let phase =
            |action: &Action| matches!(action, Action::MigrateSchema { phase: SchemaPhase::Contract, .. });
        stage.steps.iter().flat_map(|step| &step.actions).any(phase)
    };
    let mut found = false;
    for stage in plan.stages.iter_mut().filter(|stage| contracts(stage)) {
        let service = stage.id.as_str().trim_start_matches("contract-").to_owned();
        stage.held = false;
        stage.after = vec![StageId::new(format!("expand-{service}")).ok()?];
        found = true;
    }
    found.then_some(())
}

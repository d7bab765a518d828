//! Pure: makes an immutable [`Plan`] of what is declared, what was seen, and what is wanted,
//! and a [`PlanReport`] that says what waits for what, and why.
//!
//! It must never look at a cloud, a clock or a file, and the same input always makes the same
//! plan. Start at [`plan`]; every planning rule has a file of its own in `rules`, and
//! `volutus-plancheck` judges the result without knowing any of them.

mod by_hand;
pub mod described;
mod diff;
mod draft;
mod error;
mod estimate;
mod mitigation;
mod order;
mod patch;
mod reboot;
mod render;
mod report;
mod rollback;
mod rules;
mod state;

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_catalog::Catalog;
use volutus_model::fleet::RebootPlan;
use volutus_model::name::{PackageVersion, PlanId, Series, ServiceName, StageId};
use volutus_model::plan::{Drains, FORMAT, Plan, PlanKind, RollbackHorizon, Stage};
use volutus_model::{Inventory, LockedRelease, Moment, Observation, Policy};

pub use diff::{PlanDiff, diff};
pub use error::Error;
pub use estimate::{Estimate, estimate};
pub use mitigation::{MitigationInput, plan_mitigation};
pub use patch::{PatchInput, plan_patch};
pub use reboot::{RebootInput, plan_reboot};
pub use render::{render_dot, render_markdown};
pub use report::{Note, PlanReport, Wait};
pub use rollback::{RollbackInput, plan_rollback};

/// Everything that a plan is made of.
#[derive(Debug, Clone)]
pub struct PlanningInput {
    /// What is declared.
    pub inventory: Inventory,
    /// What was seen.
    pub observation: Observation,
    /// The series that is wanted.
    pub target: Series,
    /// Versions that differ from the catalog's latest ones, by service.
    pub versions: Option<BTreeMap<ServiceName, PackageVersion>>,
    /// The locked release whose versions are taken, and that staged releases are held against.
    pub lock: Option<LockedRelease>,
    /// The limits to keep.
    pub policy: Policy,
    /// When the plan is made; it becomes part of the plan.
    pub now: Timestamp,
    /// The plan that this one goes on from.
    pub parent: Option<PlanId>,
    /// The compute hosts that are emptied, upgraded while they are empty, and restarted; `None` where
    /// instances stay where they are.
    pub drains: Option<RebootPlan>,
}

impl PlanningInput {
    /// What a plan is made of that takes no other versions than those that its kind names.
    fn staying(
        inventory: &Inventory,
        observation: &Observation,
        series: Series,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        Self {
            inventory: inventory.clone(),
            observation: observation.clone(),
            target: series,
            versions: None,
            lock: None,
            policy: policy.clone(),
            now,
            parent: None,
            drains: None,
        }
    }
}

/// Reads a target as an operator writes it: `2026.1`, or the series' code name.
///
/// # Errors
/// [`Error::UnknownSeries`] with the known ones and, where one looks like it, the one that was
/// perhaps meant.
pub fn parse_target(text: &str, catalog: &Catalog) -> Result<Series, Error> {
    let by_name = catalog.series.iter().find(|(_, facts)| facts.name.eq_ignore_ascii_case(text));
    let parsed = text.parse().ok().filter(|series| catalog.series.contains_key(series));
    if let Some(series) = parsed.or(by_name.map(|(series, _)| *series)) {
        return Ok(series);
    }
    let named = error::nearest(text, catalog.series.values().map(|facts| &facts.name))
        .and_then(|name| catalog.series.iter().find(|(_, facts)| facts.name == *name))
        .map(|(series, _)| *series);
    Err(Error::UnknownSeries {
        given: text.to_owned(),
        known: catalog.series.keys().copied().collect(),
        // Among equally near numbers the newest is the likeliest to be wanted.
        nearest: error::nearest(text, catalog.series.keys().rev()).copied().or(named),
    })
}

/// Makes a plan.
///
/// # Errors
/// [`Error`]: the target is unknown, forbidden or reached already, or what runs was not seen or
/// does not fit together. Nothing of that is guessed.
pub fn plan(input: &PlanningInput, catalog: &Catalog) -> Result<(Plan, PlanReport), Error> {
    let state = state::read_state(input, catalog)?;
    let mut draft = draft::Draft::new(input, catalog, &state, PlanKind::Upgrade);
    rules::baseline::plan_baseline(&mut draft)?;
    rules::gates::plan_gates(&mut draft, Moment::Before)?;
    rules::stage_release::plan_stage_release(&mut draft)?;
    rules::upgrade_check::plan_upgrade_check(&mut draft)?;
    rules::expand::plan_expand(&mut draft, false)?;
    rules::anchor::plan_keep(&mut draft)?;
    rules::gates::plan_gates(&mut draft, Moment::AfterExpand)?;
    rules::roll::check_links(&mut draft);
    let (late, early): (Vec<_>, Vec<_>) = {
        let late = rules::roll::late(&draft);
        rules::roll::by_dependency(&draft).into_iter().partition(|service| late.contains(&service.name))
    };
    rules::shadow::plan_shadows(&mut draft, &early)?;
    replace(&mut draft, &early)?;
    // Behind whatever has to be replaced on the hosts, and before what closes the way back where it can be.
    let all_at_the_end = rules::drains::any_on_computes(&draft, &late);
    if !all_at_the_end {
        rules::drains::plan_drains(&mut draft)?;
    }
    rules::expand::plan_expand(&mut draft, true)?;
    rules::shadow::plan_shadows(&mut draft, &late)?;
    replace(&mut draft, &late)?;
    if all_at_the_end {
        rules::drains::plan_drains(&mut draft)?;
    }
    rules::drains::tell_of_staying(&mut draft);
    rules::again::plan_again(&mut draft)?;
    rules::gates::plan_gates(&mut draft, Moment::AfterRoll)?;
    rules::soak::plan_soak(&mut draft)?;
    rules::gates::plan_gates(&mut draft, Moment::BeforeFinalize)?;
    rules::finalize::plan_finalize(&mut draft)?;
    rules::again::plan_finalized(&mut draft)?;
    rules::gates::plan_gates(&mut draft, Moment::After)?;
    let (rollback, closing) = rules::horizon::plan_horizon(&draft);
    let kind = draft.kind.clone();
    let draft::Parts { stages, report } = draft.finish();
    let stages = order::order_stages(stages)?;
    let point_of_no_return = rules::horizon::point_of_no_return(&stages, &closing);
    finish(Made { input, state: &state, kind, stages, rollback, point_of_no_return, report })
}

/// Replaces the control planes of services, and then their computes.
fn replace<'a>(draft: &mut draft::Draft<'a>, services: &[&'a volutus_catalog::Service]) -> Result<(), Error> {
    for &service in services {
        rules::roll::plan_roll(draft, service)?;
    }
    for &service in services {
        rules::canary::plan_canary(draft, service)?;
        rules::waves::plan_waves(draft, service)?;
    }
    Ok(())
}

/// Everything that a plan is put together from.
struct Made<'a> {
    input: &'a PlanningInput,
    state: &'a state::State<'a>,
    kind: PlanKind,
    stages: Vec<Stage>,
    rollback: Vec<RollbackHorizon>,
    point_of_no_return: Option<StageId>,
    report: PlanReport,
}

/// Finishes a plan that neither closes a way back nor has one.
fn finish_without_horizon(
    draft: draft::Draft<'_>,
    input: &PlanningInput,
    state: &state::State<'_>,
) -> Result<(Plan, PlanReport), Error> {
    let kind = draft.kind.clone();
    let draft::Parts { stages, report } = draft.finish();
    let stages = order::order_stages(stages)?;
    let (rollback, point_of_no_return) = (Vec::new(), None);
    finish(Made { input, state, kind, stages, rollback, point_of_no_return, report })
}

fn finish(made: Made<'_>) -> Result<(Plan, PlanReport), Error> {
    let Made { input, state, kind, stages, rollback, point_of_no_return, mut report } = made;
    let mut plan = Plan {
        id: PlanId::new("unfinished")?,
        format: FORMAT,
        drains: input.drains.as_ref().filter(|_| kind.is_upgrade()).map(|reboot| Drains {
            of: reboot.id.clone(),
            behind: reboot.content.selection.past.failed.clone(),
        }),
        kind,
        cloud: input.inventory.name.clone(),
        parent: input.parent.clone(),
        created_at: input.now,
        inventory: input.inventory.digest(),
        basis: Plan::basis_of(&input.observation),
        from: state.from,
        to: input.target,
        versions: state.versions.clone(),
        policy: input.policy.clone(),
        point_of_no_return,
        stages,
        rollback,
    };
    plan.id = plan.compute_id();
    report.plan = Some(plan.id.clone());
    report.estimate = estimate(&plan);
    Ok((plan, report))
}

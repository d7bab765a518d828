//! A new plan in the place of an approved one, under its approval: of what is left of a run, or because instances
//! came and went between the plan and its run.

use std::collections::BTreeSet;

use volutus_fleet::Error;
use volutus_model::fleet::plan::{Content, Figures, Left};
use volutus_model::fleet::{Answers, Fleet, RebootPlan, Selection, Since, Work};
use volutus_model::plan::{Action, Plan};
use volutus_model::{Finding, HostName, LockedRelease, Observation, PlanId, RunId, Severity};
use volutus_store::{Approval, Store};

use crate::commands::check::judge;
use crate::commands::plan::{self, Wanted, store_error};
use crate::commands::{drains, fleet, run};
use crate::context::Context;
use crate::error::Result;
use crate::show;

/// What is wrong with a plan where instances that it does not name came, or those that it names are not as they
/// were: a new plan is made of how they are now. Whatever else is found is no matter of instances.
const BY_INSTANCES: [&str; 7] = [
    "fleet-capacity",
    "fleet-fill",
    "fleet-spare",
    "fleet-group",
    "fleet-cells",
    "fleet-time",
    "fleet-consent",
];

/// What is wrong with the plan itself.
const BY_ITSELF: [&str; 4] =
    ["fleet-plan-format", "fleet-plan-altered", "fleet-plan-other-policy", "fleet-malformed"];

/// Why hosts are left for want of room. A plan that lacks room which the approved one had is not its equal.
const BY_ROOM: [&str; 2] = ["capacity-short", "capacity-fragmented"];

/// A plan that stands in for an approved one, and why.
#[derive(Debug)]
pub struct Anew {
    /// The plan.
    pub plan: RebootPlan,
    since: Since,
    /// Hosts that it leaves, and the approved one does not.
    left: Vec<Left>,
}

impl Anew {
    /// In one line, why it is and what it comes to; and which hosts it leaves besides. `of` is what was approved,
    /// `by` what is run instead.
    pub fn words(&self, of: &PlanId, by: &PlanId) -> String {
        let moves = self.plan.content.moves.len();
        let mut text = format!(
            "instances since plan {}: {}; plan {} of the fleet as it is now is run instead, under the same \
             approval, with {moves} moves",
            show::short(of.as_str()),
            self.since,
            show::short(by.as_str())
        );
        for left in &self.left {
            text += &format!("\n{} is left as it is now: {}. {}", left.host, left.cause, left.action);
        }
        text
    }
}

/// The plan of the same reboot upon the fleet as it is now: the same policy, and these hosts. None where there is
/// nothing to do.
pub fn again(
    content: &Content,
    fleet: &Fleet,
    selection: Selection,
    control: Vec<HostName>,
) -> Result<Option<RebootPlan>> {
    let made = volutus_fleet::plan(fleet, &content.policy, &selection, &content.cloud, Context::now());
    let made = match made {
        // Of an upgrade, what finalizes it is left then, and that waits for what failed.
        Err(Error::NothingToDo { .. }) if control.is_empty() => return Ok(None),
        Err(Error::NothingToDo { .. }) => Ok(RebootPlan::new(Content {
            created_at: Context::now(),
            fleet: fleet.digest(),
            selection,
            drains: Vec::new(),
            moves: Vec::new(),
            stays: Vec::new(),
            left: Vec::new(),
            classes: Vec::new(),
            duties: std::collections::BTreeMap::new(),
            owners: std::collections::BTreeMap::new(),
            undecided: Vec::new(),
            findings: Vec::new(),
            figures: Figures::default(),
            ..content.clone()
        })),
        made => made,
    };
    let made = made.map(|made| {
        let made = volutus_fleet::with_control(made, fleet, control);
        // One host that is emptied by hand is not restarted by what goes on from there.
        RebootPlan::new(Content { work: content.work, upgrade: content.upgrade, ..made.content })
    });
    fleet::checked(made, fleet, "could not plan the rest of the reboot").map(Some)
}

/// Keeps a plan under the approval that another one has: the policy that was approved says that it follows, and
/// what it may do.
pub fn adopt(store: &Store, plan: &RebootPlan, approval: &Approval) -> Result<()> {
    store.put_reboot_plan(plan).map_err(store_error)?;
    store.approve(&plan.id, &approval.actor, Context::now(), &approval.consents).map_err(store_error)?;
    Ok(())
}

/// The plan that stands in for another one on the fleet as it is now, where the policy wants newcomers moved, and
/// nothing but instances keeps the other from being run. `consents`: what its approval consents to.
pub fn foresee(
    context: &Context,
    store: &Store,
    plan: &RebootPlan,
    seen: &Fleet,
    consents: &[String],
) -> Result<Option<Anew>> {
    stand_in(plan, seen, consents, &fleet::answers(context, store)?)
}

fn stand_in(plan: &RebootPlan, seen: &Fleet, consents: &[String], answers: &Answers) -> Result<Option<Anew>> {
    let content = &plan.content;
    if content.work != Work::Reboot || !content.policy.drain.newcomers.is_move() {
        return Ok(None);
    }
    let as_it_is = run::stopping(&fleet::judge(plan, seen.clone(), answers), consents);
    if as_it_is.is_empty() || as_it_is.iter().any(|finding| BY_ITSELF.contains(&finding.code.as_str())) {
        return Ok(None);
    }
    let since = Since::of(plan, seen);
    let (before, seen_before) = since.undone(plan, seen);
    let others = run::stopping(&fleet::judge(&before, seen_before, answers), consents);
    if others.iter().any(|finding| !BY_INSTANCES.contains(&finding.code.as_str())) {
        return Ok(None);
    }
    let mut now = seen.clone();
    answers.apply(&mut now);
    let Some(next) = again(content, &now, content.selection.clone(), content.control.clone())? else {
        return Ok(None);
    };
    let known: BTreeSet<&HostName> = content.left.iter().map(|left| &left.host).collect();
    let left: Vec<Left> =
        next.content.left.iter().filter(|left| !known.contains(&left.host)).cloned().collect();
    if left.iter().any(|left| BY_ROOM.contains(&left.code.as_str())) {
        return Ok(None);
    }
    Ok(Some(Anew { plan: next, since, left }))
}

/// The plan that is run in the place of an approved one, kept and approved as that is; none where the approved one
/// is to be run, or refused. It is made of the very fleet that it is judged by, so that it is made once.
pub fn at_start(
    context: &Context,
    store: &Store,
    plan: &RebootPlan,
    approval: &Approval,
    seen: &Fleet,
) -> Result<Option<Anew>> {
    let anew = foresee(context, store, plan, seen, &approval.consents)?;
    if let Some(anew) = &anew {
        adopt(store, &anew.plan, approval)?;
    }
    Ok(anew)
}

/// What stands in the way of a plan, or of the one that is run in its place, on the fleet as it is now.
pub fn judged(context: &Context, store: &Store, plan: &RebootPlan, seen: Fleet) -> Result<Vec<Finding>> {
    let consents = store.approval(&plan.id).map_err(store_error)?.map(|approval| approval.consents);
    let answers = fleet::answers(context, store)?;
    let Some(anew) = foresee(context, store, plan, &seen, &consents.unwrap_or_default())? else {
        return Ok(fleet::judge(plan, seen, &answers));
    };
    let mut findings = fleet::judge(&anew.plan, seen, &answers);
    let moves = anew.plan.content.moves.len();
    findings.push(Finding::new(
        Severity::Warning,
        "instances-since",
        &plan.id,
        format!(
            "instances since it was made: {}. Its run makes a new plan of the fleet as it is then; now it would have \
             {moves} moves and leave {} more hosts",
            anew.since,
            anew.left.len()
        ),
        "",
    ));
    Ok(findings)
}

/// Makes the plan of an upgrade again with another reboot as a part of it, and its run.
pub fn enter_upgrade(
    context: &Context,
    store: &Store,
    earlier: &Plan,
    (reboot, seen): (RebootPlan, Fleet),
    (observation, lock): (&Observation, Option<LockedRelease>),
    approval: &Approval,
) -> Result<(RunId, Plan)> {
    // The limits are those that were approved, whatever the file says by now.
    let context = &context.with_policy(&earlier.policy);
    let wanted = Wanted {
        target: earlier.to,
        versions: Some(earlier.versions.clone()),
        lock,
        drains: Some(reboot),
        parent: Some(earlier.id.clone()),
    };
    let (made, _) = plan::make(context, observation, wanted)?;
    let mut findings = judge(context, observation, &made);
    findings.extend(drains::judge(context, store, &made, Some(seen))?);
    run::refuse_findings(&findings, &approval.consents)?;
    store.put_plan(&made).map_err(store_error)?;
    store.approve(&made.id, &approval.actor, Context::now(), &approval.consents).map_err(store_error)?;
    run::create(context, store, made, observation)
}

/// The locked release that a plan holds what it stages against.
pub fn lock_of(plan: &Plan) -> Option<LockedRelease> {
    let actions = plan.steps().flat_map(|(_, step)| &step.actions);
    let locks = actions.filter_map(|action| match action {
        Action::StageRelease { lock: Some(lock), .. } => Some(lock.clone()),
        _ => None,
    });
    // Each host has what concerns it.
    locks.reduce(|mut all, one| {
        all.packages.extend(one.packages);
        all
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use volutus_fleet::described::{self, Shape};
    use volutus_model::fleet::{Availability, Newcomers, RebootPolicy};

    use super::*;

    fn seen() -> Fleet {
        described::fleet(&Shape { hosts: 12, zones: 1, fill: 0.7, empty_per_zone: 1, odd: false, seed: 7 })
    }

    fn planned(newcomers: Newcomers) -> RebootPlan {
        let mut policy = RebootPolicy::default();
        policy.drain.newcomers = newcomers;
        let cloud = "cloud".parse().unwrap();
        volutus_fleet::plan(&seen(), &policy, &Selection::default(), &cloud, Context::now()).unwrap()
    }

    fn chosen(plan: &RebootPlan, change: impl FnOnce(&mut Fleet)) -> Option<Anew> {
        let mut now = seen();
        change(&mut now);
        stand_in(plan, &now, &[], &Answers::default()).unwrap()
    }

    /// Deletes an instance that the plan moves.
    fn goes(plan: &RebootPlan, now: &mut Fleet) {
        let gone = &plan.content.moves[0].instance;
        now.instances.retain(|one| one.id != *gone);
    }

    #[test]
    fn another_plan_is_made_only_where_instances_are_what_changed() {
        let plan = planned(Newcomers::Move);
        assert!(chosen(&plan, |_| ()).is_none(), "nothing has changed");
        let anew = chosen(&plan, |now| goes(&plan, now)).unwrap();
        assert_ne!(anew.plan.id, plan.id);
        assert_eq!(anew.plan.content.moves.len(), plan.content.moves.len() - 1);
        assert!(anew.left.is_empty(), "{:?}", anew.left);
        let words = anew.words(&plan.id, &anew.plan.id);
        assert!(words.contains("1 went"), "{words}");
        // What comes is planned in.
        let more = chosen(&plan, |now| {
            let mut new = now.instances[0].clone();
            new.id = "another".to_owned();
            now.instances.push(new);
        });
        let more = more.unwrap();
        let moved = |one: &RebootPlan| one.content.moves.iter().any(|m| m.instance == "another");
        assert!(moved(&more.plan) && !moved(&plan));
        // A person's decision about a host is none about instances.
        let other = chosen(&plan, |now| {
            goes(&plan, now);
            let host = plan.content.drains[0].host.clone();
            now.hosts.iter_mut().find(|one| one.name == host).unwrap().availability =
                Availability::Disabled { reason: "memory errors".to_owned() };
        });
        assert!(other.is_none());
    }

    #[test]
    fn no_other_plan_is_made_where_the_policy_halts_or_room_is_short() {
        let halts = planned(Newcomers::Halt);
        assert!(chosen(&halts, |now| goes(&halts, now)).is_none());
        let plan = planned(Newcomers::Move);
        // So many come that nothing can be emptied any more.
        let full = chosen(&plan, |now| {
            let all = now.instances.clone();
            for (number, mut one) in all.into_iter().enumerate() {
                one.id = format!("new-{number}");
                now.instances.push(one);
            }
        });
        assert!(full.is_none());
    }
}

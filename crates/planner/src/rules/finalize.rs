//! What takes the way back: unpinning, online data migrations, contraction. All of it is held
//! until the operator allows it.
//!
//! Daemons forget their peers' cached versions first, because data is only converted to new
//! forms once every reader is known to understand them; what old code needs goes last.

use volutus_catalog::{Daemon, DaemonRole, SchemaCommand, Service};
use volutus_model::name::StageId;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, Refresh, SchemaPhase, Step};

use super::{anchor, daemon, expand, roll_api};
use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};
use crate::state::Member;

/// A reload and its proof; a restart of an API takes as long as its replacement did.
const RELOAD_EXPECTED_S: u32 = 8;

pub(crate) fn plan_finalize(draft: &mut Draft<'_>) -> Result<(), Error> {
    let rolled: Vec<(StageId, String)> = draft
        .leaves()
        .into_iter()
        .map(|stage| (stage, "everything runs the target and was watched".to_owned()))
        .collect();
    for service in draft.state.services.clone() {
        let mut previous = rolled.clone();
        // First of all, so that what daemons then ask anew is the new lowest version.
        if let Some(stage) = anchor::plan_release(draft, service, previous.clone())? {
            let why = "what daemons ask anew must be the new lowest version";
            previous = vec![(stage, why.to_owned())];
        }
        for (facts, members) in draft.state.kinds_of(service) {
            let Some(how) = facts.refresh else { continue };
            let (parallel_max, steps) = unpin_steps(draft, facts, members, how)?;
            let added = draft.add(NewStage {
                id: format!("unpin-{}", facts.kind),
                phase: Phase::Finalize,
                title: format!("let {} forget its peers' old versions", facts.kind),
                parallel_max,
                after: previous.clone(),
                steps,
            })?;
            if let Some(stage) = added {
                previous = vec![(stage, format!("{}'s daemons unpin in order", service.name))];
            }
        }
        for (prefix, phase, title, commands) in [
            (
                "convert",
                SchemaPhase::OnlineDataMigrations,
                "convert data to the new forms",
                &service.online_data_migrations,
            ),
            ("contract", SchemaPhase::Contract, "remove what only old code needs", &service.contract),
        ] {
            let steps = schema_step(draft, service, phase, commands)?;
            let added = draft.add(NewStage {
                id: format!("{prefix}-{}", service.name),
                phase: Phase::Finalize,
                title: format!("{title} ({})", service.name),
                parallel_max: 1,
                after: previous.clone(),
                steps: steps.into_iter().collect(),
            })?;
            if let Some(stage) = added {
                previous = vec![(stage, "data is converted before its old form goes".to_owned())];
            }
        }
    }
    Ok(())
}

fn unpin_steps(
    draft: &mut Draft<'_>,
    facts: &Daemon,
    members: &[Member<'_>],
    how: Refresh,
) -> Result<(u32, Vec<Step>), Error> {
    let replicas = roll_api::Replicas::of(members);
    let mut steps = Vec::new();
    // Those that are on the target already have cached old versions of their peers all the same.
    for member in members {
        let refresh = Action::RefreshDaemon {
            daemon: member.id.clone(),
            service: member.service.name.clone(),
            unit: member.declaration.unit.clone(),
            how,
        };
        let around = if facts.role == DaemonRole::Api && how == Refresh::Restart {
            roll_api::around(draft, member, &replicas)
        } else {
            (Vec::new(), Vec::new())
        };
        let (mut actions, undrain) = around;
        actions.push(refresh);
        actions.push(daemon::prove(draft, member));
        actions.extend(undrain.clone());
        let (impact, expected_s) = match how {
            Refresh::Hangup => (no_impact("it goes on working"), RELOAD_EXPECTED_S),
            Refresh::Restart if facts.role == DaemonRole::Api => {
                let min = draft.policy().serving_replicas_min;
                (roll_api::impact(member, &replicas, min), facts.expected_s)
            }
            Refresh::Restart => (restart_impact(member), facts.expected_s),
        };
        let mut new = step(
            format!("unpin/{}", member.id),
            format!("let {} forget its peers' old versions", member.id),
            actions,
            impact,
            expected_s,
            daemon::action_timeout_s(draft, member),
        )?;
        new.give_back = undrain;
        steps.push(new);
    }
    let parallel_max = match (facts.role, how) {
        (DaemonRole::Api, Refresh::Restart) => roll_api::width(draft, &replicas),
        (DaemonRole::Compute, Refresh::Hangup) => draft.policy().stage_parallel_max,
        _ => 1,
    };
    Ok((parallel_max, steps))
}

fn restart_impact(member: &Member<'_>) -> Impact {
    Impact {
        level: ImpactLevel::Minor,
        service: Some(member.service.name.clone()),
        why: "messages wait in the queue while it restarts".to_owned(),
    }
}

fn schema_step(
    draft: &Draft<'_>,
    service: &Service,
    phase: SchemaPhase,
    commands: &[SchemaCommand],
) -> Result<Option<Step>, Error> {
    let Some(first) = draft.state.first_of(service) else {
        return Ok(None);
    };
    if commands.is_empty() {
        return Ok(None);
    }
    let verb = match phase {
        SchemaPhase::Expand => "expand",
        SchemaPhase::OnlineDataMigrations => "convert",
        SchemaPhase::Contract => "contract",
    };
    let actions = commands
        .iter()
        .map(|command| Action::MigrateSchema {
            service: service.name.clone(),
            host: first.host.name.clone(),
            phase,
            argv: draft.argv(service, &command.argv),
            success: command.success.clone(),
            rerun: command.rerun.clone(),
        })
        .collect();
    let impact = Impact {
        level: ImpactLevel::Minor,
        service: Some(service.name.clone()),
        why: "requests to a table may wait while it is worked on".to_owned(),
    };
    step(
        format!("{verb}/{}", service.name),
        format!("{verb} {}'s schema on {}", service.name, first.host.name),
        actions,
        impact,
        commands.iter().map(|command| command.expected_s).sum(),
        expand::SCHEMA_TIMEOUT_S,
    )
    .map(Some)
}

//! `volutus verdict`

use std::collections::BTreeMap;

use volutus_model::DaemonId;
use volutus_model::verdict::Verdict;
use volutus_model::{Fact, Observation, Plan, RunId, RunState};
use volutus_prober::verdict::{DaemonSeen, TakenBack, VerdictInput, assess};
use volutus_store::Store;

use crate::args::{Format, VerdictArgs};
use crate::commands::control::{load, locate};
use crate::commands::patch;
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// Prints what users noticed of a run.
pub fn run(context: &Context, args: &VerdictArgs) -> Result<()> {
    let store = context.store()?;
    let run = locate(context, &store, args.run.as_deref())?;
    let verdict = store.verdict(&run.id).map_err(store_error)?.ok_or_else(|| {
        CliError::refused("no-verdict", format!("run {} has no verdict yet", run.id)).hint(
            "A verdict is made when everything is on the target. `volutus status` tells where it stands.",
        )
    })?;
    match args.output {
        Format::Json => print_json(&verdict),
        Format::Table => {
            anstream::print!("{}", show::verdict::render(&verdict));
            Ok(())
        }
    }
}

/// Makes the verdict of a run from what the prober saw and what runs now, and keeps it.
pub fn make(
    context: &Context,
    store: &Store,
    run: &RunId,
    plan: &Plan,
    state: &RunState,
    observation: &Observation,
) -> Result<Verdict> {
    let mut samples = store.samples(run).map_err(store_error)?;
    let taken_back = match plan.kind.taken_back() {
        None => None,
        Some(earlier) => {
            let record = store.run(earlier).map_err(store_error)?;
            samples.extend(store.samples(earlier).map_err(store_error)?);
            let (plan, state, _) = load(store, &record)?;
            Some((plan, state))
        }
    };
    let taken_back = taken_back.as_ref().map(|(plan, state)| TakenBack { plan, state });
    let services = context.catalog.daemons();
    let daemons: BTreeMap<DaemonId, DaemonSeen> = observation
        .daemons
        .keys()
        .filter_map(|daemon| {
            let (service, _) = services.get(&daemon.kind)?;
            let version = observation.running_version(daemon).cloned();
            Some((daemon.clone(), DaemonSeen { service: service.name.clone(), version, expected: None }))
        })
        .collect();
    let before = store.latest_observation(&plan.cloud).map_err(store_error)?;
    let lost = lost(before.as_ref(), observation);
    let verdict = assess(VerdictInput {
        run,
        plan,
        state,
        taken_back,
        samples: &samples,
        daemons: &daemons,
        lost: &lost,
    });
    let verdict = match patch::prove(context, store, plan, state, before.as_ref(), observation)? {
        Some(proof) => verdict.with_exposure(proof),
        None => verdict,
    };
    store.put_verdict(&verdict).map_err(store_error)?;
    Ok(verdict)
}

/// Instances that were well before the run and are in ERROR now. Where one of the two was not
/// seen, that is said instead: what was not seen was not well.
fn lost(before: Option<&Observation>, after: &Observation) -> Vec<String> {
    let before = before.map(|seen| &seen.instances_in_error);
    match (before.and_then(|fact| fact.value()), &after.instances_in_error) {
        (Some(before), Fact::Observed { value: after, .. }) => {
            after.difference(before).map(|id| format!("instance {id} went to ERROR during the run")).collect()
        }
        (_, Fact::Unobserved { why }) => {
            vec![format!("instances could not be looked at after the run: {why}")]
        }
        (None, _) => vec!["which instances were in ERROR before the run was not seen".to_owned()],
    }
}

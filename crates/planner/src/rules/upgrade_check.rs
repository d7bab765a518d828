//! Every service's own upgrade check is run with the new code, before any schema is touched.
//!
//! All checks are complete before the first expand. Expanding one service while another one's
//! check may still fail would save seconds, and would leave a widened schema behind in a run
//! that is then given up; with the barrier a failed check leaves the cloud exactly as it was.

use volutus_model::plan::{Action, Phase};

use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// Checks read; the slowest look at every instance of a cloud.
const CHECK_TIMEOUT_S: u32 = 900;
const CHECK_EXPECTED_S: u32 = 6;

/// The stage's id.
pub(crate) const STAGE: &str = "check-upgrades";

pub(crate) fn plan_upgrade_check(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut steps = Vec::new();
    for &service in &draft.state.services {
        let Some(first) = draft.state.first_of(service) else {
            continue;
        };
        let host = first.host.name.clone();
        steps.push(step(
            format!("check/{}", service.name),
            format!("upgrade check of {} with the new code on {host}", service.name),
            vec![Action::CheckUpgrade {
                service: service.name.clone(),
                host,
                argv: draft.argv(service, &service.upgrade_check),
            }],
            no_impact("it only reads"),
            CHECK_EXPECTED_S,
            CHECK_TIMEOUT_S,
        )?);
    }
    let parallel_max = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let staged = ["stage-control", "stage-computes"]
        .into_iter()
        .find_map(|stage| draft.edge(stage, "the check is made with the new code"));
    draft.add(NewStage {
        id: STAGE.to_owned(),
        phase: Phase::UpgradeCheck,
        title: "run every service's upgrade check with the new code".to_owned(),
        parallel_max,
        after: staged.into_iter().collect(),
        steps,
    })?;
    draft.note(
        STAGE,
        "all checks are complete before the first schema is widened, so that a check that fails \
         leaves nothing behind",
    );
    Ok(())
}

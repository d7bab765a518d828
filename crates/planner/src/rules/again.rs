//! What serves users at the end is asked once more what the old code was asked before they met the
//! new one: what only shows with everything replaced, or finalized, shows there.

use volutus_model::contract::Gate;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase};

use super::shadow::TIMEOUT_S;
use crate::Error;
use crate::draft::{Draft, NewStage, step};

/// Some hundred requests.
const EXPECTED_S: u32 = 30;

/// Asks again with everything replaced, while the way back is open: what breaks may be taken back.
pub(crate) fn plan_again(draft: &mut Draft<'_>) -> Result<(), Error> {
    add(draft, "contract-again", "again", Phase::Gate, "it is asked again with everything replaced")
}

/// Asks again at the very end, where finalizing did anything: users may be answered otherwise once
/// nothing is held back for old code any more. There is no way back then, so that it is only told.
pub(crate) fn plan_finalized(draft: &mut Draft<'_>) -> Result<(), Error> {
    if !draft.stages().iter().any(|stage| stage.phase == Phase::Finalize) {
        return Ok(());
    }
    let why = "it is asked again with everything finalized";
    add(draft, "contract-finalized", "finalized", Phase::Finalize, why)
}

fn add(draft: &mut Draft<'_>, id: &str, prefix: &str, phase: Phase, why: &str) -> Result<(), Error> {
    // Where nothing was asked before, there is nothing to compare with.
    let actions: Vec<Action> = draft
        .stages()
        .iter()
        .flat_map(|stage| &stage.steps)
        .flat_map(|step| &step.actions)
        .cloned()
        .collect();
    let mut steps = Vec::new();
    for action in actions {
        let Action::ShadowApi { shadow, gate, review, waivers, .. } = action else { continue };
        let (gate, review) = if phase == Phase::Finalize {
            (gate.max(Gate::Warn), review.max(Gate::Warn))
        } else {
            (gate, review)
        };
        let service = shadow.service.clone();
        let mut new = step(
            format!("{prefix}/{service}"),
            format!("ask {service} again, and compare with what its old code answered"),
            vec![Action::AskAgain { shadow: shadow.clone(), gate, review, waivers }],
            Impact {
                level: ImpactLevel::Minor,
                service: Some(service),
                why: "it answers Volutus's requests as well, one at a time".to_owned(),
            },
            EXPECTED_S,
            TIMEOUT_S,
        )?;
        // The reader's credential goes, should the run be given up in the middle.
        new.give_back = vec![Action::StopShadow { shadow }];
        steps.push(new);
    }
    let after = draft.leaves().into_iter().map(|stage| (stage, why.to_owned())).collect();
    let title = if phase == Phase::Finalize {
        "see that the finalized cloud answers as the old code did"
    } else {
        "see that what serves users now answers as the old code did"
    };
    let parallel_max = u32::try_from(steps.len()).unwrap_or(1);
    draft.add(NewStage { id: id.to_owned(), phase, title: title.to_owned(), parallel_max, after, steps })?;
    Ok(())
}

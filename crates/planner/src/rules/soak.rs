//! After the roll nothing is done for a while; the way back stays open.

use volutus_model::plan::{Action, Phase};

use super::baseline::WATCH_SLACK_S;
use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

pub(crate) fn plan_soak(draft: &mut Draft<'_>) -> Result<(), Error> {
    let seconds = draft.policy().soak_s;
    if seconds == 0 {
        draft.note("soak", "left out by policy: nothing is watched between roll and finalize");
        return Ok(());
    }
    let after = draft
        .leaves()
        .into_iter()
        .map(|stage| {
            let why = if draft.is_back() {
                "the watch is of the cloud with everything put back"
            } else if draft.is_patch() {
                "the watch is of the patched cloud"
            } else if draft.kind.is_mitigation() {
                "the watch is of the cloud with the command run everywhere"
            } else {
                "the watch is of the cloud with everything replaced"
            };
            (stage, why.to_owned())
        })
        .collect();
    draft.add(NewStage {
        id: "soak".to_owned(),
        phase: Phase::Soak,
        title: if draft.is_back() {
            "watch the cloud that was put back".to_owned()
        } else if draft.is_patch() {
            "watch the patched cloud".to_owned()
        } else if draft.kind.is_mitigation() {
            "watch the cloud".to_owned()
        } else {
            "watch the upgraded cloud; the way back is open".to_owned()
        },
        parallel_max: 1,
        after,
        steps: vec![step(
            "soak/watch".to_owned(),
            format!("watch for {seconds} s"),
            vec![Action::Watch { seconds }],
            no_impact("nothing is touched"),
            seconds,
            seconds + WATCH_SLACK_S,
        )?],
    })?;
    Ok(())
}

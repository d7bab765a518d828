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
        .map(|stage| (stage, "the watch is of the cloud with everything replaced".to_owned()))
        .collect();
    draft.add(NewStage {
        id: "soak".to_owned(),
        phase: Phase::Soak,
        title: "watch the upgraded cloud; the way back is open".to_owned(),
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

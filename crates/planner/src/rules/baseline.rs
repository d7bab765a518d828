//! Before anything is touched the cloud is watched at its ordinary work: what the verdict later
//! compares with.

use volutus_model::plan::{Action, Phase};

use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// Seconds that a watch may be late: the runtime's own reaction, generously.
pub(crate) const WATCH_SLACK_S: u32 = 60;

pub(crate) fn plan_baseline(draft: &mut Draft<'_>) -> Result<(), Error> {
    let seconds = draft.policy().baseline_s;
    if seconds == 0 {
        draft.note("baseline", "left out by policy: latencies will have nothing to compare with");
        return Ok(());
    }
    draft.add(NewStage {
        id: "baseline".to_owned(),
        phase: Phase::Baseline,
        title: "watch the cloud at its ordinary work".to_owned(),
        parallel_max: 1,
        after: Vec::new(),
        steps: vec![step(
            "baseline/watch".to_owned(),
            format!("watch for {seconds} s"),
            vec![Action::Watch { seconds }],
            no_impact("nothing is touched"),
            seconds,
            seconds + WATCH_SLACK_S,
        )?],
    })?;
    Ok(())
}

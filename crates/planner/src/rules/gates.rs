//! Client gates: the operator's own commands judge the cloud at the moments that the policy names.

use volutus_model::gate::{ClientGate, Moment};
use volutus_model::plan::{Action, Phase, Step};

use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// A set of tests of some minutes. Nobody knows what a command of the operator's takes; its limit says
/// only what it may.
const EXPECTED_S: u32 = 300;

/// The id of a moment's stage.
fn stage_of(moment: Moment) -> String {
    format!("gates-{moment}")
}

/// Runs the gates of a moment, one after another: behind everything that is planned so far, and
/// before everything that is planned from now on.
pub(crate) fn plan_gates(draft: &mut Draft<'_>, moment: Moment) -> Result<(), Error> {
    let gates: Vec<&ClientGate> = draft.policy().gates.iter().filter(|gate| gate.when == moment).collect();
    let mut steps: Vec<Step> = Vec::new();
    for gate in gates {
        let mut new = step(
            gate.step_id(),
            format!("ask the gate {}", gate.name),
            vec![Action::RunGate(gate.clone())],
            no_impact("the run itself does nothing; the load is that of the gate's own requests"),
            EXPECTED_S.min(gate.timeout_s),
            gate.timeout_s,
        )?;
        // One at a time and in the order of the policy: a later one may use what an earlier one left.
        new.requires = steps.last().map(|last| last.id.clone()).into_iter().collect();
        steps.push(new);
    }
    let why = match moment {
        Moment::Before => "the baseline is of a cloud that nothing is done to",
        Moment::AfterExpand => "the gates judge old code on the widened schemas",
        Moment::AfterRoll => "the gates judge the cloud with everything replaced",
        Moment::BeforeFinalize => "the gates have the last word before the way back is taken",
        Moment::After => "the gates judge the finalized cloud",
    };
    let after = draft.leaves().into_iter().map(|stage| (stage, why.to_owned())).collect();
    let phase = if moment == Moment::After { Phase::Finalize } else { Phase::Gate };
    let title = format!("ask the operator's gates ({moment})");
    let added = draft.add(NewStage { id: stage_of(moment), phase, title, parallel_max: 1, after, steps })?;
    if let Some(stage) = added {
        draft.close_gate(stage);
    }
    Ok(())
}

//! The plan is whole: ids are unique, references lead somewhere, nothing waits for itself, and
//! everything has a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use volutus_model::Finding;
use volutus_model::plan::{Plan, Stage};

use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_shape(plan: &Plan, findings: &mut Vec<Finding>) {
    let mut stages = BTreeSet::new();
    let mut steps = BTreeSet::new();
    for stage in &plan.stages {
        let mut wrong = |subject: &dyn Display, why: String| {
            findings.push(blocking("plan-malformed", subject, why, PLAN_AGAIN));
        };
        for before in &stage.after {
            if !stages.contains(before) {
                wrong(
                    &stage.id,
                    format!("it comes after `{before}`, which does not stand before it in the plan"),
                );
            }
        }
        if !stages.insert(&stage.id) {
            wrong(&stage.id, "two stages have this id".to_owned());
        }
        if stage.steps.is_empty() || stage.parallel_max == 0 {
            wrong(&stage.id, "no step of it could ever run".to_owned());
        }
        for step in &stage.steps {
            if !steps.insert(&step.id) {
                wrong(&step.id, "two steps have this id".to_owned());
            }
            if step.actions.is_empty() {
                wrong(&step.id, "it does nothing".to_owned());
            }
            if step.action_timeout_s == 0 {
                wrong(&step.id, "its actions have no time".to_owned());
            }
        }
        check_requires(stage, findings);
    }
    for horizon in &plan.rollback {
        if let Some(until) = &horizon.until
            && !stages.contains(until)
        {
            findings.push(blocking(
                "plan-malformed",
                &horizon.service,
                format!("its way back is said to be open until `{until}`, which is no stage"),
                PLAN_AGAIN,
            ));
        }
    }
}

/// Steps of a stage may stand in any order, so circles are looked for.
fn check_requires(stage: &Stage, findings: &mut Vec<Finding>) {
    let index: BTreeMap<_, usize> = stage.steps.iter().enumerate().map(|(i, step)| (&step.id, i)).collect();
    let mut missing = vec![0_usize; stage.steps.len()];
    let mut behind = vec![Vec::new(); stage.steps.len()];
    for (i, step) in stage.steps.iter().enumerate() {
        for required in &step.requires {
            match index.get(required) {
                Some(&j) => {
                    missing[i] += 1;
                    behind[j].push(i);
                }
                None => findings.push(blocking(
                    "plan-malformed",
                    &step.id,
                    format!("it requires `{required}`, which is no step of its stage"),
                    PLAN_AGAIN,
                )),
            }
        }
    }
    let mut open: Vec<usize> = (0..missing.len()).filter(|&i| missing[i] == 0).collect();
    let mut reached = 0;
    while let Some(i) = open.pop() {
        reached += 1;
        for &j in &behind[i] {
            missing[j] -= 1;
            if missing[j] == 0 {
                open.push(j);
            }
        }
    }
    if reached < stage.steps.len() {
        findings.push(blocking(
            "plan-malformed",
            &stage.id,
            format!("{} of its steps require each other in a circle", stage.steps.len() - reached),
            PLAN_AGAIN,
        ));
    }
}

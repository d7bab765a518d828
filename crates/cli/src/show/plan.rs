//! A plan as an operator reads it before approving.

use owo_colors::OwoColorize as _;
use volutus_model::plan::{ImpactLevel, Plan, PlanKind, SchemaClass, Stage};
use volutus_planner::Estimate;

use super::{duration, short, table};

/// Steps of a stage that are listed in full; of larger stages the first ones are, and a count.
const STEPS_SHOWN_MAX: usize = 12;

/// The whole plan, with the planner's estimate.
pub fn render(plan: &Plan, estimate: &Estimate) -> String {
    let mut text = format!(
        "plan {}\ncloud {}, {} -> {}, made at {}\n",
        plan.id.to_string().bold(),
        plan.cloud,
        plan.from,
        plan.to,
        plan.created_at
    );
    let versions: Vec<String> =
        plan.versions.iter().map(|(service, version)| format!("{service} {version}")).collect();
    text += &format!("target: {}\n", versions.join(", "));
    if let PlanKind::Rollback { of, run } = &plan.kind {
        text += &format!("takes back: run {} of plan {}\n", short(run.as_str()), short(of.as_str()));
        text += "schemas stay as they were widened; nothing that users created meanwhile is lost\n";
    }
    if let PlanKind::Patch { vulnerability, release, changes } = &plan.kind {
        let changes: Vec<String> = changes
            .iter()
            .map(|change| {
                let from: Vec<&str> = change.from.iter().map(|version| version.as_str()).collect();
                format!("{} {} -> {}", change.distribution, from.join(", "), change.to)
            })
            .collect();
        text += &format!("closes: {vulnerability}, by {}\n", changes.join("; "));
        text += &format!("switches to: {}+{release}; schemas are not touched\n", plan.to);
    }
    if let PlanKind::Mitigation { vulnerability, mitigation, undo, .. } = &plan.kind {
        let (what, argv) = match undo {
            false => ("mitigates", &mitigation.argv),
            true => ("opens again", &mitigation.undo),
        };
        let (name, method) = (&mitigation.name, mitigation.method);
        text += &format!("{what}: {vulnerability}, by {name} ({method}): {}\n", argv.join(" "));
        text += "versions stay as vulnerable as they are\n";
    }
    text += "\n";
    let mut stages = table(&["stage", "steps", "at once", "after", "expected"]);
    for stage in &plan.stages {
        let after: Vec<&str> = stage.after.iter().map(|id| id.as_str()).collect();
        stages.add_row([
            stage.id.to_string(),
            stage.steps.len().to_string(),
            stage.parallel_max.to_string(),
            after.join(" "),
            duration(f64::from(stage_expected_s(stage))),
        ]);
    }
    text += &format!("{}\n\n", stages.trim_fmt());
    for stage in &plan.stages {
        let held = if stage.held { "  (waits for `volutus finalize`)" } else { "" };
        text += &format!("{} {}{}\n", stage.id.bold(), stage.title, held.yellow());
        for step in stage.steps.iter().take(STEPS_SHOWN_MAX) {
            let impact = match step.impact.level {
                ImpactLevel::None => "none".dimmed().to_string(),
                ImpactLevel::Minor => "minor".yellow().to_string(),
                ImpactLevel::Major => "MAJOR".red().bold().to_string(),
            };
            let service = step.impact.service.as_ref().map_or(String::new(), |service| format!(" {service}"));
            text += &format!(
                "  {:36} {:>6}  impact {impact}{service}: {}\n",
                step.id.as_str(),
                duration(f64::from(step.expected_s)),
                step.impact.why
            );
            let actions: Vec<String> = step.actions.iter().map(|action| action.summary()).collect();
            text += &format!("      {}\n", actions.join(" -> ").dimmed());
        }
        if stage.steps.len() > STEPS_SHOWN_MAX {
            text += &format!("  ... and {} more\n", stage.steps.len() - STEPS_SHOWN_MAX);
        }
    }
    text += "\n";
    let mut rollback = table(&["service", "schema", "way back open until", "why"]);
    for horizon in &plan.rollback {
        let class = match horizon.class {
            SchemaClass::None => "NONE",
            SchemaClass::CodeOnly => "CODE_ONLY",
            SchemaClass::Review => "REVIEW",
            SchemaClass::Restore => "RESTORE",
        };
        let until = horizon.until.as_ref().map_or("the end".to_owned(), ToString::to_string);
        rollback.add_row([horizon.service.to_string(), class.to_owned(), until, horizon.why.clone()]);
    }
    if plan.kind.is_upgrade() {
        text += &format!("{}\n\n", rollback.trim_fmt());
    }
    if let Some(stage) = &plan.point_of_no_return {
        text += &format!("point of no return: stage {}\n", stage.bold());
    }
    let steps = plan.stages.iter().filter(|stage| !stage.held).map(|stage| stage.steps.len()).sum::<usize>();
    let before = if plan.kind.is_upgrade() { " before finalize" } else { "" };
    text += &format!("expected: {estimate}; {steps} steps{before}\n");
    text
}

/// Seconds that a stage takes by itself: its steps, as many at once as it allows.
pub fn stage_expected_s(stage: &Stage) -> u32 {
    let total: u32 = stage.steps.iter().map(|step| step.expected_s).sum();
    let longest = stage.steps.iter().map(|step| step.expected_s).max().unwrap_or(0);
    total.div_ceil(stage.parallel_max.max(1)).max(longest)
}

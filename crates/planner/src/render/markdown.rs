//! A plan as a document that can be read, mailed and kept.

use std::fmt::Write as _;

use volutus_model::fleet::Work;
use volutus_model::plan::{ImpactLevel, Plan, PlanKind, SchemaClass, Stage};

use crate::estimate::{estimate, minutes};
use crate::report::PlanReport;

/// The plan as Markdown, with the planner's report where it is at hand.
#[must_use]
pub fn render_markdown(plan: &Plan, report: Option<&PlanReport>) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail, so the results carry nothing.
    let _ = match &plan.kind {
        PlanKind::Upgrade => writeln!(text, "# Plan: {} from {} to {}\n", plan.cloud, plan.from, plan.to),
        PlanKind::Rollback { .. } => {
            writeln!(text, "# Rollback: {} from {} to {}\n", plan.cloud, plan.from, plan.to)
        }
        PlanKind::Patch { vulnerability, .. } => {
            writeln!(text, "# Patch: {} against {vulnerability}, within {}\n", plan.cloud, plan.from)
        }
        PlanKind::Mitigation { vulnerability, undo: false, .. } => {
            writeln!(text, "# Mitigation: {} against {vulnerability}\n", plan.cloud)
        }
        PlanKind::Mitigation { vulnerability, undo: true, .. } => {
            writeln!(text, "# Mitigation taken back: {}, of {vulnerability}\n", plan.cloud)
        }
        PlanKind::Reboot { work, .. } => {
            let work = match work {
                Work::Reboot => "Reboot",
                Work::Drain => "Drain",
                Work::Undrain => "Undrain",
            };
            writeln!(text, "# {work}: {}, which runs {}\n", plan.cloud, plan.from)
        }
    };
    let _ = writeln!(text, "- id: `{}`", plan.id);
    if let PlanKind::Rollback { of, run } = &plan.kind {
        let _ = writeln!(text, "- takes back: run `{run}` of plan `{of}`");
    }
    if let PlanKind::Patch { release, changes, .. } = &plan.kind {
        let _ = writeln!(text, "- switches to: `{}+{release}`", plan.to);
        for change in changes {
            let from: Vec<&str> = change.from.iter().map(|version| version.as_str()).collect();
            let _ =
                writeln!(text, "- replaces: {} {} by {}", change.distribution, from.join(", "), change.to);
        }
    }
    if let PlanKind::Mitigation { exposed, mitigation, undo, .. } = &plan.kind {
        for package in exposed {
            let versions: Vec<&str> = package.versions.iter().map(|version| version.as_str()).collect();
            let _ = writeln!(
                text,
                "- stays as vulnerable as it is: {} {}",
                package.distribution,
                versions.join(", ")
            );
        }
        let argv = if *undo { &mitigation.undo } else { &mitigation.argv };
        let _ =
            writeln!(text, "- {}, by: `{}`; method: {}", mitigation.name, argv.join(" "), mitigation.method);
    }
    let _ = writeln!(text, "- made: {}", plan.created_at);
    if let Some(parent) = &plan.parent {
        let _ = writeln!(text, "- goes on from: `{parent}`");
    }
    let _ = writeln!(text, "- expected time: {}", estimate(plan));
    if matches!(plan.kind, PlanKind::Reboot { .. }) {
        text.push('\n');
    } else if plan.kind.is_upgrade() {
        let point = plan.point_of_no_return.as_ref().map_or("none".to_owned(), |id| format!("`{id}`"));
        let _ = writeln!(text, "- point of no return: {point}\n");
        push_services(&mut text, plan);
    } else {
        text.push('\n');
        push_versions(&mut text, plan);
    }
    push_stages(&mut text, plan);
    push_steps(&mut text, plan);
    if let Some(report) = report {
        push_report(&mut text, report);
    }
    text
}

fn push_versions(text: &mut String, plan: &Plan) {
    text.push_str("## Services\n\n| service | version | schema |\n|---|---|---|\n");
    for (service, version) in &plan.versions {
        let schema = if plan.kind.is_patch() || plan.kind.is_mitigation() {
            "is not touched"
        } else {
            "stays as it was widened"
        };
        let _ = writeln!(text, "| {service} | {version} | {schema} |");
    }
    text.push('\n');
}

fn push_services(text: &mut String, plan: &Plan) {
    text.push_str("## Services\n\n| service | version | schema | way back |\n|---|---|---|---|\n");
    for horizon in &plan.rollback {
        let version = plan.versions.get(&horizon.service).map_or("", |version| version.as_str());
        let until = match &horizon.until {
            Some(stage) => format!("open until `{stage}`"),
            None => "open, even at the end".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {version} | {} | {until}. {} |",
            horizon.service,
            class(horizon.class),
            cell(&horizon.why)
        );
    }
    text.push('\n');
}

fn push_stages(text: &mut String, plan: &Plan) {
    text.push_str(
        "## Stages\n\n| stage | what | steps | at a time | impact | after |\n|---|---|---|---|---|---|\n",
    );
    for stage in &plan.stages {
        let after: Vec<String> = stage.after.iter().map(|id| format!("`{id}`")).collect();
        let held = if stage.held { " (held)" } else { "" };
        let _ = writeln!(
            text,
            "| `{}`{held} | {} | {} | {} | {} | {} |",
            stage.id,
            cell(&stage.title),
            stage.steps.len(),
            stage.parallel_max,
            impact(stage),
            after.join(", ")
        );
    }
    text.push('\n');
}

fn push_steps(text: &mut String, plan: &Plan) {
    text.push_str("## Steps\n");
    for stage in &plan.stages {
        let _ = writeln!(text, "\n### {}\n", stage.id);
        for step in &stage.steps {
            let actions: Vec<String> = step.actions.iter().map(|action| action.summary()).collect();
            let _ = write!(
                text,
                "- `{}` ({}): {}",
                step.id,
                minutes(u64::from(step.expected_s)),
                actions.join("; ")
            );
            if !step.requires.is_empty() {
                let ids: Vec<String> = step.requires.iter().map(|id| format!("`{id}`")).collect();
                let _ = write!(text, "; after {}", ids.join(", "));
            }
            if step.impact.level != ImpactLevel::None {
                let _ = write!(text, ". {}: {}", level(step.impact.level), step.impact.why);
            }
            text.push('\n');
        }
    }
}

fn push_report(text: &mut String, report: &PlanReport) {
    text.push_str("\n## Why\n\n");
    for finding in &report.findings {
        let _ = writeln!(
            text,
            "- **{}** `{}` ({}): {}. {}",
            finding.severity, finding.code, finding.subject, finding.explanation, finding.action
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "- {}: {}.", note.subject, note.text);
    }
    for wait in &report.waits {
        let _ = writeln!(text, "- `{}` waits for `{}`: {}.", wait.stage, wait.on, wait.why);
    }
}

fn impact(stage: &Stage) -> &'static str {
    stage.steps.iter().map(|step| step.impact.level).max().map_or("none", level)
}

fn level(level: ImpactLevel) -> &'static str {
    match level {
        ImpactLevel::None => "none",
        ImpactLevel::Minor => "minor",
        ImpactLevel::Major => "major",
    }
}

fn class(class: SchemaClass) -> &'static str {
    match class {
        SchemaClass::None => "unchanged",
        SchemaClass::CodeOnly => "additions only",
        SchemaClass::Review => "to be reviewed",
        SchemaClass::Restore => "not compatible",
    }
}

/// A bar would end the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

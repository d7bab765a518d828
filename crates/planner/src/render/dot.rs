//! A plan's stages as a graph for Graphviz.

use std::fmt::Write as _;

use volutus_model::plan::{ImpactLevel, Plan, Stage};

use crate::estimate::minutes;

/// The plan's stages and the edges between them, in the DOT language.
#[must_use]
pub fn render_dot(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail, so the results carry nothing.
    let _ = writeln!(text, "digraph plan {{");
    let _ = writeln!(text, "  label={};", quoted(&format!("{}: {} to {}", plan.cloud, plan.from, plan.to)));
    let _ = writeln!(text, "  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white];");
    for stage in &plan.stages {
        let label = format!(
            "{}\n{} steps, {} at a time, {}",
            stage.id,
            stage.steps.len(),
            stage.parallel_max,
            minutes(stage.steps.iter().map(|step| u64::from(step.expected_s)).sum()),
        );
        let dashed = if stage.held { ", style=\"rounded,filled,dashed\"" } else { "" };
        let _ = writeln!(
            text,
            "  {} [label={}, fillcolor={}{dashed}];",
            quoted(stage.id.as_str()),
            quoted(&label),
            colour(stage),
        );
    }
    for stage in &plan.stages {
        for before in &stage.after {
            let _ = writeln!(text, "  {} -> {};", quoted(before.as_str()), quoted(stage.id.as_str()));
        }
    }
    text.push_str("}\n");
    text
}

fn colour(stage: &Stage) -> &'static str {
    match stage.steps.iter().map(|step| step.impact.level).max() {
        Some(ImpactLevel::Major) => "salmon",
        Some(ImpactLevel::Minor) => "lightyellow",
        Some(ImpactLevel::None) | None => "white",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

//! Markdown, for a change request.

use std::fmt::Write as _;

use super::{FIGURES, LINES_MAX, audience, figures, place, range, standing};
use crate::diff::Comparison;
use crate::rules::Class;

/// The comparison as Markdown.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _written = write(comparison, &mut out);
    out
}

fn write(comparison: &Comparison, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# API contract\n")?;
    writeln!(out, "Old: `{}` ({})  ", comparison.old.of, &comparison.old.hash)?;
    writeln!(out, "New: `{}` ({})\n", comparison.new.of, &comparison.new.hash)?;
    let breaking = comparison.standing().count();
    writeln!(
        out,
        "**{}**\n",
        match breaking {
            0 => "The contract holds: no breaking difference stands.".to_owned(),
            1 => "1 breaking difference stands.".to_owned(),
            count => format!("{count} breaking differences stand."),
        }
    )?;
    writeln!(out, "| {} |", FIGURES.join(" | "))?;
    writeln!(out, "{}|", "|---".repeat(FIGURES.len()))?;
    for row in figures(comparison) {
        writeln!(out, "| {} |", row.join(" | "))?;
    }
    for class in Class::ALL {
        let listed: Vec<_> = standing(comparison, class).collect();
        if listed.is_empty() {
            continue;
        }
        writeln!(out, "\n## {} ({})\n", title(class), listed.len())?;
        writeln!(
            out,
            "| id | service | where | microversions | for | what a client sees |\n|---|---|---|---|---|---|"
        )?;
        for difference in listed.iter().take(LINES_MAX) {
            writeln!(
                out,
                "| `{}` | {} | {} | {} | {} | {} |",
                difference.id,
                difference.service,
                cell(&place(difference)),
                range(difference.at),
                audience(difference),
                cell(&difference.sees),
            )?;
        }
        if listed.len() > LINES_MAX {
            writeln!(out, "\n{} more: `--output json` has them all.", listed.len() - LINES_MAX)?;
        }
    }
    let waived: Vec<_> = comparison.differences.iter().filter(|d| d.waived.is_some()).collect();
    if !waived.is_empty() {
        writeln!(
            out,
            "\n## Waived ({})\n\n| id | service | where | class | reason |\n|---|---|---|---|---|",
            waived.len()
        )?;
        for difference in waived {
            let reason = difference.waived.as_deref().unwrap_or_default();
            let (id, service, class) = (&difference.id, &difference.service, difference.class);
            writeln!(
                out,
                "| `{id}` | {service} | {} | {class} | {} |",
                cell(&place(difference)),
                cell(reason)
            )?;
        }
    }
    if !comparison.news.is_empty() {
        writeln!(
            out,
            "\n## What new microversions bring\n\n| service | microversion | operation | what |\n|---|---|---|---|"
        )?;
        for news in &comparison.news {
            let what = news.what.iter().cloned().collect::<Vec<_>>().join(", ");
            writeln!(
                out,
                "| {} | {} | {} | {what} |",
                news.service,
                news.microversion,
                cell(&news.operation)
            )?;
        }
    }
    Ok(())
}

pub(super) fn title(class: Class) -> &'static str {
    match class {
        Class::Breaking => "Breaking",
        Class::Review => "To review",
        Class::Correction => "Corrections",
        Class::Additive => "Additive",
    }
}

/// Text that does not end a cell, or begin an element of HTML.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

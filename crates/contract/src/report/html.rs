//! HTML: one file with everything in it, without scripts.

use std::fmt::Write as _;

use super::markdown::title;
use super::{FIGURES, LINES_MAX, audience, figures, place, range, standing};
use crate::diff::Comparison;
use crate::rules::Class;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1b1f24}\
    table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{text-align:left;vertical-align:top;\
    padding:.3rem .6rem;border-bottom:1px solid #d7dce1}th{background:#f3f5f7}code{font-size:.9em}\
    td{overflow-wrap:anywhere}.breaking{color:#a40e26}.holds{color:#116329}";

/// The comparison as an HTML document.
#[must_use]
pub fn html(comparison: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _written = write(comparison, &mut out);
    out
}

fn write(comparison: &Comparison, out: &mut String) -> std::fmt::Result {
    let breaking = comparison.standing().count();
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>API contract</title>\n<style>{STYLE}</style>"
    )?;
    writeln!(out, "<h1>API contract</h1>")?;
    writeln!(
        out,
        "<p>Old: <code>{}</code> ({})<br>New: <code>{}</code> ({})</p>",
        safe(&comparison.old.of),
        comparison.old.hash,
        safe(&comparison.new.of),
        comparison.new.hash
    )?;
    let (kind, sentence) = match breaking {
        0 => ("holds", "The contract holds: no breaking difference stands.".to_owned()),
        count => ("breaking", format!("Breaking differences that stand: {count}.")),
    };
    writeln!(out, "<p class=\"{kind}\"><strong>{sentence}</strong></p>")?;
    table(out, &FIGURES, figures(comparison).into_iter().map(Vec::from))?;
    for class in Class::ALL {
        let listed: Vec<_> = standing(comparison, class).collect();
        if listed.is_empty() {
            continue;
        }
        writeln!(out, "<h2>{} ({})</h2>", title(class), listed.len())?;
        let head = ["id", "service", "where", "microversions", "for", "what a client sees"];
        table(
            out,
            &head,
            listed.iter().take(LINES_MAX).map(|d| {
                vec![d.id.clone(), d.service.clone(), place(d), range(d.at), audience(d), d.sees.clone()]
            }),
        )?;
        if listed.len() > LINES_MAX {
            writeln!(
                out,
                "<p>{} more: <code>--output json</code> has them all.</p>",
                listed.len() - LINES_MAX
            )?;
        }
    }
    let waived: Vec<_> = comparison.differences.iter().filter(|d| d.waived.is_some()).collect();
    if !waived.is_empty() {
        writeln!(out, "<h2>Waived ({})</h2>", waived.len())?;
        table(
            out,
            &["id", "service", "where", "class", "reason"],
            waived.iter().map(|d| {
                let reason = d.waived.clone().unwrap_or_default();
                vec![d.id.clone(), d.service.clone(), place(d), d.class.to_string(), reason]
            }),
        )?;
    }
    if !comparison.news.is_empty() {
        writeln!(out, "<h2>What new microversions bring</h2>")?;
        table(
            out,
            &["service", "microversion", "operation", "what"],
            comparison.news.iter().map(|news| {
                let what = news.what.iter().cloned().collect::<Vec<_>>().join(", ");
                vec![news.service.clone(), news.microversion.to_string(), news.operation.clone(), what]
            }),
        )?;
    }
    writeln!(out, "</html>")
}

fn table(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> std::fmt::Result {
    write!(out, "<table><tr>")?;
    for name in head {
        write!(out, "<th>{name}")?;
    }
    writeln!(out, "</tr>")?;
    for row in rows {
        write!(out, "<tr>")?;
        for cell in row {
            write!(out, "<td>{}", safe(&cell))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")
}

/// Text that is text, whatever is in it: names in documents come from foreign code.
fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn foreign_text_stays_text() {
        assert_eq!(super::safe("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}

//! Findings, the worst first. Findings that say the same of several subjects are shown once.

use owo_colors::OwoColorize as _;
use volutus_model::{Finding, Severity};

/// Subjects that are named of one group; a mistake on every host of a large cloud is one mistake.
const SUBJECTS_SHOWN_MAX: usize = 8;

/// All findings, each with its code, what was seen and what mends it, and a closing line.
pub fn render(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    let mut text = String::new();
    for group in
        sorted.chunk_by(|a, b| (a.severity, &a.code, template(a)) == (b.severity, &b.code, template(b)))
    {
        text += &render_group(group);
    }
    let count = |severity| sorted.iter().filter(|f| f.severity == severity).count();
    text += &format!(
        "{} blocking, {} serious, {} warning, {} info\n",
        count(Severity::Blocking),
        count(Severity::Serious),
        count(Severity::Warning),
        count(Severity::Info)
    );
    text
}

/// The explanation without what is particular to the subject: numbers, and words of its name.
fn template(finding: &Finding) -> String {
    let names: Vec<&str> = finding.subject.split(['@', '/', ' ']).filter(|name| !name.is_empty()).collect();
    let mut text: String = finding.explanation.chars().filter(|c| !c.is_ascii_digit()).collect();
    for name in names {
        let bare: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        text = text.replace(&bare, "");
    }
    text
}

fn render_group(group: &[&Finding]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let severity = format!("{:8}", first.severity);
    let severity = match first.severity {
        Severity::Blocking => severity.red().bold().to_string(),
        Severity::Serious => severity.red().to_string(),
        Severity::Warning => severity.yellow().to_string(),
        Severity::Info => severity.dimmed().to_string(),
    };
    let mut subjects: Vec<&str> =
        group.iter().take(SUBJECTS_SHOWN_MAX).map(|finding| finding.subject.as_str()).collect();
    let more = format!("and {} more", group.len() - subjects.len());
    if group.len() > subjects.len() {
        subjects.push(&more);
    }
    let mut text = format!("{severity} [{}] {}\n", first.code, subjects.join(", ").bold());
    text += &format!("         {}\n", first.explanation);
    if !first.action.is_empty() {
        text += &format!("         To do: {}\n", first.action);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_of_several_daemons_is_said_once() {
        let finding = |daemon: &str| {
            let unit = daemon.split('@').next().unwrap();
            let seen = format!("its unit {unit}.service is inactive with main process 0");
            Finding::new(Severity::Blocking, "daemon-not-active", daemon, seen, "Start it.")
        };
        let text = render(&[finding("nova-api@ctl1"), finding("glance-api@ctl2"), finding("nova-api@ctl2")]);
        assert_eq!(text.matches("[daemon-not-active]").count(), 1, "{text}");
        assert!(text.contains("nova-api@ctl2") && text.contains("3 blocking"), "{text}");
    }
}

//! Findings, the worst first.

use owo_colors::OwoColorize as _;
use volutus_model::{Finding, Severity};

/// All findings, each with its code, what was seen and what mends it, and a closing line.
pub fn render(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    let mut text = String::new();
    for finding in &sorted {
        let severity = format!("{:8}", finding.severity);
        let severity = match finding.severity {
            Severity::Blocking => severity.red().bold().to_string(),
            Severity::Serious => severity.red().to_string(),
            Severity::Warning => severity.yellow().to_string(),
            Severity::Info => severity.dimmed().to_string(),
        };
        text += &format!("{severity} [{}] {}\n", finding.code, finding.subject.bold());
        text += &format!("         {}\n", finding.explanation);
        if !finding.action.is_empty() {
            text += &format!("         To do: {}\n", finding.action);
        }
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

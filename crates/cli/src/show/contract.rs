//! Two contracts compared, in a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use volutus_contract::diff::{Comparison, Difference};
use volutus_contract::report::{self, FIGURES, audience, place, range};
use volutus_contract::rules::Class;
use volutus_contract::traffic::{Figures, Joined};

use super::table;

/// Differences of one class that are shown; the other formats have more.
const SHOWN_MAX: usize = 25;

/// The figures of each service, then what breaks and what is to be reviewed.
pub fn render(comparison: &Comparison) -> String {
    let mut out = String::new();
    let mut figures = table(&FIGURES);
    for row in report::figures(comparison) {
        figures.add_row(row);
    }
    let _written = writeln!(out, "{figures}");
    for class in [Class::Breaking, Class::Review, Class::Correction] {
        let listed: Vec<&Difference> =
            report::standing(comparison, class).filter(|d| class != Class::Review || of_users(d)).collect();
        if listed.is_empty() {
            continue;
        }
        let _written = writeln!(out, "\n{} ({})", class.name().to_uppercase(), listed.len());
        let mut lines = table(&["id", "service", "where", "microversions", "for", "what a client sees"]);
        for difference in listed.iter().take(SHOWN_MAX) {
            lines.add_row([
                difference.id.clone(),
                difference.service.clone(),
                place(difference),
                range(difference.at),
                audience(difference),
                difference.sees.clone(),
            ]);
        }
        let _written = writeln!(out, "{lines}");
        if listed.len() > SHOWN_MAX {
            let _written =
                writeln!(out, "  and {} more: --output markdown, html or json", listed.len() - SHOWN_MAX);
        }
    }
    let operators =
        comparison.differences.iter().filter(|d| d.class == Class::Review && !of_users(d)).count();
    let waived = comparison.differences.iter().filter(|d| d.waived.is_some()).count();
    let _written = writeln!(
        out,
        "\n{} breaking, {} to review ({operators} of them for operators only: options, scripts), {} corrections, \
         {} additive, {waived} waived; new microversions bring {} changes",
        comparison.count(Class::Breaking),
        comparison.count(Class::Review),
        comparison.count(Class::Correction),
        comparison.count(Class::Additive),
        comparison.news.len(),
    );
    out
}

/// Whether any user of an API notices it.
fn of_users(difference: &Difference) -> bool {
    use volutus_contract::diff::Audience;
    difference.audience.iter().any(|audience| *audience != Audience::Operator)
}

/// What would be asked of a log, the most frequent first.
pub fn traffic(figures: &Figures, joined: &BTreeMap<String, Joined>) -> String {
    let mut requests = table(&["service", "of clients", "microversion", "request"]);
    let (mut unknown, mut rare) = (0, 0);
    for (service, joined) in joined {
        unknown += joined.unknown;
        rare += joined.rare;
        for (one, count) in &joined.requests {
            let query = one.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
            requests.add_row([
                service.clone(),
                count.to_string(),
                one.microversion.map_or("-".to_owned(), |at| at.to_string()),
                format!("GET {}{query}", one.path),
            ]);
        }
    }
    format!(
        "{requests}\n\n{} lines: {} read, {} not understood, {} no GET, {} of other backends, {} not answered, {} \
         of too many kinds\nof those read: {unknown} of no known reading operation, {rare} too rare\n",
        figures.lines,
        figures.used,
        figures.malformed,
        figures.writing,
        figures.elsewhere,
        figures.unanswered,
        figures.too_many,
    )
}

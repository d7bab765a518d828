//! Results of Tempest, and how they differ from earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use owo_colors::OwoColorize as _;
use volutus_contract::tempest::{Differences, Results, TestEnd};

/// Reasons by which many tests are skipped are told once, with a count.
pub fn render(results: &Results, before: Option<&Results>, differences: Option<&Differences>) -> String {
    let mut text = String::new();
    let failing = |end: TestEnd| results.tests.iter().filter(move |(_, test)| test.result == end);
    if let Some(found) = differences {
        for (title, names) in [
            ("broken: passed before, and not now", &found.broken),
            ("no longer asked: passed before, and is skipped now", &found.no_longer_asked),
            ("mended: failed before, and passes now", &found.mended),
            ("failing before and now", &found.failing_before_and_now),
            ("failing now, and not asked before", &found.failing_unknown_before),
            ("unsteady: passed when it was run again", &found.unsteady),
        ] {
            push(&mut text, title, names, results, before);
        }
    } else {
        for (title, end) in [("failed", TestEnd::Failed), ("not run", TestEnd::NotRun)] {
            let names = failing(end).map(|(name, _)| name.clone()).collect();
            push(&mut text, title, &names, results, None);
        }
    }
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, test) in failing(TestEnd::Skipped) {
        *skipped.entry(test.reason.as_str()).or_default() += 1;
    }
    for (reason, count) in skipped {
        text += &format!("skipped: {count}: {reason}\n");
    }
    if let Some(before) = before {
        text += &format!("before: {}\n", figures(before));
        let differing: Vec<&String> = results
            .settings
            .iter()
            .filter(|(option, value)| before.settings.get(*option) != Some(*value))
            .map(|(option, _)| option)
            .collect();
        if !differing.is_empty() {
            let options: Vec<&str> = differing.into_iter().map(String::as_str).collect();
            text += &format!("configured otherwise than before: {}\n", options.join(", "));
        }
    }
    text += &format!(
        "Tempest {} ({}) on {}: {}\n",
        results.tempest,
        results.set,
        results.cloud,
        figures(results)
    );
    if let (Some(found), Some(_)) = (differences, before) {
        text += &format!(
            "{} broken, {} no longer asked, {} mended, {} failing before and now, {} failing and not asked before\n",
            found.broken.len(),
            found.no_longer_asked.len(),
            found.mended.len(),
            found.failing_before_and_now.len(),
            found.failing_unknown_before.len(),
        );
    }
    text
}

/// The figures of a run in one line.
fn figures(results: &Results) -> String {
    let ends = [TestEnd::Passed, TestEnd::Failed, TestEnd::Skipped, TestEnd::NotRun];
    let counts: Vec<String> = ends.iter().map(|end| format!("{} {end}", results.count(*end))).collect();
    format!("{} of {} tests in {} s", counts.join(", "), results.tests.len(), results.seconds)
}

fn push(text: &mut String, title: &str, names: &BTreeSet<String>, now: &Results, before: Option<&Results>) {
    for name in names {
        *text += &format!("{}: {name}\n", title.bold());
        let reason =
            |results: &Results| results.tests.get(name).map(|test| (test.result, test.reason.clone()));
        if let Some((end, why)) = reason(now) {
            if end != TestEnd::Passed {
                *text += &format!("    {end}: {why}\n");
            }
            if let Some(first) = now.tests.get(name).and_then(|test| test.failed_first.as_ref()) {
                *text += &format!("    at first: {first}\n");
            }
        }
        if let Some((end, why)) = before.and_then(reason)
            && end != TestEnd::Passed
        {
            *text += &format!("    before: {end}: {why}\n");
        }
    }
}

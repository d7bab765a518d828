//! Advisories, exposure and patches, as an operator reads them.

use std::collections::BTreeSet;
use std::fmt::Display;

use owo_colors::OwoColorize as _;
use volutus_advisories::{Change, Exposed, Exposure, Patch, Unfixed, Vulnerability};
use volutus_model::{DaemonId, Mitigation};

use super::table;
use crate::commands::mitigate::example;

/// Names that are listed of one group; the rest is counted, and is in the JSON.
const NAMES_MAX: usize = 5;

/// The first few of some names.
fn few<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let mut text = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        text += &format!(" and {} more", names.len() - NAMES_MAX);
    }
    text
}

/// The id, with the CVEs behind an advisory's own id.
fn named(id: &str, aliases: &BTreeSet<String>) -> String {
    let cves: Vec<&String> = aliases.iter().filter(|alias| alias.starts_with("CVE-")).collect();
    match cves.is_empty() {
        true => id.to_owned(),
        false => format!("{id} ({})", few(cves)),
    }
}

/// Who runs something: kinds with their number, not each daemon of a large fleet.
fn by_kind(daemons: &BTreeSet<DaemonId>) -> String {
    let mut kinds: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for daemon in daemons {
        kinds.entry(daemon.kind.as_str()).or_default().push(daemon.host.as_str());
    }
    few(kinds.into_iter().map(|(kind, hosts)| format!("{kind} on {}", few(hosts))))
}

/// All of them, one a line.
pub fn render_list(listed: &[&Vulnerability]) -> String {
    let mut rows = table(&["advisory", "published", "package", "affected", "title"]);
    for vulnerability in listed {
        for claim in &vulnerability.claims {
            let overruled = match claim.overruled.is_empty() {
                true => String::new(),
                false => format!(" ({} says otherwise)", claim.overruled.join(", ")),
            };
            let ranges = claim.affected.ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let ranges = match claim.affected.unread.is_empty() {
                true => ranges,
                false => format!("not understood: {}", claim.affected.text),
            };
            rows.add_row([
                named(&vulnerability.id, &vulnerability.aliases),
                vulnerability.published.map_or(String::new(), |date| date.to_string()),
                claim.affected.distribution.clone(),
                ranges + &overruled,
                vulnerability.title.clone(),
            ]);
        }
    }
    format!("{rows}\n")
}

fn exposed_block(exposed: &Exposed) -> String {
    let mut text = format!(
        "{}  {}\n    {} {} runs; affected: {} ({}, {})\n    {} daemons on {} hosts: {}\n",
        named(&exposed.vulnerability, &exposed.aliases).bold(),
        exposed.title,
        exposed.distribution,
        exposed.version,
        exposed.affected,
        exposed.record,
        exposed.published.map_or("no date".to_owned(), |date| date.to_string()),
        exposed.daemons.len(),
        exposed.hosts.len(),
        by_kind(&exposed.daemons)
    );
    if let Some(statement) = &exposed.statement {
        text += &format!("    stated by {} until {}: {}\n", statement.by, statement.until, statement.because);
    }
    text
}

/// The whole exposure.
pub fn render_exposure(exposure: &Exposure) -> String {
    let mut text = String::new();
    for exposed in &exposure.exposed {
        text += &exposed_block(exposed);
    }
    if !exposure.excused.is_empty() {
        text += &format!("\n{}\n", "Stated not to concern this cloud:".bold());
        for excused in &exposure.excused {
            text += &exposed_block(excused);
        }
    }
    if !exposure.unjudged.is_empty() {
        text += &format!("\n{}\n", "Could not be judged:".bold());
        for unjudged in &exposure.unjudged {
            text += &format!(
                "  {} {} ({}): {}\n    {}\n",
                unjudged.distribution,
                unjudged.version,
                unjudged.vulnerability,
                unjudged.why,
                by_kind(&unjudged.daemons)
            );
        }
    }
    if !exposure.not_seen.is_empty() {
        text += &format!("\n{}\n", "Were not seen:".bold());
        for missing in exposure.not_seen.iter().take(20) {
            text += &format!("  {}: {}\n", missing.daemon, missing.why);
        }
        if exposure.not_seen.len() > 20 {
            text += &format!("  and {} more\n", exposure.not_seen.len() - 20);
        }
    }
    text += &format!(
        "\n{} exposed, {} stated not to concern, {} not judged, {} not seen; {} daemons in {} environments, seen at {}\n",
        exposure.exposed.len(),
        exposure.excused.len(),
        exposure.unjudged.len(),
        exposure.not_seen.len(),
        exposure.daemons,
        exposure.environments,
        exposure.observed_at
    );
    text
}

fn change_block(change: &Change) -> String {
    let mut text = format!(
        "  {} {} -> {}{}\n    restarts {} daemons on {} hosts: {}\n",
        change.distribution.bold(),
        change.from,
        change.to.bold(),
        change.series.map_or(String::new(), |series| format!(" ({series})")),
        change.daemons.len(),
        change.hosts.len(),
        by_kind(&change.daemons)
    );
    if !change.published {
        text += "    that version is the advisory's word; whether it was published is not known here\n";
    }
    if !change.closes.is_empty() {
        text += &format!("    closes as well: {}\n", few(&change.closes));
    }
    if !change.remain.is_empty() {
        text += &format!("    remain in {}: {}\n", change.to, few(&change.remain));
    }
    if let Some(better) = &change.better {
        text += &format!("    {better} closes more of them\n");
    }
    text
}

fn unfixed_block(unfixed: &Unfixed) -> String {
    let mut text = format!(
        "  {} {}: {}\n    {}\n",
        unfixed.distribution.bold(),
        unfixed.version,
        unfixed.why,
        by_kind(&unfixed.daemons)
    );
    for (series, version) in &unfixed.elsewhere {
        text += &format!("    fixed in {series}: {version} (`volutus plan --to {series}`)\n");
    }
    text += "    What there is besides: a wheel or package with your vendor's patch (--take), a change of the \
             configuration that closes the way to it (see the advisory; --mitigate), or a statement with a \
             reason and an end (docs/operating/advisories.md).\n";
    text
}

/// What the policy declares that closes the way to a vulnerability; where nothing else does, how to declare it.
pub fn render_mitigations(patch: &Patch, declared: &[&Mitigation]) -> String {
    if patch.unfixed.is_empty() && patch.changes.is_empty() {
        return String::new();
    }
    if declared.is_empty() {
        if patch.unfixed.is_empty() {
            return String::new();
        }
        let example = example(&patch.vulnerability);
        return format!(
            "\nNo mitigation is declared. Where a command can close the way to it, declare it in the file that --policy \
             names, and plan it with --mitigate:\n{example}"
        );
    }
    let mut text = format!("\n{}\n", "Mitigations that the policy declares:".bold());
    for one in declared {
        text += &format!(
            "  {} ({}): {}\n    volutus patch {} --mitigate={}\n",
            one.name.bold(),
            one.method,
            one.argv.join(" "),
            patch.vulnerability,
            one.name
        );
    }
    text
}

/// What closes a vulnerability.
pub fn render_patch(patch: &Patch, exposure: &Exposure) -> String {
    let mut text = format!("{}  {}\n", named(&patch.vulnerability, &patch.aliases).bold(), patch.title);
    for note in &patch.notes {
        text += &format!("  note: {note}\n");
    }
    if patch.changes.is_empty() && patch.unfixed.is_empty() {
        let seen = match exposure.is_complete() {
            true => String::new(),
            false => {
                format!(
                    ", as far as could be told: {} not judged, {} not seen",
                    exposure.unjudged.len(),
                    exposure.not_seen.len()
                )
            }
        };
        return text + &format!("Nothing that runs is exposed to it{seen}.\n");
    }
    if !patch.changes.is_empty() {
        text += "\nTo change:\n";
        for change in &patch.changes {
            text += &change_block(change);
        }
    }
    if !patch.unfixed.is_empty() {
        text += &format!("\n{}\n", "No fixed release in the series:".red());
        for unfixed in &patch.unfixed {
            text += &unfixed_block(unfixed);
        }
    }
    text += &format!(
        "\n{} version changes, {} daemons to restart, {} versions without a fix\n",
        patch.changes.len(),
        patch.restarts.len(),
        patch.unfixed.len()
    );
    text
}

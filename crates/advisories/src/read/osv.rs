//! Records in OSV's format: PYSEC, GHSA. Source of the format and of how events are evaluated:
//! ossf/osv-schema, version 1.6.

use serde_json::Value;

use super::{Reader, ids_of, text_of, texts_of};
use crate::range::{Bound, Range};
use crate::record::Affected;
use crate::{Feed, Record, Version};

pub(super) fn read(reader: &mut Reader<'_>, value: &Value) {
    let Some(id) = reader.id(value.get("id")) else { return };
    let date = reader.date(&id, value.get("published"));
    let withdrawn = value.get("withdrawn").is_some();
    let mut affected: Vec<Affected> = Vec::new();
    let mut others = 0;
    for entry in value.get("affected").and_then(Value::as_array).into_iter().flatten() {
        let package = entry.get("package");
        let of = |key: &str| text_of(package.and_then(|package| package.get(key)));
        match (of("ecosystem").as_deref(), of("name")) {
            (Some("PyPI"), Some(name)) => affected.push(package_of(reader, &id, &name, entry)),
            (Some(_), _) => others += 1,
            _ => reader.problem(&id, "an affected package has no name or no ecosystem", false),
        }
    }
    if affected.is_empty() && !withdrawn {
        match others {
            0 => reader.problem(&id, "it names no affected package", true),
            _ => reader.read.others += 1,
        }
        return;
    }
    let aliases = texts_of(value.get("aliases")).into_iter().chain(texts_of(value.get("upstream")));
    let record = Record {
        aliases: ids_of(aliases),
        feed: Feed::Osv,
        date,
        title: text_of(value.get("summary"))
            .or_else(|| text_of(value.get("details")).map(|text| text.chars().take(120).collect()))
            .unwrap_or_default(),
        affected,
        errata: false,
        notes: Vec::new(),
        withdrawn,
        source: reader.source.to_owned(),
        id,
    };
    reader.read.records.push(record);
}

fn package_of(reader: &mut Reader<'_>, id: &str, name: &str, entry: &Value) -> Affected {
    let mut affected = reader.blank(name);
    let renumbered = reader.products.renumbered(&affected.distribution);
    let mut by_commit = false;
    for range in entry.get("ranges").and_then(Value::as_array).into_iter().flatten() {
        match range.get("type").and_then(Value::as_str) {
            // Commits cannot be compared with what is installed.
            Some("GIT") => by_commit = true,
            Some("ECOSYSTEM" | "SEMVER") => events(range, renumbered, &mut affected),
            _ => affected.unread.push(range.to_string()),
        }
    }
    let open = |range: &Range| range.lower.is_none() && range.upper.is_none();
    // "Introduced in 0" and no end, beside fixes that are commits: the conversion lost the end.
    // (PYSEC-2012-20 thereby claims every keystone to this day.)
    if by_commit && affected.ranges.iter().any(open) {
        affected.ranges.retain(|range| !open(range));
        affected.unread.push("a range without an end, whose fixes are commits".to_owned());
    } else {
        for version in texts_of(entry.get("versions")) {
            match Version::parse(&version, renumbered) {
                Some(version) if !affected.ranges.iter().any(|range| range.contains(&version)) => {
                    affected.ranges.push(Range::exactly(version));
                }
                Some(_) => {}
                None => affected.unread.push(version),
            }
        }
    }
    if affected.ranges.is_empty() && affected.unread.is_empty() {
        affected.unread.push("no version is named".to_owned());
    }
    let shown: Vec<String> = affected.ranges.iter().take(8).map(ToString::to_string).collect();
    affected.text = shown.join(", ");
    reader.affected(id, affected)
}

/// Introduced, fixed, introduced, fixed: in the order of their versions.
fn events(range: &Value, renumbered: bool, affected: &mut Affected) {
    let mut found: Vec<(Option<Version>, &str)> = Vec::new();
    for event in range.get("events").and_then(Value::as_array).into_iter().flatten() {
        for kind in ["introduced", "fixed", "last_affected"] {
            let Some(text) = text_of(event.get(kind)) else { continue };
            match (text.as_str(), Version::parse(&text, renumbered)) {
                ("0", _) if kind == "introduced" => found.push((None, kind)),
                (_, Some(version)) => found.push((Some(version), kind)),
                (_, None) => affected.unread.push(format!("{kind} {text}")),
            }
        }
    }
    found.sort();
    let mut open: Option<Option<Version>> = None;
    for (version, kind) in found {
        match (kind, &open) {
            ("introduced", None) => open = Some(version),
            ("fixed" | "last_affected", Some(from)) => {
                let bound = |version: &Option<Version>, inclusive| {
                    version.clone().map(|version| Bound { version, inclusive })
                };
                let lower = bound(from, true);
                affected.ranges.push(Range { lower, upper: bound(&version, kind == "last_affected") });
                open = None;
            }
            _ => {}
        }
    }
    if let Some(from) = open {
        let lower = from.map(|version| Bound { version, inclusive: true });
        affected.ranges.push(Range { lower, upper: None });
    }
}

//! Records of the CVE program. Source of the format and of how versions match: CVEProject/cve-schema,
//! `CVE_Record_Format` 5.1, `affected[].versions`.

use serde_json::Value;

use super::{Reader, ids_of, text_of};
use crate::range::{Bound, Range};
use crate::record::Affected;
use crate::{Feed, Record, Version};

pub(super) fn read(reader: &mut Reader<'_>, value: &Value) {
    let metadata = value.get("cveMetadata");
    let Some(id) = reader.id(metadata.and_then(|data| data.get("cveId"))) else { return };
    let of = |key: &str| metadata.and_then(|data| data.get(key));
    let cna = value.pointer("/containers/cna");
    let public = cna.and_then(|cna| cna.get("datePublic")).or_else(|| of("datePublished"));
    let date = reader.date(&id, public);
    let withdrawn = of("state").and_then(Value::as_str) == Some("REJECTED");
    let mut affected = Vec::new();
    let mut others = 0;
    for entry in cna.and_then(|cna| cna.get("affected")).and_then(Value::as_array).into_iter().flatten() {
        let name = text_of(entry.get("packageName")).or_else(|| text_of(entry.get("product")));
        match name.filter(|name| !name.eq_ignore_ascii_case("n/a")) {
            // Other vendors have products of the same names.
            Some(product) if !concerns(reader, &product, entry) => others += 1,
            Some(product) => affected.push(product_of(reader, &id, &product, entry)),
            None => reader.problem(&id, "an affected product has no name", false),
        }
    }
    if affected.is_empty() && others > 0 {
        reader.read.others += 1;
        return;
    }
    if affected.is_empty() && !withdrawn {
        reader.problem(&id, "it names no affected product", true);
        return;
    }
    let references = cna.and_then(|cna| cna.get("references")).and_then(Value::as_array);
    // The advisory of OpenStack is known by its address.
    let addresses = references.into_iter().flatten().filter_map(|reference| text_of(reference.get("url")));
    let named = addresses.filter_map(|url| {
        let name = url.rsplit('/').next()?.trim_end_matches(".html").to_owned();
        name.starts_with("OSSA-").then_some(name)
    });
    let english = cna.and_then(|cna| cna.pointer("/descriptions/0/value"));
    let title = text_of(cna.and_then(|cna| cna.get("title")))
        .or_else(|| text_of(english).map(|text| text.chars().take(120).collect()));
    let record = Record {
        aliases: ids_of(named),
        feed: Feed::Cve,
        date,
        title: title.unwrap_or_default(),
        affected,
        errata: false,
        notes: Vec::new(),
        withdrawn,
        source: reader.source.to_owned(),
        id,
    };
    reader.read.records.push(record);
}

/// Whether an entry is about OpenStack, or about a package of the Python package index.
fn concerns(reader: &Reader<'_>, product: &str, entry: &Value) -> bool {
    let of = |key: &str| text_of(entry.get(key)).unwrap_or_default().to_ascii_lowercase();
    let vendor = of("vendor");
    let unnamed = vendor.is_empty() || vendor == "n/a";
    vendor.contains("openstack")
        || of("collectionURL").contains("pypi")
        || unnamed && reader.products.is_service(&reader.products.distribution(product))
}

fn product_of(reader: &mut Reader<'_>, id: &str, product: &str, entry: &Value) -> Affected {
    let mut affected = reader.blank(product);
    let renumbered = reader.products.renumbered(&affected.distribution);
    if entry.get("defaultStatus").and_then(Value::as_str) == Some("affected") {
        affected.ranges.push(Range::default());
        affected.text = "all but those named".to_owned();
    }
    let versions = entry.get("versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        let text = version.to_string();
        match ranges_of(version, renumbered) {
            Some((ranges, status)) => {
                let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                match status.as_str() {
                    "affected" => {
                        if !affected.text.is_empty() {
                            affected.text += ", ";
                        }
                        affected.text += &shown.join(", ");
                        affected.ranges.extend(ranges);
                    }
                    "unaffected" => affected.except.extend(ranges),
                    // "unknown" is what is not stated.
                    _ => affected.unread.push(text),
                }
            }
            None => affected.unread.push(text),
        }
    }
    if affected.ranges.is_empty() && affected.unread.is_empty() {
        affected.unread.push("no version is named".to_owned());
    }
    reader.affected(id, affected)
}

/// The ranges of one entry, and their status; `changes` cut it into several.
fn ranges_of(entry: &Value, renumbered: bool) -> Option<(Vec<Range>, String)> {
    let status = text_of(entry.get("status"))?;
    let parse = |text: &str| Version::parse(text, renumbered);
    let start = text_of(entry.get("version"))?;
    let mut lower = match start.as_str() {
        "*" | "0" => None,
        text => Some(Bound { version: parse(text)?, inclusive: true }),
    };
    let upper = match (text_of(entry.get("lessThan")), text_of(entry.get("lessThanOrEqual"))) {
        (Some(end), _) | (None, Some(end)) if end == "*" => None,
        (Some(end), _) => Some(Bound { version: parse(&end)?, inclusive: false }),
        (None, Some(end)) => Some(Bound { version: parse(&end)?, inclusive: true }),
        (None, None) if start == "*" => None,
        (None, None) => {
            return Some((vec![Range::exactly(parse(&start)?)], status));
        }
    };
    let mut ranges = Vec::new();
    let mut open = true;
    let mut changes = Vec::new();
    for change in entry.get("changes").and_then(Value::as_array).into_iter().flatten() {
        changes.push((parse(&text_of(change.get("at"))?)?, text_of(change.get("status"))?));
    }
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    for (at, becomes) in changes {
        let same = becomes == status;
        if open && !same {
            let upper = Some(Bound { version: at.clone(), inclusive: false });
            ranges.push(Range { lower: lower.clone(), upper });
        } else if !open && same {
            lower = Some(Bound { version: at, inclusive: true });
        }
        open = same;
    }
    if open {
        ranges.push(Range { lower, upper });
    }
    Some((ranges.into_iter().filter(|range| !range.is_empty()).collect(), status))
}

//! OpenStack Security Advisories. Source of the format: openstack/ossa, `ossa/OSSA-*.yaml` and
//! `doc/source/template.yaml`.

use serde_json::Value;

use super::{Reader, ids_of, text_of, texts_of};
use crate::{Feed, Record};

/// The keys that are known; others are told.
const KEYS: &[&str] = &[
    "date",
    "id",
    "title",
    "description",
    "affected-products",
    "vulnerabilities",
    "reporters",
    "issues",
    "reviews",
    "notes",
    "errata",
    "errata_history",
    "type",
    "links",
];

pub(super) fn read(reader: &mut Reader<'_>, value: &Value) {
    let Some(id) = reader.id(value.get("id")) else { return };
    let date = reader.date(&id, value.get("date"));
    for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
        if !KEYS.contains(&key.as_str()) {
            reader.problem(&id, format!("the key `{key}` is not known"), false);
        }
    }
    let Some(products) = value.get("affected-products").and_then(Value::as_array) else {
        reader.problem(&id, "`affected-products` is not a list", true);
        return;
    };
    let mut affected = Vec::new();
    for entry in products {
        let (Some(names), Some(text)) = (text_of(entry.get("product")), text_of(entry.get("version"))) else {
            reader.problem(&id, "an affected product has no `product` or no `version`", false);
            continue;
        };
        // "Cinder, Glance, Nova" are three products, whose ranges the text tells apart.
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            affected.push(reader.expression(&id, date, name, &text));
        }
    }
    if affected.is_empty() {
        reader.problem(&id, "it names no affected product", true);
        return;
    }
    let vulnerabilities = value.get("vulnerabilities").and_then(Value::as_array);
    let cves = vulnerabilities.into_iter().flatten().filter_map(|entry| text_of(entry.get("cve-id")));
    let record = Record {
        aliases: ids_of(cves),
        feed: Feed::Ossa,
        date,
        title: text_of(value.get("title")).unwrap_or_default(),
        affected,
        errata: value.get("errata").is_some() || value.get("errata_history").is_some(),
        notes: texts_of(value.get("notes")),
        withdrawn: false,
        source: reader.source.to_owned(),
        id,
    };
    reader.read.records.push(record);
}

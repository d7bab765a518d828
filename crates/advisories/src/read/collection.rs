//! Many records in one file, in the form of this project's own data: `{"advisories": [...]}`, each
//! with `id`, `date`, `title`, `aliases`, `affected` (`product`, and `versions` in OSSA's grammar)
//! and `source`. `cves` and `ossa_id` are read as aliases, `version_expr` as `versions`.

use serde_json::Value;

use super::{Reader, ids_of, text_of, texts_of};
use crate::{Feed, Record};

pub(super) fn read(reader: &mut Reader<'_>, value: &Value) {
    let Some(entries) = value.get("advisories").and_then(Value::as_array) else {
        reader.problem("", "`advisories` is not a list", true);
        return;
    };
    for entry in entries {
        one(reader, entry);
    }
}

fn one(reader: &mut Reader<'_>, value: &Value) {
    let Some(id) = reader.id(value.get("id")) else { return };
    let date = reader.date(&id, value.get("date"));
    let mut affected = Vec::new();
    for entry in value.get("affected").and_then(Value::as_array).into_iter().flatten() {
        let text = text_of(entry.get("versions").or_else(|| entry.get("version_expr")));
        let (Some(product), Some(text)) = (text_of(entry.get("product")), text) else {
            reader.problem(&id, "an affected product has no `product` or no `versions`", false);
            continue;
        };
        affected.push(reader.expression(&id, date, &product, &text));
    }
    if affected.is_empty() {
        reader.problem(&id, "it names no affected product", true);
        return;
    }
    let mut aliases = ids_of(
        texts_of(value.get("aliases"))
            .into_iter()
            .chain(texts_of(value.get("cves")))
            .chain(text_of(value.get("ossa_id"))),
    );
    aliases.remove(&id);
    let feed = match () {
        () if id.starts_with("OSSA-") => Feed::Ossa,
        () if id.starts_with("CVE-") => Feed::Cve,
        () => Feed::Osv,
    };
    let record = Record {
        feed,
        aliases,
        date,
        title: text_of(value.get("title")).unwrap_or_default(),
        affected,
        errata: value.get("errata").or_else(|| value.get("has_errata")).and_then(Value::as_bool)
            == Some(true),
        notes: texts_of(value.get("notes")),
        withdrawn: false,
        source: text_of(value.get("source")).unwrap_or_else(|| reader.source.to_owned()),
        id,
    };
    reader.read.records.push(record);
}

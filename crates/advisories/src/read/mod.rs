//! Reads what others publish. Tolerant: one record that cannot be read does not keep the others
//! from being read. Loud: everything that was not understood is told as a [`Problem`].

mod collection;
mod cve;
mod ossa;
mod osv;

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use serde::Serialize;
use serde_json::Value;

use crate::record::Affected;
use crate::{Error, Products, Record, expression};

/// A document of more bytes than this is not an advisory, nor a collection of such.
pub const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a document contained.
#[derive(Debug, Default)]
pub struct Read {
    /// What was understood.
    pub records: Vec<Record>,
    /// What was not.
    pub problems: Vec<Problem>,
    /// Records that concern nothing of OpenStack or of the Python package index.
    pub others: usize,
}

/// Something that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// In which file, and of which record.
    pub place: String,
    /// What.
    pub what: String,
    /// Whether the whole record is left out because of it.
    pub left_out: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.left_out { "; the record is left out" } else { "" };
        write!(f, "{}: {}{end}", self.place, self.what)
    }
}

/// Reads a document in any of the formats; which one, its content tells.
///
/// # Errors
/// [`Error::Document`] where it is neither JSON nor YAML, or too long, or of no format that is known.
pub fn read(text: &str, source: &str, products: &Products) -> Result<Read, Error> {
    let refuse = |why: String| Error::Document { place: source.to_owned(), why };
    if text.len() > BYTES_MAX {
        return Err(refuse(format!("it has {} bytes, and {BYTES_MAX} are read at the most", text.len())));
    }
    let value: Value = match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::from_str(text).map_err(|error| refuse(format!("it is not JSON: {error}")))?,
        false => serde_saphyr::from_str(text).map_err(|error| refuse(format!("it is not YAML: {error}")))?,
    };
    let mut reader = Reader { products, source, read: Read::default() };
    match &value {
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                if !reader.document(item) {
                    reader.problem(&format!("item {position}"), "it is of no format that is known", true);
                }
            }
        }
        value => {
            if !reader.document(value) {
                return Err(refuse(
                    "it is none of: an OSSA file (`affected-products`), a CVE record (`cveMetadata`), an OSV \
                     record (`affected` and `modified`), a collection (`advisories`)"
                        .to_owned(),
                ));
            }
        }
    }
    Ok(reader.read)
}

/// Reads documents one after another into one result.
pub(crate) struct Reader<'a> {
    pub products: &'a Products,
    pub source: &'a str,
    pub read: Read,
}

impl Reader<'_> {
    /// A product of which nothing is said yet.
    fn blank(&self, product: &str) -> Affected {
        Affected {
            product: product.to_owned(),
            distribution: self.products.distribution(product),
            text: String::new(),
            ranges: Vec::new(),
            except: Vec::new(),
            unread: Vec::new(),
            corrected_by: None,
        }
    }

    /// Whether the value was of a known format.
    fn document(&mut self, value: &Value) -> bool {
        let has = |key: &str| value.get(key).is_some();
        if has("affected-products") {
            ossa::read(self, value);
        } else if has("cveMetadata") || value.get("dataType").and_then(Value::as_str) == Some("CVE_RECORD") {
            cve::read(self, value);
        } else if has("advisories") {
            collection::read(self, value);
        } else if has("id") && (has("modified") || has("schema_version") || has("withdrawn")) {
            osv::read(self, value);
        } else {
            return false;
        }
        true
    }

    pub fn problem(&mut self, record: &str, what: impl Into<String>, left_out: bool) {
        let place = match record.is_empty() {
            true => self.source.to_owned(),
            false => format!("{} ({record})", self.source),
        };
        self.read.problems.push(Problem { place, what: what.into(), left_out });
    }

    /// The id of a record; without one it is left out.
    pub fn id(&mut self, value: Option<&Value>) -> Option<String> {
        let id = value.and_then(Value::as_str).map(|id| id.trim().to_ascii_uppercase());
        let id = id.filter(|id| is_id(id));
        if id.is_none() {
            self.problem("", "a record has no id such as OSSA-2026-012 or CVE-2026-42999", true);
        }
        id
    }

    /// A date, or the date of a time.
    pub fn date(&mut self, record: &str, value: Option<&Value>) -> Option<Date> {
        let text = value.and_then(Value::as_str)?;
        let date = text.get(..10).and_then(|day| day.parse().ok());
        if date.is_none() {
            self.problem(record, format!("`{text}` is not a date"), false);
        }
        date
    }

    /// Reads a version expression of OpenStack's for a product, or a correction instead of it.
    pub fn expression(&mut self, record: &str, date: Option<Date>, product: &str, text: &str) -> Affected {
        let distribution = self.products.distribution(product);
        let correction = self.products.correction(record, &distribution);
        let subject = expression::Subject { products: self.products, distribution: &distribution, date };
        let read = expression::parse(correction.map_or(text, |correction| &correction.versions), &subject);
        let corrected_by = correction.map(|correction| correction.source.clone());
        self.affected(
            record,
            Affected {
                product: product.to_owned(),
                text: text.to_owned(),
                ranges: read.ranges,
                except: Vec::new(),
                unread: read.unread,
                corrected_by,
                distribution,
            },
        )
    }

    /// Tells of what was not understood.
    pub fn affected(&mut self, record: &str, affected: Affected) -> Affected {
        for unread in &affected.unread {
            let what = format!("the versions `{unread}` of {} are not understood", affected.product);
            self.problem(record, what, false);
        }
        affected
    }
}

/// Ids become parts of output and keys; they are short and of few characters.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.contains('-')
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.')
}

/// A text, or a number written as one: YAML makes a number of `version: 2014.1`.
pub(crate) fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The texts of a list; a single text counts as a list of one.
pub(crate) fn texts_of(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(|item| text_of(Some(item))).collect(),
        other => text_of(other).into_iter().collect(),
    }
}

/// Ids among texts, in capital letters.
pub(crate) fn ids_of(texts: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    texts.into_iter().map(|text| text.trim().to_ascii_uppercase()).filter(|id| is_id(id)).collect()
}

//! Where in a TOML file a key is, so that an error about a value can name its line.

use toml::de::{DeArray, DeTable, DeValue};

/// The line, from 1, and the dotted key of what is at an offset of the text.
pub(super) fn at(text: &str, offset: usize) -> (usize, String) {
    let key = DeTable::parse(text).ok().and_then(|table| key_at(table.get_ref(), offset));
    (line(text, offset), key.unwrap_or_else(|| "the file".to_owned()))
}

/// The line of a dotted key, in which places in lists are numbers from 0; that of the nearest table
/// around it where the key itself is not written.
pub(super) fn of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut inside = Inside::Table(table.get_ref());
    for part in key.split('.') {
        let next = match inside {
            Inside::Table(table) => table
                .iter()
                .find(|(name, _)| name.get_ref() == part)
                .map(|(name, value)| (name.span().start, value.get_ref())),
            Inside::List(values) => part
                .parse::<usize>()
                .ok()
                .and_then(|place| values.get(place))
                .map(|value| (value.span().start, value.get_ref())),
        };
        let Some((start, value)) = next else { break };
        found = Some(start);
        inside = match value {
            DeValue::Table(table) => Inside::Table(table),
            DeValue::Array(values) => Inside::List(values),
            _ => break,
        };
    }
    found.map(|offset| line(text, offset))
}

enum Inside<'a, 't> {
    Table(&'a DeTable<'t>),
    List(&'a DeArray<'t>),
}

fn line(text: &str, offset: usize) -> usize {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    text[..offset].matches('\n').count() + 1
}

fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let inside = match value.get_ref() {
            DeValue::Table(table) => key_at(table, offset),
            DeValue::Array(values) => {
                values.iter().enumerate().find_map(|(index, value)| match value.get_ref() {
                    DeValue::Table(table) => Some(format!("{index}.{}", key_at(table, offset)?)),
                    _ => None,
                })
            }
            _ => None,
        };
        let here = name.span().contains(&offset) || value.span().contains(&offset);
        let name = name.get_ref();
        inside.map(|inside| format!("{name}.{inside}")).or_else(|| here.then(|| name.to_string()))
    })
}

//! Ansible's INI inventories: `[group]`, `[group:children]`, `[group:vars]`, host ranges.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Error, Groups};

/// A host pattern may stand for at most this many hosts: enough for any fleet, and a bound on
/// what `[0:999999999]` can do.
const RANGE_MAX: usize = 100_000;

enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
}

/// Reads an INI inventory.
pub(super) fn parse(text: &str) -> Result<Groups, Error> {
    let mut groups = Groups::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (index, raw) in text.lines().enumerate() {
        let line_number = index + 1;
        let syntax = |message: String| Error::Syntax { line: line_number, message };
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest
                .split_once(']')
                .map(|(name, _)| name)
                .ok_or_else(|| syntax("a section header has no closing bracket".to_owned()))?;
            section = match name.split_once(':') {
                None => Section::Hosts(name.to_owned()),
                Some((group, "children")) => Section::Children(group.to_owned()),
                Some((group, "vars")) => Section::Vars(group.to_owned()),
                Some((_, other)) => {
                    return Err(syntax(format!(
                        "`:{other}` is not a kind of section; `:children` and `:vars` are"
                    )));
                }
            };
            if let Section::Hosts(group) | Section::Children(group) = &section {
                groups.hosts.entry(group.clone()).or_default();
            }
            continue;
        }
        match &section {
            Section::Children(group) => {
                let child = line.split_whitespace().next().unwrap_or(line);
                groups.children.entry(group.clone()).or_default().insert(child.to_owned());
            }
            Section::Vars(group) => {
                let (key, value) =
                    line.split_once('=').ok_or_else(|| syntax(format!("`{line}` is not `name=value`")))?;
                groups
                    .group_vars
                    .entry(group.clone())
                    .or_default()
                    .insert(key.trim().to_owned(), scalar(value));
            }
            Section::Hosts(group) => {
                let (pattern, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                let vars = host_variables(rest);
                for host in expand(pattern).map_err(syntax)? {
                    groups.host_vars.entry(host.clone()).or_default().extend(vars.clone());
                    groups.hosts.entry(group.clone()).or_default().insert(host);
                }
            }
        }
    }
    Ok(groups)
}

fn scalar(text: &str) -> Value {
    Value::String(text.trim().trim_matches(['"', '\'']).to_owned())
}

fn host_variables(text: &str) -> BTreeMap<String, Value> {
    let without_comment = text.split(" #").next().unwrap_or(text);
    without_comment
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), scalar(value)))
        .collect()
}

/// Expands `ctl[01:03].example` into its hosts, leading zeros kept, as Ansible does.
fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = pattern.split_once('[') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let (range, tail) =
        rest.split_once(']').ok_or_else(|| format!("the range in `{pattern}` has no closing bracket"))?;
    let parts: Vec<&str> = range.split(':').collect();
    let number =
        |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` in `{pattern}` is not a number"));
    let (first, last, step) = match parts.as_slice() {
        [first, last] => (number(first)?, number(last)?, 1),
        [first, last, step] => (number(first)?, number(last)?, number(step)?.max(1)),
        _ => return Err(format!("`[{range}]` in `{pattern}` is not a range such as [01:03]")),
    };
    if last < first || (last - first) / step >= RANGE_MAX {
        return Err(format!("the range in `{pattern}` is empty or longer than {RANGE_MAX}"));
    }
    let width = parts[0].len();
    let mut hosts = Vec::new();
    for number in (first..=last).step_by(step) {
        for end in expand(tail)? {
            hosts.push(format!("{head}{number:0width$}{end}"));
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_zeros() {
        assert_eq!(expand("c[08:10].x").unwrap(), ["c08.x", "c09.x", "c10.x"]);
        assert_eq!(expand("c1").unwrap(), ["c1"]);
        assert!(expand("c[3:1]").is_err());
        assert!(expand("c[1:9999999]").is_err());
        assert!(expand("c[1:2").is_err());
    }
}

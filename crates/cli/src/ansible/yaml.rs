//! Ansible's YAML inventories.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Error, Groups};

#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(default)]
    hosts: Option<BTreeMap<String, Option<BTreeMap<String, Value>>>>,
    #[serde(default)]
    children: Option<BTreeMap<String, Option<Group>>>,
    #[serde(default)]
    vars: Option<BTreeMap<String, Value>>,
}

/// Whether the text's first line of content looks like a YAML mapping rather than INI.
pub(super) fn looks_like(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .is_some_and(|line| line == "---" || line.ends_with(':'))
}

/// Reads a YAML inventory.
pub(super) fn parse(text: &str) -> Result<Groups, Error> {
    let top: BTreeMap<String, Option<Group>> = serde_saphyr::from_str(text)
        .map_err(|error| Error::Syntax { line: 0, message: error.to_string() })?;
    let mut groups = Groups::default();
    for (name, group) in top {
        collect(&mut groups, name, group.unwrap_or_default());
    }
    Ok(groups)
}

fn collect(groups: &mut Groups, name: String, group: Group) {
    let hosts = groups.hosts.entry(name.clone()).or_default();
    for (host, vars) in group.hosts.unwrap_or_default() {
        hosts.insert(host.clone());
        groups.host_vars.entry(host).or_default().extend(vars.unwrap_or_default());
    }
    groups.group_vars.entry(name.clone()).or_default().extend(group.vars.unwrap_or_default());
    for (child, content) in group.children.unwrap_or_default() {
        groups.children.entry(name.clone()).or_default().insert(child.clone());
        collect(groups, child, content.unwrap_or_default());
    }
}

//! The JSON that `ansible-inventory --list` prints, which is also the form of dynamic
//! inventories such as OpenStack-Ansible's `openstack_inventory.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Error, Groups};

#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
    #[serde(default)]
    vars: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Meta {
    #[serde(default)]
    hostvars: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Reads the JSON form.
pub(super) fn parse(text: &str) -> Result<Groups, Error> {
    let syntax = |error: serde_json::Error| Error::Syntax { line: error.line(), message: error.to_string() };
    let mut top: BTreeMap<String, Value> = serde_json::from_str(text).map_err(syntax)?;
    let mut groups = Groups::default();
    if let Some(meta) = top.remove("_meta") {
        let meta: Meta = serde_json::from_value(meta).map_err(syntax)?;
        groups.host_vars = meta.hostvars;
    }
    for (name, value) in top {
        let group: Group = serde_json::from_value(value).map_err(|error| Error::Syntax {
            line: 0,
            message: format!("group `{name}` is not as `ansible-inventory --list` prints it: {error}"),
        })?;
        groups.hosts.insert(name.clone(), group.hosts.into_iter().collect());
        groups.children.insert(name.clone(), group.children.into_iter().collect());
        groups.group_vars.insert(name, group.vars);
    }
    Ok(groups)
}

//! Makes a cloud description from an Ansible inventory of kolla-ansible's or
//! OpenStack-Ansible's group names.
//!
//! The inventory may be given as `ansible-inventory --list` prints it (JSON), or directly as INI
//! or YAML. Group names tell which daemons a host carries; see [`map`].

mod ini;
mod list;
mod map;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use volutus_model::Inventory;

/// Why an inventory could not be turned into a cloud description.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is in none of the three forms, or broken.
    #[error("line {line}: {message}")]
    Syntax {
        /// Line, from 1; 0 where the parser knows none.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It was read, and what it says is not enough.
    #[error("{0}")]
    Incomplete(String),
}

/// A description, and what a person has to look at before using it.
#[derive(Debug)]
pub struct Imported {
    /// The description.
    pub inventory: Inventory,
    /// What was assumed or left out, a sentence each.
    pub notes: Vec<String>,
}

/// Groups and host variables, in the form that all three readers end in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    hosts: BTreeMap<String, BTreeSet<String>>,
    children: BTreeMap<String, BTreeSet<String>>,
    host_vars: BTreeMap<String, BTreeMap<String, Value>>,
    group_vars: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Groups {
    /// All hosts of a group, those of its children included. Cycles end by the visited set.
    fn members(&self, group: &str) -> BTreeSet<&str> {
        let mut members = BTreeSet::new();
        let mut visited = BTreeSet::new();
        let mut open = vec![group];
        while let Some(name) = open.pop() {
            if !visited.insert(name) {
                continue;
            }
            members.extend(self.hosts.get(name).into_iter().flatten().map(String::as_str));
            open.extend(self.children.get(name).into_iter().flatten().map(String::as_str));
        }
        members
    }

    /// A variable of a host: its own, else that of a group that it is in, else that of `all`.
    fn variable(&self, host: &str, name: &str) -> Option<&Value> {
        if let Some(value) = self.host_vars.get(host).and_then(|vars| vars.get(name)) {
            return Some(value);
        }
        self.group_vars
            .iter()
            .filter(|(group, _)| *group != "all" && self.members(group).contains(host))
            .chain(self.group_vars.iter().filter(|(group, _)| *group == "all"))
            .find_map(|(_, vars)| vars.get(name))
    }
}

/// Reads an inventory in any of the three forms and turns it into a cloud description.
///
/// # Errors
/// [`Error::Syntax`] with the line where the text cannot be read; [`Error::Incomplete`] where it
/// names no group that tells of an OpenStack daemon, or a host has no address.
pub fn import(text: &str, cloud_name: &str) -> Result<Imported, Error> {
    let groups = match text.trim_start().chars().next() {
        Some('{') => list::parse(text)?,
        Some('[') => ini::parse(text)?,
        _ if yaml::looks_like(text) => yaml::parse(text)?,
        _ => ini::parse(text)?,
    };
    map::describe(&groups, cloud_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KOLLA: &str = include_str!("testdata/kolla.ini");
    const OSA: &str = include_str!("testdata/osa.json");

    fn daemons(imported: &Imported) -> Vec<String> {
        imported.inventory.daemons().map(|(id, _, _)| id.to_string()).collect()
    }

    #[test]
    fn kolla_ini_becomes_a_description() {
        let imported = import(KOLLA, "site").unwrap();
        let all = daemons(&imported);
        for expected in ["keystone-api@control01", "nova-conductor@control03", "nova-compute@compute02"] {
            assert!(all.iter().any(|d| d == expected), "{expected} is missing in {all:?}");
        }
        assert!(!all.iter().any(|d| d.starts_with("nova-compute@control")));
        assert_eq!(imported.inventory.load_balancers.len(), 2);
        let text = toml::to_string(&imported.inventory).unwrap();
        assert_eq!(Inventory::parse(&text).unwrap(), imported.inventory);
    }

    #[test]
    fn the_same_inventory_as_yaml_gives_the_same_description() {
        let yaml = include_str!("testdata/kolla.yml");
        assert_eq!(import(yaml, "site").unwrap().inventory, import(KOLLA, "site").unwrap().inventory);
    }

    #[test]
    fn openstack_ansible_list_becomes_a_description() {
        let imported = import(OSA, "site").unwrap();
        let all = daemons(&imported);
        for expected in [
            "keystone-api@infra1_keystone_container-1a2b3c4d",
            "nova-api@infra1_nova_api_container-5e6f7a8b",
            "nova-compute@compute1",
            "cinder-volume@storage1",
        ] {
            assert!(all.iter().any(|d| d == expected), "{expected} is missing in {all:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let no_groups = import("[web]\nhost1 ansible_host=198.18.0.1\n", "x").unwrap_err();
        assert!(no_groups.to_string().contains("no group"), "{no_groups}");
        let broken = import("[control\nhost1\n", "x").unwrap_err();
        assert!(matches!(broken, Error::Syntax { line: 1, .. }), "{broken}");
        let no_address =
            import("[control]\nno-such-host.invalid\n[keystone:children]\ncontrol\n", "x").unwrap_err();
        assert!(no_address.to_string().contains("ansible_host"), "{no_address}");
    }
}

//! How the options that the catalog names are found in an observation: the one place that knows
//! which of a host's configuration files belong to which service.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::name::{DaemonKind, HostName};
use volutus_model::{Inventory, Observation};

use crate::Service;

/// What was seen of one option on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionSeen {
    /// It is set to this.
    Set(String),
    /// The service's files were read, and it is not in them.
    Unset,
    /// It is not known.
    Unseen {
        /// Why.
        why: String,
    },
}

/// What was seen of `option` (`section/option`) of a service, on every host that carries one of
/// its daemons. A later file overrides an earlier one, as in oslo.config.
#[must_use]
pub fn options_of(
    service: &Service,
    inventory: &Inventory,
    observation: &Observation,
    option: &str,
) -> BTreeMap<HostName, OptionSeen> {
    let kinds: BTreeSet<&DaemonKind> = service.daemons.iter().map(|daemon| &daemon.kind).collect();
    let roles: BTreeSet<&HostName> = inventory
        .roles
        .iter()
        .filter(|role| role.daemons.iter().any(|daemon| kinds.contains(&daemon.kind)))
        .map(|role| &role.name)
        .collect();
    let declared = inventory
        .services
        .get(&service.name)
        .map(|declaration| declaration.config_files.as_slice())
        .filter(|files| !files.is_empty())
        .unwrap_or(&service.config_files);
    inventory
        .hosts
        .iter()
        .filter(|host| host.roles.iter().any(|role| roles.contains(role)))
        .map(|host| (host.name.clone(), seen_on(&host.name, declared, observation, option)))
        .collect()
}

fn seen_on(host: &HostName, files: &[String], observation: &Observation, option: &str) -> OptionSeen {
    let unseen = |why: String| OptionSeen::Unseen { why };
    let Some(fact) = observation.hosts.get(host) else {
        return unseen(format!("{host} was not looked at"));
    };
    let Some(seen) = fact.value() else {
        return unseen(fact.why().unwrap_or("no reason was given").to_owned());
    };
    let read: Vec<_> = files.iter().filter_map(|file| seen.options.get(file)).collect();
    if read.is_empty() {
        return unseen(format!("none of {} was read on {host}", files.join(", ")));
    }
    read.iter()
        .rev()
        .find_map(|options| options.get(option))
        .map_or(OptionSeen::Unset, |value| OptionSeen::Set(value.clone()))
}

//! Daemons that share a link are switched together, whether the plan wants it or not.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::Severity;
use volutus_model::name::{DaemonKind, HostName};

use crate::draft::Draft;

/// Tells of kinds that sit on the same host behind the same link: once the first of them is
/// switched, a crash of another one brings it up in the new release before its turn, unproved.
pub(crate) fn check_links(draft: &mut Draft<'_>) {
    let inventory = &draft.input.inventory;
    let of_role: BTreeMap<&HostName, Vec<&DaemonKind>> = inventory
        .roles
        .iter()
        .map(|role| (&role.name, role.daemons.iter().map(|daemon| &daemon.kind).collect()))
        .collect();
    // Thousands of hosts have the same few sets of roles.
    let shapes: BTreeSet<&[HostName]> = inventory.hosts.iter().map(|host| host.roles.as_slice()).collect();
    let mut shared: BTreeMap<String, BTreeSet<&DaemonKind>> = BTreeMap::new();
    for roles in shapes {
        let mut links: BTreeMap<String, BTreeSet<&DaemonKind>> = BTreeMap::new();
        for kind in roles.iter().filter_map(|role| of_role.get(role)).flatten().copied() {
            if let Some((service, _)) = draft.catalog.daemon(kind) {
                let link = inventory.releases.current_of(&service.name, kind);
                links.entry(link).or_default().insert(kind);
            }
        }
        for (link, kinds) in links.into_iter().filter(|(_, kinds)| kinds.len() > 1) {
            shared.entry(link).or_default().extend(kinds);
        }
    }
    for (link, kinds) in shared {
        let kinds: Vec<String> = kinds.into_iter().map(ToString::to_string).collect();
        draft.find(
            Severity::Serious,
            "shared-link",
            &link,
            format!(
                "{} run through the same link on one host: when the first of them is switched, \
                 the others would come up in the new release after any restart, before their \
                 turn and unproved",
                kinds.join(", ")
            ),
            "Give each daemon a link of its own: [releases] current with {daemon} in it.",
        );
    }
}

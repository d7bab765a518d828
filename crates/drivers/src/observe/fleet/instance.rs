//! One instance: what nova tells of it, as the planner needs it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use volutus_model::fleet::{InstanceState, OWN_INSTANCES, Obstacle, OwnerChoice, Pin};
use volutus_openstack::compute::{FleetServer, ServerFlavor, ServerImage, TopologyNode};

/// What owners choose by, as a key of their metadata or, with `=`, as a tag.
const CHOICE: &str = "volutus:maintenance";

/// What plugs a function of a network card into an instance. Source: nova, `network/model.py`,
/// `VNIC_TYPES_SRIOV` and `VNIC_TYPES_ACCELERATOR`.
pub(crate) const SRIOV: [&str; 8] = [
    "direct",
    "macvtap",
    "direct-physical",
    "virtio-forwarder",
    "vdpa",
    "remote-managed",
    "accelerator-direct",
    "accelerator-direct-physical",
];

static NO_SPECS: BTreeMap<String, String> = BTreeMap::new();

fn specs(server: &FleetServer) -> &BTreeMap<String, String> {
    server.flavor.as_ref().and_then(|flavor| flavor.extra_specs.as_ref()).unwrap_or(&NO_SPECS)
}

/// A wish by the flavor (`hw:cpu_policy`), else by the image (`hw_cpu_policy`).
fn wish<'a>(server: &'a FleetServer, spec: &str, property: &str) -> Option<&'a str> {
    let by_image = || match &server.image {
        ServerImage::Image { properties } => properties.get(property).and_then(Value::as_str),
        ServerImage::Volume(_) => None,
    };
    specs(server).get(spec).map(String::as_str).or_else(by_image)
}

/// Whether it may be bound to NUMA cells, so that its topology is worth a question.
pub(crate) fn may_be_pinned(server: &FleetServer) -> bool {
    let dedicated = |policy: Option<&str>| matches!(policy, Some("dedicated" | "mixed"));
    server.host.is_some()
        && (dedicated(wish(server, "hw:cpu_policy", "hw_cpu_policy"))
            || wish(server, "hw:numa_nodes", "hw_numa_nodes").is_some()
            || wish(server, "hw:mem_page_size", "hw_mem_page_size").is_some()
            || specs(server).contains_key("resources:PCPU"))
}

/// Whether it will be gone before its host's turn comes: it is being deleted, or is one of Volutus's own,
/// which last seconds. In a cloud that is used there is always one such on some host.
pub(crate) fn passes(server: &FleetServer) -> bool {
    let deleted = server.vm_state.as_deref() == Some("deleted")
        || matches!(server.task_state.as_deref(), Some("deleting"));
    deleted || OWN_INSTANCES.iter().any(|prefix| server.name.starts_with(prefix))
}

/// What it is doing. Source of what nova can live-migrate: `nova/compute/api.py`, `live_migrate`
/// (`vm_state` active or paused).
pub(crate) fn state(server: &FleetServer) -> InstanceState {
    // A host is disabled and left to settle before its instances are moved: by then it runs.
    if server.vm_state.as_deref() == Some("building") {
        return InstanceState::Active;
    }
    if let Some(task) = &server.task_state {
        return InstanceState::Busy { what: task.clone() };
    }
    match server.vm_state.as_deref() {
        Some("active" | "paused") => InstanceState::Active,
        Some("stopped" | "suspended" | "shelved" | "soft-delete") => InstanceState::Off,
        Some("resized") => InstanceState::Busy { what: "a resize that is to be confirmed".to_owned() },
        Some("rescued") => InstanceState::Busy { what: "a rescue".to_owned() },
        Some("error") => InstanceState::Error,
        other => InstanceState::Busy { what: format!("something unknown ({})", other.unwrap_or("no state")) },
    }
}

/// What its owner chose; the words where they are none that Volutus knows.
pub(crate) fn choice(server: &FleetServer) -> Result<Option<OwnerChoice>, String> {
    let by_tag = || server.tags.iter().find_map(|tag| tag.strip_prefix(CHOICE)?.strip_prefix('='));
    match server.metadata.get(CHOICE).map(String::as_str).or_else(by_tag) {
        None => Ok(None),
        Some(text) => OwnerChoice::parse(text).map(Some).ok_or_else(|| text.to_owned()),
    }
}

/// What keeps it from a live migration, ports apart. Sources: nova, `doc/source/admin/`,
/// `pci-passthrough.rst`, `virtual-gpu.rst`, `emulated-tpm.rst`.
pub(crate) fn obstacles(server: &FleetServer, resources: &BTreeMap<String, u64>) -> BTreeSet<Obstacle> {
    let mut found = BTreeSet::new();
    // With its secret at the host or the deployment a virtual TPM moves along, from 2026.1 on.
    let secret = wish(server, "hw:tpm_secret_security", "hw_tpm_secret_security");
    if wish(server, "hw:tpm_version", "hw_tpm_version").is_some()
        && !matches!(secret, Some("host" | "deployment"))
    {
        found.insert(Obstacle::Vtpm);
    }
    if specs(server).contains_key("pci_passthrough:alias") {
        found.insert(Obstacle::Pci);
    }
    if resources.contains_key("VGPU") || specs(server).contains_key("resources:VGPU") {
        found.insert(Obstacle::Vgpu);
    }
    found
}

/// Whether it has virtual persistent memory, which its flavor names by labels (nova,
/// `doc/source/admin/virtual-persistent-memory.rst`).
pub(crate) fn has_persistent_memory(server: &FleetServer) -> bool {
    specs(server).contains_key("hw:pmem")
}

/// Bytes of its disks that nova keeps: the root disk where it is not a volume, and all others.
/// Volumes do not travel.
pub(crate) fn disk_bytes(server: &FleetServer) -> u64 {
    let Some(flavor) = &server.flavor else { return 0 };
    let root = if matches!(server.image, ServerImage::Volume(_)) { 0 } else { flavor.disk };
    ((root + flavor.ephemeral) << 30) + (flavor.swap << 20)
}

/// What its flavor asks of a host, where placement knows no allocation of it.
pub(crate) fn resources_by_flavor(flavor: &ServerFlavor) -> BTreeMap<String, u64> {
    let amounts =
        [("VCPU", flavor.vcpus), ("MEMORY_MB", flavor.ram), ("DISK_GB", flavor.disk + flavor.ephemeral)];
    amounts
        .into_iter()
        .filter(|(_, amount)| *amount > 0)
        .map(|(class, amount)| (class.to_owned(), amount))
        .collect()
}

/// Traits that its host must have, and must not have: `trait:NAME` and `traitGROUP:NAME` of flavor
/// and image.
pub(crate) fn traits(server: &FleetServer) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut wishes: Vec<(&str, &str)> = specs(server).iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    if let ServerImage::Image { properties } = &server.image {
        wishes.extend(properties.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))));
    }
    let (mut required, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for (key, value) in wishes {
        let Some((prefix, name)) = key.split_once(':') else { continue };
        if !prefix.starts_with("trait") {
            continue;
        }
        match value {
            "required" => required.insert(name.to_owned()),
            "forbidden" => forbidden.insert(name.to_owned()),
            _ => false,
        };
    }
    (required, forbidden)
}

/// Keys and values that an aggregate of its host must have (`aggregate_instance_extra_specs:KEY`).
pub(crate) fn aggregate_wishes(server: &FleetServer) -> impl Iterator<Item = (&str, &str)> {
    specs(server).iter().filter_map(|(key, value)| {
        Some((key.strip_prefix("aggregate_instance_extra_specs:")?, value.as_str()))
    })
}

/// Where it is pinned; nothing where its processors float and its memory is bound to no cell.
pub(crate) fn pins(nodes: &[TopologyNode]) -> Vec<Pin> {
    let pin = |node: &TopologyNode| {
        Some(Pin { cell: node.host_node?, pcpus: node.cpu_pinning.len() as u64, memory_mb: node.memory_mb })
    };
    nodes.iter().filter_map(pin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(rest: &str) -> FleetServer {
        let text = format!(r#"{{"id": "s", "OS-EXT-SRV-ATTR:host": "c1", {rest}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn flavor(specs: &str) -> FleetServer {
        server(&format!(
            r#""flavor": {{"vcpus": 2, "ram": 4096, "disk": 20, "ephemeral": 5, "swap": 512, "extra_specs": {{{specs}}}}}"#
        ))
    }

    #[test]
    fn what_will_be_gone_is_told_from_what_stays() {
        for (text, passing) in [
            (r#""OS-EXT-STS:vm_state": "active""#, false),
            (r#""OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": "deleting""#, true),
            (r#""OS-EXT-STS:vm_state": "deleted""#, true),
            // Its owner may still have it back.
            (r#""OS-EXT-STS:vm_state": "soft-delete""#, false),
            (r#""name": "volutus-probe-run-7-server-1""#, true),
            (r#""name": "volutus-canary-run-7-3""#, true),
        ] {
            assert_eq!(passes(&server(text)), passing, "{text}");
        }
    }

    #[test]
    fn what_runs_is_told_from_what_is_busy() {
        for (text, state_is) in [
            (r#""OS-EXT-STS:vm_state": "active""#, "Active"),
            (r#""OS-EXT-STS:vm_state": "paused""#, "Active"),
            (r#""OS-EXT-STS:vm_state": "stopped""#, "Off"),
            (r#""OS-EXT-STS:vm_state": "building", "OS-EXT-STS:task_state": "spawning""#, "Active"),
            (r#""OS-EXT-STS:vm_state": "error""#, "Error"),
            (r#""OS-EXT-STS:vm_state": "resized""#, "Busy"),
            (
                r#""OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": "image_snapshot""#,
                "image_snapshot",
            ),
            (r#""status": "UNKNOWN""#, "unknown"),
        ] {
            let seen = format!("{:?}", state(&server(text)));
            assert!(seen.contains(state_is), "{text}: {seen}");
        }
    }

    #[test]
    fn owners_choose_by_metadata_or_tag() {
        let chosen = |text: &str| choice(&server(text));
        assert_eq!(chosen(r#""metadata": {"volutus:maintenance": "cold"}"#), Ok(Some(OwnerChoice::Cold)));
        assert_eq!(chosen(r#""tags": ["a", "volutus:maintenance=never"]"#), Ok(Some(OwnerChoice::Never)));
        assert_eq!(
            chosen(r#""tags": ["volutus:maintenance=never"], "metadata": {"volutus:maintenance": "live"}"#),
            Ok(Some(OwnerChoice::Live))
        );
        assert_eq!(chosen(r#""tags": ["volutus:maintenance=nevr"]"#), Err("nevr".to_owned()));
        assert_eq!(chosen(r#""tags": ["volutus:maintenance"]"#), Ok(None));
    }

    #[test]
    fn obstacles_are_seen_in_flavor_image_and_allocation() {
        let none = BTreeMap::new();
        assert_eq!(obstacles(&flavor(""), &none), BTreeSet::new());
        assert_eq!(obstacles(&flavor(r#""hw:tpm_version": "2.0""#), &none), [Obstacle::Vtpm].into());
        let host = r#""hw:tpm_version": "2.0", "hw:tpm_secret_security": "host""#;
        assert_eq!(obstacles(&flavor(host), &none), BTreeSet::new());
        let image = server(r#""image": {"id": "i", "properties": {"hw_tpm_version": "1.2"}}"#);
        assert_eq!(obstacles(&image, &none), [Obstacle::Vtpm].into());
        assert_eq!(obstacles(&flavor(r#""pci_passthrough:alias": "gpu:1""#), &none), [Obstacle::Pci].into());
        let vgpu = BTreeMap::from([("VGPU".to_owned(), 1)]);
        assert_eq!(obstacles(&flavor(""), &vgpu), [Obstacle::Vgpu].into());
    }

    #[test]
    fn disks_travel_unless_they_are_volumes() {
        assert_eq!(disk_bytes(&flavor("")), (5 << 30) + (512 << 20));
        let mut with_image = flavor("");
        with_image.image = ServerImage::Image { properties: BTreeMap::new() };
        assert_eq!(disk_bytes(&with_image), (25 << 30) + (512 << 20));
    }

    #[test]
    fn traits_come_from_flavor_and_image() {
        let mut server =
            flavor(r#""trait:HW_A": "required", "trait1:HW_B": "forbidden", "hw:x": "required""#);
        let properties = BTreeMap::from([("trait:HW_C".to_owned(), Value::from("required"))]);
        server.image = ServerImage::Image { properties };
        let (required, forbidden) = traits(&server);
        assert_eq!(required.iter().map(String::as_str).collect::<Vec<_>>(), ["HW_A", "HW_C"]);
        assert_eq!(forbidden.iter().map(String::as_str).collect::<Vec<_>>(), ["HW_B"]);
    }

    #[test]
    fn pinned_instances_are_asked_for_their_cells() {
        for (specs, asked) in [
            ("", false),
            (r#""hw:cpu_policy": "shared""#, false),
            (r#""hw:cpu_policy": "dedicated""#, true),
            (r#""hw:numa_nodes": "2""#, true),
            (r#""hw:mem_page_size": "large""#, true),
        ] {
            assert_eq!(may_be_pinned(&flavor(specs)), asked, "{specs}");
        }
        let nodes: Vec<TopologyNode> = serde_json::from_str(
            r#"[{"host_node": 1, "memory_mb": 1024, "cpu_pinning": {"0": 4, "1": 5}, "vcpu_set": [0, 1]}]"#,
        )
        .unwrap();
        assert_eq!(pins(&nodes), [Pin { cell: 1, pcpus: 2, memory_mb: 1024 }]);
    }
}

//! Answers as the APIs give them, and the fleet that is made of them.

use serde_json::{Value, json};

use super::*;
use volutus_model::fleet::MigrationSettings;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn inventory() -> Inventory {
    Inventory::parse(
        r#"
        format = 1
        name = "lab"
        credentials = { operator = "o", prober = "p" }
        ssh = { user = "root" }
        releases = { method = "venv", path = "/r/{series}", current = "/c/{daemon}", stage = ["true"] }
        prober = { image = "i", flavor = "f", network = "n" }
        role = [{ name = "compute", daemons = [] }]
        host = [{ name = "c1", address = "198.18.0.1", roles = ["compute"] }, { name = "c2", address = "198.18.0.2", roles = ["compute"] }]
        "#,
    )
    .unwrap()
}

fn server(id: &str, host: Value, more: Value) -> Value {
    let mut server = json!({
        "id": id, "name": format!("vm-{id}"), "status": "ACTIVE", "tenant_id": "p1",
        "OS-EXT-SRV-ATTR:host": host, "OS-EXT-STS:task_state": null, "OS-EXT-STS:vm_state": "active",
        "flavor": {"original_name": "m1", "vcpus": 2, "ram": 2048, "disk": 10, "ephemeral": 0, "swap": 0, "extra_specs": {}},
        "image": "", "metadata": {}, "tags": [], "pinned_availability_zone": null
    });
    for (key, value) in more.as_object().unwrap() {
        server[key] = value.clone();
    }
    server
}

fn placed(allocations: Value) -> Placed {
    Placed {
        inventories: vec![
            read(json!({
                "MEMORY_MB": {"total": 8192, "reserved": 512, "allocation_ratio": 1.0, "min_unit": 1, "max_unit": 8192, "step_size": 1},
                "VCPU": {"total": 4, "reserved": 0, "allocation_ratio": 4.0, "min_unit": 1, "max_unit": 4, "step_size": 1}
            })),
            read(json!({"VGPU": {"total": 2, "allocation_ratio": 1.0, "max_unit": 1}})),
            read(json!({"VGPU": {"total": 2, "allocation_ratio": 1.0, "max_unit": 1}})),
        ],
        traits: ["HW_CPU_X86_AVX2".to_owned()].into(),
        allocations: read(allocations),
    }
}

/// Two described hosts, one of them disabled by a person, and one that is not described.
fn answers(servers: Vec<Value>, allocations: Value) -> Answers {
    let service = |host: &str, status: &str, reason: Value| json!({"id": host, "binary": "nova-compute", "host": host, "zone": "az1", "status": status, "state": "up", "disabled_reason": reason});
    let hypervisor = |host: &str| json!({"id": format!("rp-{host}"), "hypervisor_hostname": host, "hypervisor_type": "QEMU", "hypervisor_version": 8002004, "service": {"host": host}});
    Answers {
        services: read(json!([
            service("c1", "enabled", Value::Null),
            service("c2", "disabled", json!("memory errors")),
            service("c3", "disabled", json!("volutus:run1")),
        ])),
        hypervisors: read(json!([hypervisor("c1"), hypervisor("c2"), hypervisor("c3")])),
        aggregates: read(json!([
            {"name": "fast", "hosts": ["c1"], "metadata": {"ssd": "true"}},
            {"name": "private", "hosts": ["c2"], "metadata": {"filter_tenant_id": "p2, p3"}},
        ])),
        groups: read(json!([
            {"id": "g1", "name": "quorum", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}, "members": ["a"]},
            {"id": "g2", "name": "unused", "policy": "affinity", "rules": {}, "members": []},
        ])),
        servers: servers.into_iter().map(read).collect(),
        placed: [
            ("rp-c1".to_owned(), placed(allocations)),
            ("rp-c2".to_owned(), placed(json!({}))),
            ("rp-c3".to_owned(), placed(json!({}))),
        ]
        .into(),
        ports: Ok(read(
            json!([{"id": "p", "device_id": "b", "binding:vnic_type": "direct"}, {"id": "q", "device_id": "a", "binding:vnic_type": "normal"}]),
        )),
        duties: Ok(BTreeMap::new()),
        topologies: BTreeMap::new(),
        settings: [
            ("c1".parse().unwrap(), Ok(MigrationSettings::default())),
            ("c2".parse().unwrap(), Err("no answer".to_owned())),
        ]
        .into(),
    }
}

fn codes(fleet: &Fleet) -> Vec<&str> {
    fleet.unseen.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn hosts_have_what_placement_gives_and_who_disabled_them() {
    let fleet = fleet(&inventory(), &answers(vec![], json!({"migration": {"VCPU": 1, "MEMORY_MB": 512}})));
    fleet.check().unwrap();
    let [c1, c2, c3] = fleet.hosts.as_slice() else { panic!("{:?}", fleet.hosts) };
    assert_eq!(c1.inventories["MEMORY_MB"].usable(), 7680);
    assert_eq!(c1.inventories["VCPU"].usable(), 16);
    assert_eq!((c1.inventories["VGPU"].usable(), c1.inventories["VGPU"].max_unit), (4, Some(1)));
    assert_eq!(c1.held["MEMORY_MB"], 512);
    assert_eq!(
        (c1.zone.as_deref(), &c1.roles, c1.part),
        (Some("az1"), &BTreeSet::from(["compute".to_owned()]), Part::Reboot)
    );
    assert_eq!(c1.aggregates, ["fast".to_owned()].into());
    assert_eq!(c1.hypervisor.as_ref().unwrap().version, 8_002_004);
    assert_eq!(c2.availability, Availability::Disabled { reason: "memory errors".to_owned() });
    assert_eq!(c3.part, Part::Exempt);
    let settings = [c1, c2, c3].map(|host| host.migrations);
    assert_eq!(settings, [Some(MigrationSettings::default()), None, None]);
    let unread = fleet.unseen.iter().find(|finding| finding.code == "migration-settings-unseen").unwrap();
    assert_eq!(unread.subject, "c2 (no answer)", "of a host that is not described, it is known why");
    assert_eq!(
        codes(&fleet),
        ["allocation-of-others", "disabled-by-volutus", "host-not-described", "migration-settings-unseen"]
    );
}

#[test]
fn instances_have_their_allocations_groups_ports_and_aggregates() {
    let servers = vec![
        server(
            "a",
            json!("c1"),
            json!({"flavor": {"extra_specs": {"aggregate_instance_extra_specs:ssd": "true"}}}),
        ),
        server("b", json!("c1"), json!({"tenant_id": "p3", "tags": ["volutus:maintenance=soon"]})),
        server(
            "off",
            json!("c2"),
            json!({"OS-EXT-STS:vm_state": "stopped", "flavor": {"vcpus": 2, "ram": 2048, "disk": 10}}),
        ),
        server("shelved", Value::Null, json!({"OS-EXT-STS:vm_state": "shelved_offloaded"})),
    ];
    let allocations = json!({"a": {"VCPU": 2, "MEMORY_MB": 2048}, "b": {"VCPU": 1, "MEMORY_MB": 1024}});
    let fleet = fleet(&inventory(), &answers(servers, allocations));
    fleet.check().unwrap();
    let [a, b, off] = fleet.instances.as_slice() else { panic!("{:?}", fleet.instances) };
    assert_eq!((a.memory_mb(), a.group.as_deref()), (2048, Some("g1")));
    assert_eq!(a.aggregates_required, [BTreeSet::from(["fast".to_owned()])]);
    assert_eq!(a.aggregates_forbidden, ["private".to_owned()].into(), "that is for other projects");
    assert_eq!(a.obstacles, BTreeSet::new());
    assert_eq!(b.obstacles, [Obstacle::Sriov].into());
    assert_eq!(b.choice, Some(OwnerChoice::Never), "what is not understood is not touched");
    assert_eq!(b.aggregates_required, [BTreeSet::from(["private".to_owned()])]);
    // Placement knows nothing of it, so its flavor counts.
    assert_eq!((off.memory_mb(), off.local_disk_bytes), (2048, 0));
    assert_eq!(fleet.groups.len(), 1);
    assert_eq!(fleet.groups[0].policy, GroupPolicy::AntiAffinity { per_host_max: 2 });
    assert_eq!(fleet.hosts[0].held, BTreeMap::new(), "what instances hold is not counted twice");
    for code in ["allocation-missing", "choice-not-understood", "extra-specs-unseen"] {
        assert!(codes(&fleet).contains(&code), "{code}: {:?}", codes(&fleet));
    }
}

#[test]
fn what_is_not_seen_is_told() {
    let unknown = json!({"id": "u", "status": "UNKNOWN", "tenant_id": "p1"});
    let mut answers = answers(vec![unknown, server("x", json!("gone"), json!({}))], json!({}));
    answers.ports = Err("no answer".to_owned());
    answers.placed.remove("rp-c1");
    answers.services[1].state = "down".to_owned();
    let fleet = fleet(&inventory(), &answers);
    assert_eq!(fleet.hosts[0].part, Part::Untouched);
    assert_eq!(fleet.hosts[1].availability, Availability::Down);
    assert!(fleet.instances.is_empty());
    for code in ["instance-unknown", "instance-on-unknown-host", "ports-unseen", "no-provider"] {
        assert!(codes(&fleet).contains(&code), "{code}: {:?}", codes(&fleet));
    }
}

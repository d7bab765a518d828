//! Clouds for tests: a shape, changed as a case asks.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use volutus_catalog::Catalog;
use volutus_model::fleet::limits::Amount;
use volutus_model::fleet::{Fleet, FleetHost, Instance, RebootPlan, RebootPolicy, Selection};
use volutus_model::observation::{ANCHOR_HOST, ServiceRecord};
use volutus_model::{DaemonId, Fact, Inventory, Observation, PackageVersion, Plan, Policy, RunState, Series};
use volutus_planner::described::{Shape, describe, observe};
use volutus_planner::{PlanningInput, RollbackInput};

pub fn catalog() -> Catalog {
    Catalog::builtin().unwrap()
}

pub fn series(text: &str) -> Series {
    text.parse().unwrap()
}

pub fn shape(controllers: usize, computes: usize, from: &str) -> Shape {
    Shape::new(controllers, computes, series(from), &catalog()).unwrap()
}

pub fn input_of(inventory: Inventory, observation: Observation, to: &str) -> PlanningInput {
    PlanningInput {
        inventory,
        observation,
        target: series(to),
        versions: None,
        lock: None,
        policy: Policy::default(),
        now: "2026-11-24T01:02:03Z".parse().unwrap(),
        parent: None,
        drains: None,
    }
}

pub fn input(controllers: usize, computes: usize, from: &str, to: &str) -> PlanningInput {
    let shape = shape(controllers, computes, from);
    let inventory = describe(&shape);
    let observation = observe(&inventory, &shape);
    input_of(inventory, observation, to)
}

/// Makes a daemon run the latest version of a series.
pub fn set_running(observation: &mut Observation, daemon: &str, to: &str) {
    let catalog = catalog();
    let id = daemon.parse().unwrap();
    let service = daemon.split('-').next().unwrap();
    let version: PackageVersion = catalog.series[&series(to)].versions[service].clone();
    let Some(Fact::Observed { value, .. }) = observation.daemons.get_mut(&id) else {
        panic!("{daemon} is not in the observation");
    };
    value.version = Fact::observed(version, "test");
}

/// Sets an option in the nova.conf of a host.
pub fn set_option(observation: &mut Observation, host: &str, option: &str, value: &str) {
    let Some(Fact::Observed { value: seen, .. }) = observation.hosts.get_mut(host) else {
        panic!("{host} is not in the observation");
    };
    let options = seen.options.get_mut("/etc/nova/nova.conf").unwrap();
    options.insert(option.to_owned(), value.to_owned());
}

/// What would be seen after these daemons were replaced in a run of `made`: they run the new
/// release, the old one is still beside it, and nova's anchor is kept.
pub fn replaced(input: &PlanningInput, made: &Plan, which: impl Fn(&str) -> bool) -> Observation {
    let mut seen = input.observation.clone();
    for fact in seen.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact {
            value.staged.insert(made.to, made.versions.clone());
        }
    }
    let catalog = catalog();
    let nova = &catalog.services["nova"];
    let (old, new) = (nova.record_versions[&made.from], nova.record_versions[&made.to]);
    let ids: Vec<String> = seen.daemons.keys().map(ToString::to_string).collect();
    for id in ids.iter().filter(|id| which(id)) {
        set_running(&mut seen, id, &made.to.to_string());
        let path = format!("/opt/openstack/{}", made.to);
        if let Some(Fact::Observed { value, .. }) = seen.daemons.get_mut(&id.parse::<DaemonId>().unwrap()) {
            value.link = Fact::observed(path.clone(), "test");
            value.release_path = Fact::observed(path, "test");
        }
        if let Some(Fact::Observed { value, .. }) = seen.records.get_mut("nova") {
            let (kind, host) = id.split_once('@').unwrap();
            let binary = if kind == "nova-api" { "nova-osapi_compute" } else { kind };
            for record in value.iter_mut().filter(|r| r.binary == binary && r.host == host) {
                record.version = new.to_string();
            }
        }
    }
    if let Some(Fact::Observed { value, .. }) = seen.records.get_mut("nova") {
        for binary in &nova.anchor.as_ref().unwrap().binaries {
            value.push(ServiceRecord {
                binary: binary.clone(),
                host: ANCHOR_HOST.to_owned(),
                version: old.to_string(),
                report_count: 0,
                age_s: None,
                disabled: Some("volutus".to_owned()),
                forced_down: false,
            });
        }
    }
    seen
}

/// What the way back of a run of `made` is planned from.
pub fn back_input(input: &PlanningInput, made: &Plan, observation: Observation) -> RollbackInput {
    RollbackInput {
        inventory: input.inventory.clone(),
        observation,
        of: made.clone(),
        run: "20261124-0103-abcdef".parse().unwrap(),
        state: RunState::new(made.id.clone()),
        policy: input.policy.clone(),
        now: "2026-11-24T02:03:04Z".parse().unwrap(),
    }
}

/// What is said here, and nothing besides.
pub fn described<T: serde::de::DeserializeOwned>(what: serde_json::Value) -> T {
    serde_json::from_value(what).unwrap()
}

fn host(name: &str) -> FleetHost {
    let record = |total| serde_json::json!({"total": total, "allocation_ratio": 1.0});
    described(serde_json::json!({
        "name": name, "zone": "az1", "inventories": {"VCPU": record(8), "MEMORY_MB": record(16_384)},
    }))
}

fn instance(id: &str, on: &str) -> Instance {
    described(serde_json::json!({"id": id, "host": on, "resources": {"VCPU": 2, "MEMORY_MB": 4_096}}))
}

/// Four computes, the last of them empty.
pub fn fleet() -> Fleet {
    Fleet {
        hosts: (1..=4).map(|number| host(&format!("cmp{number}"))).collect(),
        instances: (1..=3)
            .flat_map(|on| (1..=3).map(move |n| instance(&format!("i{on}{n}"), &format!("cmp{on}"))))
            .collect(),
        ..Fleet::default()
    }
}

/// The policy of a reboot of so many hosts at once, without canaries of its own.
pub fn reboot_policy(at_once: u32) -> RebootPolicy {
    let mut policy = RebootPolicy::default();
    policy.hosts.at_once = Amount::Count(at_once);
    policy.hosts.canaries.clear();
    policy
}

/// The reboot of the hosts of a fleet that are meant, as a part of the upgrade that is planned; with the release
/// that each host was seen to run.
pub fn part_of(
    input: &PlanningInput,
    fleet: &mut Fleet,
    policy: &RebootPolicy,
    selection: &Selection,
) -> RebootPlan {
    let catalog = catalog();
    let nova = "nova".parse().unwrap();
    for host in &mut fleet.hosts {
        let id: DaemonId = format!("nova-compute@{}", host.name).parse().unwrap();
        let runs = input.observation.running_version(&id);
        host.release = runs.and_then(|version| catalog.series_of(&nova, version));
    }
    let made = volutus_fleet::plan(fleet, policy, selection, &input.inventory.name, input.now).unwrap();
    assert_eq!(volutus_plancheck::check_reboot(&made, fleet, policy), []);
    let mut content = made.content;
    content.upgrade = Some(input.target);
    RebootPlan::new(content)
}

//! What the tests of this crate share.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use volutus_fleet::{Error, plan};
use volutus_model::Finding;
use volutus_model::fleet::{
    Fleet, FleetHost, Instance, InventoryRecord, RebootPlan, RebootPolicy, Selection,
};

/// A plan; `None` where there is nothing to reboot.
pub fn make(fleet: &Fleet, policy: &RebootPolicy) -> Option<RebootPlan> {
    match plan(
        fleet,
        policy,
        &Selection::default(),
        &"cloud".parse().unwrap(),
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ) {
        Ok(plan) => Some(plan),
        Err(Error::NothingToDo { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What the checker says.
pub fn check(plan: &RebootPlan, fleet: &Fleet, policy: &RebootPolicy) -> Vec<Finding> {
    volutus_plancheck::check_reboot(plan, fleet, policy)
}

/// A host of zone `b` with so many GiB for instances.
pub fn host(name: &str, gib: u64) -> FleetHost {
    FleetHost {
        name: name.parse().unwrap(),
        zone: Some("b".to_owned()),
        rack: None,
        aggregates: Default::default(),
        roles: Default::default(),
        traits: Default::default(),
        hypervisor: None,
        release: None,
        inventories: BTreeMap::from([(
            "MEMORY_MB".to_owned(),
            InventoryRecord { total: gib * 1024, reserved: 0, allocation_ratio: 1.0, max_unit: None },
        )]),
        held: BTreeMap::new(),
        cells: Vec::new(),
        migrations: None,
        availability: Default::default(),
        part: Default::default(),
    }
}

/// An instance of so many GiB.
pub fn instance(id: &str, host: &str, gib: u64) -> Instance {
    Instance {
        id: id.to_owned(),
        name: String::new(),
        project: String::new(),
        host: host.parse().unwrap(),
        resources: BTreeMap::from([("MEMORY_MB".to_owned(), gib * 1024)]),
        state: Default::default(),
        zone: None,
        traits_required: Default::default(),
        traits_forbidden: Default::default(),
        aggregates_required: Vec::new(),
        aggregates_forbidden: Default::default(),
        group: None,
        local_disk_bytes: 0,
        obstacles: Default::default(),
        pins: Vec::new(),
        choice: None,
        stopped: false,
        later: false,
    }
}

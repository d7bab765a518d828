//! The way back of a simulated run: the cloud is observed, the real planner makes the plan, and it
//! is carried out in the same cloud.

use std::collections::BTreeMap;
use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_engine::Machine;
use volutus_model::name::{PackageVersion, Series, ServiceName};
use volutus_model::observation::{ANCHOR_HOST, ServiceRecord};
use volutus_model::plan::Plan;
use volutus_model::run::RunState;
use volutus_model::{Fact, Observation, RunId, Severity};
use volutus_planner::RollbackInput;

use crate::Error;
use crate::prepared::Prepared;
use crate::simulation::Simulation;
use crate::topology::Code;
use crate::world::{By, World};

/// What came of planning a way back.
pub(crate) enum WayBack {
    /// It can be gone.
    Open(Box<Prepared>),
    /// Nothing was replaced.
    Nothing,
    /// It cannot be planned now, for this reason.
    Refused(String),
}

const HOW: &str = "simulated";

/// Versions of one release, by service.
type Versions = BTreeMap<ServiceName, PackageVersion>;

fn versions(catalog: &Catalog, plan: &Plan, code: Code) -> Versions {
    let newer = plan.from.max(plan.to);
    if code == Code::New && plan.to == newer {
        return plan.versions.clone();
    }
    let series = if code == Code::New { newer } else { plan.from.min(plan.to) };
    catalog.series.get(&series).map(|facts| facts.versions.clone()).unwrap_or_default()
}

fn series(plan: &Plan, code: Code) -> Series {
    match code {
        Code::New => plan.from.max(plan.to),
        Code::Old => plan.from.min(plan.to),
    }
}

/// What the observer would see of the cloud now.
fn observe(world: &World, prepared: &Prepared, catalog: &Catalog, now: u64) -> Observation {
    let plan = &prepared.intended;
    let mut seen = (*prepared.observation).clone();
    let both = [versions(catalog, plan, Code::Old), versions(catalog, plan, Code::New)];
    for (at, (id, _, declaration)) in prepared.inventory.daemons().enumerate() {
        let Some((service, _)) = catalog.daemon(&declaration.kind) else { continue };
        let it = &world.daemons[at];
        let host = &world.hosts[world.topology.daemons[at].host];
        let fact = seen.daemons.entry(id.clone());
        if host.down || host.unreachable {
            fact.and_modify(|fact| *fact = Fact::unobserved("the host does not answer"));
            continue;
        }
        let path = |code| prepared.inventory.releases.path_of(series(plan, code), &service.name);
        let version = both[it.code as usize].get(&service.name).cloned();
        fact.and_modify(|fact| {
            let Fact::Observed { value, .. } = fact else { return };
            value.link = Fact::observed(path(it.link), HOW);
            value.active_state = if it.up { "active".to_owned() } else { "failed".to_owned() };
            match version {
                Some(version) if it.up => {
                    value.version = Fact::observed(version, HOW);
                    value.release_path = Fact::observed(path(it.code), HOW);
                }
                _ => {
                    value.version = Fact::unobserved("no process runs");
                    value.release_path = Fact::unobserved("no process runs");
                }
            }
        });
    }
    for (at, host) in prepared.inventory.hosts.iter().enumerate() {
        if let Some(Fact::Observed { value, .. }) = seen.hosts.get_mut(&host.name) {
            for code in [Code::Old, Code::New] {
                if world.hosts[at].staged[code as usize] {
                    value.staged.insert(series(plan, code), both[code as usize].clone());
                }
            }
        }
    }
    observe_backends(world, &mut seen, now);
    observe_records(world, prepared, catalog, &mut seen);
    seen
}

fn observe_backends(world: &World, seen: &mut Observation, now: u64) {
    for (name, fact) in &mut seen.backends {
        let (Some(backend), Fact::Observed { value, .. }) = (world.topology.backend(name), fact) else {
            continue;
        };
        for (seat, (daemon, server)) in world.topology.backends[backend].servers.iter().enumerate() {
            let status = match world.seats[backend][seat] {
                Some(By::Person) => "MAINT",
                Some(By::Volutus) => "DRAIN",
                None if world.checks_up(*daemon, now) => "UP",
                None => "DOWN",
            };
            for row in value.iter_mut().filter(|row| row.name == *server) {
                row.status = status.to_owned();
            }
        }
    }
}

fn observe_records(world: &World, prepared: &Prepared, catalog: &Catalog, seen: &mut Observation) {
    let plan = &prepared.intended;
    for (at, facts) in world.topology.services.iter().enumerate() {
        let Some(service) = catalog.services.values().find(|service| service.name.as_str() == facts.name)
        else {
            continue;
        };
        let Some(Fact::Observed { value: records, .. }) = seen.records.get_mut(&service.name) else {
            continue;
        };
        let version = |code| service.record_versions.get(&series(plan, code)).map(ToString::to_string);
        for daemon in &facts.daemons {
            let name = &world.topology.daemons[*daemon].name;
            let Some((kind, host)) = name.split_once('@') else { continue };
            let Some(known) = service.daemons.iter().find(|known| known.kind.as_str() == kind) else {
                continue;
            };
            let binary = known.record.as_ref().map_or(kind, |record| record.binary.as_str());
            let it = &world.daemons[*daemon];
            for record in records.iter_mut().filter(|r| r.binary == binary && r.host == host) {
                if let Some(version) = version(it.record)
                    && known.record.as_ref().is_some_and(|record| record.versioned)
                {
                    record.version = version;
                }
                record.disabled = match it.disabled {
                    Some(By::Person) => Some("a person's".to_owned()),
                    Some(By::Volutus) => Some("volutus:sim".to_owned()),
                    None => None,
                };
            }
        }
        let Some(anchor) = service.anchor.as_ref().filter(|_| world.anchors[at]) else { continue };
        for binary in &anchor.binaries {
            records.push(ServiceRecord {
                binary: binary.clone(),
                host: ANCHOR_HOST.to_owned(),
                version: version(Code::Old).unwrap_or_default(),
                report_count: 0,
                age_s: None,
                disabled: Some("volutus".to_owned()),
                forced_down: false,
            });
        }
    }
}

/// Plans the way back of a run that was given up.
fn plan_way_back(
    world: &World,
    prepared: &Prepared,
    catalog: &Catalog,
    state: RunState,
    now: u64,
) -> Result<WayBack, Error> {
    let observation = observe(world, prepared, catalog, now);
    let input = RollbackInput {
        inventory: (*prepared.inventory).clone(),
        observation,
        of: (*prepared.intended).clone(),
        run: RunId::new("sim").map_err(|error| Error::Unfit(error.to_string()))?,
        state,
        policy: prepared.intended.policy.clone(),
        now: prepared.intended.created_at,
    };
    let plan = match volutus_planner::plan_rollback(&input, catalog) {
        Ok((plan, _)) => plan,
        Err(volutus_planner::Error::NothingToTakeBack { .. }) => return Ok(WayBack::Nothing),
        Err(error) => return Ok(WayBack::Refused(error.to_string())),
    };
    let findings =
        volutus_plancheck::check_plan(&plan, &input.inventory, &input.observation, catalog, &input.policy);
    if let Some(finding) = findings.into_iter().find(|finding| finding.severity == Severity::Blocking) {
        return Ok(WayBack::Refused(format!(
            "{}: {}: {}",
            finding.code, finding.subject, finding.explanation
        )));
    }
    let mut back = Prepared::new(plan, &input.inventory, &input.observation, catalog)?;
    // Numbers of hosts, daemons and backends are those of the first plan: the description is the same.
    back.topology = Arc::clone(&prepared.topology);
    Ok(WayBack::Open(Box::new(back)))
}

/// Plans the way back of the run that a simulation has carried out.
pub(crate) fn way_back_of(simulation: &mut Simulation<'_>, catalog: &Catalog) -> Result<WayBack, Error> {
    let index = Arc::clone(&simulation.prepared.index);
    let state = match Machine::load(simulation.run.clone(), index, &simulation.store.journal) {
        Ok(machine) => machine.into_state(),
        Err(error) => {
            simulation.monitor.violate(simulation.now, "journal-illegal", error.to_string());
            return Ok(WayBack::Refused(error.to_string()));
        }
    };
    plan_way_back(&simulation.world, &simulation.prepared, catalog, state, simulation.now)
}

//! The simulated cloud: what its hosts, daemons, load balancer, schemas and records are like now.
//! It says what is true; what Volutus may see of it is the driver's business.

use std::collections::HashMap;
use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_model::name::AttemptId;
use volutus_model::outcome::Outcome;
use volutus_model::{Inventory, Observation, Plan};

use crate::topology::{Code, Op, Topology};

/// How long a load balancer goes on sending requests to a server that died: three failed checks
/// at HAProxy's default interval of 2 s.
pub(crate) const FALL_MS: u64 = 6_000;

/// Who took something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Volutus,
    Person,
}

/// What is wrong with a process that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It runs, and serves nothing.
    NeverServes,
    /// It passes the load balancer's check and fails real requests.
    Lies,
    /// The link leads to the new code, and the process has loaded the other one.
    OtherCode,
    /// It serves, and its reports do not advance.
    Silent,
}

/// A daemon.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    /// What a start would run.
    pub link: Code,
    pub up: bool,
    /// What the process has loaded, or had.
    pub code: Code,
    pub serves_at: u64,
    pub reports_at: u64,
    pub down_since: u64,
    pub trouble: Option<Trouble>,
    /// Grows with every start and end of its process.
    pub incarnation: u32,
    /// Since the last proof Volutus has stopped or replaced the process.
    pub needs_proof: bool,
    /// What keeps it from serving, or last did, is a fault and not Volutus.
    pub by_fault: bool,
    /// A fault has put other code under it.
    pub reverted: bool,
    /// The version of the code that wrote its record last.
    pub record: Code,
    pub disabled: Option<By>,
    /// Instances that are being built there.
    pub builds: u32,
    /// The remote work that holds it.
    pub work: Option<usize>,
    /// It was refreshed since it runs the new code.
    pub refreshed: bool,
    /// An abort has given it back although it was not proved.
    pub given_back: bool,
    /// Something in it was changed by a fault or a person at this time.
    pub disturbed_at: Option<u64>,
}

/// A host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// It does not answer Volutus; what runs there goes on.
    pub unreachable: bool,
    /// It is off.
    pub down: bool,
    pub staged: [bool; 2],
}

/// A service's schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    /// One bit per command.
    pub expanded: u64,
    pub converted: u64,
    pub contracted: u64,
    /// The remote work that holds it.
    pub work: Option<usize>,
}

/// Work on a host that outlives the connection that began it.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub attempt: AttemptId,
    pub op: Op,
    pub host: usize,
    pub phase: u8,
    pub end: WorkEnd,
    /// When it can be expected to have ended.
    pub expected_at: u64,
    pub nominal_ms: u64,
}

/// How far a work is.
#[derive(Debug, Clone)]
pub(crate) enum WorkEnd {
    Running,
    Ended(Outcome),
    /// Its host was rebooted.
    Lost,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub topology: Arc<Topology>,
    pub daemons: Vec<Daemon>,
    pub hosts: Vec<Host>,
    /// Per backend and server: who took it out.
    pub seats: Vec<Vec<Option<By>>>,
    pub schemas: Vec<Schema>,
    /// Per service: whether records at the old version are kept.
    pub anchors: Vec<bool>,
    pub works: Vec<Work>,
    pub work_of: HashMap<AttemptId, usize>,
    pub canaries: HashMap<AttemptId, usize>,
    /// Per daemon: whether a shadow of it runs, which users are not sent to.
    pub shadows: Vec<bool>,
    /// An instance was booted on a compute with new code.
    pub canary_proved: bool,
    /// What serves has changed since it was looked at last.
    pub touched: bool,
}

impl World {
    /// The cloud as it was observed, in the terms of a plan. What was not seen is taken to be as
    /// the plan found it.
    pub fn new(
        topology: Arc<Topology>,
        inventory: &Inventory,
        observation: &Observation,
        catalog: &Catalog,
        plan: &Plan,
    ) -> Self {
        let newer = plan.from.max(plan.to);
        let mut daemons = Vec::with_capacity(topology.daemons.len());
        for (id, _, declaration) in inventory.daemons() {
            let service = catalog.daemon(&declaration.kind).map(|(service, _)| service);
            let series = service
                .and_then(|service| catalog.series_of(&service.name, observation.running_version(&id)?));
            let code = if series == Some(newer) { Code::New } else { Code::Old };
            let seen = observation.daemons.get(&id).and_then(|fact| fact.value());
            let up = seen.is_none_or(|seen| seen.active_state == "active");
            daemons.push(Daemon::running(code, up));
        }
        let mut world = Self {
            shadows: vec![false; daemons.len()],
            daemons,
            hosts: vec![Host { staged: [true, false], ..Host::default() }; topology.hosts.len()],
            seats: topology.backends.iter().map(|backend| vec![None; backend.servers.len()]).collect(),
            schemas: vec![Schema::default(); topology.services.len()],
            anchors: vec![false; topology.services.len()],
            works: Vec::new(),
            work_of: HashMap::new(),
            canaries: HashMap::new(),
            canary_proved: false,
            touched: true,
            topology,
        };
        world.take_over(observation);
        world
    }

    /// What people have drained and disabled.
    fn take_over(&mut self, observation: &Observation) {
        let topology = Arc::clone(&self.topology);
        for (name, servers) in &observation.backends {
            let (Some(backend), Some(servers)) = (topology.backend(name), servers.value()) else { continue };
            for (seat, (_, server)) in topology.backends[backend].servers.iter().enumerate() {
                let seen = servers.iter().find(|seen| seen.name == *server);
                if seen
                    .is_some_and(|seen| seen.status.starts_with("MAINT") || seen.status.starts_with("DRAIN"))
                {
                    self.seats[backend][seat] = Some(By::Person);
                }
            }
        }
        for record in observation.records.values().filter_map(|fact| fact.value()).flatten() {
            let compute = topology.computes.iter().copied().find(|compute| {
                record.binary == "nova-compute"
                    && topology.hosts[topology.daemons[*compute].host] == record.host
            });
            if let (Some(compute), Some(_)) = (compute, &record.disabled) {
                self.daemons[compute].disabled = Some(By::Person);
            }
        }
    }

    /// Whether it answers a real request as it should.
    pub fn serves(&self, daemon: usize, now: u64) -> bool {
        let it = &self.daemons[daemon];
        self.checks_up(daemon, now)
            && !matches!(it.trouble, Some(Trouble::Lies))
            && !(it.code == Code::Old && self.schemas[self.topology.daemons[daemon].service].contracted != 0)
    }

    /// Whether it passes the load balancer's check.
    pub fn checks_up(&self, daemon: usize, now: u64) -> bool {
        let it = &self.daemons[daemon];
        !self.hosts[self.topology.daemons[daemon].host].down
            && it.up
            && now >= it.serves_at
            && !matches!(it.trouble, Some(Trouble::NeverServes))
    }

    /// Whether the load balancer sends it requests.
    pub fn in_rotation(&self, backend: usize, seat: usize, now: u64) -> bool {
        let daemon = self.topology.backends[backend].servers[seat].0;
        self.seats[backend][seat].is_none()
            && (self.checks_up(daemon, now) || now < self.daemons[daemon].down_since + FALL_MS)
    }

    /// Whether what keeps it from serving is no doing of Volutus.
    pub fn is_excused(&self, daemon: usize) -> bool {
        let it = &self.daemons[daemon];
        it.by_fault
            || it.given_back
            || it.trouble.is_some()
            || self.hosts[self.topology.daemons[daemon].host].down
    }

    /// Whether a fault or a person changed it since that time.
    pub fn was_disturbed(&self, daemon: usize, since: u64) -> bool {
        self.is_excused(daemon) || self.daemons[daemon].disturbed_at.is_some_and(|at| at >= since)
    }

    /// Whether the daemon runs that code, or a fault keeps it from it.
    pub fn runs(&self, daemon: usize, code: Code) -> bool {
        let it = &self.daemons[daemon];
        it.code == code && it.link == code || it.reverted || matches!(it.trouble, Some(Trouble::OtherCode))
    }

    pub fn all_run(&self, daemons: &[usize], code: Code) -> bool {
        daemons.iter().all(|daemon| self.runs(*daemon, code))
    }

    /// Control plane daemons of a service.
    pub fn control_runs(&self, service: usize, code: Code) -> bool {
        self.topology.services[service]
            .daemons
            .iter()
            .filter(|daemon| self.topology.daemons[**daemon].role.is_central())
            .all(|daemon| self.runs(*daemon, code))
    }

    /// Whether a record at the old version can still be written: the service's own guard refuses
    /// it where every record of a binary is newer.
    pub fn may_keep_anchor(&self, service: usize) -> bool {
        let kinds = self.topology.kinds.iter();
        let mut guarded = kinds.filter(|kind| kind.service == service && kind.versioned_record);
        self.anchors[service]
            || guarded.all(|kind| kind.members.iter().any(|m| self.daemons[*m].record == Code::Old))
    }

    /// Whether nova's guard lets that code start: not where every record of the binary is newer.
    /// Source: nova/objects/service.py, `_check_minimum_version`.
    pub fn may_start(&self, daemon: usize, code: Code) -> bool {
        let facts = &self.topology.daemons[daemon];
        let kind = &self.topology.kinds[facts.kind];
        if code == Code::New
            || !kind.versioned_record
            || !self.topology.services[facts.service].refuses_newer_records
        {
            return true;
        }
        self.anchors[facts.service]
            || kind.members.iter().any(|member| self.daemons[*member].record == Code::Old)
    }
}

impl Daemon {
    fn running(code: Code, up: bool) -> Self {
        Self {
            link: code,
            up,
            code,
            serves_at: 0,
            reports_at: 0,
            down_since: 0,
            trouble: None,
            incarnation: 0,
            needs_proof: false,
            by_fault: !up,
            reverted: false,
            record: code,
            disabled: None,
            builds: 0,
            work: None,
            refreshed: false,
            disturbed_at: None,
            given_back: false,
        }
    }

    /// Its process ends.
    pub fn stop(&mut self, now: u64, by_fault: bool) {
        if self.up {
            self.down_since = now;
        }
        self.up = false;
        self.incarnation += 1;
        self.by_fault = by_fault;
    }
}

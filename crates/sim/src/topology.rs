//! A cloud with numbers instead of names: what a simulation walks through millions of times.

use std::collections::{BTreeMap, HashMap};

use volutus_catalog::{Catalog, DaemonRole};
use volutus_model::name::{BackendName, DaemonId, DaemonKind, HostName, ServiceName};
use volutus_model::plan::{Action, Plan, Refresh, SchemaPhase, Seat};
use volutus_model::{Inventory, Step};

use crate::Error;

/// Which of the two releases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    Old,
    New,
}

#[derive(Debug)]
pub(crate) struct ServiceFacts {
    pub name: String,
    /// Services whose control plane comes before.
    pub after: Vec<usize>,
    pub daemons: Vec<usize>,
    /// Whether old code refuses to start once every record of its binary is new.
    pub refuses_newer_records: bool,
}

#[derive(Debug)]
pub(crate) struct KindFacts {
    pub service: usize,
    /// Kinds of the same service that come before.
    pub after: Vec<usize>,
    pub members: Vec<usize>,
    /// Whether it keeps a record with the version of its code.
    pub versioned_record: bool,
    /// Whether it reports at all.
    pub reports: bool,
}

#[derive(Debug)]
pub(crate) struct DaemonFacts {
    pub name: String,
    pub kind: usize,
    pub service: usize,
    pub host: usize,
    pub role: DaemonRole,
    /// Backend, and the place of its server there.
    pub seats: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct BackendFacts {
    pub name: String,
    /// The daemon behind each server, and the server's name.
    pub servers: Vec<(usize, String)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Topology {
    pub services: Vec<ServiceFacts>,
    pub kinds: Vec<KindFacts>,
    pub hosts: Vec<String>,
    pub host_daemons: Vec<Vec<usize>>,
    pub daemons: Vec<DaemonFacts>,
    pub backends: Vec<BackendFacts>,
    pub computes: Vec<usize>,
    names: Names,
}

#[derive(Debug, Default)]
struct Names {
    services: HashMap<ServiceName, usize>,
    hosts: HashMap<HostName, usize>,
    daemons: HashMap<DaemonId, usize>,
    backends: HashMap<BackendName, usize>,
}

/// An action with numbers instead of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Watch {
        ms: u64,
    },
    Stage {
        host: usize,
        code: Code,
    },
    Check {
        host: usize,
    },
    Shadow {
        daemon: usize,
    },
    StopShadow {
        daemon: usize,
    },
    AskAgain {
        daemon: usize,
    },
    Snapshot {
        host: usize,
    },
    /// `bit` numbers the commands of one service and phase within the plan.
    Migrate {
        service: usize,
        host: usize,
        phase: SchemaPhase,
        bit: u32,
    },
    Drain {
        daemon: usize,
        backend: usize,
        seat: usize,
        others_min: u32,
    },
    Undrain {
        daemon: usize,
        backend: usize,
        seat: usize,
    },
    /// One bit per server of the backend.
    Exchange {
        backend: usize,
        enter: u64,
        leave: u64,
    },
    Settle {
        backend: usize,
    },
    Disable {
        daemon: usize,
    },
    Enable {
        daemon: usize,
    },
    Switch {
        daemon: usize,
        to: Code,
    },
    Prove {
        daemon: usize,
        code: Code,
    },
    Canary {
        daemon: usize,
    },
    KeepAnchor {
        service: usize,
        host: usize,
    },
    ReleaseAnchor {
        service: usize,
        host: usize,
    },
    Reload {
        daemon: usize,
    },
    Restart {
        daemon: usize,
    },
}

/// Whether a set of servers, one bit for each, has that one.
pub(crate) fn holds(bits: u64, seat: usize) -> bool {
    (bits >> seat) & 1 == 1
}

/// An operation with the milliseconds that the plan expects of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimedOp {
    pub op: Op,
    pub nominal_ms: u64,
}

/// A step's operations.
#[derive(Debug)]
pub(crate) struct StepOps {
    pub stage: usize,
    pub actions: Vec<TimedOp>,
    pub give_back: Vec<TimedOp>,
}

impl Topology {
    pub fn new(inventory: &Inventory, catalog: &Catalog) -> Result<Self, Error> {
        let known = catalog.daemons();
        let mut topology = Self {
            services: Vec::new(),
            kinds: Vec::new(),
            hosts: Vec::new(),
            host_daemons: Vec::new(),
            daemons: Vec::new(),
            backends: Vec::new(),
            computes: Vec::new(),
            names: Names::default(),
        };
        for host in &inventory.hosts {
            topology.names.hosts.insert(host.name.clone(), topology.hosts.len());
            topology.hosts.push(host.name.to_string());
        }
        topology.host_daemons = vec![Vec::new(); topology.hosts.len()];
        let mut kinds: BTreeMap<&DaemonKind, usize> = BTreeMap::new();
        for (id, host, declaration) in inventory.daemons() {
            let (service, facts) = known
                .get(&declaration.kind)
                .copied()
                .ok_or_else(|| Error::Unfit(format!("the catalog does not know {}", declaration.kind)))?;
            let service_at = *topology.names.services.entry(service.name.clone()).or_insert_with(|| {
                topology.services.push(ServiceFacts {
                    name: service.name.to_string(),
                    after: Vec::new(),
                    daemons: Vec::new(),
                    refuses_newer_records: service.refuses_newer_records,
                });
                topology.services.len() - 1
            });
            let kind = *kinds.entry(&facts.kind).or_insert_with(|| {
                topology.kinds.push(KindFacts {
                    service: service_at,
                    after: Vec::new(),
                    members: Vec::new(),
                    versioned_record: facts.record.as_ref().is_some_and(|record| record.versioned),
                    reports: facts.record.is_some(),
                });
                topology.kinds.len() - 1
            });
            let number = topology.daemons.len();
            let host_at = topology.names.hosts[&host.name];
            let mut seats = Vec::new();
            for backend in &declaration.backends {
                let at = *topology.names.backends.entry(backend.clone()).or_insert_with(|| {
                    topology.backends.push(BackendFacts { name: backend.to_string(), servers: Vec::new() });
                    topology.backends.len() - 1
                });
                seats.push((at, topology.backends[at].servers.len()));
                topology.backends[at].servers.push((number, declaration.server_name(&host.name)));
            }
            topology.services[service_at].daemons.push(number);
            topology.kinds[kind].members.push(number);
            topology.host_daemons[host_at].push(number);
            if facts.role == DaemonRole::Compute {
                topology.computes.push(number);
            }
            topology.daemons.push(DaemonFacts {
                name: id.to_string(),
                kind,
                service: service_at,
                host: host_at,
                role: facts.role,
                seats,
            });
            topology.names.daemons.insert(id, number);
        }
        topology.link(catalog, &kinds);
        Ok(topology)
    }

    fn link(&mut self, catalog: &Catalog, kinds: &BTreeMap<&DaemonKind, usize>) {
        for service in catalog.services.values() {
            let Some(&at) = self.names.services.get(&service.name) else { continue };
            self.services[at].after =
                service.after.iter().filter_map(|name| self.names.services.get(name)).copied().collect();
            for daemon in &service.daemons {
                let Some(&kind) = kinds.get(&daemon.kind) else { continue };
                self.kinds[kind].after = daemon.after.iter().filter_map(|k| kinds.get(k)).copied().collect();
            }
        }
    }

    pub fn daemon(&self, id: &DaemonId) -> Result<usize, Error> {
        self.names.daemons.get(id).copied().ok_or_else(|| Error::Unfit(format!("no daemon {id}")))
    }

    pub fn host(&self, name: &HostName) -> Result<usize, Error> {
        self.names.hosts.get(name).copied().ok_or_else(|| Error::Unfit(format!("no host {name}")))
    }

    pub fn backend(&self, name: &BackendName) -> Option<usize> {
        self.names.backends.get(name).copied()
    }

    fn known_backend(&self, name: &BackendName) -> Result<usize, Error> {
        self.backend(name).ok_or_else(|| Error::Unfit(format!("no backend {name}")))
    }

    fn service(&self, name: &ServiceName) -> Result<usize, Error> {
        self.names.services.get(name).copied().ok_or_else(|| Error::Unfit(format!("no service {name}")))
    }

    fn compute_on(&self, host: &HostName) -> Result<usize, Error> {
        let at = self.host(host)?;
        let computes = self.host_daemons[at].iter();
        computes
            .copied()
            .find(|daemon| self.daemons[*daemon].role == DaemonRole::Compute)
            .ok_or_else(|| Error::Unfit(format!("no compute daemon on {host}")))
    }

    /// One bit per server.
    fn bits(&self, seats: &[Seat], name: &BackendName) -> Result<u64, Error> {
        seats.iter().try_fold(0, |bits, seat| {
            let (_, at) = self.seat(self.daemon(&seat.daemon)?, name)?;
            let bit = u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at));
            let bit = bit.ok_or_else(|| Error::Unfit(format!("{name} has more than 64 servers")))?;
            Ok(bits | bit)
        })
    }

    fn seat(&self, daemon: usize, name: &BackendName) -> Result<(usize, usize), Error> {
        let backend = self.backend(name);
        let seats = self.daemons[daemon].seats.iter();
        seats
            .copied()
            .find(|(at, _)| Some(*at) == backend)
            .ok_or_else(|| Error::Unfit(format!("{} has no server in {name}", self.daemons[daemon].name)))
    }
}

/// Compiles every step of a plan.
pub(crate) fn compile(
    plan: &Plan,
    inventory: &Inventory,
    topology: &Topology,
) -> Result<Vec<StepOps>, Error> {
    let mut compiler = Compiler { plan, inventory, topology, bits: HashMap::new() };
    let mut all = Vec::new();
    for (stage, step) in
        plan.stages.iter().enumerate().flat_map(|(i, stage)| stage.steps.iter().map(move |step| (i, step)))
    {
        all.push(compiler.step(stage, step)?);
    }
    Ok(all)
}

struct Compiler<'a> {
    plan: &'a Plan,
    inventory: &'a Inventory,
    topology: &'a Topology,
    bits: HashMap<(usize, u8), u32>,
}

impl Compiler<'_> {
    fn step(&mut self, stage: usize, step: &Step) -> Result<StepOps, Error> {
        let mut actions = Vec::with_capacity(step.actions.len());
        for action in &step.actions {
            let op = self.op(action)?;
            actions.push(TimedOp { op, nominal_ms: nominal_ms(op) });
        }
        share_out(&mut actions, u64::from(step.expected_s) * 1_000);
        let mut give_back = Vec::with_capacity(step.give_back.len());
        for action in &step.give_back {
            let op = self.op(action)?;
            give_back.push(TimedOp { op, nominal_ms: nominal_ms(op) });
        }
        Ok(StepOps { stage, actions, give_back })
    }

    /// Which release a directory belongs to.
    fn code_of(&self, service: &ServiceName, path: &str) -> Result<Code, Error> {
        let releases = &self.inventory.releases;
        let (older, newer) = (self.plan.from.min(self.plan.to), self.plan.from.max(self.plan.to));
        if releases.release_at(path, newer, service).is_some() {
            Ok(Code::New)
        } else if releases.release_at(path, older, service).is_some() {
            Ok(Code::Old)
        } else {
            Err(Error::Unfit(format!("{path} is the directory of neither {older} nor {newer}")))
        }
    }

    fn target(&self) -> Code {
        if self.plan.to > self.plan.from { Code::New } else { Code::Old }
    }

    fn op(&mut self, action: &Action) -> Result<Op, Error> {
        let topology = self.topology;
        Ok(match action {
            Action::Watch { seconds } => Op::Watch { ms: u64::from(*seconds) * 1_000 },
            // What a client's own command finds out cannot be simulated: it passes, in its usual time.
            Action::RunGate(_) => Op::Watch { ms: GATE_MS },
            Action::StageRelease { host, series, .. } => {
                let newer = self.plan.from.max(self.plan.to);
                let code = if *series == newer { Code::New } else { Code::Old };
                Op::Stage { host: topology.host(host)?, code }
            }
            Action::CheckUpgrade { host, .. } => Op::Check { host: topology.host(host)? },
            Action::ShadowApi { shadow, .. } => Op::Shadow { daemon: topology.daemon(&shadow.daemon)? },
            Action::AskAgain { shadow, .. } => Op::AskAgain { daemon: topology.daemon(&shadow.daemon)? },
            Action::StopShadow { shadow } => Op::StopShadow { daemon: topology.daemon(&shadow.daemon)? },
            Action::SnapshotDatabase { host, .. } => Op::Snapshot { host: topology.host(host)? },
            Action::MigrateSchema { service, host, phase, .. } => {
                let service = topology.service(service)?;
                let next = self.bits.entry((service, *phase as u8)).or_default();
                let bit = *next;
                *next += 1;
                Op::Migrate { service, host: topology.host(host)?, phase: *phase, bit }
            }
            Action::DrainBackend { daemon, backend, others_up_min, .. } => {
                let daemon = topology.daemon(daemon)?;
                let (backend, seat) = topology.seat(daemon, backend)?;
                Op::Drain { daemon, backend, seat, others_min: *others_up_min }
            }
            Action::UndrainBackend { daemon, backend, .. } => {
                let daemon = topology.daemon(daemon)?;
                let (backend, seat) = topology.seat(daemon, backend)?;
                Op::Undrain { daemon, backend, seat }
            }
            Action::ExchangeReplicas { backend, enter, leave } => Op::Exchange {
                backend: topology.known_backend(backend)?,
                enter: topology.bits(enter, backend)?,
                leave: topology.bits(leave, backend)?,
            },
            Action::SettleReplicas { backend, .. } => {
                Op::Settle { backend: topology.known_backend(backend)? }
            }
            Action::DisableCompute { host, .. } => Op::Disable { daemon: topology.compute_on(host)? },
            Action::EnableCompute { host } => Op::Enable { daemon: topology.compute_on(host)? },
            Action::SwitchDaemon { daemon, service, to, .. } => {
                Op::Switch { daemon: topology.daemon(daemon)?, to: self.code_of(service, to)? }
            }
            Action::ProveDaemon { daemon, .. } => {
                Op::Prove { daemon: topology.daemon(daemon)?, code: self.target() }
            }
            Action::KeepAnchor(anchor) => Op::KeepAnchor {
                service: topology.service(&anchor.service)?,
                host: topology.host(&anchor.host)?,
            },
            Action::ReleaseAnchor(anchor) => Op::ReleaseAnchor {
                service: topology.service(&anchor.service)?,
                host: topology.host(&anchor.host)?,
            },
            Action::MoveInstances { .. }
            | Action::MoveNewcomers(_)
            | Action::StopInstances { .. }
            | Action::StartInstances { .. }
            | Action::LowerGateways { .. }
            | Action::RestoreGateways { .. }
            | Action::MoveNetworkDuties { .. }
            | Action::RestoreNetworkDuties { .. }
            | Action::ProveEmpty { .. }
            | Action::RebootHost { .. }
            | Action::RunHook(_)
            | Action::RunCommand { .. } => {
                return Err(Error::Unfit(format!(
                    "`{}` belongs to a reboot of the fleet, which the simulated cloud has no instances for",
                    action.summary()
                )));
            }
            Action::BootCanary { host } => Op::Canary { daemon: topology.compute_on(host)? },
            Action::RefreshDaemon { daemon, how, .. } => match how {
                Refresh::Hangup => Op::Reload { daemon: topology.daemon(daemon)? },
                Refresh::Restart => Op::Restart { daemon: topology.daemon(daemon)? },
            },
        })
    }
}

/// A set of tests of some minutes.
const GATE_MS: u64 = 300_000;

/// What an operation takes by itself; single readings in the lab. What a step is expected to take
/// beyond the sum goes to its proof, or to what it does on a host.
fn nominal_ms(op: Op) -> u64 {
    match op {
        Op::Watch { ms } => ms,
        Op::Stage { .. } | Op::Check { .. } | Op::Snapshot { .. } | Op::Migrate { .. } => 5_000,
        Op::KeepAnchor { .. } | Op::ReleaseAnchor { .. } => 5_000,
        Op::Shadow { .. } | Op::AskAgain { .. } => 20_000,
        Op::StopShadow { .. } => 1_000,
        Op::Drain { .. } => 600,
        Op::Undrain { .. } | Op::Exchange { .. } | Op::Settle { .. } => 500,
        Op::Disable { .. } => 1_500,
        Op::Enable { .. } => 600,
        Op::Switch { .. } | Op::Restart { .. } => 3_000,
        Op::Prove { .. } => 4_000,
        Op::Canary { .. } => 11_000,
        Op::Reload { .. } => 3_000,
    }
}

fn share_out(actions: &mut [TimedOp], expected_ms: u64) {
    let elastic = |op: Op| {
        matches!(
            op,
            Op::Prove { .. }
                | Op::Stage { .. }
                | Op::Check { .. }
                | Op::Shadow { .. }
                | Op::AskAgain { .. }
                | Op::Snapshot { .. }
                | Op::Migrate { .. }
                | Op::KeepAnchor { .. }
                | Op::ReleaseAnchor { .. }
        )
    };
    let fixed: u64 = actions.iter().filter(|timed| !elastic(timed.op)).map(|timed| timed.nominal_ms).sum();
    let count = actions.iter().filter(|timed| elastic(timed.op)).count() as u64;
    if count == 0 {
        return;
    }
    // However tight the plan's expectation is, nothing is done in no time.
    let each = (expected_ms.saturating_sub(fixed) / count).max(800);
    for timed in actions.iter_mut().filter(|timed| elastic(timed.op)) {
        timed.nominal_ms = each;
    }
}

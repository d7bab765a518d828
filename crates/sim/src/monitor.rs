//! What must hold whatever happens, told without the means of planner, plancheck and engine: the
//! monitor looks at what is durable and at what is true of the cloud.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use volutus_catalog::DaemonRole;
use volutus_model::event::{ActionList, Event};
use volutus_model::name::{AttemptId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::SchemaPhase;
use volutus_model::run::RunStatus;

use crate::coverage::Coverage;
use crate::prepared::Prepared;
use crate::topology::{Code, Op};
use crate::world::{By, World};

/// After so many violations of one run nothing new is learned.
const VIOLATIONS_MAX: usize = 20;

/// Something that must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Virtual milliseconds since the beginning.
    pub at_ms: u64,
    /// Which rule, in `kebab-case`.
    pub rule: &'static str,
    /// What was seen.
    pub seen: String,
}

/// An attempt as the journal has it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub step: usize,
    pub list: ActionList,
    pub action: usize,
    /// Its effect was there when the driver looked last.
    pub achieved: bool,
    /// What it did that must happen once.
    pub effects: u32,
}

/// The fewest replicas beyond the budget, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headroom {
    pub spare: i64,
    pub backend: usize,
    pub at_ms: u64,
}

/// See the module.
pub(crate) struct Monitor {
    prepared: Arc<Prepared>,
    pub violations: Vec<Violation>,
    pub coverage: Coverage,
    pub status: Option<RunStatus>,
    pub attempts: HashMap<AttemptId, Declared>,
    last_epoch: u64,
    running: BTreeSet<usize>,
    begun: Vec<bool>,
    pub completed: Vec<bool>,
    pub failed: BTreeSet<usize>,
    finalize_allowed: bool,
    /// The operator has said so.
    pub finalize_asked: bool,
    pub left: Vec<String>,
    pub halt_cause: Option<String>,
    /// Steps that failed, with why; again for every time.
    pub failures: Vec<(usize, String)>,
    last_failure: HashMap<usize, String>,
    pub halts: u32,
    /// Faults so far that a run may halt at.
    pub excuses: u32,
    pub headroom: Option<Headroom>,
    /// Everything but the held stages is complete.
    rolled: bool,
    /// The run is to be taken back.
    pub rollback_due: bool,
    /// The compute that was replaced first.
    first_compute: Option<usize>,
    /// Backends in which old and new replicas must never serve together.
    exchanged: BTreeSet<usize>,
}

impl Monitor {
    pub fn new(prepared: Arc<Prepared>) -> Self {
        let steps = prepared.ops.len();
        let exchanged = prepared.exchanged.clone();
        Self {
            exchanged,
            prepared,
            violations: Vec::new(),
            coverage: Coverage::default(),
            status: None,
            attempts: HashMap::new(),
            last_epoch: 0,
            running: BTreeSet::new(),
            begun: vec![false; steps],
            completed: vec![false; steps],
            failed: BTreeSet::new(),
            finalize_allowed: false,
            finalize_asked: false,
            left: Vec::new(),
            halt_cause: None,
            failures: Vec::new(),
            last_failure: HashMap::new(),
            halts: 0,
            excuses: 0,
            headroom: None,
            rolled: false,
            rollback_due: false,
            first_compute: None,
        }
    }

    /// What an earlier run in the same cloud was seen to do still counts.
    pub fn take_over(&mut self, earlier: Self) {
        self.violations = earlier.violations;
        self.coverage = earlier.coverage;
        self.excuses = earlier.excuses;
        self.halts = earlier.halts;
        self.headroom = earlier.headroom;
        self.left = earlier.left;
        self.exchanged.extend(earlier.exchanged);
    }

    pub fn violate(&mut self, now: u64, rule: &'static str, seen: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { at_ms: now, rule, seen: seen.into() });
        }
    }

    /// What was refused does not count later.
    pub fn finalize_refused(&mut self) {
        self.finalize_asked = self.finalize_allowed;
    }

    fn step_at(&self, id: &StepId) -> usize {
        self.prepared.steps.get(id).copied().unwrap_or(0)
    }

    /// Events that have become durable.
    pub fn recorded(&mut self, now: u64, epoch: u64, events: &[Event]) {
        if epoch < self.last_epoch {
            let last = self.last_epoch;
            self.violate(now, "epoch-back", format!("an entry of epoch {epoch} follows one of {last}"));
        }
        self.last_epoch = self.last_epoch.max(epoch);
        for event in events {
            self.coverage.event(self.status, event);
            self.record(now, event);
        }
    }

    fn record(&mut self, now: u64, event: &Event) {
        use RunStatus::{Aborted, Aborting, AwaitingFinalize, Halted, Paused, Running, Succeeded};
        if self.status.is_some_and(RunStatus::is_final) {
            self.violate(now, "journal-goes-on", format!("{event:?} after the end"));
        }
        match event {
            Event::RunCreated { .. } => self.status = Some(Running),
            Event::Resumed => {
                let waits = self.rolled && !self.finalize_allowed;
                self.status = Some(if waits { AwaitingFinalize } else { Running });
            }
            Event::RollbackDue { .. } => self.rollback_due = true,
            Event::Paused => self.status = Some(Paused),
            Event::Halted { cause } => {
                self.status = Some(Halted);
                self.halts += 1;
                self.halt_cause = Some(cause.clone());
                if self.excuses == 0 {
                    self.violate(now, "halt-without-cause", cause.clone());
                }
            }
            Event::AbortRequested => self.status = Some(Aborting),
            Event::Aborted { left } => {
                self.status = Some(Aborted);
                self.left.clone_from(left);
            }
            Event::FinalizeAllowed => {
                self.status = Some(Running);
                self.finalize_allowed = true;
            }
            Event::RollCompleted => {
                self.rolled = true;
                let held = self.prepared.plan.stages.iter().any(|stage| stage.held);
                if held {
                    self.status = Some(AwaitingFinalize);
                }
            }
            Event::Succeeded => self.status = Some(Succeeded),
            Event::AttemptStarted { attempt, step, action, list, .. } => {
                let step = self.step_at(step);
                if *list == ActionList::Actions {
                    self.step_runs(now, step);
                }
                let declared =
                    Declared { step, list: *list, action: *action as usize, achieved: false, effects: 0 };
                if self.attempts.insert(attempt.clone(), declared).is_some() {
                    self.violate(now, "attempt-again", format!("{attempt} was begun before"));
                }
            }
            Event::AttemptFinished { attempt, outcome } => self.finished(now, attempt, outcome),
            Event::StepCompleted { step } => {
                let step = self.step_at(step);
                self.running.remove(&step);
                self.completed[step] = true;
            }
            Event::StepFailed { step } => {
                let step = self.step_at(step);
                self.running.remove(&step);
                self.failed.insert(step);
                let why = self.last_failure.remove(&step).unwrap_or_default();
                self.failures.push((step, why));
            }
            Event::StepRetried { step } => {
                let step = self.step_at(step);
                self.failed.remove(&step);
                self.running.insert(step);
            }
            // Simulated clouds reboot no hosts.
            Event::ReplanDue { .. } => {
                self.violate(now, "replan", "an upgrade is planned anew for other hosts".to_owned());
            }
            Event::RunTakenUp { .. }
            | Event::StageStarted { .. }
            | Event::StageCompleted { .. }
            | Event::AttemptTakenUp { .. }
            | Event::ProbeBreached(_) => {}
        }
    }

    fn step_runs(&mut self, now: u64, step: usize) {
        if self.begun[step] {
            self.running.insert(step);
            return;
        }
        self.begun[step] = true;
        let plan = &self.prepared.intended;
        let stage = self.prepared.ops[step].stage;
        let limit = plan.policy.parallel_steps_max as usize;
        if self.running.len() >= limit {
            let text = format!("{} steps run, and another one begins; {limit} may", self.running.len());
            self.violate(now, "too-many-steps", text);
        }
        let width = self.prepared.widths[stage];
        let beside = self.running.iter().filter(|other| self.prepared.ops[**other].stage == stage).count();
        if beside >= width {
            self.violate(now, "too-many-steps", format!("{beside} of a stage run, which allows {width}"));
        }
        self.running.insert(step);
    }

    fn finished(&mut self, now: u64, attempt: &AttemptId, outcome: &Outcome) {
        let Some(declared) = self.attempts.get(attempt) else {
            return self.violate(now, "not-durable", format!("{attempt} ends without having begun"));
        };
        let why = match outcome {
            Outcome::Done { .. } | Outcome::FoundNoChangesNeeded { .. } => None,
            Outcome::Failed(failure) => Some(&failure.message),
            Outcome::Unknown { why } => Some(why),
        };
        if let Some(why) = why {
            self.last_failure.insert(declared.step, why.clone());
        }
        if outcome.is_success() && !declared.achieved {
            self.violate(now, "untrue-outcome", format!("{attempt} is recorded as done, and is not"));
        }
    }

    /// A driver begins with an attempt.
    pub fn performs(&mut self, now: u64, attempt: &AttemptId, op: Op) {
        let found = self.attempts.get(attempt).map(|declared| {
            let ops = &self.prepared.ops[declared.step];
            let list = match declared.list {
                ActionList::Actions => &ops.actions,
                ActionList::GiveBack => &ops.give_back,
            };
            list.get(declared.action).map(|timed| timed.op)
        });
        if found.flatten() != Some(op) {
            self.violate(
                now,
                "not-durable",
                format!("{op:?} is done, and the journal has no {attempt} for it"),
            );
        }
    }

    /// An attempt does something that must happen once.
    pub fn effect(&mut self, now: u64, attempt: &AttemptId, what: &str) {
        if let Some(declared) = self.attempts.get_mut(attempt) {
            declared.effects += 1;
            if declared.effects > 1 {
                self.violate(now, "twice", format!("{what}, for the second time in attempt {attempt}"));
            }
        }
    }

    /// Something made what an attempt did undone: a host lost its work.
    pub fn effect_lost(&mut self, attempt: &AttemptId) {
        if let Some(declared) = self.attempts.get_mut(attempt) {
            declared.effects = 0;
        }
    }

    pub fn achieved(&mut self, attempt: &AttemptId) {
        if let Some(declared) = self.attempts.get_mut(attempt) {
            declared.achieved = true;
        }
    }

    fn min_of(&self, world: &World, backend: usize) -> usize {
        let servers = world.topology.backends[backend].servers.len();
        (self.prepared.intended.policy.serving_replicas_min as usize).min(servers.saturating_sub(1))
    }

    /// Volutus drains a server.
    pub fn drains(&mut self, world: &World, now: u64, backend: usize, seat: usize) {
        let servers = &world.topology.backends[backend].servers;
        let others = (0..servers.len()).filter(|other| *other != seat);
        let up = others.filter(|other| world.in_rotation(backend, *other, now)).count();
        let min = self.min_of(world, backend);
        if up < min {
            let name = &world.topology.backends[backend].name;
            self.violate(now, "over-budget", format!("{name} is drained with {up} others up, {min} must be"));
        }
    }

    /// Volutus gives a server back.
    pub fn undrains(&mut self, world: &World, now: u64, backend: usize, seat: usize, list: ActionList) {
        let daemon = world.topology.backends[backend].servers[seat].0;
        // What an abort gives back was not proved; the load balancer's check stands for it.
        if list == ActionList::Actions && world.daemons[daemon].needs_proof {
            let name = &world.topology.daemons[daemon].name;
            self.violate(now, "undrained-unproved", format!("{name} gets requests before it was proved"));
        }
    }

    /// Volutus stops a daemon.
    pub fn stops(&mut self, world: &World, now: u64, daemon: usize) {
        let facts = &world.topology.daemons[daemon];
        for (backend, seat) in &facts.seats {
            if world.in_rotation(*backend, *seat, now) {
                self.violate(now, "user-hurt", format!("{} stops while it gets requests", facts.name));
            }
        }
        if facts.role == DaemonRole::Worker {
            let members = &world.topology.kinds[facts.kind].members;
            let others = members.iter().filter(|other| **other != daemon);
            let on = others.filter(|other| world.serves(**other, now) || world.is_excused(**other)).count();
            if members.len() > 1 && on == 0 {
                self.violate(now, "over-budget", format!("{} stops, and no other one works", facts.name));
            }
        }
    }

    /// Volutus stops a compute in order to replace it.
    pub fn replaces_compute(&mut self, world: &World, now: u64, daemon: usize, to: Code) {
        let it = &world.daemons[daemon];
        let name = &world.topology.daemons[daemon].name;
        if it.disabled.is_none() && !world.was_disturbed(daemon, 0) {
            self.violate(
                now,
                "compute-not-disabled",
                format!("{name} is replaced while instances come to it"),
            );
        } else if it.builds > 0 && !world.was_disturbed(daemon, 0) {
            self.violate(now, "user-hurt", format!("{name} stops while {} instances are built", it.builds));
        }
        if to == Code::New {
            let first = *self.first_compute.get_or_insert(daemon);
            if first != daemon && !world.canary_proved {
                self.violate(now, "no-canary", format!("{name} is replaced before an instance was booted"));
            }
        }
    }

    /// Volutus starts a daemon with that code.
    pub fn starts(&mut self, world: &World, now: u64, daemon: usize, code: Code) {
        let topology = &world.topology;
        let facts = &topology.daemons[daemon];
        let (kind, service) = (&topology.kinds[facts.kind], &topology.services[facts.service]);
        let schema = &world.schemas[facts.service];
        // A host that came back different is restarted as it is: what it runs then is not Volutus's
        // choice, and the proof that follows notices it.
        if world.daemons[daemon].reverted {
            return;
        }
        if code == Code::Old {
            if schema.contracted != 0 {
                self.violate(now, "skew", format!("{} is put back on a contracted schema", facts.name));
            }
            for (other, facts_of) in topology.kinds.iter().enumerate() {
                if facts_of.after.contains(&facts.kind)
                    && !world.all_run(&topology.kinds[other].members, code)
                {
                    self.violate(now, "order", format!("{} is put back before its followers", facts.name));
                }
            }
            for (other, facts_of) in topology.services.iter().enumerate() {
                if facts_of.after.contains(&facts.service) && !world.control_runs(other, code) {
                    let text = format!("{} is put back before {} is", facts.name, facts_of.name);
                    self.violate(now, "order", text);
                }
            }
            return;
        }
        if !world.hosts[facts.host].staged[1] {
            self.violate(now, "order", format!("{} is switched to code that is not there", facts.name));
        }
        if schema.expanded.count_ones() < self.prepared.expands[facts.service] {
            self.violate(now, "order", format!("{} is new before its schema is widened", facts.name));
        }
        let kinds = kind.after.iter().all(|kind| world.all_run(&topology.kinds[*kind].members, code));
        let services = service.after.iter().all(|before| world.control_runs(*before, code));
        let control = facts.role != DaemonRole::Compute || world.control_runs(facts.service, code);
        if !(kinds && services && control) {
            self.violate(now, "skew", format!("{} is new before what it talks to is", facts.name));
        }
    }

    /// Volutus changes a schema.
    pub fn migrates(&mut self, world: &World, now: u64, service: usize, phase: SchemaPhase) {
        if phase != SchemaPhase::Expand {
            self.closes(world, now, service, &format!("{phase:?}"));
        }
    }

    /// Volutus lets a daemon forget old versions.
    pub fn refreshes(&mut self, world: &World, now: u64, daemon: usize) {
        self.closes(world, now, world.topology.daemons[daemon].service, "unpin");
    }

    /// Volutus lets old code of a service be refused again.
    pub fn releases(&mut self, world: &World, now: u64, service: usize) {
        if self.prepared.target == Code::New {
            return self.closes(world, now, service, "release of the anchor");
        }
        let facts = &world.topology.services[service];
        if !world.all_run(&facts.daemons, Code::Old) {
            let text = format!("{}'s anchor is released before all of it is old", facts.name);
            self.violate(now, "closed-too-early", text);
        }
    }

    /// Volutus asks what serves users whether it answers as old code did.
    pub fn asks_again(&mut self, world: &World, now: u64, daemon: usize) {
        let facts = &world.topology.services[world.topology.daemons[daemon].service];
        let old =
            |daemon: &&usize| !world.runs(**daemon, self.prepared.target) && !world.is_excused(**daemon);
        if let Some(old) = facts.daemons.iter().find(old) {
            let name = &world.topology.daemons[*old].name;
            self.violate(
                now,
                "asked-too-early",
                format!("{} is asked again while {name} is old", facts.name),
            );
        }
    }

    fn closes(&mut self, world: &World, now: u64, service: usize, what: &str) {
        let facts = &world.topology.services[service];
        if !self.finalize_allowed || !self.finalize_asked {
            let text = format!("{what} of {} before the operator's finalize", facts.name);
            self.violate(now, "closed-too-early", text);
        }
        if let Some(old) = facts.daemons.iter().find(|daemon| !world.runs(**daemon, Code::New)) {
            let name = &world.topology.daemons[*old].name;
            self.violate(now, "closed-too-early", format!("{what} of {} while {name} is old", facts.name));
        }
    }

    /// A user's request failed at that daemon, or found none.
    pub fn request_failed(&mut self, world: &World, now: u64, backend: usize, daemon: Option<usize>) {
        let facts = &world.topology.backends[backend];
        let excused = match daemon {
            Some(daemon) => world.is_excused(daemon),
            None => (0..facts.servers.len()).any(|seat| {
                world.is_excused(facts.servers[seat].0) || world.seats[backend][seat] == Some(By::Person)
            }),
        };
        if !excused {
            self.violate(now, "user-hurt", format!("a request to {} failed", facts.name));
        }
    }

    /// Whether a backend of which the replicas are exchanged has old or new ones in rotation, and not both.
    /// Where a fault or a person changed one of them, who gets requests is no doing of Volutus.
    fn check_exchanged(&mut self, world: &World, now: u64, backend: usize) {
        if !self.exchanged.contains(&backend) {
            return;
        }
        let facts = &world.topology.backends[backend];
        let disturbed = |(seat, (daemon, _)): (usize, &(usize, String))| {
            world.was_disturbed(*daemon, 0) || world.seats[backend][seat] == Some(By::Person)
        };
        if facts.servers.iter().enumerate().any(disturbed) {
            return;
        }
        let serves = |code: Code| {
            let mut servers = facts.servers.iter().enumerate();
            servers.any(|(seat, (daemon, _))| {
                world.daemons[*daemon].code == code && world.in_rotation(backend, seat, now)
            })
        };
        if serves(Code::Old) && serves(Code::New) {
            let text = format!("{} has old and new replicas in rotation", facts.name);
            self.violate(now, "advertised-flaps", text);
        }
    }

    /// Whether every API keeps its budget, as far as it depends on Volutus.
    pub fn check_budget(&mut self, world: &World, now: u64) {
        for (backend, facts) in world.topology.backends.iter().enumerate() {
            let min = self.min_of(world, backend);
            let (mut serving, mut excused) = (0, 0);
            for (seat, (daemon, _)) in facts.servers.iter().enumerate() {
                let out = world.seats[backend][seat];
                if out.is_none() && world.serves(*daemon, now) {
                    serving += 1;
                } else if world.is_excused(*daemon) || out == Some(By::Person) {
                    excused += 1;
                }
            }
            if serving + excused < min {
                let text = format!("{} has {serving} serving replicas, {min} must be", facts.name);
                self.violate(now, "over-budget", text);
            }
            self.check_exchanged(world, now, backend);
            let spare = i64::try_from(serving).unwrap_or(0) - i64::try_from(min).unwrap_or(0);
            if self.headroom.is_none_or(|least| spare < least.spare) {
                self.headroom = Some(Headroom { spare, backend, at_ms: now });
            }
        }
    }
}

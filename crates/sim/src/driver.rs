//! What an attempt does in the simulated cloud: the manners of the real drivers (look first, do,
//! see that it is done; remote work named by its attempt) in virtual time.

use volutus_catalog::DaemonRole;
use volutus_model::event::ActionList;
use volutus_model::name::AttemptId;
use volutus_model::outcome::{Failure, FailureClass, Outcome};
use volutus_model::plan::SchemaPhase;

use crate::fault::Fate;
use crate::mutant::Mutant;
use crate::simulation::{Happening, Simulation};
use crate::topology::{Code, Op, holds};
use crate::world::{By, Trouble, Work, WorkEnd};

/// Between two looks at something that is not there yet.
pub(crate) const LOOK_MS: u64 = 1_000;
/// The most time that passes between two looks at a daemon: one that dies meanwhile is noticed
/// within it.
const PROOF_LOOK_MS: u64 = 5_000;
/// So much longer than its order allows an attempt may take; the runtime's figure.
const GRACE_MS: u64 = 60_000;

/// One attempt under way in one process.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub process: usize,
    pub live: bool,
    pub generation: u32,
    pub id: AttemptId,
    pub op: Op,
    pub nominal_ms: u64,
    pub list: ActionList,
    pub taken_up: bool,
    pub begun: u64,
    pub deadline: u64,
    pub stage: u8,
    pub aux: u64,
    pub fate: Fate,
    pub work: Option<usize>,
    pub changed: bool,
    pub incarnation: u32,
    pub timeout_ms: u64,
}

/// What an attempt does next.
pub(crate) enum Next {
    /// It looks again at that time.
    Wait(u64),
    End(Outcome),
}

pub(crate) fn failed(class: FailureClass, message: &str) -> Next {
    Next::End(Outcome::Failed(Failure {
        class,
        message: message.to_owned(),
        hint: String::new(),
        evidence: Vec::new(),
        refused_by: std::collections::BTreeSet::new(),
        newcomers: std::collections::BTreeSet::new(),
    }))
}

pub(crate) fn permanent(message: &str) -> Next {
    failed(FailureClass::Permanent, message)
}

pub(crate) fn transient(message: &str) -> Next {
    failed(FailureClass::Transient, message)
}

pub(crate) fn unknown(why: &str) -> Next {
    Next::End(Outcome::Unknown { why: why.to_owned() })
}

pub(crate) fn done() -> Next {
    Next::End(Outcome::done(""))
}

pub(crate) fn unchanged() -> Next {
    Next::End(Outcome::FoundNoChangesNeeded { detail: String::new() })
}

/// The host that an operation needs to reach, where it needs one.
fn host_of(op: Op, simulation: &Simulation<'_>) -> Option<usize> {
    match op {
        Op::Stage { host, .. }
        | Op::Check { host }
        | Op::Snapshot { host }
        | Op::Migrate { host, .. }
        | Op::KeepAnchor { host, .. }
        | Op::ReleaseAnchor { host, .. } => Some(host),
        Op::Shadow { daemon }
        | Op::StopShadow { daemon }
        | Op::Switch { daemon, .. }
        | Op::Prove { daemon, .. }
        | Op::Reload { daemon }
        | Op::Restart { daemon } => Some(simulation.world.topology.daemons[daemon].host),
        // Its requests go through the load balancer.
        Op::AskAgain { .. }
        | Op::Watch { .. }
        | Op::Drain { .. }
        | Op::Undrain { .. }
        | Op::Exchange { .. }
        | Op::Settle { .. }
        | Op::Disable { .. }
        | Op::Enable { .. }
        | Op::Canary { .. } => None,
    }
}

impl Simulation<'_> {
    /// The first look of an attempt.
    pub(crate) fn begin_attempt(&mut self, slot: usize) -> Next {
        let attempt = &mut self.attempts[slot];
        attempt.begun = self.now;
        attempt.deadline = self.now + attempt.timeout_ms;
        attempt.fate = self.config.faults.fate(&mut self.luck);
        attempt.stage = 1;
        let (op, taken_up, fate) = (attempt.op, attempt.taken_up, attempt.fate);
        self.monitor.performs(self.now, &self.attempts[slot].id, op);
        match fate {
            Fate::Transient => {
                self.fault("a connection is refused");
                // Whoever took an attempt up does not know what it did before.
                return if taken_up {
                    unknown("connection refused")
                } else {
                    transient("connection refused")
                };
            }
            Fate::Permanent
                if !matches!(
                    op,
                    Op::Watch { .. } | Op::Enable { .. } | Op::Undrain { .. } | Op::Settle { .. }
                ) =>
            {
                self.fault("an action fails for good");
                return permanent("it failed for good");
            }
            Fate::LostBefore => {
                self.fault("an order is lost");
                return unknown("the connection was lost");
            }
            Fate::Lost => self.fault("an answer is lost"),
            Fate::Hang => self.fault("an attempt hangs"),
            Fate::Permanent | Fate::Slow | Fate::Duplicate | Fate::Plain => {}
        }
        if let Some(host) = host_of(op, self)
            && self.is_out_of_reach(host)
        {
            return if taken_up {
                unknown("the host does not answer")
            } else {
                transient("no route to host")
            };
        }
        self.go_on(slot)
    }

    /// Looks on.
    pub(crate) fn go_on(&mut self, slot: usize) -> Next {
        match self.attempts[slot].op {
            Op::Watch { ms } => self.after(slot, ms),
            Op::Check { .. } => {
                let nominal = self.attempts[slot].nominal_ms;
                self.after(slot, nominal)
            }
            Op::Shadow { daemon } => {
                let nominal = self.attempts[slot].nominal_ms;
                // Whatever came of the comparison, it is taken away again.
                let next = self.after(slot, nominal);
                self.world.shadows[daemon] = matches!(next, Next::Wait(_));
                next
            }
            Op::AskAgain { daemon } => {
                self.monitor.asks_again(&self.world, self.now, daemon);
                let nominal = self.attempts[slot].nominal_ms;
                self.after(slot, nominal)
            }
            Op::StopShadow { daemon } => {
                if std::mem::take(&mut self.world.shadows[daemon]) {
                    done()
                } else {
                    unchanged()
                }
            }
            Op::Stage { .. }
            | Op::Snapshot { .. }
            | Op::Migrate { .. }
            | Op::KeepAnchor { .. }
            | Op::ReleaseAnchor { .. }
            | Op::Switch { .. }
            | Op::Restart { .. } => self.remote(slot),
            Op::Drain { daemon, backend, seat, others_min } => {
                self.drain(slot, daemon, backend, seat, others_min)
            }
            Op::Undrain { daemon, backend, seat } => self.undrain(slot, daemon, backend, seat),
            Op::Exchange { backend, enter, leave } => self.exchange(slot, backend, enter, leave),
            Op::Settle { backend } => self.settle_replicas(slot, backend),
            Op::Disable { daemon } => self.disable(slot, daemon),
            Op::Enable { daemon } => self.enable(slot, daemon),
            Op::Prove { daemon, code } => self.prove(slot, daemon, code),
            Op::Canary { daemon } => self.canary(slot, daemon),
            Op::Reload { daemon } => self.reload(slot, daemon),
        }
    }

    pub(crate) fn slowed(&mut self, slot: usize, ms: u64) -> u64 {
        let ms = self.luck.around(ms);
        if self.attempts[slot].fate == Fate::Slow { ms * 10 } else { ms }
    }

    /// Done after a while.
    pub(crate) fn after(&mut self, slot: usize, ms: u64) -> Next {
        if self.attempts[slot].stage == 1 {
            self.attempts[slot].stage = 2;
            let watch = matches!(self.attempts[slot].op, Op::Watch { .. });
            let ms = if watch { ms } else { self.slowed(slot, ms) };
            return Next::Wait(self.now + ms);
        }
        done()
    }

    pub(crate) fn is_out_of_reach(&self, host: usize) -> bool {
        self.world.hosts[host].unreachable || self.world.hosts[host].down
    }

    /// Work that outlives its connection: looked for by the attempt's id before it is begun.
    pub(crate) fn remote(&mut self, slot: usize) -> Next {
        let Some(host) = host_of(self.attempts[slot].op, self) else { return permanent("no host") };
        let over = self.now >= self.attempts[slot].deadline;
        if self.is_out_of_reach(host) {
            let begun = self.attempts[slot].work.is_some() || self.attempts[slot].taken_up;
            return match (over, begun) {
                (false, _) => Next::Wait(self.now + 2 * LOOK_MS),
                (true, true) => unknown("the host does not answer"),
                (true, false) => transient("no route to host"),
            };
        }
        let known =
            self.attempts[slot].work.or_else(|| self.world.work_of.get(&self.attempts[slot].id).copied());
        let forgets = self.is(Mutant::TakeUpForgets) && self.attempts[slot].stage == 1;
        match known.filter(|_| !forgets).map(|work| (work, self.world.works[work].end.clone())) {
            Some((_, WorkEnd::Ended(outcome))) => Next::End(outcome),
            Some((work, WorkEnd::Running)) => {
                self.attempts[slot].work = Some(work);
                self.attempts[slot].stage = 2;
                if over {
                    return permanent("it has not ended in time, and is left to end by itself");
                }
                // The end is noticed a moment after it comes.
                Next::Wait((self.world.works[work].expected_at + 100).max(self.now + LOOK_MS / 2))
            }
            Some((_, WorkEnd::Lost)) if self.attempts[slot].work.is_some() => {
                unknown("the host no longer knows of the work: it was rebooted")
            }
            Some((_, WorkEnd::Lost)) | None => self.begin_work(slot, host, over),
        }
    }

    fn begin_work(&mut self, slot: usize, host: usize, over: bool) -> Next {
        let (op, id) = (self.attempts[slot].op, self.attempts[slot].id.clone());
        let holder = match op {
            Op::Switch { daemon, .. } | Op::Restart { daemon } => self.world.daemons[daemon].work,
            Op::Migrate { service, .. } => self.world.schemas[service].work,
            _ => None,
        };
        let busy = holder.is_some_and(|work| matches!(self.world.works[work].end, WorkEnd::Running));
        if busy && !self.is(Mutant::TakeUpForgets) {
            return if over {
                transient("an earlier attempt at the same still runs")
            } else {
                Next::Wait(self.now + 2 * LOOK_MS)
            };
        }
        if let Op::Stage { host, code } = op
            && self.world.hosts[host].staged[code as usize]
            && !self.attempts[slot].taken_up
        {
            return unchanged();
        }
        let nominal_ms = self.attempts[slot].nominal_ms;
        let slow = if self.attempts[slot].fate == Fate::Slow { 10 } else { 1 };
        let work = self.world.works.len();
        self.world.works.push(Work {
            attempt: id.clone(),
            op,
            host,
            phase: 0,
            end: WorkEnd::Running,
            expected_at: self.now,
            nominal_ms: nominal_ms * slow,
        });
        self.world.work_of.insert(id, work);
        match op {
            Op::Switch { daemon, .. } | Op::Restart { daemon } => {
                self.world.daemons[daemon].work = Some(work);
            }
            Op::Migrate { service, .. } => self.world.schemas[service].work = Some(work),
            _ => {}
        }
        self.attempts[slot].work = Some(work);
        self.attempts[slot].stage = 2;
        self.work(work);
        Next::Wait((self.world.works[work].expected_at + 100).max(self.now + 200))
    }

    /// A work goes on to its next phase.
    pub(crate) fn work(&mut self, work: usize) {
        if !matches!(self.world.works[work].end, WorkEnd::Running) {
            return;
        }
        let (op, phase, nominal) = {
            let it = &mut self.world.works[work];
            it.phase += 1;
            (it.op, it.phase, it.nominal_ms)
        };
        match op {
            Op::Switch { daemon, to } => self.replace(work, phase, daemon, to, true),
            Op::Restart { daemon } => {
                let link = self.world.daemons[daemon].link;
                self.replace(work, phase, daemon, link, false);
            }
            _ if phase == 1 => {
                let ms = self.luck.around(nominal);
                self.work_again(work, ms);
            }
            Op::Stage { host, code } => {
                self.world.hosts[host].staged[code as usize] = true;
                self.end_work(work, Outcome::done(""));
            }
            Op::Migrate { service, phase, bit, .. } => {
                let id = self.world.works[work].attempt.clone();
                self.monitor.effect(self.now, &id, "a schema command runs");
                self.monitor.migrates(&self.world, self.now, service, phase);
                let schema = &mut self.world.schemas[service];
                match phase {
                    SchemaPhase::Expand => schema.expanded |= 1 << bit,
                    SchemaPhase::OnlineDataMigrations => schema.converted |= 1 << bit,
                    SchemaPhase::Contract => schema.contracted |= 1 << bit,
                }
                schema.work = None;
                self.world.touched = true;
                self.end_work(work, Outcome::done(""));
            }
            Op::KeepAnchor { service, .. } => {
                let outcome = if self.world.may_keep_anchor(service) {
                    self.world.anchors[service] = true;
                    Outcome::done("")
                } else {
                    let Next::End(outcome) = permanent("every record is newer already") else { return };
                    outcome
                };
                self.end_work(work, outcome);
            }
            Op::ReleaseAnchor { service, .. } => {
                self.monitor.releases(&self.world, self.now, service);
                self.world.anchors[service] = false;
                self.end_work(work, Outcome::done(""));
            }
            _ => self.end_work(work, Outcome::done("")),
        }
    }

    fn work_again(&mut self, work: usize, ms: u64) {
        self.world.works[work].expected_at = self.now + ms;
        self.at(self.now + ms, Happening::Work(work));
    }

    fn end_work(&mut self, work: usize, outcome: Outcome) {
        self.world.works[work].end = WorkEnd::Ended(outcome);
        self.world.works[work].expected_at = self.now;
    }

    /// Stops a daemon, turns its link, and starts it.
    fn replace(&mut self, work: usize, phase: u8, daemon: usize, to: Code, switch: bool) {
        let nominal = self.world.works[work].nominal_ms;
        let it = &self.world.daemons[daemon];
        match phase {
            1 => {
                let right = it.up && it.code == to && it.link == to;
                if switch && right {
                    self.world.daemons[daemon].work = None;
                    let outcome = Outcome::FoundNoChangesNeeded { detail: String::new() };
                    return self.end_work(work, outcome);
                }
                let id = self.world.works[work].attempt.clone();
                self.monitor.effect(self.now, &id, "a daemon is stopped");
                self.monitor.stops(&self.world, self.now, daemon);
                if switch && self.world.topology.daemons[daemon].role == DaemonRole::Compute {
                    self.monitor.replaces_compute(&self.world, self.now, daemon, to);
                }
                if !switch {
                    self.monitor.refreshes(&self.world, self.now, daemon);
                }
                let it = &mut self.world.daemons[daemon];
                it.stop(self.now, false);
                it.needs_proof = true;
                it.trouble = None;
                self.world.touched = true;
                let ms = self.luck.around(nominal / 2);
                self.work_again(work, ms);
            }
            2 => {
                self.world.daemons[daemon].link = to;
                if switch {
                    self.world.daemons[daemon].reverted = false;
                }
                self.monitor.starts(&self.world, self.now, daemon, to);
                if self.start_daemon(daemon, true) {
                    if !switch {
                        self.world.daemons[daemon].refreshed = true;
                    }
                    let ms = self.luck.around(nominal / 2);
                    self.work_again(work, ms);
                } else {
                    self.world.daemons[daemon].work = None;
                    let Next::End(outcome) = permanent("the daemon refuses to start") else { return };
                    self.end_work(work, outcome);
                }
            }
            _ => {
                self.world.daemons[daemon].work = None;
                self.end_work(work, Outcome::done(""));
            }
        }
    }

    fn prove(&mut self, slot: usize, daemon: usize, code: Code) -> Next {
        let it = &self.world.daemons[daemon];
        let host = self.world.topology.daemons[daemon].host;
        let over = self.now >= self.attempts[slot].deadline;
        if self.is_out_of_reach(host) {
            return if over { transient("no route to host") } else { Next::Wait(self.now + 2 * LOOK_MS) };
        }
        if self.attempts[slot].stage == 1 {
            self.attempts[slot].stage = 2;
            self.attempts[slot].incarnation = it.incarnation;
            // Steady for a while, or four good answers in a row.
            self.attempts[slot].aux = self.now + 800;
        }
        if !it.up || it.incarnation != self.attempts[slot].incarnation {
            return permanent("the daemon ended while it was proved");
        }
        let kind = &self.world.topology.kinds[self.world.topology.daemons[daemon].kind];
        let right =
            it.code == code && it.trouble != Some(Trouble::OtherCode) || self.is(Mutant::ProofIgnoresVersion);
        let serves = self.world.serves(daemon, self.now) || self.is(Mutant::ProofTrustsUnit);
        let reports = !kind.reports
            || it.trouble != Some(Trouble::Silent) && self.now >= it.reports_at
            || self.is(Mutant::ProofIgnoresReports);
        if !right {
            return permanent("the process has loaded other code");
        }
        if serves && reports && self.now >= self.attempts[slot].aux {
            self.world.daemons[daemon].needs_proof = false;
            self.world.daemons[daemon].given_back = false;
            return done();
        }
        if over {
            return permanent("it does not serve within its time");
        }
        let mut next = self.attempts[slot].aux.max(it.serves_at);
        if kind.reports {
            next = next.max(it.reports_at);
        }
        Next::Wait(next.clamp(self.now + LOOK_MS / 2, self.now + PROOF_LOOK_MS))
    }

    fn canary(&mut self, slot: usize, daemon: usize) -> Next {
        let id = self.attempts[slot].id.clone();
        match self.attempts[slot].stage {
            1 => {
                let found = self.attempts[slot].taken_up && self.world.canaries.contains_key(&id);
                if !found {
                    if self.world.daemons[daemon].disabled.is_some() {
                        return permanent("no valid host was found: the compute is disabled");
                    }
                    if self.world.canaries.insert(id, daemon).is_some() {
                        self.monitor.violate(self.now, "twice", "a second canary instance of one attempt");
                    }
                }
                self.attempts[slot].stage = 2;
                let nominal = self.attempts[slot].nominal_ms * 3 / 4;
                Next::Wait(self.now + self.slowed(slot, nominal))
            }
            2 => {
                let active = self.world.serves(daemon, self.now);
                if !active && self.now < self.attempts[slot].deadline {
                    return Next::Wait(self.now + 2 * LOOK_MS);
                }
                self.attempts[slot].changed = active;
                self.attempts[slot].stage = 3;
                let nominal = self.attempts[slot].nominal_ms / 4;
                Next::Wait(self.now + self.luck.around(nominal))
            }
            _ => {
                self.world.canaries.remove(&id);
                if !self.attempts[slot].changed {
                    return permanent("the instance does not become ACTIVE");
                }
                self.world.canary_proved = true;
                done()
            }
        }
    }

    fn reload(&mut self, slot: usize, daemon: usize) -> Next {
        let it = &self.world.daemons[daemon];
        if self.attempts[slot].stage == 1 {
            if !it.up {
                return permanent("it does not run, so there is nothing to refresh");
            }
            self.attempts[slot].incarnation = it.incarnation;
            self.attempts[slot].stage = 2;
            self.monitor.refreshes(&self.world, self.now, daemon);
            self.world.daemons[daemon].refreshed = true;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.luck.around(nominal));
        }
        if it.incarnation != self.attempts[slot].incarnation {
            return permanent("it ended after the signal");
        }
        done()
    }

    /// Whether what an attempt reports as done is there, or was changed since by somebody else.
    pub(crate) fn is_true(&self, slot: usize) -> bool {
        let attempt = &self.attempts[slot];
        let world = &self.world;
        match attempt.op {
            Op::Watch { .. }
            | Op::Check { .. }
            | Op::AskAgain { .. }
            | Op::Snapshot { .. }
            | Op::Reload { .. } => true,
            Op::Shadow { daemon } | Op::StopShadow { daemon } => !world.shadows[daemon],
            Op::Canary { .. } => world.canary_proved,
            Op::Stage { host, code } => world.hosts[host].staged[code as usize],
            Op::KeepAnchor { service, .. } => world.anchors[service],
            Op::ReleaseAnchor { service, .. } => !world.anchors[service],
            Op::Migrate { service, phase, bit, .. } => {
                let schema = &world.schemas[service];
                let bits = match phase {
                    SchemaPhase::Expand => schema.expanded,
                    SchemaPhase::OnlineDataMigrations => schema.converted,
                    SchemaPhase::Contract => schema.contracted,
                };
                bits & (1 << bit) != 0
            }
            Op::Drain { backend, seat, .. } => world.seats[backend][seat].is_some(),
            Op::Undrain { daemon, backend, seat } => {
                world.seats[backend][seat].is_none()
                    || world.seats[backend][seat] == Some(By::Person)
                    || world.was_disturbed(daemon, attempt.begun)
            }
            Op::Exchange { backend, enter, leave } => {
                let mut seats = world.seats[backend].iter().enumerate();
                seats.all(|(seat, out)| {
                    (!holds(enter, seat) || *out != Some(By::Volutus))
                        && (!holds(leave, seat) || out.is_some())
                })
            }
            Op::Settle { backend } => !world.seats[backend].contains(&Some(By::Volutus)),
            Op::Disable { daemon } => {
                world.daemons[daemon].disabled.is_some() && world.daemons[daemon].builds == 0
                    || world.was_disturbed(daemon, attempt.begun)
            }
            Op::Enable { daemon } => world.daemons[daemon].disabled != Some(By::Volutus),
            Op::Switch { daemon, to } => {
                world.daemons[daemon].link == to || world.was_disturbed(daemon, attempt.begun)
            }
            Op::Restart { daemon } => {
                world.daemons[daemon].refreshed || world.was_disturbed(daemon, attempt.begun)
            }
            Op::Prove { daemon, code } => {
                let it = &world.daemons[daemon];
                // Here a daemon's own trouble is no excuse: to see it is what a proof is for.
                let kind = &world.topology.kinds[world.topology.daemons[daemon].kind];
                let reports = !kind.reports || it.trouble != Some(Trouble::Silent);
                it.code == code
                    && it.trouble != Some(Trouble::OtherCode)
                    && world.serves(daemon, self.now)
                    && reports
            }
        }
    }

    /// The answer of an attempt goes to its process.
    pub(crate) fn end_attempt(&mut self, slot: usize, outcome: Outcome) {
        if outcome.is_success() {
            if self.is_true(slot) {
                let id = self.attempts[slot].id.clone();
                self.monitor.achieved(&id);
            } else {
                let text = format!("{:?} reports success", self.attempts[slot].op);
                self.monitor.violate(self.now, "untrue-outcome", text);
            }
        }
        let fate = self.attempts[slot].fate;
        let outcome = match fate {
            Fate::Lost => Outcome::Unknown { why: "the answer was lost".to_owned() },
            Fate::Hang => {
                let at = self.attempts[slot].deadline + GRACE_MS;
                if self.now < at {
                    let generation = self.attempts[slot].generation;
                    self.attempts[slot].stage = u8::MAX;
                    return self.at(at, Happening::Attempt(slot, generation));
                }
                Outcome::Unknown { why: "it did not end".to_owned() }
            }
            _ => outcome,
        };
        self.answer(slot, outcome, fate == Fate::Duplicate);
    }
}

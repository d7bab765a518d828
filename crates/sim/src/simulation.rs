//! One run in virtual time: the cloud, the store, one or two Volutus processes, users, an
//! operator, and what befalls them. Whatever happens next is the earliest thing in one queue, so
//! a seed gives the same run every time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use volutus_engine::Command;
use volutus_model::name::RunId;
use volutus_model::outcome::Outcome;
use volutus_model::run::RunStatus;
use volutus_model::{OnFailure, Policy};

use crate::driver::{Attempt, Next};
use crate::fault::{Faults, Mishap};
use crate::monitor::Monitor;
use crate::mutant::Mutant;
use crate::prepared::Prepared;
use crate::process::Process;
use crate::rng::Rng;
use crate::store::Store;
use crate::topology::Code;
use crate::world::{By, Trouble, WorkEnd, World};

/// Between two rounds of users' requests.
const USERS_MS: u64 = 2_000;
/// After so much virtual time a run that has not ended never will: the longest time-outs of a
/// plan (a schema command's) fit in many times over.
const HORIZON_MS: u64 = 72 * 3_600_000;
/// After so many happenings as well.
const HAPPENINGS_MAX: u64 = 20_000_000;

/// A lease whose holder's clock was ahead is not free before that time has come; operators try for
/// longer than clocks jump here.
pub(crate) const START_TRIES: u32 = 3_600;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// An attempt begins, or looks on: slot and generation.
    Attempt(usize, u32),
    /// A remote work goes on.
    Work(usize),
    /// A process's append is durable.
    Durable(usize),
    /// A process asks the store for commands.
    Obey(usize),
    /// A process renews its lease.
    Renew(usize),
    /// A process that stood still goes on.
    Wake(usize),
    /// A Volutus wants to start on that machine, with so many tries left.
    Start(usize, u32),
    /// The operator looks at a run that does not go on.
    Operator,
    /// A command of the operator's script.
    Scripted(usize),
    /// A mishap of the list.
    Mishap(usize),
    /// A host is back.
    HostBack(usize, bool),
    /// A daemon's process dies: daemon and incarnation.
    Dies(usize, u32),
    /// Its init system starts it again.
    Restarts(usize, u32),
    /// Users send requests.
    Users,
    /// An instance was built.
    Built(usize),
    /// A rolled cloud was watched for as long as the policy wants.
    FinalizeDue(usize),
}

/// How an operator of a simulated run behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Temper {
    /// Chances of what is done about a halted run; it is left as it is otherwise.
    pub resume: f64,
    pub abort: f64,
    /// Whether the cause is mended before a resumption.
    pub mend: f64,
    pub finalize: f64,
    pub roll_back: f64,
    pub resumes_max: u32,
    /// Chance of a command that comes after the end.
    pub late_command: f64,
}

/// What a run is made with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub seed: u64,
    pub faults: Faults,
    pub mishaps: Vec<(u64, Mishap)>,
    /// Which of the points at which Volutus can be ended it is ended at.
    pub crash_points: Vec<u64>,
    pub script: Vec<(u64, Command)>,
    pub temper: Temper,
    pub mutant: Option<Mutant>,
    pub trace: bool,
    /// Appends take time, and leases are renewed.
    pub fine: bool,
    /// The operator says `finalize` as soon as it can be said.
    pub finalizes_at_once: bool,
}

impl Config {
    /// Whether a process may ever have to load the journal.
    pub fn keeps_journal(&self, policy: &Policy) -> bool {
        // The way back is planned from the journal.
        let rolls_back = policy.on_failure == OnFailure::RollBack
            || policy.on_failure_in.values().any(|on_failure| *on_failure == OnFailure::RollBack);
        self.fine
            || rolls_back
            || !self.crash_points.is_empty()
            || self.mishaps.iter().any(|(_, mishap)| *mishap == Mishap::Crash)
    }
}

/// One entry of a trace.
pub(crate) type Trace = Vec<(u64, String)>;

/// See the module.
pub(crate) struct Simulation<'c> {
    pub config: &'c Config,
    pub prepared: Arc<Prepared>,
    pub run: RunId,
    pub now: u64,
    pub began: u64,
    pub world: World,
    pub store: Store,
    pub monitor: Monitor,
    pub processes: Vec<Process>,
    pub attempts: Vec<Attempt>,
    pub free: Vec<usize>,
    /// Durations and faults.
    pub luck: Rng,
    /// The operator's mind.
    pub mind: Rng,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    order: u64,
    /// Points at which Volutus could have been ended so far.
    pub points: u64,
    /// Requests of users that failed since the run was resumed last, and in all.
    pub failed_requests: u64,
    pub failed_in_all: u64,
    pub requests: u64,
    /// How far the clock of each machine is off, in milliseconds.
    pub clocks: [i64; 2],
    resumes: u32,
    pub finished: bool,
    /// Starts of a process that are on their way.
    pub starting: u32,
    pub trace: Trace,
    pub stages: Vec<(u64, u64)>,
    pub rolled_at: Option<u64>,
    pub ended_at: u64,
    /// Faults by name, with how often each came.
    pub fired: Vec<(&'static str, u32)>,
}

impl<'c> Simulation<'c> {
    pub fn new(prepared: Arc<Prepared>, config: &'c Config) -> Self {
        let world = prepared.world.clone();
        Self::with_world(prepared, config, world)
    }

    fn with_world(prepared: Arc<Prepared>, config: &'c Config, world: World) -> Self {
        Self {
            run: RunId::new("sim").expect("a constant that is a name"),
            now: 0,
            began: 0,
            world,
            store: Store::default(),
            monitor: Monitor::new(Arc::clone(&prepared)),
            processes: Vec::new(),
            attempts: Vec::new(),
            free: Vec::new(),
            luck: Rng::new(config.seed, 1),
            mind: Rng::new(config.seed, 2),
            queue: BinaryHeap::new(),
            order: 0,
            points: 0,
            failed_requests: 0,
            failed_in_all: 0,
            requests: 0,
            clocks: [0, 0],
            resumes: 0,
            finished: false,
            starting: 0,
            trace: Vec::new(),
            stages: vec![(0, 0); prepared.plan.stages.len()],
            rolled_at: None,
            ended_at: 0,
            fired: Vec::new(),
            prepared,
            config,
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }

    pub fn at(&mut self, time: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((time.max(self.now), self.order, happening)));
    }

    /// Notes a line of the trace, where one is wanted.
    pub fn say(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.config.trace {
            let line = line(self);
            self.trace.push((self.now, line));
        }
    }

    /// A fault that a run may halt at.
    pub fn fault(&mut self, what: &'static str) {
        self.monitor.excuses += 1;
        self.count(what);
    }

    /// Something that goes wrong and must not matter.
    pub fn count(&mut self, what: &'static str) {
        match self.fired.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += 1,
            None => self.fired.push((what, 1)),
        }
        self.say(|_| format!("fault: {what}"));
    }

    /// The cloud as this run left it, for the run that takes it back. Mishaps and an operator's
    /// script are over; what happens by itself goes on.
    pub fn back<'n>(self, prepared: Arc<Prepared>, config: &'n Config) -> Simulation<'n> {
        let mut next = Simulation::with_world(prepared, config, self.world);
        next.run = RunId::new("sim-back").expect("a constant that is a name");
        next.now = self.now;
        next.began = self.now;
        next.order = self.order;
        next.queue = self.queue;
        next.queue.retain(|Reverse((_, _, happening))| {
            matches!(
                happening,
                Happening::Work(_)
                    | Happening::HostBack(..)
                    | Happening::Dies(..)
                    | Happening::Restarts(..)
                    | Happening::Built(_)
            )
        });
        next.luck = self.luck;
        next.mind = self.mind;
        next.clocks = self.clocks;
        next.trace = self.trace;
        next.fired = self.fired;
        next.requests = self.requests;
        next.failed_in_all = self.failed_in_all;
        next.monitor.take_over(self.monitor);
        next.world.touched = true;
        next
    }

    /// Lets time pass until every host answers, for an hour at the most.
    pub fn settle(&mut self) {
        let end = self.now + 3_600_000;
        while self.world.hosts.iter().any(|host| host.down || host.unreachable)
            && let Some(Reverse((time, _, happening))) = self.queue.pop()
        {
            if time > end {
                break;
            }
            self.now = time;
            let alone = matches!(
                happening,
                Happening::Work(_)
                    | Happening::HostBack(..)
                    | Happening::Dies(..)
                    | Happening::Restarts(..)
                    | Happening::Built(_)
                    | Happening::Users
            );
            if alone {
                self.happen(happening);
            }
        }
        // Whatever was just started has come up by the time somebody has looked at everything.
        self.now += 60_000;
    }

    /// Carries the run out to where nobody does anything about it any more.
    pub fn carry_out(&mut self) {
        self.start_soon(0, 0);
        self.at(0, Happening::Users);
        for i in 0..self.config.mishaps.len() {
            self.at(self.config.mishaps[i].0, Happening::Mishap(i));
        }
        for i in 0..self.config.script.len() {
            self.at(self.config.script[i].0, Happening::Scripted(i));
        }
        let mut count = 0;
        while let Some(Reverse((time, _, happening))) = self.queue.pop() {
            self.now = time;
            count += 1;
            if self.now > self.began + HORIZON_MS || count > HAPPENINGS_MAX {
                self.monitor.violate(self.now, "does-not-end", "the run has no end");
                break;
            }
            self.happen(happening);
            if self.world.touched {
                self.world.touched = false;
                self.monitor.check_budget(&self.world, self.now);
            }
            if self.finished && self.starting == 0 && !self.processes.iter().any(|process| process.alive) {
                break;
            }
            if self.config.mutant.is_some() && !self.monitor.violations.is_empty() {
                break;
            }
        }
        if self.config.mutant.is_none() || self.monitor.violations.is_empty() {
            self.check_end();
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Attempt(slot, generation) => self.attempt(slot, generation),
            Happening::Work(work) => self.work(work),
            Happening::Durable(process) => self.durable(process),
            Happening::Obey(process) => self.obey(process),
            Happening::Renew(process) => self.renew(process),
            Happening::Wake(process) => self.wake(process),
            Happening::Start(home, tries) => self.start(home, tries),
            Happening::Operator => self.operator(),
            Happening::Scripted(i) => {
                let command = self.config.script[i].1;
                self.command(command);
            }
            Happening::Mishap(i) => self.mishap(self.config.mishaps[i].1),
            Happening::HostBack(host, reverted) => self.host_back(host, reverted),
            Happening::Dies(daemon, incarnation) => self.dies(daemon, incarnation),
            Happening::Restarts(daemon, incarnation) => {
                let host = self.world.topology.daemons[daemon].host;
                let it = &self.world.daemons[daemon];
                if it.incarnation == incarnation && !it.up && !self.world.hosts[host].down {
                    self.start_daemon(daemon, false);
                }
            }
            Happening::Users => self.users(),
            Happening::FinalizeDue(process) => self.finalize_due(process),
            Happening::Built(compute) => {
                let it = &mut self.world.daemons[compute];
                it.builds = it.builds.saturating_sub(1);
            }
        }
    }

    fn attempt(&mut self, slot: usize, generation: u32) {
        let attempt = &self.attempts[slot];
        if !attempt.live || attempt.generation != generation {
            return;
        }
        let process = &self.processes[attempt.process];
        if process.stalled_until > self.now {
            let until = process.stalled_until;
            return self.at(until, Happening::Attempt(slot, generation));
        }
        if self.config.fine && !self.is(Mutant::StaleGoesOn) && process.may_have_lost(self.now) {
            let outcome = Outcome::Unknown { why: "the lease may have been lost".to_owned() };
            return self.answer(slot, outcome, false);
        }
        let next = match attempt.stage {
            0 => self.begin_attempt(slot),
            u8::MAX => Next::End(Outcome::Unknown { why: String::new() }),
            _ => self.go_on(slot),
        };
        match next {
            Next::Wait(time) => self.at(time.max(self.now + 1), Happening::Attempt(slot, generation)),
            Next::End(outcome) => self.end_attempt(slot, outcome),
        }
    }

    /// Starts a daemon's process from its link; says whether it lets itself be started. What
    /// Volutus starts may come up wrong.
    pub fn start_daemon(&mut self, daemon: usize, by_volutus: bool) -> bool {
        let link = self.world.daemons[daemon].link;
        if !self.world.may_start(daemon, link) {
            return false;
        }
        let faults = self.config.faults;
        let trouble = by_volutus && self.luck.chance(faults.start);
        let slow = by_volutus && self.luck.chance(faults.slow_start);
        let dies = by_volutus && self.luck.chance(faults.dies);
        let start_ms = if slow {
            self.fault("a daemon starts slowly");
            self.luck.between(60_000, 400_000)
        } else {
            self.luck.between(1_500, 4_500)
        };
        let report_ms = self.luck.between(1_000, 10_000);
        let kind = &self.world.topology.kinds[self.world.topology.daemons[daemon].kind];
        let versioned = kind.versioned_record;
        let it = &mut self.world.daemons[daemon];
        it.up = true;
        it.incarnation += 1;
        it.code = link;
        it.serves_at = self.now + start_ms;
        it.reports_at = it.serves_at + report_ms;
        it.by_fault = !by_volutus;
        if versioned {
            it.record = link;
        }
        let incarnation = it.incarnation;
        if !by_volutus {
            it.disturbed_at = Some(self.now);
        }
        if trouble {
            self.come_up_wrong(daemon, link);
        }
        if dies {
            let after = self.luck.between(5_000, 600_000);
            self.at(self.now + start_ms + after, Happening::Dies(daemon, incarnation));
        }
        self.world.touched = true;
        true
    }

    fn come_up_wrong(&mut self, daemon: usize, link: Code) {
        let incarnation = self.world.daemons[daemon].incarnation;
        match self.luck.below(5) {
            0 => {
                self.fault("a daemon is active and serves nothing");
                self.world.daemons[daemon].trouble = Some(Trouble::NeverServes);
            }
            1 => {
                self.fault("a daemon passes checks and fails requests");
                self.world.daemons[daemon].trouble = Some(Trouble::Lies);
            }
            2 => {
                self.fault("a daemon loads other code than its link says");
                let other = if link == Code::New { Code::Old } else { Code::New };
                let it = &mut self.world.daemons[daemon];
                it.trouble = Some(Trouble::OtherCode);
                it.code = other;
            }
            3 => {
                self.fault("a daemon's reports do not advance");
                self.world.daemons[daemon].trouble = Some(Trouble::Silent);
            }
            _ => {
                let after = self.luck.between(500, 8_000);
                self.at(self.now + after, Happening::Dies(daemon, incarnation));
            }
        }
    }

    fn dies(&mut self, daemon: usize, incarnation: u32) {
        let it = &mut self.world.daemons[daemon];
        if it.incarnation != incarnation || !it.up {
            return;
        }
        it.stop(self.now, true);
        it.disturbed_at = Some(self.now);
        let incarnation = it.incarnation;
        self.fault("a daemon dies");
        self.world.touched = true;
        let after = self.luck.between(500, 4_000);
        self.at(self.now + after, Happening::Restarts(daemon, incarnation));
    }

    fn mishap(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Partition { host, ms } => {
                self.fault("a host does not answer");
                self.world.hosts[host].unreachable = true;
                self.at(self.now + ms, Happening::HostBack(host, false));
            }
            Mishap::Outage { host, ms } => self.outage(host, ms, false),
            Mishap::Reverted { host, ms } => self.outage(host, ms, true),
            Mishap::PersonDisables { compute } => {
                self.fault("somebody disables a compute");
                self.world.daemons[compute].disabled = Some(By::Person);
            }
            Mishap::PersonDrains { backend, seat } => {
                // Nobody takes the last server out.
                let others = (0..self.world.seats[backend].len())
                    .filter(|other| *other != seat && self.world.in_rotation(backend, *other, self.now));
                if others.count() > 0 {
                    self.fault("somebody takes a server out");
                    self.world.seats[backend][seat] = Some(By::Person);
                    self.world.touched = true;
                }
            }
            Mishap::Stall { ms } => {
                if let Some(at) = self.processes.iter().position(|process| process.alive) {
                    self.count("Volutus stands still");
                    self.processes[at].stalled_until = self.now + ms;
                    self.at(self.now + ms, Happening::Wake(at));
                }
            }
            Mishap::Clock { home, ms } => {
                self.count("a clock jumps");
                self.clocks[home] += ms;
            }
            Mishap::Rival => self.start_soon(1, 0),
            Mishap::Crash => {
                if let Some(at) = self.processes.iter().position(|process| process.alive) {
                    self.crash(at);
                }
            }
        }
    }

    fn outage(&mut self, host: usize, ms: u64, reverted: bool) {
        if self.world.hosts[host].down {
            return;
        }
        self.fault(if reverted { "a host comes back different" } else { "a host goes down" });
        self.world.hosts[host].down = true;
        let topology = Arc::clone(&self.world.topology);
        for &daemon in &topology.host_daemons[host] {
            let it = &mut self.world.daemons[daemon];
            it.stop(self.now, true);
            it.disturbed_at = Some(self.now);
            it.work = None;
            it.builds = 0;
        }
        for work in &mut self.world.works {
            if work.host == host && matches!(work.end, WorkEnd::Running) {
                work.end = WorkEnd::Lost;
                self.monitor.effect_lost(&work.attempt);
            } else if work.host == host {
                // Results of ended work are kept in memory as well.
                work.end = WorkEnd::Lost;
                self.monitor.effect_lost(&work.attempt);
            }
        }
        for schema in &mut self.world.schemas {
            if schema.work.is_some_and(|work| self.world.works[work].host == host) {
                schema.work = None;
            }
        }
        self.world.touched = true;
        self.at(self.now + ms, Happening::HostBack(host, reverted));
    }

    fn host_back(&mut self, host: usize, reverted: bool) {
        self.world.hosts[host].unreachable = false;
        if !self.world.hosts[host].down {
            return;
        }
        self.world.hosts[host].down = false;
        let topology = Arc::clone(&self.world.topology);
        for &daemon in &topology.host_daemons[host] {
            if reverted && self.world.daemons[daemon].link == Code::New {
                let it = &mut self.world.daemons[daemon];
                it.link = Code::Old;
                it.reverted = true;
            }
            self.start_daemon(daemon, false);
        }
        self.world.touched = true;
    }

    fn users(&mut self) {
        self.at(self.now + USERS_MS, Happening::Users);
        let topology = Arc::clone(&self.world.topology);
        for (backend, facts) in topology.backends.iter().enumerate() {
            let count = facts.servers.len();
            let first = self.luck.index(count);
            let chosen = (0..count)
                .map(|i| (first + i) % count)
                .find(|seat| self.world.in_rotation(backend, *seat, self.now))
                .map(|seat| facts.servers[seat].0);
            self.requests += 1;
            if !chosen.is_some_and(|daemon| self.world.serves(daemon, self.now)) {
                self.monitor.request_failed(&self.world, self.now, backend, chosen);
                self.failed_requests += 1;
                self.failed_in_all += 1;
            }
        }
        if self.failed_requests >= u64::from(self.prepared.plan.policy.failed_requests_max.max(1)) {
            self.breach();
        }
        if !topology.computes.is_empty() {
            let compute = topology.computes[self.luck.index(topology.computes.len())];
            if self.world.daemons[compute].disabled.is_none() && self.world.serves(compute, self.now) {
                self.world.daemons[compute].builds += 1;
                let ms = self.luck.between(4_000, 15_000);
                self.at(self.now + ms, Happening::Built(compute));
            }
        }
    }

    /// What the operator does about a run that does not go on.
    fn operator(&mut self) {
        if self.processes.iter().any(|process| process.alive) || self.starting > 0 {
            return;
        }
        let temper = self.config.temper;
        match self.monitor.status {
            None | Some(RunStatus::Running | RunStatus::Aborting) => self.start_soon(0, 0),
            Some(RunStatus::Halted | RunStatus::Paused) => {
                let halted = self.monitor.status == Some(RunStatus::Halted);
                let resume = if halted { temper.resume } else { temper.resume.max(0.8) };
                if self.resumes < temper.resumes_max && self.mind.chance(resume) {
                    self.resumes += 1;
                    if self.mind.chance(temper.mend) {
                        self.mend();
                    }
                    self.command(Command::Resume);
                } else if self.mind.chance(temper.roll_back) {
                    self.command(Command::RollBack);
                    // Where the way back is closed, the run is given up.
                    self.command(Command::Abort);
                } else if self.mind.chance(temper.abort) {
                    self.command(Command::Abort);
                } else {
                    self.finished = true;
                }
            }
            Some(RunStatus::AwaitingFinalize) => {
                if self.mind.chance(temper.finalize) {
                    self.command(Command::Finalize);
                } else if self.mind.chance(temper.roll_back) {
                    self.command(Command::RollBack);
                    self.command(Command::Abort);
                } else if self.mind.chance(temper.abort) {
                    self.command(Command::Abort);
                } else {
                    self.finished = true;
                }
            }
            Some(RunStatus::Aborted | RunStatus::Succeeded) => {
                self.finished = true;
                if self.mind.chance(temper.late_command) {
                    let all = [
                        Command::Pause,
                        Command::Resume,
                        Command::Abort,
                        Command::Finalize,
                        Command::RollBack,
                    ];
                    let command = all[self.mind.index(all.len())];
                    self.command(command);
                }
            }
        }
    }

    /// Somebody puts right what is wrong with the cloud.
    fn mend(&mut self) {
        self.say(|_| "the operator mends what is broken".to_owned());
        for daemon in 0..self.world.daemons.len() {
            let down = self.world.hosts[self.world.topology.daemons[daemon].host].down;
            let it = &mut self.world.daemons[daemon];
            if it.trouble.is_some() || !it.up && it.work.is_none() && !down {
                it.stop(self.now, true);
                it.trouble = None;
                self.start_daemon(daemon, false);
            }
        }
    }

    /// The operator says something: to the process that works, or with a new one.
    pub fn command(&mut self, command: Command) {
        self.say(|_| format!("the operator says {command}"));
        if command == Command::Finalize {
            self.monitor.finalize_asked = true;
        }
        self.store.commands.push_back(command);
        match self.processes.iter().position(|process| process.alive) {
            Some(process) => {
                let after = self.mind.between(0, 500);
                self.at(self.now + after, Happening::Obey(process));
            }
            None => self.start_soon(0, 0),
        }
    }

    /// A process starts on that machine.
    pub fn start_soon(&mut self, home: usize, after_ms: u64) {
        self.starting += 1;
        self.at(self.now + after_ms, Happening::Start(home, START_TRIES));
    }
}

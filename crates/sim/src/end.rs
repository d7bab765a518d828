//! What must hold where a run has come to its end, or rests with nobody doing anything about it.

use std::sync::Arc;

use volutus_engine::{Command, Input, Machine};
use volutus_model::run::RunStatus;

use crate::simulation::Simulation;
use crate::topology::{Code, Op, holds};
use crate::world::By;

impl Simulation<'_> {
    pub(crate) fn check_end(&mut self) {
        let now = self.now;
        match self.monitor.status {
            None | Some(RunStatus::Running | RunStatus::Aborting) => {
                let text = format!("nobody works on it, and it is {:?}", self.monitor.status);
                self.monitor.violate(now, "does-not-end", text);
                return;
            }
            Some(RunStatus::Halted | RunStatus::Paused) => self.check_choices(),
            Some(RunStatus::AwaitingFinalize | RunStatus::Succeeded) => self.check_complete(),
            Some(RunStatus::Aborted) => {}
        }
        self.check_given_back();
    }

    /// A run that halted tells why, and can be resumed as well as given up.
    fn check_choices(&mut self) {
        if self.monitor.status == Some(RunStatus::Halted)
            && self.monitor.halt_cause.as_ref().is_none_or(String::is_empty)
        {
            self.monitor.violate(self.now, "halt-without-cause", "the journal does not say why");
        }
        if !self.config.keeps_journal(&self.prepared.plan.policy) {
            return;
        }
        for command in [Command::Resume, Command::Abort] {
            let index = Arc::clone(&self.prepared.index);
            let machine = Machine::load(self.run.clone(), index, &self.store.journal);
            let at = self.store.journal.last().map_or(jiff::Timestamp::UNIX_EPOCH, |entry| entry.at);
            let result = machine.and_then(|mut machine| machine.step(Input::Command(command), at));
            if let Err(error) = result {
                let text = format!("{command} is no choice: {error}");
                self.monitor.violate(self.now, "no-choice", text);
            }
        }
    }

    fn check_complete(&mut self) {
        // Whatever was just started may come up meanwhile.
        let later = self.now + 600_000;
        let target = self.prepared.target;
        for daemon in 0..self.world.daemons.len() {
            let name = &self.world.topology.daemons[daemon].name;
            let excused = self.world.is_excused(daemon);
            if !self.world.runs(daemon, target) && !excused {
                self.monitor.violate(self.now, "incomplete", format!("{name} does not run {target:?} code"));
            } else if !self.world.serves(daemon, later) && !excused {
                self.monitor.violate(self.now, "incomplete", format!("{name} does not serve"));
            }
        }
        if target == Code::Old && self.world.anchors.contains(&true) {
            self.monitor.violate(self.now, "not-given-back", "an anchor is left after the way back");
        }
        if let Some(attempt) = self.world.canaries.keys().next() {
            self.monitor.violate(self.now, "not-given-back", format!("the canary of {attempt} is left"));
        }
    }

    /// What Volutus holds is held by a step that failed and can be tried again, or the end of the
    /// journal names it.
    fn check_given_back(&mut self) {
        let topology = Arc::clone(&self.world.topology);
        for (backend, facts) in topology.backends.iter().enumerate() {
            for (seat, (_, server)) in facts.servers.iter().enumerate() {
                if self.world.seats[backend][seat] != Some(By::Volutus) {
                    continue;
                }
                let name = format!("{}/{server}", facts.name);
                let held = |op: Op| match op {
                    Op::Drain { backend: b, seat: s, .. } => (b, s) == (backend, seat),
                    Op::Exchange { backend: b, leave, .. } => b == backend && holds(leave, seat),
                    _ => false,
                };
                self.check_held(&name, held);
            }
        }
        for (daemon, facts) in topology.daemons.iter().enumerate() {
            if self.world.shadows[daemon] {
                let held = |op: Op| matches!(op, Op::Shadow { daemon: of } if of == daemon);
                self.check_held(&format!("the shadow of {}", facts.name), held);
            }
        }
        for &compute in &topology.computes {
            if self.world.daemons[compute].disabled == Some(By::Volutus) {
                let name = topology.hosts[topology.daemons[compute].host].clone();
                let held = |op: Op| matches!(op, Op::Disable { daemon } if daemon == compute);
                self.check_held(&name, held);
            }
        }
    }

    fn check_held(&mut self, name: &str, held: impl Fn(Op) -> bool) {
        let accounted = match self.monitor.status {
            Some(RunStatus::Aborted) => self.monitor.left.iter().any(|line| line.contains(name)),
            Some(RunStatus::Halted | RunStatus::Paused) => self
                .monitor
                .failed
                .iter()
                .any(|step| self.prepared.ops[*step].actions.iter().any(|timed| held(timed.op))),
            _ => false,
        };
        if !accounted {
            let text = format!("{name} is still out, and the run is {:?}", self.monitor.status);
            self.monitor.violate(self.now, "not-given-back", text);
        }
    }
}

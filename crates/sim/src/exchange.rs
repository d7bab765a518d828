//! Exchanges of an API's replicas in the simulated cloud, and what an abort makes of one.

use volutus_model::event::ActionList;

use crate::driver::{LOOK_MS, Next, done, permanent, transient, unchanged};
use crate::mutant::Mutant;
use crate::simulation::Simulation;
use crate::topology::{Code, holds};
use crate::world::By;

impl Simulation<'_> {
    /// Servers take over from others at once; `enter` and `leave` have one bit per server.
    pub(crate) fn exchange(&mut self, slot: usize, backend: usize, enter: u64, leave: u64) -> Next {
        let servers = self.world.topology.backends[backend].servers.len();
        let of = |bits: u64| (0..servers).filter(move |seat| holds(bits, *seat));
        if self.attempts[slot].stage == 1 {
            if of(enter | leave).any(|seat| self.world.seats[backend][seat] == Some(By::Person)) {
                return permanent("one of them is out, and not by Volutus");
            }
            let daemon = |seat: usize| self.world.topology.backends[backend].servers[seat].0;
            if of(enter).any(|seat| !self.world.checks_up(daemon(seat), self.now)) {
                if self.now >= self.attempts[slot].deadline {
                    return transient("what is to take over is not well");
                }
                return Next::Wait(self.now + LOOK_MS);
            }
            for seat in of(enter) {
                self.put_in(slot, backend, seat);
            }
            for seat in of(leave) {
                if self.world.seats[backend][seat].is_none() {
                    self.world.seats[backend][seat] = Some(By::Volutus);
                    self.attempts[slot].changed = true;
                }
            }
            self.world.touched = true;
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.slowed(slot, nominal));
        }
        if self.attempts[slot].changed { done() } else { unchanged() }
    }

    fn put_in(&mut self, slot: usize, backend: usize, seat: usize) {
        if self.world.seats[backend][seat] != Some(By::Volutus) {
            return;
        }
        let daemon = self.world.topology.backends[backend].servers[seat].0;
        let list = self.attempts[slot].list;
        self.monitor.undrains(&self.world, self.now, backend, seat, list);
        if list == ActionList::GiveBack && self.world.daemons[daemon].needs_proof {
            self.count("an abort gives an unproved replica back");
            self.world.daemons[daemon].given_back = true;
        }
        self.world.seats[backend][seat] = None;
        self.attempts[slot].changed = true;
    }

    /// Whatever runs the same release as what gets requests is put in; the rest stays out.
    pub(crate) fn settle_replicas(&mut self, slot: usize, backend: usize) -> Next {
        if self.attempts[slot].stage == 1 {
            let servers = self.world.topology.backends[backend].servers.len();
            let target = self.prepared.target;
            let code = |world: &crate::world::World, seat: usize| {
                world.daemons[world.topology.backends[backend].servers[seat].0].link
            };
            let is_in = |code_of: Code| {
                (0..servers).any(|seat| {
                    self.world.seats[backend][seat].is_none() && code(&self.world, seat) == code_of
                })
            };
            let other = if target == Code::New { Code::Old } else { Code::New };
            let any_other = (0..servers).any(|seat| {
                self.world.seats[backend][seat] == Some(By::Volutus) && code(&self.world, seat) == other
            });
            let side = if is_in(target) || (!is_in(other) && !any_other) { target } else { other };
            for seat in 0..servers {
                let of_side = code(&self.world, seat) == side || self.is(Mutant::SettlesBlindly);
                if of_side {
                    self.put_in(slot, backend, seat);
                } else if self.world.seats[backend][seat].is_none() {
                    self.world.seats[backend][seat] = Some(By::Volutus);
                    self.attempts[slot].changed = true;
                }
            }
            self.world.touched = true;
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.luck.around(nominal));
        }
        let facts = &self.world.topology.backends[backend];
        let stays = facts.servers.iter().enumerate();
        let stays: Vec<String> = stays
            .filter(|(seat, _)| self.world.seats[backend][*seat] == Some(By::Volutus))
            .map(|(_, (_, server))| format!("{}/{server}", facts.name))
            .collect();
        if !stays.is_empty() {
            return permanent(&format!("{} stay out: others serve another release", stays.join(", ")));
        }
        if self.attempts[slot].changed { done() } else { unchanged() }
    }
}

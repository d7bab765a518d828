//! Drains and disables in the simulated cloud, and giving them back.

use volutus_model::event::ActionList;

use crate::driver::{LOOK_MS, Next, done, permanent, transient, unchanged};
use crate::mutant::Mutant;
use crate::simulation::Simulation;
use crate::world::By;

/// How long other servers may take to come up before a drain is put off, as in the real driver.
const OTHERS_UP_WAIT_MS: u64 = 30_000;

impl Simulation<'_> {
    pub(crate) fn drain(
        &mut self,
        slot: usize,
        daemon: usize,
        backend: usize,
        seat: usize,
        others_min: u32,
    ) -> Next {
        if self.attempts[slot].stage == 1 {
            match self.world.seats[backend][seat] {
                Some(By::Person) if !self.is(Mutant::DrainsPersons) => {
                    return permanent("it is out, and not by Volutus");
                }
                Some(_) => {}
                None => {
                    let servers = self.world.topology.backends[backend].servers.len();
                    let others = (0..servers)
                        .filter(|other| *other != seat && self.world.in_rotation(backend, *other, self.now))
                        .count();
                    if others < others_min as usize && !self.is(Mutant::DrainUnguarded) {
                        if self.now >= self.attempts[slot].begun + OTHERS_UP_WAIT_MS {
                            return transient("too few other servers are up");
                        }
                        return Next::Wait(self.now + LOOK_MS / 2);
                    }
                    self.attempts[slot].changed = true;
                    self.monitor.drains(&self.world, self.now, backend, seat);
                }
            }
            self.world.seats[backend][seat] = Some(By::Volutus);
            self.world.touched = true;
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            let stuck = self.luck.chance(self.config.faults.sessions);
            let ms = if stuck {
                self.fault("sessions do not end");
                self.attempts[slot].timeout_ms * 2
            } else {
                self.slowed(slot, nominal)
            };
            self.attempts[slot].aux = self.now + ms;
            return Next::Wait((self.now + ms).min(self.attempts[slot].deadline));
        }
        if self.now < self.attempts[slot].aux {
            // Nothing has been done to the daemon yet: a halted run must not leave it out.
            if self.world.seats[backend][seat] == Some(By::Volutus) && !self.world.daemons[daemon].needs_proof
            {
                self.world.seats[backend][seat] = None;
            }
            return permanent("sessions are still open; it was given back");
        }
        if self.attempts[slot].changed { done() } else { unchanged() }
    }

    pub(crate) fn undrain(&mut self, slot: usize, daemon: usize, backend: usize, seat: usize) -> Next {
        if self.attempts[slot].stage == 1 {
            match self.world.seats[backend][seat] {
                Some(By::Person) if !self.is(Mutant::DrainsPersons) => {
                    return permanent("it is out, and not by Volutus");
                }
                Some(by) => {
                    if by == By::Person {
                        self.monitor.violate(self.now, "took-a-persons", "a person's drain is ended");
                    }
                    let list = self.attempts[slot].list;
                    self.monitor.undrains(&self.world, self.now, backend, seat, list);
                    // The real driver leaves it to the load balancer's check whether an unproved
                    // replica gets requests; until that notices, users may meet it.
                    if list == ActionList::GiveBack && self.world.daemons[daemon].needs_proof {
                        self.count("an abort gives an unproved replica back");
                        self.world.daemons[daemon].given_back = true;
                    }
                    self.world.seats[backend][seat] = None;
                    self.world.touched = true;
                    self.attempts[slot].changed = true;
                }
                None => {}
            }
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.luck.around(nominal));
        }
        if self.world.checks_up(daemon, self.now) {
            return if self.attempts[slot].changed { done() } else { unchanged() };
        }
        if self.now >= self.attempts[slot].deadline {
            return permanent("it does not come up at the load balancer");
        }
        Next::Wait(self.now + 2 * LOOK_MS)
    }

    pub(crate) fn disable(&mut self, slot: usize, daemon: usize) -> Next {
        if self.attempts[slot].stage == 1 {
            if self.world.daemons[daemon].disabled.is_none() {
                self.world.daemons[daemon].disabled = Some(By::Volutus);
                self.attempts[slot].changed = true;
            }
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.slowed(slot, nominal));
        }
        if self.world.daemons[daemon].builds == 0 {
            return if self.attempts[slot].changed { done() } else { unchanged() };
        }
        if self.now >= self.attempts[slot].deadline {
            return permanent("the compute does not come to rest");
        }
        Next::Wait(self.now + LOOK_MS)
    }

    pub(crate) fn enable(&mut self, slot: usize, daemon: usize) -> Next {
        if self.attempts[slot].stage == 1 {
            match self.world.daemons[daemon].disabled {
                Some(By::Volutus) => {
                    self.world.daemons[daemon].disabled = None;
                    self.attempts[slot].changed = true;
                }
                Some(By::Person) if self.is(Mutant::EnablesAnyone) => {
                    self.monitor.violate(self.now, "took-a-persons", "a person's compute is enabled");
                    self.world.daemons[daemon].disabled = None;
                }
                Some(By::Person) | None => {}
            }
            self.attempts[slot].stage = 2;
            let nominal = self.attempts[slot].nominal_ms;
            return Next::Wait(self.now + self.slowed(slot, nominal));
        }
        if self.attempts[slot].changed { done() } else { unchanged() }
    }
}

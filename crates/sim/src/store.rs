//! The simulated store: one journal, one lease, commands that wait. It keeps the rules of the
//! real one (`volutus-store`): all events of an append or none, and nothing from a holder whose
//! epoch is no longer the current one.

use std::collections::VecDeque;

use jiff::Timestamp;
use volutus_engine::Command;
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::name::RunId;

/// How long a lease outlives its last renewal; the runtime's figure.
pub(crate) const LEASE_TTL_MS: i64 = 30_000;

/// The lease as the store has it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub epoch: u64,
    /// The process that holds it, or held it last.
    pub holder: usize,
    /// The machine that it runs on.
    pub home: usize,
    pub held: bool,
    /// When it was renewed last, by the clock of its holder, in milliseconds.
    pub heartbeat: i64,
}

/// The append was refused: somebody else holds the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub journal: Vec<JournalEntry>,
    pub lease: Option<Lease>,
    pub commands: VecDeque<Command>,
    /// Entries so far; the journal may be left out.
    pub next_seq: u64,
}

impl Store {
    pub fn acquire(&mut self, holder: usize, home: usize, now: i64, dead: bool) -> Option<u64> {
        if let Some(lease) = &self.lease {
            let run_out = now - lease.heartbeat > LEASE_TTL_MS;
            let known_dead = dead && lease.home == home;
            if lease.held && !run_out && !known_dead {
                return None;
            }
        }
        let epoch = self.lease.as_ref().map_or(1, |lease| lease.epoch + 1);
        self.lease = Some(Lease { epoch, holder, home, held: true, heartbeat: now });
        Some(epoch)
    }

    pub fn check(&self, epoch: u64) -> Result<(), Fenced> {
        match &self.lease {
            Some(lease) if lease.held && lease.epoch == epoch => Ok(()),
            _ => Err(Fenced),
        }
    }

    pub fn renew(&mut self, epoch: u64, now: i64) -> Result<(), Fenced> {
        self.check(epoch)?;
        if let Some(lease) = &mut self.lease {
            lease.heartbeat = now;
        }
        Ok(())
    }

    pub fn release(&mut self, epoch: u64) {
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.epoch == epoch) {
            lease.held = false;
        }
    }

    /// Appends without looking at the lease; see [`Store::check`].
    pub fn append(&mut self, run: &RunId, epoch: u64, at: Timestamp, events: &[Event]) {
        for event in events {
            self.journal.push(JournalEntry {
                format: 1,
                run: run.clone(),
                seq: self.next_seq,
                epoch,
                at,
                actor: Actor(String::new()),
                prev_hash: String::new(),
                event: event.clone(),
            });
            self.next_seq += 1;
        }
    }
}

//! Watching all guests of a lab for as long as something is done to it: pings from inside their
//! networks and from outside, and one connection to each that only a guest which never restarts
//! can keep.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::data_plane::{Guest, Pings, Row, guests, require_real};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::paths::{self, StateDir};
use crate::record::Record;

const PROGRAM: &str = "usr/local/lib/volutus-lab-hold.py";
/// Where nova keeps what instances need on a host.
const CONSOLES: &str = "var/lib/nova/instances";

/// What one connection that was held open has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Answers of the guest's echo.
    pub answers: u64,
    /// The longest time between two answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// Why the connection ended, if it did not hold, and when.
    pub broken: Option<String>,
    /// What the guest's console showed last, host by host, if the connection did not hold.
    #[serde(default)]
    pub console: Option<String>,
}

/// What was seen of one guest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watched {
    /// The instance, as it was when the watch began.
    pub guest: Guest,
    /// Pings from inside the tenant's network.
    pub inside: Pings,
    /// Pings through the outer network.
    pub outside: Pings,
    /// The connection from inside the tenant's network.
    pub held: Held,
}

impl Watched {
    /// Whether the guest has run without a restart: its connection held, and it answered.
    pub fn same_boot(&self) -> bool {
        self.held.broken.is_none() && self.held.answers > 0
    }
}

/// The table that people read.
pub fn table(seen: &[Watched]) -> String {
    let mut text = format!(
        "{:<16}{:>14}{:>14}{:>14}{:>14}{:>14}  {}\n",
        "GUEST", "INSIDE GAP", "LOST", "OUTSIDE GAP", "LOST", "TCP GAP", "SAME BOOT"
    );
    for watched in seen {
        let lost = |pings: &Pings| format!("{}/{}", pings.sent.saturating_sub(pings.answered), pings.sent);
        let boot =
            watched.held.broken.as_deref().unwrap_or(if watched.same_boot() { "yes" } else { "silent" });
        let _ = writeln!(
            text,
            "{:<16}{:>11} ms{:>14}{:>11} ms{:>14}{:>11} ms  {boot}",
            watched.guest.name,
            watched.inside.longest_gap_ms,
            lost(&watched.inside),
            watched.outside.longest_gap_ms,
            lost(&watched.outside),
            watched.held.longest_gap_ms,
        );
    }
    text
}

/// Watches every guest until `until` returns.
pub(crate) fn watch(state: &StateDir, record: &Record, until: impl FnOnce()) -> Result<Vec<Watched>> {
    require_real(record)?;
    // The infrastructure host is in every tenant's network and is never restarted.
    let infra = Machine { state, record, host: record.infra() };
    paths::write(&infra.root().join(PROGRAM), include_str!("../python/hold.py"), 0o644)?;
    let mut rows = Vec::new();
    for guest in guests(state, record)? {
        let inside = format!("ip netns exec {}", guest.canary);
        // Two tenants may use one and the same address, so nothing is named after it.
        let pings = Row::pings(infra, &format!("{}-inside", guest.uuid), &inside, &guest.inner)?;
        let outer = Row::pings(infra, &format!("{}-outside", guest.uuid), "", &guest.outer)?;
        let held = format!("{inside} python3 /{PROGRAM} {}", guest.inner);
        let held = Row::start(infra, &format!("hold-{}", guest.uuid), &held)?;
        rows.push((guest, pings, outer, held));
    }
    until();
    rows.into_iter()
        .map(|(guest, inside, outside, held)| {
            let text = held.stop()?;
            let mut held: Held = serde_json::from_str(&text)
                .map_err(|error| Error::Damaged { path: PROGRAM.into(), seen: format!("{error}: {text}") })?;
            if held.broken.is_some() {
                held.console = Some(consoles(state, record, &guest.uuid));
            }
            Ok(Watched { guest, inside: inside.stop_pings()?, outside: outside.stop_pings()?, held })
        })
        .collect()
}

/// The last lines of a guest's console on each host that has one.
fn consoles(state: &StateDir, record: &Record, uuid: &str) -> String {
    let mut text = String::new();
    for host in record.hosts.iter().filter(|host| host.runs_guests()) {
        let root = Machine { state, record, host }.root();
        let Ok(log) = std::fs::read(root.join(CONSOLES).join(uuid).join("console.log")) else { continue };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let _ = write!(text, "on {}:\n{}\n", host.name, lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(held: &str) -> Watched {
        let guest = Guest {
            uuid: "u".into(),
            name: "vm".into(),
            host: "cmp1".into(),
            inner: "1".into(),
            outer: "2".into(),
            canary: "canary-alpha".into(),
        };
        let pings = Pings { sent: 10, answered: 9, longest_gap_ms: 200, longest_gap_from: 0.0 };
        let held = serde_json::from_str(held).expect("valid");
        Watched { guest, inside: pings.clone(), outside: pings, held }
    }

    #[test]
    fn a_guest_has_not_restarted_only_if_its_connection_held_and_answered() {
        let held = watched(r#"{"answers": 40, "longest_gap_ms": 700, "broken": null}"#);
        assert!(held.same_boot());
        assert!(table(&[held]).contains("700 ms  yes"));
        let broken = watched(r#"{"answers": 40, "longest_gap_ms": 9, "broken": "reset by peer"}"#);
        assert!(!broken.same_boot());
        assert!(table(&[broken]).contains("reset by peer"));
        assert!(!watched(r#"{"answers": 0, "longest_gap_ms": 0, "broken": null}"#).same_boot());
    }
}

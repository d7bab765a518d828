//! Waiting until every daemon does its work, and helping those that do not.
//!
//! A unit that is active proves little: a daemon can hang at its start, alive and silent for ever.
//! What counts is what others see of it: HAProxy for the APIs, and for the rest the records that
//! nova and cinder keep of their daemons, which each daemon has to renew again and again.
//! neutron's RPC server and periodic workers keep no record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::command::wait_for;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::paths::StateDir;
use crate::progress::Progress;
use crate::record::Record;
use crate::topology::Role;

/// Starting all daemons takes a minute on two free cores. A machine that is shared with builds
/// can need several times that.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(600);
/// How long a daemon may be silent before it is started again: three times what the slowest
/// needs on two free cores. Doubled with every restart, because a machine on which all daemons
/// are slow is not helped by starting them anew.
const PATIENCE: Duration = Duration::from_secs(90);
/// After so many restarts a daemon does not hang by chance.
const RESTARTS_MAX: u32 = 3;
/// Daemons renew their record every ten seconds.
const FRESH_S: u32 = 25;
const PAUSE: Duration = Duration::from_secs(1);

/// A daemon that does not do its work, as far as others can see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Silent {
    host: String,
    kind: String,
}

impl std::fmt::Display for Silent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} on {}", self.kind, self.host)
    }
}

/// What somebody has seen of the daemons: those that are missed, of how many.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    silent: Vec<Silent>,
    expected: usize,
}

/// Waits until HAProxy sees every server of the given backends up; of all, if none is given.
/// Daemons that stay down are started again.
///
/// # Errors
/// Tells the daemons that stayed down.
pub(crate) fn wait_apis(
    state: &StateDir,
    record: &Record,
    backends: &[&str],
    progress: &dyn Progress,
    step: &str,
) -> Result<()> {
    let ask = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock";
    let infra = Machine { state, record, host: record.infra() };
    wait(state, record, progress, step, "waiting for the APIs", || {
        let table = infra.script("asking HAProxy", ask, Duration::from_secs(10))?;
        Ok(apis_seen(&table, backends))
    })
}

/// Waits until every daemon that keeps a record has renewed it. Those that stay silent are
/// started again.
///
/// # Errors
/// Tells the daemons that stayed silent.
pub(crate) fn wait_records(
    state: &StateDir,
    record: &Record,
    progress: &dyn Progress,
    step: &str,
) -> Result<()> {
    let infra = Machine { state, record, host: record.infra() };
    let query = format!("mariadb -N -e \"{}\"", records_query());
    wait(state, record, progress, step, "waiting for the daemons' records", || {
        let table = infra.script("reading the daemons' records", &query, Duration::from_secs(20))?;
        Ok(records_seen(record, &table))
    })
}

/// Hosts and daemons with a record that has been renewed lately. cinder-volume has one for every
/// backend, named HOST@BACKEND.
fn records_query() -> String {
    let fresh = format!(
        "deleted = 0 AND updated_at > DATE_SUB(UTC_TIMESTAMP(), INTERVAL {FRESH_S} SECOND) \
         AND report_count > 0"
    );
    // In a shell's double quotes, so no backticks: `binary` is a reserved word only unqualified.
    format!(
        "SELECT SUBSTRING_INDEX(s.host, '@', 1), s.binary FROM nova.services s WHERE {fresh} \
         UNION SELECT SUBSTRING_INDEX(s.host, '@', 1), s.binary FROM cinder.services s WHERE {fresh} \
         UNION SELECT a.host, a.binary FROM neutron.agents a \
         WHERE a.heartbeat_timestamp > DATE_SUB(UTC_TIMESTAMP(), INTERVAL {FRESH_S} SECOND)"
    )
}

/// Whether nova, cinder or neutron keeps a record that the daemon renews.
fn keeps_record(kind: &str) -> bool {
    matches!(
        kind,
        "neutron-openvswitch-agent"
            | "neutron-dhcp-agent"
            | "neutron-l3-agent"
            | "nova-conductor"
            | "nova-scheduler"
            | "nova-compute"
            | "cinder-scheduler"
            | "cinder-volume"
    )
}

fn records_seen(record: &Record, table: &str) -> Seen {
    let fresh: Vec<(&str, &str)> = table.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut seen = Seen { silent: Vec::new(), expected: 0 };
    for host in &record.hosts {
        for daemon in host.daemons().filter(|daemon| keeps_record(daemon.kind)) {
            seen.expected += 1;
            if !fresh.contains(&(host.name.as_str(), daemon.kind)) {
                seen.silent.push(Silent { host: host.name.clone(), kind: daemon.kind.to_owned() });
            }
        }
    }
    seen
}

/// Servers that HAProxy's statistics do not show as up.
fn apis_seen(table: &str, backends: &[&str]) -> Seen {
    let rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let servers: Vec<Vec<&str>> = rows
        .filter(|row| row.len() > 17 && !row[0].starts_with('#'))
        .filter(|row| !matches!(row[1], "FRONTEND" | "BACKEND"))
        .filter(|row| backends.is_empty() || backends.contains(&row[0]))
        .collect();
    let down = servers.iter().filter(|row| row[17] != "UP");
    let kind = |backend: &str| {
        let daemons = Role::Controller.daemons().iter();
        let mut found = daemons.filter(|daemon| daemon.backend() == Some(backend)).map(|daemon| daemon.kind);
        found.next_back().unwrap_or(backend).to_owned()
    };
    Seen {
        silent: down.map(|row| Silent { host: row[1].to_owned(), kind: kind(row[0]) }).collect(),
        expected: servers.len(),
    }
}

/// Since when daemons are silent, and how often each has been started again.
#[derive(Debug, Default)]
struct Patience {
    waiting: BTreeMap<Silent, (Instant, u32)>,
}

impl Patience {
    /// Notes who is silent now, and returns those to be started again.
    fn due(&mut self, silent: &[Silent], now: Instant) -> Vec<Silent> {
        self.waiting.retain(|daemon, _| silent.contains(daemon));
        let mut due = Vec::new();
        for daemon in silent {
            let (since, restarts) = self.waiting.entry(daemon.clone()).or_insert((now, 0));
            let patience = PATIENCE * 2_u32.pow(*restarts);
            if *restarts < RESTARTS_MAX && now.duration_since(*since) >= patience {
                (*since, *restarts) = (now, *restarts + 1);
                due.push(daemon.clone());
            }
        }
        due
    }
}

fn wait(
    state: &StateDir,
    record: &Record,
    progress: &dyn Progress,
    step: &str,
    what: &str,
    mut look: impl FnMut() -> Result<Seen>,
) -> Result<()> {
    let mut patience = Patience::default();
    let mut told = String::new();
    wait_for(what, START_LIMIT, PAUSE, || {
        let seen = match look() {
            Ok(seen) => seen,
            // On a machine that is busy with other work even the asking can take too long.
            Err(error @ (Error::TimedOut { .. } | Error::Command { .. })) => return Ok(Err(error.report())),
            Err(error) => return Err(error),
        };
        if seen.expected == 0 || seen.silent.is_empty() {
            return Ok(Ok(()));
        }
        for daemon in patience.due(&seen.silent, Instant::now()) {
            progress.detail(step, &format!("{daemon} stays silent and is started again"));
            restart(state, record, &daemon)?;
        }
        let line = summary(&seen);
        if line != told {
            progress.detail(step, &line);
            told.clone_from(&line);
        }
        Ok(Err(line))
    })
}

/// "10 of 13 report, not yet: nova-compute on cmp1, ..."
fn summary(seen: &Seen) -> String {
    const NAMED: usize = 4;
    let names: Vec<String> = seen.silent.iter().take(NAMED).map(Silent::to_string).collect();
    let mut line = format!(
        "{} of {} report, not yet: {}",
        seen.expected - seen.silent.len(),
        seen.expected,
        names.join(", ")
    );
    if seen.silent.len() > NAMED {
        let _ = write!(line, " and {} more", seen.silent.len() - NAMED);
    }
    line
}

/// Ends a daemon without grace, which it would only let pass, and starts it again.
fn restart(state: &StateDir, record: &Record, daemon: &Silent) -> Result<()> {
    let machine = Machine { state, record, host: record.host(&daemon.host)? };
    if !machine.host.daemons().any(|known| known.kind == daemon.kind) {
        return Err(Error::refused(
            format!("the host {} has no daemon {}", daemon.host, daemon.kind),
            "this is a fault of the lab itself: its daemons and HAProxy's backends do not fit",
        ));
    }
    let script = format!(
        "systemctl kill --kill-whom=all --signal=KILL {0}.service || true\n\
         systemctl restart --no-block {0}.service",
        daemon.kind
    );
    machine.script(&format!("starting {} again", daemon.kind), &script, Duration::from_secs(60)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    fn silent(host: &str, kind: &str) -> Silent {
        Silent { host: host.into(), kind: kind.into() }
    }

    #[test]
    fn servers_that_are_not_up_are_named_by_their_daemon() {
        let table = "# pxname,svname,qcur,,,,,,,,,,,,,,,status\n\
                     nova,FRONTEND,,,,,,,,,,,,,,,,OPEN,\n\
                     nova,ctl1,,,,,,,,,,,,,,,,UP,\n\
                     nova,ctl2,,,,,,,,,,,,,,,,DOWN,\n\
                     glance,ctl1,,,,,,,,,,,,,,,,no check,\n";
        let nova = apis_seen(table, &["nova"]);
        assert_eq!(nova, Seen { silent: vec![silent("ctl2", "nova-api")], expected: 2 });
        assert_eq!(apis_seen(table, &[]).silent.len(), 2);
    }

    #[test]
    fn daemons_without_a_fresh_record_are_silent() {
        let options = Options { controllers: 1, computes: 2, ..Options::default() };
        let record = Record::new(options, 7, "secret".into()).expect("valid");
        let table = "ctl1\tnova-conductor\nctl1\tnova-scheduler\nctl1\tcinder-volume\ncmp2\tnova-compute\n\
                     gone\tnova-compute\n";
        let seen = records_seen(&record, table);
        assert_eq!(seen.expected, 6);
        assert_eq!(seen.silent, [silent("ctl1", "cinder-scheduler"), silent("cmp1", "nova-compute")]);
        assert!(summary(&seen).starts_with("4 of 6 report, not yet: cinder-scheduler on ctl1"));
    }

    #[test]
    fn a_silent_daemon_is_started_again_with_growing_patience_and_not_for_ever() {
        let mut patience = Patience::default();
        let one = [silent("ctl1", "cinder-scheduler")];
        let began = Instant::now();
        let mut restarts = Vec::new();
        for second in 0..3600 {
            if !patience.due(&one, began + Duration::from_secs(second)).is_empty() {
                restarts.push(second);
            }
        }
        assert_eq!(restarts, [90, 270, 630]);
    }

    #[test]
    fn who_has_spoken_is_waited_for_anew() {
        let mut patience = Patience::default();
        let one = [silent("ctl1", "nova-api")];
        let began = Instant::now();
        assert!(patience.due(&one, began).is_empty());
        assert!(patience.due(&[], began + Duration::from_secs(80)).is_empty());
        assert!(patience.due(&one, began + Duration::from_secs(100)).is_empty());
        assert_eq!(patience.due(&one, began + Duration::from_secs(190)), one);
    }
}

//! Looking at the guests of a lab with a real data plane: whether they answer, and what a live
//! migration costs them.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::wait_for;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::paths::{self, StateDir};
use crate::progress::Progress;
use crate::record::Record;
use crate::topology::Role;

/// A guest boots in ten seconds on a free core; many at once on busy ones need longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(400);
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);
/// Pings per second: fine enough to see a gap of a tenth of a second.
const INTERVAL_S: &str = "0.1";

/// An instance with a guest that runs, and the addresses at which it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// Its id in nova.
    pub uuid: String,
    /// Its name in nova.
    pub name: String,
    /// The host that it is on.
    pub host: String,
    /// Address in the tenant's network.
    pub inner: String,
    /// Address outside.
    pub outer: String,
    /// The name space on the infrastructure host that is in the tenant's network.
    pub canary: String,
}

/// What one row of pings has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pings {
    /// Sent.
    pub sent: u32,
    /// Answered.
    pub answered: u32,
    /// The longest time without an answer, in milliseconds, from the start to the end. Without any loss it is the
    /// interval between pings.
    pub longest_gap_ms: u32,
    /// When that began: seconds since 1970, of the last answer before, or of the start.
    pub longest_gap_from: f64,
}

/// How a live migration went, measured from both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Migration {
    /// The instance.
    pub guest: Guest,
    /// The host that it was sent to.
    pub to: String,
    /// From the request until nova was done.
    pub seconds: f64,
    /// The instance's status afterwards.
    pub status: String,
    /// Its host afterwards.
    pub host: String,
    /// Pings from inside the tenant's network.
    pub inside: Pings,
    /// Pings from a controller, through the outer network.
    pub outside: Pings,
}

impl Migration {
    /// Whether the instance is where it was sent, and was never silent for so long.
    pub fn is_well(&self, longest_gap_ms: u32) -> bool {
        let heard = |pings: &Pings| pings.answered > 0 && pings.longest_gap_ms <= longest_gap_ms;
        self.host == self.to && self.status == "ACTIVE" && heard(&self.inside) && heard(&self.outside)
    }
}

/// What [`crate::Lab::check_data_plane`] has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataPlane {
    /// Every guest, and what is wrong with it, if anything is.
    pub guests: Vec<(Guest, Option<String>)>,
    /// The live migrations that were made.
    pub migrations: Vec<Migration>,
}

impl DataPlane {
    /// Whether all guests answer and all migrations went well.
    pub fn is_well(&self, longest_gap_ms: u32) -> bool {
        self.guests.iter().all(|(_, wrong)| wrong.is_none())
            && self.migrations.iter().all(|migration| migration.is_well(longest_gap_ms))
    }

    /// The table that people read.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<16}{:<12}{:<18}{:<18}{}\n",
            "GUEST", "HOST", "INSIDE", "OUTSIDE", "PING AND ECHO FROM BOTH SIDES"
        );
        for (guest, wrong) in &self.guests {
            let verdict = wrong.as_deref().unwrap_or("answers");
            let _ = writeln!(
                text,
                "{:<16}{:<12}{:<18}{:<18}{verdict}",
                guest.name, guest.host, guest.inner, guest.outer
            );
        }
        for migration in &self.migrations {
            let _ = writeln!(
                text,
                "\nlive migration of {} from {} to {}: {} on {} after {:.1} s",
                migration.guest.name,
                migration.guest.host,
                migration.to,
                migration.status,
                migration.host,
                migration.seconds
            );
            for (side, pings) in [("inside", &migration.inside), ("outside", &migration.outside)] {
                let _ = writeln!(
                    text,
                    "  {side:<8} {} of {} pings lost, longest gap {} ms",
                    pings.sent.saturating_sub(pings.answered),
                    pings.sent,
                    pings.longest_gap_ms
                );
            }
        }
        text
    }
}

const GUESTS: &str = "SELECT i.uuid, i.display_name, i.host, a.ip_address, f.floating_ip_address, n.name \
                      FROM nova.instances i JOIN neutron.ports p ON p.device_id = i.uuid \
                      JOIN neutron.ipallocations a ON a.port_id = p.id \
                      JOIN neutron.floatingips f ON f.fixed_port_id = p.id \
                      JOIN neutron.networks n ON n.id = p.network_id \
                      WHERE i.deleted = 0 AND i.host IS NOT NULL ORDER BY i.host, i.display_name";

/// All guests that have an address outside.
pub(crate) fn guests(state: &StateDir, record: &Record) -> Result<Vec<Guest>> {
    let infra = Machine { state, record, host: record.infra() };
    let script = format!("mariadb -N -e \"{GUESTS}\"");
    let table = infra.script("listing the guests", &script, Duration::from_secs(30))?;
    let with_guests: Vec<&str> =
        record.hosts.iter().filter(|host| host.runs_guests()).map(|host| host.name.as_str()).collect();
    Ok(parse_guests(&table).into_iter().filter(|guest| with_guests.contains(&guest.host.as_str())).collect())
}

fn parse_guests(table: &str) -> Vec<Guest> {
    let rows = table.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.filter_map(|row| {
        let [uuid, name, host, inner, outer, network] = <[String; 6]>::try_from(row).ok()?;
        let canary = format!("canary-{}", network.trim_end_matches("-net"));
        Some(Guest { uuid, name, host, inner, outer, canary })
    })
    .collect()
}

/// Refuses labs without a data plane.
pub(crate) fn require_real(record: &Record) -> Result<()> {
    if crate::render_virt::real(record) {
        return Ok(());
    }
    Err(Error::refused(
        format!("the instances of the lab {} have no guests", record.options.name),
        "bring a lab up with `volutus-lab up --virt qemu`",
    ))
}

/// The controller from which guests are reached through the outer network.
fn outside<'a>(state: &'a StateDir, record: &'a Record) -> Result<Machine<'a>> {
    let host = record.hosts_with(Role::Controller).next();
    let host = host.ok_or_else(|| Error::refused("the lab has no controller", "bring it up again"))?;
    Ok(Machine { state, record, host })
}

/// What keeps a guest from answering pings and the echo, asked from one place.
fn wrong_from(machine: Machine<'_>, prefix: &str, address: &str) -> Result<Option<String>> {
    let script = format!(
        "{prefix} ping -n -q -c 1 -W 3 {address} >/dev/null || {{ echo no answer to ping; exit 0; }}\n\
         answer=$(echo hello | {prefix} timeout 8 socat -t 3 - TCP4:{address}:7,connect-timeout=4 2>&1) || true\n\
         [ \"$answer\" = hello ] || echo \"no echo on TCP port 7\""
    );
    let seen = machine.script("asking a guest", &script, Duration::from_secs(30))?;
    let seen = seen.trim();
    Ok((!seen.is_empty()).then(|| seen.to_owned()))
}

/// What is wrong with a guest, seen from inside its network and from outside.
fn wrong(state: &StateDir, record: &Record, guest: &Guest) -> Result<Option<String>> {
    let infra = Machine { state, record, host: record.infra() };
    let inside = wrong_from(infra, &format!("ip netns exec {}", guest.canary), &guest.inner)?;
    if let Some(inside) = inside {
        return Ok(Some(format!("inside: {inside}")));
    }
    let outside = wrong_from(outside(state, record)?, "", &guest.outer)?;
    Ok(outside.map(|outside| format!("outside: {outside}")))
}

/// Waits until every guest answers from both sides.
///
/// # Errors
/// Tells the first guest that stayed silent.
pub(crate) fn wait_answering(
    state: &StateDir,
    record: &Record,
    progress: &dyn Progress,
    step: &str,
) -> Result<()> {
    let guests = guests(state, record)?;
    for (number, guest) in guests.iter().enumerate() {
        let what = format!("waiting for the guest {} on {}", guest.name, guest.host);
        wait_for(&what, ANSWER_LIMIT, Duration::from_secs(1), || {
            Ok(wrong(state, record, guest)?.map_or(Ok(()), Err))
        })?;
        progress.detail(step, &format!("{} of {}", number + 1, guests.len()));
    }
    Ok(())
}

/// Asks every guest, and live-migrates one if that is wanted and there is a second host.
pub(crate) fn check(state: &StateDir, record: &Record, migrations: u32) -> Result<DataPlane> {
    require_real(record)?;
    let mut seen = DataPlane { guests: Vec::new(), migrations: Vec::new() };
    for guest in guests(state, record)? {
        let wrong = wrong(state, record, &guest)?;
        seen.guests.push((guest, wrong));
    }
    if seen.guests.is_empty() {
        return Err(Error::refused("the lab has no guests", "bring it up with --instances 1 or more"));
    }
    let hosts: Vec<&str> =
        record.hosts.iter().filter(|host| host.runs_guests()).map(|host| host.name.as_str()).collect();
    for number in 0..migrations as usize {
        let (guest, _) = &seen.guests[number % seen.guests.len()];
        // A guest may have been moved by an earlier round.
        let all = guests(state, record)?;
        let Some(guest) = all.into_iter().find(|now| now.uuid == guest.uuid) else { continue };
        let place = hosts.iter().position(|host| *host == guest.host).unwrap_or(0);
        let to = hosts[(place + 1) % hosts.len()];
        if to == guest.host {
            return Err(Error::refused(
                "only one host of the lab runs guests, so none can be migrated",
                "bring it up with --computes 2 or more, or check with --migrations 0",
            ));
        }
        seen.migrations.push(migrate(state, record, guest, to)?);
    }
    Ok(seen)
}

#[derive(Deserialize)]
struct Migrated {
    seconds: f64,
    status: String,
    host: String,
}

fn migrate(state: &StateDir, record: &Record, guest: Guest, to: &str) -> Result<Migration> {
    let infra = Machine { state, record, host: record.infra() };
    let outside = outside(state, record)?;
    let inner = Row::pings(infra, &guest.uuid, &format!("ip netns exec {}", guest.canary), &guest.inner)?;
    let outer = Row::pings(outside, &guest.uuid, "", &guest.outer)?;
    std::thread::sleep(Duration::from_secs(2));
    let migrated = request(outside, &guest.uuid, to);
    // What the move has upset in the network shows within moments.
    std::thread::sleep(Duration::from_secs(3));
    let (inside, outside) = (inner.stop_pings()?, outer.stop_pings()?);
    let Migrated { seconds, status, host } = migrated?;
    Ok(Migration { guest, to: to.to_owned(), seconds, status, host, inside, outside })
}

/// Has nova migrate an instance, and waits for the end.
fn request(controller: Machine<'_>, server: &str, to: &str) -> Result<Migrated> {
    let path = "usr/local/lib/volutus-lab-migrate.py";
    paths::write(&controller.root().join(path), include_str!("../python/migrate.py"), 0o644)?;
    let spec = serde_json::json!({
        "endpoint": controller.record.infra().address,
        "password": controller.record.password,
        "server": server,
        "host": to,
        "limit_s": MIGRATION_LIMIT.as_secs(),
    });
    let script = format!("exec \"$(readlink -f /opt/openstack/current/nova-api)/bin/python3\" /{path}");
    let answer = controller
        .command("live-migrating a guest", ["sh", "-ec", &script])?
        .stdin(spec.to_string())
        .limit(MIGRATION_LIMIT + Duration::from_secs(60))
        .run()?;
    serde_json::from_str(&answer)
        .map_err(|error| Error::Damaged { path: path.into(), seen: format!("{error}: {answer}") })
}

/// A command that goes on, and whose output is kept, until it is stopped.
pub(crate) struct Row<'a> {
    machine: Machine<'a>,
    file: String,
}

impl<'a> Row<'a> {
    /// Starts a command under a name of its own on the machine.
    pub(crate) fn start(machine: Machine<'a>, name: &str, command: &str) -> Result<Self> {
        let file = format!("/run/volutus-lab-{name}");
        // A shell's background jobs ignore SIGINT, which is what ends these.
        let script = format!(
            "setsid env --default-signal=INT {command} >{file} 2>&1 </dev/null &\necho $! >{file}.pid"
        );
        machine.script("starting a measurement", &script, Duration::from_secs(10))?;
        Ok(Self { machine, file })
    }

    /// Starts pings.
    pub(crate) fn pings(machine: Machine<'a>, name: &str, prefix: &str, address: &str) -> Result<Self> {
        let command = format!("{prefix} sh -c 'date +[%s.%6N]; exec ping -n -D -i {INTERVAL_S} {address}'");
        Self::start(machine, &format!("pings-{name}"), &command)
    }

    /// Stops it and returns its output.
    pub(crate) fn stop(self) -> Result<String> {
        let script = format!(
            "pid=$(cat {0}.pid)\nkill -INT $pid 2>/dev/null || true\n\
             for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid 2>/dev/null || break; sleep 0.2; done\n\
             cat {0}\nrm -f {0} {0}.pid",
            self.file
        );
        self.machine.script("reading a measurement", &script, Duration::from_secs(20))
    }

    /// Stops pings and tells what they have seen.
    pub(crate) fn stop_pings(self) -> Result<Pings> {
        Ok(parse_pings(&self.stop()?))
    }
}

/// Reads what `ping -D` printed behind the time of its start.
fn parse_pings(text: &str) -> Pings {
    let mut pings = Pings::default();
    // The start, all answers, and the end.
    let mut moments: Vec<f64> = Vec::new();
    for line in text.lines() {
        if let Some((stamp, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            let answer = rest.contains("bytes from") && !rest.contains("DUP!");
            moments.extend(stamp.parse::<f64>().ok().filter(|_| answer || rest.is_empty()));
        } else if line.contains("packets transmitted") {
            let mut numbers = line.split(',').filter_map(|part| part.split_whitespace().next()?.parse().ok());
            pings.sent = numbers.next().unwrap_or(0);
            pings.answered = numbers.next().unwrap_or(0);
            let lasted =
                line.rsplit_once("time ").and_then(|(_, ms)| ms.strip_suffix("ms")?.parse::<f64>().ok());
            let end = moments.first().zip(lasted).map(|(start, lasted)| start + lasted / 1000.0);
            moments.extend(end);
        }
    }
    for pair in moments.windows(2) {
        // Positive, and far below four billion.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let gap = ((pair[1] - pair[0]) * 1000.0).round() as u32;
        if gap > pings.longest_gap_ms {
            (pings.longest_gap_ms, pings.longest_gap_from) = (gap, pair[0]);
        }
    }
    pings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pings from 1700000000.0 on, for so many milliseconds.
    fn pings(lasted_ms: u32) -> Pings {
        parse_pings(&format!(
            "[1700000000.000000]\nPING 198.19.7.100 (198.19.7.100) 56(84) bytes of data.\n\
             [1700000000.100000] 64 bytes from 198.19.7.100: icmp_seq=1 ttl=63 time=1 ms\n\
             [1700000000.200000] 64 bytes from 198.19.7.100: icmp_seq=2 ttl=63 time=1 ms\n\
             [1700000000.850000] 64 bytes from 198.19.7.100: icmp_seq=8 ttl=63 time=1 ms\n\
             [1700000000.950000] 64 bytes from 198.19.7.100: icmp_seq=8 ttl=63 time=9 ms (DUP!)\n\n\
             --- 198.19.7.100 ping statistics ---\n\
             8 packets transmitted, 3 received, +1 duplicates, 62.5% packet loss, time {lasted_ms}ms\n"
        ))
    }

    #[test]
    fn pings_are_counted_and_the_longest_gap_is_found() {
        let longest_gap_from = 1_700_000_000.2;
        let expected = Pings { sent: 8, answered: 3, longest_gap_ms: 650, longest_gap_from };
        assert_eq!(pings(900), expected);
        assert_eq!(parse_pings("connect: Network is unreachable"), Pings::default());
    }

    #[test]
    fn silence_until_the_end_and_from_the_start_is_a_gap() {
        let silent = pings(90_000);
        assert_eq!(silent.longest_gap_ms, 89_150);
        assert!((silent.longest_gap_from - 1_700_000_000.85).abs() < 1e-3);
        let never = "[1700000000.0]\n\n--- 198.19.7.100 ping statistics ---\n\
                     50 packets transmitted, 0 received, 100% packet loss, time 5099ms\n";
        assert_eq!((parse_pings(never).longest_gap_ms, parse_pings(never).sent), (5099, 50));
    }

    #[test]
    fn guests_are_read_with_their_canary() {
        let table = "u-1\talpha-vm-1\tcmp1\t198.51.100.7\t198.19.7.101\talpha-net\nshort\trow\n";
        let guests = parse_guests(table);
        assert_eq!(guests.len(), 1);
        assert_eq!(guests[0].canary, "canary-alpha");
        assert_eq!(guests[0].outer, "198.19.7.101");
    }

    fn migration(host: &str, gap: u32) -> Migration {
        let pings = Pings { sent: 50, answered: 49, longest_gap_ms: gap, longest_gap_from: 0.0 };
        let guest = parse_guests("u\tvm\tcmp1\t1\t2\talpha-net\n").remove(0);
        Migration {
            guest,
            to: "cmp2".into(),
            seconds: 9.0,
            status: "ACTIVE".into(),
            host: host.into(),
            inside: pings.clone(),
            outside: pings,
        }
    }

    #[test]
    fn a_migration_is_well_only_at_its_goal_and_without_a_long_gap() {
        assert!(migration("cmp2", 400).is_well(1000));
        assert!(!migration("cmp2", 1001).is_well(1000));
        assert!(!migration("cmp1", 100).is_well(1000));
        let silent = Migration { inside: Pings::default(), ..migration("cmp2", 100) };
        assert!(!silent.is_well(1000), "no answer at all is no gap but worse");
    }
}

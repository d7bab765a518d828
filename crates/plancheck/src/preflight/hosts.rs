//! Hosts: reachable, with a true clock, room for the new release, and a Python that it accepts.

use volutus_model::observation::HostObservation;
use volutus_model::{Finding, HostName, Severity};

use super::{Subject, some};
use crate::blocking;

/// Tokens, leases and records are judged by clocks; a second is well above what NTP leaves.
const CLOCK_WARN_MS: u64 = 1_000;
/// Above this tokens are refused as not yet valid, and live daemons are taken for dead.
const CLOCK_BLOCK_MS: u64 = 5_000;
/// One environment of six services takes about 0.8 GB.
const RELEASE_FREE_WARN: u64 = 1_000_000_000;
/// With less than this not even logs can be written for long.
const FREE_BLOCK: u64 = 200_000_000;

pub(crate) fn check_hosts(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let mut tight = Vec::new();
    for host in &subject.inventory.hosts {
        let seen = match subject.observation.hosts.get(&host.name) {
            None => Err("it was not looked at"),
            Some(fact) => fact.value().ok_or_else(|| fact.why().unwrap_or("no reason was given")),
        };
        match seen {
            Err(why) => findings.push(blocking(
                "host-unseen",
                &host.name,
                format!("nothing is known of it: {why}"),
                "See that `ssh` reaches it with the key and known_hosts of the cloud description. \
                 Where its host key has changed, find out why before the new one is accepted.",
            )),
            Ok(seen) => {
                check_clock(&host.name, seen, findings);
                if check_disk(subject, &host.name, seen, findings) {
                    tight.push(host.name.to_string());
                }
                if !host.roles.is_empty() {
                    check_python(subject, &host.name, seen, findings);
                }
            }
        }
    }
    if !tight.is_empty() {
        findings.push(Finding::new(
            Severity::Warning,
            "disk-tight",
            "hosts",
            format!(
                "less than 1 GB is free where releases are kept on {}; an environment of six \
                 services takes about 0.8 GB",
                some(&tight)
            ),
            "Make room, or see that the stage command needs less.",
        ));
    }
}

fn check_clock(host: &HostName, seen: &HostObservation, findings: &mut Vec<Finding>) {
    let skew = seen.clock_skew_ms.unsigned_abs();
    if skew <= CLOCK_WARN_MS {
        return;
    }
    let severity = if skew > CLOCK_BLOCK_MS { Severity::Blocking } else { Severity::Warning };
    findings.push(Finding::new(
        severity,
        "clock-skew",
        host,
        format!(
            "its clock differs by {} ms from this machine's: tokens are refused and live daemons \
             taken for dead when clocks disagree",
            seen.clock_skew_ms
        ),
        "Bring the clock to time (chrony or systemd-timesyncd) on this host, or on this machine.",
    ));
}

/// Whether room is tight, yet not so that the run must not start.
fn check_disk(
    subject: &Subject<'_>,
    host: &HostName,
    seen: &HostObservation,
    findings: &mut Vec<Finding>,
) -> bool {
    for (what, free) in
        [("where releases are kept", seen.release_free_bytes), ("on its root", seen.root_free_bytes)]
    {
        if free < FREE_BLOCK {
            findings.push(blocking(
                "disk-full",
                host,
                format!("only {} MB are free {what}", free / 1_000_000),
                "Make room on this host.",
            ));
        }
    }
    let staged = seen.staged.get(&subject.to).is_some_and(|there| {
        subject.versions.iter().all(|(service, version)| there.get(service) == Some(version))
    });
    !staged && (FREE_BLOCK..RELEASE_FREE_WARN).contains(&seen.release_free_bytes)
}

fn check_python(subject: &Subject<'_>, host: &HostName, seen: &HostObservation, findings: &mut Vec<Finding>) {
    let Some(floor) = subject.catalog.series.get(&subject.to).map(|facts| &facts.python_min) else {
        return;
    };
    match (minor(&seen.python), minor(floor)) {
        (Some(have), Some(need)) if have >= need => {}
        (Some(_), Some(_)) => findings.push(blocking(
            "python-too-old",
            host,
            format!("its Python is {}, and {} needs {floor} or newer", seen.python, subject.to),
            "Upgrade the host's operating system first (drain it, one host after another).",
        )),
        _ => findings.push(Finding::new(
            Severity::Serious,
            "python-unseen",
            host,
            format!("`{}` is no version of Python that can be compared", seen.python),
            format!("See that the host has Python {floor} or newer as /usr/bin/python3."),
        )),
    }
}

/// The first two numbers of a version.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

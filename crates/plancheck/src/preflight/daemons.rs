//! Daemons: running, in one version, from the release that a restart would start again, with
//! time enough to stop.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::{DaemonRole, OptionSeen, options_of};
use volutus_model::name::HostName;
use volutus_model::observation::DaemonObservation;
use volutus_model::{Finding, PackageVersion, ServiceName, Severity};

use super::{Declared, Subject};
use crate::blocking;

const GRACEFUL: &str = "DEFAULT/graceful_shutdown_timeout";

pub(crate) fn check_daemons(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let mut versions: BTreeMap<&ServiceName, BTreeSet<&PackageVersion>> = BTreeMap::new();
    let graceful: BTreeMap<&ServiceName, BTreeMap<HostName, OptionSeen>> = subject
        .services
        .iter()
        .filter(|(_, service)| service.options.iter().any(|option| option == GRACEFUL))
        .map(|(name, service)| (*name, options_of(service, subject.inventory, subject.observation, GRACEFUL)))
        .collect();
    for daemon in &subject.daemons {
        let seen = match subject.observation.daemons.get(&daemon.id) {
            None => Err("it was not looked at"),
            Some(fact) => fact.value().ok_or_else(|| fact.why().unwrap_or("no reason was given")),
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => {
                findings.push(blocking(
                    "daemon-unseen",
                    &daemon.id,
                    format!("nothing is known of it: {why}"),
                    "See that its unit is on the host under the name that the description gives.",
                ));
                continue;
            }
        };
        check_running(daemon, seen, findings);
        check_version(subject, daemon, seen, &mut versions, findings);
        check_link(subject, daemon, seen, findings);
        let set = graceful.get(&daemon.service.name).and_then(|hosts| hosts.get(&daemon.host.name));
        check_stop(subject, daemon, seen, set, findings);
    }
    for (service, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
        let versions: Vec<String> = versions.into_iter().map(ToString::to_string).collect();
        findings.push(Finding::new(
            Severity::Warning,
            "version-skew",
            service,
            format!("its daemons run more than one version now: {}", versions.join(", ")),
            "Find out whether an earlier change was left half done.",
        ));
    }
}

fn check_running(daemon: &Declared<'_>, seen: &DaemonObservation, findings: &mut Vec<Finding>) {
    if seen.active_state != "active" || seen.main_pid == 0 {
        findings.push(blocking(
            "daemon-not-active",
            &daemon.id,
            format!(
                "its unit {} is {} with main process {}: an upgrade would not mend it, and would \
                 hide what is wrong",
                daemon.declaration.unit, seen.active_state, seen.main_pid
            ),
            format!("Look at `journalctl -u {}`, and start it.", daemon.declaration.unit),
        ));
    }
}

fn check_version<'a>(
    subject: &Subject<'_>,
    daemon: &Declared<'a>,
    seen: &'a DaemonObservation,
    versions: &mut BTreeMap<&'a ServiceName, BTreeSet<&'a PackageVersion>>,
    findings: &mut Vec<Finding>,
) {
    let service = &daemon.service.name;
    let Some(version) = seen.version.value() else {
        findings.push(blocking(
            "version-unseen",
            &daemon.id,
            format!(
                "which version its process runs was not seen: {}",
                seen.version.why().unwrap_or("no reason was given")
            ),
            "See that the process runs from a release directory of the cloud description.",
        ));
        return;
    };
    let series = subject.catalog.series_of(service, version);
    if series == Some(subject.from) || series == Some(subject.to) {
        if series == Some(subject.from) {
            versions.entry(service).or_default().insert(version);
        }
        return;
    }
    findings.push(blocking(
        "series-skew",
        &daemon.id,
        format!(
            "it runs {version} ({}), which is neither of {} nor of {}",
            series.map_or_else(|| "of no known series".to_owned(), |s| s.to_string()),
            subject.from,
            subject.to
        ),
        "Finish or take back the run that left it so.",
    ));
}

/// What a restart would run must be what runs: a crash before the daemon's turn would otherwise
/// switch it, unproved.
fn check_link(
    subject: &Subject<'_>,
    daemon: &Declared<'_>,
    seen: &DaemonObservation,
    findings: &mut Vec<Finding>,
) {
    let service = &daemon.service.name;
    let (Some(link), Some(path)) = (seen.link.value(), seen.release_path.value()) else {
        let why = seen.link.why().or(seen.release_path.why()).unwrap_or("no reason was given");
        findings.push(Finding::new(
            Severity::Serious,
            "link-unseen",
            &daemon.id,
            format!("what a restart of it would run was not seen: {why}"),
            "See that [releases] current in the cloud description names its link.",
        ));
        return;
    };
    if link == path {
        return;
    }
    let releases = &subject.inventory.releases;
    let of_the_hop = |series| releases.release_at(link, series, service).is_some();
    let severity = if of_the_hop(subject.from) || of_the_hop(subject.to) {
        Severity::Serious
    } else {
        Severity::Blocking
    };
    findings.push(Finding::new(
        severity,
        "restart-would-switch",
        &daemon.id,
        format!(
            "its process runs from {path}, and its link points to {link}: any restart would \
                 start another release than runs"
        ),
        format!(
            "Point {} to {path} again, or restart the daemon if the new release is meant.",
            releases.current_of(service, &daemon.id.kind)
        ),
    ));
}

/// systemd must give a daemon the time that it takes to stop gracefully, in both series.
fn check_stop(
    subject: &Subject<'_>,
    daemon: &Declared<'_>,
    seen: &DaemonObservation,
    set: Option<&OptionSeen>,
    findings: &mut Vec<Finding>,
) {
    if daemon.facts.role == DaemonRole::Api {
        // Under uWSGI the services' own timeout has no say.
        return;
    }
    let Some(stop) = seen.timeout_stop_s else {
        return;
    };
    let configured = match set {
        Some(OptionSeen::Set(text)) => text.trim().parse::<u64>().ok(),
        _ => None,
    };
    for series in [subject.from, subject.to] {
        let Some(graceful) = configured.or_else(|| daemon.service.graceful_shutdown_in(series)) else {
            continue;
        };
        if stop < graceful {
            findings.push(Finding::new(
                Severity::Warning,
                "stop-timeout-short",
                &daemon.id,
                format!(
                    "in {series} it may take {graceful} s to stop gracefully, and systemd kills \
                     it after {stop} s, in the middle of what it does"
                ),
                format!("Set TimeoutStopSec={} in a drop-in of {}.", graceful + 20, daemon.declaration.unit),
            ));
            return;
        }
    }
}

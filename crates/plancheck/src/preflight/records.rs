//! Service records: daemons that are gone, forgotten or too old hold the others back.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::Service;
use volutus_model::observation::ServiceRecord;
use volutus_model::{Finding, Severity};

use super::Subject;
use crate::blocking;

/// Nova and cinder take a daemon for dead after service_down_time, 60 s by default; neutron an agent after
/// agent_down_time, 75 s.
fn stale_s(service: &Service) -> u64 {
    if service.name.as_str() == "neutron" { 75 } else { 60 }
}

pub(crate) fn check_records(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let hosts: BTreeSet<&str> = subject.inventory.hosts.iter().map(|host| host.name.as_str()).collect();
    for (name, service) in &subject.services {
        let binaries: BTreeSet<&str> = service
            .daemons
            .iter()
            .filter_map(|daemon| daemon.record.as_ref())
            .map(|record| record.binary.as_str())
            .collect();
        // Kinds that keep a record and are not declared may still be there, and are judged where they are seen.
        let declared = subject.daemons.iter().filter(|daemon| daemon.service.name == service.name);
        if declared.into_iter().any(|daemon| daemon.facts.record.is_some()) {
            match subject.observation.records.get(*name) {
                None => unseen("its service records", name, "they were not looked at", findings),
                Some(fact) => match fact.value() {
                    None => {
                        let why = fact.why().unwrap_or("no reason was given");
                        unseen("its service records", name, why, findings);
                    }
                    Some(records) => {
                        for record in records {
                            check_record(subject, service, &hosts, &binaries, record, findings);
                        }
                    }
                },
            }
        }
        check_pending(subject, service, findings);
    }
}

fn unseen(what: &str, service: &volutus_model::ServiceName, why: &str, findings: &mut Vec<Finding>) {
    findings.push(Finding::new(
        Severity::Serious,
        "records-unseen",
        service,
        format!("{what} were not seen ({why}), so they are not judged"),
        "See that the databases answer with the credentials of the service's own configuration.",
    ));
}

fn check_record(
    subject: &Subject<'_>,
    service: &Service,
    hosts: &BTreeSet<&str>,
    binaries: &BTreeSet<&str>,
    record: &ServiceRecord,
    findings: &mut Vec<Finding>,
) {
    let label = format!("{}@{}", record.binary, record.host);
    if record.is_anchor() {
        check_anchor(subject, service, &label, record, findings);
        return;
    }
    let oldest = service.record_versions_oldest.get(&subject.to);
    if let (Some(oldest), Ok(version)) = (oldest, record.version.parse::<u32>())
        && version < *oldest
    {
        findings.push(blocking(
            "record-too-old",
            &label,
            format!(
                "its record has version {version}, and code of {} refuses to start while a \
                 record below {oldest} is there, be it forced down or forgotten",
                subject.to
            ),
            "Upgrade that daemon first; where it is gone for good and has no instances, delete \
             its record (`openstack compute service delete`).",
        ));
    }
    // Records of WSGI applications are written once at their start, so their age says nothing.
    if !binaries.contains(record.binary.as_str()) {
        return;
    }
    let host = record.host.split('@').next().unwrap_or(&record.host);
    let stale = record.age_s.is_none_or(|age| age > stale_s(service));
    let age = record.age_s.map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
    if !hosts.contains(host) {
        let reporting = if stale { "does not report" } else { "reports" };
        findings.push(Finding::new(
            Severity::Serious,
            "record-of-unknown-host",
            &label,
            format!(
                "it {reporting} (last {age}) and its host is not in the cloud description: the \
                 run will not upgrade it, and its old version then holds back what needs all \
                 daemons to be new"
            ),
            "Add the host to the cloud description; where it is gone for good, delete its record.",
        ));
    } else if stale && !record.forced_down {
        findings.push(blocking(
            "record-stale",
            &label,
            format!("it last reported {age}: the daemon is dead, whatever its unit says"),
            "Look at the daemon's log and bring it back; where it is gone for good, delete its \
             record and take it out of the cloud description.",
        ));
    }
    if let Some(reason) = &record.disabled {
        findings.push(Finding::new(
            Severity::Info,
            "service-disabled",
            &label,
            format!("somebody disabled it ({reason}); the run leaves it so"),
            "",
        ));
    }
}

/// An anchor stands for no daemon: it is disabled on purpose and never reports.
fn check_anchor(
    subject: &Subject<'_>,
    service: &Service,
    label: &str,
    record: &ServiceRecord,
    findings: &mut Vec<Finding>,
) {
    let kept = service.record_versions.get(&subject.from).map(ToString::to_string);
    if kept.as_ref() == Some(&record.version) {
        findings.push(Finding::new(
            Severity::Info,
            "anchor-kept",
            label,
            format!("it is kept at version {} so that old daemons may start again", record.version),
            "",
        ));
    } else {
        findings.push(blocking(
            "anchor-of-earlier-run",
            label,
            format!(
                "it is kept at version {} for the way back of an earlier run, and the cloud runs {}",
                record.version, subject.from
            ),
            "Finalize that run (`volutus finalize`), or roll it back (`volutus rollback`), first.",
        ));
    }
}

fn check_pending(subject: &Subject<'_>, service: &Service, findings: &mut Vec<Finding>) {
    if service.pending.is_empty() {
        return;
    }
    let counts: BTreeMap<_, _> = match subject.observation.pending_migrations.get(&service.name) {
        None => {
            unseen("its pending migrations", &service.name, "they were not counted", findings);
            return;
        }
        Some(fact) => match fact.value() {
            None => {
                let why = fact.why().unwrap_or("no reason was given");
                unseen("its pending migrations", &service.name, why, findings);
                return;
            }
            Some(counts) => counts.iter().filter(|(_, count)| **count > 0).collect(),
        },
    };
    for (query, count) in counts {
        findings.push(Finding::new(
            Severity::Warning,
            "pending-migrations",
            &service.name,
            format!(
                "{count} rows are still to be converted by {query}: the data migrations of the \
                 running release were not finished"
            ),
            "Run the running release's online data migrations to their end before upgrading.",
        ));
    }
}

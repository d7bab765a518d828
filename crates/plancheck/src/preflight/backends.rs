//! Backends of the load balancer: there, with all their servers up, and enough of them.

use std::collections::BTreeMap;

use volutus_catalog::DaemonRole;
use volutus_model::name::BackendName;
use volutus_model::{Finding, Severity};

use super::{Declared, Subject};
use crate::blocking;

pub(crate) fn check_backends(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let mut backends: BTreeMap<&BackendName, Vec<&Declared<'_>>> = BTreeMap::new();
    let apis = subject.daemons.iter().filter(|daemon| daemon.facts.role == DaemonRole::Api);
    for daemon in apis {
        for backend in &daemon.declaration.backends {
            backends.entry(backend).or_default().push(daemon);
        }
        if daemon.declaration.backends.is_empty() {
            findings.push(too_few(
                subject,
                &daemon.id.kind,
                "it is behind no load balancer, so that whatever is sent to a replica that is \
                 being replaced fails",
            ));
        }
    }
    for (backend, daemons) in backends {
        let replicas = u32::try_from(daemons.len()).unwrap_or(u32::MAX);
        let min = subject.policy.serving_replicas_min;
        if replicas <= min {
            findings.push(too_few(
                subject,
                backend,
                &format!(
                    "{replicas} replica(s) serve it, and {min} must serve at any moment: one has \
                     to stop to be replaced, and too few are left then"
                ),
            ));
        }
        check_servers(subject, backend, &daemons, findings);
    }
    for service in subject.services.values() {
        let why = match subject.observation.endpoints.get(&service.name) {
            None => "it was not asked",
            Some(fact) => match fact.why() {
                Some(why) => why,
                None => continue,
            },
        };
        findings.push(Finding::new(
            // Volutus works through the endpoints itself, and so does the synthetic user.
            Severity::Blocking,
            "endpoint-unseen",
            &service.name,
            format!("its endpoint did not say which versions it serves: {why}"),
            "See that the endpoint in Keystone's catalog answers from this machine, and that the \
             credentials in clouds.yaml are right.",
        ));
    }
}

fn too_few(subject: &Subject<'_>, what: impl std::fmt::Display, why: &str) -> Finding {
    let accepted = subject.policy.accept_downtime;
    let severity = if accepted { Severity::Serious } else { Severity::Blocking };
    Finding::new(
        severity,
        "single-replica",
        what,
        format!("zero downtime is not possible here: {why}"),
        if accepted {
            "Nothing, where the downtime is meant; the policy accepts it."
        } else {
            "Add replicas behind the load balancer, or accept the downtime with \
             `accept_downtime = true` in the policy."
        },
    )
}

fn check_servers(
    subject: &Subject<'_>,
    backend: &BackendName,
    daemons: &[&Declared<'_>],
    findings: &mut Vec<Finding>,
) {
    let seen = match subject.observation.backends.get(backend) {
        None => Err("no load balancer has a backend of that name"),
        Some(fact) => fact.value().ok_or_else(|| fact.why().unwrap_or("no reason was given")),
    };
    let servers = match seen {
        Ok(servers) => servers,
        Err(why) => {
            findings.push(blocking(
                "backend-missing",
                backend,
                format!("the cloud description names it, and it was not seen: {why}"),
                "Correct the backend's name in the cloud description, or see that the load \
                 balancer's runtime socket can be read.",
            ));
            return;
        }
    };
    for daemon in daemons {
        let name = daemon.declaration.server_name(&daemon.host.name);
        match servers.iter().find(|server| server.name == name) {
            None => findings.push(blocking(
                "server-missing",
                format!("{backend}/{name}"),
                format!("{} is declared to serve there, and the backend has no such server", daemon.id),
                "Correct `backend` or `server` of the daemon in the cloud description.",
            )),
            Some(server) if server.status == "UP" || server.status == "no check" => {}
            Some(server) => findings.push(Finding::new(
                Severity::Serious,
                "server-not-up",
                format!("{backend}/{name}"),
                format!(
                    "the load balancer says {}: one replica fewer serves than is declared, and \
                     somebody may have taken it out on purpose",
                    server.status
                ),
                "Find out why, and bring it back to UP.",
            )),
        }
    }
}

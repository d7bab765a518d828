//! Judges a cloud before a run: is everything such that an upgrade can be expected to end well?

mod backends;
mod daemons;
mod hazards;
mod hosts;
mod records;

use std::collections::BTreeMap;

use volutus_catalog::{Catalog, Daemon, Service};
use volutus_model::name::{DaemonId, PackageVersion, Series, ServiceName};
use volutus_model::{DaemonDeclaration, Finding, HostDeclaration, Inventory, Observation, Policy};

use crate::condense;

/// What the checks look at.
pub(crate) struct Subject<'a> {
    pub inventory: &'a Inventory,
    pub observation: &'a Observation,
    pub catalog: &'a Catalog,
    pub from: Series,
    pub to: Series,
    pub versions: &'a BTreeMap<ServiceName, PackageVersion>,
    pub policy: &'a Policy,
    pub daemons: Vec<Declared<'a>>,
    pub services: BTreeMap<&'a ServiceName, &'a Service>,
}

/// One declared daemon that the catalog knows.
pub(crate) struct Declared<'a> {
    pub id: DaemonId,
    pub host: &'a HostDeclaration,
    pub declaration: &'a DaemonDeclaration,
    pub service: &'a Service,
    pub facts: &'a Daemon,
}

/// Judges whether a cloud as it was observed can be taken from one series to another. What was
/// not seen is told, and never taken for good. Findings are ordered by severity, the worst
/// first; a run must not start while one is blocking.
#[must_use]
pub fn preflight(
    inventory: &Inventory,
    observation: &Observation,
    catalog: &Catalog,
    from: Series,
    to: Series,
    versions: &BTreeMap<ServiceName, PackageVersion>,
    policy: &Policy,
) -> Vec<Finding> {
    let known = catalog.daemons();
    let mut findings = Vec::new();
    let mut daemons = Vec::new();
    for (id, host, declaration) in inventory.daemons() {
        match known.get(&declaration.kind).copied() {
            Some((service, facts)) => {
                daemons.push(Declared { id, host, declaration, service, facts });
            }
            None => findings.push(crate::blocking(
                "daemon-unknown",
                &id,
                format!("the catalog knows no `{}`, so nobody plans for it", declaration.kind),
                "Add its service to the catalog as a data file, or take it out of the description.",
            )),
        }
    }
    let services = daemons.iter().map(|d| (&d.service.name, d.service)).collect();
    let subject = Subject { inventory, observation, catalog, from, to, versions, policy, daemons, services };
    hosts::check_hosts(&subject, &mut findings);
    daemons::check_daemons(&subject, &mut findings);
    records::check_records(&subject, &mut findings);
    backends::check_backends(&subject, &mut findings);
    hazards::check_hazards(&subject, &mut findings);
    condense(findings)
}

/// Some names of many, for a sentence.
pub(crate) fn some(names: &[String]) -> String {
    let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown} and {} more", names.len() - 8) } else { shown }
}

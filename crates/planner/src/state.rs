//! Where the cloud stands: from which series it comes, which versions it is to have, and which
//! of its daemons still have to be replaced.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::{Catalog, Daemon, DaemonRole, Service};
use volutus_model::name::{DaemonId, DaemonKind, PackageVersion, Series, ServiceName};
use volutus_model::observation::DaemonObservation;
use volutus_model::{DaemonDeclaration, HostDeclaration};
use volutus_model::{Inventory, Observation};

use crate::PlanningInput;
use crate::error::{Error, nearest};

/// One declared daemon with all that is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub id: DaemonId,
    pub host: &'a HostDeclaration,
    pub declaration: &'a DaemonDeclaration,
    pub service: &'a Service,
    pub facts: &'a Daemon,
    pub seen: &'a DaemonObservation,
    /// Whether it still has to be replaced.
    pub pending: bool,
    /// Whether somebody disabled it for scheduling.
    pub disabled: bool,
}

/// Where the cloud stands.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub from: Series,
    /// The adjacent series from `from` to the target, both included.
    pub way: Vec<Series>,
    pub versions: BTreeMap<ServiceName, PackageVersion>,
    /// By kind, in the order of the description.
    pub members: BTreeMap<&'a DaemonKind, Vec<Member<'a>>>,
    /// The services that are present.
    pub services: Vec<&'a Service>,
}

impl<'a> State<'a> {
    /// The kinds of a service that are present, in the catalog's order.
    pub fn kinds_of(&self, service: &'a Service) -> impl Iterator<Item = (&'a Daemon, &[Member<'a>])> {
        service
            .daemons
            .iter()
            .filter_map(|daemon| self.members.get(&daemon.kind).map(|members| (daemon, members.as_slice())))
    }

    /// The first daemon of the service's control plane: where its commands run.
    pub fn first_of(&self, service: &'a Service) -> Option<&Member<'a>> {
        let rank = |role: DaemonRole| u8::from(!role.is_central());
        self.kinds_of(service)
            .min_by_key(|(daemon, _)| rank(daemon.role))
            .and_then(|(_, members)| members.first())
    }
}

pub(crate) fn read_state<'a>(input: &'a PlanningInput, catalog: &'a Catalog) -> Result<State<'a>, Error> {
    let to = input.target;
    if !catalog.series.contains_key(&to) {
        return Err(Error::UnknownSeries {
            given: to.to_string(),
            known: catalog.series.keys().copied().collect(),
            nearest: nearest(&to.to_string(), catalog.series.keys().rev()).copied(),
        });
    }
    let mut members = read_members(&input.inventory, &input.observation, catalog, Unseen::Refused)?;
    let services = present(catalog, &members);
    let versions = read_versions(input, catalog, &services)?;
    let from = read_from(input, catalog, &mut members, &versions)?;
    if from > to {
        return Err(Error::Older { from, to });
    }
    if catalog.path(from, to).is_none() {
        let way = catalog.way(from, to).unwrap_or_default();
        return Err(Error::ForbiddenPath { from, to, way });
    }
    for service in &services {
        let old = service.record_versions.get(&from);
        let other = input
            .observation
            .anchors(service.name.as_str())
            .find(|anchor| old.is_none_or(|old| anchor.version != old.to_string()));
        if let Some(anchor) = other {
            return Err(Error::OtherAnchor {
                service: service.name.clone(),
                version: anchor.version.clone(),
                from,
            });
        }
    }
    Ok(State { from, way: catalog.between(from, to), versions, members, services })
}

/// The services that some daemon is declared of.
pub(crate) fn present<'a>(
    catalog: &'a Catalog,
    members: &BTreeMap<&'a DaemonKind, Vec<Member<'a>>>,
) -> Vec<&'a Service> {
    let has = |service: &&Service| service.daemons.iter().any(|d| members.contains_key(&d.kind));
    catalog.services.values().filter(has).collect()
}

/// What to make of a daemon whose process does not run, so that its version is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// Nothing is planned upon it.
    Refused,
    /// Its link tells what a restart of it would run, and that is enough to put it back.
    ByLink,
    /// It is left out: whoever asks looks at what that means.
    LeftOut,
}

pub(crate) fn read_members<'a>(
    inventory: &'a Inventory,
    observation: &'a Observation,
    catalog: &'a Catalog,
    when_unseen: Unseen,
) -> Result<BTreeMap<&'a DaemonKind, Vec<Member<'a>>>, Error> {
    if observation.inventory != inventory.digest() {
        return Err(Error::other_inventory(inventory, observation.at));
    }
    let known = catalog.daemons();
    let mut members: BTreeMap<&DaemonKind, Vec<Member<'a>>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let mut unseen = Vec::new();
    let disabled: BTreeSet<(&str, &str)> = observation
        .records
        .values()
        .filter_map(|fact| fact.value())
        .flatten()
        .filter(|record| record.disabled.is_some())
        .map(|record| (record.binary.as_str(), record.host.as_str()))
        .collect();
    for (id, host, declaration) in inventory.daemons() {
        let Some((service, facts)) = known.get(&declaration.kind).copied() else {
            unknown.insert(declaration.kind.clone());
            continue;
        };
        let seen = match observation.daemons.get(&id) {
            None => {
                unseen.push((id, "it was not looked at".to_owned()));
                continue;
            }
            Some(fact) => match fact.value() {
                Some(seen) => seen,
                None => {
                    unseen.push((id, fact.why().unwrap_or("no reason was given").to_owned()));
                    continue;
                }
            },
        };
        let by_link = when_unseen == Unseen::ByLink && seen.link.value().is_some();
        if let Some(why) = seen.version.why()
            && !by_link
        {
            unseen.push((id, why.to_owned()));
            continue;
        }
        let binary = facts.record.as_ref().map_or("", |record| record.binary.as_str());
        members.entry(&facts.kind).or_default().push(Member {
            disabled: disabled.contains(&(binary, host.name.as_str())),
            id,
            host,
            declaration,
            service,
            facts,
            seen,
            pending: true,
        });
    }
    if !unknown.is_empty() {
        let kinds: Vec<DaemonKind> = unknown.into_iter().collect();
        let nearest = nearest(kinds[0].as_str(), known.keys().copied()).cloned();
        return Err(Error::UnknownDaemons { kinds, nearest });
    }
    if !unseen.is_empty() && when_unseen != Unseen::LeftOut {
        return Err(Error::Unseen { unseen });
    }
    if members.is_empty() {
        return Err(Error::NoDaemons { cloud: inventory.name.to_string() });
    }
    Ok(members)
}

fn read_versions(
    input: &PlanningInput,
    catalog: &Catalog,
    services: &[&Service],
) -> Result<BTreeMap<ServiceName, PackageVersion>, Error> {
    let to = input.target;
    let mut given = input.versions.clone().unwrap_or_default();
    if let Some(lock) = &input.lock {
        for service in services {
            let package = lock.packages.get(&service.distribution).ok_or_else(|| Error::NotLocked {
                service: service.name.clone(),
                distribution: service.distribution.clone(),
                lock: lock.name.clone(),
            })?;
            given.insert(service.name.clone(), package.version.clone());
        }
    }
    for (service, version) in &given {
        let wrong =
            |why: String| Error::WrongVersion { service: service.clone(), version: version.clone(), to, why };
        if !services.iter().any(|present| present.name == *service) {
            return Err(wrong("the cloud has no such service".to_owned()));
        }
        match catalog.series_of(service, version) {
            Some(series) if series == to => {}
            Some(series) => return Err(wrong(format!("it belongs to {series}"))),
            None => return Err(wrong("it belongs to no series of the catalog".to_owned())),
        }
    }
    let mut versions = BTreeMap::new();
    for service in services {
        let version = given
            .get(&service.name)
            .or_else(|| service.versions.get(&to))
            .ok_or_else(|| Error::NoVersion { service: service.name.clone(), to })?;
        versions.insert(service.name.clone(), version.clone());
    }
    Ok(versions)
}

/// What a daemon runs, and the series that it belongs to.
pub(crate) fn series_of<'a>(
    member: &Member<'a>,
    catalog: &Catalog,
) -> Result<(Series, &'a PackageVersion), Error> {
    let Some(runs) = member.seen.version.value() else {
        // Made sure of before; should that ever change, nothing may be guessed.
        let unseen = vec![(member.id.clone(), "its version is not known".to_owned())];
        return Err(Error::Unseen { unseen });
    };
    let service = &member.service.name;
    let series = catalog.series_of(service, runs).ok_or_else(|| Error::UnknownVersion {
        daemon: member.id.clone(),
        service: service.clone(),
        version: runs.clone(),
        known: catalog.series.keys().copied().collect(),
    })?;
    Ok((series, runs))
}

/// Derives the series that the cloud comes from, and marks daemons that are on the target
/// already as not pending: a half-rolled cloud can be planned forward.
fn read_from(
    input: &PlanningInput,
    catalog: &Catalog,
    members: &mut BTreeMap<&DaemonKind, Vec<Member<'_>>>,
    versions: &BTreeMap<ServiceName, PackageVersion>,
) -> Result<Series, Error> {
    let to = input.target;
    let mut sources: BTreeMap<Series, (DaemonId, usize)> = BTreeMap::new();
    let mut other: Vec<(DaemonId, PackageVersion, PackageVersion)> = Vec::new();
    let mut total = 0;
    for member in members.values_mut().flatten() {
        total += 1;
        let service = &member.service.name;
        let (series, runs) = series_of(member, catalog)?;
        // Every service that has a member has a version.
        let wanted = &versions[service];
        if series == to {
            member.pending = false;
            if runs != wanted {
                other.push((member.id.clone(), runs.clone(), wanted.clone()));
            }
        } else {
            sources.entry(series).or_insert_with(|| (member.id.clone(), 0)).1 += 1;
        }
    }
    let count = other.len();
    if let Some((first, runs, wanted)) = other.into_iter().next() {
        return Err(Error::OtherVersionOfTarget { to, count, first, runs, wanted });
    }
    match sources.len() {
        // All daemons are new, and what keeps the way back open is still there: what is left to do
        // is to watch the cloud, and to finalize it.
        0 => anchored_from(input, catalog)
            .filter(|from| catalog.path(*from, to).is_some())
            .ok_or(Error::AlreadyOnTarget { to, daemons: total }),
        1 => Ok(*sources.keys().next().expect("one entry has just been counted")),
        _ => Err(Error::MixedSeries {
            to,
            seen: sources.into_iter().map(|(series, (id, count))| (series, id, count)).collect(),
        }),
    }
}

/// The series at whose record version an anchor was seen.
fn anchored_from(input: &PlanningInput, catalog: &Catalog) -> Option<Series> {
    catalog.services.values().filter(|service| service.anchor.is_some()).find_map(|service| {
        let anchor = input.observation.anchors(service.name.as_str()).next()?;
        let version: u32 = anchor.version.parse().ok()?;
        // Two series may write the same version; the later one is the one that was left last.
        service.record_versions.iter().rev().find(|(_, v)| **v == version).map(|(series, _)| *series)
    })
}

//! New code is put beside the old on every host. It has no effect on what runs.
//!
//! Hosts of the control plane are a stage of their own: their rolls need not wait until
//! thousands of computes have the code, only the first compute does.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::name::{HostName, PackageVersion, ServiceName};
use volutus_model::plan::{Action, Phase, PlanKind};
use volutus_model::{HostDeclaration, LockedRelease, PatchName, PatchedRelease, VersionChange};

use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// Building an environment of six services from packages takes minutes on a slow mirror.
const STAGE_TIMEOUT_S: u32 = 3_600;
/// Staging is expected to fetch what a mirror or cache has ready.
const STAGE_EXPECTED_S: u32 = 5;
/// Looking that everything is there already.
const STAGED_EXPECTED_S: u32 = 1;

pub(crate) fn plan_stage_release(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut services: BTreeMap<&HostName, BTreeMap<Option<PatchName>, BTreeSet<&ServiceName>>> =
        BTreeMap::new();
    let mut control: BTreeSet<&HostName> = BTreeSet::new();
    for member in draft.state.members.values().flatten() {
        // On the way back, and for a patch, only hosts that have something to switch are looked at.
        if (draft.is_back() || draft.is_patch()) && !member.pending {
            continue;
        }
        let release = draft.new_patch(member);
        services
            .entry(&member.host.name)
            .or_default()
            .entry(release)
            .or_default()
            .insert(&member.service.name);
        if member.facts.role.is_central() {
            control.insert(&member.host.name);
        }
    }
    let (mut control_steps, mut compute_steps) = (Vec::new(), Vec::new());
    // In the order of the description, so that a plan reads like it.
    for host in &draft.input.inventory.hosts {
        let Some(here) = services.get(&host.name) else {
            continue;
        };
        let series = draft.input.target;
        let (mut actions, mut expected_s, mut names) = (Vec::new(), 0, Vec::new());
        for (release, here) in here {
            let versions: BTreeMap<ServiceName, PackageVersion> = draft
                .state
                .versions
                .iter()
                .filter(|(service, _)| here.contains(service))
                .map(|(service, version)| (service.clone(), version.clone()))
                .collect();
            let staged = release.is_none() && is_staged(draft, &host.name, &versions);
            expected_s += if staged { STAGED_EXPECTED_S } else { STAGE_EXPECTED_S };
            names.push(release.as_ref().map_or(series.to_string(), |name| format!("{series}+{name}")));
            let patch = release
                .as_ref()
                .map(|name| PatchedRelease { name: name.clone(), packages: packages(draft, host) });
            // A patched release differs from what was locked by what it patches.
            let lock =
                draft.input.lock.as_ref().filter(|_| patch.is_none()).map(|lock| locked(draft, lock, here));
            actions.push(Action::StageRelease { host: host.name.clone(), series, versions, patch, lock });
        }
        let new = step(
            format!("stage/{}", host.name),
            format!("put {} beside the running release on {}", names.join(" and "), host.name),
            actions,
            no_impact("what runs is not touched"),
            expected_s,
            STAGE_TIMEOUT_S,
        )?;
        if control.contains(&host.name) { &mut control_steps } else { &mut compute_steps }.push(new);
    }
    let parallel_max = draft.policy().stage_parallel_max;
    for (id, title, steps) in [
        ("stage-control", "the control plane's hosts", control_steps),
        ("stage-computes", "the compute hosts", compute_steps),
    ] {
        let title = if draft.is_back() {
            format!("see that the old release is on {title}")
        } else if draft.is_patch() {
            format!("put the patched release on {title} that need it")
        } else {
            format!("put the new release on {title}")
        };
        let why = "the baseline is of a cloud that nothing is done to";
        let after = draft.edge("baseline", why).into_iter().collect();
        draft.add(NewStage { id: id.to_owned(), phase: Phase::Stage, title, parallel_max, after, steps })?;
    }
    Ok(())
}

/// What of a locked release concerns a host: the services that it has, and whatever is no service.
fn locked(draft: &Draft<'_>, lock: &LockedRelease, here: &BTreeSet<&ServiceName>) -> LockedRelease {
    let elsewhere = |name: &String| {
        let mut services = draft.catalog.services.values();
        services.any(|service| service.distribution == *name && !here.contains(&service.name))
    };
    let packages = lock.packages.iter().filter(|(name, _)| !elsewhere(name));
    LockedRelease {
        name: lock.name.clone(),
        packages: packages.map(|(name, package)| (name.clone(), package.clone())).collect(),
    }
}

/// The packages that the plan replaces on a host. What a way back leads to is there already, whatever is in it.
fn packages(draft: &Draft<'_>, host: &HostDeclaration) -> BTreeMap<String, PackageVersion> {
    let PlanKind::Patch { changes, .. } = &draft.kind else { return BTreeMap::new() };
    let here = || draft.state.members.values().flatten().filter(|m| m.pending && m.host.name == host.name);
    let concerns = |change: &&VersionChange| {
        here().any(|member| {
            let own = &member.service.distribution;
            if !draft.catalog.may_load(member.service, &change.distribution) {
                return false;
            }
            let runs = draft.input.observation.running_package(&member.id, own, &change.distribution);
            runs.is_some_and(|runs| change.from.contains(runs))
        })
    };
    let concerned = changes.iter().filter(concerns);
    concerned.map(|change| (change.distribution.clone(), change.to.clone())).collect()
}

fn is_staged(draft: &Draft<'_>, host: &HostName, versions: &BTreeMap<ServiceName, PackageVersion>) -> bool {
    let seen = draft.input.observation.hosts.get(host).and_then(|fact| fact.value());
    seen.and_then(|seen| seen.staged.get(&draft.input.target))
        .is_some_and(|there| versions.iter().all(|(service, v)| there.get(service) == Some(v)))
}

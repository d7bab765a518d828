//! What the rules look at: the plan's graph, and the declared daemons with what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::{Catalog, Daemon, Service};
use volutus_model::name::{DaemonId, DaemonKind, HostName, PackageVersion, Series, ServiceName};
use volutus_model::plan::{Action, Plan, PlanKind, Refresh};
use volutus_model::{DaemonDeclaration, HostDeclaration, Inventory, Observation, PatchName, Policy};

use crate::graph::{At, Graph};

/// One declared daemon that the catalog knows.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub host: &'a HostDeclaration,
    pub declaration: &'a DaemonDeclaration,
    pub service: &'a Service,
    pub facts: &'a Daemon,
}

pub(crate) struct Context<'a> {
    pub plan: &'a Plan,
    pub inventory: &'a Inventory,
    pub observation: &'a Observation,
    pub catalog: &'a Catalog,
    pub policy: &'a Policy,
    pub graph: Graph<'a>,
    pub members: BTreeMap<DaemonId, Member<'a>>,
    /// The steps that restart each host.
    pub restarts: BTreeMap<&'a HostName, Vec<usize>>,
    /// The steps in which each host is in work, from its disabling on, where the plan empties hosts.
    pub in_work: BTreeMap<&'a HostName, Vec<usize>>,
    /// Where each daemon is switched; in the plan of a mitigation, where it restarts.
    pub switches: BTreeMap<&'a DaemonId, Vec<At>>,
}

impl<'a> Context<'a> {
    pub fn new(
        plan: &'a Plan,
        inventory: &'a Inventory,
        observation: &'a Observation,
        catalog: &'a Catalog,
        policy: &'a Policy,
    ) -> Self {
        let known = catalog.daemons();
        let members = inventory
            .daemons()
            .filter_map(|(id, host, declaration)| {
                let (service, facts) = known.get(&declaration.kind).copied()?;
                Some((id, Member { host, declaration, service, facts }))
            })
            .collect();
        let graph = Graph::new(plan);
        let mut switches: BTreeMap<&DaemonId, Vec<At>> = BTreeMap::new();
        let mut in_work: BTreeMap<&HostName, Vec<usize>> = BTreeMap::new();
        let mut restarts: BTreeMap<&HostName, Vec<usize>> = BTreeMap::new();
        for (at, action) in graph.actions() {
            match action {
                Action::SwitchDaemon { daemon, .. } => switches.entry(daemon).or_default().push(at),
                Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } if plan.kind.is_mitigation() => {
                    switches.entry(daemon).or_default().push(at);
                }
                Action::DisableCompute { host, .. }
                    if matches!(plan.kind, PlanKind::Reboot { .. }) || plan.drains.is_some() =>
                {
                    in_work.entry(host).or_default().push(at.step);
                }
                Action::RebootHost { host, .. } => restarts.entry(host).or_default().push(at.step),
                _ => {}
            }
        }
        Self { plan, inventory, observation, catalog, policy, graph, members, restarts, in_work, switches }
    }

    /// Whether the plan takes another one back.
    pub fn is_back(&self) -> bool {
        self.plan.kind.is_rollback()
    }

    /// Whether the plan patches within a series.
    pub fn is_patch(&self) -> bool {
        self.plan.kind.is_patch()
    }

    /// Whether the plan of a patch or a mitigation has to touch a daemon: it was seen to run a version that
    /// is exposed.
    pub fn is_exposed(&self, id: &DaemonId, service: &Service) -> bool {
        let runs = |distribution: &str, versions: &BTreeSet<PackageVersion>| {
            let possible = self.catalog.may_load(service, distribution);
            let runs = self.observation.running_package(id, &service.distribution, distribution);
            possible && runs.is_some_and(|runs| versions.contains(runs))
        };
        match &self.plan.kind {
            PlanKind::Patch { changes, .. } => changes.iter().any(|one| runs(&one.distribution, &one.from)),
            PlanKind::Mitigation { exposed, .. } => {
                exposed.iter().any(|one| runs(&one.distribution, &one.versions))
            }
            PlanKind::Upgrade | PlanKind::Rollback { .. } | PlanKind::Reboot { .. } => false,
        }
    }

    /// Which release a directory is that a daemon is switched from or to: one of the plan's series, and
    /// of these the patched one of that name where it is one.
    pub fn release_at(&self, path: &str, series: Series, service: &ServiceName) -> Option<Option<PatchName>> {
        self.inventory.releases.release_at(path, series, service)
    }

    /// Whether a directory is the one that a daemon is to be switched from: its link points there, or,
    /// where its link points elsewhere by now, it is the series' own.
    pub fn is_old_release(&self, id: &DaemonId, service: &ServiceName, path: &str) -> bool {
        let seen = self.observation.daemons.get(id).and_then(|fact| fact.value());
        let link = seen.and_then(|seen| seen.link.value());
        match link.filter(|link| self.release_at(link, self.plan.from, service).is_some()) {
            Some(link) => link == path,
            None => path == self.inventory.releases.path_of(self.plan.from, service),
        }
    }

    /// Whether a directory is one that a daemon may be switched to: the series' own; on the way back any
    /// of the series, since it leads to where the daemon came from; and the plan's own for a patch.
    pub fn is_new_release(&self, service: &ServiceName, path: &str) -> bool {
        let found = self.release_at(path, self.plan.to, service);
        match &self.plan.kind {
            PlanKind::Patch { release, .. } => found.flatten().as_ref() == Some(release),
            PlanKind::Rollback { .. } => found.is_some(),
            PlanKind::Upgrade | PlanKind::Reboot { .. } | PlanKind::Mitigation { .. } => found == Some(None),
        }
    }

    /// The older and the newer of the plan's two series, whichever way it leads.
    pub fn series(&self) -> (Series, Series) {
        let (from, to) = (self.plan.from, self.plan.to);
        (from.min(to), from.max(to))
    }

    /// Whether a daemon was seen to run the version that the plan wants.
    pub fn on_target(&self, id: &DaemonId, service: &ServiceName) -> bool {
        let wanted = self.plan.versions.get(service);
        wanted.is_some() && self.observation.running_version(id) == wanted
    }

    /// What a daemon was seen to run.
    pub fn runs(&self, id: &DaemonId) -> Option<&'a PackageVersion> {
        self.observation.running_version(id)
    }

    /// Where daemons of a kind are switched.
    pub fn switches_of(&self, kind: &DaemonKind) -> Vec<At> {
        self.switches
            .iter()
            .filter(|(daemon, _)| daemon.kind == *kind)
            .flat_map(|(_, places)| places.iter().copied())
            .collect()
    }
}

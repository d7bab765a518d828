//! The driver of a real cloud: which file carries out which action.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use volutus_catalog::{Catalog, Service};
use volutus_engine::ports::{Driver, Order, OutcomeFuture, Say};
use volutus_model::Inventory;
use volutus_model::fleet::HookPlace;
use volutus_model::inventory::Ovn;
use volutus_model::name::{AttemptId, HostName, RunId, ServiceName, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::{Action, Refresh};
use volutus_openstack::{Client, CloudConfig};

use crate::attempt::{Attempt, Attempted, permanent};
use crate::channel::{Channel, Trouble};
use crate::lanes::Lanes;
use crate::ssh::Hosts;
use crate::{
    Error, agents, anchor, canary, compute, drain, gate, gateways, haproxy, hook, newcomers, prove, reboot,
    refresh, release, rest, schema, shadow, snapshot, work,
};

/// Bound of one API request of the driver's own. Disabling a compute service waits for a call to
/// that compute, which nova gives 60 s (`rpc_response_timeout`).
const API_TIMEOUT: Duration = Duration::from_secs(65);
/// Bound of one health request to a replica: a replica that needs longer does not serve.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// What the driver adds to an attempt's time before it cuts it off: the drivers keep their own
/// deadline, and are given time to collect evidence after it.
const EVIDENCE_TIME: Duration = Duration::from_secs(60);

/// Carries out actions on a real cloud, and observes it.
pub struct CloudDriver {
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) operator: Client,
    /// The synthetic user: an ordinary member.
    pub(crate) prober: Client,
    pub(crate) http: reqwest::Client,
    pub(crate) gates: gate::Gates,
    /// Where it is kept what old code answered; one folder below it per run.
    pub(crate) contract_dir: PathBuf,
    left: Mutex<Left>,
    /// The instances that move, of all attempts.
    pub(crate) lanes: Lanes,
    /// Why work in batches is to wait.
    held: Mutex<Option<String>>,
}

/// What attempts have left on hosts, to be removed once their outcomes are safe in the journal.
#[derive(Default)]
struct Left {
    /// Host, run, step and attempt of results.
    results: BTreeSet<(HostName, RunId, StepId, AttemptId)>,
    /// Hosts that were freed of what earlier runs left.
    swept: BTreeSet<HostName>,
}

impl CloudDriver {
    /// Makes a driver for the cloud that `inventory` describes. `base_dir` is the directory in
    /// which relative paths of the description start: that of `cloud.toml`. What client gates say, and
    /// what old code answered, is kept in folders of `state_dir`, made where they are first needed.
    /// Nothing is connected yet: that happens when it is first needed.
    ///
    /// # Errors
    /// Where files that the description names are missing, or its credentials cannot be read.
    pub fn connect(
        inventory: Arc<Inventory>,
        base_dir: &Path,
        state_dir: &Path,
        catalog: Arc<Catalog>,
    ) -> Result<Self, Error> {
        let credentials = &inventory.credentials;
        let path = credentials.clouds_yaml.as_ref().map(|name| base_dir.join(name));
        let config = CloudConfig::load(path.as_deref(), &credentials.operator).map_err(Error::Credentials)?;
        // Gates run in a directory of their own, where a relative path would lead nowhere.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let gates = gate::Gates {
            folder: absolute(&state_dir.join("gates")),
            hooks: absolute(&state_dir.join("hooks")),
            clouds_yaml: absolute(&config.file),
            cloud: credentials.prober.clone(),
            operator: credentials.operator.clone(),
        };
        let operator = Client::new(config, API_TIMEOUT).map_err(Error::Credentials)?;
        let config = CloudConfig::load(path.as_deref(), &credentials.prober).map_err(Error::Credentials)?;
        let prober = Client::new(config, API_TIMEOUT).map_err(Error::Credentials)?;
        let http = reqwest::Client::builder()
            .timeout(HEALTH_TIMEOUT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(Error::Http)?;
        let hosts = Arc::new(Hosts::new(&inventory, base_dir)?);
        Ok(Self {
            inventory,
            catalog,
            hosts,
            operator,
            prober,
            http,
            gates,
            contract_dir: absolute(&state_dir.join("contract")),
            left: Mutex::default(),
            lanes: Lanes::default(),
            held: Mutex::default(),
        })
    }

    /// Removes what attempts have left on hosts (results of remote work) and closes all
    /// connections. To be called when every outcome is durable; results on hosts that cannot be
    /// reached stay until they reboot, or until the next run comes by.
    pub async fn close(&self) {
        let results = std::mem::take(&mut self.left().results);
        let mut by_host: BTreeMap<(HostName, RunId), Vec<AttemptId>> = BTreeMap::new();
        for (host, run, _, attempt) in results {
            by_host.entry((host, run)).or_default().push(attempt);
        }
        let removals = by_host.iter().map(|((host, run), attempts)| async move {
            let removed = match Channel::to_host(&self.hosts, host).await {
                Ok(mut channel) => work::forget(&mut channel, run, attempts).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = removed {
                tracing::warn!(%host, %error, "results of remote work stay in /run/volutus-work");
            }
        });
        futures::future::join_all(removals).await;
        self.hosts.close_all().await;
    }

    /// What the catalog knows of a service.
    pub(crate) fn service(&self, name: &ServiceName) -> Result<&Service, Outcome> {
        self.catalog.services.get(name).ok_or_else(|| {
            permanent(
                format!("the catalog does not know service `{name}`, which the plan names"),
                "use the catalog that the plan was made with",
                vec![],
            )
        })
    }

    /// Configuration files of a service, as this cloud declares them, else the catalog.
    pub(crate) fn config_files(&self, service: &Service) -> Vec<String> {
        self.inventory
            .services
            .get(&service.name)
            .map(|declared| declared.config_files.clone())
            .filter(|files| !files.is_empty())
            .unwrap_or_else(|| service.config_files.clone())
    }

    /// The release directories that a service may run from: all series that are known.
    pub(crate) fn releases_of(&self, service: &ServiceName) -> Vec<String> {
        let releases = &self.inventory.releases;
        let both = |series: &volutus_model::Series| {
            [releases.path_of(*series, service), releases.patched_pattern(*series, service)]
        };
        self.catalog.series.keys().flat_map(both).collect()
    }

    /// Why work in batches is to wait, where it is to.
    pub(crate) fn held(&self) -> Option<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Left> {
        // The set is whole between any two statements that change it.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes results from the host whose outcomes are durable: those of earlier attempts of the
    /// same step, since the engine orders an action only after the outcome of the one before is
    /// written, and what other runs left there.
    pub(crate) async fn forget_reported(
        &self,
        channel: &mut Channel,
        host: &HostName,
        order: &Order,
    ) -> Result<(), Trouble> {
        let (attempts, first) = {
            let mut left = self.left();
            let mine = |entry: &&(HostName, RunId, StepId, AttemptId)| {
                entry.0 == *host && entry.2 == order.step && entry.3 != order.attempt
            };
            let found: Vec<_> = left.results.iter().filter(mine).cloned().collect();
            for entry in &found {
                left.results.remove(entry);
            }
            let first = left.swept.insert(host.clone());
            (found.into_iter().map(|entry| entry.3).collect::<Vec<_>>(), first)
        };
        if attempts.is_empty() && !first {
            return Ok(());
        }
        work::forget(channel, &order.run, &attempts).await
    }

    /// Work outside of a run leaves the results of runs on the host alone: a run that was cut off
    /// still looks for them.
    pub(crate) fn pretend_swept(&self, host: &HostName) {
        self.left().swept.insert(host.clone());
    }

    async fn carry_out(&self, attempt: &Attempt<'_>) -> Attempted {
        match &attempt.order.action {
            Action::Watch { seconds } => {
                attempt.say(format!("watching for {seconds} s"));
                tokio::time::sleep(Duration::from_secs(u64::from(*seconds))).await;
                Ok(Outcome::done(format!("{seconds} s went by")))
            }
            Action::StageRelease { host, series, versions, patch, lock } => {
                let (patch, lock) = (patch.as_ref(), lock.as_ref());
                let wanted = release::Wanted { host, series: *series, versions, patch, lock };
                release::stage(attempt, &wanted).await
            }
            Action::CheckUpgrade { service, host, argv } => {
                schema::check_upgrade(attempt, service, host, argv).await
            }
            Action::SnapshotDatabase { service, host, databases, directory, key_file, keep } => {
                let key_file = key_file.as_deref();
                let wanted = snapshot::Wanted { service, databases, directory, key_file, keep: *keep };
                snapshot::take(attempt, host, &wanted).await
            }
            Action::MigrateSchema { service, host, phase, argv, success, rerun } => {
                let command = schema::Command { service, phase: *phase, argv, success, rerun };
                schema::migrate(attempt, host, &command).await
            }
            Action::DrainBackend { backend, server, others_up_min, .. } => {
                haproxy::drain(attempt, backend, server, *others_up_min).await
            }
            Action::UndrainBackend { backend, server, .. } => {
                haproxy::undrain(attempt, backend, server).await
            }
            Action::ExchangeReplicas { backend, enter, leave } => {
                haproxy::exchange(attempt, backend, enter, leave).await
            }
            Action::SettleReplicas { backend, service, replicas } => {
                haproxy::settle(attempt, &haproxy::Settling { backend, service, replicas }).await
            }
            Action::DisableCompute { host, unless_others_did } => {
                compute::disable(attempt, host, *unless_others_did).await
            }
            Action::EnableCompute { host } => compute::enable(attempt, host).await,
            Action::SwitchDaemon { daemon, service, unit, link, from, to } => {
                let switch = release::Switch { daemon, service, unit, link, from, to };
                release::switch(attempt, &switch).await
            }
            Action::ProveDaemon { daemon, service, unit, version, proofs } => {
                let claim = prove::Claim { daemon, service, unit, version: Some(version), proofs };
                prove::prove(attempt, &claim).await
            }
            Action::KeepAnchor(anchor) => anchor::keep(attempt, anchor).await,
            Action::ReleaseAnchor(anchor) => anchor::release(attempt, anchor).await,
            Action::ShadowApi { shadow, gate, review, waivers, traffic, writes } => {
                let terms = shadow::Terms { breaking: *gate, review: *review, waivers };
                let what = shadow::What { traffic: traffic.as_deref(), writes: *writes };
                shadow::prove(attempt, shadow, &terms, &what).await
            }
            Action::AskAgain { shadow, gate, review, waivers } => {
                let terms = shadow::Terms { breaking: *gate, review: *review, waivers };
                shadow::ask_again(attempt, shadow, &terms).await
            }
            Action::StopShadow { shadow } => shadow::stop(attempt, shadow).await,
            Action::MoveInstances { host, moves, parallel_max, all_max } => {
                drain::move_instances(attempt, host, moves, *parallel_max, *all_max).await
            }
            Action::MoveNewcomers(wanted) => newcomers::move_off(attempt, wanted).await,
            Action::StopInstances { host, instances } => rest::stop(attempt, host, instances).await,
            Action::StartInstances { host, instances } => rest::start(attempt, host, instances).await,
            Action::ProveEmpty { host, stays } => drain::prove_empty(attempt, host, stays).await,
            Action::LowerGateways { host } => gateways::lower(attempt, self.ovn()?, host).await,
            Action::RestoreGateways { host } => gateways::restore(attempt, self.ovn()?, host).await,
            Action::MoveNetworkDuties { host } => agents::move_off(attempt, host).await,
            Action::RestoreNetworkDuties { host } => agents::give_back(attempt, host).await,
            Action::RebootHost { host, kernel, .. } => reboot::reboot(attempt, host, kernel.as_deref()).await,
            Action::RunCommand { host, what, argv, unchanged_exit, .. } => {
                reboot::run_command(attempt, host, what, argv, *unchanged_exit).await
            }
            Action::RunGate(gate) => gate::run(attempt, gate).await,
            Action::RunHook(call) => hook::run(attempt, call).await,
            Action::BootCanary { host } => canary::boot(attempt, host).await,
            Action::RefreshDaemon { daemon, service, unit, how } => {
                refresh::refresh(attempt, daemon, service, unit, *how).await
            }
        }
    }
}

impl CloudDriver {
    /// Where OVN's databases are asked.
    fn ovn(&self) -> Result<&Ovn, Outcome> {
        self.inventory.ovn.as_ref().ok_or_else(|| {
            permanent(
                "the plan moves OVN's gateways, and the cloud description has no `[ovn]` any more",
                "put the table back as it was when the plan was made, and resume; or abort and plan anew",
                Vec::new(),
            )
        })
    }
}

impl Driver for CloudDriver {
    fn perform<'a>(&'a self, order: &'a Order, say: Say<'a>) -> OutcomeFuture<'a> {
        Box::pin(async move {
            let limit = Duration::from_secs(u64::from(order.timeout_s));
            let deadline = Instant::now() + limit;
            let attempt = Attempt { cloud: self, order, say, deadline, told: Mutex::default() };
            let outcome = match tokio::time::timeout(limit + EVIDENCE_TIME, self.carry_out(&attempt)).await {
                Ok(Ok(outcome) | Err(outcome)) => outcome,
                Err(_) => Outcome::Unknown {
                    why: format!(
                        "{} came to no end within {} s",
                        order.action.summary(),
                        (limit + EVIDENCE_TIME).as_secs()
                    ),
                },
            };
            // An attempt that nobody knows the end of is looked for again by its result.
            if let Some(host) = leaves_result(&order.action)
                && !matches!(outcome, Outcome::Unknown { .. })
            {
                let entry = (host.clone(), order.run.clone(), order.step.clone(), order.attempt.clone());
                self.left().results.insert(entry);
            }
            outcome
        })
    }

    fn hold_batches(&self, why: Option<String>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// The host on which an action runs as a unit, and leaves a result; none where it does not.
fn leaves_result(action: &Action) -> Option<&HostName> {
    match action {
        Action::RunHook(call) => match &call.on {
            HookPlace::Host(on) => Some(on),
            HookPlace::Volutus => None,
        },
        Action::StageRelease { .. }
        | Action::CheckUpgrade { .. }
        | Action::SnapshotDatabase { .. }
        | Action::MigrateSchema { .. }
        | Action::RunCommand { .. }
        | Action::SwitchDaemon { .. }
        | Action::KeepAnchor(_)
        | Action::ReleaseAnchor(_)
        | Action::ShadowApi { .. }
        | Action::StopShadow { .. }
        | Action::RefreshDaemon { how: Refresh::Restart, .. } => action.host(),
        _ => None,
    }
}

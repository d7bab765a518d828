//! What a seed stands for: a cloud, a policy, faults, mishaps, an operator.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use volutus_catalog::Catalog;
use volutus_engine::Command;
use volutus_model::observation::Fact;
use volutus_model::{
    Advertising, ApiPolicy, ContractPolicy, Gate, Inventory, Observation, OnFailure, Policy, Series,
};
use volutus_planner::PlanningInput;
use volutus_planner::described::{Shape, describe, observe};

use crate::Error;
use crate::fault::{Faults, Mishap};
use crate::mutant::Mutant;
use crate::prepared::Prepared;
use crate::rng::Rng;
use crate::simulation::{Config, Temper};

/// Series that a run of the simulation goes from and to: the two adjacent hops that the catalog
/// knows best, and one over a SLURP cycle.
const HOPS: [(&str, &str); 3] = [("2025.2", "2026.1"), ("2026.1", "2026.2"), ("2025.1", "2026.1")];
/// Which services a cloud has. nova and what it needs are always there, because its order is the
/// richest.
const SERVICES: [&[&str]; 4] = [
    &["keystone", "placement", "nova"],
    &["keystone", "placement", "nova", "neutron"],
    &["placement", "nova", "cinder", "glance"],
    &["keystone", "glance", "placement", "nova", "neutron", "cinder"],
];

const ON_FAILURE: [OnFailure; 3] = [OnFailure::Halt, OnFailure::RetryThenHalt, OnFailure::RollBack];

/// So many clouds and policies there are; making a plan takes longer than carrying it out.
const FORMS: u64 = 1_024;

/// What a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Form {
    controllers: usize,
    computes: usize,
    zones: usize,
    services: usize,
    hop: usize,
    parallel: u32,
    wave: u32,
    serving_min: u32,
    attempts_max: u32,
    failed_max: u32,
    person: bool,
    on_failure: usize,
    finalize_after_s: Option<u32>,
    only_grows: bool,
    /// Whether answers are compared.
    contract: bool,
}

type Ready = HashMap<(Form, Option<Mutant>), Arc<Prepared>>;

/// Makes seeds into runs; plans of one form are made once.
#[derive(Debug)]
pub struct Scenarios {
    pub(crate) catalog: Catalog,
    ready: Mutex<Ready>,
}

impl Scenarios {
    /// With the catalog that Volutus ships.
    ///
    /// # Errors
    /// [`Error::Unfit`] where it does not load.
    pub fn new() -> Result<Self, Error> {
        let catalog = Catalog::builtin().map_err(|error| Error::Unfit(error.to_string()))?;
        Ok(Self { catalog, ready: Mutex::default() })
    }

    /// The run of a seed; `None` where the mutant has nothing to spoil in its plan.
    pub(crate) fn draw(
        &self,
        seed: u64,
        mutant: Option<Mutant>,
        trace: bool,
    ) -> Result<Option<(Arc<Prepared>, Config)>, Error> {
        let mut rng = Rng::new(seed, 0);
        let form = draw_form(&mut Rng::new(seed % FORMS, 3));
        let Some(prepared) = self.prepared(&form, mutant)? else { return Ok(None) };
        let config = draw_config(seed, &mut rng, &prepared, mutant, trace);
        Ok(Some((prepared, config)))
    }

    fn prepared(&self, form: &Form, mutant: Option<Mutant>) -> Result<Option<Arc<Prepared>>, Error> {
        let key = (form.clone(), mutant);
        let poisoned = |_| Error::Unfit("another thread of the simulation broke off".to_owned());
        if let Some(ready) = self.ready.lock().map_err(poisoned)?.get(&key) {
            return Ok(Some(Arc::clone(ready)));
        }
        let Some(prepared) = self.prepare(form, mutant)? else { return Ok(None) };
        let prepared = Arc::new(prepared);
        self.ready
            .lock()
            .map_err(|_| Error::Unfit("another thread of the simulation broke off".to_owned()))?
            .insert(key, Arc::clone(&prepared));
        Ok(Some(prepared))
    }

    fn prepare(&self, form: &Form, mutant: Option<Mutant>) -> Result<Option<Prepared>, Error> {
        let input = self.input(form)?;
        let prepared = Prepared::plan(&input, &self.catalog)?;
        let Some(mutated) = mutant.map(|mutant| (mutant, mutant.plan(&prepared.plan))) else {
            return Ok(Some(prepared));
        };
        match mutated {
            (_, Some(plan)) => Prepared::of_plans(
                Arc::new(plan),
                prepared.plan,
                &input.inventory,
                &input.observation,
                &self.catalog,
            )
            .map(Some),
            (mutant, None) if mutant.spoils_plans() => Ok(None),
            (_, None) => Ok(Some(prepared)),
        }
    }

    fn input(&self, form: &Form) -> Result<PlanningInput, Error> {
        let series = |text: &str| -> Result<Series, Error> {
            text.parse().map_err(|error| Error::Unfit(format!("{error}")))
        };
        let (from, to) = HOPS[form.hop];
        let mut shape = Shape::new(form.controllers, form.computes, series(from)?, &self.catalog)
            .ok_or_else(|| Error::Unfit(format!("the catalog lacks {from}")))?;
        shape.zones = form.zones;
        let mut inventory = describe(&shape);
        keep_services(&mut inventory, &self.catalog, SERVICES[form.services]);
        let mut observation = observe(&inventory, &shape);
        if form.person {
            person_disables(&mut observation);
        }
        let policy = Policy {
            serving_replicas_min: form.serving_min,
            parallel_steps_max: form.parallel,
            compute_wave: form.wave,
            baseline_s: 10,
            soak_s: 10,
            attempts_max: form.attempts_max,
            failed_requests_max: form.failed_max,
            on_failure: ON_FAILURE[form.on_failure],
            finalize_after_s: form.finalize_after_s,
            api: ApiPolicy {
                advertised: if form.only_grows { Advertising::OnlyGrows } else { Advertising::MayFlap },
                ..ApiPolicy::default()
            },
            contract: ContractPolicy {
                gate: if form.contract { Gate::Block } else { Gate::Off },
                ..ContractPolicy::default()
            },
            ..Policy::default()
        };
        Ok(PlanningInput {
            now: observation.at,
            inventory,
            observation,
            target: series(to)?,
            versions: None,
            lock: None,
            policy,
            parent: None,
            drains: None,
        })
    }
}

fn keep_services(inventory: &mut Inventory, catalog: &Catalog, services: &[&str]) {
    let kept: BTreeSet<&str> = services.iter().copied().collect();
    for role in &mut inventory.roles {
        role.daemons.retain(|daemon| {
            catalog.daemon(&daemon.kind).is_some_and(|(service, _)| kept.contains(service.name.as_str()))
        });
    }
}

/// Somebody has disabled the last compute before the run.
fn person_disables(observation: &mut Observation) {
    for fact in observation.records.values_mut() {
        if let Fact::Observed { value, .. } = fact
            && let Some(record) = value.iter_mut().rev().find(|record| record.binary == "nova-compute")
        {
            record.disabled = Some("a disk is being replaced".to_owned());
        }
    }
}

fn draw_form(rng: &mut Rng) -> Form {
    let controllers = rng.between(2, 3) as usize;
    let serving_min = if controllers == 3 && rng.chance(0.3) { 2 } else { 1 };
    let computes = rng.between(2, 4) as usize;
    let mut form = Form {
        controllers,
        computes,
        // With one compute in a zone the planner warns, and plancheck does so in earnest.
        zones: if computes == 4 && rng.chance(0.5) { 2 } else { 1 },
        services: rng.index(SERVICES.len()),
        hop: rng.index(HOPS.len()),
        parallel: rng.between(1, 4) as u32,
        wave: rng.between(1, 3) as u32,
        serving_min,
        attempts_max: rng.between(2, 3) as u32,
        failed_max: [1, 3, 10][rng.index(3)],
        person: rng.chance(0.3),
        on_failure: [0, 0, 1, 2, 2][rng.index(5)],
        finalize_after_s: rng.chance(0.2).then_some(600),
        only_grows: false,
        contract: rng.chance(0.3),
    };
    // No draw of its own, so that seeds mean what they always did. Of three replicas two cannot serve throughout.
    form.only_grows = form.parallel.is_multiple_of(2) && form.serving_min == 1;
    form
}

/// What goes wrong in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Nothing.
    Calm,
    /// Volutus is ended again and again, and nothing else.
    Crashes,
    /// Leases and clocks.
    Leases,
    /// Answers are late, lost, doubled or wrong.
    Answers,
    /// Daemons come up wrong or die.
    Daemons,
    /// Hosts and people.
    Hosts,
    /// All of it.
    All,
}

const MOODS: [Mood; 8] = [
    Mood::Calm,
    Mood::Crashes,
    Mood::Leases,
    Mood::Answers,
    Mood::Daemons,
    Mood::Hosts,
    Mood::All,
    Mood::All,
];

fn draw_config(seed: u64, rng: &mut Rng, prepared: &Prepared, mutant: Option<Mutant>, trace: bool) -> Config {
    let mood = MOODS[rng.index(MOODS.len())];
    let any = |moods: &[Mood]| mood == Mood::All || moods.contains(&mood);
    let mut faults = Faults::default();
    if any(&[Mood::Answers]) {
        let scale = [0.3, 1.0, 3.0][rng.index(3)];
        faults.transient = 0.04 * scale;
        faults.permanent = 0.004 * scale;
        faults.lost_answer = 0.05 * scale;
        faults.hang = 0.004 * scale;
        faults.slow = 0.02 * scale;
        faults.duplicate = 0.05 * scale;
        faults.sessions = 0.02 * scale;
    }
    if any(&[Mood::Daemons]) {
        faults.start = [0.01, 0.05, 0.15][rng.index(3)];
        faults.slow_start = 0.02;
        faults.dies = 0.05;
    }
    let end_ms = prepared.expected_s * 1_000 * 3 / 2;
    let mut mishaps = Vec::new();
    if any(&[Mood::Hosts]) {
        for _ in 0..rng.between(0, 3) {
            mishaps.push((rng.below(end_ms), draw_mishap(rng, prepared, 0..5)));
        }
    }
    if any(&[Mood::Leases]) {
        for _ in 0..rng.between(1, 4) {
            mishaps.push((rng.below(end_ms), draw_lease_mishap(rng)));
        }
    }
    let mut crash_points = Vec::new();
    if any(&[Mood::Crashes]) {
        // An append or effect is such a point; a run has about two per attempt and one more.
        let points = prepared.attempts as u64 * 3;
        crash_points = (0..rng.between(1, 6)).map(|_| rng.between(1, points)).collect();
        crash_points.sort_unstable();
        crash_points.dedup();
    }
    Config {
        seed,
        faults,
        mishaps,
        crash_points,
        script: draw_script(rng, end_ms),
        temper: Temper {
            resume: 0.7,
            abort: 0.6,
            roll_back: 0.5,
            mend: 0.7,
            finalize: if rng.chance(0.8) { 1.0 } else { 0.0 },
            resumes_max: 5,
            late_command: 0.3,
        },
        mutant,
        trace,
        fine: true,
        finalizes_at_once: false,
    }
}

fn draw_script(rng: &mut Rng, end_ms: u64) -> Vec<(u64, Command)> {
    let mut script = Vec::new();
    if rng.chance(0.4) {
        let all = [
            Command::Pause,
            Command::Pause,
            Command::Resume,
            Command::Abort,
            Command::Finalize,
            Command::RollBack,
        ];
        for _ in 0..rng.between(1, 3) {
            script.push((rng.below(end_ms), all[rng.index(all.len())]));
        }
    }
    script
}

/// Something that befalls hosts (kinds 0 to 2) or that people do (3 and 4).
pub(crate) fn draw_mishap(rng: &mut Rng, prepared: &Prepared, kinds: std::ops::Range<u64>) -> Mishap {
    let topology = &prepared.topology;
    let host = rng.index(topology.hosts.len());
    let ms = rng.between(20_000, 900_000);
    match kinds.start + rng.below(kinds.end - kinds.start) {
        0 => Mishap::Partition { host, ms },
        1 => Mishap::Outage { host, ms },
        2 => Mishap::Reverted { host, ms },
        3 => Mishap::PersonDisables { compute: topology.computes[rng.index(topology.computes.len())] },
        _ => {
            let backend = rng.index(topology.backends.len());
            Mishap::PersonDrains { backend, seat: rng.index(topology.backends[backend].servers.len()) }
        }
    }
}

fn draw_lease_mishap(rng: &mut Rng) -> Mishap {
    match rng.below(4) {
        0 => Mishap::Stall { ms: rng.between(5_000, 120_000) },
        1 => Mishap::Clock { home: rng.index(2), ms: -(rng.between(1_000, 600_000) as i64) },
        2 => Mishap::Clock { home: rng.index(2), ms: rng.between(1_000, 60_000) as i64 },
        _ => Mishap::Rival,
    }
}

/// How many scenarios of each outcome a set of seeds had.
pub(crate) type Outcomes = BTreeMap<String, u64>;

//! The verdict of a run, from its journal and its samples. Pure.
//!
//! The levels are those of OpenStack's former governance tags, which projects asserted and
//! which are here measured ([`volutus_model::verdict::Level`]); each includes the ones before:
//!
//! - *upgrade*: the run got to its end, every daemon was seen on its target, and nothing that
//!   was there before is lost;
//! - *accessible*: reads of the service were never without success for longer than
//!   [`ACCESSIBLE_GAP_MAX`], and nothing of the data plane that was reached for was silent for
//!   longer than the policy allows;
//! - *rolling*: the service answered while old and new daemons of it ran side by side;
//! - *zero-downtime*: no request failed, requests were made without a break, and where the policy wants
//!   the highest microversion only to grow, no client that chose by it would have been refused;
//! - *zero-impact*: latencies are not significantly above those of the run's own baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use volutus_model::contract::{AskedAgain, ContractSeen, Gate};
use volutus_model::gate::GateSeen;
use volutus_model::name::{DaemonId, PackageVersion, RunId, ServiceName, StepId};
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::{Action, Plan};
use volutus_model::probe::{Sample, SampleResult};
use volutus_model::run::{RunState, RunStatus};
use volutus_model::verdict::{
    Advertised, ApiContract, ContractAfter, ContractResult, Level, ServiceRequests, Verdict,
};

use crate::operation::OperationKind;
use crate::reached;
use crate::statistics::{exceedance_p_value, percentile};
use crate::windows::{Window, Windows, longest_between, stretches, switches, windows};

/// The longest time without a successful read that does not yet count as loss of access: as
/// long as a load balancer of common settings takes to find out that a server is gone, with
/// some margin.
pub const ACCESSIBLE_GAP_MAX: Duration = Duration::from_secs(15);

/// The longest time without any request that does not yet count as a break of the measurement.
/// The slowest timetable asks every service several times in it.
pub const UNMEASURED_MAX: Duration = Duration::from_secs(15);

/// Probability of an error of the first kind, over all services together.
pub const ALPHA: f64 = 0.01;

/// The share of the baseline that the threshold of outliers is at.
const OUTLIER_SHARE: f64 = 0.99;

/// Fewest baseline samples of a group that can be judged. The test is exact with any number,
/// but with fewer it would hardly ever see anything, and silence is not evidence.
const GROUP_BASELINE_MIN: usize = 5;

/// Fewest baseline samples of a service that can be judged.
const SERVICE_BASELINE_MIN: usize = 30;

/// The test, in a sentence, for the verdict.
pub const TEST: &str = "one-sided exact exceedance test (Gumbel and von Schelling 1950) of the \
    number of samples above the baseline's 99th percentile, per service for reads, writes and \
    waits apart, Bonferroni-corrected over these groups and over the services, alpha 0.01; a \
    service with under 30 baseline samples, or a group with under 5, is not judged and not \
    zero-impact";

/// What one daemon of the cloud was seen to run at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSeen {
    /// The service that it belongs to.
    pub service: ServiceName,
    /// The version that its process ran; `None` where it was not seen.
    pub version: Option<PackageVersion>,
    /// The version that it must run by now, where that is not the plan's target for the service:
    /// an anchor stays old until finalize.
    pub expected: Option<PackageVersion>,
}

/// Everything that a verdict is made from.
#[derive(Debug, Clone, Copy)]
pub struct VerdictInput<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its plan.
    pub plan: &'a Plan,
    /// The fold of its journal.
    pub state: &'a RunState,
    /// Where the run is a rollback: the run that it took back. The verdict is of both as one:
    /// whoever used the cloud meanwhile does not care where the one ended.
    pub taken_back: Option<TakenBack<'a>>,
    /// Everything that the synthetic user saw, in any order; of both runs where one is taken back.
    pub samples: &'a [Sample],
    /// Every declared daemon, as it was seen at the end.
    pub daemons: &'a BTreeMap<DaemonId, DaemonSeen>,
    /// What was there before the run and is no longer there or no longer well (instances, for
    /// example), one line each.
    pub lost: &'a [String],
}

/// A run that was taken back.
#[derive(Debug, Clone, Copy)]
pub struct TakenBack<'a> {
    /// Its plan.
    pub plan: &'a Plan,
    /// The fold of its journal.
    pub state: &'a RunState,
}

impl<'a> VerdictInput<'a> {
    /// The runs that are judged, each with its plan, in the order of time.
    fn runs(&self) -> impl Iterator<Item = (&'a Plan, &'a RunState)> + use<'a> {
        let earlier = self.taken_back.map(|earlier| (earlier.plan, earlier.state));
        earlier.into_iter().chain([(self.plan, self.state)])
    }
}

/// Judges a run.
#[must_use]
pub fn assess(input: VerdictInput<'_>) -> Verdict {
    let windows =
        input.runs().map(|(plan, state)| windows(plan, state)).reduce(Windows::and).unwrap_or_default();
    let base = base_level(&input);
    let mut reasons = base.reasons.clone();
    let mut requests: BTreeMap<ServiceName, ServiceRequests> = BTreeMap::new();
    let services = judged_services(&input);
    for service in &services {
        let view = ServiceView::new(&input, &windows, service);
        let floor = base.level_of(service);
        let (seen, mut why) = view.judge(floor, services.len());
        reasons.append(&mut why);
        requests.insert(service.clone(), seen);
    }
    let advertised = advertised(input.samples);
    for (service, seen) in &advertised {
        let Some(why) = flapped(&input, service, seen) else { continue };
        if let Some(judged) = requests.get_mut(service) {
            judged.level = judged.level.min(Level::Rolling);
        }
        reasons.push(why);
    }
    if services.is_empty() {
        reasons.push("no service was probed, and the plan has none".to_owned());
    }
    let lowest = requests.values().map(|seen| seen.level).min().unwrap_or(Level::None);
    let stretches: Vec<(i64, i64)> =
        input.runs().flat_map(|(plan, state)| stretches(plan, state, &windows)).collect();
    let (reach, mut silent) =
        reached::judge(input.samples.iter(), &stretches, input.plan.policy.reach_gap_max_ms);
    let reachable = if silent.is_empty() { Level::ZeroImpact } else { Level::Upgrade };
    reasons.append(&mut silent);
    let level = lowest.min(base.whole).min(reachable);
    let (changed_at, ended_at) = windows.changes.unzip();
    let duration_s = windows.changes.map_or(0.0, |(start, end)| end.duration_since(start).as_secs_f64());
    let begun = input.runs().filter_map(|(_, state)| state.started_at).min();
    let started_at = begun.or(changed_at).or(ended_at);
    Verdict {
        format: 1,
        run: input.run.clone(),
        plan: input.plan.id.clone(),
        status: input.state.status,
        from: input.plan.from,
        to: input.plan.to,
        rolled_back: input.plan.kind.is_rollback() && input.state.status == RunStatus::Succeeded,
        level,
        reasons,
        started_at: started_at.unwrap_or(input.plan.created_at),
        duration_s,
        requests_total: requests.values().map(|seen| seen.total).sum(),
        requests_failed: requests.values().map(|seen| seen.failed).sum(),
        requests,
        reach,
        versions_observed: input
            .daemons
            .iter()
            .map(|(daemon, seen)| (daemon.clone(), seen.version.clone()))
            .collect(),
        advertised,
        api_contract: api_contract(&input),
        gates: gates(&input),
        exposure: None,
        test: TEST.to_owned(),
    }
}

/// What services advertised as their highest microversion, in the order of time.
fn advertised(samples: &[Sample]) -> BTreeMap<ServiceName, Advertised> {
    let mut told: Vec<(&Sample, &String)> =
        samples.iter().filter_map(|sample| Some((sample, sample.advertised.as_ref()?))).collect();
    // By the time of the answer: a request that waits long is answered as the cloud is then.
    told.sort_by_key(|(sample, _)| sample.due_us + (sample.latency_ms * 1000.0) as i64);
    let mut services: BTreeMap<ServiceName, Advertised> = BTreeMap::new();
    for (sample, version) in told {
        let seen = services.entry(sample.service.clone()).or_insert_with(|| Advertised {
            first: version.clone(),
            last: version.clone(),
            ..Advertised::default()
        });
        if numbers(version) < numbers(&seen.last) {
            seen.fell += 1;
            seen.fell_during.extend(sample.steps.iter().cloned());
        }
        seen.asked += 1;
        seen.last.clone_from(version);
    }
    services
}

/// That a service's highest microversion was lower than before although the policy wants it only to grow.
/// Once the cloud is put back it is lower for good, which is one time.
fn flapped(input: &VerdictInput<'_>, service: &ServiceName, seen: &Advertised) -> Option<String> {
    let wanted = input.runs().any(|(plan, _)| plan.policy.api.only_grows(service, true));
    let allowed = u64::from(input.plan.kind.is_rollback());
    if !wanted || seen.fell <= allowed {
        return None;
    }
    let steps: Vec<&str> = seen.fell_during.iter().map(|step| step.as_str()).collect();
    let during = if steps.is_empty() { String::new() } else { format!(", during {}", steps.join(", ")) };
    Some(format!(
        "{service}: its highest microversion was lower than before in {} of {} answers{during}; the policy \
         wants it only to grow",
        seen.fell, seen.asked
    ))
}

/// `2.100` is more than `2.96`.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// All evidence of the runs, in the order in which attempts ended.
fn evidence<'a>(input: &VerdictInput<'a>) -> Vec<&'a Evidence> {
    let mut attempts: Vec<_> = input.runs().flat_map(|(_, state)| state.attempts.values()).collect();
    attempts.sort_by_key(|attempt| attempt.finished_at);
    attempts.into_iter().filter_map(|attempt| attempt.outcome.as_ref()).flat_map(evidence_of).collect()
}

/// The evidence of an outcome.
fn evidence_of(outcome: &Outcome) -> &[Evidence] {
    match outcome {
        Outcome::Done { evidence, .. } => evidence,
        Outcome::Failed(failure) => &failure.evidence,
        Outcome::FoundNoChangesNeeded { .. } | Outcome::Unknown { .. } => &[],
    }
}

/// What the last attempt at each gate saw.
fn gates(input: &VerdictInput<'_>) -> Vec<GateSeen> {
    let mut last: Vec<&GateSeen> = Vec::new();
    for piece in evidence(input) {
        let Evidence::Gate(seen) = piece else { continue };
        last.retain(|earlier| (earlier.when, &earlier.gate) != (seen.when, &seen.gate));
        last.push(seen);
    }
    last.into_iter().cloned().collect()
}

/// What the last comparison of each service saw, before users met its new code and after.
fn api_contract(input: &VerdictInput<'_>) -> ApiContract {
    let mut last: BTreeMap<&ServiceName, &ContractSeen> = BTreeMap::new();
    for piece in evidence(input) {
        if let Evidence::Contract(seen) = piece {
            last.insert(&seen.service, seen);
        }
    }
    let mut contract = ApiContract::default();
    for seen in last.values() {
        contract.operations_compared += seen.operations_compared;
        contract.requests_compared += seen.requests_compared;
        contract.writes_compared += seen.writes_compared;
        for (class, count) in &seen.differences {
            *contract.differences.entry(class.clone()).or_default() += count;
        }
    }
    let services = input.plan.versions.keys();
    contract.not_measured = services.filter(|service| !last.contains_key(service)).cloned().collect();
    let (after, broken_after) = contract_after(input);
    contract.after = Some(after);
    contract.result = if broken_after || last.values().any(|seen| seen.is_broken()) {
        ContractResult::Broken
    } else if contract.not_measured.is_empty() {
        ContractResult::Held
    } else {
        ContractResult::NotMeasured
    };
    contract
}

/// What serves users at the end answered to the same requests, and whether a difference that nobody had
/// been told of breaks the contract: at the end, or when everything was replaced and not yet finalized.
fn contract_after(input: &VerdictInput<'_>) -> (ContractAfter, bool) {
    let mut attempts: Vec<_> = input.state.attempts.values().collect();
    attempts.sort_by_key(|attempt| attempt.finished_at);
    let mut last: BTreeMap<&ServiceName, &AskedAgain> = BTreeMap::new();
    let mut by_step: BTreeMap<&StepId, bool> = BTreeMap::new();
    for attempt in attempts {
        for piece in attempt.outcome.as_ref().map_or(&[][..], evidence_of) {
            if let Evidence::AskedAgain(seen) = piece {
                last.insert(&seen.service, seen);
                by_step.insert(&attempt.step, seen.is_broken());
            }
        }
    }
    let mut after = ContractAfter::default();
    for seen in last.values() {
        after.operations_compared += seen.operations_compared;
        after.requests_compared += seen.requests_compared;
        after.known += seen.known;
        after.gone += seen.gone;
        for (class, count) in &seen.differences {
            *after.differences.entry(class.clone()).or_default() += count;
        }
        if let Some(why) = &seen.not_compared {
            after.not_measured.insert(seen.service.clone(), why.clone());
        }
    }
    for service in input.plan.versions.keys().filter(|service| !last.contains_key(service)) {
        after.not_measured.insert(service.clone(), not_asked_again(input.plan, service).to_owned());
    }
    (after, by_step.values().any(|broken| *broken))
}

/// Why a service was not asked again.
fn not_asked_again(plan: &Plan, service: &ServiceName) -> &'static str {
    let planned = plan
        .steps()
        .flat_map(|(_, step)| &step.actions)
        .any(|action| matches!(action, Action::AskAgain { shadow, .. } if shadow.service == *service));
    if planned {
        "the run has not come so far, or what it asked was not answered"
    } else if plan.kind.is_rollback() {
        "its old code serves users again"
    } else if plan.policy.contract.gate_of(service) == Gate::Off {
        "the gate of [contract] is off for it"
    } else {
        "its old code was not asked before users met the new one, so that there is nothing to compare with"
    }
}

/// The plan's services and those that were probed.
fn judged_services(input: &VerdictInput<'_>) -> BTreeSet<ServiceName> {
    let requests = input.samples.iter().filter(|sample| sample.is_request());
    let probed = requests.map(|sample| &sample.service);
    input.plan.versions.keys().chain(probed).cloned().collect()
}

/// What is known without any sample.
struct Base {
    /// The highest level that the whole can have.
    whole: Level,
    /// Services that cannot have any level.
    none: BTreeSet<ServiceName>,
    reasons: Vec<String>,
}

impl Base {
    fn level_of(&self, service: &ServiceName) -> Level {
        if self.none.contains(service) { Level::None } else { self.whole }
    }
}

fn base_level(input: &VerdictInput<'_>) -> Base {
    let mut base = Base { whole: Level::ZeroImpact, none: BTreeSet::new(), reasons: Vec::new() };
    let status = input.state.status;
    if !matches!(status, RunStatus::AwaitingFinalize | RunStatus::Succeeded) {
        let cause = input.state.halt_cause.as_ref().map(|cause| format!(" ({cause})"));
        base.reasons.push(format!("the run is {status}{}", cause.unwrap_or_default()));
        base.whole = Level::None;
    }
    if input.daemons.is_empty() {
        base.reasons.push("no daemon was observed at the end".to_owned());
        base.whole = Level::None;
    }
    for (daemon, seen) in input.daemons {
        let target = seen.expected.as_ref().or_else(|| input.plan.versions.get(&seen.service));
        let Some(target) = target else { continue };
        if seen.version.as_ref() == Some(target) {
            continue;
        }
        let found = seen.version.as_ref().map_or("nothing that could be seen", PackageVersion::as_str);
        base.reasons.push(format!("{daemon} runs {found} instead of {target}"));
        base.none.insert(seen.service.clone());
    }
    for service in input.plan.versions.keys() {
        if !input.daemons.is_empty() && !input.daemons.values().any(|seen| seen.service == *service) {
            base.reasons.push(format!("no daemon of {service} was observed at the end"));
            base.none.insert(service.clone());
        }
    }
    if !input.lost.is_empty() {
        let first: Vec<&str> = input.lost.iter().take(3).map(String::as_str).collect();
        base.reasons.push(format!(
            "{} resources that were there before are not there or not well: {}",
            input.lost.len(),
            first.join("; ")
        ));
        base.whole = Level::None;
    }
    base
}

/// One service's samples, and what the journal says of its daemons.
struct ServiceView<'a> {
    service: &'a ServiceName,
    baseline: Vec<&'a Sample>,
    work: Vec<&'a Sample>,
    /// The stretches that have to be measured, in microseconds since the epoch.
    stretches: Vec<(i64, i64)>,
    /// Per run: start and end of the switch of every daemon of the service.
    switches: Vec<Vec<(Timestamp, Timestamp)>>,
    /// Daemons of the service in all.
    daemons: usize,
}

impl<'a> ServiceView<'a> {
    fn new(input: &VerdictInput<'a>, windows: &Windows, service: &'a ServiceName) -> Self {
        let within = |window: Option<Window>| {
            let mut found: Vec<&Sample> = input
                .samples
                .iter()
                .filter(|sample| sample.service == *service)
                .filter(|sample| window.is_some_and(|window| window.holds(sample.due_us)))
                .collect();
            found.sort_by_key(|sample| sample.due_us);
            found
        };
        Self {
            service,
            baseline: within(windows.baseline),
            work: within(windows.work),
            stretches: input.runs().flat_map(|(plan, state)| stretches(plan, state, windows)).collect(),
            switches: input.runs().map(|(plan, state)| switches(plan, state, service)).collect(),
            daemons: input.daemons.values().filter(|seen| seen.service == *service).count(),
        }
    }

    /// The service's record and why its level is not higher.
    fn judge(&self, floor: Level, services: usize) -> (ServiceRequests, Vec<String>) {
        let p_value = self.p_value();
        let mut latencies = request_latencies(&self.work);
        latencies.sort_by(f64::total_cmp);
        let mut before = request_latencies(&self.baseline);
        before.sort_by(f64::total_cmp);
        let (level, reasons) = match floor {
            Level::None => (Level::None, Vec::new()),
            floor => {
                let (level, reasons) = self.level(p_value, services);
                (level.min(floor), reasons)
            }
        };
        let seen = ServiceRequests {
            level,
            total: self.work.len() as u64,
            failed: self.failed().count() as u64,
            p50_ms: percentile(&latencies, 0.5).unwrap_or(0.0),
            p99_ms: percentile(&latencies, 0.99).unwrap_or(0.0),
            baseline_p99_ms: percentile(&before, 0.99),
            baseline_total: self.baseline.len() as u64,
            max_gap_ms: self.longest_gap_ms(|kind| kind != OperationKind::Wait),
            p_value,
        };
        (seen, reasons)
    }

    /// From the lowest level up, the first that is not reached decides.
    fn level(&self, p_value: Option<f64>, services: usize) -> (Level, Vec<String>) {
        let service = self.service;
        let failures = self.failure_reason();
        if self.work.is_empty() {
            return (Level::Upgrade, vec![format!("no request was made to {service}")]);
        }
        let gap_ms = self.longest_gap_ms(|kind| kind == OperationKind::Read);
        if gap_ms > ACCESSIBLE_GAP_MAX.as_secs_f64() * 1000.0 {
            let silence_ms = self.longest_silence_ms();
            let why = if silence_ms > ACCESSIBLE_GAP_MAX.as_secs_f64() * 1000.0 {
                format!("{service}: no read succeeded for {:.1} s", silence_ms / 1000.0)
            } else {
                format!(
                    "{service}: nobody made a request for {:.1} s, so that it is not known whether it answered; a \
                     run that is halted asks nothing",
                    self.longest_break_ms() / 1000.0
                )
            };
            return (Level::Upgrade, std::iter::once(why).chain(failures).collect());
        }
        if let Some(why) = self.not_rolling() {
            return (Level::Accessible, std::iter::once(why).chain(failures).collect());
        }
        if let Some(why) = failures {
            return (Level::Rolling, vec![why]);
        }
        let unmeasured_ms = self.longest_break_ms();
        if unmeasured_ms > UNMEASURED_MAX.as_secs_f64() * 1000.0 {
            let why = format!(
                "{service}: nobody made a request for {:.1} s, so that it is not known whether one \
                 would have failed",
                unmeasured_ms / 1000.0
            );
            return (Level::Rolling, vec![why]);
        }
        let bound = ALPHA / services as f64;
        match p_value {
            None => {
                let why = format!(
                    "{service}: latencies are not judged, the baseline of {} samples is too small",
                    self.baseline.len()
                );
                (Level::ZeroDowntime, vec![why])
            }
            Some(p) if p < bound => {
                let why = format!(
                    "{service}: latencies above the baseline's 99th percentile are more frequent than \
                     chance explains (p = {p:.2e}, bound {bound:.2e})"
                );
                (Level::ZeroDowntime, vec![why])
            }
            Some(_) => (Level::ZeroImpact, Vec::new()),
        }
    }

    fn failed(&self) -> impl Iterator<Item = &&'a Sample> {
        self.work.iter().filter(|sample| sample.failed())
    }

    fn failure_reason(&self) -> Option<String> {
        let count = self.failed().count();
        let first = self.failed().next()?;
        let SampleResult::Failed { why } = &first.result else {
            return None;
        };
        let at = Timestamp::from_microsecond(first.due_us)
            .map_or_else(|_| "an unknown time".to_owned(), |at| at.strftime("%H:%M:%S UTC").to_string());
        let steps: Vec<&str> = first.steps.iter().map(|step| step.as_str()).collect();
        let during = if steps.is_empty() { String::new() } else { format!(", during {}", steps.join(", ")) };
        let status = first.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let before = self.baseline.iter().filter(|sample| sample.failed()).count();
        let before = if before == 0 {
            String::new()
        } else {
            format!("; in the baseline {before} of {} failed as well", self.baseline.len())
        };
        Some(format!(
            "{}: {count} of {} requests failed, the first at {at} ({}, {status}{during}): {why}{before}",
            self.service,
            self.work.len(),
            first.operation
        ))
    }

    /// Why the service was not rolled, if it was not: it has to have answered between the end
    /// of the first switch and the start of the last, while old and new ran side by side.
    fn not_rolling(&self) -> Option<String> {
        self.switches.iter().find_map(|switches| self.not_rolling_in(switches))
    }

    fn not_rolling_in(&self, switches: &[(Timestamp, Timestamp)]) -> Option<String> {
        let service = self.service;
        // A service of which nothing was replaced has nothing to roll, and one of which only a
        // part was replaced before the run was taken back had the rest to go on with.
        let first_end = switches.iter().map(|(_, end)| *end).min()?;
        let last_start = switches.iter().map(|(start, _)| *start).max()?;
        if switches.len() < self.daemons && self.switches.len() > 1 {
            return None;
        }
        if switches.len() == 1 {
            return Some(format!("{service}: its only daemon was replaced at once"));
        }
        if last_start < first_end {
            return Some(format!("{service}: all its daemons were replaced at the same time"));
        }
        let mixed = first_end.as_microsecond()..=last_start.as_microsecond();
        let answered = self.work.iter().any(|sample| !sample.failed() && mixed.contains(&sample.due_us));
        (!answered)
            .then(|| format!("{service}: no request succeeded while old and new daemons ran side by side"))
    }

    /// The longest time between two successful answers to operations of those kinds.
    fn longest_gap_ms(&self, counts: impl Fn(OperationKind) -> bool) -> f64 {
        longest_between(&self.stretches, self.answers(counts))
    }

    /// The longest time without a successful read in which there was somebody who asked.
    fn longest_silence_ms(&self) -> f64 {
        let mut asked = Vec::new();
        for &(start, end) in &self.stretches {
            let mut last = start;
            let inner = self.work.iter().map(|sample| sample.due_us).filter(|at| (start..=end).contains(at));
            for moment in inner.chain([end]) {
                let unasked = u128::try_from(moment - last).is_ok_and(|us| us > UNMEASURED_MAX.as_micros());
                match asked.last_mut() {
                    Some((_, until)) if !unasked && *until == last => *until = moment,
                    _ if !unasked => asked.push((last, moment)),
                    _ => {}
                }
                last = moment;
            }
        }
        longest_between(&asked, self.answers(|kind| kind == OperationKind::Read))
    }

    /// When requests of these kinds were answered well.
    fn answers(&self, counts: impl Fn(OperationKind) -> bool) -> impl Iterator<Item = i64> {
        let answers = self.work.iter().filter(|sample| !sample.failed());
        let answers = answers.filter(move |sample| counts(OperationKind::of(&sample.operation)));
        answers.map(|sample| sample.due_us + (sample.latency_ms * 1000.0) as i64)
    }

    /// The longest time in which no request was due.
    fn longest_break_ms(&self) -> f64 {
        longest_between(&self.stretches, self.work.iter().map(|sample| sample.due_us))
    }

    /// The smallest p-value over reads, writes and waits, corrected for their number; `None`
    /// where the baseline is too small.
    fn p_value(&self) -> Option<f64> {
        if self.baseline.len() < SERVICE_BASELINE_MIN || self.work.is_empty() {
            return None;
        }
        let groups = [OperationKind::Read, OperationKind::Write, OperationKind::Wait];
        let mut p_values: Vec<f64> = Vec::new();
        for kind in groups {
            let of = |samples: &[&Sample]| {
                let mut latencies: Vec<f64> = samples
                    .iter()
                    .filter(|sample| OperationKind::of(&sample.operation) == kind)
                    // A failure is an answer that never comes.
                    .map(|sample| if sample.failed() { f64::INFINITY } else { sample.latency_ms })
                    .collect();
                latencies.sort_by(f64::total_cmp);
                latencies
            };
            let (before, after) = (of(&self.baseline), of(&self.work));
            if after.is_empty() {
                continue;
            }
            if before.len() < GROUP_BASELINE_MIN {
                return None;
            }
            p_values.push(exceedance_p_value(&before, &after, OUTLIER_SHARE)?);
        }
        let count = p_values.len() as f64;
        let smallest = p_values.into_iter().min_by(f64::total_cmp)?;
        Some((smallest * count).min(1.0))
    }
}

/// Latencies of the requests that were answered as they should be; waits are no requests.
fn request_latencies(samples: &[&Sample]) -> Vec<f64> {
    samples
        .iter()
        .filter(|sample| !sample.failed())
        .filter(|sample| OperationKind::of(&sample.operation) != OperationKind::Wait)
        .map(|sample| sample.latency_ms)
        .collect()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

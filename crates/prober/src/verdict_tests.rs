use volutus_model::Advertising;
use volutus_model::event::ActionList;
use volutus_model::name::{AttemptId, HostName, PlanId, StageId, StepId};
use volutus_model::plan::{Action, FORMAT, Impact, ImpactLevel, Phase, PlanKind, Stage, Step};
use volutus_model::policy::Policy;
use volutus_model::run::AttemptState;

use super::*;

/// The second at which the run begins: 30 s of baseline, work from 1030 to 1100, soak to 1120.
const BASE_S: i64 = 1_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn version(text: &str) -> PackageVersion {
    PackageVersion::new(text)
}

fn step(id: &str, actions: Vec<Action>) -> Step {
    Step {
        id: name(id),
        title: id.to_owned(),
        requires: Vec::new(),
        actions,
        give_back: Vec::new(),
        impact: Impact { level: ImpactLevel::None, service: None, why: String::new() },
        expected_s: 10,
        action_timeout_s: 60,
    }
}

fn switch(daemon: &str) -> Action {
    Action::SwitchDaemon {
        daemon: name(daemon),
        service: name("nova"),
        unit: "nova-api.service".to_owned(),
        link: "/opt/openstack/current/nova-api".to_owned(),
        from: "/opt/openstack/2025.2".to_owned(),
        to: "/opt/openstack/2026.1".to_owned(),
    }
}

fn stage(id: &str, phase: Phase, steps: Vec<Step>) -> Stage {
    Stage {
        id: StageId::new(id).unwrap(),
        phase,
        title: id.to_owned(),
        after: Vec::new(),
        parallel_max: 1,
        held: false,
        steps,
    }
}

fn plan() -> Plan {
    let mut plan = Plan {
        id: PlanId::new("none").unwrap(),
        format: FORMAT,
        kind: PlanKind::Upgrade,
        drains: None,
        cloud: HostName::new("lab").unwrap(),
        parent: None,
        created_at: at(0),
        inventory: String::new(),
        basis: String::new(),
        from: name("2025.2"),
        to: name("2026.1"),
        versions: BTreeMap::from([(name("nova"), version("33.0.2"))]),
        policy: Policy::default(),
        stages: vec![
            stage(
                "baseline",
                Phase::Baseline,
                vec![step("baseline/watch", vec![Action::Watch { seconds: 30 }])],
            ),
            stage(
                "roll",
                Phase::Roll,
                vec![
                    step("roll/nova-api@ctl1", vec![switch("nova-api@ctl1")]),
                    step("roll/nova-api@ctl2", vec![switch("nova-api@ctl2")]),
                ],
            ),
            stage("soak", Phase::Soak, vec![step("soak/watch", vec![Action::Watch { seconds: 20 }])]),
        ],
        rollback: Vec::new(),
        point_of_no_return: None,
    };
    plan.id = plan.compute_id();
    plan
}

fn state(plan: &Plan) -> RunState {
    let mut state = RunState::new(plan.id.clone());
    state.status = RunStatus::AwaitingFinalize;
    state.started_at = Some(at(BASE_S));
    state.last_at = Some(at(BASE_S + 120));
    for (number, (step, start, end)) in [
        ("baseline/watch", 0, 30),
        ("roll/nova-api@ctl1", 30, 50),
        ("roll/nova-api@ctl2", 70, 100),
        ("soak/watch", 100, 120),
    ]
    .into_iter()
    .enumerate()
    {
        let attempt = AttemptState {
            step: StepId::new(step).unwrap(),
            action: 0,
            list: ActionList::Actions,
            number: 1,
            started_at: at(BASE_S + start),
            finished_at: Some(at(BASE_S + end)),
            outcome: None,
        };
        state.attempts.insert(AttemptId::new(format!("a{number}")).unwrap(), attempt);
    }
    state
}

fn daemons() -> BTreeMap<DaemonId, DaemonSeen> {
    ["nova-api@ctl1", "nova-api@ctl2"]
        .into_iter()
        .map(|id| {
            let seen = DaemonSeen { service: name("nova"), version: Some(version("33.0.2")), expected: None };
            (name::<DaemonId>(id), seen)
        })
        .collect()
}

fn sample(ms: i64, operation: &str, latency_ms: f64) -> Sample {
    Sample {
        due_us: BASE_S * 1_000_000 + ms * 1_000,
        latency_ms,
        service: name("nova"),
        operation: operation.to_owned(),
        status: Some(200),
        result: SampleResult::Ok,
        steps: Vec::new(),
        advertised: None,
    }
}

/// Five samples a second over the whole run, of all kinds, with latencies that vary a little.
fn quiet() -> Vec<Sample> {
    (0..600)
        .map(|n: i64| {
            let (operation, usual) = match n % 5 {
                0 => ("create server", 80.0),
                1 => ("boot to active", 2_000.0),
                _ => ("list servers", 20.0),
            };
            // A full period of a multiplicative generator: every slice looks like every other.
            let noise = f64::from(u32::try_from((n * 7_919) % 101).unwrap()) / 101.0;
            sample(n * 200, operation, usual * (1.0 + noise / 4.0))
        })
        .collect()
}

fn fail(sample: &mut Sample, status: Option<u16>, why: &str) {
    sample.status = status;
    sample.result = SampleResult::Failed { why: why.to_owned() };
}

fn judge(
    plan: &Plan,
    state: &RunState,
    samples: &[Sample],
    daemons: &BTreeMap<DaemonId, DaemonSeen>,
    lost: &[String],
) -> Verdict {
    let run = RunId::new("run-1").unwrap();
    assess(VerdictInput { run: &run, plan, state, taken_back: None, samples, daemons, lost })
}

fn judge_samples(samples: &[Sample]) -> Verdict {
    let plan = plan();
    judge(&plan, &state(&plan), samples, &daemons(), &[])
}

#[test]
fn a_quiet_run_has_zero_impact() {
    let verdict = judge_samples(&quiet());
    assert_eq!(verdict.level, Level::ZeroImpact, "{:?}", verdict.reasons);
    assert!(verdict.reasons.is_empty());
    let nova = &verdict.requests["nova"];
    assert_eq!((nova.total, nova.failed, nova.baseline_total), (450, 0, 150));
    assert_eq!(verdict.requests_total, 450);
    assert!((verdict.duration_s - 70.0).abs() < 1e-9, "{}", verdict.duration_s);
    assert!(nova.p50_ms < 30.0, "waits are not in the percentiles: {}", nova.p50_ms);
    assert!(nova.max_gap_ms < 5_000.0);
    assert_eq!(verdict.started_at, at(BASE_S));
}

#[test]
fn slower_answers_are_zero_downtime_with_the_reason() {
    let mut samples = quiet();
    for sample in samples.iter_mut().filter(|sample| sample.due_us >= (BASE_S + 40) * 1_000_000) {
        if sample.operation == "list servers" {
            sample.latency_ms *= 3.0;
        }
    }
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::ZeroDowntime);
    assert!(verdict.reasons[0].contains("more frequent than chance explains"), "{:?}", verdict.reasons);
    assert!(verdict.requests["nova"].p_value.unwrap() < 1e-3);
}

#[test]
fn without_a_baseline_nothing_is_said_of_impact() {
    let samples: Vec<Sample> =
        quiet().into_iter().filter(|sample| sample.due_us >= (BASE_S + 30) * 1_000_000).collect();
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::ZeroDowntime);
    assert_eq!(verdict.requests["nova"].p_value, None);
    assert_eq!(verdict.requests["nova"].baseline_p99_ms, None);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"nova: latencies are not judged, the baseline of 0 samples is too small");
}

#[test]
fn one_failure_is_no_zero_downtime() {
    let mut samples = quiet();
    samples[400].steps = vec![name("roll/nova-api@ctl2")];
    fail(&mut samples[400], Some(503), "Service Unavailable");
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::Rolling);
    assert_eq!(verdict.requests_failed, 1);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"nova: 1 of 450 requests failed, the first at 00:18:00 UTC (create server, 503, during roll/nova-api@ctl2): Service Unavailable");
}

#[test]
fn a_failure_of_the_baseline_is_not_the_runs() {
    let mut samples = quiet();
    fail(&mut samples[10], Some(500), "before anything was touched");
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.requests_failed, 0);
    assert!(verdict.level >= Level::ZeroDowntime);
}

#[test]
fn dead_computes_are_seen_by_boots_that_never_end() {
    let mut samples = quiet();
    for sample in samples.iter_mut().filter(|sample| sample.due_us >= (BASE_S + 90) * 1_000_000) {
        if sample.operation == "boot to active" {
            sample.latency_ms = 90_000.0;
            fail(sample, Some(200), "not after 90 s: status BUILD");
        }
    }
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::Rolling, "every API answered, and yet users got nothing");
    assert!(verdict.reasons[0].contains("boot to active"), "{:?}", verdict.reasons);
}

#[test]
fn an_outage_of_reads_is_no_accessible_upgrade() {
    let mut samples = quiet();
    let outage = (BASE_S + 60) * 1_000_000..(BASE_S + 80) * 1_000_000;
    for sample in samples.iter_mut().filter(|sample| outage.contains(&sample.due_us)) {
        fail(sample, None, "connection refused");
    }
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::Upgrade);
    assert!(verdict.reasons[0].starts_with("nova: no read succeeded for 20."), "{:?}", verdict.reasons);
    assert!(verdict.requests["nova"].max_gap_ms > 19_000.0);
}

#[test]
fn a_run_that_was_halted_meanwhile_is_not_said_to_have_been_down() {
    let mut samples = quiet();
    let dark = (BASE_S + 52) * 1_000_000..(BASE_S + 90) * 1_000_000;
    samples.retain(|sample| !dark.contains(&sample.due_us));
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.level, Level::Upgrade, "what nobody measured is not claimed");
    assert!(verdict.reasons[0].starts_with("nova: nobody made a request for 38."), "{:?}", verdict.reasons);
    // And what was silent behind that is.
    let outage = (BASE_S + 95) * 1_000_000..(BASE_S + 112) * 1_000_000;
    for sample in samples.iter_mut().filter(|sample| outage.contains(&sample.due_us)) {
        fail(sample, None, "connection refused");
    }
    let verdict = judge_samples(&samples);
    assert!(verdict.reasons[0].starts_with("nova: no read succeeded for 17."), "{:?}", verdict.reasons);
}

#[test]
fn replacing_all_at_once_is_not_rolling() {
    let plan = plan();
    let mut together = state(&plan);
    for attempt in together.attempts.values_mut().filter(|a| a.step.as_str().starts_with("roll/")) {
        attempt.started_at = at(BASE_S + 40);
        attempt.finished_at = Some(at(BASE_S + 60));
    }
    let verdict = judge(&plan, &together, &quiet(), &daemons(), &[]);
    assert_eq!(verdict.level, Level::Accessible);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"nova: all its daemons were replaced at the same time");
}

#[test]
fn one_daemon_replaced_twice_is_still_one_daemon() {
    let mut plan = plan();
    plan.stages[1].steps[1].actions = vec![switch("nova-api@ctl1")];
    let state = state(&plan);
    let verdict = judge(&plan, &state, &quiet(), &daemons(), &[]);
    assert_eq!(verdict.level, Level::Accessible);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"nova: its only daemon was replaced at once");
}

#[test]
fn time_that_nobody_measured_is_not_zero_downtime() {
    let mut samples = quiet();
    let dark = (BASE_S + 52) * 1_000_000..(BASE_S + 66) * 1_000_000;
    samples.retain(|sample| !dark.contains(&sample.due_us));
    assert!(judge_samples(&samples).level >= Level::ZeroDowntime, "14 s are within the bound");
    let dark = (BASE_S + 50) * 1_000_000..(BASE_S + 70) * 1_000_000;
    samples.retain(|sample| !dark.contains(&sample.due_us));
    assert!(judge_samples(&samples).level < Level::ZeroDowntime);
}

#[test]
fn waiting_for_finalize_need_not_be_measured() {
    let mut plan = plan();
    plan.stages.push(stage("finalize", Phase::Finalize, vec![step("finalize/watch", vec![])]));
    let mut state = state(&plan);
    let mut later = state.attempts[&AttemptId::new("a3").unwrap()].clone();
    later.step = name("finalize/watch");
    later.started_at = at(BASE_S + 86_400);
    later.finished_at = Some(at(BASE_S + 86_401));
    state.attempts.insert(AttemptId::new("a4").unwrap(), later);
    state.last_at = Some(at(BASE_S + 86_401));
    let verdict = judge(&plan, &state, &quiet(), &daemons(), &[]);
    assert_eq!(verdict.level, Level::ZeroImpact, "{:?}", verdict.reasons);
}

#[test]
fn no_requests_are_no_evidence() {
    let verdict = judge_samples(&[]);
    assert_eq!(verdict.level, Level::Upgrade);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"no request was made to nova");
}

#[test]
fn daemons_that_were_not_seen_on_the_target_are_no_upgrade() {
    let plan = plan();
    let mut seen = daemons();
    seen.get_mut(&name::<DaemonId>("nova-api@ctl1")).unwrap().version = Some(version("32.2.1"));
    seen.get_mut(&name::<DaemonId>("nova-api@ctl2")).unwrap().version = None;
    let verdict = judge(&plan, &state(&plan), &quiet(), &seen, &[]);
    assert_eq!(verdict.level, Level::None);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @r"
    nova-api@ctl1 runs 32.2.1 instead of 33.0.2
    nova-api@ctl2 runs nothing that could be seen instead of 33.0.2
    ");
    // An anchor that has to stay old until finalize is where it has to be.
    let anchor = seen.get_mut(&name::<DaemonId>("nova-api@ctl1")).unwrap();
    anchor.expected = Some(version("32.2.1"));
    seen.get_mut(&name::<DaemonId>("nova-api@ctl2")).unwrap().version = Some(version("33.0.2"));
    assert_eq!(judge(&plan, &state(&plan), &quiet(), &seen, &[]).level, Level::ZeroImpact);
    assert_eq!(judge(&plan, &state(&plan), &quiet(), &BTreeMap::new(), &[]).level, Level::None);
}

#[test]
fn a_run_that_halted_or_lost_something_is_no_upgrade() {
    let plan = plan();
    let mut halted = state(&plan);
    halted.status = RunStatus::Halted;
    halted.halt_cause = Some("nova-compute@cmp1 did not prove itself".to_owned());
    let verdict = judge(&plan, &halted, &quiet(), &daemons(), &[]);
    assert_eq!((verdict.level, verdict.requests["nova"].level), (Level::None, Level::None));
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"the run is halted (nova-compute@cmp1 did not prove itself)");
    let lost = ["instance web-1 is in status ERROR".to_owned()];
    let verdict = judge(&plan, &state(&plan), &quiet(), &daemons(), &lost);
    assert_eq!(verdict.level, Level::None);
    insta::assert_snapshot!(verdict.reasons.join("\n"), @"1 resources that were there before are not there or not well: instance web-1 is in status ERROR");
}

#[test]
fn the_whole_is_the_lowest_of_its_services() {
    let mut samples = quiet();
    let mut glance = quiet();
    for sample in &mut glance {
        sample.service = name("glance");
    }
    fail(&mut glance[300], Some(502), "Bad Gateway");
    samples.append(&mut glance);
    let verdict = judge_samples(&samples);
    assert_eq!(verdict.requests["nova"].level, Level::ZeroImpact);
    assert_eq!(verdict.requests["glance"].level, Level::Rolling);
    assert_eq!(verdict.level, Level::Rolling);
}

#[test]
fn windows_follow_from_the_journal() {
    let plan = plan();
    let found = windows(&plan, &state(&plan));
    assert_eq!(found.baseline, Some(Window { start: at(BASE_S), end: Some(at(BASE_S + 30)) }));
    assert_eq!(found.work, Some(Window { start: at(BASE_S + 30), end: None }));
    assert_eq!(found.changes, Some((at(BASE_S + 30), at(BASE_S + 100))));
    let none = windows(&plan, &RunState::new(plan.id.clone()));
    assert_eq!(none, Windows { baseline: None, work: None, changes: None });
}

/// A run in which one of two replicas was replaced failed, and was taken back: the verdict is of
/// both runs as one, and a request that failed in the first one counts.
#[test]
fn a_rollback_is_judged_together_with_what_it_took_back() {
    let forward = plan();
    let mut first = state(&forward);
    first.status = RunStatus::Aborted;
    first.attempts.retain(|_, attempt| {
        attempt.step.as_str() == "baseline/watch" || attempt.step.as_str() == "roll/nova-api@ctl1"
    });
    let mut back = plan();
    back.kind = PlanKind::Rollback { of: forward.id.clone(), run: name("run-1") };
    (back.from, back.to) = (forward.to, forward.from);
    back.versions = BTreeMap::from([(name("nova"), version("32.2.1"))]);
    let mut second = state(&back);
    second.status = RunStatus::Succeeded;
    second.started_at = Some(at(BASE_S + 70));
    second.attempts.retain(|_, attempt| {
        attempt.step.as_str() == "roll/nova-api@ctl2" || attempt.step.as_str() == "soak/watch"
    });
    let mut daemons = daemons();
    for seen in daemons.values_mut() {
        seen.version = Some(version("32.2.1"));
    }
    let run: RunId = name("run-2");
    let taken_back = Some(TakenBack { plan: &forward, state: &first });
    let samples = quiet();
    let input = VerdictInput {
        run: &run,
        plan: &back,
        state: &second,
        taken_back,
        samples: &samples,
        daemons: &daemons,
        lost: &[],
    };
    let verdict = assess(input);
    assert!(verdict.rolled_back);
    assert_eq!((verdict.from, verdict.to), (forward.to, forward.from));
    assert_eq!(verdict.level, Level::ZeroImpact, "{:?}", verdict.reasons);
    assert_eq!(verdict.requests["nova"].baseline_total, 150);
    assert_eq!(verdict.requests["nova"].total, 450);
    assert_eq!(verdict.started_at, at(BASE_S));

    let mut samples = samples.clone();
    let during_the_first = samples.iter_mut().find(|sample| sample.due_us >= (BASE_S + 35) * 1_000_000);
    fail(during_the_first.unwrap(), None, "refused");
    let input = VerdictInput { samples: &samples, ..input };
    assert_eq!(assess(input).level, Level::Rolling);
}

/// What a quiet run sees of an API that advertises these, one after another.
fn advertising(versions: &[&str]) -> Vec<Sample> {
    let mut samples = quiet();
    let asked = samples.iter_mut().skip(200).filter(|sample| sample.operation == "list servers");
    for (sample, version) in asked.zip(versions) {
        sample.advertised = Some((*version).to_owned());
        sample.steps = vec!["roll/nova-api@ctl1".parse().unwrap()];
    }
    samples
}

#[test]
fn a_highest_microversion_that_falls_is_told_with_the_steps() {
    let samples = advertising(&["2.96", "2.100", "2.96", "2.100", "2.100"]);
    let nova = judge_samples(&samples).advertised["nova"].clone();
    assert_eq!((nova.first.as_str(), nova.last.as_str(), nova.asked, nova.fell), ("2.96", "2.100", 5, 1));
    assert_eq!(nova.fell_during.len(), 1);
    assert!(judge_samples(&quiet()).advertised.is_empty());
    assert_eq!(judge_samples(&samples).level, judge_samples(&quiet()).level);
}

#[test]
fn a_highest_microversion_that_falls_where_it_must_only_grow_is_a_breach() {
    let mut plan = plan();
    plan.policy.api.advertised = Advertising::OnlyGrows;
    let judge_versions =
        |versions: &[&str], plan: &Plan| judge(plan, &state(plan), &advertising(versions), &daemons(), &[]);
    let grew = judge_versions(&["2.96", "2.96", "2.100", "2.100"], &plan);
    assert_eq!(grew.level, Level::ZeroImpact, "{:?}", grew.reasons);
    let flapped = judge_versions(&["2.96", "2.100", "2.96", "2.100"], &plan);
    assert_eq!((flapped.level, flapped.requests["nova"].level), (Level::Rolling, Level::Rolling));
    let why = "nova: its highest microversion was lower than before in 1 of 4 answers, during roll/nova-api@ctl1; \
               the policy wants it only to grow";
    assert_eq!(flapped.reasons, [why]);
    // What is named counts for itself.
    plan.policy.api.services.insert(name("nova"), Advertising::MayFlap);
    assert_eq!(judge_versions(&["2.96", "2.100", "2.96", "2.100"], &plan).level, Level::ZeroImpact);
}

/// What a run saw of a contract, in an attempt at any step of the plan.
fn with_contract(service: &str, broken: bool, failed: bool) -> Verdict {
    let plan = plan();
    let mut state = state(&plan);
    let seen = ContractSeen {
        service: name(service),
        operations_compared: 70,
        requests_compared: 400,
        writes_compared: 14,
        differences: [("breaking".to_owned(), u64::from(broken)), ("additive".to_owned(), 5)].into(),
    };
    let evidence = vec![Evidence::Contract(seen)];
    let outcome = if failed {
        Outcome::Failed(volutus_model::Failure {
            refused_by: std::collections::BTreeSet::new(),
            newcomers: std::collections::BTreeSet::new(),
            class: volutus_model::FailureClass::Permanent,
            message: "broken".to_owned(),
            hint: String::new(),
            evidence,
        })
    } else {
        Outcome::Done { detail: String::new(), evidence }
    };
    let last = state.attempts.values_mut().last().unwrap();
    last.outcome = Some(outcome);
    judge(&plan, &state, &quiet(), &daemons(), &[])
}

#[test]
fn the_contract_is_held_broken_or_not_measured() {
    let result = |verdict: Verdict| verdict.api_contract.result;
    assert_eq!(result(judge_samples(&quiet())), ContractResult::NotMeasured);
    let held = with_contract("nova", false, false);
    assert_eq!((held.api_contract.operations_compared, held.api_contract.requests_compared), (70, 400));
    assert_eq!(held.api_contract.writes_compared, 14);
    assert_eq!(held.api_contract.differences["additive"], 5);
    assert_eq!(result(held), ContractResult::Held);
    assert_eq!(result(with_contract("nova", true, true)), ContractResult::Broken);
    assert_eq!(result(with_contract("nova", true, false)), ContractResult::Broken, "the gate only warns");
    assert_eq!(result(with_contract("glance", false, false)), ContractResult::NotMeasured, "nova was not");
}

/// A run whose nova was asked before and again.
fn asked_again(before: u64, after: Option<u64>, not_compared: Option<&str>) -> Verdict {
    let mut plan = plan();
    let mut state = state(&plan);
    let count = |breaking| [("breaking".to_owned(), breaking)].into();
    let mut pieces = vec![Evidence::Contract(ContractSeen {
        service: name("nova"),
        operations_compared: 70,
        requests_compared: 400,
        writes_compared: 14,
        differences: count(before),
    })];
    pieces.extend(after.map(|breaking| {
        Evidence::AskedAgain(volutus_model::AskedAgain {
            service: name("nova"),
            operations_compared: 69,
            requests_compared: 390,
            differences: count(breaking),
            known: before,
            gone: 10,
            not_compared: not_compared.map(str::to_owned),
        })
    }));
    plan.policy.contract.gate = volutus_model::Gate::Warn;
    let last = state.attempts.values_mut().last().unwrap();
    last.outcome = Some(Outcome::Done { detail: String::new(), evidence: pieces });
    judge(&plan, &state, &quiet(), &daemons(), &[])
}

#[test]
fn what_only_shows_with_everything_replaced_breaks_the_contract() {
    let held = asked_again(0, Some(0), None).api_contract;
    let after = held.after.unwrap();
    assert_eq!((held.result, after.requests_compared, after.gone), (ContractResult::Held, 390, 10));
    assert!(after.not_measured.is_empty());
    assert_eq!(asked_again(0, Some(2), None).api_contract.result, ContractResult::Broken);
    assert_eq!(asked_again(1, Some(0), None).api_contract.result, ContractResult::Broken);
    // Not to be able to ask again takes nothing from what was seen before.
    let missed = asked_again(0, Some(0), Some("it is gone")).api_contract;
    assert_eq!(missed.result, ContractResult::Held);
    assert_eq!(missed.after.unwrap().not_measured, [(name("nova"), "it is gone".to_owned())].into());
}

#[test]
fn it_is_said_why_a_service_was_not_asked_again() {
    let why = |verdict: Verdict| {
        verdict.api_contract.after.unwrap().not_measured[&name::<ServiceName>("nova")].clone()
    };
    assert!(why(judge_samples(&quiet())).contains("gate of [contract] is off"));
    assert!(why(asked_again(0, None, None)).contains("nothing to compare with"));
    let text = serde_json::to_string(&asked_again(0, Some(0), None)).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    for newer in ["after", "writes_compared"] {
        old["api_contract"].as_object_mut().unwrap().remove(newer);
    }
    let old: Verdict = serde_json::from_value(old).unwrap();
    assert_eq!(old.api_contract.after, None, "a verdict of before can be read");
}

/// A gate before all else is no work of the run; and of each gate the last attempt counts.
#[test]
fn gates_are_told_and_are_no_work() {
    let mut plan = plan();
    let gate = stage("gates-before", Phase::Gate, vec![step("gate/before/site", vec![])]);
    plan.stages.insert(1, gate);
    let mut state = state(&plan);
    let mut ask = |passed: bool, at_s: i64, id: &str| {
        let seen = GateSeen {
            gate: "site".to_owned(),
            when: volutus_model::Moment::Before,
            passed,
            on_failure: volutus_model::GateFailure::Block,
            exit_code: Some(i32::from(!passed)),
            detail: String::new(),
            output: String::new(),
        };
        let mut attempt = state.attempts.values().next().unwrap().clone();
        attempt.step = name("gate/before/site");
        attempt.started_at = at(at_s);
        attempt.finished_at = Some(at(at_s + 1));
        attempt.outcome = Some(Outcome::Done { detail: String::new(), evidence: vec![Evidence::Gate(seen)] });
        state.attempts.insert(name(id), attempt);
    };
    ask(false, BASE_S - 20, "first");
    ask(true, BASE_S - 10, "second");
    let verdict = judge(&plan, &state, &quiet(), &daemons(), &[]);
    assert_eq!(verdict.gates.len(), 1);
    assert!(verdict.gates[0].passed);
    assert_eq!(verdict.duration_s, judge_samples(&quiet()).duration_s);
}

//! Policies on failures: from the step that failed to the cloud that was put back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Behaviour, Crash, Recorder, Scene, ended_process, failed, operator};
use crate::plans::{disable, held, holding_step, plan, policy, stage, step};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc};
use volutus_engine::Command;
use volutus_model::event::{Actor, Event};
use volutus_model::name::{RunId, StepId};
use volutus_model::outcome::FailureClass;
use volutus_model::plan::{Phase, PlanKind};
use volutus_model::probe::{Sample, SampleResult};
use volutus_model::run::{RunState, RunStatus};
use volutus_model::{OnFailure, Plan, Policy};
use volutus_runtime::{Error, PlanFuture, PlanWayBack, Probe, Probes, Runtime, Silent};
use volutus_store::Holder;

const A_FIRST: &str = "a: disable nova-compute on h1, settle";

fn forward(on_failure: OnFailure) -> Plan {
    let roll = vec![holding_step("a", &[], "h1"), holding_step("b", &["a"], "h2")];
    let last = held(stage("last", &["roll"], 1, vec![step("z", &[], vec![disable("h1")])]));
    plan(vec![stage("roll", &[], 1, roll), last], Policy { on_failure, ..policy(2, 1) })
}

/// Plans a way back of one step; counts how often, and may be where the process ends.
#[derive(Default)]
struct Planner {
    asked: Mutex<u32>,
    crash: Arc<Crash>,
    refuses: bool,
    nothing: bool,
}

impl PlanWayBack for Planner {
    fn plan_back<'a>(&'a self, run: &'a RunId, of: &'a Plan, state: &'a RunState) -> PlanFuture<'a> {
        Box::pin(async move {
            assert_eq!(state.status, RunStatus::Aborted, "the run is at its end before it is looked at");
            if self.crash.is_here() {
                std::future::pending::<()>().await;
            }
            if self.refuses {
                return Err("a host cannot be reached".to_owned());
            }
            if self.nothing {
                return Ok(None);
            }
            let number = {
                let mut asked = self.asked.lock().unwrap();
                *asked += 1;
                *asked
            };
            let steps = vec![holding_step("back", &[], "h1")];
            let mut made = plan(vec![stage("back", &[], 1, steps)], of.policy.clone());
            made.kind = PlanKind::Rollback { of: of.id.clone(), run: run.clone() };
            // Two plans are never made at the same time, so that no two have the same id.
            made.created_at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(number));
            made.id = made.compute_id();
            Ok(Some(made))
        })
    }
}

/// What `volutus run` does: carries a run out, and then whatever has to follow.
async fn carry_out(
    runtime: &Runtime,
    run: &RunId,
    planner: &Planner,
    crash: &Arc<Crash>,
) -> (RunId, RunStatus) {
    let (_keep, mut interrupts) = mpsc::channel(1);
    let (seen, _entries) = mpsc::unbounded_channel();
    let mut recorder = Recorder { crash: Arc::clone(crash), seen, samples: 0 };
    let status = runtime.execute(run, None, &mut interrupts, &mut recorder).await.unwrap();
    if status != RunStatus::Aborted {
        return (run.clone(), status);
    }
    let Some(back) = runtime.prepare_rollback(run, planner).await.unwrap() else {
        return (run.clone(), status);
    };
    let status = runtime.execute(&back, None, &mut interrupts, &mut recorder).await.unwrap();
    (back, status)
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_is_taken_back_by_the_policy() {
    let scene = Scene::new(&forward(OnFailure::RollBack));
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    let (crash, planner) = (Arc::default(), Planner::default());
    let runtime = scene.runtime(Holder::this_process().unwrap(), &crash);
    let (back, status) = carry_out(&runtime, &scene.run, &planner, &crash).await;
    assert_eq!(status, RunStatus::Succeeded);
    assert_ne!(back, scene.run);
    let events = scene.events();
    let due = events.iter().position(|event| matches!(event, Event::RollbackDue { .. })).unwrap();
    assert!(matches!(events[due - 1], Event::Halted { .. }));
    assert_eq!(events[due + 1], Event::AbortRequested);
    let given_back = scene.world.orders().iter().any(|order| order.starts_with("r1-0-g0-1"));
    assert!(given_back, "what a held is given back before anything is put back");
    let record = scene.store.run(&back).unwrap();
    let approval = scene.store.approval(&record.plan).unwrap().unwrap();
    let of = scene.store.run(&scene.run).unwrap().plan;
    let whose = Actor(format!("policy on_failure of plan {of}, approved by operator"));
    assert_eq!(approval.actor, whose);
    // Once more: the same run is found, and nothing is done.
    let again = runtime.prepare_rollback(&scene.run, &planner).await.unwrap();
    assert_eq!(again, Some(back));
    assert_eq!(*planner.asked.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_asks_for_it_while_the_run_waits() {
    let mut scene = Scene::new(&forward(OnFailure::Halt));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::AwaitingFinalize);
    scene.command(Command::RollBack);
    let (crash, planner) = (Arc::default(), Planner::default());
    let runtime = scene.runtime(Holder::this_process().unwrap(), &crash);
    let (back, status) = carry_out(&runtime, &scene.run, &planner, &crash).await;
    assert_eq!(status, RunStatus::Succeeded);
    let record = scene.store.run(&back).unwrap();
    assert_eq!(scene.store.approval(&record.plan).unwrap().unwrap().actor, operator());
    assert!(!scene.events().contains(&Event::FinalizeAllowed));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_not_rolled_back_but_halts() {
    let scene = Scene::new(&forward(OnFailure::RollBack));
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    let back_first = "back: disable nova-compute on h1, settle";
    scene.world.script(back_first, Behaviour::Outcome(failed(FailureClass::Permanent)));
    let (crash, planner) = (Arc::default(), Planner::default());
    let runtime = scene.runtime(Holder::this_process().unwrap(), &crash);
    let (back, status) = carry_out(&runtime, &scene.run, &planner, &crash).await;
    assert_eq!(status, RunStatus::Halted);
    // Taken up again it goes on, and no second one is made beside it.
    assert_eq!(runtime.prepare_rollback(&scene.run, &planner).await.unwrap(), Some(back.clone()));
    scene.store.push_command(&back, Command::Resume, &operator(), Timestamp::UNIX_EPOCH).unwrap();
    let (_keep, mut interrupts) = mpsc::channel(1);
    let status = runtime.execute(&back, None, &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_planned_stays_due() {
    let scene = Scene::new(&forward(OnFailure::RollBack));
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    let crash = Arc::default();
    let runtime = scene.runtime(Holder::this_process().unwrap(), &crash);
    let (_keep, mut interrupts) = mpsc::channel(1);
    let early = runtime.prepare_rollback(&scene.run, &Planner::default()).await.unwrap_err();
    assert!(matches!(early, Error::NotGivenUp { .. }), "{early}");
    let status = runtime.execute(&scene.run, None, &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::Aborted);
    let planner = Planner { refuses: true, ..Planner::default() };
    let error = runtime.prepare_rollback(&scene.run, &planner).await.unwrap_err();
    assert_eq!(error.to_string(), "run r1 cannot be taken back now: a host cannot be reached");
    let planner = Planner { nothing: true, ..Planner::default() };
    assert_eq!(runtime.prepare_rollback(&scene.run, &planner).await.unwrap(), None);
    let (_, status) = carry_out(&runtime, &scene.run, &Planner::default(), &crash).await;
    assert_eq!(status, RunStatus::Succeeded);
}

/// One phase may have its own policy.
#[tokio::test(start_paused = true)]
async fn a_phase_has_its_own_policy() {
    let mut policy = policy(2, 1);
    policy.on_failure_in.insert(Phase::Canary, OnFailure::RollBack);
    let mut first = stage("roll", &[], 1, vec![holding_step("a", &[], "h1")]);
    let halts = Scene::new(&plan(vec![first.clone()], policy.clone()));
    first.phase = Phase::Canary;
    let rolls = Scene::new(&plan(vec![first], policy));
    for (mut scene, wanted) in [(halts, RunStatus::Halted), (rolls, RunStatus::Aborted)] {
        scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
        assert_eq!(scene.execute().await.unwrap(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_once_more_before_it_halts() {
    let mut scene = Scene::new(&forward(OnFailure::RetryThenHalt));
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::AwaitingFinalize);
    assert!(scene.events().contains(&Event::StepRetried { step: StepId::new("a").unwrap() }));

    let mut scene = Scene::new(&forward(OnFailure::RetryThenHalt));
    for _ in 0..2 {
        scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    }
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Halted);
}

/// Points of the way from the failure to the end of the rollback at which the process can end.
async fn points() -> u64 {
    let scene = Scene::new(&forward(OnFailure::RollBack));
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    let crash = Arc::new(Crash::default());
    let planner = Planner { crash: Arc::clone(&crash), ..Planner::default() };
    let runtime = scene.runtime(ended_process(), &crash);
    let (_, status) = carry_out(&runtime, &scene.run, &planner, &crash).await;
    assert_eq!(status, RunStatus::Succeeded);
    crash.passed.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn whenever_the_process_ends_the_next_one_brings_the_rollback_to_its_end() {
    let points = points().await;
    assert!(points > 20, "only {points} points");
    for at in 0..points {
        let scene = Scene::new(&forward(OnFailure::RollBack));
        scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
        let reached = Arc::new(Semaphore::new(0));
        let crash = Arc::new(Crash { at: Some(at), reached: Some(Arc::clone(&reached)), ..Crash::default() });
        let runtime = scene.runtime(ended_process(), &crash);
        let (run, first) = (scene.run.clone(), Arc::clone(&crash));
        let process = tokio::spawn(async move {
            let planner = Planner { crash: Arc::clone(&first), ..Planner::default() };
            carry_out(&runtime, &run, &planner, &first).await
        });
        reached.acquire().await.unwrap().forget();
        process.abort();
        assert!(process.await.is_err(), "the process came to its end before point {at}");

        let crash = Arc::default();
        let runtime = scene.runtime(Holder::this_process().unwrap(), &crash);
        // The failure was scripted for the first attempt; one that was never made is made now.
        let (back, status) = carry_out(&runtime, &scene.run, &Planner::default(), &crash).await;
        if scene.events().iter().any(|event| matches!(event, Event::StepFailed { .. })) {
            assert_eq!(status, RunStatus::Succeeded, "after a crash at point {at}");
            assert_ne!(back, scene.run);
            let effects = scene.world.effects();
            let put_back = effects.iter().filter(|(what, _)| what.starts_with("back: "));
            assert_eq!(put_back.map(|(_, count)| *count).collect::<Vec<_>>(), [1, 1], "at point {at}");
            scene.store.verify_journal(&back).unwrap();
        } else {
            assert_eq!(status, RunStatus::AwaitingFinalize, "after a crash at point {at}");
        }
        scene.store.verify_journal(&scene.run).unwrap();
        let open = scene.store.runs().unwrap().into_iter().filter(|run| !run.ended).count();
        assert!(open <= 1, "at point {at} {open} runs are open");
    }
}

struct Deaf;

impl Probe for Deaf {
    fn set_steps(&self, _steps: Vec<StepId>) {}
}

/// A clock that goes on by ten seconds whenever it is read.
fn hurried() -> volutus_runtime::Clock {
    let seconds = AtomicI64::new(0);
    Arc::new(move || Timestamp::from_second(seconds.fetch_add(10, Ordering::SeqCst)).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_watched_cloud_is_finalized_by_the_policy() {
    let mut made = forward(OnFailure::Halt);
    made.policy.finalize_after_s = Some(300);
    made.id = made.compute_id();
    let scene = Scene::new(&made);
    let runtime = scene.runtime(Holder::this_process().unwrap(), &Arc::default()).with_clock(hurried());
    let (_keep, mut interrupts) = mpsc::channel(1);
    // Nobody watches: a person has to decide.
    let status = runtime.execute(&scene.run, None, &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::AwaitingFinalize);
    let (_samples, received) = mpsc::channel(8);
    let mut probes = Probes { probe: Arc::new(Deaf), samples: received };
    let status = runtime.execute(&scene.run, Some(&mut probes), &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::Succeeded);
    let journal = scene.store.journal(&scene.run, 0).unwrap();
    let allowed = journal.iter().find(|entry| entry.event == Event::FinalizeAllowed).unwrap();
    assert_eq!(allowed.actor, Actor("policy finalize_after_s = 300".to_owned()));
}

/// A breach under watch takes the automatic finalize away, and the run is taken back.
#[tokio::test(start_paused = true)]
async fn a_breach_under_watch_is_taken_back_and_never_finalized() {
    let mut made = forward(OnFailure::RollBack);
    made.policy.finalize_after_s = Some(1_000_000);
    made.policy.failed_requests_max = 1;
    made.id = made.compute_id();
    let scene = Scene::new(&made);
    let runtime = scene.runtime(Holder::this_process().unwrap(), &Arc::default()).with_clock(hurried());
    let (_keep, mut interrupts) = mpsc::channel(1);
    let status = runtime.execute(&scene.run, None, &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::AwaitingFinalize);
    let (samples, received) = mpsc::channel(8);
    let sample = Sample {
        due_us: 1_000_000_000_000,
        latency_ms: 3.0,
        service: "nova".parse().unwrap(),
        operation: "list servers".to_owned(),
        status: None,
        result: SampleResult::Failed { why: "refused".to_owned() },
        steps: Vec::new(),
        advertised: None,
    };
    samples.send(sample).await.unwrap();
    let mut probes = Probes { probe: Arc::new(Deaf), samples: received };
    let status = runtime.execute(&scene.run, Some(&mut probes), &mut interrupts, &mut Silent).await.unwrap();
    assert_eq!(status, RunStatus::Aborted);
    let events = scene.events();
    assert!(events.iter().any(|event| matches!(event, Event::RollbackDue { .. })), "{events:?}");
    assert!(!events.contains(&Event::FinalizeAllowed));
}

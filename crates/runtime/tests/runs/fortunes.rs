//! What goes well, what fails, what operators ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::common::{Behaviour, Crash, Scene, ended_process, failed, operator, until};
use crate::plans::{disable, held, holding_step, plan, policy, stage, step};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use volutus_engine::Command;
use volutus_model::event::{Event, JournalEntry};
use volutus_model::name::StepId;
use volutus_model::outcome::FailureClass;
use volutus_model::plan::Plan;
use volutus_model::probe::{Sample, SampleResult};
use volutus_model::run::RunStatus;
use volutus_runtime::{Error, Probe, Probes};
use volutus_store::Holder;

fn two_hosts() -> Plan {
    let steps = vec![holding_step("a", &[], "h1"), holding_step("b", &["a"], "h2")];
    plan(vec![stage("roll", &[], 1, steps)], policy(2, 2))
}

const A_FIRST: &str = "a: disable nova-compute on h1, settle";

fn this_process() -> Holder {
    Holder::this_process().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_succeeds() {
    let mut scene = Scene::new(&two_hosts());
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert!(scene.world.effects().values().all(|count| *count == 1));
    assert_eq!(scene.world.effects().len(), 4);
    scene.store.verify_journal(&scene.run).unwrap();
    assert!(scene.store.run(&scene.run).unwrap().ended);
    assert_eq!(scene.store.lease(&"cloud".parse().unwrap(), Timestamp::now()).unwrap(), None);
    // Once more: nothing happens.
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.world.orders().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_repeated() {
    let mut scene = Scene::new(&two_hosts());
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Transient)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.world.orders()[1], "r1-0-a0-2 a: disable nova-compute on h1, settle");
}

#[tokio::test(start_paused = true)]
async fn a_failure_halts_and_a_resume_retries() {
    let mut scene = Scene::new(&two_hosts());
    scene.world.script(A_FIRST, Behaviour::Outcome(failed(FailureClass::Permanent)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Halted);
    // Only to look changes nothing but that somebody took it up.
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Halted);
    let resumed = scene.command(Command::Resume);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.store.command_answer(resumed).unwrap(), Some(Ok(())));
    assert!(scene.events().contains(&Event::StepRetried { step: "a".parse().unwrap() }));
}

#[tokio::test(start_paused = true)]
async fn panics_and_hanging_drivers_are_looked_for_again() {
    let mut scene = Scene::new(&two_hosts());
    scene.world.script(A_FIRST, Behaviour::Panic);
    scene.world.script(A_FIRST, Behaviour::Hang);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    let orders = scene.world.orders();
    assert_eq!(orders[1], format!("r1-0-a0-1 {A_FIRST} again"));
    assert_eq!(orders[2], format!("r1-0-a0-1 {A_FIRST} again"));
    assert_eq!(scene.world.effects()[A_FIRST], 1);
}

#[tokio::test(start_paused = true)]
async fn pause_and_resume_reach_a_run_through_the_store() {
    let mut scene = Scene::new(&two_hosts());
    let permits = Arc::new(Semaphore::new(0));
    scene.world.script(A_FIRST, Behaviour::Wait(Arc::clone(&permits)));
    let (process, mut entries) = scene.spawn(this_process(), Crash::default(), None);
    until(&mut entries, |event| matches!(event, Event::AttemptStarted { .. })).await;
    let refused = scene.command(Command::Finalize);
    scene.command(Command::Pause);
    until(&mut entries, |event| *event == Event::Paused).await;
    permits.add_permits(1);
    assert_eq!(process.await.unwrap().unwrap(), RunStatus::Paused);
    let why = scene.store.command_answer(refused).unwrap().unwrap().unwrap_err();
    assert!(why.starts_with("cannot finalize a run that is running"), "{why}");
    let paused = scene.store.journal(&scene.run, 0).unwrap();
    let paused = paused.iter().find(|entry| entry.event == Event::Paused).unwrap();
    assert_eq!(paused.actor, operator());
    assert_eq!(scene.world.orders().len(), 2, "a ended, b did not begin");
    scene.command(Command::Resume);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_abort_gives_back() {
    let mut scene = Scene::new(&two_hosts());
    let second = "a: enable nova-compute on h1";
    scene.world.script(second, Behaviour::Outcome(failed(FailureClass::Permanent)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Halted);
    scene.command(Command::Abort);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Aborted);
    assert_eq!(scene.world.orders()[2], format!("r1-0-g0-1 {second}"));
    assert_eq!(scene.world.effects()[second], 1);
    // The cloud is free for another run.
    let id = scene.store.run(&scene.run).unwrap().plan;
    scene
        .store
        .create_run(&"r2".parse().unwrap(), &id, &"cloud".parse().unwrap(), Timestamp::UNIX_EPOCH)
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn held_stages_wait_for_finalize() {
    let last = held(stage("last", &["roll"], 1, vec![step("z", &[], vec![disable("h1")])]));
    let roll = stage("roll", &[], 1, vec![holding_step("a", &[], "h1")]);
    let mut scene = Scene::new(&plan(vec![roll, last], policy(2, 2)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::AwaitingFinalize);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::AwaitingFinalize);
    assert_eq!(scene.world.orders().len(), 2);
    scene.command(Command::Finalize);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.world.orders().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_first_interrupt_pauses_and_the_second_stops() {
    let mut scene = Scene::new(&two_hosts());
    scene.world.script(A_FIRST, Behaviour::Hang);
    let (process, mut entries) = scene.spawn(this_process(), Crash::default(), None);
    until(&mut entries, |event| matches!(event, Event::AttemptStarted { .. })).await;
    scene.interrupts.send(()).await.unwrap();
    until(&mut entries, |event| *event == Event::Paused).await;
    scene.interrupts.send(()).await.unwrap();
    let error = process.await.unwrap().unwrap_err();
    let Error::Interrupted { under_way, .. } = &error else { panic!("{error}") };
    assert_eq!(under_way.len(), 1);
    assert_eq!(
        error.to_string(),
        "stopped at once; attempt r1-0-a0-1 of run r1 may still be going on on their hosts; \
         `volutus resume` looks for them and goes on"
    );
    scene.command(Command::Resume);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.world.orders()[1], format!("r1-0-a0-1 {A_FIRST} again"));
}

#[tokio::test(start_paused = true)]
async fn a_second_process_is_refused_while_one_works() {
    let mut scene = Scene::new(&two_hosts());
    let permits = Arc::new(Semaphore::new(0));
    scene.world.script(A_FIRST, Behaviour::Wait(Arc::clone(&permits)));
    let (process, mut entries) = scene.spawn(this_process(), Crash::default(), None);
    until(&mut entries, |event| matches!(event, Event::AttemptStarted { .. })).await;
    let error = scene.execute().await.unwrap_err();
    assert!(matches!(error, Error::Store(volutus_store::Error::LeaseHeld { .. })), "{error}");
    permits.add_permits(1);
    assert_eq!(process.await.unwrap().unwrap(), RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_everything_at_its_renewal() {
    let mut scene = Scene::new(&two_hosts());
    scene.world.script(A_FIRST, Behaviour::Hang);
    let (process, mut entries) = scene.spawn(ended_process(), Crash::default(), None);
    until(&mut entries, |event| matches!(event, Event::AttemptStarted { .. })).await;
    let cloud = "cloud".parse().unwrap();
    let ttl = std::time::Duration::from_secs(30);
    scene.store.acquire_lease(&cloud, &this_process(), Timestamp::now(), ttl).unwrap();
    let error = process.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    assert_eq!(scene.store.lease(&cloud, Timestamp::now()).unwrap().unwrap().holder, this_process());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_keeps_an_outcome_out_of_the_journal() {
    let mut scene = Scene::new(&two_hosts());
    let permits = Arc::new(Semaphore::new(0));
    scene.world.script(A_FIRST, Behaviour::Wait(Arc::clone(&permits)));
    let (process, mut entries) = scene.spawn(ended_process(), Crash::default(), None);
    until(&mut entries, |event| matches!(event, Event::AttemptStarted { .. })).await;
    let ttl = std::time::Duration::from_secs(30);
    scene.store.acquire_lease(&"cloud".parse().unwrap(), &this_process(), Timestamp::now(), ttl).unwrap();
    let before = scene.events();
    permits.add_permits(1);
    assert!(matches!(process.await.unwrap().unwrap_err(), Error::LeaseLost { .. }));
    assert_eq!(scene.events(), before);
}

/// Remembers which steps it was told of.
struct FakeProbe(mpsc::UnboundedSender<Vec<StepId>>);

impl Probe for FakeProbe {
    fn set_steps(&self, steps: Vec<StepId>) {
        let _ = self.0.send(steps);
    }
}

fn sample(entry: &JournalEntry, failed: bool) -> Sample {
    let result = if failed { SampleResult::Failed { why: "refused".to_owned() } } else { SampleResult::Ok };
    Sample {
        due_us: entry.at.as_microsecond() + 1,
        latency_ms: 5.0,
        service: "nova".parse().unwrap(),
        operation: "list servers".to_owned(),
        status: None,
        result,
        steps: Vec::new(),
        advertised: None,
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_failed_requests_halt_the_run() {
    let mut strict = two_hosts();
    strict.policy.failed_requests_max = 2;
    strict.id = strict.compute_id();
    let mut scene = Scene::new(&strict);
    let permits = Arc::new(Semaphore::new(0));
    scene.world.script(A_FIRST, Behaviour::Wait(Arc::clone(&permits)));
    let (send, samples) = mpsc::channel(16);
    let (tell, mut told) = mpsc::unbounded_channel();
    let probes = Probes { probe: Arc::new(FakeProbe(tell)), samples };
    let (process, mut entries) = scene.spawn(this_process(), Crash::default(), Some(probes));
    let created = entries.recv().await.unwrap();
    for failed in [false, true, true] {
        send.send(sample(&created, failed)).await.unwrap();
    }
    until(&mut entries, |event| matches!(event, Event::Halted { .. })).await;
    permits.add_permits(1);
    assert_eq!(process.await.unwrap().unwrap(), RunStatus::Halted);
    let events = scene.events();
    let breach = events.iter().find_map(|event| match event {
        Event::ProbeBreached(breach) => Some(breach),
        _ => None,
    });
    assert_eq!(breach.map(|breach| (breach.failed, breach.total, breach.last.len())), Some((2, 3, 2)));
    assert_eq!(scene.store.samples(&scene.run).unwrap().len(), 3);
    assert_eq!(told.recv().await.unwrap(), ["a".parse().unwrap()]);
    assert_eq!(told.recv().await.unwrap(), [], "a has ended, and nothing else began");
    // Who resumes has seen those failures.
    scene.command(Command::Resume);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn two_thousand_steps_go_through() {
    let names: Vec<String> = (0..2_000).map(|number| format!("c{number}")).collect();
    let steps = names.iter().map(|name| step(name, &[], vec![disable(name)])).collect();
    let mut scene = Scene::new(&plan(vec![stage("waves", &[], 50, steps)], policy(50, 1)));
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    assert_eq!(scene.world.effects().len(), 2_000);
    scene.store.verify_journal(&scene.run).unwrap();
}

/// The clock is set back an hour in the middle of a run, and again and again: nothing depends on
/// its going forward but the order in which a person reads it.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_changes_nothing() {
    let scene = Scene::new(&two_hosts());
    let reads = AtomicI64::new(0);
    let clock: volutus_runtime::Clock = Arc::new(move || {
        let read = reads.fetch_add(1, Ordering::SeqCst);
        Timestamp::from_second(1_000_000 + read - read / 5 * 3_600).unwrap()
    });
    let runtime = scene.runtime(this_process(), &Arc::default()).with_clock(clock);
    let (_keep, mut interrupts) = mpsc::channel(1);
    let status =
        runtime.execute(&scene.run, None, &mut interrupts, &mut volutus_runtime::Silent).await.unwrap();
    assert_eq!(status, RunStatus::Succeeded);
    assert_eq!(scene.world.effects().len(), 4);
    assert!(scene.world.effects().values().all(|count| *count == 1));
    scene.store.verify_journal(&scene.run).unwrap();
    let journal = scene.store.journal(&scene.run, 0).unwrap();
    assert!(journal.windows(2).any(|pair| pair[1].at < pair[0].at), "the clock never went back");
}

//! The process ends at every point where it can, and another one goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::{Crash, Recorder, Scene, ended_process};
use crate::plans::{holding_step, plan, policy, stage};
use tokio::sync::Semaphore;
use volutus_model::plan::Plan;
use volutus_model::run::RunStatus;

fn reference() -> Plan {
    let first = vec![holding_step("a", &[], "h1"), holding_step("b", &[], "h2")];
    let second = vec![holding_step("c", &[], "h3")];
    plan(vec![stage("first", &[], 2, first), stage("second", &["first"], 1, second)], policy(2, 2))
}

/// Points of a run without a crash: before and after every effect, and after every entry.
async fn points() -> u64 {
    let mut scene = Scene::new(&reference());
    let crash = Arc::new(Crash::default());
    let runtime = scene.runtime(ended_process(), &crash);
    let (seen, _entries) = tokio::sync::mpsc::unbounded_channel();
    let mut recorder = Recorder { crash: Arc::clone(&crash), seen, samples: 0 };
    let (_keep, mut interrupts) = tokio::sync::mpsc::channel(1);
    let status = runtime.execute(&scene.run, None, &mut interrupts, &mut recorder).await.unwrap();
    assert_eq!(status, RunStatus::Succeeded);
    assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded);
    crash.passed.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn whatever_the_moment_nothing_is_lost_and_nothing_done_twice() {
    let points = points().await;
    assert!(points > 30, "only {points} points");
    for at in 0..points {
        let mut scene = Scene::new(&reference());
        let reached = Arc::new(Semaphore::new(0));
        let crash = Crash { at: Some(at), reached: Some(Arc::clone(&reached)), ..Crash::default() };
        let (process, entries) = scene.spawn(ended_process(), crash, None);
        reached.acquire().await.unwrap().forget();
        process.abort();
        assert!(process.await.is_err(), "the process came to its end before point {at}");
        drop(entries);

        assert_eq!(scene.execute().await.unwrap(), RunStatus::Succeeded, "after a crash at point {at}");
        let effects = scene.world.effects();
        assert_eq!(effects.len(), 6, "at point {at}");
        assert!(effects.values().all(|count| *count == 1), "at point {at}: {effects:?}");
        scene.store.verify_journal(&scene.run).unwrap();
    }
}

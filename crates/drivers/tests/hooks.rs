//! Hooks on Volutus's own machine: what they are told, how they end, and that they run once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use volutus_drivers::CloudDriver;
use volutus_engine::ports::{Driver as _, Order};
use volutus_model::name::{AttemptId, RunId, StepId};
use volutus_model::outcome::{Evidence, Outcome};

fn driver(dir: &Path) -> CloudDriver {
    support::driver(dir, "http://127.0.0.1:9/v3", &[("c1", "127.0.0.1")])
}

fn order(test: &str, script: &str, limit_s: u32, taken_up: bool) -> Order {
    let action = json!({
        "action": "run-hook", "host": "c1", "hook": "silence", "moment": "before", "on": "volutus",
        "argv": ["sh", "-c", script], "unchanged_exit": 70, "limit_s": limit_s,
    });
    Order {
        run: RunId::new("run").unwrap(),
        attempt: AttemptId::new(format!("{test}-{}", std::process::id())).unwrap(),
        step: StepId::new("step").unwrap(),
        action: serde_json::from_value(action).unwrap(),
        timeout_s: limit_s,
        taken_up,
        retried: false,
    }
}

async fn run(dir: &TempDir, order: &Order) -> Outcome {
    let driver = driver(dir.path());
    let outcome = driver.perform(order, &|_| ()).await;
    driver.close().await;
    outcome
}

fn output(evidence: &[Evidence]) -> &str {
    let [Evidence::Command { output, .. }] = evidence else { panic!("{evidence:?}") };
    output
}

#[tokio::test]
async fn a_hook_is_told_host_run_and_cloud_and_its_exit_code_counts() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $VOLUTUS_HOST $VOLUTUS_RUN $VOLUTUS_HOOK $VOLUTUS_MOMENT $OS_CLOUD; test -f $OS_CLIENT_CONFIG_FILE";
    let outcome = run(&dir, &order("told", script, 30, false)).await;
    let Outcome::Done { detail, evidence } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(detail, "hook silence before c1: c1 run silence before admin");
    assert_eq!(output(evidence), "c1 run silence before admin\n");
    let outcome = run(&dir, &order("nothing", "exit 70", 30, false)).await;
    assert!(matches!(outcome, Outcome::FoundNoChangesNeeded { .. }), "{outcome:?}");
    let outcome = run(&dir, &order("fails", "echo no such silence; exit 3", 30, false)).await;
    let Outcome::Failed(failure) = &outcome else { panic!("{outcome:?}") };
    assert!(failure.message.contains("exit code 3: no such silence"), "{}", failure.message);
    assert_eq!(output(&failure.evidence), "no such silence\n");
    let outcome = run(&dir, &order("hangs", "sleep 600", 1, false)).await;
    assert!(
        matches!(&outcome, Outcome::Failed(failure) if failure.message.contains("was killed")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_hook_that_ended_before_volutus_did_does_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo once >> {}; echo ended", count.display());
    // Its outcome never came into the journal: the attempt is taken up by the next process.
    let first = run(&dir, &order("once", &script, 30, false)).await;
    let again = run(&dir, &order("once", &script, 30, true)).await;
    assert_eq!(first, again);
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "once\n");
    // One that failed is a new attempt when it is resumed, and runs.
    let _ = run(&dir, &order("once-more", &script, 30, false)).await;
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "once\nonce\n");
}

#[tokio::test]
async fn what_an_earlier_process_left_running_is_ended_before_it_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let order = order("left", "echo done", 30, true);
    let mut left =
        Command::new("sleep").arg("600").env("VOLUTUS_ATTEMPT", order.attempt.as_str()).spawn().unwrap();
    let outcome = run(&dir, &order).await;
    let ended = left.wait().unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(ended.code(), None, "a signal ended it");
}

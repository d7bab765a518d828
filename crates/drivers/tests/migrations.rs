//! Live migrations that do not converge, against a nova of this process that behaves as the real one
//! does when it is told to complete or to break off a migration.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;
mod support;

use serde_json::{Value, json};
use volutus_model::outcome::Outcome;

/// One instance on `c1`, and the live migration of it that never converges by itself.
struct Nova {
    /// nova.conf of the source.
    permits_post_copy: bool,
    /// So many orders to complete it come to nothing: QEMU refused the switch.
    refused: u32,
    /// nova's status of the migration; none where there is none under way.
    migration: Option<&'static str>,
    /// So many looks behind an abort nova calls the instance `ERROR`; none where it does not.
    errors_after: Option<u32>,
    /// Looks at the migration in which its disks are being copied.
    disk_looks: u32,
    /// Looks at the migration once it was completed, until it is through.
    looks_left: u32,
    host: &'static str,
    paused: bool,
    /// What it was told to do, in order.
    told: Vec<&'static str>,
}

impl api::Answers for Nova {
    fn answer(&mut self, line: &str, body: &str) -> (u16, Value) {
        match line {
            "GET /compute/v2.1/servers/i1" => {
                let task = self.migration.map(|_| "migrating");
                // The rollback is seen before the error.
                let status = match self.errors_after.as_mut() {
                    Some(0) => "ERROR",
                    Some(looks) if self.told.contains(&"abort") => {
                        *looks -= 1;
                        "ACTIVE"
                    }
                    _ => "ACTIVE",
                };
                (
                    200,
                    json!({"server": {
                        "id": "i1", "name": "vm", "status": status, "tenant_id": "p", "OS-EXT-STS:power_state": 1,
                        "OS-EXT-SRV-ATTR:host": self.host, "OS-EXT-STS:task_state": task,
                    }}),
                )
            }
            // nova/db/main/api.py, migration_get_in_progress_by_instance: what runs on by post-copy is not listed.
            "GET /compute/v2.1/servers/i1/migrations" => {
                let listed: Vec<Value> =
                    self.look().into_iter().filter(|one| one["status"] == "running").collect();
                (200, json!({"migrations": listed}))
            }
            "GET /compute/v2.1/os-migrations?instance_uuid=i1&migration_type=live-migration&limit=1" => {
                let status = self.migration.unwrap_or("completed");
                (200, json!({"migrations": [{"id": 7, "status": status}]}))
            }
            "POST /compute/v2.1/servers/i1/action" if body.contains("os-migrateLive") => {
                self.told.push("live");
                self.migration = Some("running");
                (202, Value::Null)
            }
            "POST /compute/v2.1/servers/i1/action" if body.contains("os-resetState") => {
                self.told.push("active");
                self.errors_after = None;
                (202, Value::Null)
            }
            "POST /compute/v2.1/servers/i1/migrations/7/action" if body.contains("force_complete") => {
                // nova/compute/api.py, live_migrate_force_complete: only of one that is `running`.
                if self.migration != Some("running") {
                    return (400, json!({"badRequest": {"message": "invalid state"}}));
                }
                assert_eq!(self.disk_looks, 0, "told to complete it while its disks are copied");
                self.told.push("complete");
                if self.refused > 0 {
                    self.refused -= 1;
                } else if self.permits_post_copy {
                    self.migration = Some("running (post-copy)");
                } else {
                    self.paused = true;
                }
                (202, Value::Null)
            }
            "DELETE /compute/v2.1/servers/i1/migrations/7" => {
                self.told.push("abort");
                self.migration = None;
                (202, Value::Null)
            }
            "GET /compute/v2.1/servers/i1/os-instance-actions" => (200, json!({"instanceActions": []})),
            other => panic!("nova is asked {other}: {body}"),
        }
    }
}

impl Nova {
    fn look(&mut self) -> Vec<Value> {
        let Some(status) = self.migration else { return Vec::new() };
        if self.disk_looks > 0 {
            self.disk_looks -= 1;
            return vec![
                json!({"id": 7, "status": status, "memory_total_bytes": 0, "memory_remaining_bytes": 0,
                "disk_total_bytes": 1 << 30, "disk_remaining_bytes": 1 << 29}),
            ];
        }
        let bytes = json!({"id": 7, "status": status, "memory_total_bytes": 1 << 30, "memory_remaining_bytes": 1 << 29});
        if self.paused || status != "running" {
            self.looks_left -= 1;
            if self.looks_left == 0 {
                (self.migration, self.host) = (None, "c2");
            }
        }
        vec![bytes]
    }
}

/// What became of the move, and of the instance.
struct Moved {
    outcome: Outcome,
    told: Vec<&'static str>,
    host: &'static str,
    paused: bool,
}

/// Lets the driver move the instance. `turns` are the fields of the move; `nova` changes how nova
/// begins.
async fn move_it(turns: Value, nova: impl FnOnce(&mut Nova)) -> Moved {
    let mut state = Nova {
        permits_post_copy: false,
        refused: 0,
        errors_after: None,
        disk_looks: 0,
        migration: None,
        looks_left: 2,
        host: "c1",
        paused: false,
        told: Vec::new(),
    };
    nova(&mut state);
    let mut wanted = json!({"instance": "i1", "to": "c2", "how": "live", "timeout_s": 600});
    wanted.as_object_mut().unwrap().extend(turns.as_object().unwrap().clone());
    let action = json!({"action": "move-instances", "host": "c1", "moves": [wanted], "parallel_max": 1});
    let (outcome, state) = api::perform(state, action).await;
    let nova = state.lock().unwrap();
    Moved { outcome, told: nova.told.clone(), host: nova.host, paused: nova.paused }
}

fn detail(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done { detail, .. } | Outcome::FoundNoChangesNeeded { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn post_copy_lets_the_instance_run_on() {
    let moved = move_it(json!({"post_copy_after_s": 0}), |nova| nova.permits_post_copy = true).await;
    assert!(detail(&moved.outcome).contains("by post-copy"), "{:?}", moved.outcome);
    assert_eq!((moved.told, moved.host, moved.paused), (vec!["live", "complete"], "c2", false));
}

#[tokio::test]
async fn a_switch_that_failed_is_asked_for_once_more() {
    let turns = json!({"post_copy_after_s": 0, "force_after_s": 0});
    let moved = move_it(turns, |nova| (nova.permits_post_copy, nova.refused) = (true, 1)).await;
    assert!(detail(&moved.outcome).contains("by post-copy"), "{:?}", moved.outcome);
    assert_eq!((moved.told, moved.paused), (vec!["live", "complete", "complete"], false));
}

#[tokio::test]
async fn a_nova_that_does_not_switch_is_told_of() {
    // nova.conf says what nova-compute was not started with.
    let moved = move_it(json!({"post_copy_after_s": 0}), |_| ()).await;
    let told = "after nova was told to switch it to post-copy";
    assert!(detail(&moved.outcome).contains(told), "{:?}", moved.outcome);
    assert!(moved.paused);
}

#[tokio::test]
async fn what_runs_on_by_post_copy_is_not_broken_off() {
    // As an earlier process of Volutus left it, and its time is long over.
    let begun = |nova: &mut Nova| nova.migration = Some("running (post-copy)");
    let moved = move_it(json!({"timeout_s": 0, "force_after_s": 0}), begun).await;
    assert!(detail(&moved.outcome).contains("i1 is on c2"), "{:?}", moved.outcome);
    assert_eq!((moved.told, moved.host), (vec![], "c2"));
}

#[tokio::test]
async fn nothing_is_completed_by_force_while_disks_are_copied() {
    let moved = move_it(json!({"force_after_s": 0}), |nova| nova.disk_looks = 2).await;
    assert!(detail(&moved.outcome).contains("i1 is on c2"), "{:?}", moved.outcome);
    assert_eq!((moved.told, moved.paused), (vec!["live", "complete"], true));
}

#[tokio::test]
async fn without_a_rung_it_is_broken_off_and_no_destination_is_to_blame() {
    let moved = move_it(json!({"timeout_s": 0}), |nova| nova.permits_post_copy = true).await;
    let Outcome::Failed(failure) = &moved.outcome else { panic!("{:?}", moved.outcome) };
    assert!(failure.message.contains("did not converge"), "{}", failure.message);
    assert!(failure.refused_by.is_empty());
    assert_eq!((moved.told, moved.host), (vec!["live", "abort"], "c1"));
}

#[tokio::test]
async fn what_was_broken_off_and_runs_is_not_left_in_error() {
    let moved = move_it(json!({"timeout_s": 0}), |nova| nova.errors_after = Some(2)).await;
    let Outcome::Failed(failure) = &moved.outcome else { panic!("{:?}", moved.outcome) };
    assert!(failure.message.contains("it runs on where it is"), "{}", failure.message);
    assert_eq!((moved.told, moved.host), (vec!["live", "abort", "active"], "c1"));
}

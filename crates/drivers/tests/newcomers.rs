//! What came to a host after the plan was made, against a nova of this process: it goes to the first destination
//! of the plan that takes it, once, or is not touched.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use volutus_model::outcome::{Evidence, Failure, Outcome};

/// An instance.
#[derive(Debug, Clone)]
struct Vm {
    name: &'static str,
    host: String,
    status: &'static str,
    state: &'static str,
    /// What its owner chose, where anything.
    choice: Option<&'static str>,
    vnic: &'static str,
    /// Looks until it is built; 0 where it is.
    building: u32,
    /// Where it is on its way to, and the looks until it is there.
    moving: Option<(String, u32)>,
}

fn vm() -> Vm {
    Vm {
        name: "vm",
        host: "c1".to_owned(),
        status: "ACTIVE",
        state: "active",
        choice: None,
        vnic: "normal",
        building: 0,
        moving: None,
    }
}

#[derive(Default)]
struct Nova {
    vms: BTreeMap<&'static str, Vm>,
    /// Hosts that take nothing.
    refusing: BTreeSet<&'static str>,
    /// Live migrations that were asked for: instance and host.
    asked: Vec<(String, String)>,
}

impl Nova {
    fn of(&mut self, id: &str) -> &mut Vm {
        self.vms.get_mut(id).unwrap()
    }

    fn look(&mut self, id: &str) -> Value {
        let vm = self.of(id);
        vm.building = vm.building.saturating_sub(1);
        if let Some((to, looks)) = &mut vm.moving {
            *looks -= 1;
            if *looks == 0 {
                vm.host = to.clone();
                vm.moving = None;
            }
        }
        let (task, status, state) = match (vm.building, &vm.moving) {
            (0, None) => (None, vm.status, vm.state),
            (0, Some(_)) => (Some("migrating"), "MIGRATING", "active"),
            _ => (Some("spawning"), "BUILD", "building"),
        };
        let chosen = vm.choice.map(|choice| ("volutus:maintenance", choice));
        let metadata: BTreeMap<&str, &str> = chosen.into_iter().collect();
        json!({
            "id": id, "name": vm.name, "status": status, "tenant_id": "p", "metadata": metadata,
            "OS-EXT-SRV-ATTR:host": vm.host, "OS-EXT-STS:task_state": task, "OS-EXT-STS:vm_state": state,
            "flavor": {"original_name": "small", "vcpus": 1, "ram": 512, "disk": 1, "extra_specs": {}},
        })
    }
}

impl api::Answers for Nova {
    fn answer(&mut self, line: &str, body: &str) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        if path.starts_with("/network/v2.0/ports?device_id=") {
            let id = path.split(['=', '&']).nth(1).unwrap().to_owned();
            return (
                200,
                json!({"ports": [{"id": "port", "device_id": id, "binding:vnic_type": self.of(&id).vnic}]}),
            );
        }
        let path = path.strip_prefix("/compute/v2.1/servers/").unwrap();
        if let Some(query) = path.strip_prefix("detail?") {
            assert!(query.contains("host=c1") && query.contains("all_tenants=1"), "{query}");
            let all: Vec<&'static str> =
                if query.contains("marker=") { vec![] } else { self.vms.keys().copied().collect() };
            let servers: Vec<Value> = all.into_iter().map(|id| self.look(id)).collect();
            let here = servers.into_iter().filter(|one| one["OS-EXT-SRV-ATTR:host"] == "c1");
            return (200, json!({"servers": here.collect::<Vec<_>>()}));
        }
        match (method, path.split('/').collect::<Vec<_>>().as_slice()) {
            ("GET", [id]) => (200, json!({"server": self.look(id)})),
            ("GET", [_, "os-instance-actions"]) => (200, json!({"instanceActions": []})),
            ("GET", [id, "migrations"]) => {
                let migration =
                    |(to, _): &(String, u32)| json!({"id": 7, "status": "running", "dest_compute": to});
                (200, json!({"migrations": self.of(id).moving.iter().map(migration).collect::<Vec<_>>()}))
            }
            ("POST", [id, "action"]) => {
                let body: Value = serde_json::from_str(body).unwrap();
                let to = body["os-migrateLive"]["host"].as_str().unwrap().to_owned();
                self.asked.push(((*id).to_owned(), to.clone()));
                if self.refusing.contains(to.as_str()) {
                    return (400, json!({"badRequest": {"message": "No valid host was found."}}));
                }
                self.of(id).moving = Some((to, 2));
                (202, Value::Null)
            }
            other => panic!("nova is asked {other:?}: {body}"),
        }
    }
}

/// Lets the driver empty `c1` of newcomers; `c2` is the first destination, `c3` the second. What came of it, and
/// nova as it is then.
async fn empty(nova: Nova) -> (Outcome, Nova) {
    let to = ["c2", "c3"].map(|host| json!({"host": host, "per_destination": 2}));
    let action = json!({
        "action": "move-newcomers", "host": "c1", "known": ["planned"], "to": to, "parallel_max": 1,
        "overhead_s": 10, "live_timeout_s_per_gib": 800, "limit_s": 60,
    });
    let (outcome, state) = api::perform(nova, action).await;
    let nova = std::mem::take(&mut *state.lock().unwrap());
    (outcome, nova)
}

fn of(vms: &[(&'static str, Vm)]) -> Nova {
    Nova { vms: vms.iter().cloned().collect(), ..Nova::default() }
}

/// Instance and host of what is kept of moves.
fn moved(evidence: &[Evidence]) -> Vec<(&str, &str)> {
    let pieces = evidence.iter().filter_map(|piece| match piece {
        Evidence::NewcomerMoved { instance, from, to } => {
            assert_eq!(from.as_str(), "c1");
            Some((instance.as_str(), to.as_str()))
        }
        _ => None,
    });
    pieces.collect()
}

fn done(outcome: &Outcome) -> Vec<(&str, &str)> {
    let Outcome::Done { evidence, .. } = outcome else { panic!("{outcome:?}") };
    moved(evidence)
}

fn failed(outcome: &Outcome) -> &Failure {
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    failure
}

#[tokio::test]
async fn it_goes_to_the_first_destination_and_to_the_next_where_that_refuses() {
    let (outcome, nova) = empty(of(&[("a", vm()), ("b", vm())])).await;
    assert_eq!(done(&outcome).into_iter().collect::<BTreeSet<_>>(), [("a", "c2"), ("b", "c2")].into());
    assert_eq!(nova.asked.len(), 2);
    let (outcome, nova) = empty(Nova { refusing: ["c2"].into(), ..of(&[("a", vm())]) }).await;
    assert_eq!(done(&outcome), [("a", "c3")]);
    assert_eq!(nova.vms["a"].host, "c3");
    let Outcome::Done { detail, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(detail.contains("1 newcomers moved off c1") && detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn what_is_planned_or_passes_is_left_alone() {
    let probe = Vm { name: "volutus-probe-run-1-server", ..vm() };
    let (outcome, nova) = empty(of(&[("planned", vm()), ("own", probe)])).await;
    assert!(matches!(outcome, Outcome::FoundNoChangesNeeded { .. }), "{outcome:?}");
    assert!(nova.asked.is_empty(), "{:?}", nova.asked);
}

#[tokio::test]
async fn what_is_being_built_is_waited_for() {
    let (outcome, nova) = empty(of(&[("a", Vm { building: 3, ..vm() })])).await;
    assert_eq!(done(&outcome), [("a", "c2")]);
    assert_eq!(nova.asked.len(), 1);
}

#[tokio::test]
async fn what_an_earlier_process_asked_for_is_not_asked_for_again() {
    let moving = Vm { moving: Some(("c3".to_owned(), 4)), ..vm() };
    let (outcome, nova) = empty(of(&[("a", moving)])).await;
    assert_eq!(done(&outcome), [("a", "c3")]);
    assert!(nova.asked.is_empty(), "it was moved twice: {:?}", nova.asked);
}

#[tokio::test]
async fn what_a_person_moves_is_theirs() {
    let moving = Vm { moving: Some(("c9".to_owned(), 4)), ..vm() };
    let (outcome, nova) = empty(of(&[("a", moving)])).await;
    assert!(matches!(outcome, Outcome::FoundNoChangesNeeded { .. }), "{outcome:?}");
    assert!(nova.asked.is_empty(), "{:?}", nova.asked);
}

#[tokio::test]
async fn what_may_not_be_moved_alive_is_told_and_not_touched() {
    let stuck = [
        ("asks", Vm { choice: Some("notify"), ..vm() }),
        ("cold", Vm { choice: Some("cold"), ..vm() }),
        ("device", Vm { vnic: "direct", ..vm() }),
        ("error", Vm { status: "ERROR", state: "error", ..vm() }),
        ("off", Vm { status: "SHUTOFF", state: "stopped", ..vm() }),
        ("typo", Vm { choice: Some("nevr"), ..vm() }),
    ];
    let fine = [
        ("live", Vm { choice: Some("live"), ..vm() }),
        ("paused", Vm { status: "PAUSED", state: "paused", ..vm() }),
    ];
    let (outcome, nova) = empty(of(&[&stuck[..], &fine].concat())).await;
    let failure = failed(&outcome);
    let names: BTreeSet<String> = stuck.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(failure.newcomers, names);
    assert!(failure.refused_by.is_empty());
    // The others have been moved, and that is kept.
    assert_eq!(
        moved(&failure.evidence).into_iter().collect::<BTreeSet<_>>(),
        [("live", "c2"), ("paused", "c2")].into()
    );
    assert!(stuck.iter().all(|(id, _)| nova.vms[id].host == "c1"));
    assert_eq!(nova.asked.len(), 2);
}

#[tokio::test]
async fn where_nobody_takes_it_a_new_plan_has_to() {
    let (outcome, nova) = empty(Nova { refusing: ["c2", "c3"].into(), ..of(&[("a", vm())]) }).await;
    let failure = failed(&outcome);
    assert_eq!(failure.newcomers, ["a".to_owned()].into());
    assert!(failure.message.contains("c2") && failure.message.contains("c3"), "{}", failure.message);
    assert_eq!(nova.vms["a"].host, "c1");
}

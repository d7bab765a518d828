//! Duties of neutron's own agents are moved off a host and given back, at a neutron that keeps what it is told
//! and whose agents act on it; also when Volutus is killed behind any change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod neutron;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex, MutexGuard};

use neutron::Neutron;
use serde_json::{Value, json};
use tempfile::TempDir;
use volutus_drivers::CloudDriver;
use volutus_engine::ports::{Driver, Order};
use volutus_model::fleet::Duties;
use volutus_model::name::{AttemptId, HostName, RunId, StepId};
use volutus_model::outcome::{Failure, Outcome};

/// Three network nodes. On `a`: three networks of which two are its alone, two routers that nobody else has,
/// and an HA router that is active there.
fn cloud() -> Neutron {
    let mut neutron = Neutron { slow: 2, ..Neutron::default() };
    for (host, names) in [
        ("a", ["dhcp-a", "l3-a", "ovs-a"]),
        ("b", ["dhcp-b", "l3-b", "ovs-b"]),
        ("c", ["dhcp-c", "l3-c", "ovs-c"]),
    ] {
        neutron.agent(names[0], "DHCP agent", host, "");
        neutron.agent(names[1], "L3 agent", host, "dvr_snat");
        neutron.agent(names[2], "Open vSwitch agent", host, "");
        neutron.wires.insert(host, vec!["provider"]);
    }
    neutron.network("n1", &["dhcp-a"]);
    neutron.network("n2", &["dhcp-a", "dhcp-b"]);
    neutron.network("n3", &["dhcp-a"]);
    neutron.network("n4", &["dhcp-c"]);
    neutron.network("outside", &["dhcp-a"]);
    neutron.router("r1", &["l3-a"], false);
    neutron.router("r2", &["l3-a"], false);
    neutron.router("r3", &["l3-b"], false);
    neutron.router("ha1", &["l3-a", "l3-b"], true);
    neutron.router("ha2", &["l3-b", "l3-a"], true);
    neutron
}

/// A cloud, and what Volutus needs to work on it.
struct Scene {
    neutron: Arc<Mutex<Neutron>>,
    dir: TempDir,
    auth_url: String,
}

impl Scene {
    fn new(neutron: Neutron) -> Self {
        let (address, neutron) = neutron::listen(neutron);
        let dir = TempDir::with_prefix("volutus-agents-").unwrap();
        Self { neutron, dir, auth_url: format!("http://{address}/v3") }
    }

    fn state(&self) -> MutexGuard<'_, Neutron> {
        self.neutron.lock().unwrap()
    }

    fn driver(&self) -> CloudDriver {
        support::driver(self.dir.path(), &self.auth_url, &[("a", "127.0.0.1")])
    }

    /// One attempt, by a process of its own.
    async fn perform(&self, action: &str, host: &str) -> Outcome {
        let driver = self.driver();
        let order = Order {
            run: RunId::new("agents").unwrap(),
            attempt: AttemptId::new("agents-1").unwrap(),
            step: StepId::new("step").unwrap(),
            action: serde_json::from_value(json!({"action": action, "host": host})).unwrap(),
            timeout_s: 60,
            taken_up: true,
            retried: false,
        };
        let outcome = driver.perform(&order, &|_| {}).await;
        driver.close().await;
        outcome
    }

    async fn move_off(&self, host: &str) -> Outcome {
        self.perform("move-network-duties", host).await
    }

    async fn give_back(&self, host: &str) -> Outcome {
        self.perform("restore-network-duties", host).await
    }

    fn agents_of(&self, id: &str) -> Vec<String> {
        let state = self.state();
        let served = state.networks.get(id).or_else(|| state.routers.get(id)).unwrap();
        served.agents.clone()
    }
}

#[tokio::test]
async fn duties_are_seen_with_what_could_not_be_moved() {
    let mut neutron = cloud();
    neutron.router("ha3", &["l3-c"], true);
    neutron.wires.insert("c", vec!["provider", "storage"]);
    neutron.networks.get_mut("n4").unwrap().physical = Some("storage");
    let scene = Scene::new(neutron);
    let driver = scene.driver();
    let mut seen = driver.observe_duties().await.unwrap();
    let words = |duties: &Duties| (duties.words(), duties.stuck.clone());
    let told = |text: &str, stuck: &[&str]| -> (String, Vec<String>) {
        (text.to_owned(), stuck.iter().map(|name| (*name).to_owned()).collect())
    };
    let one = |name: &str| words(&seen[&name.parse::<HostName>().unwrap()]);
    let on_a = "DHCP of 3 networks (2 alone), 2 routers, 2 HA routers (1 active)";
    assert_eq!(one("a"), told(on_a, &[]));
    assert_eq!(one("b"), told("DHCP of 1 networks (0 alone), 1 routers, 2 HA routers (1 active)", &[]));
    let stuck = ["network n4 (n4)", "router ha3 (ha3)"];
    assert_eq!(one("c"), told("DHCP of 1 networks (1 alone), 1 HA routers (1 active)", &stuck));
    well(&scene.move_off("a").await);
    seen = driver.observe_duties().await.unwrap();
    let a = &seen[&"a".parse::<HostName>().unwrap()];
    assert_eq!((a.aside, a.networks_alone, a.routers, a.ha_active), (true, 0, 0, 0));
    driver.close().await;
}

fn well(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done { detail, .. } | Outcome::FoundNoChangesNeeded { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn duties_are_moved_off_and_given_back() {
    // So slow that it has to be waited for.
    let scene = Scene::new(Neutron { slow: 15, ..cloud() });
    let before = scene.state().picture();
    let outcome = scene.move_off("a").await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    // The networks that were its alone have another agent besides; the others and what nobody answers DHCP in
    // are as they were.
    assert_eq!(scene.agents_of("n1"), ["dhcp-a", "dhcp-b"]);
    assert_eq!(scene.agents_of("n2"), ["dhcp-a", "dhcp-b"]);
    assert_eq!(scene.agents_of("outside"), ["dhcp-a"]);
    assert_eq!(scene.agents_of("r1"), ["l3-c"]);
    assert_eq!(scene.agents_of("ha1"), ["l3-a", "l3-b"]);
    {
        let state = scene.state();
        assert_eq!(state.routers["ha1"].active.as_deref(), Some("l3-b"));
        assert!(!state.agents["l3-a"].up && state.agents["dhcp-a"].up);
        assert_eq!(state.agents["l3-a"].description, "volutus:down");
    }
    let changes = scene.state().changes.len();
    assert!(matches!(scene.move_off("a").await, Outcome::FoundNoChangesNeeded { .. }));
    assert_eq!(scene.state().changes.len(), changes, "done once");
    scene.state().restart("a", false);
    let outcome = scene.give_back("a").await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let changes = {
        let state = scene.state();
        assert_eq!(state.picture(), before);
        assert!(state.lost.is_empty(), "{:?}", state.lost);
        state.changes.len()
    };
    assert!(matches!(scene.give_back("a").await, Outcome::FoundNoChangesNeeded { .. }));
    assert_eq!(scene.state().changes.len(), changes);
}

#[tokio::test]
async fn what_neutron_takes_off_an_agent_that_is_away_for_long_is_put_back() {
    let scene = Scene::new(cloud());
    let before = scene.state().picture();
    well(&scene.move_off("a").await);
    scene.state().restart("a", true);
    assert_eq!(scene.agents_of("n1"), ["dhcp-b"]);
    well(&scene.give_back("a").await);
    let state = scene.state();
    assert_eq!(state.networks["n1"].agents, ["dhcp-a"]);
    assert!(state.networks.values().all(|network| network.tags.is_empty()));
    assert!(state.lost.is_empty(), "{:?}", state.lost);
    // Neutron kept the agent's port for it, so that its address is the one that it was.
    let own = |text: &str| text.lines().find(|line| line.contains("dhcp-dhcp-a-n1")).map(str::to_owned);
    assert_eq!(own(&state.picture()), own(&before));
}

/// Kills Volutus behind each change in turn, and has somebody else go on.
async fn killed_behind_every_change(given_back: bool, aborted: bool) {
    for killed_behind in 1.. {
        let scene = Scene::new(cloud());
        let before = scene.state().picture();
        if given_back {
            well(&scene.move_off("a").await);
            scene.state().restart("a", false);
        }
        scene.state().left = Some(killed_behind);
        let first = if given_back { scene.give_back("a").await } else { scene.move_off("a").await };
        let through = scene.state().left != Some(0);
        if through {
            well(&first);
            assert!(killed_behind > 12, "{killed_behind}");
            return;
        }
        scene.state().left = None;
        if !given_back && !aborted {
            well(&scene.move_off("a").await);
            scene.state().restart("a", false);
        }
        well(&scene.give_back("a").await);
        let state = scene.state();
        assert_eq!(state.picture(), before, "killed behind change {killed_behind}");
        assert!(state.lost.is_empty(), "killed behind change {killed_behind}: {:?}", state.lost);
    }
}

#[tokio::test]
async fn whoever_takes_the_move_up_goes_on_with_it() {
    killed_behind_every_change(false, false).await;
}

#[tokio::test]
async fn an_abort_gives_back_what_was_moved_by_then() {
    killed_behind_every_change(false, true).await;
}

#[tokio::test]
async fn whoever_takes_the_return_up_goes_on_with_it() {
    killed_behind_every_change(true, false).await;
}

#[tokio::test]
async fn what_has_no_other_agent_halts_before_anything_is_lost() {
    let mut neutron = cloud();
    // Only `a` is wired to what carries it.
    neutron.wires.insert("a", vec!["provider", "storage"]);
    neutron.networks.get_mut("n3").unwrap().physical = Some("storage");
    let scene = Scene::new(neutron);
    let before = scene.state().picture();
    let failure = failed(scene.move_off("a").await);
    assert!(failure.message.contains("1 networks of a have no other agent: n3"), "{failure:?}");
    well(&scene.give_back("a").await);
    assert_eq!(scene.state().picture(), before);

    let mut neutron = cloud();
    neutron.router("ha3", &["l3-a"], true);
    let scene = Scene::new(neutron);
    let before = scene.state().picture();
    let failure = failed(scene.move_off("a").await);
    assert!(failure.message.contains("1 routers of a have no other agent: ha3"), "{failure:?}");
    {
        let state = scene.state();
        assert!(state.agents["l3-a"].up, "its routers stay where they are");
        assert_eq!(state.routers["r1"].agents, ["l3-a"]);
        assert!(state.lost.is_empty(), "{:?}", state.lost);
    }
    well(&scene.give_back("a").await);
    assert_eq!(scene.state().picture(), before);
}

#[tokio::test]
async fn of_two_hosts_at_once_neither_counts_on_the_other() {
    let scene = Scene::new(cloud());
    let before = scene.state().picture();
    well(&scene.move_off("a").await);
    // What `b` has for `a` is handed on, and stays `a`'s; that both carry an HA router halts.
    scene.state().routers.retain(|id, _| !id.starts_with("ha"));
    well(&scene.move_off("b").await);
    for network in ["n1", "n2", "n3"] {
        assert!(scene.agents_of(network).contains(&"dhcp-c".to_owned()), "{network}");
    }
    for router in ["r1", "r2", "r3"] {
        assert_eq!(scene.agents_of(router), ["l3-c"], "{router}");
    }
    scene.state().restart("a", false);
    scene.state().restart("b", false);
    well(&scene.give_back("a").await);
    well(&scene.give_back("b").await);
    let state = scene.state();
    assert!(state.lost.is_empty(), "{:?}", state.lost);
    let without = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.contains("ha1") && !line.contains("ha2"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(without(&state.picture()), without(&before));
}

#[tokio::test]
async fn whoever_takes_up_what_is_handed_on_goes_on_with_it() {
    for killed_behind in 1.. {
        let mut neutron = cloud();
        neutron.routers.retain(|id, _| !id.starts_with("ha"));
        let scene = Scene::new(neutron);
        let before = scene.state().picture();
        well(&scene.move_off("a").await);
        assert_eq!(scene.agents_of("r2"), ["l3-b"], "it is to be handed on");
        scene.state().left = Some(killed_behind);
        let first = scene.move_off("b").await;
        let through = scene.state().left != Some(0);
        scene.state().left = None;
        if through {
            well(&first);
            assert!(killed_behind > 12, "{killed_behind}");
            return;
        }
        well(&scene.move_off("b").await);
        assert_eq!(scene.agents_of("r2"), ["l3-c"], "killed behind change {killed_behind}");
        scene.state().restart("a", false);
        scene.state().restart("b", false);
        well(&scene.give_back("a").await);
        well(&scene.give_back("b").await);
        let state = scene.state();
        assert_eq!(state.picture(), before, "killed behind change {killed_behind}");
        assert!(state.lost.is_empty(), "killed behind change {killed_behind}: {:?}", state.lost);
    }
}

#[tokio::test]
async fn an_ha_router_whose_agents_are_both_wanted_away_halts() {
    let scene = Scene::new(cloud());
    well(&scene.move_off("a").await);
    let failure = failed(scene.move_off("b").await);
    assert!(failure.message.contains("2 routers of b have no other agent: ha1"), "{failure:?}");
    let state = scene.state();
    assert!(state.agents["l3-b"].up);
    assert!(state.lost.is_empty(), "{:?}", state.lost);
}

#[tokio::test]
async fn what_others_decided_stays() {
    let mut neutron = cloud();
    neutron.agents.get_mut("l3-b").unwrap().up = false;
    neutron.agents.get_mut("dhcp-a").unwrap().description = Value::from("rack 4");
    neutron.routers.retain(|id, _| !id.starts_with("ha"));
    let scene = Scene::new(neutron);
    let before = scene.state().picture();
    well(&scene.move_off("a").await);
    assert_eq!(scene.state().agents["dhcp-a"].description, "volutus:aside; rack 4");
    // `l3-b` is disabled by a person, and gets nothing.
    assert_eq!(scene.agents_of("r1"), ["l3-c"]);
    well(&scene.give_back("a").await);
    assert_eq!(scene.state().picture(), before);
    // A person moves a router while the host is away: it stays there.
    well(&scene.move_off("a").await);
    scene.state().agents.get_mut("l3-b").unwrap().up = true;
    scene.state().routers.get_mut("r2").unwrap().agents = vec!["l3-b".to_owned()];
    well(&scene.give_back("a").await);
    assert_eq!(scene.agents_of("r1"), ["l3-a"]);
    assert_eq!(scene.agents_of("r2"), ["l3-b"]);
    let state = scene.state();
    assert!(state.routers.values().all(|router| router.tags.is_empty()));
    assert!(state.agents["l3-b"].up && state.agents["l3-b"].description.is_null());
}

#[tokio::test]
async fn source_nat_moves_to_agents_that_do_it_and_local_agents_are_left_alone() {
    let mut neutron = cloud();
    neutron.routers.retain(|id, _| !id.starts_with("ha"));
    neutron.agents.get_mut("l3-b").unwrap().mode = "dvr";
    neutron.agents.get_mut("l3-c").unwrap().mode = "legacy";
    neutron.agent("l3-d", "L3 agent", "d", "dvr_snat");
    neutron.agent("ovs-d", "Open vSwitch agent", "d", "");
    neutron.routers.get_mut("r1").unwrap().distributed = true;
    let scene = Scene::new(neutron);
    let before = scene.state().picture();
    well(&scene.move_off("a").await);
    assert_eq!(scene.agents_of("r1"), ["l3-d"]);
    well(&scene.give_back("a").await);
    assert_eq!(scene.state().picture(), before);
    // Nothing of what is on `b` is anybody's but its instances'.
    scene.state().networks.clear();
    let detail = scene.move_off("b").await;
    assert!(!scene.state().changes.iter().any(|change| change.contains("l3-b")), "{detail:?}");
}

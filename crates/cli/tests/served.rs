//! The command line beside a server: what is asked of it while it answers, and what is done without it.

#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use volutus_catalog::Catalog;
use volutus_model::event::{Actor, Event};
use volutus_model::{Inventory, Plan, Policy};
use volutus_planner::{PlanningInput, described};
use volutus_store::{Holder, Store};

/// A described cloud whose hosts and APIs nobody answers at, and a server that keeps it.
struct Kept {
    folder: TempDir,
    server: Child,
    store: Store,
    plans: [Plan; 2],
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}

fn volutus(at: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volutus"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VOLUTUS_")) {
        command.env_remove(name);
    }
    command.arg("--cloud").arg(at.join("cloud.toml")).arg("--no-progress");
    command
}

/// The name of the user that the tests run as, as the kernel knows them.
fn this_user() -> String {
    let told = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

fn keep() -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let catalog = Catalog::builtin().unwrap();
    let shape = described::Shape::new(3, 1, "2025.2".parse().unwrap(), &catalog).unwrap();
    let text = described::describe_text(&shape).replace("198.18.", "127.99.");
    let text = text.replace("[credentials]", "[credentials]\nclouds_yaml = \"clouds.yaml\"");
    std::fs::write(at.join("cloud.toml"), &text).unwrap();
    let auth = "{auth: {auth_url: 'http://127.0.0.1:1/v3', username: u, password: p, project_name: p}}";
    let entries = format!("clouds:\n  described-admin: {auth}\n  described-prober: {auth}\n");
    std::fs::write(at.join("clouds.yaml"), entries).unwrap();
    std::fs::write(at.join("people.toml"), format!("[people]\nme = [{:?}, \"me\"]\n", this_user())).unwrap();

    let inventory = Inventory::parse(&text).unwrap();
    let observation = described::observe(&inventory, &shape);
    let plan = |soak_s: u32| {
        let input = PlanningInput {
            now: observation.at,
            inventory: inventory.clone(),
            observation: observation.clone(),
            target: "2026.1".parse().unwrap(),
            versions: None,
            lock: None,
            policy: Policy { soak_s, ..Policy::default() },
            parent: None,
            drains: None,
        };
        volutus_planner::plan(&input, &catalog).unwrap().0
    };
    let plans = [plan(1), plan(2)];
    let store = Store::open(&at.join(".volutus")).unwrap();
    for (plan, author) in plans.iter().zip(["me", "somebody"]) {
        store.put_plan(plan).unwrap();
        store.put_author(&plan.id, &Actor(author.to_owned()), Timestamp::now()).unwrap();
    }
    Kept { server: serve(at), folder, store, plans }
}

/// A server, once it answers.
fn serve(at: &Path) -> Child {
    let mut serve = volutus(at);
    serve.args(["serve", "--four-eyes", "--socket"]).arg(at.join("socket"));
    serve.arg("--people").arg(at.join("people.toml"));
    let mut server = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(server.stderr.take().unwrap()).lines();
    let listens = told.any(|line| line.unwrap().contains("is served at"));
    assert!(listens, "the server ended: {:?}", server.wait());
    // Whoever writes to a pipe that nobody reads is held up.
    std::thread::spawn(move || told.for_each(drop));
    server
}

impl Kept {
    fn volutus(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = volutus(self.folder.path()).args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

#[test]
fn a_server_decides_who_approves_and_without_it_the_command_line_works_alone() {
    let mut kept = keep();
    let [own, foreign] = kept.plans.clone().map(|plan| plan.id.to_string());
    let (code, _, said) = kept.volutus(&["approve", &own]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the server at") && said.contains("error[four-eyes]"), "{said}");
    let (code, told, said) = kept.volutus(&["approve", &foreign]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains(&format!("is approved by {} at ", this_user())), "{told}");
    // A second server would do the same work again, wherever it answers; the first one is not disturbed.
    let other = kept.folder.path().join("other");
    let (code, _, said) = kept.volutus(&["serve", "--socket", other.to_str().unwrap()]);
    assert!(code == Some(3) && said.contains("error[served-already]"), "{said}");
    assert!(!other.exists());
    let (code, _, said) = kept.volutus(&["pause"]);
    assert!(code == Some(3) && said.contains("error[no-run]"), "{said}");
    // Nobody answers in this cloud, so that the look at it is what the server refuses by.
    let (code, _, said) = kept.volutus(&["run", &foreign]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("the server at") && said.contains("error["), "{said}");
    assert_eq!(kept.store.runs().unwrap(), []);

    // A server that is killed leaves its socket behind, which nobody answers at.
    kept.server.kill().unwrap();
    kept.server.wait().unwrap();
    assert!(std::fs::symlink_metadata(kept.folder.path().join(".volutus/server-described.sock")).is_ok());
    let (code, _, said) = kept.volutus(&["approve", &own]);
    assert!(code == Some(0) && !said.contains("the server at"), "{said}");
    // Nor does it keep the next one from starting.
    kept.server = serve(kept.folder.path());
    let (_, _, said) = kept.volutus(&["run", &foreign]);
    assert!(said.contains("the server at"), "{said}");
}

#[test]
fn a_run_that_the_server_takes_up_is_followed_to_where_it_rests() {
    let kept = keep();
    let plan = &kept.plans[1];
    let (now, actor) = (Timestamp::now(), Actor("somebody".to_owned()));
    kept.store.approve(&plan.id, &actor, now, &[]).unwrap();
    let run = "a-run".parse().unwrap();
    kept.store.create_run(&run, &plan.id, &plan.cloud, now).unwrap();
    let holder = Holder::this_process().unwrap();
    let lease = kept.store.acquire_lease(&plan.cloud, &holder, now, Duration::from_secs(60)).unwrap();
    let events = [Event::RunCreated { plan: plan.id.clone() }, Event::Paused];
    kept.store.append(&lease, &run, &actor, now, &events).unwrap();
    kept.store.release_lease(&lease).unwrap();
    // Nobody answers in this cloud, so that no synthetic user can be started, and nothing is begun.
    let (code, told, said) = kept.volutus(&["resume"]);
    assert!(told.contains("accepted by the server"), "{told}\n{said}");
    assert!(code == Some(5) && said.contains("error[paused]"), "{said}");
    assert!(said.contains("The server's log tells more"), "{said}");
}

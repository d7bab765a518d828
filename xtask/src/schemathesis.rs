//! `cargo xtask schemathesis`: a real `volutus serve` is asked everything that its OpenAPI document says
//! can be asked, and much that it says cannot.
//!
//! The requests are made by schemathesis (a program in Python, installed into a virtual environment
//! below the target directory). They come in over TLS with a token, as from the network; a keystone
//! of three answers says whose the tokens are. The cloud is only described, at addresses where nobody
//! answers: work that is asked for is refused by what a look at it finds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use volutus_catalog::Catalog;
use volutus_fleet::described::Shape;
use volutus_model::event::{Actor, Event};
use volutus_model::fleet::{RebootPolicy, Selection};
use volutus_model::{HostName, Inventory, Policy, RunId};
use volutus_notices::{Key, Link};
use volutus_planner::{PlanningInput, described};
use volutus_store::{FEED, Holder, NewNotice, Store};

use crate::lab::target;
use crate::process::{cargo, exit_code, must};
use crate::setup;

/// What is installed, in the versions that the command was written for.
const PACKAGES: [&str; 2] = ["schemathesis==4.32.5", "trustme==1.2.1"];
/// The token that keystone knows; its owner may do everything.
const TOKEN: &str = "the-token-of-everybody";
/// How long the server may take until it listens; a busy machine takes seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The server answers 50 requests a second of one caller. Fewer, because a refusal says nothing.
const RATE: &str = "40/s";

/// How much is asked.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Cases per operation that are made at random, besides those that every run has.
    #[arg(long, default_value_t = 60)]
    pub cases: u32,
    /// The seed of the random cases.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A process that does not outlive this one's interest in it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Asks, prints what was wrong, and fails if anything was.
pub fn run(options: &Options) -> anyhow::Result<()> {
    must(cargo().args(["build", "--quiet", "--bin", "volutus"]))?;
    let python = setup::python("schemathesis", &PACKAGES)?;
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    must(Command::new(python.join("python")).args(["-m", "trustme", "--quiet", "--dir"]).arg(at))?;
    let keystone = keystone()?;
    let ids = describe(at, keystone)?;
    let address = spare_address()?;
    let _server = serve(at, address)?;
    let report = at.join("report.json");
    std::fs::write(at.join("schemathesis.toml"), configuration(at, &ids))?;
    let code = exit_code(
        Command::new(python.join("schemathesis"))
            .current_dir(at)
            .args(["--config-file", "schemathesis.toml", "run"])
            .arg(format!("https://{address}/openapi.json"))
            .args(["--checks", "all", "--continue-on-failure", "--warnings", "off"])
            .args(["--max-examples", &options.cases.to_string(), "--seed", &options.seed.to_string()])
            .args(["--report", "json", "--report-json-path"])
            .arg(&report),
    )?;
    let report = std::fs::read_to_string(&report).context("schemathesis wrote no report")?;
    judge(&serde_json::from_str(&report)?, code)
}

/// What schemathesis can ask for by name, besides names that it makes up.
struct Ids {
    plans: Vec<String>,
    runs: Vec<String>,
    /// A token by which the owner of instances answers.
    link: String,
}

/// A cloud description and a store in which there is something to be seen: a plan, a run that was
/// given up, one that is paused, a schedule, a notice, a reboot that owners are asked about.
fn describe(at: &Path, keystone: SocketAddr) -> anyhow::Result<Ids> {
    let catalog = Catalog::builtin().context("the built-in catalog does not load")?;
    let shape =
        described::Shape::new(3, 3, "2025.2".parse()?, &catalog).context("there is no such series")?;
    // Addresses of the loopback network: nobody's hosts are reached, and nothing is waited for.
    let text = described::describe_text(&shape).replace("198.18.", "127.99.");
    let text = text.replace("[credentials]", "[credentials]\nclouds_yaml = \"clouds.yaml\"");
    let inventory = Inventory::parse(&text)?;
    std::fs::write(at.join("cloud.toml"), &text)?;
    let entry = |name: &str| {
        let auth = format!("auth_url: 'http://{keystone}/v3', username: u, password: p, project_name: p");
        format!("  {name}:\n    auth: {{{auth}, user_domain_name: d, project_domain_name: d}}\n")
    };
    let entries = ["described-admin", "described-prober"].map(entry).concat();
    std::fs::write(at.join("clouds.yaml"), format!("clouds:\n{entries}"))?;

    let store = Store::open(&at.join("state"))?;
    let (cloud, now) = (inventory.name.clone(), Timestamp::now());
    let observation = described::observe(&inventory, &shape);
    store.put_observation(&cloud, &observation)?;
    let input = PlanningInput {
        now: observation.at,
        inventory,
        observation,
        target: "2026.1".parse()?,
        versions: None,
        lock: None,
        policy: Policy::default(),
        parent: None,
        drains: None,
    };
    let (plan, _) = volutus_planner::plan(&input, &catalog)?;
    let other = PlanningInput { policy: Policy { soak_s: 1, ..Policy::default() }, ..input };
    let (other, _) = volutus_planner::plan(&other, &catalog)?;
    let actor = Actor("operator".to_owned());
    for plan in [&plan, &other] {
        store.put_plan(plan)?;
        store.put_author(&plan.id, &actor, now)?;
    }
    store.approve(&plan.id, &actor, now, &[])?;
    let holder = Holder::this_process()?;
    let mut runs = Vec::new();
    for (id, events) in [
        ("given-up", vec![Event::AbortRequested, Event::Aborted { left: Vec::new() }]),
        ("paused", vec![Event::Paused]),
    ] {
        let run: RunId = id.parse()?;
        store.create_run(&run, &plan.id, &cloud, now)?;
        let lease = store.acquire_lease(&cloud, &holder, now, Duration::from_secs(60))?;
        let created = Event::RunCreated { plan: plan.id.clone() };
        let events: Vec<Event> = std::iter::once(created).chain(events).collect();
        store.append(&lease, &run, &actor, now, &events)?;
        store.release_lease(&lease)?;
        runs.push(id.to_owned());
    }
    let notice = NewNotice {
        key: "given-up/start/feed//".to_owned(),
        moment: "start".to_owned(),
        channel: FEED.to_owned(),
        recipient: String::new(),
        address: String::new(),
        subject: "The upgrade begins".to_owned(),
        body: "It begins.\n".to_owned(),
    };
    store.queue_notices(cloud.as_str(), &[notice], now)?;
    let link = asked(&store, &cloud)?;
    must(volutus(at).args(["schedule", "add", "monthly", "day 15 22:00 UTC"]))?;
    Ok(Ids { plans: vec![plan.id.to_string(), other.id.to_string()], runs, link })
}

/// Keeps the plan of a reboot, and returns a token by which the owner of its instances answers.
fn asked(store: &Store, cloud: &HostName) -> anyhow::Result<String> {
    let shape = Shape { hosts: 6, zones: 3, fill: 0.5, empty_per_zone: 1, odd: false, seed: 1 };
    let mut fleet = volutus_fleet::described::fleet(&shape);
    for instance in &mut fleet.instances {
        instance.project = "team".to_owned();
    }
    let now = Timestamp::now();
    let plan = volutus_fleet::plan(&fleet, &RebootPolicy::default(), &Selection::default(), cloud, now)?;
    ensure!(!plan.content.owners.is_empty(), "nobody is asked anything");
    store.put_reboot_plan(&plan)?;
    let key = Key::make(store.path().parent().context("the store is in a folder")?)?;
    Ok(key.sign(&Link {
        cloud: cloud.to_string(),
        plan: plan.id.to_string(),
        project: "team".to_owned(),
        // Longer than any run of this command.
        begins: now + jiff::SignedDuration::from_hours(24),
    }))
}

fn volutus(at: &Path) -> Command {
    let mut command = Command::new(target().join("debug/volutus"));
    command.arg("--cloud").arg(at.join("cloud.toml")).arg("--state").arg(at.join("state"));
    command
}

/// A keystone that knows one token, and answers nothing else.
fn keystone() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever hangs up has not asked.
            let _gone = answer(&stream);
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    let mut known = false;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        known |= line == format!("x-subject-token: {TOKEN}");
        if line.is_empty() {
            break;
        }
    }
    let roles = r#"[{"name": "volutus_operator"}, {"name": "volutus_approver"}]"#;
    let token =
        format!(r#"{{"token": {{"user": {{"name": "all", "domain": {{"name": "D"}}}}, "roles": {roles}}}}}"#);
    let (status, body) = match known && asked.starts_with("GET /v3/auth/tokens") {
        true => ("200 OK", token.as_str()),
        false => ("404 Not Found", "{}"),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// An address that nobody listens at now.
pub fn spare_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts the server and waits until it listens.
fn serve(at: &Path, address: SocketAddr) -> anyhow::Result<Server> {
    let mut command = volutus(at);
    command.arg("serve").arg("--socket").arg(at.join("socket")).arg("--fleet-lock");
    command.args(["--tls-listen", &address.to_string()]);
    command.arg("--tls-certificate").arg(at.join("server.pem")).arg("--tls-key").arg(at.join("server.key"));
    let log = std::fs::File::create(at.join("log"))?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let mut server = Server(child);
    let until = Instant::now() + START_LIMIT;
    while TcpStream::connect(address).is_err() {
        let ended = server.0.try_wait()?;
        if ended.is_some() || Instant::now() > until {
            bail!("`volutus serve` does not listen:\n{}", std::fs::read_to_string(at.join("log"))?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(server)
}

/// What schemathesis is told besides the document.
fn configuration(at: &Path, ids: &Ids) -> String {
    format!(
        "rate-limit = {RATE:?}\ntls-verify = {:?}\nrequest-timeout = 30\n\
         [auth.openapi.token]\napi_key = {TOKEN:?}\n\
         [dictionaries.plans]\nvalues = {:?}\n[dictionaries.runs]\nvalues = {:?}\n\
         [dictionaries.clouds]\nvalues = [\"described\"]\n[dictionaries.links]\nvalues = [{:?}]\n[dictionaries.yes]\nvalues = [\"true\"]\n\
         [parameters]\n\
         \"path.plan\" = {{ dictionary = \"plans\", probability = 0.6 }}\n\
         \"path.run\" = {{ dictionary = \"runs\", probability = 0.6 }}\n\
         \"path.link\" = {{ dictionary = \"links\", probability = 0.6 }}\n\
         \"body.plan\" = {{ dictionary = \"plans\", probability = 0.6 }}\n\
         \"body.cloud\" = {{ dictionary = \"clouds\", probability = 0.6 }}\n\
         \"header.fleet-lock-protocol\" = {{ dictionary = \"yes\", probability = 0.8 }}\n",
        at.join("client.pem").display().to_string(),
        ids.plans,
        ids.runs,
        ids.link,
    )
}

/// Prints the figures, and fails unless everything was asked and nothing was wrong.
fn judge(report: &Value, code: i32) -> anyhow::Result<()> {
    let count = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_u64)
            .with_context(|| format!("the report has no {pointer}"))
    };
    let (all, tested) = (count("/operations/total")?, count("/operations/tested")?);
    let (cases, failures) = (count("/test_cases/generated")?, count("/test_cases/unique_failures")?);
    let errors = report["errors"].as_array().map_or(0, Vec::len);
    println!(
        "schemathesis: {tested} of {all} operations, {cases} cases, {failures} failures, {errors} errors"
    );
    ensure!(tested == all && all > 0 && cases > 0, "not every operation was asked for");
    ensure!(failures == 0 && errors == 0, "the server does not do what its document says");
    ensure!(code == 0, "schemathesis ended with exit code {code}");
    Ok(())
}

//! Connections that fail in each of the ways in which connections fail, over a real OpenSSH on
//! the loopback interface; and over the same a real drain of a server, at a socket that answers as HAProxy does,
//! and gateways that move, by commands that answer as OVN's do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use volutus_catalog::Catalog;
use volutus_drivers::{CloudDriver, Hosts, SshError, SshFailureKind};
use volutus_engine::ports::{Driver, Order};
use volutus_model::Inventory;
use volutus_model::name::{AttemptId, HostName, RunId, StepId};
use volutus_model::outcome::{FailureClass, Outcome};

const SSHD: &str = "/usr/sbin/sshd";

/// An sshd of its own, on a port of its own.
struct Sshd {
    dir: TempDir,
    port: u16,
    process: Option<Child>,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn user() -> String {
    run("id", &["-un"])
}

fn keygen(path: &Path) -> String {
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
    std::fs::read_to_string(path.with_extension("pub")).unwrap()
}

impl Sshd {
    fn start() -> Self {
        let dir = TempDir::with_prefix_in("volutus-sshd-", "/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        let host_key = keygen(&path("host_key"));
        let user_key = keygen(&path("user_key"));
        std::fs::write(path("authorized_keys"), user_key).unwrap();
        // The port is free now; should somebody take it before sshd does, the test fails with
        // sshd's own words.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let key: Vec<&str> = host_key.split_whitespace().take(2).collect();
        let known = format!("[127.0.0.*]:{port} {}\n", key.join(" "));
        std::fs::write(path("known_hosts"), known).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.3\nListenAddress 127.0.0.2\nListenAddress 127.0.0.1\n\
             HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n",
            dir.path().display()
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let mut sshd = Self { dir, port, process: None };
        sshd.up();
        sshd
    }

    fn up(&mut self) {
        // sshd refuses to start as root without it, and no service manager makes it here.
        if user() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.dir.path().join("sshd_config"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{SSHD} (Debian package openssh-server): {error}"));
        let mut said = String::new();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        while !said.contains("listening on 127.0.0.1") {
            assert!(lines.read_line(&mut said).unwrap() > 0, "sshd ended: {said}");
        }
        // Its messages have to go somewhere for as long as it lives.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        self.process = Some(process);
    }

    /// Stops listening, and cuts the connections that there are.
    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            self.cut(process.id());
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn cut_connections(&self) {
        self.cut(self.process.as_ref().unwrap().id());
    }

    fn cut(&self, parent: u32) {
        let children = run("sh", &["-c", &format!("cat /proc/{parent}/task/{parent}/children")]);
        for child in children.split_whitespace() {
            // A connection may end by itself between the listing and the signal, which is as good;
            // anything else that keeps it alive shows in the test that counts on the cut.
            let killed = Command::new("kill").args(["-KILL", child]).output().unwrap();
            let gone = !Path::new("/proc").join(child).exists();
            assert!(killed.status.success() || gone, "kill -KILL {child}: {killed:?}");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A description of a cloud of which this is the only host.
    fn inventory(&self) -> Inventory {
        self.inventory_of(&["haproxy.sock"])
    }

    fn inventory_of(&self, sockets: &[&str]) -> Inventory {
        self.inventory_with(sockets, "")
    }

    /// The same with two gateways of OVN, of the three that its commands know.
    fn inventory_with_gateways(&self) -> Inventory {
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ovn.py");
        let folder = self.dir.path().display();
        let mut more = "[ovn]\nhost = \"lb\"\n".to_owned();
        for name in ["nbctl", "sbctl", "vsctl", "ofctl"] {
            let argv = ["/usr/bin/python3", "-I", stand_in, &folder.to_string(), name];
            let _ = writeln!(more, "{name} = {argv:?}");
        }
        for (name, address) in [("cmp1", "127.0.0.2"), ("cmp2", "127.0.0.3")] {
            let _ = write!(more, "[[host]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
        self.inventory_with(&["haproxy.sock"], &more)
    }

    fn inventory_with(&self, sockets: &[&str], more: &str) -> Inventory {
        let one = |socket: &&str| {
            let socket = self.path(socket);
            format!(r#"{{ kind = "haproxy", host = "lb", socket = "{}" }}"#, socket.display())
        };
        let balancers = sockets.iter().map(one).collect::<Vec<_>>().join(", ");
        let text = format!(
            r#"
            format = 1
            name = "loopback"
            credentials = {{ clouds_yaml = "clouds.yaml", operator = "none", prober = "none" }}
            ssh = {{ user = "{}", port = {}, identity_file = "user_key", known_hosts = "known_hosts" }}
            releases = {{ method = "venv", path = "/opt/openstack/{{series}}", current = "/opt/{{daemon}}", stage = ["true"] }}
            prober = {{ image = "i", flavor = "f", network = "n" }}
            load_balancer = [ {balancers} ]
            [[host]]
            name = "lb"
            address = "127.0.0.1"
            {more}
            "#,
            user(),
            self.port,
        );
        Inventory::parse(&text).unwrap()
    }

    fn hosts(&self) -> Arc<Hosts> {
        Arc::new(Hosts::new(&self.inventory(), self.dir.path()).unwrap())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.down();
    }
}

fn host() -> HostName {
    HostName::new("lb").unwrap()
}

async fn kind_of_failure(hosts: &Arc<Hosts>) -> SshFailureKind {
    match hosts.reach(&host()).await {
        Err(SshError::Connect { kind, seen, .. }) => {
            assert!(!seen.is_empty());
            kind
        }
        other => panic!("expected a failure to connect, got {other:?}"),
    }
}

#[tokio::test]
async fn a_host_is_reached() {
    let sshd = Sshd::start();
    let hosts = sshd.hosts();
    hosts.reach(&host()).await.unwrap();
    hosts.close_all().await;
}

#[tokio::test]
async fn an_unknown_host_key_is_refused() {
    let sshd = Sshd::start();
    std::fs::write(sshd.path("known_hosts"), "").unwrap();
    assert_eq!(kind_of_failure(&sshd.hosts()).await, SshFailureKind::HostKeyUnknown);
    // It is not learned either.
    assert_eq!(std::fs::read_to_string(sshd.path("known_hosts")).unwrap(), "");
}

#[tokio::test]
async fn a_changed_host_key_is_refused() {
    let sshd = Sshd::start();
    let other = keygen(&sshd.path("other_key"));
    let key: Vec<&str> = other.split_whitespace().take(2).collect();
    std::fs::write(sshd.path("known_hosts"), format!("[127.0.0.1]:{} {}\n", sshd.port, key.join(" ")))
        .unwrap();
    assert_eq!(kind_of_failure(&sshd.hosts()).await, SshFailureKind::HostKeyChanged);
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let sshd = Sshd::start();
    let other = keygen(&sshd.path("other_key"));
    std::fs::write(sshd.path("authorized_keys"), other).unwrap();
    let hosts = sshd.hosts();
    assert_eq!(kind_of_failure(&hosts).await, SshFailureKind::PermissionDenied);
    let outcome = hosts.reach(&host()).await.unwrap_err().outcome(false);
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.class == FailureClass::Permanent));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unreachable() {
    let mut sshd = Sshd::start();
    sshd.down();
    let hosts = sshd.hosts();
    assert_eq!(kind_of_failure(&hosts).await, SshFailureKind::Unreachable);
    let outcome = hosts.reach(&host()).await.unwrap_err().outcome(false);
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.class == FailureClass::Transient));
}

#[tokio::test]
async fn an_undeclared_host_is_named() {
    let sshd = Sshd::start();
    let other = HostName::new("other").unwrap();
    assert_eq!(sshd.hosts().reach(&other).await, Err(SshError::Undeclared(other)));
}

#[tokio::test]
async fn a_dead_connection_is_opened_anew() {
    let mut sshd = Sshd::start();
    let hosts = sshd.hosts();
    hosts.reach(&host()).await.unwrap();
    sshd.cut_connections();
    hosts.reach(&host()).await.unwrap();
    sshd.down();
    assert_eq!(kind_of_failure(&hosts).await, SshFailureKind::Unreachable);
    sshd.up();
    hosts.reach(&host()).await.unwrap();
    hosts.close_all().await;
}

/// What answers as HAProxy's runtime API does, of one backend with the servers `a` and `b`.
struct Balancer {
    /// The backend's name: of its own for each test, since notes of drains are kept by name.
    backend: String,
    /// Administrative state by server.
    admin: Mutex<BTreeMap<String, u32>>,
    sessions: Mutex<u64>,
    /// Whether it takes no orders.
    refuses: Mutex<bool>,
    /// The orders that it was given, line by line.
    orders: Mutex<Vec<String>>,
}

impl Balancer {
    fn listen(socket: &Path, test: &str) -> Arc<Self> {
        let backend = format!("{test}-{}", std::process::id());
        let admin = BTreeMap::from([("a".to_owned(), 0), ("b".to_owned(), 0)]);
        let balancer = Arc::new(Self {
            backend,
            admin: Mutex::new(admin),
            sessions: Mutex::new(0),
            refuses: Mutex::new(false),
            orders: Mutex::new(Vec::new()),
        });
        let listener = UnixListener::bind(socket).unwrap();
        let own = Arc::clone(&balancer);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                BufReader::new(&connection).read_line(&mut line).unwrap();
                let answer = own.answer(line.trim());
                (&connection).write_all(answer.as_bytes()).unwrap();
            }
        });
        balancer
    }

    fn answer(&self, line: &str) -> String {
        if line.starts_with("set ") {
            self.orders.lock().unwrap().push(line.to_owned());
        }
        line.split(';').map(|command| self.answer_one(command.trim())).collect()
    }

    fn answer_one(&self, command: &str) -> String {
        let mut admin = self.admin.lock().unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["show", "stat", ..] => {
                let sessions = *self.sessions.lock().unwrap();
                let rows = admin.iter().map(|(name, state)| {
                    let status = if *state == 8 { "DRAIN" } else { "UP" };
                    format!("{},{name},0,{sessions},{status},\n", self.backend)
                });
                format!("# pxname,svname,qcur,scur,status,last_chk\n{}\n", rows.collect::<String>())
            }
            ["show", "servers", "state", backend] if *backend == self.backend => {
                let rows = admin.iter().map(|(name, state)| format!("1 {} 1 {name} {state}\n", self.backend));
                format!("1\n# be_id be_name srv_id srv_name srv_admin_state\n{}\n", rows.collect::<String>())
            }
            ["set", ..] if *self.refuses.lock().unwrap() => "Permission denied\n".to_owned(),
            ["set", "server", target, "state", state] => {
                let name = target.strip_prefix(&format!("{}/", self.backend)).unwrap();
                let state = if *state == "drain" { 8 } else { 0 };
                admin.insert(name.to_owned(), state);
                "\n".to_owned()
            }
            other => format!("Unknown command: {other:?}\n"),
        }
    }

    fn admin(&self, server: &str) -> u32 {
        self.admin.lock().unwrap()[server]
    }
}

fn driver(sshd: &Sshd) -> CloudDriver {
    driver_of(sshd, sshd.inventory())
}

fn driver_of(sshd: &Sshd, inventory: Inventory) -> CloudDriver {
    let clouds = "clouds: {none: {auth: {auth_url: 'http://127.0.0.1:9/v3', username: u, password: p, project_name: \
                  p, user_domain_name: Default, project_domain_name: Default}}}\n";
    std::fs::write(sshd.path("clouds.yaml"), clouds).unwrap();
    let catalog = Arc::new(Catalog::builtin().unwrap());
    CloudDriver::connect(Arc::new(inventory), sshd.dir.path(), sshd.dir.path(), catalog).unwrap()
}

fn order(action: &str, taken_up: bool) -> Order {
    Order {
        run: RunId::new("loopback").unwrap(),
        attempt: AttemptId::new(format!("loopback-{}", std::process::id())).unwrap(),
        step: StepId::new("step").unwrap(),
        action: serde_json::from_str(action).unwrap(),
        timeout_s: 60,
        taken_up,
        retried: false,
    }
}

impl Balancer {
    fn drain(&self, server: &str) -> String {
        let backend = &self.backend;
        format!(
            r#"{{"action":"drain-backend","daemon":"x@lb","backend":"{backend}","server":"{server}","others_up_min":1}}"#
        )
    }

    fn undrain(&self, server: &str) -> String {
        let backend = &self.backend;
        format!(r#"{{"action":"undrain-backend","daemon":"x@lb","backend":"{backend}","server":"{server}"}}"#)
    }
}

#[tokio::test]
async fn a_server_is_drained_and_given_back_and_others_drains_are_respected() {
    let sshd = Sshd::start();
    let balancer = Balancer::listen(&sshd.path("haproxy.sock"), "drained");
    let driver = driver(&sshd);
    let perform = async |action: String| driver.perform(&order(&action, false), &|_| {}).await;
    assert!(matches!(perform(balancer.drain("a")).await, Outcome::Done { .. }));
    assert_eq!(balancer.admin("a"), 8);
    assert!(matches!(perform(balancer.drain("a")).await, Outcome::FoundNoChangesNeeded { .. }));
    assert!(matches!(perform(balancer.undrain("a")).await, Outcome::Done { .. }));
    assert_eq!(balancer.admin("a"), 0);
    assert!(matches!(perform(balancer.undrain("a")).await, Outcome::FoundNoChangesNeeded { .. }));
    // Somebody else takes `b` out.
    balancer.admin.lock().unwrap().insert("b".to_owned(), 8);
    for action in [balancer.drain("b"), balancer.undrain("b")] {
        let outcome = perform(action).await;
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert!(failure.message.contains("not by Volutus"), "{failure:?}");
    }
    assert_eq!(balancer.admin("b"), 8);
    driver.close().await;
}

impl Balancer {
    /// `a` takes over from `b`.
    fn exchange(&self) -> String {
        let backend = &self.backend;
        format!(
            r#"{{"action":"exchange-replicas","backend":"{backend}","enter":[{{"daemon":"x@lb","server":"a"}}],
               "leave":[{{"daemon":"y@lb","server":"b"}}]}}"#
        )
    }

    fn both(&self) -> (u32, u32) {
        (self.admin("a"), self.admin("b"))
    }

    fn last_order(&self) -> String {
        self.orders.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn servers_take_over_in_one_line_everywhere_or_nowhere() {
    let sshd = Sshd::start();
    let first = Balancer::listen(&sshd.path("one.sock"), "taken");
    let second = Balancer::listen(&sshd.path("two.sock"), "taken");
    let driver = driver_of(&sshd, sshd.inventory_of(&["one.sock", "two.sock"]));
    let perform = async |action: String, taken_up| driver.perform(&order(&action, taken_up), &|_| {}).await;
    let all = || (first.both(), second.both());

    // What takes over has to wait for it, drained by Volutus.
    assert!(matches!(perform(first.drain("a"), false).await, Outcome::Done { .. }));
    assert_eq!(all(), ((8, 0), (8, 0)));

    // One load balancer takes no orders: the other one is turned back.
    *second.refuses.lock().unwrap() = true;
    let outcome = perform(first.exchange(), false).await;
    assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(all(), ((8, 0), (8, 0)));
    *second.refuses.lock().unwrap() = false;

    // Cut off between the two: whoever takes it up does the rest.
    first.admin.lock().unwrap().extend([("a".to_owned(), 0), ("b".to_owned(), 8)]);
    let one = order(&first.exchange(), false);
    let outcome = driver.perform(&Order { taken_up: true, ..one }, &|_| {}).await;
    assert!(
        matches!(outcome, Outcome::Failed(_)),
        "a drain that nobody noted is somebody else's: {outcome:?}"
    );
    first.admin.lock().unwrap().extend([("a".to_owned(), 8), ("b".to_owned(), 0)]);

    let outcome = perform(first.exchange(), false).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(all(), ((0, 8), (0, 8)));
    for balancer in [&first, &second] {
        let (order, backend) = (balancer.last_order(), &balancer.backend);
        assert_eq!(order, format!("set server {backend}/a state ready; set server {backend}/b state drain"));
    }
    // As after a crash in the middle: the second one has not been told yet.
    second.admin.lock().unwrap().insert("b".to_owned(), 0);
    assert!(matches!(perform(first.exchange(), true).await, Outcome::Done { .. }));
    assert_eq!(all(), ((0, 8), (0, 8)));
    assert!(matches!(perform(first.exchange(), true).await, Outcome::FoundNoChangesNeeded { .. }));

    // Whoever is drained and of whom it is not known what it runs stays out, and is named.
    let backend = &first.backend;
    let settle = format!(
        r#"{{"action":"settle-replicas","backend":"{backend}","service":"nova","replicas":[
            {{"daemon":"x@lb","server":"a","unit":"volutus-none","to":"/new"}},
            {{"daemon":"y@lb","server":"b","unit":"volutus-none","to":"/new"}}]}}"#
    );
    let Outcome::Failed(failure) = perform(settle, false).await else { panic!("it was given back") };
    assert!(failure.message.contains(&format!("{backend}/b stay out")), "{failure:?}");
    assert_eq!(all(), ((0, 8), (0, 8)));
    assert!(matches!(perform(first.undrain("b"), false).await, Outcome::Done { .. }));
    driver.close().await;
}

#[tokio::test]
async fn a_connection_lost_in_the_middle_leaves_the_outcome_unknown_until_it_is_taken_up() {
    let sshd = Sshd::start();
    let balancer = Balancer::listen(&sshd.path("haproxy.sock"), "cut");
    *balancer.sessions.lock().unwrap() = 1;
    let driver = driver(&sshd);
    // The drain waits for the open session, and says so; then the connection is cut.
    let cut = |text: String| {
        if text.contains("1 sessions") {
            sshd.cut_connections();
        }
    };
    let outcome = driver.perform(&order(&balancer.drain("a"), false), &cut).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    *balancer.sessions.lock().unwrap() = 0;
    let outcome = driver.perform(&order(&balancer.drain("a"), true), &|_| {}).await;
    assert!(matches!(outcome, Outcome::FoundNoChangesNeeded { .. }), "{outcome:?}");
    let outcome = driver.perform(&order(&balancer.undrain("a"), false), &|_| {}).await;
    assert!(outcome.is_success(), "{outcome:?}");
    driver.close().await;
}

#[tokio::test]
async fn gateways_that_move_are_announced_where_they_come_to() {
    let sshd = Sshd::start();
    let driver = driver_of(&sshd, sshd.inventory_with_gateways());
    let sent = || std::fs::read_to_string(sshd.path("sent")).unwrap();
    let detail = async |action: &str| {
        let action = format!(r#"{{"action":"{action}","host":"cmp1"}}"#);
        match driver.perform(&order(&action, false), &|_| {}).await {
            Outcome::Done { detail, .. } => detail,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        detail("lower-gateways").await,
        "uu-1 is the gateway of no router; 2 places were lowered; 1 router ports announced from cmp2.site; 1 router \
         ports not announced: cmp3.site is no host of the cloud description, or several"
    );
    // Three times, by the port that OVN has made, with the tag of its network.
    let round = |last: u8| format!("ffffffffffff fa163e00000{last} 81000007 0806").replace(' ', "");
    assert_eq!(sent().lines().count(), 3, "{}", sent());
    let first = format!("--timeout=5 packet-out br-ex 5 resubmit(,0) {}", round(2));
    assert!(sent().lines().all(|line| line.starts_with(&first)), "{}", sent());
    std::fs::remove_file(sshd.path("sent")).unwrap();
    assert_eq!(
        detail("restore-gateways").await,
        "2 places of cmp1 as a gateway were given back; 2 router ports announced from cmp1"
    );
    assert_eq!(sent().lines().filter(|line| line.contains(&round(3))).count(), 3, "{}", sent());
    driver.close().await;
}

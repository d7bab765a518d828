//! The hook for Ceph, on a small cluster of its own: three racks, four hosts with an OSD each, three monitors of
//! which one is on a host without OSDs. Objects are written all the while.
//!
//! Each daemon has the name of its host in a UTS namespace of its own, as Ceph tells where a monitor runs by the
//! name of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;

use super::{Daemon, Hook, Tally, ask, wait_for};
use crate::process::is_root;
use crate::schemathesis::spare_address;

/// Hosts with an OSD, and their racks; the OSDs have their ids in this order.
const HOSTS: [(&str, &str); 4] = [("a", "r1"), ("b", "r2"), ("c", "r3"), ("d", "r3")];
/// Hosts with a monitor.
const MONITORS: [&str; 3] = ["a", "b", "m"];
const POOL: &str = "data";
/// Copies on different racks.
const RACK: u32 = 3;
/// How long a hook waits that is to be refused: long enough for several looks.
const SHORT: &[&str] = &["--limit-s", "10"];
/// How long one waits that is to go on.
const LONG: &[&str] = &["--limit-s", "150"];
/// A write that takes longer has failed; it takes milliseconds, and seconds while an OSD goes.
const WRITE_LIMIT_S: &str = "20";
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

pub(super) fn check(tally: &mut Tally) -> anyhow::Result<()> {
    let mut cluster = Cluster::new()?;
    let mut hook = Hook::new("ceph", cluster.at());
    hook.environment = vec![("CEPH_CONF", cluster.conf.clone())];
    tally.check("ceph: a cluster comes up", || cluster.start_all())?;
    let writer = Writer::start(&cluster);
    alone(tally, &hook, &mut cluster)?;
    others(tally, &hook, &mut cluster)?;
    racks(tally, &hook, &mut cluster)?;
    kept(tally, &hook, &cluster)?;
    let ended = writer.end();
    let longest_s = ended.as_ref().map_or(0.0, |(_, longest)| longest.as_secs_f64());
    let written = ended.as_ref().map_or(0, |(written, _)| *written);
    tally.check("ceph: every write meanwhile succeeded, and everything is there", || {
        ended?;
        let listed = ask("rados", &["-p", POOL, "ls"], &cluster.environment())?.lines().count();
        ensure!(written > 20 && listed == written, "{written} objects were written, and {listed} are there");
        Ok(())
    })?;
    tally.figures.push(format!("{written} writes to Ceph, all succeeded, longest {longest_s:.1} s"));
    Ok(())
}

/// A host by itself: what begins and ends, and is told again.
fn alone(tally: &mut Tally, hook: &Hook, cluster: &mut Cluster) -> anyhow::Result<()> {
    tally.check("ceph: a host without OSDs and monitors has nothing to do", || {
        hook.expect("begin", "nowhere", SHORT, 70, &["no OSDs"])
    })?;
    tally.check("ceph: end without begin has nothing to do", || hook.expect("end", "a", SHORT, 70, &[]))?;
    tally.check("ceph: begin sets noout for the host, and so it does again", || {
        for host in ["a.example", "a"] {
            hook.expect("begin", host, LONG, 0, &["OSDs [0]", "monitors ['a']"])?;
            cluster.ensure_noout(&["a"])?;
        }
        Ok(())
    })?;
    tally.check("ceph: another host is refused while the first is out", || {
        hook.expect("begin", "b", SHORT, 1, &["could not let b go down", "a is out", super::RUN])?;
        hook.expect("begin", "m", SHORT, 1, &["a is out"])?;
        cluster.ensure_noout(&["a"])
    })?;
    cluster.stop("a")?;
    tally.check("ceph: another host is refused while the first is down", || {
        hook.expect("begin", "b", SHORT, 1, &["a is out"])
    })?;
    tally
        .check("ceph: begin again bears that the host is down", || hook.expect("begin", "a", LONG, 0, &[]))?;
    tally.check("ceph: end does not end while the host is away", || {
        hook.expect("end", "a", SHORT, 1, &["osd.0 of a are not up", "end --now --host a"])?;
        cluster.ensure_noout(&["a"])
    })?;
    tally.check("ceph: end waits for the host and for whole data, and unsets noout", || {
        hook.expect_to_wait(("end", "a"), LONG, "osd.0", || cluster.start_host("a"))?;
        cluster.ensure_noout(&[])?;
        cluster.ensure_clean()
    })?;
    tally.check("ceph: end again has nothing to do", || hook.expect("end", "a", SHORT, 70, &[]))
}

/// What else keeps a host from going down.
fn others(tally: &mut Tally, hook: &Hook, cluster: &mut Cluster) -> anyhow::Result<()> {
    tally.check("ceph: end --now gives back a host that stays away", || {
        hook.expect("begin", "a", LONG, 0, &[])?;
        cluster.stop("a")?;
        hook.expect("end", "a", &["--now"], 0, &["was not waited for"])?;
        cluster.ensure_noout(&[])
    })?;
    tally.check("ceph: a host is refused while an OSD of another is down", || {
        hook.expect("begin", "b", SHORT, 1, &["osd.0 of the host a is down"])?;
        cluster.ensure_noout(&[])
    })?;
    tally.check("ceph: begin waits for an OSD that comes back", || {
        hook.expect_to_wait(("begin", "b"), LONG, "osd.0", || cluster.start_host("a"))?;
        cluster.ensure_noout(&["b"])?;
        hook.expect("end", "b", LONG, 0, &[])
    })?;
    tally.check("ceph: a host is refused where its monitor is needed", || {
        cluster.stop("m")?;
        hook.expect("begin", "b", SHORT, 1, &["the monitor b is not ok to stop"])?;
        cluster.start_host("m")?;
        cluster.wait_well()
    })?;
    tally.check("ceph: a host with a monitor alone begins and ends", || {
        hook.expect("begin", "m", LONG, 0, &["OSDs none", "monitors ['m']"])?;
        cluster.ensure_noout(&[])?;
        cluster.stop("m")?;
        hook.expect_to_wait(("end", "m"), LONG, "not in the quorum", || cluster.start_host("m"))
    })?;
    tally.check("ceph: a host is refused whose data would not be served", || {
        cluster.ceph(&["osd", "pool", "set", POOL, "min_size", "3"])?;
        hook.expect("begin", "a", LONG, 1, &["are not ok to stop", "min_size"])?;
        cluster.ensure_noout(&[])?;
        cluster.ceph(&["osd", "pool", "set", POOL, "min_size", "2"])?;
        hook.expect("begin", "a", LONG, 0, &[])?;
        hook.expect("end", "a", LONG, 0, &[])
    })
}

/// Hosts of one rack are out together, and no others.
fn racks(tally: &mut Tally, hook: &Hook, cluster: &mut Cluster) -> anyhow::Result<()> {
    let (short, long) =
        ([SHORT, &["--failure-domain", "rack"]].concat(), [LONG, &["--failure-domain", "rack"]].concat());
    tally.check("ceph: hosts of one rack are out together", || {
        hook.expect("begin", "c", &long, 0, &[])?;
        hook.expect("begin", "d", SHORT, 1, &["c is out"])?;
        cluster.stop("c")?;
        hook.expect("begin", "d", &long, 0, &[])?;
        cluster.stop("d")?;
        cluster.ensure_noout(&["c", "d"])
    })?;
    tally.check("ceph: no host of another rack is", || {
        hook.expect("begin", "a", &short, 1, &["is out"])?;
        hook.expect(
            "begin",
            "a",
            &[SHORT, &["--failure-domain", "row"]].concat(),
            1,
            &["in no row of the CRUSH map"],
        )
    })?;
    tally.check("ceph: the last host of a rack waits for whole data", || {
        cluster.start_host("c")?;
        hook.expect("end", "c", &long, 0, &[])?;
        cluster.ensure_noout(&["d"])?;
        hook.expect_to_wait(("end", "d"), &long, "osd.3", || cluster.start_host("d"))?;
        cluster.ensure_noout(&[])?;
        cluster.ensure_clean()
    })
}

/// What an administrator had set is left.
fn kept(tally: &mut Tally, hook: &Hook, cluster: &Cluster) -> anyhow::Result<()> {
    tally.check("ceph: a noout that others set stays", || {
        cluster.ceph(&["osd", "set-group", "noout", "b"])?;
        hook.expect("begin", "b", LONG, 0, &["set by others"])?;
        hook.expect("begin", "b", LONG, 0, &["set by others"])?;
        hook.expect("end", "b", LONG, 0, &[])?;
        cluster.ensure_noout(&["b"])?;
        cluster.ceph(&["osd", "unset-group", "noout", "b"])?;
        Ok(())
    })?;
    tally.check("ceph: a cluster that does not answer is named in time", || {
        let mut lost = Hook::new("ceph", cluster.at());
        lost.environment = vec![("CEPH_CONF", "/nowhere/ceph.conf".to_owned())];
        lost.expect("begin", "a", SHORT, 1, &["could not let a go down within 10 s", "ceph"])?;
        hook.expect("begin", "a", &["--ceph", "/nowhere/ceph"], 1, &["could not run", "--ceph"])
    })
}

/// The cluster, with its daemons by the host that they are on.
struct Cluster {
    folder: tempfile::TempDir,
    conf: String,
    daemons: BTreeMap<String, Vec<Daemon>>,
}

impl Cluster {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let addresses: Vec<String> = MONITORS
            .iter()
            .map(|_| Ok(format!("[v2:{}]", spare_address()?)))
            .collect::<anyhow::Result<_>>()?;
        let cluster_id = ask("cat", &["/proc/sys/kernel/random/uuid"], &[])?.trim().to_owned();
        let path = at.display();
        let conf = at.join("ceph.conf");
        // Nobody is asked for a key: all of it is on loopback, and goes with this command. Disks are sparse files.
        // An OSD that is away is never taken out by itself, however slow the machine is.
        let text = format!(
            "[global]\nfsid = {cluster_id}\nmon host = {}\npublic addr = 127.0.0.1\ncluster addr = 127.0.0.1\n\
             auth cluster required = none\nauth service required = none\nauth client required = none\n\
             ms bind msgr1 = false\nrun dir = {path}\ncrash dir = {path}\n\
             admin socket = {path}/$name.$pid.asok\npid file = {path}/$name.pid\nlog file = {path}/$name.log\n\
             mon data = {path}/mon.$id\nmgr data = {path}/mgr.$id\nosd data = {path}/osd.$id\n\
             mon data avail warn = 1\nmon data avail crit = 1\nmon osd down out interval = 3600\n\
             osd crush chooseleaf type = {RACK}\nosd pool default size = 3\nosd pool default min size = 2\n\
             osd pool default pg autoscale mode = off\n\
             osd objectstore = bluestore\nbluestore block size = 1073741824\nosd memory target = 1073741824\n",
            addresses.join(",")
        );
        std::fs::write(&conf, text)?;
        let map = at.join("monmap").display().to_string();
        let mut words = vec!["--create", "--fsid", &cluster_id];
        for (name, address) in MONITORS.iter().zip(&addresses) {
            words.extend(["--addv", name, address.as_str()]);
        }
        words.push(&map);
        ask("monmaptool", &words, &[])?;
        let cluster = Self { conf: conf.display().to_string(), folder, daemons: BTreeMap::new() };
        for name in MONITORS {
            std::fs::create_dir(cluster.at().join(format!("mon.{name}")))?;
            ask("ceph-mon", &["--mkfs", "-i", name, "--monmap", &map], &cluster.environment())?;
        }
        Ok(cluster)
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn environment(&self) -> [(&'static str, &str); 1] {
        [("CEPH_CONF", self.conf.as_str())]
    }

    fn ceph(&self, words: &[&str]) -> anyhow::Result<String> {
        ask("ceph", &[&["--connect-timeout", "15"], words].concat(), &self.environment())
    }

    fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ceph(&[words, &["--format", "json"]].concat())?)?)
    }

    /// Starts a daemon in the foreground, on a host of that name.
    fn start(&mut self, host: &str, program: &str, more: &[&str]) -> anyhow::Result<()> {
        let namespaces: &[&str] =
            if is_root() { &["--uts"] } else { &["--user", "--map-root-user", "--uts"] };
        let script = "hostname \"$0\" && exec \"$@\"";
        let command = [&["unshare"], namespaces, &["sh", "-c", script, host, program, "-f"], more].concat();
        let log = self.at().join(format!("{program}.{host}.out"));
        let daemon = Daemon::start(&command, &self.environment(), &log)?;
        self.daemons.entry(host.to_owned()).or_default().push(daemon);
        Ok(())
    }

    fn start_host(&mut self, host: &str) -> anyhow::Result<()> {
        if MONITORS.contains(&host) {
            self.start(host, "ceph-mon", &["-i", host])?;
        }
        self.start_osd(host)
    }

    fn start_osd(&mut self, host: &str) -> anyhow::Result<()> {
        if let Some((id, (_, rack))) = HOSTS.iter().enumerate().find(|(_, (name, _))| *name == host) {
            let place = format!("root=default rack={rack} host={host}");
            self.start(host, "ceph-osd", &["-i", &id.to_string(), "--crush-location", &place])?;
        }
        Ok(())
    }

    /// Ends a host's daemons, and waits until Ceph has noticed.
    fn stop(&mut self, host: &str) -> anyhow::Result<()> {
        self.daemons.remove(host);
        wait_for(&format!("Ceph notices that {host} is down"), || {
            let tree = self.json(&["osd", "tree"])?;
            let nodes = tree["nodes"].as_array().context("no tree")?;
            let id = HOSTS.iter().position(|(name, _)| *name == host);
            let up = nodes.iter().any(|node| id.is_some_and(|id| node["id"] == id) && node["status"] == "up");
            let quorum = self.json(&["quorum_status"])?["quorum_names"].to_string();
            ensure!(!up && !quorum.contains(&format!("\"{host}\"")), "up: {up}, quorum: {quorum}");
            Ok(())
        })
    }

    fn start_all(&mut self) -> anyhow::Result<()> {
        for host in MONITORS {
            self.start(host, "ceph-mon", &["-i", host])?;
        }
        wait_for("the monitors have a quorum", || self.ceph(&["quorum_status"]).map(drop))?;
        std::fs::create_dir(self.at().join("mgr.x"))?;
        self.start("mgr", "ceph-mgr", &["-i", "x"])?;
        for (number, (host, _)) in HOSTS.iter().enumerate() {
            let id = ask("cat", &["/proc/sys/kernel/random/uuid"], &[])?.trim().to_owned();
            let given = self.ceph(&["osd", "new", &id])?.trim().to_owned();
            ensure!(given == number.to_string(), "the OSD of {host} is {given} instead of {number}");
            std::fs::create_dir(self.at().join(format!("osd.{given}")))?;
            ask("ceph-osd", &["-i", &given, "--mkfs", "--osd-uuid", &id], &self.environment())?;
            self.start_osd(host)?;
        }
        wait_for("all OSDs are up", || {
            let up = self.json(&["status"])?["osdmap"]["num_up_osds"].clone();
            ensure!(up == HOSTS.len(), "{up} are up");
            Ok(())
        })?;
        self.ceph(&["osd", "pool", "create", POOL, "8", "8"])?;
        self.wait_well()
    }

    /// Waits until all data is whole and every monitor in the quorum.
    fn wait_well(&self) -> anyhow::Result<()> {
        wait_for("the cluster is well", || {
            let quorum = self.json(&["quorum_status"])?["quorum_names"].as_array().map_or(0, Vec::len);
            ensure!(quorum == MONITORS.len(), "{quorum} monitors are in the quorum");
            self.ensure_clean()
        })
    }

    fn ensure_clean(&self) -> anyhow::Result<()> {
        let placed = self.json(&["status"])?["pgmap"].clone();
        let states = placed["pgs_by_state"].as_array().context("no placement groups")?;
        let clean =
            |state: &Value| state["state_name"].as_str().is_some_and(|name| name.starts_with("active+clean"));
        ensure!(
            !states.is_empty() && states.iter().all(clean),
            "placement groups: {}",
            placed["pgs_by_state"]
        );
        Ok(())
    }

    /// noout is set for these hosts and no others.
    fn ensure_noout(&self, hosts: &[&str]) -> anyhow::Result<()> {
        let flags = self.json(&["osd", "dump"])?["crush_node_flags"].clone();
        let set: BTreeMap<String, Vec<String>> = serde_json::from_value(flags)?;
        let found: Vec<&str> = set
            .iter()
            .filter(|(_, flags)| flags.iter().any(|one| one == "noout"))
            .map(|(host, _)| host.as_str())
            .collect();
        ensure!(found == hosts, "noout is set for {found:?} instead of {hosts:?}");
        Ok(())
    }
}

/// Writes one object after another until it is told to end.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(usize, Duration)>>,
}

impl Writer {
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, conf, what) = (Arc::clone(&stop), cluster.conf.clone(), PathBuf::from(&cluster.conf));
        let thread = std::thread::spawn(move || {
            let (mut written, mut longest) = (0, Duration::ZERO);
            while !told.load(Ordering::Relaxed) {
                let (begun, name) = (Instant::now(), format!("object-{written}"));
                let put = ["rados", "-p", POOL, "put", &name, &what.display().to_string()];
                ask("timeout", &[&[WRITE_LIMIT_S], &put[..]].concat(), &[("CEPH_CONF", conf.as_str())])?;
                longest = longest.max(begun.elapsed());
                written += 1;
                std::thread::sleep(BETWEEN_WRITES);
            }
            Ok((written, longest))
        });
        Self { stop, thread }
    }

    /// How many were written, and how long the longest took; fails if one was not.
    fn end(self) -> anyhow::Result<(usize, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

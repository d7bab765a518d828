//! Hooks of a reboot, where Volutus runs and on another host: around each restart, once, in order, also when
//! Volutus is killed; and what `always` is good for.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::{Scene, order};
use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, World, wait_until};

/// The host that the other hook runs on; it is not rebooted.
const ELSEWHERE: &str = "ctl1";
/// What the hook there writes.
const THERE: &str = "/root/hooks.txt";

/// What a hook wrote when it ended.
#[derive(Debug)]
struct Line {
    hook: String,
    moment: String,
    host: String,
    /// Seconds since the epoch, by the clock that all hosts of a lab share.
    at: f64,
}

/// Three hooks: two that end in any case, of which one is where Volutus runs, and one that ends behind proofs only.
fn policy(here: &Path) -> String {
    let write = |state: &str, to: &str| {
        format!("echo {state} $VOLUTUS_HOOK $VOLUTUS_MOMENT $VOLUTUS_HOST $(date +%s.%3N) >> {to}")
    };
    let hook = |name: &str, on: &str, always: bool, script: &str| {
        format!(
            "\n[[reboot.hook]]\nname = \"{name}\"\non = \"{on}\"\nalways = {always}\nlimit_s = 60\n\
             before = [\"/bin/sh\", \"-c\", '{script}']\nafter = [\"/bin/sh\", \"-c\", '{script}']\n"
        )
    };
    let here = here.display().to_string();
    // So long that Volutus can be killed while it runs.
    let slow = format!("{}; sleep 5; {}", write("begun", THERE), write("ended", THERE));
    [
        hook("here", "volutus", true, &write("ended", &here)),
        hook("there", ELSEWHERE, true, &slow),
        hook("proved", "volutus", false, &write("ended", &here)),
    ]
    .concat()
}

/// The lines of that state, of both places, in the order of their times.
fn lines(lab: &Lab, here: &Path, state: &str) -> anyhow::Result<Vec<Line>> {
    let there = lab.exec(ELSEWHERE, &format!("cat {THERE} 2>/dev/null || true"))?.expect(0, &[])?.stdout;
    let here = std::fs::read_to_string(here).unwrap_or_default();
    let mut found = Vec::new();
    for line in there.lines().chain(here.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [said, hook, moment, host, at] = words[..] else { bail!("a hook wrote {line:?}") };
        if said == state {
            let [hook, moment, host] = [hook, moment, host].map(str::to_owned);
            found.push(Line { hook, moment, host, at: at.parse()? });
        }
    }
    found.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(found)
}

/// When a host was started last, in seconds since the epoch; systemd tells it to the second.
fn started(lab: &Lab, host: &str) -> anyhow::Result<f64> {
    let told = "systemctl show --timestamp=unix --property=UserspaceTimestamp --value";
    let text = lab.exec(host, told)?.expect(0, &[])?.stdout;
    let seconds = text.trim().trim_start_matches('@');
    seconds.parse().with_context(|| format!("{host} was started at {text:?}"))
}

/// What was done of a host's step, in order, as its journal says it in words.
fn done(scene: &Scene, host: &str) -> anyhow::Result<Vec<String>> {
    let shown = scene.volutus(&["journal", "show", "--host", host])?.expect(0, &[])?.stdout;
    let step = format!("reboot/{host}: ");
    let done = shown.lines().filter_map(|line| {
        let what = line.split_once(&step)?.1;
        what.split_once(": done: ").or_else(|| what.split_once(": nothing to do: "))
    });
    Ok(done.map(|(summary, _)| summary.to_owned()).collect())
}

fn told<'a>(lines: &'a [Line], host: &str) -> Vec<(&'a str, &'a str)> {
    let here = lines.iter().filter(|line| line.host == host);
    here.map(|line| (line.hook.as_str(), line.moment.as_str())).collect()
}

/// Each in the order of the policy before the restart, and in the opposite one behind the proofs.
const ALL: [(&str, &str); 6] = [
    ("here", "before"),
    ("there", "before"),
    ("proved", "before"),
    ("proved", "after"),
    ("there", "after"),
    ("here", "after"),
];

pub fn around_each_restart(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let here = lab.folder().join("hooks.txt");
    let clear = || -> anyhow::Result<()> {
        std::fs::write(&here, "")?;
        lab.exec(ELSEWHERE, &format!("rm -f {THERE}"))?.expect(0, &[])?;
        Ok(())
    };
    clear()?;
    let scene = Scene::new(world, lab, &format!("\n\n{}", policy(&here)))?;
    let plan = scene.plan(&[])?;
    let hosts = order(&plan)?;
    ensure!(hosts.len() > 1, "fewer than two hosts are rebooted: {hosts:?}");
    let stood = hosts.iter().map(|host| Ok((host, started(lab, host)?)));
    let stood: BTreeMap<&String, f64> = stood.collect::<anyhow::Result<_>>()?;

    let mut running = scene.start(&["run", text_at(&plan, &["id"])?])?;
    wait_until("the hook there has begun", 300, || {
        if let Some(status) = running.try_wait()? {
            bail!("`volutus run` ended by itself ({status}): {}", lab.volutus(&["status"])?.stdout);
        }
        Ok(!lines(lab, &here, "begun")?.is_empty())
    })?;
    running.kill()?;
    running.wait()?;
    wait_until("the run is taken up", 120, || {
        let resumed = scene.volutus(&["resume"])?;
        if resumed.code == 3 && resumed.stderr.contains("lease") {
            return Ok(false);
        }
        resumed.expect(0, &[])?;
        Ok(true)
    })?;

    let ended = lines(lab, &here, "ended")?;
    for host in &hosts {
        ensure!(told(&ended, host) == ALL, "hooks of {host} ended like this: {ended:?}");
        let again = started(lab, host)?;
        ensure!(again > stood[host], "{host} was not restarted: started at {again}");
        for line in ended.iter().filter(|line| line.host == *host) {
            // A start is told to the second, rounded down.
            let right = if line.moment == "before" { line.at < again + 1.0 } else { line.at > again };
            ensure!(right, "{host} was started at {again}, and its hook: {line:?}");
        }
        let done = done(&scene, host)?;
        let at = |what: &str| done.iter().position(|summary| summary.starts_with(what));
        let proof = done.iter().rposition(|what| what.starts_with("prove ") && what.contains("serves"));
        let places = [
            at(&format!("prove {host} empty")),
            at("run the hook here before"),
            at("run the hook proved before"),
            at(&format!("reboot {host}")),
            proof,
            at("run the hook proved after"),
            at("run the hook here after"),
            at("enable nova-compute"),
        ];
        ensure!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{host} was rebooted in this order: {done:#?}"
        );
    }
    let begun = lines(lab, &here, "begun")?;
    ensure!(begun.len() == 2 * hosts.len(), "a hook began twice, or not: {begun:?}");
    ensure!(ended.len() == ALL.len() * hosts.len(), "hooks of other hosts ended: {ended:?}");
    scene.volutus(&["journal", "verify"])?.expect(0, &[])?;

    // A host that fails behind its restart, in a run that is given up.
    clear()?;
    let scene = Scene::new(world, lab, &format!("kernel = \"6.99.0-never\"\n\n{}", policy(&here)))?;
    let host = scene.carrying()?;
    let plan = scene.plan(&["--hosts", &host])?;
    let ran = scene.volutus(&["run", text_at(&plan, &["id"])?])?;
    ran.expect(5, &["has come back with kernel"])?;
    let ended = lines(lab, &here, "ended")?;
    ensure!(told(&ended, &host) == ALL[..3], "nobody has decided, and these ended: {ended:?}");
    scene.ensure_enabled(false, &host)?;
    scene.volutus(&["abort"])?.expect(0, &[])?;
    let ended = lines(lab, &here, "ended")?;
    let always = [&ALL[..3], &ALL[4..]].concat();
    ensure!(told(&ended, &host) == always, "the run was aborted, and these ended: {ended:?}");
    scene.ensure_enabled(true, &host)?;
    scene.all_run()?;
    Ok(())
}

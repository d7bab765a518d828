//! A release locked beforehand: what is installed is held against it before anything is switched.

use anyhow::{Context as _, ensure};

use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, World};

/// What is altered on one host, and where the altered copy lies.
const FILE: &str = "/srv/releases/2026.2/lib/python3.11/site-packages/glance/common/utils.py";
const COPY: &str = "/var/lib/volutus-lab-altered.py";
const HOST: &str = "ctl2";

/// On one host a file of the staged release is not the locked one: the run halts before it has switched
/// anything, names the package, and goes on once the file is what it should be.
pub fn altered_release_halts(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    // The versions that the lab offers, whatever the index has got since.
    let installed = lab.exec(HOST, "/srv/releases/2026.2/bin/python3 -m pip freeze")?.expect(0, &[])?;
    let constraints = lab.folder().join("constraints.txt");
    std::fs::write(&constraints, installed.stdout)?;
    let constraints = constraints.to_str().context("the lab's folder has no plain name")?;
    // Where pip was told of an index, Volutus finds it; otherwise this is the one that pip goes to by itself.
    let pips = "/srv/releases/2026.2/bin/python3 -c \
                'from pip._internal.models.index import PyPI; print(PyPI.simple_url)'";
    let index = format!("index={}", lab.exec(HOST, pips)?.expect(0, &[])?.stdout.trim());
    let mut lock =
        vec!["release", "lock", "--series", "2026.2", "--name", "locked", "--constraints", constraints];
    let mut locked = lab.volutus(&lock)?;
    if locked.stderr.contains("no-source") {
        lock.extend(["--from", &index]);
        locked = lab.volutus(&lock)?;
    }
    locked.expect(0, &["nova", "glance"])?;

    lab.exec(HOST, &format!("cp {FILE} {COPY} && echo >>{COPY} && mount --bind {COPY} {FILE}"))?
        .expect(0, &[])?;
    let plan = ["plan", "--to", "2026.2", "--release", "locked", "--output", "json"];
    let plan = lab.volutus(&plan)?.expect(0, &[])?.json()?;
    let plan = text_at(&plan, &["id"])?;
    lab.volutus(&["approve", plan])?.expect(0, &[])?;
    lab.volutus(&["run", plan])?.expect(5, &["glance", "are not those locked", HOST])?;
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    for (daemon, fact) in observation["daemons"].as_object().context("no daemons")? {
        let version = &fact["observed"]["value"]["version"]["observed"]["value"];
        let old = !daemon.starts_with("nova-") || version.as_str().is_some_and(|v| v.starts_with("33."));
        ensure!(old, "{daemon} runs {version}, and nothing was to be switched");
    }
    lab.exec(HOST, &format!("umount {FILE} && rm {COPY}"))?.expect(0, &[])?;
    Ok(())
}

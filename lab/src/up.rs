//! Bringing a lab up, from an empty machine to a populated cloud.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::command::wait_for;
use crate::error::{Error, IoContext as _, Result};
use crate::machine::{self, Machine};
use crate::paths::{self, Lock, StateDir};
use crate::progress::{Progress, step};
use crate::ready::{START_LIMIT, wait_apis, wait_records};
use crate::record::{Phase, Record, base64url, new_password, random_bytes};
use crate::release::{RELEASES, Release};
use crate::render;
use crate::topology::{Options, Role, Virt, plan_hosts};
use crate::variant::Variant;
use crate::{base, data_plane, down, guest, layer, network, outputs, render_virt, schema, setup};

const POPULATE_LIMIT: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(500);

/// The releases of a lab besides the one that its series has.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Series that its hosts can be upgraded to; the one after the start series where empty.
    pub series: Vec<String>,
    /// Versions of packages that the start release has instead of its lock's: `keystone==28.0.1`.
    pub pins: Vec<String>,
    /// Patched releases of the start series: `NAME=PACKAGE==VERSION,PACKAGE==VERSION`, which hosts
    /// can stage as `SERIES+NAME`.
    pub patched: Vec<String>,
}

/// The release that the lab starts with, and those that its hosts are offered besides.
struct Releases {
    start: Release,
    paths: Vec<(String, PathBuf)>,
    /// With a real data plane: what is laid over the releases, and the guest.
    laid: Option<(PathBuf, PathBuf)>,
}

/// Brings a lab up and returns its record.
pub(crate) fn up(options: &Options, offer: &Offer, progress: &dyn Progress) -> Result<(StateDir, Record)> {
    // All refusals come before anything is made.
    plan_hosts(options, 1)?;
    let state = StateDir::of(&options.name)?;
    let wanted = wanted_releases(&options.series, &offer.series)?;
    let variants = variants(&options.series, offer)?;
    setup::require_root()?;
    let _lock = Lock::now(&state.lock(), &format!("the lab {}", options.name))?;
    if state.record().exists() && Record::load(&state)?.phase == Phase::Ready {
        return Err(Error::refused(
            format!("the lab {} is up already", options.name),
            format!(
                "take it down first with `volutus-lab down --name {0}`, or choose another --name",
                options.name
            ),
        ));
    }
    setup::prepare_machine(options.virt, progress)?;
    // What a crashed `up` of the same name left behind would only be in the way.
    down::remove_all(&state)?;
    let (base, mut releases) = build(options, &wanted, &variants, progress)?;
    let mut record = begin(&state, options)?;
    if let Some((layer, _)) = &releases.laid {
        releases.paths = layer::mount(&state, layer, &releases.paths)?;
    }
    make_hosts(&state, &record, &base, &releases, progress)?;
    start_cloud(&state, &record, &releases, progress)?;
    record.phase = Phase::Ready;
    record.save(&state)?;
    Ok((state, record))
}

/// The start series first, then those asked for, then the one that follows the start.
fn wanted_releases(start: &str, offered: &[String]) -> Result<Vec<Release>> {
    let start = Release::find(start)?;
    let mut wanted = vec![start];
    for series in offered {
        wanted.push(Release::find(series)?);
    }
    if offered.is_empty() {
        wanted.extend(RELEASES.iter().find(|release| release.series > start.series));
    }
    wanted.dedup();
    Ok(wanted)
}

/// The releases that differ from their series' locks.
fn variants(start: &str, offer: &Offer) -> Result<Vec<Variant>> {
    let base = Release::find(start)?;
    let mut variants: Vec<Variant> = Variant::start(base, &offer.pins)?.into_iter().collect();
    for text in &offer.patched {
        variants.push(Variant::patched(base, text)?);
    }
    Ok(variants)
}

/// Fills the cache: the hosts' file system and the releases.
fn build(
    options: &Options,
    wanted: &[Release],
    variants: &[Variant],
    progress: &dyn Progress,
) -> Result<(PathBuf, Releases)> {
    let (base, laid) = thread::scope(|scope| {
        let base = scope.spawn(|| {
            let base = base::ensure_base(options.virt, progress)?;
            let laid = match options.virt {
                Virt::Fake => None,
                Virt::Qemu => Some((layer::ensure(progress)?, guest::ensure(progress)?)),
            };
            Ok((base, laid))
        });
        let built = build_releases(wanted, progress);
        let base = joined(base);
        built.and(base)
    })?;
    // Whatever the cache has besides costs nothing to offer.
    let mut paths: Vec<(String, PathBuf)> = RELEASES
        .iter()
        .filter(|release| release.path().exists())
        .map(|release| (release.series.to_owned(), release.path()))
        .collect();
    for variant in variants {
        let path = variant.ensure(progress)?;
        // A start release with pins takes the place of the series' own.
        paths.retain(|(name, _)| name != variant.name());
        paths.push((variant.name().to_owned(), path));
    }
    Ok((base, Releases { start: Release::find(&options.series)?, paths, laid }))
}

/// Builds releases, two at a time: more would only fight for the network and two cores.
pub(crate) fn build_releases(wanted: &[Release], progress: &dyn Progress) -> Result<()> {
    for pair in wanted.chunks(2) {
        thread::scope(|scope| {
            let builds: Vec<_> =
                pair.iter().map(|release| scope.spawn(|| release.ensure(progress))).collect();
            builds.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
    }
    Ok(())
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        // A panic is a bug: it goes on as what it is.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Reserves a subnet and writes the record, before anything else of the lab exists.
fn begin(state: &StateDir, options: &Options) -> Result<Record> {
    paths::create_dir(&state.path())?;
    let subnet = network::reserve_subnet(state)?;
    let record = Record::new(options.clone(), subnet, new_password()?)?;
    record.save(state)?;
    Ok(record)
}

fn make_hosts(
    state: &StateDir,
    record: &Record,
    base: &Path,
    releases: &Releases,
    progress: &dyn Progress,
) -> Result<()> {
    step(progress, "make network, disks and keys", || {
        network::make(record)?;
        machine::mount_shared(state)?;
        make_fernet_keys(state)?;
        if let Some((_, guest)) = &releases.laid {
            for file in guest::FILES {
                let copy = state.shared().join("guest").join(file);
                paths::write(&copy, std::fs::read(guest.join(file)).on("reading", guest)?, 0o644)?;
            }
        }
        for host in &record.hosts {
            Machine { state, record, host }.mount(base)?;
        }
        outputs::write(state, record)?;
        outputs::make_keys(state, record)?;
        for host in &record.hosts {
            furnish(Machine { state, record, host }, releases)?;
        }
        Ok(())
    })?;
    for host in &record.hosts {
        Machine { state, record, host }.start(&releases.paths)?;
    }
    Ok(())
}

/// Keys that all keystones share. keystone calls the one with number 0 the staged one.
fn make_fernet_keys(state: &StateDir) -> Result<()> {
    for repository in ["fernet-keys", "credential-keys"] {
        for number in ["0", "1"] {
            let path = state.shared().join("keystone").join(repository).join(number);
            paths::write(&path, base64url(&random_bytes::<32>()?), 0o600)?;
        }
    }
    Ok(())
}

/// Puts everything into a host's root that it needs before it boots.
fn furnish(machine: Machine<'_>, releases: &Releases) -> Result<()> {
    let (root, host) = (machine.root(), machine.host);
    render::write_files(&root, &render::host_files(machine.record, host)?)?;
    for folder in render::host_folders(host) {
        paths::create_dir(&root.join(folder.trim_start_matches('/')))?;
    }
    let id: String = random_bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    paths::replace(&root.join("etc/machine-id"), format!("{id}\n"), 0o444)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    for unit in render::distribution_units(host) {
        paths::symlink(&format!("/lib/systemd/system/{unit}"), &wants.join(unit))?;
    }
    for (unit, target) in render_virt::own_units(host) {
        let wants = root.join(format!("etc/systemd/system/{target}.wants"));
        paths::symlink(&format!("/etc/systemd/system/{unit}"), &wants.join(unit))?;
    }
    let series = releases.start.series;
    let openstack = root.join("opt/openstack");
    if host.daemons().next().is_some() {
        let store = format!("{}/{series}", crate::release::STORE);
        paths::symlink(&store, &openstack.join(series))?;
    }
    for daemon in host.daemons() {
        let staged = format!("/opt/openstack/{series}");
        paths::symlink(&staged, &openstack.join("current").join(daemon.kind))?;
    }
    Ok(())
}

fn start_cloud(
    state: &StateDir,
    record: &Record,
    releases: &Releases,
    progress: &dyn Progress,
) -> Result<()> {
    let infra = Machine { state, record, host: record.infra() };
    let controllers: Vec<Machine<'_>> =
        record.hosts_with(Role::Controller).map(|host| Machine { state, record, host }).collect();
    let first = controllers[0];
    let count = record.hosts.len();
    step(progress, &format!("boot {count} hosts"), || {
        for host in &record.hosts {
            Machine { state, record, host }.wait_booted()?;
        }
        let units = render::distribution_units(record.infra()).join(" ");
        let script = format!("systemctl is-active {units} || systemctl --no-pager status {units}");
        infra.script("starting databases and load balancer", &script, START_LIMIT).map(drop)
    })?;
    schema::make(infra, first, releases.start, progress)?;
    step(progress, "bootstrap keystone", || bootstrap(first, releases.start.series))?;
    let name = "start the control plane";
    step(progress, name, || {
        // All at once: what depends on something that is not there yet retries by itself, and
        // two cores are the limit in any order.
        for machine in &controllers {
            enable(*machine)?;
        }
        wait_apis(state, record, &["keystone"], progress, name)?;
        drop(populate(first, "catalog", releases.start.series)?);
        wait_apis(state, record, &[], progress, name)
    })?;
    step(progress, "start the computes", || {
        let with_agents = Some(record.infra()).filter(|infra| !infra.agents().is_empty());
        for host in record.hosts_with(Role::Compute).chain(with_agents) {
            enable(Machine { state, record, host })?;
        }
        Ok(())
    })?;
    let name = "wait until every daemon reports";
    step(progress, name, || wait_records(state, record, progress, name))?;
    step(progress, "make projects, networks, images, volumes", || {
        let canaries = populate(first, "resources", releases.start.series)?;
        if render_virt::real(record) { place_canaries(infra, &canaries) } else { Ok(()) }
    })?;
    step(progress, "map the computes into the cell", || {
        wait_computes(infra)?;
        let script =
            format!("/opt/openstack/{}/bin/nova-manage cell_v2 discover_hosts", releases.start.series);
        first.script("mapping the computes", &script, Duration::from_secs(120)).map(drop)
    })?;
    let name = format!("boot {} instances", record.options.instances);
    step(progress, &name, || populate(first, "instances", releases.start.series).map(drop))?;
    if render_virt::real(record) {
        let name = "wait until every guest answers";
        step(progress, name, || data_plane::wait_answering(state, record, progress, name))?;
    }
    Ok(())
}

/// Gives the infrastructure host a foot in every tenant's network. `lines` are those of
/// populate.py that begin with "canary".
fn place_canaries(infra: Machine<'_>, lines: &str) -> Result<()> {
    let canaries: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("canary ")).collect();
    let path = infra.root().join("etc/volutus-lab/canaries");
    paths::write(&path, format!("{}\n", canaries.join("\n")), 0o644)?;
    infra
        .script(
            "making the canaries",
            "systemctl restart volutus-lab-canary.service",
            Duration::from_secs(120),
        )
        .map(drop)
}

fn bootstrap(first: Machine<'_>, series: &str) -> Result<()> {
    let url = format!("http://{}:5000/v3", first.record.infra().address);
    // The password goes through standard input, so no process list shows it.
    let script = format!(
        "read -r OS_BOOTSTRAP_PASSWORD; export OS_BOOTSTRAP_PASSWORD; \
         exec /opt/openstack/{series}/bin/keystone-manage bootstrap --bootstrap-admin-url {url} \
         --bootstrap-internal-url {url} --bootstrap-public-url {url} \
         --bootstrap-region-id RegionOne"
    );
    first
        .command("bootstrapping keystone", ["sh", "-ec", &script])?
        .stdin(format!("{}\n", first.record.password))
        .limit(Duration::from_secs(180))
        .run()
        .map(drop)
}

/// Enables and starts the daemons of a host, without waiting for them.
fn enable(machine: Machine<'_>) -> Result<()> {
    let units: Vec<String> = machine.host.daemons().map(crate::daemon::Daemon::unit).collect();
    let script = format!("systemctl --quiet enable --now --no-block {}", units.join(" "));
    machine.script("starting the daemons", &script, Duration::from_secs(60)).map(drop)
}

/// Waits until every compute has a record with resources, which is when it can be mapped.
fn wait_computes(infra: Machine<'_>) -> Result<()> {
    let expected = infra.record.hosts_with(Role::Compute).count();
    let query = "mariadb -N -e 'SELECT COUNT(*) FROM nova.compute_nodes WHERE deleted = 0'";
    wait_for("waiting for the computes", START_LIMIT, PAUSE, || {
        let seen = infra.script("counting the computes", query, Duration::from_secs(10))?;
        let count: usize = seen.trim().parse().unwrap_or(0);
        Ok(if count >= expected { Ok(()) } else { Err(format!("{count} of {expected}")) })
    })
}

/// Runs one stage of populate.py and returns what it printed.
fn populate(first: Machine<'_>, stage: &str, series: &str) -> Result<String> {
    let script = include_str!("../python/populate.py");
    let path = first.root().join("usr/local/lib/volutus-lab-populate.py");
    paths::write(&path, script, 0o644)?;
    let computes: Vec<&str> = first.record.hosts_with(Role::Compute).map(|host| host.name.as_str()).collect();
    let spare = computes.len().saturating_sub(usize::from(first.record.options.spare));
    let spec = serde_json::json!({
        "spare": computes[spare..],
        "stage": stage,
        "endpoint": first.record.infra().address,
        "password": first.record.password,
        "instances": first.record.options.instances,
        "real": render_virt::real(first.record),
        "outer": format!("198.19.{}", first.record.subnet),
        "canary_host": first.record.infra().name,
    });
    let python = format!("/opt/openstack/{series}/bin/python3");
    first
        .command(
            format!("populating the lab ({stage})"),
            [python.as_str(), "/usr/local/lib/volutus-lab-populate.py"],
        )?
        .stdin(spec.to_string())
        .limit(POPULATE_LIMIT)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_series_is_offered_by_default() {
        let series = |wanted: Vec<Release>| wanted.iter().map(|r| r.series).collect::<Vec<_>>();
        assert_eq!(series(wanted_releases("2025.2", &[]).expect("known")), ["2025.2", "2026.1"]);
        assert_eq!(series(wanted_releases("2026.2", &[]).expect("known")), ["2026.2"]);
        let asked = ["2026.1".to_owned()];
        assert_eq!(series(wanted_releases("2025.1", &asked).expect("known")), ["2025.1", "2026.1"]);
        assert!(wanted_releases("2025.1", &["1".to_owned()]).is_err());
    }
}

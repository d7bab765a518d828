//! `volutus rehearse --real`: the same upgrade, of a real OpenStack in the shape of the cloud
//! scaled down. The lab is another program; it is driven as a person would drive it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use volutus_catalog::Catalog;
use volutus_model::inventory::Inventory;
use volutus_model::name::Series;
use volutus_model::plan::Plan;

use crate::args::RehearseArgs;
use crate::error::{CliError, Kind, Result};

/// The program that makes labs.
const LAB: &str = "volutus-lab";
/// The lab's name; a rehearsal that was broken off is found by it, and taken down with it.
const NAME: &str = "rehearsal";
/// What two cores and 24 GiB carry: 3 controllers and 6 computes, or 2 and 8.
const CONTROLLERS_MAX: usize = 3;
const COMPUTES_MAX: usize = 6;
/// With one replica of an API nothing can be rolled; a lab serves from two at least.
const CONTROLLERS_MIN: usize = 2;

/// A cloud's shape, as far as a lab can have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    controllers: usize,
    computes: usize,
    zones: usize,
}

/// How many hosts of which sort a cloud has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    controllers: usize,
    computes: usize,
    zones: usize,
}

fn counts(inventory: &Inventory, catalog: &Catalog) -> Counts {
    let mut apis = BTreeSet::new();
    let mut computes = BTreeMap::new();
    let kinds: BTreeSet<_> = catalog
        .services
        .values()
        .flat_map(|service| &service.daemons)
        .filter(|daemon| daemon.record.as_ref().is_some_and(|record| record.binary == "nova-compute"))
        .map(|daemon| &daemon.kind)
        .collect();
    for host in &inventory.hosts {
        for role in inventory.roles.iter().filter(|role| host.roles.contains(&role.name)) {
            for daemon in &role.daemons {
                if !daemon.backends.is_empty() {
                    apis.insert(&host.name);
                }
                if kinds.contains(&daemon.kind) {
                    computes.insert(&host.name, host.zone.as_ref());
                }
            }
        }
    }
    let zones: BTreeSet<_> = computes.values().collect();
    Counts { controllers: apis.len(), computes: computes.len(), zones: zones.len() }
}

impl Shape {
    fn of(counts: &Counts) -> Self {
        let computes = counts.computes.clamp(1, COMPUTES_MAX);
        Self {
            controllers: counts.controllers.clamp(CONTROLLERS_MIN, CONTROLLERS_MAX),
            computes,
            zones: counts.zones.clamp(1, computes),
        }
    }
}

/// Brings a lab up in the shape of the cloud, upgrades it as the plan would the cloud, and takes it
/// down again, whatever came of it.
pub fn run(
    inventory: &Inventory,
    plan: &Plan,
    catalog: &Catalog,
    policy: Option<&Path>,
    args: &RehearseArgs,
) -> Result<()> {
    let counts = counts(inventory, catalog);
    let shape = Shape::of(&counts);
    anstream::eprintln!(
        "cloud {}: {} controllers, {} computes in {} zones; the lab `{NAME}` has {}, {} and {}",
        inventory.name,
        counts.controllers,
        counts.computes,
        counts.zones,
        shape.controllers,
        shape.computes,
        shape.zones
    );
    let foreign: Vec<String> = inventory
        .services
        .keys()
        .filter(|service| !LAB_SERVICES.contains(&service.as_str()))
        .map(ToString::to_string)
        .collect();
    if !foreign.is_empty() {
        anstream::eprintln!("not in the lab, and so not rehearsed: {}", foreign.join(", "));
    }
    let lab = Lab { program: lab_program()? };
    let done = lab.up(&shape, plan.from, plan.to).and_then(|()| lab.upgrade(plan.to, policy));
    if args.keep {
        anstream::eprintln!("the lab is left as it is: {LAB} status --name {NAME}; {LAB} down --name {NAME}");
        return done;
    }
    let down = lab.say(&["down", "--name", NAME]);
    done.and(down)
}

/// What a lab runs.
const LAB_SERVICES: [&str; 6] = ["keystone", "glance", "placement", "nova", "neutron", "cinder"];

struct Lab {
    program: PathBuf,
}

impl Lab {
    fn up(&self, shape: &Shape, from: Series, to: Series) -> Result<()> {
        let (from, to) = (from.to_string(), to.to_string());
        let (controllers, computes) = (shape.controllers.to_string(), shape.computes.to_string());
        let zones = shape.zones.to_string();
        self.say(&[
            "up",
            "--name",
            NAME,
            "--series",
            &from,
            "--offer",
            &to,
            "--controllers",
            &controllers,
            "--computes",
            &computes,
            "--zones",
            &zones,
        ])
    }

    fn upgrade(&self, to: Series, policy: Option<&Path>) -> Result<()> {
        let cloud = self.cloud()?;
        let volutus = std::env::current_exe().map_err(|error| broken("find this very program", &error))?;
        let volutus = |words: &[&str]| {
            let mut command = Command::new(&volutus);
            command.arg("--cloud").arg(&cloud);
            if let Some(policy) = policy {
                command.arg("--policy").arg(policy);
            }
            command.args(words);
            command
        };
        let made = volutus(&["plan", "--to", &to.to_string(), "--output", "json"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|error| broken("plan the upgrade of the lab", &error))?;
        let plan: serde_json::Value = serde_json::from_slice(&made.stdout)
            .map_err(|error| broken("plan the upgrade of the lab", &error))?;
        let Some(id) = plan["id"].as_str() else {
            return Err(CliError::new(Kind::Internal, "rehearsal", "the lab's plan has no id"));
        };
        finish(&mut volutus(&["approve", id]), "approve the lab's plan")?;
        finish(&mut volutus(&["run", id]), "upgrade the lab")
    }

    /// Where the lab's cloud description is.
    fn cloud(&self) -> Result<PathBuf> {
        let output = Command::new(&self.program)
            .args(["env", "--name", NAME])
            .output()
            .map_err(|error| broken("ask for the lab's cloud description", &error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let path = text.lines().find_map(|line| line.strip_prefix("export VOLUTUS_CLOUD="));
        path.map(PathBuf::from).ok_or_else(|| {
            CliError::new(
                Kind::Internal,
                "rehearsal",
                format!("{LAB} env --name {NAME} names no cloud description"),
            )
        })
    }

    fn say(&self, words: &[&str]) -> Result<()> {
        let what = format!("{LAB} {}", words.join(" "));
        finish(Command::new(&self.program).args(words), &what)
    }
}

fn finish(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().map_err(|error| broken(what, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::new(
        Kind::Blocked,
        "rehearsal-ended-badly",
        format!("could not {what}: it ended with {status}; what it said is above"),
    )
    .hint("What goes wrong in the lab is likely to go wrong in the cloud. --keep leaves the lab to be looked at."))
}

fn broken(what: &str, error: &dyn std::error::Error) -> CliError {
    CliError::new(Kind::Internal, "rehearsal", format!("could not {what}")).because(error)
}

/// The lab's program: named by `VOLUTUS_LAB`, else beside this one, else in the path.
fn lab_program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("VOLUTUS_LAB") {
        return Ok(named.into());
    }
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(|folder| folder.join(LAB)));
    let in_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join(LAB));
    beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
        CliError::refused("no-lab", format!("the program {LAB} is neither beside this one nor in the path"))
            .hint(format!("Install {LAB}, or name it in VOLUTUS_LAB."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_cloud_is_scaled_down_and_a_small_one_kept() {
        let shape = |controllers, computes, zones| Shape::of(&Counts { controllers, computes, zones });
        assert_eq!(shape(5, 995, 3), Shape { controllers: 3, computes: 6, zones: 3 });
        assert_eq!(shape(2, 4, 1), Shape { controllers: 2, computes: 4, zones: 1 });
        assert_eq!(shape(1, 1, 1), Shape { controllers: 2, computes: 1, zones: 1 });
        assert_eq!(shape(3, 40, 9), Shape { controllers: 3, computes: 6, zones: 6 });
    }

    #[test]
    fn hosts_are_counted_by_what_runs_on_them() {
        let catalog = Catalog::builtin().unwrap();
        let (inventory, _) = volutus_planner::described::cloud(100);
        let counts = counts(&inventory, &catalog);
        // One host more holds the load balancer and the database.
        assert_eq!(counts, Counts { controllers: 3, computes: 96, zones: 3 });
    }
}

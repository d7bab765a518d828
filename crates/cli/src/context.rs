//! What every command starts from: the cloud description, the policy, the catalog, the store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use volutus_catalog::Catalog;
use volutus_drivers::CloudDriver;
use volutus_model::event::Actor;
use volutus_model::fleet::RebootPolicy;
use volutus_model::inventory;
use volutus_model::{HostName, Inventory, Observation, Policy};
use volutus_store::Store;

use crate::args::Cli;
use crate::error::{CliError, Kind, Result};

/// What every command starts from.
#[derive(Clone)]
pub struct Context {
    /// Where the cloud description is.
    pub cloud_file: PathBuf,
    /// The cloud description.
    pub inventory: Arc<Inventory>,
    /// The limits.
    pub policy: Policy,
    /// The limits of a reboot, from the same file.
    pub reboot: RebootPolicy,
    /// What is known of OpenStack.
    pub catalog: Arc<Catalog>,
    /// Whether to print lines instead of a live display.
    pub no_progress: bool,
    /// The file that says who is told of runs, where one is named.
    pub notices: Option<PathBuf>,
    state: PathBuf,
}

impl Context {
    /// Reads what the command line names.
    pub fn load(cli: &Cli) -> Result<Self> {
        let text = std::fs::read_to_string(&cli.cloud).map_err(|error| {
            CliError::refused(
                "no-cloud-description",
                format!("could not read the cloud description {}", cli.cloud.display()),
            )
            .because(&error)
            .hint(
                "Name it with --cloud FILE or VOLUTUS_CLOUD, or write one with `volutus init`. The lab \
                 prints the path of its own with `volutus-lab env`.",
            )
        })?;
        let inventory = Inventory::parse(&text).map_err(|error| {
            let file = cli.cloud.display();
            let message = match &error {
                inventory::Error::Syntax { .. } => format!("{file}, {error}"),
                inventory::Error::Contradiction(_) => {
                    format!("{file} contradicts itself: {error}")
                }
            };
            CliError::refused("malformed-cloud-description", message)
                .hint("docs/reference/cloud-toml.md shows every key.")
        })?;
        let policy = match &cli.policy {
            None => Policy::of_no_file(),
            Some(path) => read_policy(path)?,
        };
        let reboot = read_reboot_policy(cli.policy.as_deref())?;
        let catalog = Catalog::builtin().map_err(|error| {
            CliError::new(Kind::Internal, "catalog", "the built-in catalog does not load").because(&error)
        })?;
        let base = cli.cloud.parent().unwrap_or(Path::new("")).to_owned();
        let state = cli.state.clone().unwrap_or_else(|| base.join(".volutus"));
        Ok(Self {
            cloud_file: cli.cloud.clone(),
            inventory: Arc::new(inventory),
            policy,
            reboot,
            catalog: Arc::new(catalog),
            no_progress: cli.no_progress,
            notices: cli.notices.clone(),
            state,
        })
    }

    /// The folder of the cloud description, which its paths are relative to.
    pub fn base(&self) -> &Path {
        match self.cloud_file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// The same without these hosts, as if they were not described.
    pub fn without(&self, hosts: &BTreeSet<HostName>) -> Self {
        let mut inventory = (*self.inventory).clone();
        inventory.hosts.retain(|host| !hosts.contains(&host.name));
        Self { inventory: Arc::new(inventory), ..self.clone() }
    }

    /// The same with other limits of an upgrade.
    pub fn with_policy(&self, policy: &Policy) -> Self {
        Self { policy: policy.clone(), ..self.clone() }
    }

    /// Where a server that keeps the cloud leaves a link to its socket.
    pub fn server_link(&self) -> PathBuf {
        self.state.join(format!("server-{}.sock", self.inventory.name))
    }

    /// What a server that keeps the cloud holds locked.
    pub fn server_lock(&self) -> PathBuf {
        self.state.join(format!("server-{}.lock", self.inventory.name))
    }

    /// Opens the store, made where it does not exist.
    pub fn store(&self) -> Result<Store> {
        Store::open(&self.state).map_err(|error| {
            let message = format!("could not open the state directory {}", self.state.display());
            CliError::new(Kind::Internal, "store", message)
                .because(&error)
                .hint("Name another with --state DIR; it needs to be writable and on a disk with space.")
        })
    }

    /// Connects nothing yet, but checks that everything that connecting needs is there.
    pub fn driver(&self) -> Result<CloudDriver> {
        let catalog = self.catalog.clone();
        CloudDriver::connect(self.inventory.clone(), self.base(), &self.state, catalog).map_err(|error| {
            CliError::new(
                Kind::Cloud,
                "cannot-connect",
                format!("could not prepare to reach cloud {}", self.inventory.name),
            )
            .because(&error)
        })
    }

    /// Looks at the cloud.
    pub async fn observe(&self, driver: &CloudDriver) -> Result<Observation> {
        if !self.no_progress {
            tracing::info!("observing {} hosts", self.inventory.hosts.len());
        }
        Ok(driver.observe().await)
    }

    /// Who is at the keyboard: the login name, and the one behind sudo.
    pub fn actor() -> Actor {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Actor(
            variable("SUDO_USER")
                .or_else(|| variable("USER"))
                .or_else(|| variable("LOGNAME"))
                .unwrap_or_else(|| "root".to_owned()),
        )
    }

    /// Now. The command line is one of the few places that may ask.
    pub fn now() -> Timestamp {
        Timestamp::now()
    }
}

fn read_policy_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-policy", format!("could not read the policy {}", path.display()))
            .because(&error)
    })
}

/// Reads the table `[reboot]` of a policy file; the defaults where none is named.
pub fn read_reboot_policy(path: Option<&Path>) -> Result<RebootPolicy> {
    let Some(path) = path else { return Ok(RebootPolicy::default()) };
    RebootPolicy::parse(&read_policy_text(path)?).map_err(|error| {
        CliError::refused("malformed-policy", format!("{}, {error}", path.display()))
            .hint("docs/reference/reboot-policy.md lists every key.")
    })
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> Result<Policy> {
    let text = read_policy_text(path)?;
    Policy::parse(&text).map_err(|error| {
        CliError::refused("malformed-policy", format!("{}: {error}", path.display()))
            .hint("docs/operating/policy.md lists every key.")
    })
}

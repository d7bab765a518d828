//! The instances of a cloud as its administrator sees them: where they are, and how often they
//! were moved.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use volutus_model::Inventory;
use volutus_openstack::compute::ServerFilter;
use volutus_openstack::{Client, CloudConfig};

/// A request that is not answered for this long has failed.
const ANSWER: Duration = Duration::from_secs(60);
/// What the synthetic user's and the canaries' instances are called; they come and go.
const PASSING: [&str; 2] = ["volutus-canary-", "volutus-probe-"];

/// See the module.
#[derive(Debug)]
pub struct Guests {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Guests {
    /// Of the cloud that a description is of, with its operator's credentials.
    pub fn of(cloud: &Path) -> anyhow::Result<Self> {
        let inventory = Inventory::parse(&std::fs::read_to_string(cloud)?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", cloud.display()))?;
        let folder = cloud.parent().context("the cloud description has no folder")?;
        let clouds = inventory.credentials.clouds_yaml.as_ref().map(|file| folder.join(file));
        let config = CloudConfig::load(clouds.as_deref(), &inventory.credentials.operator)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client: Client::new(config, ANSWER)?, runtime })
    }

    /// Instances that run, and on which host each is.
    pub fn places(&self) -> anyhow::Result<BTreeMap<String, String>> {
        self.runtime.block_on(async {
            let servers = self.client.compute().servers_of_all(&ServerFilter::default()).await?;
            let lasting = servers.into_iter().filter(|server| {
                server.status == "ACTIVE" && !PASSING.iter().any(|name| server.name.starts_with(name))
            });
            Ok(lasting.map(|server| (server.id, server.host.unwrap_or_default())).collect())
        })
    }

    /// How often each of these instances was moved since it was created.
    pub fn moves(&self, instances: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, usize>> {
        self.runtime.block_on(async {
            let mut moves = BTreeMap::new();
            for id in instances.keys() {
                let actions = self.client.migration().actions(id).await?;
                let count = actions
                    .iter()
                    .filter(|action| matches!(action.action.as_str(), "live-migration" | "migrate"))
                    .count();
                moves.insert(id.clone(), count);
            }
            Ok(moves)
        })
    }
}

//! The instances of a cloud as its administrator sees them: where they are, and how often they
//! were moved.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use volutus_model::Inventory;
use volutus_model::inventory::ProberResources;
use volutus_openstack::compute::{Destination, NewServer, Server, ServerFilter};
use volutus_openstack::{Client, CloudConfig, Method, Request, ServiceType};

/// A request that is not answered for this long has failed.
const ANSWER: Duration = Duration::from_secs(60);
/// Hosts of instances, and policies of server groups, as they are written here.
const MICROVERSION: &str = "2.79";
/// Seconds that an instance may take to come or go: a busy machine needs a multiple of the usual ten.
const BOOT_LOOKS: u32 = 180;
/// What the synthetic user's and the canaries' instances are called; they come and go.
const PASSING: [&str; 2] = ["volutus-canary-", "volutus-probe-"];

/// See the module.
#[derive(Debug)]
pub struct Guests {
    client: Client,
    /// What instances are made of.
    resources: ProberResources,
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
        Ok(Self { client: Client::new(config, ANSWER)?, resources: inventory.prober, runtime })
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

    /// Boots an instance on a host, as a member of a server group where one is named; its id, once it is
    /// ACTIVE.
    pub fn boot_on(&self, host: &str, group: Option<&str>) -> anyhow::Result<String> {
        let id = self.runtime.block_on(self.create(host, group))?;
        for _ in 0..BOOT_LOOKS {
            let server = self.runtime.block_on(self.client.compute().server(&id))?;
            match server.context("the instance is gone")?.status.as_str() {
                "ACTIVE" => return Ok(id),
                "ERROR" => bail!("the instance on {host} is in state ERROR"),
                _ => std::thread::sleep(Duration::from_secs(1)),
            }
        }
        bail!("the instance on {host} does not become ACTIVE")
    }

    async fn create(&self, host: &str, group: Option<&str>) -> anyhow::Result<String> {
        let image = self.client.image().image(&self.resources.image).await?;
        let flavor = self.client.compute().flavor(&self.resources.flavor).await?;
        let server = NewServer {
            name: format!("drained-{host}"),
            image: image.id,
            flavor: flavor.id,
            attachments: Vec::new(),
            destination: Destination::Host(host.to_owned()),
        };
        let mut body = server.body();
        if let Some(group) = group {
            body["os:scheduler_hints"] = json!({"group": group});
        }
        let request = self.request(Method::POST, "/servers").json(body);
        let made: Value = self.client.request(&request).await?.expect_status(&[202])?.part("server")?;
        Ok(made["id"].as_str().context("the instance has no id")?.to_owned())
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, ServiceType::Compute, path).microversion(MICROVERSION)
    }

    /// Asks another service of the cloud as its administrator; the answer's body, null where it has none.
    ///
    /// # Errors
    /// Where the status of the answer is none of `codes`.
    pub fn ask(
        &self,
        method: Method,
        service: ServiceType,
        path: &str,
        body: Option<Value>,
        codes: &[u16],
    ) -> anyhow::Result<Value> {
        let request = Request::new(method, service, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.runtime.block_on(async {
            let answer = self.client.request(&request).await?.expect_status(codes)?;
            if answer.body.is_empty() { Ok(Value::Null) } else { Ok(answer.json()?) }
        })
    }

    /// An instance as nova tells it now.
    pub fn look(&self, id: &str) -> anyhow::Result<Server> {
        let server = self.runtime.block_on(self.client.compute().server(id))?;
        server.with_context(|| format!("instance {id} is gone"))
    }

    /// What was done to an instance, newest first.
    pub fn actions(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let actions = self.runtime.block_on(self.client.migration().actions(id))?;
        Ok(actions.into_iter().map(|action| action.action).collect())
    }

    /// What became of the newest live migration of an instance, in nova's word.
    pub fn last_live_migration(&self, id: &str) -> anyhow::Result<String> {
        let last = self.runtime.block_on(self.client.migration().last_live(id))?;
        Ok(last.with_context(|| format!("instance {id} was never migrated alive"))?.status)
    }

    /// Chooses for an instance what may be done with it, as its owner would.
    pub fn choose(&self, id: &str, choice: &str) -> anyhow::Result<()> {
        let body = json!({"metadata": {"volutus:maintenance": choice}});
        let request = self.request(Method::POST, &format!("/servers/{id}/metadata")).json(body);
        self.runtime.block_on(async { self.client.request(&request).await?.expect_status(&[200]) })?;
        Ok(())
    }

    /// Stops an instance, as its owner would.
    pub fn stop(&self, id: &str) -> anyhow::Result<()> {
        self.runtime.block_on(self.client.migration().stop(id))?;
        for _ in 0..BOOT_LOOKS {
            if self.look(id)?.status == "SHUTOFF" {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        bail!("instance {id} is not stopped")
    }

    /// Deletes an instance, and waits until it is gone.
    pub fn delete(&self, id: &str) -> anyhow::Result<()> {
        self.runtime.block_on(self.client.compute().delete_server(id))?;
        for _ in 0..BOOT_LOOKS {
            if self.runtime.block_on(self.client.compute().server(id))?.is_none() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        bail!("instance {id} is not deleted")
    }

    /// Makes a server group of which no two members may be on one host; its id.
    pub fn make_group(&self, name: &str) -> anyhow::Result<String> {
        let body = json!({"server_group": {"name": name, "policy": "anti-affinity"}});
        let request = self.request(Method::POST, "/os-server-groups").json(body);
        let made: Value = self.runtime.block_on(async {
            self.client.request(&request).await?.expect_status(&[200])?.part("server_group")
        })?;
        Ok(made["id"].as_str().context("the group has no id")?.to_owned())
    }

    /// Deletes a server group.
    pub fn delete_group(&self, id: &str) -> anyhow::Result<()> {
        let request = self.request(Method::DELETE, &format!("/os-server-groups/{id}"));
        self.runtime.block_on(async { self.client.request(&request).await?.expect_status(&[204]) })?;
        Ok(())
    }

    /// Disables the compute service of a host with a person's reason; enables it where none is given.
    pub fn disable(&self, host: &str, reason: Option<&str>) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let compute = self.client.compute();
            let services = compute.services(Some("nova-compute")).await?;
            let service = services.into_iter().find(|service| service.host == host);
            let id = service.with_context(|| format!("nova knows no {host}"))?.id;
            match reason {
                Some(reason) => compute.disable_service(&id, reason).await?,
                None => compute.enable_service(&id).await?,
            };
            Ok(())
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

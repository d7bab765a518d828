//! What a user makes while an upgrade runs, and what has to be there and work when it has been
//! taken back: an instance with a port, a volume, an image, a token.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use volutus_model::Inventory;
use volutus_openstack::compute::{Attachment, Destination, NewServer};
use volutus_openstack::network::PortFilter;
use volutus_openstack::{Client, CloudConfig, Method, Request, ServiceType};

/// A request that is not answered for this long has failed.
const ANSWER: Duration = Duration::from_secs(60);
/// Time for an instance and a volume to be ready: seconds, minutes on a machine many times slower.
const READY: Duration = Duration::from_secs(180);

/// Objects of one user, by their ids.
#[derive(Debug)]
pub struct Witness {
    client: Client,
    runtime: tokio::runtime::Runtime,
    server: String,
    port: String,
    volume: String,
    image: String,
    name: String,
}

impl Witness {
    /// Makes the objects as the user of a cloud description's prober, and waits until they are
    /// ready.
    pub fn make(cloud: &Path, name: &str) -> anyhow::Result<Self> {
        let inventory = Inventory::parse(&std::fs::read_to_string(cloud)?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", cloud.display()))?;
        let folder = cloud.parent().context("the cloud description has no folder")?;
        let clouds = inventory.credentials.clouds_yaml.as_ref().map(|file| folder.join(file));
        let config = CloudConfig::load(clouds.as_deref(), &inventory.credentials.prober)?;
        let client = Client::new(config, ANSWER)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resources = inventory.prober;
        let (server, port, volume, image) = runtime.block_on(async {
            let image = client.image().image(&resources.image).await?.id;
            let flavor = client.compute().flavor(&resources.flavor).await?.id;
            let network = client.network().network(&resources.network).await?.id;
            let body = serde_json::json!({
                "name": name, "disk_format": "raw", "container_format": "bare", "visibility": "private",
            });
            let kept = Request::new(Method::POST, ServiceType::Image, "/images").json(body);
            let answer = client.request(&kept).await?;
            let kept: serde_json::Value = serde_json::from_slice(&answer.expect_status(&[201])?.body)?;
            let kept = kept["id"].as_str().context("glance gave no id")?.to_owned();
            let volume = client.volume().create_volume(name, 1, resources.volume_type.as_deref()).await?.id;
            let wanted = NewServer {
                name: name.to_owned(),
                image,
                flavor,
                attachments: vec![Attachment::Network(network)],
                destination: Destination::Anywhere,
            };
            let server = client.compute().create_server(&wanted).await?.id;
            let port = until_ready(&client, &server, &volume).await?;
            anyhow::Ok((server, port, volume, kept))
        })?;
        Ok(Self { client, runtime, server, port, volume, image, name: name.to_owned() })
    }

    /// Fails unless everything is there as it was made, and the token that was issued then is
    /// still taken by every service.
    pub fn is_whole(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            // No request of this client renews the token: it is the one of the time of making.
            let held = self.client.held_token().await.context("there is no token")?;
            let server = self.client.compute().server(&self.server).await?;
            let server = server.with_context(|| format!("the instance of {} is gone", self.name))?;
            ensure!(server.status == "ACTIVE", "the instance of {} is {}", self.name, server.status);
            let filter = PortFilter { device_id: Some(self.server.clone()), ..PortFilter::default() };
            let ports = self.client.network().ports(&filter).await?;
            ensure!(
                ports.iter().any(|port| port.id == self.port && port.status == "ACTIVE"),
                "the port of {} is not as it was: {ports:?}",
                self.name
            );
            let volume = self.client.volume().volume(&self.volume).await?;
            ensure!(
                volume.as_ref().is_some_and(|volume| volume.status == "available"),
                "the volume of {} is not as it was: {volume:?}",
                self.name
            );
            let path = format!("/images/{}", self.image);
            let image = self.client.request(&Request::new(Method::GET, ServiceType::Image, path)).await?;
            image.expect_status(&[200])?;
            let now = self.client.held_token().await.context("there is no token")?;
            ensure!(std::sync::Arc::ptr_eq(&held, &now), "the token of {} had to be renewed", self.name);
            Ok(())
        })
    }

    /// Removes the objects.
    pub fn remove(self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            self.client.compute().delete_server(&self.server).await?;
            self.client.volume().delete_volume(&self.volume).await?;
            self.client.image().delete_image(&self.image).await?;
            Ok(())
        })
    }
}

/// Waits until the instance is ACTIVE and the volume available; the id of the instance's port.
async fn until_ready(client: &Client, server: &str, volume: &str) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        let instance = client.compute().server(server).await?.context("the instance is gone")?;
        let disk = client.volume().volume(volume).await?.context("the volume is gone")?;
        if instance.status == "ERROR" || disk.status == "error" {
            bail!("instance {} and volume {}", instance.status, disk.status);
        }
        let filter = PortFilter { device_id: Some(server.to_owned()), ..PortFilter::default() };
        let ports = client.network().ports(&filter).await?;
        let port = ports.into_iter().find(|port| port.status == "ACTIVE");
        if let (true, Some(port)) = (instance.status == "ACTIVE" && disk.status == "available", port) {
            return Ok(port.id);
        }
        if start.elapsed() > READY {
            bail!(
                "after {} s the instance is {} and the volume {}",
                READY.as_secs(),
                instance.status,
                disk.status
            );
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

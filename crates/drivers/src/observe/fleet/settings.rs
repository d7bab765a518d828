//! What nova on the described compute hosts does with live migrations that leave them. No API tells it:
//! their nova.conf is read, over ssh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use volutus_catalog::DaemonRole;
use volutus_model::fleet::MigrationSettings;
use volutus_model::name::HostName;

use crate::CloudDriver;
use crate::channel::Channel;

/// Hosts that are asked at once: each is an ssh process here.
const AT_ONCE: usize = 50;
/// How long one host may take in all, from the connection to its answer: reading a file takes no time,
/// connecting to a host that is busy some seconds.
const HOST_TIME: Duration = Duration::from_secs(20);
/// With more hosts than this their connections are closed again as soon as they have answered, so
/// that a large fleet does not mean as many processes here.
const KEPT_OPEN_MAX: usize = 100;

/// By host: its settings, or why they are not known.
pub(super) type Seen = BTreeMap<HostName, Result<MigrationSettings, String>>;

/// What one host answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Read { values: BTreeMap<String, String> },
    Unread { why: String },
}

/// One host to ask: its name, the unit of its nova-compute, and the files of its configuration.
type Asked = (HostName, String, Vec<String>);

/// Asks those of the hosts that the cloud description says to carry a compute daemon.
pub(super) async fn observe(cloud: &CloudDriver, hosts: &BTreeSet<HostName>) -> Seen {
    let known = cloud.catalog.daemons();
    let asked = cloud.inventory.daemons().filter_map(|(id, host, declared)| {
        let (service, facts) = known.get(&id.kind)?;
        let asks = facts.role == DaemonRole::Compute && hosts.contains(&host.name);
        asks.then(|| (host.name.clone(), declared.unit.clone(), cloud.config_files(service)))
    });
    let asked: Vec<Asked> = asked.collect();
    let close = asked.len() > KEPT_OPEN_MAX;
    let looks: Vec<_> = asked.into_iter().map(|one| look(cloud, one, close)).collect();
    futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
}

async fn look(
    cloud: &CloudDriver,
    (host, unit, files): Asked,
    close: bool,
) -> (HostName, Result<MigrationSettings, String>) {
    let seen = match tokio::time::timeout(HOST_TIME, ask(cloud, &host, &unit, &files)).await {
        Ok(seen) => seen,
        Err(_) => Err(format!("no answer within {} s", HOST_TIME.as_secs())),
    };
    if close {
        cloud.hosts.close(&host).await;
    }
    (host, seen)
}

async fn ask(
    cloud: &CloudDriver,
    host: &HostName,
    unit: &str,
    files: &[String],
) -> Result<MigrationSettings, String> {
    let mut channel = Channel::to_host(&cloud.hosts, host).await.map_err(|error| error.to_string())?;
    let question = json!({"unit": unit, "files": files, "names": MigrationSettings::OPTIONS});
    let answer = channel.ask("settings", question, HOST_TIME).await.map_err(|trouble| trouble.to_string())?;
    match answer {
        Answer::Read { values } => MigrationSettings::read(|name| values.get(name).map(String::as_str)),
        Answer::Unread { why } => Err(why),
    }
}

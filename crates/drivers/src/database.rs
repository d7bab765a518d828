//! Asks the services' own databases, through a host that carries the service.

use serde::Deserialize;
use serde_json::{Value, json};
use volutus_catalog::Service;
use volutus_model::name::HostName;
use volutus_model::observation::ServiceRecord;

use crate::CloudDriver;
use crate::channel::{ASK, Channel, Trouble};
use crate::ssh::Error;

/// Hosts that are tried one after another: three replicas are the usual number.
const TRIED_MAX: usize = 3;

/// What is under way around a compute host.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UnderWay {
    /// Instances of the host that are being changed: id, state and what is done.
    pub busy: Vec<String>,
    /// Ids of instances that no host has taken yet.
    pub unplaced: Vec<String>,
}

/// What a database program has to know of a service.
pub(crate) fn description(cloud: &CloudDriver, service: &Service) -> Value {
    let schemas: Vec<Value> = service
        .schemas
        .iter()
        .map(|schema| {
            json!({"name": schema.name, "connection": schema.connection,
                   "version_table": schema.version_table})
        })
        .collect();
    let pending: Vec<Value> = service
        .pending
        .iter()
        .map(|query| json!({"name": query.name, "schema": query.schema, "sql": query.sql}))
        .collect();
    json!({"config_files": cloud.config_files(service), "schemas": schemas, "pending": pending})
}

/// The hosts on which the databases of a service can be asked, with the Python to ask by: those
/// of its control plane, since only these have its credentials.
pub(crate) fn places(cloud: &CloudDriver, service: &Service) -> Vec<(HostName, String)> {
    let mut found: Vec<(HostName, String)> = Vec::new();
    for (id, host, _) in cloud.inventory.daemons() {
        let known = service.daemons.iter().find(|daemon| daemon.kind == id.kind);
        let central = known.is_some_and(|daemon| daemon.role.is_central());
        if central && !found.iter().any(|(name, _)| *name == host.name) {
            let link = cloud.inventory.releases.current_of(&service.name, &id.kind);
            found.push((host.name.clone(), format!("{link}/bin/python3")));
        }
    }
    found
}

/// Opens a conversation with the databases of a service.
pub(crate) async fn open(cloud: &CloudDriver, service: &Service) -> Result<Channel, Trouble> {
    let mut last = Error::Host {
        host: cloud.inventory.name.clone(),
        doing: format!("reach the databases of {}", service.name),
        seen: "no declared host carries its control plane".to_owned(),
    };
    for (host, python) in places(cloud, service).iter().take(TRIED_MAX) {
        match Channel::to_databases(&cloud.hosts, host, python).await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// The records of a binary on a host.
pub(crate) async fn records_of(
    channel: &mut Channel,
    cloud: &CloudDriver,
    service: &Service,
    binary: &str,
    host: &HostName,
) -> Result<Vec<ServiceRecord>, Trouble> {
    let question = json!({
        "service": service.name, "description": description(cloud, service),
        "binary": binary, "host": host,
    });
    channel.ask("records", question, ASK).await
}

/// What is under way around a compute host.
pub(crate) async fn under_way(
    channel: &mut Channel,
    cloud: &CloudDriver,
    nova: &Service,
    host: &HostName,
) -> Result<UnderWay, Trouble> {
    channel.ask("under_way", json!({"description": description(cloud, nova), "host": host}), ASK).await
}

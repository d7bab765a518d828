//! Asks what the control plane records and publishes: databases, load balancers, endpoints.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volutus_catalog::Service;
use volutus_model::name::{BackendName, HostName, ServiceName};
use volutus_model::observation::{BackendServer, EndpointObservation, Fact, ServiceRecord};
use volutus_openstack::ServiceType;
use volutus_openstack::compute::ServerFilter;

use crate::channel::{ASK, Channel, Trouble};
use crate::{CloudDriver, database, haproxy};

/// What is known to keep records of its daemons. Source: nova, cinder and neutron, the tables
/// `services`, `services` and `agents`.
const RECORD_KEEPERS: [&str; 3] = ["nova", "cinder", "neutron"];

/// What the databases say.
pub(super) struct Databases {
    pub schemas: BTreeMap<ServiceName, Fact<BTreeMap<String, Vec<String>>>>,
    pub records: BTreeMap<ServiceName, Fact<Vec<ServiceRecord>>>,
    pub pending: BTreeMap<ServiceName, Fact<BTreeMap<String, u64>>>,
    pub instances: Fact<BTreeMap<HostName, u64>>,
    pub vif_types: Fact<BTreeMap<String, u64>>,
}

/// The services of which daemons are declared, and which the catalog knows.
fn services(cloud: &CloudDriver) -> Vec<&Service> {
    let known = cloud.catalog.daemons();
    let mut found: BTreeMap<&ServiceName, &Service> = BTreeMap::new();
    for (id, _, _) in cloud.inventory.daemons() {
        if let Some((service, _)) = known.get(&id.kind) {
            found.insert(&service.name, service);
        }
    }
    found.into_values().collect()
}

pub(super) async fn observe_databases(cloud: &CloudDriver) -> Databases {
    let mut groups: BTreeMap<HostName, (String, Vec<&Service>)> = BTreeMap::new();
    let mut seen = Databases {
        instances: Fact::unobserved("no nova is declared"),
        vif_types: Fact::unobserved("no neutron is declared"),
        schemas: BTreeMap::new(),
        records: BTreeMap::new(),
        pending: BTreeMap::new(),
    };
    for service in services(cloud) {
        match database::places(cloud, service).into_iter().next() {
            // Services that share a host share one program there.
            Some((host, python)) => {
                groups.entry(host).or_insert_with(|| (python, Vec::new())).1.push(service);
            }
            None => unseen(&mut seen, service, "no declared host carries its control plane"),
        }
    }
    let looks = groups.into_iter().map(|(host, (python, services))| async move {
        let mut part = Vec::new();
        match Channel::to_databases(&cloud.hosts, &host, &python).await {
            Ok(mut channel) => {
                for service in services {
                    part.push((service, Ok(look(cloud, &mut channel, service).await)));
                }
            }
            Err(_) => {
                for service in services {
                    // Another host of the service may answer.
                    let look = match database::open(cloud, service).await {
                        Ok(mut channel) => Ok(look(cloud, &mut channel, service).await),
                        Err(trouble) => Err(trouble.to_string()),
                    };
                    part.push((service, look));
                }
            }
        }
        part
    });
    for (service, look) in futures::future::join_all(looks).await.into_iter().flatten() {
        match look {
            Ok(look) => take(&mut seen, service, look),
            Err(why) => unseen(&mut seen, service, &why),
        }
    }
    seen
}

/// What the databases of one service say.
struct Look {
    heads: Fact<BTreeMap<String, Vec<String>>>,
    records: Option<Fact<Vec<ServiceRecord>>>,
    pending: Option<Fact<BTreeMap<String, u64>>>,
    instances: Option<Fact<BTreeMap<HostName, u64>>>,
    vif_types: Option<Fact<BTreeMap<String, u64>>>,
}

fn take(seen: &mut Databases, service: &Service, look: Look) {
    seen.schemas.insert(service.name.clone(), look.heads);
    if let Some(records) = look.records {
        seen.records.insert(service.name.clone(), records);
    }
    if let Some(pending) = look.pending {
        seen.pending.insert(service.name.clone(), pending);
    }
    if let Some(instances) = look.instances {
        seen.instances = instances;
    }
    if let Some(vif_types) = look.vif_types {
        seen.vif_types = vif_types;
    }
}

fn unseen(seen: &mut Databases, service: &Service, why: &str) {
    let name = service.name.as_str();
    let look = Look {
        heads: Fact::unobserved(why),
        records: keeps_records(service).then(|| Fact::unobserved(why)),
        pending: (!service.pending.is_empty()).then(|| Fact::unobserved(why)),
        instances: (name == "nova").then(|| Fact::unobserved(why)),
        vif_types: (name == "neutron").then(|| Fact::unobserved(why)),
    };
    take(seen, service, look);
}

fn keeps_records(service: &Service) -> bool {
    RECORD_KEEPERS.contains(&service.name.as_str())
}

async fn look(cloud: &CloudDriver, channel: &mut Channel, service: &Service) -> Look {
    let description = database::description(cloud, service);
    let about = json!({"service": service.name, "description": description});
    let only = json!({"description": description});
    let name = service.name.as_str();
    let heads = fact(channel, "heads", about.clone()).await;
    let records = match keeps_records(service) {
        true => Some(fact(channel, "records", about.clone()).await),
        false => None,
    };
    let pending = match service.pending.is_empty() {
        true => None,
        false => Some(fact(channel, "pending", about).await),
    };
    let instances = match name {
        "nova" => Some(fact(channel, "instances", only.clone()).await),
        _ => None,
    };
    let vif_types = match name {
        "neutron" => Some(fact(channel, "vif_types", only).await),
        _ => None,
    };
    Look { heads, records, pending, instances, vif_types }
}

async fn fact<T: DeserializeOwned>(channel: &mut Channel, operation: &str, question: Value) -> Fact<T> {
    match channel.ask(operation, question, ASK).await {
        Ok(value) => Fact::observed(value, "the service's own database"),
        Err(trouble) => Fact::unobserved(trouble.to_string()),
    }
}

/// What the load balancers say of the declared backends.
pub(super) async fn observe_backends(cloud: &CloudDriver) -> BTreeMap<BackendName, Fact<Vec<BackendServer>>> {
    let mut found: BTreeMap<BackendName, Fact<Vec<BackendServer>>> = BTreeMap::new();
    let balancers = &cloud.inventory.load_balancers;
    let looks = balancers.iter().map(|balancer| haproxy::observe(cloud, balancer));
    let answers: Vec<Result<_, Trouble>> = futures::future::join_all(looks).await;
    let backends = cloud.inventory.daemons().flat_map(|(_, _, declared)| declared.backends.clone());
    for backend in backends {
        if found.contains_key(&backend) {
            continue;
        }
        let mut merged: BTreeMap<String, BackendServer> = BTreeMap::new();
        let mut trouble = balancers.is_empty().then(|| "no load balancer is declared".to_owned());
        for answer in &answers {
            match answer {
                Ok(servers) => {
                    for server in servers.iter().filter(|server| server.backend == backend.as_str()) {
                        merge(&mut merged, server);
                    }
                }
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        let fact = match trouble {
            Some(why) => Fact::unobserved(why),
            // A site may keep internal and external backends on load balancers of their own.
            None if merged.is_empty() => {
                Fact::unobserved(format!("no load balancer has a backend {backend}"))
            }
            None => Fact::observed(merged.into_values().collect(), "HAProxy's runtime API"),
        };
        found.insert(backend, fact);
    }
    found
}

/// A server that several load balancers know has the status of the one to which it is worst.
fn merge(merged: &mut BTreeMap<String, BackendServer>, server: &haproxy::Server) {
    let entry = merged.entry(server.name.clone()).or_insert_with(|| BackendServer {
        name: server.name.clone(),
        status: server.status.clone(),
        sessions: 0,
    });
    entry.sessions += server.sessions;
    if !server.serves() {
        entry.status.clone_from(&server.status);
    }
}

/// What the endpoints publish, through the load balancer as users see them.
pub(super) async fn observe_endpoints(
    cloud: &CloudDriver,
) -> BTreeMap<ServiceName, Fact<EndpointObservation>> {
    let looks = services(cloud).into_iter().map(|service| async move {
        let fact = match ServiceType::of_project(service.name.as_str()) {
            None => Fact::unobserved(format!("it is not known how to read the versions of {}", service.name)),
            Some(kind) => match cloud.operator.version_document(kind).await {
                Ok(document) => Fact::observed(
                    EndpointObservation {
                        url: document.url,
                        min_version: document.min_version,
                        max_version: document.max_version,
                    },
                    "the endpoint's version document",
                ),
                Err(error) => Fact::unobserved(error.to_string()),
            },
        };
        (service.name.clone(), fact)
    });
    futures::future::join_all(looks).await.into_iter().collect()
}

/// The instances that nova shows in status ERROR: what a run leaves there that was not there
/// before, it has harmed.
pub(super) async fn observe_instances_in_error(cloud: &CloudDriver) -> Fact<BTreeSet<String>> {
    let filter = ServerFilter { status: Some("ERROR".to_owned()), ..ServerFilter::default() };
    match cloud.operator.compute().servers_of_all(&filter).await {
        Ok(servers) => Fact::observed(
            servers.into_iter().map(|server| server.id).collect(),
            "GET /servers/detail?status=ERROR",
        ),
        Err(error) => Fact::unobserved(crate::ssh::describe(&error)),
    }
}

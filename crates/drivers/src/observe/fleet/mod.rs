//! Reads what the planner of reboots needs: hosts, instances, groups from nova, capacity and
//! allocations from placement, kinds of ports from neutron; and over ssh what nova.conf of the described
//! hosts says of live migrations. Only reads.

mod assemble;
pub(crate) mod instance;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use volutus_model::fleet::{Duties, Fleet};
use volutus_model::name::HostName;
use volutus_openstack::Error;
use volutus_openstack::compute::{Aggregate, FleetServer, Hypervisor, ServerGroup, Service, TopologyNode};
use volutus_openstack::network::PortKind;
use volutus_openstack::placement::{Allocation, Inventory, Provider};

use crate::CloudDriver;

/// Requests to placement or nova that are under way at once: 5,000 hosts are asked in minutes, and
/// an API with a few workers serves its users besides.
const AT_ONCE: usize = 16;

/// What placement says of one compute host, its own provider and those below it together.
#[derive(Debug, Clone, Default)]
struct Placed {
    /// Inventories of every provider of the tree.
    inventories: Vec<BTreeMap<String, Inventory>>,
    /// Traits of the provider at the top.
    traits: BTreeSet<String>,
    /// By consumer: what all providers of the tree give it.
    allocations: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What the APIs answered.
struct Answers {
    services: Vec<Service>,
    hypervisors: Vec<Hypervisor>,
    aggregates: Vec<Aggregate>,
    groups: Vec<ServerGroup>,
    servers: Vec<FleetServer>,
    /// By hypervisor: what placement says of it.
    placed: BTreeMap<String, Placed>,
    /// None where neutron did not tell.
    ports: Result<Vec<PortKind>, String>,
    /// What neutron's own agents have to do; none where neutron did not tell.
    duties: Result<BTreeMap<HostName, Duties>, String>,
    /// By instance: its cells, of those that may be pinned.
    topologies: BTreeMap<String, Vec<TopologyNode>>,
    /// By described host.
    settings: settings::Seen,
}

/// A record of nova-compute, as nova has it.
pub type ComputeRecord = Service;

impl CloudDriver {
    /// The records of all compute services, by host.
    ///
    /// # Errors
    /// Where nova does not answer.
    pub async fn observe_computes(&self) -> Result<Vec<ComputeRecord>, Error> {
        let mut records = self.operator.compute().services(Some("nova-compute")).await?;
        records.retain(|record| record.host != volutus_model::observation::ANCHOR_HOST);
        records.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(records)
    }

    /// How many instances are on every compute host, whatever their state.
    ///
    /// # Errors
    /// Where nova does not answer.
    pub async fn observe_instance_counts(&self) -> Result<BTreeMap<String, usize>, Error> {
        let mut counts = BTreeMap::new();
        for server in self.operator.compute().fleet_servers(None).await? {
            if let Some(host) = server.host {
                *counts.entry(host).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// What neutron's own agents have to do, by host. A cloud without such agents has none.
    ///
    /// # Errors
    /// Where neutron does not answer.
    pub async fn observe_duties(&self) -> Result<BTreeMap<HostName, Duties>, Error> {
        crate::agents::observe(self.operator.network()).await
    }

    /// Looks at all compute hosts and instances of the cloud. What could not be seen of one host or
    /// instance is among [`Fleet::unseen`].
    ///
    /// # Errors
    /// Where nova or placement does not answer: half a fleet is no basis for a plan.
    pub async fn observe_fleet(&self) -> Result<Fleet, Error> {
        let compute = self.operator.compute();
        // Placement's allocations are read after nova's instances: a move that ends in between then
        // shows as an allocation too many, never as room that is not there.
        let described = self.inventory.hosts.iter().map(|host| host.name.clone()).collect();
        let (services, hypervisors, aggregates, groups, servers, ports, duties, settings) = futures::join!(
            self.observe_computes(),
            compute.hypervisors(),
            compute.aggregates(),
            compute.server_groups_of_all(),
            compute.fleet_servers(None),
            self.operator.network().port_kinds(),
            self.observe_duties(),
            settings::observe(self, &described),
        );
        let hypervisors = hypervisors?;
        let servers = servers?;
        let placed = self.observe_placement(&hypervisors).await?;
        let pinned = servers.iter().filter(|server| instance::may_be_pinned(server));
        let asks: Vec<_> =
            pinned
                .map(|server| async move {
                    Ok::<_, Error>((server.id.clone(), compute.topology(&server.id).await?))
                })
                .collect();
        let topologies = futures::stream::iter(asks).buffer_unordered(AT_ONCE).try_collect().await?;
        let answers = Answers {
            services: services?,
            hypervisors,
            aggregates: aggregates?,
            groups: groups?,
            servers,
            placed,
            ports: ports.map_err(|error| crate::ssh::describe(&error)),
            duties: duties.map_err(|error| crate::ssh::describe(&error)),
            topologies,
            settings,
        };
        Ok(assemble::fleet(&self.inventory, &answers))
    }

    async fn observe_placement(&self, hypervisors: &[Hypervisor]) -> Result<BTreeMap<String, Placed>, Error> {
        let placement = self.operator.placement();
        let mut trees: BTreeMap<String, Vec<Provider>> = BTreeMap::new();
        for provider in placement.providers().await? {
            trees.entry(provider.root_provider_uuid.clone()).or_default().push(provider);
        }
        let looks = hypervisors.iter().filter_map(|hypervisor| {
            let tree = trees.remove(&hypervisor.id)?;
            Some(async move {
                let mut placed = Placed::default();
                for provider in tree {
                    placed.inventories.push(placement.inventories(&provider.uuid).await?);
                    if provider.uuid == hypervisor.id {
                        placed.traits = placement.traits(&provider.uuid).await?;
                    }
                    for (consumer, allocation) in placement.allocations(&provider.uuid).await? {
                        add(placed.allocations.entry(consumer).or_default(), &allocation);
                    }
                }
                Ok::<_, Error>((hypervisor.id.clone(), placed))
            })
        });
        let looks: Vec<_> = looks.collect();
        futures::stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await
    }
}

fn add(sum: &mut BTreeMap<String, u64>, allocation: &Allocation) {
    for (class, amount) in &allocation.resources {
        *sum.entry(class.clone()).or_default() += amount;
    }
}

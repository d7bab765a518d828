//! Looks at everything and changes nothing. What cannot be seen is said to be unseen, with the
//! reason.

mod control;
pub(crate) mod fleet;
mod hosts;

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_model::Observation;

pub use fleet::ComputeRecord;

use crate::CloudDriver;

impl CloudDriver {
    /// Looks at the whole cloud: hosts and what runs on them, schemas and service records, load
    /// balancers and endpoints. Takes as long as the slowest host, bounded per host.
    pub async fn observe(&self) -> Observation {
        let at = Timestamp::now();
        let (hosts, databases, backends, endpoints, instances_in_error) = futures::join!(
            hosts::observe(self),
            control::observe_databases(self),
            control::observe_backends(self),
            control::observe_endpoints(self),
            control::observe_instances_in_error(self),
        );
        let mut observation = Observation {
            at,
            inventory: self.inventory.digest(),
            hosts: BTreeMap::new(),
            daemons: BTreeMap::new(),
            schemas: databases.schemas,
            backends,
            records: databases.records,
            instances: databases.instances,
            instances_in_error,
            vif_types: databases.vif_types,
            pending_migrations: databases.pending,
            endpoints,
            environments: BTreeMap::new(),
        };
        for seen in hosts {
            observation.daemons.extend(seen.daemons);
            observation.hosts.insert(seen.host, seen.report);
            observation.environments.extend(seen.environments);
        }
        observation
    }
}

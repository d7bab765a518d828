//! From group names to daemons.
//!
//! Sources: kolla-ansible `ansible/inventory/multinode` (groups `keystone`, `nova-conductor`, ...)
//! and its `kolla-<container>-container.service` units; OpenStack-Ansible
//! `inventory/group_vars` and `env.d` (groups `keystone_all`, `nova_conductor`, ...), whose
//! units carry the daemons' names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs};

use serde_json::Value;
use volutus_model::inventory::{
    Credentials, Database, DatabaseEngine, FORMAT, LoadBalancer, LoadBalancerKind, ProberResources,
    ReleaseMethod, Releases, Role, Ssh,
};
use volutus_model::name::{DaemonKind, HostName};
use volutus_model::{DaemonDeclaration, HostDeclaration, Inventory};

use super::{Error, Groups, Imported};

struct Known {
    kind: &'static str,
    port: Option<u16>,
    /// The backend's name without the tool's prefix or suffix; empty for daemons without one.
    service: &'static str,
    kolla_group: &'static str,
    kolla_container: &'static str,
    osa_group: &'static str,
    osa_unit: &'static str,
}

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    Known { kind: "keystone-api", port: Some(5000), service: "keystone", kolla_group: "keystone", kolla_container: "keystone", osa_group: "keystone_all", osa_unit: "keystone-wsgi-public" },
    Known { kind: "glance-api", port: Some(9292), service: "glance_api", kolla_group: "glance-api", kolla_container: "glance_api", osa_group: "glance_api", osa_unit: "glance-api" },
    Known { kind: "placement-api", port: Some(8780), service: "placement_api", kolla_group: "placement-api", kolla_container: "placement_api", osa_group: "placement_all", osa_unit: "placement-api" },
    Known { kind: "nova-api", port: Some(8774), service: "nova_api", kolla_group: "nova-api", kolla_container: "nova_api", osa_group: "nova_api_os_compute", osa_unit: "nova-api-os-compute" },
    Known { kind: "nova-metadata", port: Some(8775), service: "nova_metadata", kolla_group: "nova-metadata", kolla_container: "nova_metadata", osa_group: "nova_api_metadata", osa_unit: "nova-api-metadata" },
    Known { kind: "nova-conductor", port: None, service: "", kolla_group: "nova-conductor", kolla_container: "nova_conductor", osa_group: "nova_conductor", osa_unit: "nova-conductor" },
    Known { kind: "nova-scheduler", port: None, service: "", kolla_group: "nova-scheduler", kolla_container: "nova_scheduler", osa_group: "nova_scheduler", osa_unit: "nova-scheduler" },
    Known { kind: "nova-compute", port: None, service: "", kolla_group: "compute", kolla_container: "nova_compute", osa_group: "nova_compute", osa_unit: "nova-compute" },
    Known { kind: "neutron-api", port: Some(9696), service: "neutron_server", kolla_group: "neutron-server", kolla_container: "neutron_server", osa_group: "neutron_server", osa_unit: "neutron-server" },
    Known { kind: "neutron-rpc-server", port: None, service: "", kolla_group: "neutron-rpc-server", kolla_container: "neutron_rpc_server", osa_group: "neutron_server", osa_unit: "neutron-rpc-server" },
    Known { kind: "neutron-periodic-workers", port: None, service: "", kolla_group: "neutron-periodic-workers", kolla_container: "neutron_periodic_workers", osa_group: "neutron_server", osa_unit: "neutron-periodic-workers" },
    Known { kind: "cinder-api", port: Some(8776), service: "cinder_api", kolla_group: "cinder-api", kolla_container: "cinder_api", osa_group: "cinder_api", osa_unit: "cinder-api" },
    Known { kind: "cinder-scheduler", port: None, service: "", kolla_group: "cinder-scheduler", kolla_container: "cinder_scheduler", osa_group: "cinder_scheduler", osa_unit: "cinder-scheduler" },
    Known { kind: "cinder-volume", port: None, service: "", kolla_group: "cinder-volume", kolla_container: "cinder_volume", osa_group: "cinder_volume", osa_unit: "cinder-volume" },
    Known { kind: "cinder-backup", port: None, service: "", kolla_group: "cinder-backup", kolla_container: "cinder_backup", osa_group: "cinder_backup", osa_unit: "cinder-backup" },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Kolla,
    OpenStackAnsible,
}

impl Tool {
    fn group(self, known: &Known) -> &'static str {
        match self {
            Self::Kolla => known.kolla_group,
            Self::OpenStackAnsible => known.osa_group,
        }
    }

    fn declaration(self, known: &Known) -> Option<DaemonDeclaration> {
        let unit = match self {
            Self::Kolla => format!("kolla-{}-container.service", known.kolla_container),
            Self::OpenStackAnsible => format!("{}.service", known.osa_unit),
        };
        let backends = match (known.service, self) {
            ("", _) => Vec::new(),
            // kolla-ansible has one backend for the internal and one for the external address.
            (service, Self::Kolla) => [format!("{service}_back"), format!("{service}_external_back")]
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            (service, Self::OpenStackAnsible) => vec![format!("{service}-back").parse().ok()?],
        };
        Some(DaemonDeclaration {
            kind: DaemonKind::new(known.kind).ok()?,
            unit,
            port: known.port,
            backends,
            server: None,
        })
    }
}

/// Turns groups into a description.
pub(super) fn describe(groups: &Groups, cloud_name: &str) -> Result<Imported, Error> {
    let tool = detect(groups)?;
    let mut notes = Vec::new();
    let mut roles = Vec::new();
    let mut roles_of: BTreeMap<&str, Vec<HostName>> = BTreeMap::new();
    for known in KNOWN {
        let members = groups.members(tool.group(known));
        if members.is_empty() {
            continue;
        }
        let role = HostName::new(known.kind).map_err(|e| Error::Incomplete(e.to_string()))?;
        let daemon = tool
            .declaration(known)
            .ok_or_else(|| Error::Incomplete(format!("{} has no valid name", known.kind)))?;
        roles.push(Role { name: role.clone(), daemons: vec![daemon] });
        for host in members {
            roles_of.entry(host).or_default().push(role.clone());
        }
    }
    let (balancers, databases) = infrastructure(groups, tool)?;
    let mut names: BTreeSet<&str> = roles_of.keys().copied().collect();
    names.extend(balancers.iter().map(|lb| lb.host.as_str()));
    names.extend(databases.iter().map(|db| db.host.as_str()));
    let hosts = names
        .iter()
        .map(|name| host(groups, name, roles_of.get(name).cloned().unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?;
    let user = names
        .iter()
        .find_map(|name| groups.variable(name, "ansible_user").and_then(Value::as_str))
        .unwrap_or("root");
    if balancers.is_empty() {
        notes.push(
            "No load balancer group has hosts: add [[load_balancer]], without which no API can be \
             drained."
                .to_owned(),
        );
    }
    notes.push(
        "Check [credentials], [prober], [releases] and every `backend` against the site: an \
         inventory does not tell them."
            .to_owned(),
    );
    if tool == Tool::Kolla {
        notes.push(
            "kolla-ansible runs daemons in containers. This version of Volutus switches releases \
             of virtual environments only (`releases.method = \"venv\"`): observing works by \
             units, a run does not."
                .to_owned(),
        );
    }
    let name = HostName::new(cloud_name).map_err(|e| Error::Incomplete(e.to_string()))?;
    let inventory = Inventory {
        format: FORMAT,
        name,
        credentials: Credentials {
            clouds_yaml: None,
            operator: format!("{cloud_name}-admin"),
            prober: format!("{cloud_name}-prober"),
        },
        ssh: Ssh {
            user: user.to_owned(),
            port: None,
            identity_file: None,
            known_hosts: None,
            config_file: None,
        },
        releases: releases(tool),
        prober: ProberResources {
            image: "probe-image".to_owned(),
            flavor: "probe.nano".to_owned(),
            network: "probe-net".to_owned(),
            volume_type: None,
            requests_per_s: None,
        },
        reach: Vec::new(),
        ovn: None,
        services: BTreeMap::new(),
        load_balancers: balancers,
        databases,
        roles,
        hosts,
    };
    Ok(Imported { inventory, notes })
}

fn detect(groups: &Groups) -> Result<Tool, Error> {
    let count =
        |tool: Tool| KNOWN.iter().filter(|known| !groups.members(tool.group(known)).is_empty()).count();
    let (kolla, osa) = (count(Tool::Kolla), count(Tool::OpenStackAnsible));
    if kolla == 0 && osa == 0 {
        return Err(Error::Incomplete(
            "no group of kolla-ansible (keystone, nova-api, compute, ...) or OpenStack-Ansible \
             (keystone_all, nova_api_os_compute, nova_compute, ...) has hosts in this inventory"
                .to_owned(),
        ));
    }
    Ok(if kolla >= osa { Tool::Kolla } else { Tool::OpenStackAnsible })
}

fn infrastructure(groups: &Groups, tool: Tool) -> Result<(Vec<LoadBalancer>, Vec<Database>), Error> {
    let (balancer_groups, database_groups, socket): (&[&str], &[&str], &str) = match tool {
        Tool::Kolla => (&["haproxy", "loadbalancer"], &["mariadb"], "/var/lib/kolla/haproxy/haproxy.sock"),
        Tool::OpenStackAnsible => {
            (&["haproxy", "haproxy_all"], &["galera", "galera_all"], "/var/run/haproxy.stat")
        }
    };
    let first = |names: &[&str]| {
        names
            .iter()
            .map(|group| groups.members(group))
            .find(|members| !members.is_empty())
            .unwrap_or_default()
            .into_iter()
            .map(|host| HostName::new(host).map_err(|e| Error::Incomplete(e.to_string())))
            .collect::<Result<Vec<_>, _>>()
    };
    let balancers = first(balancer_groups)?
        .into_iter()
        .map(|host| LoadBalancer { kind: LoadBalancerKind::Haproxy, host, socket: socket.to_owned() })
        .collect();
    let databases = first(database_groups)?
        .into_iter()
        .map(|host| Database { engine: DatabaseEngine::Mariadb, host, snapshot_key_file: None })
        .collect();
    Ok((balancers, databases))
}

fn host(groups: &Groups, name: &str, roles: Vec<HostName>) -> Result<HostDeclaration, Error> {
    let declared = groups
        .variable(name, "ansible_host")
        .or_else(|| groups.variable(name, "ansible_ssh_host"))
        .and_then(Value::as_str)
        .unwrap_or(name);
    let address = declared
        .parse::<IpAddr>()
        .ok()
        .or_else(|| (declared, 22).to_socket_addrs().ok()?.next().map(|found| found.ip()))
        .ok_or_else(|| {
            Error::Incomplete(format!(
                "host `{name}` has no address: `{declared}` is not one and does not resolve; give it \
                 ansible_host=ADDRESS in the inventory"
            ))
        })?;
    let zone = ["availability_zone", "zone", "rack"]
        .iter()
        .find_map(|variable| groups.variable(name, variable).and_then(Value::as_str))
        .map(str::to_owned);
    Ok(HostDeclaration {
        name: HostName::new(name).map_err(|e| Error::Incomplete(e.to_string()))?,
        address,
        zone,
        roles,
    })
}

fn releases(tool: Tool) -> Releases {
    let (path, current) = match tool {
        Tool::Kolla => ("/opt/openstack/{series}", "/opt/openstack/current/{daemon}"),
        Tool::OpenStackAnsible => {
            ("/openstack/venvs/{service}-{series}", "/openstack/venvs/current-{daemon}")
        }
    };
    Releases {
        method: ReleaseMethod::Venv,
        path: path.to_owned(),
        current: current.to_owned(),
        stage: vec!["/usr/local/sbin/stage-openstack-release".to_owned(), "{series}".to_owned()],
        stage_patched: None,
    }
}

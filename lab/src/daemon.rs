//! The OpenStack daemons that a lab runs, and how each is started.

/// How a daemon is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Under uWSGI, behind HAProxy.
    Wsgi {
        /// Python module that holds `application`. These modules exist in every series that the
        /// lab knows, while the WSGI scripts disappeared between 2025.2 and 2026.1.
        module: &'static str,
        /// TCP port.
        port: u16,
        /// Threads of the one worker process.
        threads: u8,
        /// Name of the HAProxy backend.
        backend: &'static str,
        /// Path that tells HAProxy whether the daemon serves.
        health: &'static str,
    },
    /// A program of the release, with these arguments.
    Program(&'static [&'static str]),
}

/// One kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemon {
    /// Kind, which is also the name of its systemd unit and of its link to a release.
    pub kind: &'static str,
    /// OpenStack service that it belongs to.
    pub service: &'static str,
    /// How it is started.
    pub start: Start,
}

impl Daemon {
    /// Name of the systemd unit.
    pub fn unit(&self) -> String {
        format!("{}.service", self.kind)
    }

    /// Name of the daemon's HAProxy backend, if it has one.
    pub fn backend(&self) -> Option<&'static str> {
        match self.start {
            Start::Wsgi { backend, .. } => Some(backend),
            Start::Program(_) => None,
        }
    }
}

const fn wsgi(
    kind: &'static str,
    service: &'static str,
    module: &'static str,
    port: u16,
    backend: &'static str,
    health: &'static str,
) -> Daemon {
    // nova's API spends the most time waiting for others, the metadata API has no clients here.
    let threads = match kind.as_bytes() {
        b"nova-api" => 8,
        b"nova-metadata" => 2,
        _ => 4,
    };
    Daemon { kind, service, start: Start::Wsgi { module, port, threads, backend, health } }
}

const fn program(kind: &'static str, service: &'static str, args: &'static [&'static str]) -> Daemon {
    Daemon { kind, service, start: Start::Program(args) }
}

const NEUTRON_ARGS: &[&str] =
    &["--config-file", "/etc/neutron/neutron.conf", "--config-file", "/etc/neutron/plugins/ml2/ml2_conf.ini"];

/// Daemons of a controller, in the order in which they are useful.
pub const CONTROLLER: &[Daemon] = &[
    wsgi("keystone-api", "keystone", "keystone.wsgi.api:application", 5000, "keystone", "/v3"),
    wsgi("placement-api", "placement", "placement.wsgi.api:application", 8778, "placement", "/"),
    wsgi("glance-api", "glance", "glance.wsgi.api:application", 9292, "glance", "/healthcheck"),
    wsgi("neutron-api", "neutron", "neutron.wsgi.api:application", 9696, "neutron", "/"),
    wsgi("nova-api", "nova", "nova.wsgi.osapi_compute:application", 8774, "nova", "/"),
    wsgi("nova-metadata", "nova", "nova.wsgi.metadata:application", 8775, "nova-metadata", "/"),
    wsgi("cinder-api", "cinder", "cinder.wsgi.api:application", 8776, "cinder", "/"),
    program("nova-conductor", "nova", &[]),
    program("nova-scheduler", "nova", &[]),
    program("neutron-rpc-server", "neutron", NEUTRON_ARGS),
    program("neutron-periodic-workers", "neutron", NEUTRON_ARGS),
    program("cinder-scheduler", "cinder", &[]),
    program("cinder-volume", "cinder", &[]),
];

/// Daemons of a compute.
pub const COMPUTE: &[Daemon] = &[program("nova-compute", "nova", &[])];

const fn agent(kind: &'static str, config: &'static [&'static str]) -> Daemon {
    program(kind, "neutron", config)
}

/// neutron's own agents of a host in a lab with ML2/OVS; the first one wires ports.
pub const AGENTS: &[Daemon] = &[
    agent(
        "neutron-openvswitch-agent",
        &[
            "--config-file",
            "/etc/neutron/neutron.conf",
            "--config-file",
            "/etc/neutron/plugins/ml2/openvswitch_agent.ini",
        ],
    ),
    agent(
        "neutron-dhcp-agent",
        &["--config-file", "/etc/neutron/neutron.conf", "--config-file", "/etc/neutron/dhcp_agent.ini"],
    ),
    agent(
        "neutron-l3-agent",
        &["--config-file", "/etc/neutron/neutron.conf", "--config-file", "/etc/neutron/l3_agent.ini"],
    ),
];

/// The six services with their configuration files, in the order in which they depend on each
/// other.
pub const SERVICES: &[(&str, &[&str])] = &[
    ("keystone", &["/etc/keystone/keystone.conf"]),
    ("glance", &["/etc/glance/glance-api.conf"]),
    ("placement", &["/etc/placement/placement.conf"]),
    ("nova", &["/etc/nova/nova.conf"]),
    ("neutron", &["/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"]),
    ("cinder", &["/etc/cinder/cinder.conf"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn kinds_and_ports_are_unique() {
        let all: Vec<_> = CONTROLLER.iter().chain(COMPUTE).chain(AGENTS).collect();
        let kinds: BTreeSet<_> = all.iter().map(|daemon| daemon.kind).collect();
        assert_eq!(kinds.len(), all.len());
        let ports: Vec<_> = all
            .iter()
            .filter_map(|daemon| match daemon.start {
                Start::Wsgi { port, .. } => Some(port),
                Start::Program(_) => None,
            })
            .collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    }

    #[test]
    fn every_daemon_belongs_to_a_known_service() {
        for daemon in CONTROLLER.iter().chain(COMPUTE).chain(AGENTS) {
            assert!(SERVICES.iter().any(|(service, _)| *service == daemon.service));
        }
    }
}

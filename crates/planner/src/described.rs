//! A described cloud of any size, for benchmarks and tests: nothing of it exists.
//!
//! Shape: one infrastructure host, three controllers (five from a thousand hosts on), and
//! computes in three zones. All daemons run 2025.2 as Volutus's own lab lays them out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use volutus_model::name::{BackendName, PackageVersion, ServiceName};
use volutus_model::observation::{
    BackendServer, DaemonObservation, EndpointObservation, HostObservation, ServiceRecord,
};
use volutus_model::{Fact, HostName, Inventory, Observation, Series};

/// The APIs of a controller: kind, port, backend.
const APIS: [(&str, u16, &str); 7] = [
    ("keystone-api", 5000, "keystone"),
    ("glance-api", 9292, "glance"),
    ("placement-api", 8778, "placement"),
    ("nova-api", 8774, "nova"),
    ("nova-metadata", 8775, "nova-metadata"),
    ("neutron-api", 9696, "neutron"),
    ("cinder-api", 8776, "cinder"),
];
const WORKERS: [&str; 6] = [
    "nova-conductor",
    "nova-scheduler",
    "neutron-rpc-server",
    "neutron-periodic-workers",
    "cinder-scheduler",
    "cinder-volume",
];
const SERVICES: [&str; 6] = ["cinder", "glance", "keystone", "neutron", "nova", "placement"];

/// A cloud to describe.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Controllers; each carries every API and worker.
    pub controllers: usize,
    /// Computes.
    pub computes: usize,
    /// Zones, over which hosts are spread in turn.
    pub zones: usize,
    /// The series that everything runs.
    pub series: Series,
    /// The versions of that series.
    pub versions: BTreeMap<ServiceName, PackageVersion>,
    /// The record version of nova's daemons in that series.
    pub record_version: u32,
}

impl Shape {
    /// A shape on `series`, in the versions of `catalog`; `None` where the catalog lacks it.
    #[must_use]
    pub fn new(
        controllers: usize,
        computes: usize,
        series: Series,
        catalog: &volutus_catalog::Catalog,
    ) -> Option<Self> {
        let versions = catalog.series.get(&series)?.versions.clone();
        let record_version =
            catalog.services.values().find_map(|s| s.record_versions.get(&series).copied())?;
        Some(Self { controllers, computes, zones: 1, series, versions, record_version })
    }
}

/// A described cloud of about that many hosts, and what would be seen of it.
///
/// # Panics
/// Never for the catalog that Volutus ships: everything in the description is a constant.
#[must_use]
pub fn cloud(hosts: usize) -> (Inventory, Observation) {
    let catalog = volutus_catalog::Catalog::builtin().expect("the shipped catalog holds together");
    let series = "2025.2".parse().expect("a series as it is written everywhere");
    let controllers = if hosts >= 1_000 { 5 } else { 3 };
    let computes = hosts.saturating_sub(controllers + 1).max(1);
    let mut shape =
        Shape::new(controllers, computes, series, &catalog).expect("the shipped catalog has that series");
    shape.zones = 3;
    let inventory = describe(&shape);
    let observation = observe(&inventory, &shape);
    (inventory, observation)
}

/// The description of a cloud of that shape.
///
/// # Panics
/// Never: the text is made of constants and numbers.
#[must_use]
pub fn describe(shape: &Shape) -> Inventory {
    Inventory::parse(&describe_text(shape)).expect("the generated description is well formed")
}

/// The same as a `cloud.toml`.
#[must_use]
pub fn describe_text(shape: &Shape) -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n[[role]]\nname = \"controller\"\ndaemons = [\n");
    // Writing into a string cannot fail, so the results of `write!` carry nothing.
    for (kind, port, backend) in APIS {
        let _ = writeln!(
            text,
            "  {{ kind = \"{kind}\", unit = \"{kind}.service\", port = {port}, backend = \
             \"{backend}\" }},"
        );
    }
    for kind in WORKERS {
        let _ = writeln!(text, "  {{ kind = \"{kind}\", unit = \"{kind}.service\" }},");
    }
    text.push_str(
        "]\n\n[[role]]\nname = \"compute\"\ndaemons = [ { kind = \"nova-compute\", unit = \
         \"nova-compute.service\" } ]\n\n[[host]]\nname = \"infra1\"\naddress = \
         \"198.18.0.10\"\n",
    );
    for i in 0..shape.controllers {
        push_host(&mut text, &format!("ctl{}", i + 1), 11 + i, i % shape.zones, "controller");
    }
    for i in 0..shape.computes {
        push_host(&mut text, &format!("cmp{}", i + 1), 256 + i, i % shape.zones, "compute");
    }
    text
}

const HEAD: &str = r#"format = 1
name = "described"
[credentials]
operator = "described-admin"
prober = "described-prober"
[ssh]
user = "root"
[releases]
method = "venv"
path = "/opt/openstack/{series}"
current = "/opt/openstack/current/{daemon}"
stage = ["stage-release", "{series}"]
[prober]
image = "probe-image"
flavor = "probe.nano"
network = "probe-net"
[services.neutron]
config_files = ["/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"]
[[load_balancer]]
kind = "haproxy"
host = "infra1"
socket = "/run/haproxy/admin.sock"
[[database]]
engine = "mariadb"
host = "infra1"
"#;

fn push_host(text: &mut String, name: &str, number: usize, zone: usize, role: &str) {
    // 198.18.0.0/15 is set aside for benchmarks, and has room for 131,072 hosts.
    let (second, third, fourth) = (18 + number / 65_536, number / 256 % 256, number % 256);
    let _ = writeln!(
        text,
        "\n[[host]]\nname = \"{name}\"\naddress = \"198.{second}.{third}.{fourth}\"\nzone = \
         \"az{}\"\nroles = [\"{role}\"]",
        zone + 1
    );
}

/// What would be seen of that cloud with everything well.
///
/// # Panics
/// Never: all names are constants or come from the description.
#[must_use]
pub fn observe(inventory: &Inventory, shape: &Shape) -> Observation {
    let at: Timestamp = "2026-11-24T00:00:00Z".parse().expect("a constant");
    let service = |name: &str| ServiceName::new(name).expect("a constant");
    let mut backends: BTreeMap<BackendName, Vec<BackendServer>> = BTreeMap::new();
    let mut daemons = BTreeMap::new();
    let mut instances = BTreeMap::new();
    let mut records: BTreeMap<ServiceName, Vec<ServiceRecord>> = BTreeMap::new();
    for (id, host, declaration) in inventory.daemons() {
        for backend in &declaration.backends {
            backends.entry(backend.clone()).or_default().push(BackendServer {
                name: declaration.server_name(&host.name),
                status: "UP".to_owned(),
                sessions: 0,
            });
        }
        let kind = id.kind.as_str();
        let name = kind.split('-').next().unwrap_or(kind);
        if name == "nova" || (name == "cinder" && !kind.ends_with("-api")) {
            records.entry(service(name)).or_default().push(record(kind, &host.name, shape));
        }
        if kind == "nova-compute" {
            instances.insert(host.name.clone(), 12);
        }
        let seen = daemon_seen(kind, shape.versions.get(name), shape.series);
        daemons.insert(id, Fact::observed(seen, "described"));
    }
    let by_service =
        |value: fn(&str) -> String| SERVICES.map(|name| (service(name), value(name))).into_iter();
    Observation {
        at,
        inventory: inventory.digest(),
        hosts: inventory
            .hosts
            .iter()
            .map(|host| (host.name.clone(), Fact::observed(host_seen(shape), "described")))
            .collect(),
        daemons,
        schemas: by_service(|name| format!("{name}-head"))
            .map(|(name, head)| {
                let heads = BTreeMap::from([("main".to_owned(), vec![head])]);
                (name, Fact::observed(heads, "described"))
            })
            .collect(),
        backends: backends
            .into_iter()
            .map(|(name, servers)| (name, Fact::observed(servers, "described")))
            .collect(),
        records: records
            .into_iter()
            .map(|(name, records)| (name, Fact::observed(records, "described")))
            .collect(),
        instances: Fact::observed(instances, "described"),
        instances_in_error: Fact::observed(BTreeSet::new(), "described"),
        vif_types: Fact::observed(BTreeMap::from([("ovs".to_owned(), 20)]), "described"),
        pending_migrations: [("nova", "populate_instance_compute_id")]
            .into_iter()
            .map(|(name, query)| {
                let counts = BTreeMap::from([(query.to_owned(), 0)]);
                (service(name), Fact::observed(counts, "described"))
            })
            .collect(),
        endpoints: by_service(|name| format!("http://198.18.0.10/{name}"))
            .map(|(name, url)| {
                let (min_version, max_version) = (String::new(), String::new());
                let seen = EndpointObservation { url, min_version, max_version };
                (name, Fact::observed(seen, "described"))
            })
            .collect(),
        environments: BTreeMap::new(),
    }
}

fn record(kind: &str, host: &HostName, shape: &Shape) -> ServiceRecord {
    let nova = kind.starts_with("nova-");
    let version = if nova { shape.record_version.to_string() } else { "3.19".to_owned() };
    let binary = if kind == "nova-api" { "nova-osapi_compute" } else { kind };
    let host = if kind == "cinder-volume" { format!("{host}@lab") } else { host.as_str().to_owned() };
    ServiceRecord {
        binary: binary.to_owned(),
        host,
        version,
        report_count: 1_000,
        age_s: Some(4),
        disabled: None,
        forced_down: false,
    }
}

fn daemon_seen(kind: &str, version: Option<&PackageVersion>, series: Series) -> DaemonObservation {
    let path = format!("/opt/openstack/{series}");
    DaemonObservation {
        active_state: "active".to_owned(),
        main_pid: 100,
        restarts: 0,
        timeout_stop_s: Some(200),
        environment: BTreeMap::from([("OS_NOVA_DISABLE_EVENTLET_PATCHING".to_owned(), "false".to_owned())]),
        version: version.map_or_else(
            || Fact::unobserved(format!("no version is described for {kind}")),
            |version| Fact::observed(version.clone(), "described"),
        ),
        release_path: Fact::observed(path.clone(), "described"),
        link: Fact::observed(path, "described"),
        replaced: BTreeSet::new(),
    }
}

fn host_seen(shape: &Shape) -> HostObservation {
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let nova = BTreeMap::from([
        option("upgrade_levels/compute", "auto"),
        option("service_user/send_service_user_token", "true"),
        option("oslo_messaging_rabbit/use_queue_manager", "true"),
    ]);
    let queued = BTreeMap::from([option("oslo_messaging_rabbit/use_queue_manager", "true")]);
    let file = |name: &str| (format!("/etc/{name}"), BTreeMap::new());
    HostObservation {
        boot_id: "b".to_owned(),
        kernel: "6.1.0".to_owned(),
        python: "3.11.2".to_owned(),
        clock_skew_ms: 3,
        release_free_bytes: 20_000_000_000,
        root_free_bytes: 20_000_000_000,
        staged: BTreeMap::from([(shape.series, shape.versions.clone())]),
        options: BTreeMap::from([
            ("/etc/nova/nova.conf".to_owned(), nova),
            ("/etc/neutron/neutron.conf".to_owned(), queued.clone()),
            file("neutron/plugins/ml2/ml2_conf.ini"),
            file("keystone/keystone.conf"),
            file("glance/glance-api.conf"),
            file("placement/placement.conf"),
            ("/etc/cinder/cinder.conf".to_owned(), queued),
        ]),
        environments: BTreeMap::new(),
    }
}

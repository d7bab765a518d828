//! The files of a host: configuration of the services, units, HAProxy, databases, names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, Start};
use crate::error::{Error, Result};
use crate::paths;
use crate::record::Record;
use crate::topology::{Host, Ml2, Role, Virt};

/// A file inside a host: path, content, permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) mode: u32,
}

/// Replaces every `@NAME@` of a template.
///
/// # Errors
/// Tells a name that the template uses and nobody gave.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let filled = values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value));
    let forgotten = filled
        .split('@')
        .skip(1)
        .step_by(1)
        .find(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    match forgotten {
        None => Ok(filled),
        Some(name) => Err(Error::Damaged {
            path: PathBuf::from("template"),
            seen: format!("nobody gave a value for @{name}@"),
        }),
    }
}

fn database(record: &Record, user: &str, name: &str) -> String {
    let (password, server) = (&record.password, record.infra().address);
    format!("mysql+pymysql://{user}:{password}@{server}/{name}?charset=utf8")
}

fn auth(record: &Record, user: &str) -> String {
    format!(
        "auth_type = password\nauth_url = http://{}:5000\nusername = {user}\npassword = {}\n\
         project_name = service\nuser_domain_name = Default\nproject_domain_name = Default\n\
         region_name = RegionOne\n",
        record.infra().address,
        record.password
    )
}

fn authtoken(record: &Record, user: &str) -> String {
    let server = record.infra().address;
    format!(
        "[keystone_authtoken]\n{}www_authenticate_uri = http://{server}:5000\n\
         memcached_servers = {server}:11211\nservice_token_roles_required = true\n\
         service_token_roles = service\n",
        auth(record, user)
    )
}

// Queue types are part of the contract between old and new daemons, so they are said rather than
// left to the defaults of a release. Without the queue manager, daemons that stop drop messages.
const RABBIT: &str = "[oslo_messaging_rabbit]\nuse_queue_manager = true\n\
                      rabbit_quorum_queue = false\n\
                      rabbit_transient_quorum_queue = false\n\
                      rabbit_stream_fanout = false\n";

/// Fills the template of a service's configuration for one host.
fn service_file(record: &Record, host: &Host, user: &str, template: &str) -> Result<String> {
    let server = record.infra().address.to_string();
    let transport = format!("rabbit://openstack:{}@{server}:5672/", record.password);
    // Computes reach the databases through the conductor only.
    let nova_databases = match host.role {
        Role::Compute => String::new(),
        Role::Controller | Role::Infra => format!(
            "[api_database]\nconnection = {}\nmax_pool_size = 10\n\n\
             [database]\nconnection = {}\nmax_pool_size = 10\n",
            database(record, "nova", "nova_api"),
            database(record, "nova", "nova"),
        ),
    };
    fill(
        template,
        &[
            ("HOST", &host.name),
            ("IP", &host.address.to_string()),
            ("VIP", &server),
            ("TRANSPORT", &transport),
            ("RABBIT", RABBIT),
            ("AUTH", &auth(record, user)),
            ("AUTHTOKEN", &authtoken(record, user)),
            ("VIF_TYPE", &record.options.vif_type),
            ("NOVA_DATABASES", &nova_databases),
            ("MECHANISMS", mechanisms(record)),
            ("COMPUTE_DRIVER", virt_driver(host)),
            ("MEMORY", &memory(host)?),
            ("VIRT", &virt_sections(host)?),
            ("SERVICE_PLUGINS", service_plugins(record)),
            ("AGENTS", about_agents(record)),
            ("OUTER", &host.outer_address().to_string()),
            ("DB_KEYSTONE", &database(record, "keystone", "keystone")),
            ("DB_GLANCE", &database(record, "glance", "glance")),
            ("DB_PLACEMENT", &database(record, "placement", "placement")),
            ("DB_NEUTRON", &database(record, "neutron", "neutron")),
            ("DB_CINDER", &database(record, "cinder", "cinder")),
        ],
    )
}

/// neutron's drivers in a lab with a real data plane. The one without wires is there only for
/// hosts without guests, because it would take every port that OVN refuses.
fn mechanisms(record: &Record) -> &'static str {
    let mixed = record.hosts_with(Role::Compute).any(|host| !host.runs_guests());
    if mixed { "ovn,volutus_lab" } else { "ovn" }
}

/// Who serves neutron's routers.
fn service_plugins(record: &Record) -> &'static str {
    match (record.options.virt, record.options.ml2) {
        (Virt::Fake, _) => "",
        (Virt::Qemu, Ml2::Ovn) => "ovn-router",
        (Virt::Qemu, Ml2::Openvswitch) => "router",
    }
}

/// What neutron's server is told about its agents, if there are any. One DHCP agent for each network, so that
/// it is missed when its host restarts.
fn about_agents(record: &Record) -> &'static str {
    match record.options.ml2 {
        Ml2::Ovn => "dhcp_agent_notification = false",
        Ml2::Openvswitch => {
            "dhcp_agents_per_network = 1\nl3_ha = true\nmax_l3_agents_per_router = 3\n\
             l3_ha_net_cidr = 198.19.252.0/22"
        }
    }
}

/// The driver of nova-compute.
fn virt_driver(host: &Host) -> &'static str {
    if host.runs_guests() { "libvirt.LibvirtDriver" } else { "volutus_lab.LabDriver" }
}

/// Memory of a host for guests. libvirt sees all of the machine's, on every host; all but this is
/// declared as reserved.
const GUESTS_MIB: u64 = 2048;

/// What nova-compute is told about memory and guests.
fn memory(host: &Host) -> Result<String> {
    if !host.runs_guests() {
        return Ok("reserved_host_memory_mb = 0".into());
    }
    let path = Path::new("/proc/meminfo");
    let table = paths::read(path)?;
    let total = total_kib(&table)
        .ok_or_else(|| Error::Damaged { path: path.to_owned(), seen: "it has no line MemTotal".into() })?;
    Ok(format!(
        "reserved_host_memory_mb = {}\ninitial_ram_allocation_ratio = 1.0\n\
         initial_cpu_allocation_ratio = 16.0\ninitial_disk_allocation_ratio = 4.0\nresume_guests_state_on_host_boot = true\n\
         update_resources_interval = 15",
        (total / 1024).saturating_sub(GUESTS_MIB)
    ))
}

/// The memory of the machine, from `/proc/meminfo`.
fn total_kib(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn virt_sections(host: &Host) -> Result<String> {
    if !host.runs_guests() {
        return Ok(String::new());
    }
    fill(include_str!("../templates/nova-virt.conf"), &[("IP", &host.address.to_string())])
}

/// Template, path and user of every configuration file of a role.
fn templates(virt: Virt, ml2: Ml2, role: Role) -> Vec<(&'static str, &'static str, &'static str)> {
    const NOVA: (&str, &str, &str) = ("/etc/nova/nova.conf", "nova", include_str!("../templates/nova.conf"));
    const CONTROLLER: &[(&str, &str, &str)] = &[
        ("/etc/keystone/keystone.conf", "keystone", include_str!("../templates/keystone.conf")),
        ("/etc/glance/glance-api.conf", "glance", include_str!("../templates/glance-api.conf")),
        ("/etc/placement/placement.conf", "placement", include_str!("../templates/placement.conf")),
        NOVA,
        ("/etc/neutron/neutron.conf", "neutron", include_str!("../templates/neutron.conf")),
        ("/etc/cinder/cinder.conf", "cinder", include_str!("../templates/cinder.conf")),
        ("/etc/neutron/plugins/ml2/ml2_conf.ini", "neutron", include_str!("../templates/ml2_conf.ini")),
    ];
    const OVN: &str = include_str!("../templates/ml2_ovn.ini");
    const OPENVSWITCH: &str = include_str!("../templates/ml2_openvswitch.ini");
    let mut files = match role {
        Role::Infra => Vec::new(),
        Role::Controller => CONTROLLER.to_vec(),
        Role::Compute => vec![NOVA],
    };
    for (path, _, template) in &mut files {
        match ml2 {
            Ml2::Ovn if virt == Virt::Qemu && path.ends_with("ml2_conf.ini") => *template = OVN,
            Ml2::Openvswitch if path.ends_with("ml2_conf.ini") => *template = OPENVSWITCH,
            Ml2::Ovn | Ml2::Openvswitch => {}
        }
    }
    files
}

/// The same of neutron's agents.
const AGENT_FILES: &[(&str, &str, &str)] = &[
    ("/etc/neutron/neutron.conf", "neutron", include_str!("../templates/neutron-agent.conf")),
    (
        "/etc/neutron/plugins/ml2/openvswitch_agent.ini",
        "neutron",
        include_str!("../templates/openvswitch_agent.ini"),
    ),
    ("/etc/neutron/dhcp_agent.ini", "neutron", include_str!("../templates/dhcp_agent.ini")),
    ("/etc/neutron/l3_agent.ini", "neutron", include_str!("../templates/l3_agent.ini")),
];

fn environment(daemon: &Daemon) -> String {
    let wsgi = matches!(daemon.start, Start::Wsgi { .. });
    // Threads became the default of some of nova's daemons in 2026.1 and of all in 2026.2. An
    // upgrade and a change of the concurrency mode are two changes, so every daemon is pinned to
    // one mode in all releases. The APIs use threads: replies from the message bus do not find
    // their way between the threads of a process that eventlet has patched. Releases before
    // 2026.2 know the variable only, not concurrency_backend.
    let lines: &[&str] = match (daemon.service, wsgi) {
        ("nova", true) => &["OS_NOVA_DISABLE_EVENTLET_PATCHING=true"],
        ("nova", false) => &["OS_NOVA_DISABLE_EVENTLET_PATCHING=false"],
        ("cinder", true) => &["OS_CINDER_DISABLE_EVENTLET_PATCHING=true"],
        ("cinder", false) => &["OS_CINDER_DISABLE_EVENTLET_PATCHING=false"],
        ("neutron", _) => {
            &["OS_NEUTRON_CONFIG_FILES=/etc/neutron/neutron.conf;/etc/neutron/plugins/ml2/ml2_conf.ini"]
        }
        _ => &[],
    };
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "Environment=\"{line}\"");
    }
    // The queue manager names reply queues after host and process. Under uWSGI all processes are
    // called `uwsgi`, and two services with one name would take each other's replies.
    let _ = writeln!(text, "Environment=\"OS_OSLO_MESSAGING_RABBIT__PROCESSNAME={}\"", daemon.kind);
    // neutron's agents start programs of their release by name.
    if daemon.kind.ends_with("-agent") {
        let _ = writeln!(
            text,
            "Environment=\"PATH=/opt/openstack/current/{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:\
             /sbin:/bin\"",
            daemon.kind
        );
    }
    // nova's WSGI daemons find their pipeline through this variable; it belongs to the release
    // of the daemon itself.
    if daemon.service == "nova" && wsgi {
        let _ = writeln!(
            text,
            "Environment=\"OS_NOVA_CONFIG_FILES=/opt/openstack/current/{}/etc/nova/api-paste.ini;\
             /etc/nova/nova.conf\"",
            daemon.kind
        );
    }
    text
}

/// What a host's daemons are started behind, besides the network.
fn after(host: &Host) -> &'static str {
    match (host.runs_guests(), host.has_switch(), host.ml2) {
        (true, _, Ml2::Ovn) => " libvirtd.service ovn-controller.service",
        (true, _, Ml2::Openvswitch) => " libvirtd.service volutus-lab-switch.service",
        (false, true, Ml2::Openvswitch) => " volutus-lab-switch.service",
        _ => "",
    }
}

/// The unit of a daemon, and for daemons under uWSGI their `.ini`.
fn daemon_files(host: &Host, daemon: &Daemon) -> Result<Vec<Rendered>> {
    let link = format!("/opt/openstack/current/{}", daemon.kind);
    let mut files = Vec::new();
    let command = match daemon.start {
        Start::Program(arguments) => {
            format!("{link}/bin/{} {}", daemon.kind, arguments.join(" ")).trim_end().to_owned()
        }
        Start::Wsgi { module, port, threads, .. } => {
            let path = format!("/etc/uwsgi/{}.ini", daemon.kind);
            let text = fill(
                include_str!("../templates/uwsgi.ini"),
                &[
                    ("KIND", daemon.kind),
                    ("MODULE", module),
                    ("IP", &host.address.to_string()),
                    ("PORT", &port.to_string()),
                    ("THREADS", &threads.to_string()),
                ],
            )?;
            files.push(Rendered { path: path.clone(), text, mode: 0o644 });
            // The link is resolved once, at the start: a process that imports lazily through
            // the link would load new code after the link has been switched under it.
            format!(
                "/bin/sh -c 'release=$$(readlink -f {link}) && \
                 exec $$release/bin/uwsgi --virtualenv $$release --ini {path}'"
            )
        }
    };
    let text = fill(
        include_str!("../templates/daemon.service"),
        &[
            ("KIND", daemon.kind),
            ("ENVIRONMENT", &environment(daemon)),
            ("COMMAND", &command),
            ("AFTER", after(host)),
            // What serves networks and routers goes on while an agent restarts.
            ("KILL_MODE", if daemon.kind.ends_with("-agent") { "process" } else { "mixed" }),
        ],
    )?;
    let path = format!("/etc/systemd/system/{}", daemon.unit());
    files.push(Rendered { path, text, mode: 0o644 });
    Ok(files)
}

fn haproxy(record: &Record) -> Result<String> {
    let mut listeners = String::new();
    for daemon in Role::Controller.daemons() {
        let Start::Wsgi { port, backend, health, .. } = daemon.start else { continue };
        let _ = write!(
            listeners,
            // A request that may already have taken effect is not sent twice.
            "listen {backend}\n  bind {}:{port}\n  balance roundrobin\n  \
             http-request disable-l7-retry if METH_POST\n  \
             option httpchk GET {health}\n  http-check expect rstatus ^[23]\n  \
             capture request header OpenStack-API-Version len 32\n  \
             capture request header X-OpenStack-Nova-API-Version len 16\n",
            record.infra().address
        );
        for host in record.hosts_with(Role::Controller) {
            let _ = writeln!(listeners, "  server {} {}:{port} check", host.name, host.address);
        }
        listeners.push('\n');
    }
    fill(include_str!("../templates/haproxy.cfg"), &[("LISTENERS", &listeners)])
}

fn infra_files(record: &Record, host: &Host) -> Result<Vec<Rendered>> {
    let values: &[(&str, &str)] = &[("HOST", &host.name), ("PASSWORD", &record.password)];
    let file = |path: &str, text: String, mode| Rendered { path: path.into(), text, mode };
    Ok(vec![
        file("/etc/haproxy/haproxy.cfg", haproxy(record)?, 0o644),
        file(
            "/etc/mysql/mariadb.conf.d/90-lab.cnf",
            fill(include_str!("../templates/mariadb.cnf"), values)?,
            0o644,
        ),
        file("/etc/rabbitmq/rabbitmq.conf", fill(include_str!("../templates/rabbitmq.conf"), values)?, 0o644),
        file(
            "/etc/rabbitmq/rabbitmq-env.conf",
            fill(include_str!("../templates/rabbitmq-env.conf"), values)?,
            0o644,
        ),
        file("/etc/memcached.conf", include_str!("../templates/memcached.conf").into(), 0o644),
    ])
}

/// All files of a host that do not depend on secrets of its own.
pub(crate) fn host_files(record: &Record, host: &Host) -> Result<Vec<Rendered>> {
    let mut names = String::from("127.0.0.1 localhost\n");
    for other in &record.hosts {
        let _ = writeln!(names, "{} {}", other.address, other.name);
    }
    let mut files = vec![
        Rendered { path: "/etc/hostname".into(), text: format!("{}\n", host.name), mode: 0o644 },
        Rendered { path: "/etc/hosts".into(), text: names, mode: 0o644 },
    ];
    if host.role == Role::Infra {
        files.extend(infra_files(record, host)?);
    }
    files.extend(crate::render_virt::files(record, host)?);
    let mut wanted = templates(record.options.virt, record.options.ml2, host.role);
    if !host.agents().is_empty() {
        wanted.extend(AGENT_FILES);
    }
    for (path, user, template) in wanted {
        let text = service_file(record, host, user, template)?;
        files.push(Rendered { path: path.into(), text, mode: 0o640 });
    }
    for daemon in host.daemons() {
        files.extend(daemon_files(host, daemon)?);
    }
    Ok(files)
}

/// Folders that the daemons of a host write to.
pub(crate) fn host_folders(host: &Host) -> &'static [&'static str] {
    match host.role {
        Role::Infra => &["/var/lib/neutron/lock"],
        Role::Controller => &[
            "/var/lib/glance/tasks",
            "/var/lib/glance/staging",
            "/var/lib/glance/lock",
            "/var/lib/nova/lock",
            "/var/lib/neutron/lock",
            "/var/lib/cinder/lock",
        ],
        Role::Compute => &["/var/lib/nova/instances", "/var/lib/nova/lock", "/var/lib/neutron/lock"],
    }
}

/// Units of the distribution that a host starts at boot.
pub(crate) fn distribution_units(host: &Host) -> Vec<&'static str> {
    let mut units = Vec::new();
    if host.role == Role::Infra {
        units.extend(["mariadb.service", "rabbitmq-server.service", "memcached.service", "haproxy.service"]);
    }
    units.extend(crate::render_virt::distribution_units(host));
    units
}

/// Writes rendered files below the root of a host.
pub(crate) fn write_files(root: &Path, files: &[Rendered]) -> Result<()> {
    for file in files {
        paths::write(&root.join(file.path.trim_start_matches('/')), &file.text, file.mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    fn record() -> Record {
        Record::new(Options::default(), 7, "secret".into()).expect("valid")
    }

    #[test]
    fn a_forgotten_value_is_told() {
        assert_eq!(fill("a @X@ b", &[("X", "1")]).expect("filled"), "a 1 b");
        assert!(fill("a @X@ b", &[]).is_err());
        assert_eq!(fill("rabbit@@HOST@", &[("HOST", "infra1")]).expect("filled"), "rabbit@infra1");
    }

    #[test]
    fn every_host_can_be_rendered() {
        let record = record();
        for host in &record.hosts {
            let files = host_files(&record, host).expect("rendered");
            assert!(files.iter().any(|file| file.path == "/etc/hosts"));
        }
    }

    #[test]
    fn computes_have_no_database() {
        let record = record();
        let compute = record.hosts_with(Role::Compute).next().expect("a compute");
        let files = host_files(&record, compute).expect("rendered");
        let conf = files.iter().find(|file| file.path == "/etc/nova/nova.conf").expect("nova.conf");
        assert!(!conf.text.contains("mysql"));
        assert!(conf.text.contains("host = cmp1"));
    }

    #[test]
    fn daemons_start_from_their_own_link() {
        let record = record();
        let controller = record.hosts_with(Role::Controller).next().expect("a controller");
        for file in host_files(&record, controller).expect("rendered") {
            let Some(unit) = file.path.strip_prefix("/etc/systemd/system/") else { continue };
            let kind = unit.strip_suffix(".service").expect("a service");
            if kind.starts_with("volutus-lab-") {
                continue;
            }
            assert!(file.text.contains(&format!("/opt/openstack/current/{kind}")), "{unit}");
        }
    }
}

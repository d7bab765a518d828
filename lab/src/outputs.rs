//! What a lab hands out: the description of its cloud, credentials, keys.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::command::Cmd;
use crate::daemon::{self, Daemon, SERVICES, Start};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::paths::{self, StateDir};
use crate::record::Record;
use crate::topology::{Ml2, Role};

const KEYGEN_LIMIT: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct DaemonEntry {
    kind: &'static str,
    unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
}

/// The description of the lab's cloud, as Volutus reads it. Paths in it are relative to it.
pub(crate) fn cloud_toml(record: &Record) -> Result<String> {
    let name = &record.options.name;
    let infra = &record.infra().name;
    let mut text = format!(
        "format = 1\nname = \"{name}\"\n\n\
         [credentials]\nclouds_yaml = \"clouds.yaml\"\noperator = \"{name}-admin\"\n\
         prober = \"{name}-prober\"\n\n\
         [ssh]\nuser = \"root\"\nidentity_file = \"id_ed25519\"\nknown_hosts = \"known_hosts\"\n\n\
         [releases]\nmethod = \"venv\"\npath = \"/opt/openstack/{{series}}\"\n\
         current = \"/opt/openstack/current/{{daemon}}\"\n\
         stage = [\"ln\", \"-sfn\", \"{store}/{{series}}\", \"/opt/openstack/{{series}}\"]\n\n\
         [prober]\nimage = \"probe-image\"\nflavor = \"probe.nano\"\nnetwork = \"probe-net\"\n\
         volume_type = \"lab\"\n{rate}\n",
        store = crate::release::STORE,
        // A guest under QEMU boots for ten seconds of processor, and two cores carry all of the lab.
        rate = if crate::render_virt::real(record) { "requests_per_s = 3\n" } else { "" },
    );
    for (service, files) in SERVICES {
        let _ = writeln!(text, "[services.{service}]\nconfig_files = {}\n", inline(files)?);
    }
    let _ = write!(
        text,
        "[[load_balancer]]\nkind = \"haproxy\"\nhost = \"{infra}\"\n\
         socket = \"/run/haproxy/admin.sock\"\n\n\
         [[database]]\nengine = \"mariadb\"\nhost = \"{infra}\"\n\n"
    );
    if crate::render_virt::real(record) && record.options.ml2 == Ml2::Ovn {
        let _ = write!(text, "[ovn]\nhost = \"{infra}\"\n\n");
    }
    for (name, daemons) in roles(record) {
        let _ = writeln!(text, "[[role]]\nname = \"{name}\"\ndaemons = [");
        for daemon in daemons {
            let (port, backend) = match daemon.start {
                Start::Wsgi { port, backend, .. } => (Some(port), Some(backend)),
                Start::Program(_) => (None, None),
            };
            let entry = DaemonEntry { kind: daemon.kind, unit: daemon.unit(), port, backend };
            let _ = writeln!(text, "  {},", inline(&entry)?);
        }
        text.push_str("]\n\n");
    }
    for host in &record.hosts {
        let roles: &[&str] = match (host.role, host.agents().is_empty()) {
            (Role::Infra, _) => &[],
            (Role::Compute, false) => &[Role::Compute.as_str(), NETWORK],
            (role @ (Role::Controller | Role::Compute), _) => &[role.as_str()],
        };
        let _ = writeln!(
            text,
            "[[host]]\nname = \"{}\"\naddress = \"{}\"\nzone = \"{}\"\nroles = {}\n",
            host.name,
            host.address,
            host.zone,
            inline(roles)?
        );
    }
    Ok(text)
}

/// The role of hosts with neutron's agents.
const NETWORK: &str = "network";

/// The roles that the description names, with their daemons.
fn roles(record: &Record) -> Vec<(&'static str, &'static [Daemon])> {
    let mut roles: Vec<_> =
        [Role::Controller, Role::Compute].into_iter().map(|role| (role.as_str(), role.daemons())).collect();
    if record.options.ml2 == Ml2::Openvswitch {
        roles.push((NETWORK, daemon::AGENTS));
    }
    roles
}

/// A value in TOML's inline form.
fn inline<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let failed = |seen: String| Error::Damaged { path: std::path::PathBuf::from("cloud.toml"), seen };
    let value = toml::Value::try_from(value).map_err(|error| failed(error.to_string()))?;
    Ok(match value {
        // The key order of a table value is alphabetical; people read the kind first.
        toml::Value::Table(table) => {
            let mut keys: Vec<&String> = table.keys().collect();
            keys.sort_by_key(|key| {
                (key.as_str() != "kind", *key == "port" || *key == "backend", *key == "backend")
            });
            let fields: Vec<String> = keys.into_iter().map(|key| format!("{key} = {}", table[key])).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    })
}

/// Credentials of the operator and of the prober, as the OpenStack client reads them.
pub(crate) fn clouds_yaml(record: &Record) -> String {
    let mut text = String::from("clouds:\n");
    let name = &record.options.name;
    for (entry, user, project) in [("admin", "admin", "admin"), ("prober", "prober", "volutus-probe")] {
        let _ = write!(
            text,
            "  {name}-{entry}:\n    auth:\n      auth_url: http://{}:5000/v3\n      \
             username: {user}\n      password: \"{}\"\n      project_name: {project}\n      \
             user_domain_name: Default\n      project_domain_name: Default\n    \
             region_name: RegionOne\n    identity_api_version: 3\n    interface: public\n",
            record.infra().address,
            record.password
        );
    }
    text
}

/// Writes everything that does not need a running host.
pub(crate) fn write(state: &StateDir, record: &Record) -> Result<()> {
    paths::replace(&state.cloud_toml(), cloud_toml(record)?, 0o644)?;
    paths::replace(&state.clouds_yaml(), clouds_yaml(record), 0o600)
}

/// Makes the key of the operator, a host key for every host, and the list of those keys. The
/// host keys exist before the hosts do, so nobody has to trust one on first sight.
pub(crate) fn make_keys(state: &StateDir, record: &Record) -> Result<()> {
    let identity = state.identity_file();
    keygen(&identity, &format!("volutus-lab-{}", record.options.name))?;
    let public = paths::read(&identity.with_extension("pub"))?;
    let mut known = String::new();
    for host in &record.hosts {
        let root = Machine { state, record, host }.root();
        let key = root.join("etc/ssh/ssh_host_ed25519_key");
        keygen(&key, &host.name)?;
        let text = paths::read(&key.with_extension("pub"))?;
        let key: Vec<&str> = text.split_whitespace().take(2).collect();
        let _ = writeln!(known, "{},{} {}", host.name, host.address, key.join(" "));
        paths::write(&root.join("root/.ssh/authorized_keys"), &public, 0o600)?;
    }
    paths::replace(&state.known_hosts(), known, 0o644)?;
    let config = format!(
        "Host {}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n",
        record.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(" "),
        identity.display(),
        state.known_hosts().display()
    );
    let hosts = record.hosts.iter().fold(String::new(), |mut text, host| {
        let _ = write!(text, "Host {}\n  HostName {}\n", host.name, host.address);
        text
    });
    paths::replace(&state.path().join("ssh_config"), hosts + &config, 0o644)
}

fn keygen(path: &std::path::Path, comment: &str) -> Result<()> {
    Cmd::new("making an SSH key", "ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .limit(KEYGEN_LIMIT)
        .run()
        .map(drop)
}

/// The lines that make the OpenStack client work with this lab.
pub(crate) fn environment(state: &StateDir, record: &Record) -> String {
    format!(
        "export OS_AUTH_URL=http://{}:5000/v3\nexport OS_USERNAME=admin\n\
         export OS_PASSWORD={}\nexport OS_PROJECT_NAME=admin\n\
         export OS_USER_DOMAIN_NAME=Default\nexport OS_PROJECT_DOMAIN_NAME=Default\n\
         export OS_REGION_NAME=RegionOne\nexport OS_IDENTITY_API_VERSION=3\n\
         export OS_CLIENT_CONFIG_FILE={}\n# The cloud's description for Volutus:\n\
         export VOLUTUS_CLOUD={}\n",
        record.infra().address,
        record.password,
        state.clouds_yaml().display(),
        state.cloud_toml().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    #[test]
    fn cloud_toml_is_valid_and_complete() {
        let options = Options { controllers: 2, computes: 1, zones: 2, ..Options::default() };
        let record = Record::new(options, 7, "secret".into()).expect("valid");
        let text = cloud_toml(&record).expect("written");
        let value: toml::Table = toml::from_str(&text).expect("valid TOML");
        assert_eq!(value["host"].as_array().expect("hosts").len(), 4);
        assert_eq!(value["host"][0]["roles"].as_array().expect("roles").len(), 0);
        assert_eq!(value["host"][2]["zone"].as_str(), Some("az2"));
        let daemons = value["role"][0]["daemons"].as_array().expect("daemons");
        assert_eq!(daemons.len(), 13);
        assert_eq!(daemons[0]["kind"].as_str(), Some("keystone-api"));
        assert_eq!(daemons[0]["port"].as_integer(), Some(5000));
        assert_eq!(value["services"]["neutron"]["config_files"].as_array().map(Vec::len), Some(2));
        assert!(!text.contains("secret"), "credentials are referred to, never inline");
    }

    #[test]
    fn clouds_yaml_has_operator_and_prober() {
        let record = Record::new(Options::default(), 7, "secret".into()).expect("valid");
        let text = clouds_yaml(&record);
        assert!(text.contains("  lab-admin:\n"));
        assert!(text.contains("  lab-prober:\n"));
        assert!(text.contains("project_name: volutus-probe"));
    }
}

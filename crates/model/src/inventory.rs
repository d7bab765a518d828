//! What is declared of a cloud: `cloud.toml`.
//!
//! The description holds no secret. Credentials are entries of a `clouds.yaml`, which is only
//! referred to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{BackendName, DaemonId, DaemonKind, HostName, PackageVersion, Series, ServiceName};
use crate::patch::PatchName;

/// The format version of `cloud.toml` that this Volutus reads and writes.
pub const FORMAT: u32 = 1;

/// Why a cloud description was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or not of the expected shape.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// The text was read, and what it says does not hold together.
    #[error("{0}")]
    Contradiction(String),
}

/// A whole cloud description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Format version; see [`FORMAT`].
    pub format: u32,
    /// The cloud's name, by which leases and records are kept.
    pub name: HostName,
    /// Which entries of which clouds.yaml to use.
    pub credentials: Credentials,
    /// How hosts are reached.
    pub ssh: Ssh,
    /// How code is put on hosts, and how daemons are switched to it.
    pub releases: Releases,
    /// What the synthetic user uses.
    pub prober: ProberResources,
    /// Addresses of the data plane that have to stay reachable from where Volutus runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<ReachTarget>,
    /// What differs from the catalog, per service.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, ServiceDeclaration>,
    /// The load balancers.
    #[serde(default, rename = "load_balancer")]
    pub load_balancers: Vec<LoadBalancer>,
    /// OVN's databases, where its gateways are to be looked after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovn: Option<Ovn>,
    /// The database servers.
    #[serde(default, rename = "database")]
    pub databases: Vec<Database>,
    /// Sets of daemons that hosts carry.
    #[serde(default, rename = "role")]
    pub roles: Vec<Role>,
    /// The hosts.
    #[serde(default, rename = "host")]
    pub hosts: Vec<HostDeclaration>,
}

/// References to entries of a `clouds.yaml`; never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Path of the clouds.yaml, relative to the cloud description; the usual search path of
    /// OpenStack clients where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clouds_yaml: Option<String>,
    /// The entry with which Volutus works (an administrator of the cloud).
    pub operator: String,
    /// The entry of the synthetic user (a member of a project of its own).
    pub prober: String,
}

/// How hosts are reached with the site's own OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The remote user: root, or one with sudo and no password prompt.
    pub user: String,
    /// The port; that of ssh_config, else 22, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path of the private key, relative to the cloud description; ssh's own choice (agent,
    /// ssh_config) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<String>,
    /// Path of the known_hosts file, relative to the cloud description. Host keys are always
    /// checked strictly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// Path of an ssh_config, relative to the cloud description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
}

/// How code is put on hosts and how daemons are switched to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Releases {
    /// The method.
    pub method: ReleaseMethod,
    /// Where a series lives on a host; `{series}` and `{service}` are replaced.
    pub path: String,
    /// The symbolic link through which a daemon's unit finds its release; `{daemon}` and
    /// `{service}` are replaced.
    pub current: String,
    /// The command that puts a series onto a host, with no effect on what runs; `{series}` is
    /// replaced. It is run on the host, and may be run again.
    pub stage: Vec<String>,
    /// The same for a patched release of a series: `{release}` is replaced by its name as in `path`
    /// (`2025.2+cve-2026-42999`), `{series}` by the series, and the word `{packages}` by one word
    /// `NAME==VERSION` for each package that must be there. Absent: `stage`, with the release's name in the
    /// place of `{series}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_patched: Option<Vec<String>>,
}

/// The ways of keeping releases on hosts that Volutus knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseMethod {
    /// Python virtual environments side by side, one per series, and a symbolic link per daemon.
    Venv,
}

/// What the synthetic user uses; all exist already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProberResources {
    /// Name of the image that its instances boot from.
    pub image: String,
    /// Name of their flavor.
    pub flavor: String,
    /// Name of the network that its ports and instances are on.
    pub network: String,
    /// Volume type of its volumes; the cloud's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Requests per second in all that it makes while the cloud is at rest, 1 to 100; the prober's own
    /// default where absent. About one in 90 of them boots an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u8>,
}

/// An address of the data plane, an instance's for example, that has to stay reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReachTarget {
    /// What it is called in verdicts.
    pub name: HostName,
    /// The address.
    pub address: IpAddr,
    /// How it is reached.
    pub how: ReachBy,
    /// With `tcp`: the port that takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The ways of reaching an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReachBy {
    /// ICMP echoes.
    Ping,
    /// TCP connections, which are closed as soon as they are open.
    Tcp,
}

/// What this cloud does differently from the catalog, for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDeclaration {
    /// Configuration files, in the order in which commands get them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_files: Vec<String>,
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancer {
    /// Its kind.
    pub kind: LoadBalancerKind,
    /// The host it runs on.
    pub host: HostName,
    /// Path of its runtime socket on that host, with level admin.
    pub socket: String,
}

/// The load balancers that Volutus can drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancerKind {
    /// HAProxy, by its runtime API.
    Haproxy,
}

/// A database server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its kind.
    pub engine: DatabaseEngine,
    /// The host it runs on.
    pub host: HostName,
    /// Path, on that host, of the key that snapshots are encrypted with: an identity file of age
    /// that only root can read. Only its path is ever known to Volutus. Absent: they are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_key_file: Option<String>,
}

/// The database servers that Volutus knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseEngine {
    /// MariaDB.
    Mariadb,
}

/// A set of daemons that hosts of one role carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role's name.
    pub name: HostName,
    /// Its daemons.
    pub daemons: Vec<DaemonDeclaration>,
}

/// One daemon of a role, and how it is managed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonDeclaration {
    /// What it is, in the catalog's terms.
    pub kind: DaemonKind,
    /// Its systemd unit.
    pub unit: String,
    /// The TCP port of an API replica on its host's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The load balancer's backends that an API replica belongs to: `backend = "nova"`, or a
    /// list where the site has, say, an internal and an external one. A replica is drained in
    /// all of them, one `DrainBackend` action each.
    #[serde(
        default,
        rename = "backend",
        deserialize_with = "one_or_more",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub backends: Vec<BackendName>,
    /// Its server name in those backends; the host's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Accepts a single name as well as a list of them.
fn one_or_more<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<BackendName>, D::Error> {
    struct OneOrMore;
    impl<'de> serde::de::Visitor<'de> for OneOrMore {
        type Value = Vec<BackendName>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the name of a backend, or a list of names")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![BackendName::new(text).map_err(E::custom)?])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = seq.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    input.deserialize_any(OneOrMore)
}

/// Where OVN's databases are asked, and with which commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ovn {
    /// A host on which the commands reach the databases.
    pub host: HostName,
    /// The command for the northbound database, with whatever it needs: `["ovn-nbctl"]`, or
    /// `["docker", "exec", "ovn_nb_db", "ovn-nbctl", "--no-leader-only"]`.
    #[serde(default = "nbctl")]
    pub nbctl: Vec<String>,
    /// The same for the southbound database.
    #[serde(default = "sbctl")]
    pub sbctl: Vec<String>,
    /// The command that asks a gateway's own switch, on that gateway.
    #[serde(default = "vsctl")]
    pub vsctl: Vec<String>,
    /// The command by which a gateway's own switch sends, on that gateway.
    #[serde(default = "ofctl")]
    pub ofctl: Vec<String>,
}

fn nbctl() -> Vec<String> {
    vec!["ovn-nbctl".to_owned()]
}

fn sbctl() -> Vec<String> {
    vec!["ovn-sbctl".to_owned()]
}

fn vsctl() -> Vec<String> {
    vec!["ovs-vsctl".to_owned()]
}

fn ofctl() -> Vec<String> {
    vec!["ovs-ofctl".to_owned()]
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDeclaration {
    /// Its name; also the name that OpenStack's service records carry.
    pub name: HostName,
    /// The address at which Volutus reaches it and its API replicas.
    pub address: IpAddr,
    /// Its availability zone or other failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<HostName>,
}

impl Inventory {
    /// Reads a cloud description.
    ///
    /// # Errors
    /// [`Error::Syntax`] with line and column where the text is not TOML of the expected shape;
    /// [`Error::Contradiction`] where names do not refer to each other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let inventory: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start).min(text.len());
            let before = &text[..text.floor_char_boundary(offset)];
            Error::Syntax {
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
                message: error.message().to_owned(),
            }
        })?;
        inventory.check()?;
        Ok(inventory)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Contradiction(text));
        if self.format != FORMAT {
            return refuse(format!(
                "format = {} is not known to this Volutus, which reads format = {FORMAT}",
                self.format
            ));
        }
        if let Some(rate) = self.prober.requests_per_s.filter(|rate| !(1..=100).contains(rate)) {
            return refuse(format!("[prober] requests_per_s = {rate}: it must be 1 to 100"));
        }
        let mut reached = BTreeSet::new();
        for target in &self.reach {
            if !reached.insert(&target.name) {
                return refuse(format!("[[reach]] `{}` is declared twice", target.name));
            }
            if (target.how == ReachBy::Tcp) != target.port.is_some_and(|port| port != 0) {
                return refuse(format!(
                    "[[reach]] `{}`: how = \"tcp\" needs a port, and how = \"ping\" has none",
                    target.name
                ));
            }
        }
        let mut roles = BTreeSet::new();
        for role in &self.roles {
            if !roles.insert(&role.name) {
                return refuse(format!("role `{}` is declared twice", role.name));
            }
        }
        let mut hosts = BTreeSet::new();
        let mut addresses = BTreeMap::new();
        let mut daemons = BTreeSet::new();
        for host in &self.hosts {
            if !hosts.insert(&host.name) {
                return refuse(format!("host `{}` is declared twice", host.name));
            }
            if let Some(other) = addresses.insert(host.address, &host.name) {
                return refuse(format!(
                    "hosts `{other}` and `{}` have the same address {}",
                    host.name, host.address
                ));
            }
            for role in &host.roles {
                if !roles.contains(role) {
                    return refuse(format!(
                        "host `{}` has role `{role}`, which no [[role]] declares",
                        host.name
                    ));
                }
            }
        }
        for (id, _, _) in self.daemons() {
            if !daemons.insert(id.to_string()) {
                return refuse(format!("daemon `{id}` is declared twice, by two roles of its host"));
            }
        }
        let balancers = self.load_balancers.iter().map(|lb| &lb.host);
        let databases = self.databases.iter().map(|db| &db.host);
        for host in balancers.chain(databases).chain(self.ovn.as_ref().map(|ovn| &ovn.host)) {
            if !hosts.contains(host) {
                return refuse(format!(
                    "a load balancer, database or OVN is on host `{host}`, which no [[host]] declares"
                ));
            }
        }
        let empty =
            |ovn: &Ovn| [&ovn.nbctl, &ovn.sbctl, &ovn.vsctl, &ovn.ofctl].iter().any(|it| it.is_empty());
        if self.ovn.as_ref().is_some_and(empty) {
            return refuse("[ovn] names an empty command".to_owned());
        }
        for path in self.databases.iter().filter_map(|database| database.snapshot_key_file.as_deref()) {
            if !path.starts_with('/') || path.contains(char::is_control) {
                return refuse(format!(
                    "snapshot_key_file = {path:?} is not the full path of a file on the database's host"
                ));
            }
        }
        Ok(())
    }

    /// Every declared daemon with its host and its declaration, ordered as declared.
    pub fn daemons(&self) -> impl Iterator<Item = (DaemonId, &HostDeclaration, &DaemonDeclaration)> + '_ {
        let roles: BTreeMap<&HostName, &Role> = self.roles.iter().map(|r| (&r.name, r)).collect();
        self.hosts.iter().flat_map(move |host| {
            let declared: Vec<_> = host
                .roles
                .iter()
                .filter_map(|name| roles.get(name))
                .flat_map(|role| role.daemons.iter())
                .map(|daemon| (DaemonId::new(daemon.kind.clone(), host.name.clone()), host, daemon))
                .collect();
            declared
        })
    }

    /// The host of that name.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&HostDeclaration> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// The daemon of that id, with its host and its declaration.
    #[must_use]
    pub fn daemon(&self, id: &DaemonId) -> Option<(&HostDeclaration, &DaemonDeclaration)> {
        let host = self.host(&id.host)?;
        self.roles
            .iter()
            .filter(|role| host.roles.contains(&role.name))
            .flat_map(|role| role.daemons.iter())
            .find(|daemon| daemon.kind == id.kind)
            .map(|daemon| (host, daemon))
    }

    /// A hash of the whole description, by which a plan knows the cloud that it was made for.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).expect("an inventory has only text keys");
        blake3::hash(&text).to_hex()[..32].to_owned()
    }
}

impl DaemonDeclaration {
    /// The name of this daemon's server in its backend of the load balancer.
    #[must_use]
    pub fn server_name(&self, host: &HostName) -> String {
        self.server.clone().unwrap_or_else(|| host.to_string())
    }
}

impl Releases {
    /// The directory of `series` on a host, for one service.
    #[must_use]
    pub fn path_of(&self, series: Series, service: &ServiceName) -> String {
        self.path_at(&series.to_string(), service)
    }

    /// The directory of a patched release of `series` on a host, for one service.
    #[must_use]
    pub fn patched_path_of(&self, series: Series, patch: &PatchName, service: &ServiceName) -> String {
        self.path_at(&format!("{series}+{patch}"), service)
    }

    /// The directories of all patched releases of `series`, as a pattern for `glob`.
    #[must_use]
    pub fn patched_pattern(&self, series: Series, service: &ServiceName) -> String {
        self.path_at(&format!("{series}+*"), service)
    }

    fn path_at(&self, release: &str, service: &ServiceName) -> String {
        self.path.replace("{series}", release).replace("{service}", service.as_str())
    }

    /// Which release of `series` a directory is, for one service: `Some(None)` for the series' own,
    /// `Some(Some(name))` for a patched one, and `None` where it is of another series.
    #[must_use]
    pub fn release_at(&self, path: &str, series: Series, service: &ServiceName) -> Option<Option<PatchName>> {
        if path == self.path_of(series, service) {
            return Some(None);
        }
        // What stands before the first `{series}` has no part of the release's name in it.
        let before = self.path.split("{series}").next()?.replace("{service}", service.as_str());
        let rest = path.strip_prefix(&before)?.strip_prefix(&format!("{series}+"))?;
        let longest = rest.split('/').next()?;
        // In `/venvs/{series}-nova` the name ends where the whole path is the template's again.
        let names = (1..=longest.len()).rev().filter_map(|end| PatchName::new(longest.get(..end)?).ok());
        names.into_iter().find(|name| self.patched_path_of(series, name, service) == path).map(Some)
    }

    /// The link through which a daemon finds its release.
    #[must_use]
    pub fn current_of(&self, service: &ServiceName, kind: &DaemonKind) -> String {
        self.current.replace("{daemon}", kind.as_str()).replace("{service}", service.as_str())
    }

    /// The command that stages `series`.
    #[must_use]
    pub fn stage_command(&self, series: Series) -> Vec<String> {
        self.stage.iter().map(|word| word.replace("{series}", &series.to_string())).collect()
    }

    /// The command that stages a patched release of `series` with these packages in it.
    #[must_use]
    pub fn stage_patched_command(
        &self,
        series: Series,
        patch: &PatchName,
        packages: &BTreeMap<String, PackageVersion>,
    ) -> Vec<String> {
        let release = format!("{series}+{patch}");
        let Some(template) = &self.stage_patched else {
            return self.stage.iter().map(|word| word.replace("{series}", &release)).collect();
        };
        let mut command = Vec::new();
        for word in template {
            if word == "{packages}" {
                command.extend(packages.iter().map(|(name, version)| format!("{name}=={version}")));
            } else {
                command.push(word.replace("{release}", &release).replace("{series}", &series.to_string()));
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOUD: &str = r#"
format = 1
name = "c"
credentials = { operator = "a", prober = "p" }
ssh = { user = "root" }
releases = { method = "venv", path = "/o/{series}", current = "/o/{daemon}", stage = ["true"] }
prober = { image = "i", flavor = "f", network = "n" }
[[role]]
name = "api"
daemons = [
  { kind = "nova-api", unit = "nova-api.service", port = 8774, backend = ["internal", "external"] },
  { kind = "glance-api", unit = "glance-api.service", port = 9292, backend = "glance" },
]
[[host]]
name = "h1"
address = "198.18.0.1"
roles = ["api"]
"#;

    #[test]
    fn a_directory_is_of_one_release() {
        let mut releases = Inventory::parse(CLOUD).unwrap().releases;
        let series: Series = "2025.2".parse().unwrap();
        let service = ServiceName::new("nova").unwrap();
        let name = PatchName::new("cve-2026-1-a").unwrap();
        for path in
            ["/o/{series}", "/o/{service}-{series}", "/o/{series}-{service}/venv", "/{series}/x{series}"]
        {
            path.clone_into(&mut releases.path);
            let own = releases.path_of(series, &service);
            let patched = releases.patched_path_of(series, &name, &service);
            assert_eq!(releases.release_at(&own, series, &service), Some(None), "{path}");
            assert_eq!(releases.release_at(&patched, series, &service), Some(Some(name.clone())), "{path}");
            assert_eq!(releases.release_at(&patched, "2026.1".parse().unwrap(), &service), None, "{path}");
        }
        let packages = BTreeMap::from([("keystone".to_owned(), PackageVersion::new("28.0.2"))]);
        releases.stage = vec!["stage".to_owned(), "{series}".to_owned()];
        let command = releases.stage_patched_command(series, &name, &packages);
        assert_eq!(command, ["stage", "2025.2+cve-2026-1-a"]);
        releases.stage_patched =
            Some(["build", "{series}", "{release}", "{packages}"].map(str::to_owned).to_vec());
        let command = releases.stage_patched_command(series, &name, &packages);
        assert_eq!(command, ["build", "2025.2", "2025.2+cve-2026-1-a", "keystone==28.0.2"]);
    }

    #[test]
    fn one_backend_or_several() {
        let inventory = Inventory::parse(CLOUD).unwrap();
        let counts: Vec<usize> = inventory.daemons().map(|(_, _, daemon)| daemon.backends.len()).collect();
        assert_eq!(counts, [2, 1]);
        let text = toml::to_string(&inventory).unwrap();
        assert_eq!(Inventory::parse(&text).unwrap(), inventory);
    }

    #[test]
    fn a_key_is_named_by_its_full_path() {
        let database = |path: &str| {
            format!(
                "{CLOUD}\n[[database]]\nengine = \"mariadb\"\nhost = \"h1\"\nsnapshot_key_file = {path:?}\n"
            )
        };
        let inventory = Inventory::parse(&database("/etc/volutus/snapshot.key")).unwrap();
        assert_eq!(inventory.databases[0].snapshot_key_file.as_deref(), Some("/etc/volutus/snapshot.key"));
        let error = Inventory::parse(&database("snapshot.key")).unwrap_err();
        assert!(matches!(&error, Error::Contradiction(text) if text.contains("full path")), "{error}");
    }

    #[test]
    fn the_synthetic_users_rate_has_bounds() {
        let at = |rate: &str| {
            let asked = format!("prober = {{ image = \"i\", requests_per_s = {rate}, ");
            Inventory::parse(&CLOUD.replacen("prober = { image = \"i\", ", &asked, 1))
        };
        assert_eq!(at("100").unwrap().prober.requests_per_s, Some(100));
        for wrong in ["0", "101", "300", "2.5"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_reached_by_tcp_has_a_port() {
        let reach = |rest: &str| {
            Inventory::parse(&format!(
                "{CLOUD}\n[[reach]]\nname = \"web\"\naddress = \"198.18.9.9\"\n{rest}\n"
            ))
        };
        assert_eq!(reach("how = \"tcp\"\nport = 443").unwrap().reach[0].how, ReachBy::Tcp);
        assert!(reach("how = \"ping\"").is_ok());
        for wrong in ["how = \"tcp\"", "how = \"tcp\"\nport = 0", "how = \"ping\"\nport = 7", "how = \"arp\""]
        {
            assert!(reach(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let error = Inventory::parse(&CLOUD.replace("port = 8774", "prot = 8774")).unwrap_err();
        assert!(matches!(error, Error::Syntax { line: 11, .. }), "{error}");
        assert!(error.to_string().contains("prot"), "{error}");
        let error = Inventory::parse(&CLOUD.replace("[\"api\"]", "[\"apo\"]"));
        assert!(error.unwrap_err().to_string().contains("apo"));
    }
}

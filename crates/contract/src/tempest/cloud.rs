//! Tempest's configuration for a cloud, made of what the cloud publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use serde_json::Value;
use volutus_openstack::{Auth, Client, Error as CloudError, Method, Request, ServiceType};

use crate::error::Error;

/// As whom Tempest works.
#[derive(Debug, Clone)]
pub enum Accounts {
    /// As the operator: Tempest makes users and projects for its tests, and removes them.
    Dynamic,
    /// As the users in a file of Tempest's own form (`accounts.yaml`).
    Provided(PathBuf),
}

/// A configuration.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// Options by group. Among them are passwords.
    groups: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
}

/// Options that are not told to anyone.
const SECRET: &[&str] = &["admin_password"];

impl Configuration {
    /// The file's text. It holds passwords.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (group, options) in &self.groups {
            let _ = writeln!(text, "[{group}]");
            for (option, value) in options {
                // `$` begins a reference. Source: oslo.config, "Option Value Interpolation".
                let _ = writeln!(text, "{option} = {}", value.replace('$', "$$"));
            }
        }
        text
    }

    /// The options without secrets, as `group.option`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let all =
            self.groups.iter().flat_map(|(group, options)| options.iter().map(move |pair| (group, pair)));
        let told = all.filter(|(_, (option, _))| !SECRET.contains(option));
        told.map(|(group, (option, value))| (format!("{group}.{option}"), value.clone())).collect()
    }

    fn set(&mut self, group: &'static str, option: &'static str, value: impl ToString) {
        self.groups.entry(group).or_default().insert(option, value.to_string());
    }
}

/// What a run is told besides what the cloud publishes.
pub(crate) struct Wanted<'a> {
    pub accounts: &'a Accounts,
    /// Whether tests log in to instances.
    pub validation: bool,
    /// Where Tempest may write.
    pub folder: &'a Path,
}

/// Asks the cloud and makes a configuration.
pub(crate) async fn configure(client: &Client, wanted: &Wanted<'_>) -> Result<Configuration, Error> {
    let mut made = Configuration { groups: BTreeMap::new() };
    identity(client, wanted.accounts, &mut made)?;
    made.set("DEFAULT", "log_file", wanted.folder.join("tempest.log").display());
    made.set("oslo_concurrency", "lock_path", wanted.folder.join("locks").display());
    made.set("validation", "run_validation", wanted.validation);
    let cloud = Cloud(client);
    let mut there = BTreeSet::new();
    for (kind, option) in [
        (ServiceType::Volume, "cinder"),
        (ServiceType::Image, "glance"),
        (ServiceType::Network, "neutron"),
        (ServiceType::Compute, "nova"),
    ] {
        let is_there = match client.endpoint(kind).await {
            Ok(_) => true,
            Err(CloudError::NoEndpoint { .. }) => false,
            Err(source) => return Err(failed(format!("finding the {kind} API"), source)),
        };
        made.set("service_available", option, is_there);
        if is_there {
            there.insert(kind);
        }
    }
    // Volutus knows no object storage; neither does it upgrade one.
    made.set("service_available", "swift", false);
    made.set("service_available", "horizon", false);
    let roles = cloud.list(ServiceType::Identity, "/roles", "roles").await?;
    if roles.iter().any(|role| text(role, "name") == Some("member")) {
        made.set("auth", "tempest_roles", "member");
    }
    if there.contains(&ServiceType::Compute) {
        compute(&cloud, there.contains(&ServiceType::Image), &mut made).await?;
    }
    if there.contains(&ServiceType::Network) {
        network(&cloud, &mut made).await?;
    }
    if there.contains(&ServiceType::Volume) {
        let token = client.token().await.map_err(|source| failed("asking for a token".to_owned(), source))?;
        let names = ServiceType::Volume.names().iter();
        if let Some(name) = names.into_iter().find(|name| token.has_service(name)) {
            made.set("volume", "catalog_type", name);
        }
        if let Some((min, max)) = cloud.microversions(ServiceType::Volume).await? {
            made.set("volume", "min_microversion", min);
            made.set("volume", "max_microversion", max);
        }
        let services = cloud.list(ServiceType::Volume, "/os-services", "services").await?;
        let backup = services.iter().any(|record| text(record, "binary") == Some("cinder-backup"));
        made.set("volume-feature-enabled", "backup", backup);
        let extensions = cloud.aliases(ServiceType::Volume).await?;
        made.set("volume-feature-enabled", "api_extensions", extensions);
    }
    Ok(made)
}

fn identity(client: &Client, accounts: &Accounts, made: &mut Configuration) -> Result<(), Error> {
    let config = client.config();
    let root = config.auth_url.as_str().trim_end_matches('/').trim_end_matches("/v3");
    made.set("identity", "uri_v3", format!("{root}/v3"));
    made.set("identity", "auth_version", "v3");
    made.set("identity", "v3_endpoint_type", format!("{}URL", config.interface));
    made.set("identity", "disable_ssl_certificate_validation", !config.verify);
    if let Some(region) = &config.region {
        made.set("identity", "region", region);
    }
    if let Some(file) = &config.cacert {
        made.set("identity", "ca_certificates_file", file.display());
    }
    match accounts {
        Accounts::Provided(file) => {
            made.set("auth", "use_dynamic_credentials", false);
            made.set("auth", "test_accounts_file", file.display());
        }
        Accounts::Dynamic => {
            let unfit = |why: &str| Error::Tempest {
                doing: format!("configuring Tempest as {}", config.who()),
                why: why.to_owned(),
                hint: "give --accounts FILE with users that are made already, or an operator with a password",
            };
            let Auth::Password { username, user_domain, password } = &config.auth else {
                return Err(unfit("an application credential cannot make users for tests"));
            };
            let project = match &config.scope {
                volutus_openstack::Scope::ProjectName { name, .. } => name,
                _ => return Err(unfit("its project is not given by name, which Tempest needs")),
            };
            let password = password.expose_secret();
            if password.chars().any(char::is_control) || password.trim() != password {
                return Err(unfit("no configuration file can hold its password"));
            }
            made.set("auth", "use_dynamic_credentials", true);
            made.set("auth", "admin_username", username);
            made.set("auth", "admin_project_name", project);
            made.set("auth", "admin_domain_name", user_domain.as_str());
            made.set("auth", "admin_password", password);
        }
    }
    Ok(())
}

async fn compute(cloud: &Cloud<'_>, images: bool, made: &mut Configuration) -> Result<(), Error> {
    if let Some((min, max)) = cloud.microversions(ServiceType::Compute).await? {
        made.set("compute", "min_microversion", min);
        made.set("compute", "max_microversion", max);
    }
    let mut flavors = cloud.list(ServiceType::Compute, "/flavors/detail", "flavors").await?;
    flavors.sort_by_key(|flavor| {
        let size = |key: &str| flavor.get(key).and_then(Value::as_u64).unwrap_or(u64::MAX);
        (size("ram"), size("disk"), size("vcpus"), text(flavor, "name").map(str::to_owned))
    });
    for (option, flavor) in ["flavor_ref", "flavor_ref_alt"].into_iter().zip(&flavors) {
        made.set("compute", option, text(flavor, "id").unwrap_or_default());
    }
    // Without a larger flavor nothing can be resized to it.
    made.set("compute-feature-enabled", "resize", flavors.len() > 1);
    if images {
        let path = "/images?status=active&visibility=public&limit=100";
        let mut images = cloud.list(ServiceType::Image, path, "images").await?;
        // The smallest boots fastest, and the kernels and ramdisks of others boot nothing.
        images.retain(|image| !matches!(text(image, "disk_format"), Some("aki" | "ari")));
        images.sort_by_key(|image| {
            let size = image.get("size").and_then(Value::as_u64).unwrap_or(u64::MAX);
            (size, text(image, "name").map(str::to_owned))
        });
        let second = images.get(1).or(images.first());
        for (option, image) in [("image_ref", images.first()), ("image_ref_alt", second)] {
            if let Some(id) = image.and_then(|image| text(image, "id")) {
                made.set("compute", option, id);
            }
        }
    }
    let services = cloud.list(ServiceType::Compute, "/os-services?binary=nova-compute", "services").await?;
    let up = services
        .iter()
        .filter(|record| text(record, "state") == Some("up") && text(record, "status") == Some("enabled"))
        .count();
    made.set("compute", "min_compute_nodes", up);
    made.set("compute-feature-enabled", "live_migration", up > 1);
    made.set("compute-feature-enabled", "cold_migration", up > 1);
    Ok(())
}

async fn network(cloud: &Cloud<'_>, made: &mut Configuration) -> Result<(), Error> {
    let extensions = cloud.aliases(ServiceType::Network).await?;
    // A network of its own for each test class hangs on a router.
    let routers = extensions.split(',').any(|alias| alias == "router");
    made.set("auth", "create_isolated_networks", routers);
    made.set("network-feature-enabled", "api_extensions", extensions);
    let shared = cloud.list(ServiceType::Network, "/networks?shared=true", "networks").await?;
    let is_internal =
        |network: &&Value| network.get("router:external").and_then(Value::as_bool) != Some(true);
    if let Some(name) = shared.iter().find(is_internal).and_then(|network| text(network, "name")) {
        made.set("compute", "fixed_network_name", name);
    }
    let external = cloud.list(ServiceType::Network, "/networks?router%3Aexternal=true", "networks").await?;
    if let Some(network) = external.first() {
        made.set("network", "public_network_id", text(network, "id").unwrap_or_default());
        made.set("network", "floating_network_name", text(network, "name").unwrap_or_default());
    }
    made.set("network-feature-enabled", "floating_ips", !external.is_empty());
    Ok(())
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn failed(doing: String, source: CloudError) -> Error {
    Error::Cloud { doing, source: Box::new(source) }
}

struct Cloud<'a>(&'a Client);

impl Cloud<'_> {
    /// A list; a first page is enough for what is looked for.
    async fn list(&self, kind: ServiceType, path: &str, key: &str) -> Result<Vec<Value>, Error> {
        let answer = self.0.request(&Request::new(Method::GET, kind, path)).await;
        let part = answer.and_then(|answer| answer.expect_status(&[200])?.part::<Vec<Value>>(key));
        part.map_err(|source| failed(format!("asking the {kind} API for {path}"), source))
    }

    /// Aliases of extensions, as a list of a configuration file.
    async fn aliases(&self, kind: ServiceType) -> Result<String, Error> {
        let extensions = self.list(kind, "/extensions", "extensions").await?;
        let aliases: BTreeSet<&str> = extensions.iter().filter_map(|each| text(each, "alias")).collect();
        Ok(aliases.into_iter().collect::<Vec<_>>().join(","))
    }

    /// The lowest and the highest microversion.
    async fn microversions(&self, kind: ServiceType) -> Result<Option<(String, String)>, Error> {
        let document = self.0.version_document(kind).await;
        let document =
            document.map_err(|source| failed(format!("asking the {kind} API for its versions"), source))?;
        let known = !document.min_version.is_empty();
        Ok(known.then_some((document.min_version, document.max_version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_the_file_and_nowhere_else() {
        let mut made = Configuration { groups: BTreeMap::new() };
        made.set("auth", "admin_password", "a$b=c");
        made.set("auth", "admin_username", "admin");
        made.set("compute", "min_compute_nodes", 2);
        assert_eq!(
            made.text(),
            "[auth]\nadmin_password = a$$b=c\nadmin_username = admin\n[compute]\nmin_compute_nodes = 2\n"
        );
        let settings = made.settings();
        assert_eq!(settings.len(), 2);
        assert_eq!(settings["compute.min_compute_nodes"], "2");
    }
}

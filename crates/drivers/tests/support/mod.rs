//! A driver of a cloud whose APIs a test answers itself, or nobody does.

use std::path::Path;
use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_drivers::CloudDriver;
use volutus_model::Inventory;

/// The driver of a cloud with these hosts, by name and address; `dir` holds what it reads and keeps.
pub fn driver(dir: &Path, auth_url: &str, hosts: &[(&str, &str)]) -> CloudDriver {
    let clouds = format!(
        "clouds: {{admin: {{auth: {{auth_url: '{auth_url}', username: u, password: p, project_name: p, \
         user_domain_name: Default, project_domain_name: Default}}}}}}\n"
    );
    std::fs::write(dir.join("clouds.yaml"), clouds).unwrap();
    let hosts: Vec<String> = hosts
        .iter()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    let inventory = format!(
        r#"
        format = 1
        name = "one"
        credentials = {{ clouds_yaml = "clouds.yaml", operator = "admin", prober = "admin" }}
        ssh = {{ user = "root" }}
        releases = {{ method = "venv", path = "/r/{{series}}", current = "/c/{{daemon}}", stage = ["true"] }}
        prober = {{ image = "i", flavor = "f", network = "n" }}
        host = [{}]
        "#,
        hosts.join(", ")
    );
    let inventory = Arc::new(Inventory::parse(&inventory).unwrap());
    CloudDriver::connect(inventory, dir, dir, Arc::new(Catalog::builtin().unwrap())).unwrap()
}

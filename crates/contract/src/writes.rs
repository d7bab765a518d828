//! Chains of writing requests about throw-away objects: each makes something, shows it, changes it and
//! deletes it again. Only what no agent, scheduler or compute has to do with is made.
//!
//! The requests are those of the services' API references (`POST /os-keypairs`, `POST /networks` and so
//! on), which both code bases validate by the same schemas at the microversions that are asked for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Microversion;
use crate::answers::{Body, Recorded};
use crate::document::Document;
use crate::forms::{is_id, is_time};

/// A public key of which nobody has the private one: nova checks that it is one (from 2.92 it makes none
/// itself), and tells its fingerprint.
const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILzXwlotvM0zRbpA6+kwQYwPgTz3c/YbYOQ4N/pwclKi volutus-write";
/// glance changes images with this kind of body only.
const IMAGE_PATCH: &str = "application/openstack-images-v2.1-json-patch";
const JSON: &str = "application/json";
/// From which server groups have one policy instead of a list.
const ONE_POLICY: Microversion = Microversion { major: 2, minor: 64 };
/// From which keypairs have a type.
const KEYPAIR_TYPE: Microversion = Microversion { major: 2, minor: 2 };
/// Fields that hold secrets.
const SECRETS: &[&str] = &["secret", "private_key", "password", "adminPass"];

/// What a template's holes are filled with: `name`, `user_id` and `until` at first, and the ids of what
/// was made.
pub type Bindings = BTreeMap<&'static str, String>;

/// Requests that follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The project: nova.
    pub service: &'static str,
    /// At which microversion.
    pub microversion: Option<Microversion>,
    /// The requests.
    pub steps: Vec<Step>,
}

/// One request with holes in braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: &'static str,
    /// Path below the service's root, perhaps with a query.
    pub path: &'static str,
    /// The body.
    pub body: Option<Value>,
    /// The body's media type.
    pub media: &'static str,
    /// What it makes.
    pub makes: Option<Made>,
}

/// Something that a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The hole that its id fills.
    pub hole: &'static str,
    /// Where the answer has it (RFC 6901).
    pub id: &'static str,
    /// The path by which it is deleted.
    pub path: &'static str,
}

impl Step {
    /// The operation, as a contract names it: `POST /networks`.
    #[must_use]
    pub fn operation(&self, service: &str) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let root = if service == "keystone" { "/v3" } else { "" };
        format!("{} {root}{path}", self.method)
    }

    /// The path; `None` where something has not been made.
    #[must_use]
    pub fn path(&self, bindings: &Bindings) -> Option<String> {
        filled(self.path, bindings)
    }

    /// The body with its holes filled.
    #[must_use]
    pub fn body(&self, bindings: &Bindings) -> Option<Value> {
        self.body.clone().map(|mut body| {
            texts(&mut body, &mut |text| {
                if let Some(full) = filled(text, bindings) {
                    *text = full;
                }
            });
            body
        })
    }
}

impl Made {
    /// The id in an answer.
    #[must_use]
    pub fn id_in(&self, answer: &Recorded) -> Option<String> {
        let Body::Json(body) = &answer.body else { return None };
        body.pointer(self.id)?.as_str().map(str::to_owned)
    }

    /// Where it is deleted; `None` where it has not been made.
    #[must_use]
    pub fn place(&self, bindings: &Bindings) -> Option<String> {
        filled(self.path, bindings)
    }
}

/// Fills holes; `None` where one stays.
fn filled(template: &str, bindings: &Bindings) -> Option<String> {
    let mut out = template.to_owned();
    for (hole, value) in bindings {
        out = out.replace(&format!("{{{hole}}}"), value);
    }
    (!out.contains('{')).then_some(out)
}

fn step(method: &'static str, path: &'static str) -> Step {
    Step { method, path, body: None, media: JSON, makes: None }
}

fn send(method: &'static str, path: &'static str, body: Value) -> Step {
    Step { body: Some(body), ..step(method, path) }
}

fn make(path: &'static str, body: Value, made: Made) -> Step {
    Step { makes: Some(made), ..send("POST", path, body) }
}

/// The chains of a service of a contract; none where all that it could make is handed to agents,
/// schedulers or computes (cinder), or is no user's (placement).
#[must_use]
pub fn chains(document: &Document, service: &str) -> Vec<Chain> {
    let unversioned = |service, steps| Chain { service, microversion: None, steps };
    match service {
        "nova" => {
            let range = document.services.get(service).and_then(|service| service.microversions);
            let Some(range) = range else { return Vec::new() };
            let mut versions = vec![range.min, range.max];
            versions.dedup();
            let both = |at| [keypair(at), server_group(at)].map(|steps| (at, steps));
            let all = versions.into_iter().flat_map(both);
            all.map(|(at, steps)| Chain { service: "nova", microversion: Some(at), steps }).collect()
        }
        "neutron" => vec![unversioned("neutron", security_group()), unversioned("neutron", network())],
        "glance" => vec![unversioned("glance", image())],
        "keystone" => vec![unversioned("keystone", credential())],
        _ => Vec::new(),
    }
}

fn keypair(at: Microversion) -> Vec<Step> {
    let mut keypair = json!({"name": "{name}", "public_key": PUBLIC_KEY});
    if at >= KEYPAIR_TYPE {
        keypair["type"] = "ssh".into();
    }
    let one = "/os-keypairs/{keypair}";
    let made = Made { hole: "keypair", id: "/keypair/name", path: one };
    vec![
        make("/os-keypairs", json!({"keypair": keypair}), made),
        step("GET", one),
        send("POST", "/os-keypairs", json!({"keypair": keypair})),
        step("DELETE", one),
        step("GET", one),
    ]
}

fn server_group(at: Microversion) -> Vec<Step> {
    let group = if at >= ONE_POLICY {
        json!({"name": "{name}", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}})
    } else {
        json!({"name": "{name}", "policies": ["anti-affinity"]})
    };
    let one = "/os-server-groups/{server_group}";
    vec![
        make(
            "/os-server-groups",
            json!({"server_group": group}),
            Made { hole: "server_group", id: "/server_group/id", path: one },
        ),
        step("GET", one),
        step("DELETE", one),
        step("GET", one),
    ]
}

fn security_group() -> Vec<Step> {
    let (one, rule) = ("/security-groups/{security_group}", "/security-group-rules/{rule}");
    vec![
        make(
            "/security-groups",
            json!({"security_group": {"name": "{name}", "description": "made by Volutus, to be deleted"}}),
            Made { hole: "security_group", id: "/security_group/id", path: one },
        ),
        step("GET", one),
        send("PUT", one, json!({"security_group": {"name": "{name}-b", "description": ""}})),
        make(
            "/security-group-rules",
            json!({"security_group_rule": {
                "security_group_id": "{security_group}", "direction": "ingress", "ethertype": "IPv4",
                "protocol": "tcp", "port_range_min": 8080, "port_range_max": 8081,
                "remote_ip_prefix": "192.0.2.0/24",
            }}),
            Made { hole: "rule", id: "/security_group_rule/id", path: rule },
        ),
        step("GET", rule),
        step("GET", "/security-groups?name={name}-b"),
        step("DELETE", rule),
        step("DELETE", one),
        step("GET", one),
    ]
}

/// A network and a subnet without DHCP, so that no agent serves it.
fn network() -> Vec<Step> {
    let (one, subnet) = ("/networks/{network}", "/subnets/{subnet}");
    vec![
        make(
            "/networks",
            json!({"network": {"name": "{name}", "admin_state_up": true}}),
            Made { hole: "network", id: "/network/id", path: one },
        ),
        step("GET", one),
        send("PUT", one, json!({"network": {"name": "{name}-b", "admin_state_up": false}})),
        make(
            "/subnets",
            json!({"subnet": {
                "name": "{name}", "network_id": "{network}", "ip_version": 4, "cidr": "192.0.2.0/24",
                "enable_dhcp": false, "gateway_ip": null,
            }}),
            Made { hole: "subnet", id: "/subnet/id", path: subnet },
        ),
        step("GET", subnet),
        send("PUT", subnet, json!({"subnet": {"name": "{name}-b", "dns_nameservers": ["192.0.2.53"]}})),
        step("GET", "/networks?name={name}-b"),
        step("DELETE", subnet),
        step("DELETE", one),
        step("GET", one),
    ]
}

/// The record of an image that never gets data.
fn image() -> Vec<Step> {
    let (one, tag) = ("/images/{image}", "/images/{image}/tags/volutus");
    let change = json!([
        {"op": "replace", "path": "/name", "value": "{name}-b"},
        {"op": "add", "path": "/volutus_write", "value": "1"},
    ]);
    vec![
        make(
            "/images",
            json!({
                "name": "{name}", "disk_format": "raw", "container_format": "bare", "visibility": "private",
            }),
            Made { hole: "image", id: "/id", path: one },
        ),
        step("GET", one),
        Step { media: IMAGE_PATCH, ..send("PATCH", one, change) },
        step("PUT", tag),
        step("GET", "/images?name={name}-b&status=queued"),
        step("DELETE", tag),
        step("DELETE", one),
        step("GET", one),
    ]
}

/// An application credential that ends by itself, and whose secret keystone chooses and nobody keeps.
fn credential() -> Vec<Step> {
    let one = "/users/{user_id}/application_credentials/{credential}";
    vec![
        make(
            "/users/{user_id}/application_credentials",
            json!({"application_credential": {
                "name": "{name}", "description": "made by Volutus, to be deleted", "expires_at": "{until}",
            }}),
            Made { hole: "credential", id: "/application_credential/id", path: one },
        ),
        step("GET", one),
        step("GET", "/users/{user_id}/application_credentials?name={name}"),
        step("DELETE", one),
        step("GET", one),
    ]
}

/// An answer in which what is another one in each chain by right is made alike, and is still told from
/// what it should not be: ids and names of what was made stand as their holes (`{network}`), other UUIDs
/// as `{uuid}`, times with zeros in the place of their digits, and secrets as `{secret}`.
#[must_use]
pub fn alike(mut answer: Recorded, bindings: &Bindings) -> Recorded {
    // The longest first: a name may be a part of an id's text, and never the other way about.
    let mut known: Vec<(&str, &str)> = bindings.iter().map(|(hole, value)| (*hole, value.as_str())).collect();
    known.retain(|(hole, value)| !value.is_empty() && !matches!(*hole, "user_id" | "until" | "keypair"));
    known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    let named = |text: &mut String| {
        for (hole, value) in &known {
            if text.contains(value) {
                *text = text.replace(value, &format!("{{{hole}}}"));
            }
        }
    };
    answer.headers.values_mut().for_each(named);
    match &mut answer.body {
        Body::Empty => {}
        Body::Text(text) => named(text),
        Body::Json(body) => {
            without_secrets(body);
            texts(body, &mut |text| {
                named(text);
                if text.contains('-') && is_id(text) {
                    // Without hyphens it is the user's or its project's, which are the same on both sides.
                    "{uuid}".clone_into(text);
                } else if is_time(text) {
                    *text = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
                }
            });
            in_order(body);
        }
    }
    answer
}

/// Calls for each text in a value.
fn texts(value: &mut Value, work: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => work(text),
        Value::Array(list) => list.iter_mut().for_each(|item| texts(item, work)),
        Value::Object(object) => object.values_mut().for_each(|item| texts(item, work)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn without_secrets(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_secrets),
        Value::Object(object) => {
            for (key, inner) in object {
                match inner {
                    Value::String(text) if SECRETS.contains(&key.as_str()) && !text.is_empty() => {
                        "{secret}".clone_into(text);
                    }
                    inner => without_secrets(inner),
                }
            }
        }
        _ => {}
    }
}

/// Lists of objects that have ids of chance come in an order of chance: by these.
fn in_order(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(in_order);
            let by_chance =
                |item: &Value| item.get("id").and_then(Value::as_str).is_some_and(|id| id.starts_with('{'));
            if list.len() > 1 && list.iter().all(by_chance) {
                list.sort_by_cached_key(crate::canonical::text);
            }
        }
        Value::Object(object) => object.values_mut().for_each(in_order),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Origin, OriginKind, Service};

    fn document() -> Document {
        let origin = Origin {
            kind: OriginKind::Installed,
            of: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            python: None,
        };
        let nova = json!({"microversions": {"min": "2.1", "max": "2.100"}});
        Document::new(origin, [("nova".to_owned(), Service::from_program(nova).unwrap())].into())
    }

    #[test]
    fn every_chain_deletes_what_it_makes_and_fills_all_its_holes() {
        let mut counts = Vec::new();
        for service in ["nova", "neutron", "glance", "keystone", "cinder", "placement"] {
            let chains = chains(&document(), service);
            counts.push(chains.len());
            for chain in chains {
                let start = [("name", "n"), ("user_id", "u"), ("until", "t")];
                let mut bindings: Bindings = start.map(|(hole, value)| (hole, value.to_owned())).into();
                let mut there = Vec::new();
                for step in &chain.steps {
                    let path = step.path(&bindings).unwrap();
                    let body = step.body(&bindings).map(|body| body.to_string()).unwrap_or_default();
                    assert!(!body.contains("\"{") && !body.contains("{name"), "{body}");
                    if let Some(made) = &step.makes {
                        bindings.insert(made.hole, format!("id-{}", made.hole));
                        there.push(made.place(&bindings).unwrap());
                    }
                    if step.method == "DELETE" {
                        there.retain(|place| *place != path);
                    }
                }
                assert_eq!(there, Vec::<String>::new(), "{chain:?}");
            }
        }
        assert_eq!(counts, [4, 2, 1, 1, 0, 0]);
    }

    #[test]
    fn microversions_have_bodies_of_their_own() {
        let bodies: Vec<String> = chains(&document(), "nova")
            .iter()
            .map(|chain| chain.steps[0].body.as_ref().unwrap().to_string())
            .collect();
        assert!(!bodies[0].contains("\"type\"") && bodies[2].contains("\"type\""), "{bodies:?}");
        assert!(bodies[1].contains("policies") && bodies[3].contains("\"policy\""), "{bodies:?}");
    }

    #[test]
    fn what_chance_chose_is_alike_and_what_is_wrong_is_not() {
        let (id, other) = ("0b2f6c52-0d4b-4c1e-9d7e-3f0a4f5f8a01", "9c3f6c52-0d4b-4c1e-9d7e-3f0a4f5f8a02");
        let bindings: Bindings =
            [("name", "volutus-write-r-1".to_owned()), ("network", id.to_owned())].into();
        let body = json!({
            "id": id, "name": "volutus-write-r-1-b", "at": "2026-11-26T08:00:01.5", "secret": "s3cret",
            "other": other, "null": null, "rules": [{"id": other, "n": 2}, {"id": other, "n": 1}],
            "links": {"self": format!("http://h/{id}")},
        });
        let headers = [("location".to_owned(), format!("http://h/{id}"))].into();
        let answer = alike(Recorded { status: 201, headers, body: Body::Json(body) }, &bindings);
        let expected = json!({
            "id": "{network}", "name": "{name}-b", "at": "0000-00-00T00:00:00.0", "secret": "{secret}",
            "other": "{uuid}", "null": null, "rules": [{"id": "{uuid}", "n": 1}, {"id": "{uuid}", "n": 2}],
            "links": {"self": "http://h/{network}"},
        });
        assert_eq!(
            (answer.body, answer.headers["location"].as_str()),
            (Body::Json(expected), "http://h/{network}")
        );
    }
}

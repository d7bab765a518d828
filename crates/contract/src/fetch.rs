//! Reads what the live endpoints of a cloud publish: versions, microversions, extensions, schemas,
//! and the shapes of limits and of what can be discovered.
//!
//! Only reading requests, one after another. Which policies hold for a member is published nowhere;
//! that part of a contract comes from packages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use volutus_openstack::{Answer, Client, Error as CloudError, Method, Request, ServiceType};

use crate::canonical;
use crate::document::{Document, Origin, OriginKind, Resource, Service};
use crate::error::Error;
use crate::microversion::Range;

/// Schemas that glance publishes. Source: glance, API reference, "Image schemas" and "Metadata
/// definition schemas".
const IMAGE_SCHEMAS: &[&str] = &[
    "image",
    "images",
    "member",
    "members",
    "task",
    "tasks",
    "metadefs/namespace",
    "metadefs/namespaces",
    "metadefs/object",
    "metadefs/objects",
    "metadefs/property",
    "metadefs/properties",
    "metadefs/resource_type",
    "metadefs/resource_types",
    "metadefs/tag",
    "metadefs/tags",
];

/// Documents of figures and choices, whose shape is a promise.
fn documents(service: ServiceType) -> &'static [&'static str] {
    match service {
        ServiceType::Compute | ServiceType::Volume => &["/limits"],
        ServiceType::Identity => &["/limits/model"],
        ServiceType::Image => &["/info/import", "/info/stores", "/info/usage"],
        ServiceType::Network | ServiceType::Placement => &[],
    }
}

/// Reads what a cloud publishes. `of` names the cloud.
///
/// # Errors
/// [`Error::Cloud`] where there is no token, or a service that the catalog has does not answer. What
/// answers with an error status is a part that was not observed.
pub async fn from_cloud(client: &Client, of: &str, at: Timestamp) -> Result<Document, Error> {
    let mut services = BTreeMap::new();
    for kind in ServiceType::ALL {
        match client.endpoint(kind).await {
            Ok(_) => {}
            Err(CloudError::NoEndpoint { .. }) => continue,
            Err(source) => {
                return Err(Error::Cloud {
                    doing: format!("finding the {kind} API"),
                    source: Box::new(source),
                });
            }
        }
        let service = one(client, kind).await.map_err(|source| Error::Cloud {
            doing: format!("reading what the {kind} API publishes"),
            source: Box::new(source),
        })?;
        services.insert(kind.project().to_owned(), service);
    }
    let origin = Origin { kind: OriginKind::Live, of: of.to_owned(), at, python: None };
    Ok(Document::new(origin, services))
}

async fn one(client: &Client, kind: ServiceType) -> Result<Service, CloudError> {
    let mut service = Service::default();
    let answer: Value = client.version_answer(kind).await?.json()?;
    read_versions(&mut service, &answer);
    if matches!(kind, ServiceType::Compute | ServiceType::Network | ServiceType::Volume)
        && let Some(body) = read(client, kind, "/extensions", "extensions", &mut service).await?
    {
        service.extensions = extensions(&body);
    }
    if kind == ServiceType::Image {
        for name in IMAGE_SCHEMAS {
            let path = format!("/schemas/{name}");
            if let Some(body) = read(client, kind, &path, &path, &mut service).await? {
                let schema = service.keep(&body);
                service.resources.insert(path, Resource::Published { schema });
            }
        }
    }
    for path in documents(kind) {
        let request = format!("GET {path}");
        if let Some(body) = read(client, kind, path, &request, &mut service).await? {
            service.published.insert(request, canonical::shape(&body));
        }
    }
    Ok(service)
}

/// The body of an answer; a part that is not there, or that is refused, is named as unobserved.
async fn read(
    client: &Client,
    kind: ServiceType,
    path: &str,
    part: &str,
    service: &mut Service,
) -> Result<Option<Value>, CloudError> {
    let answer: Answer = client.request(&Request::new(Method::GET, kind, path)).await?;
    if answer.status != 200 {
        service.unobserved.insert(part.to_owned(), format!("status {}: {}", answer.status, answer.message()));
        return Ok(None);
    }
    answer.json().map(Some)
}

/// Takes what a version document of any service says.
fn read_versions(service: &mut Service, answer: &Value) {
    let listed = answer.get("versions");
    let listed = listed.and_then(|list| list.get("values")).or(listed).and_then(Value::as_array);
    let entries = listed.into_iter().flatten().chain(answer.get("version"));
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(id) = text("id") {
            service.api_versions.push(id.to_owned());
        }
        let max = text("max_version").or_else(|| text("version"));
        let range = text("min_version")
            .zip(max)
            .and_then(|(min, max)| Some(Range { min: min.parse().ok()?, max: max.parse().ok()? }));
        service.microversions = service.microversions.or(range);
    }
    service.api_versions.sort();
    service.api_versions.dedup();
}

fn extensions(body: &Value) -> BTreeMap<String, Value> {
    let list = body.get("extensions").and_then(Value::as_array);
    let entry = |item: &Value| {
        let alias = item.get("alias")?.as_str()?.to_owned();
        let name: Map<String, Value> =
            item.get("name").map(|name| ("name".to_owned(), name.clone())).into_iter().collect();
        Some((alias, json!(name)))
    };
    list.into_iter().flatten().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_documents_of_all_forms_are_read() {
        let read = |answer: Value| {
            let mut service = Service::default();
            read_versions(&mut service, &answer);
            (
                service.api_versions.join(" "),
                service.microversions.map(|range| format!("{} {}", range.min, range.max)),
            )
        };
        let nova = json!({"version": {"id": "v2.1", "version": "2.103", "min_version": "2.1"}});
        assert_eq!(read(nova), ("v2.1".to_owned(), Some("2.1 2.103".to_owned())));
        let placement = json!({"versions": [{"id": "v1.0", "max_version": "1.39", "min_version": "1.0"}]});
        assert_eq!(read(placement), ("v1.0".to_owned(), Some("1.0 1.39".to_owned())));
        let keystone = json!({"versions": {"values": [{"id": "v3.14", "status": "stable"}]}});
        assert_eq!(read(keystone), ("v3.14".to_owned(), None));
        let glance = json!({"versions": [{"id": "v2.17"}, {"id": "v2.0"}, {"id": "v2.0"}]});
        assert_eq!(read(glance), ("v2.0 v2.17".to_owned(), None));
        assert_eq!(read(json!([])), (String::new(), None));
    }

    #[test]
    fn extensions_are_known_by_alias() {
        let body =
            json!({"extensions": [{"alias": "dns", "name": "DNS", "updated": "2020"}, {"name": "nameless"}]});
        assert_eq!(extensions(&body), [("dns".to_owned(), json!({"name": "DNS"}))].into());
    }
}

//! The contract of a release: one canonical, versioned, hashed JSON document.
//!
//! Schemas stand once each, under their hash. What could not be seen is named with the reason
//! (`unobserved`), so that nobody takes it for empty.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical;
use crate::error::Error;
use crate::microversion::{Microversion, Range, Span};

/// The format that this version writes and reads.
pub const FORMAT: &str = "volutus-contract/1";

/// The contract of the services of one release or cloud.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`FORMAT`].
    pub format: String,
    /// Hash of the services, 32 hexadecimal digits. Where and when it was read is not part of it.
    pub hash: String,
    /// Where it is from.
    pub origin: Origin,
    /// By project: nova.
    pub services: BTreeMap<String, Service>,
}

/// Where a document is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// How it was read.
    pub kind: OriginKind,
    /// The environment, host or cloud.
    pub of: String,
    /// When.
    pub at: Timestamp,
    /// The Python that ran the release's code; patterns made of its Unicode tables depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
}

/// How a document was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginKind {
    /// From installed packages: everything that they can serve.
    Installed,
    /// From live endpoints: what they publish, as this cloud is configured.
    Live,
}

/// The contract of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Version of the package; of a live service unknown.
    pub version: Option<String>,
    /// Lowest and highest microversion.
    pub microversions: Option<Range>,
    /// Major versions, and minor ones that the version document lists: v2.17.
    pub api_versions: Vec<String>,
    /// Extensions by alias.
    pub extensions: BTreeMap<String, Value>,
    /// By name: `GET /servers/{id}`, `POST /servers/{server_id}/action (os-start)`.
    pub operations: BTreeMap<String, Operation>,
    /// Schemas by hash.
    pub schemas: BTreeMap<String, Value>,
    /// Schemas and attributes that belong to no single operation, by name.
    pub resources: BTreeMap<String, Resource>,
    /// Policy defaults by name.
    pub policies: BTreeMap<String, Policy>,
    /// Configuration options by `group/name`.
    pub options: BTreeMap<String, ConfigOption>,
    /// Console scripts.
    pub scripts: Vec<String>,
    /// The shapes of documents that live endpoints publish, by request.
    pub published: BTreeMap<String, Value>,
    /// Parts that could not be read, with the reason.
    pub unobserved: BTreeMap<String, String>,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// HTTP method.
    pub method: String,
    /// Path below the service's root, with its parameters in braces.
    pub path: String,
    /// The key of the body that chooses among actions of one path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// In which microversions it exists.
    pub versions: Vec<Span>,
    /// Whether it is only kept to say that it is gone (status 410).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Statuses of success where the code declares one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<Coded>,
    /// Statuses of errors where the code declares them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Coded>,
    /// Schemas of the request's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<Schemed>,
    /// Schemas of the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Schemed>,
    /// Schemas of the answer's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response: Vec<Schemed>,
}

impl Operation {
    /// Whether it exists at a microversion.
    #[must_use]
    pub fn exists(&self, at: Option<Microversion>) -> bool {
        self.versions.iter().any(|span| span.holds(at))
    }
}

/// Statuses within some microversions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coded {
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// The statuses.
    pub codes: Vec<u16>,
}

/// A schema within some microversions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Schemed {
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// Its hash, under which the service has it.
    pub schema: String,
}

/// A schema or an attribute map with a name of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "use")]
pub enum Resource {
    /// A schema that the API serves to its users.
    Published {
        /// Its hash.
        schema: String,
    },
    /// A schema that the code validates with somewhere.
    Internal {
        /// Its hash.
        schema: String,
    },
    /// Attributes of a resource of neutron, with what is promised of each.
    Attributes {
        /// By name.
        attributes: BTreeMap<String, Value>,
    },
}

/// The default of one policy rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The rule, as text.
    pub check: String,
    /// Scopes of tokens it accepts.
    pub scopes: Vec<String>,
    /// Which of reader, member and admin it allows, in their own project; `None` where oslo.policy
    /// could not tell.
    pub allowed: Option<Vec<String>>,
    /// Why it could not.
    pub unobserved: Option<String>,
    /// Whether it is to go.
    pub deprecated_for_removal: bool,
    /// The operations it guards, as its documentation has them.
    pub operations: Vec<String>,
}

/// One configuration option.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigOption {
    /// Its type, as oslo.config prints it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its default, without what only one machine has.
    pub default: Option<String>,
    /// Whether it is to go.
    pub deprecated_for_removal: bool,
    /// Names it had before, `group/name`.
    pub deprecated_names: Vec<String>,
}

impl Document {
    /// A document of these services, hashed.
    #[must_use]
    pub fn new(origin: Origin, services: BTreeMap<String, Service>) -> Self {
        let mut document = Self { format: FORMAT.to_owned(), hash: String::new(), origin, services };
        document.hash = document.compute_hash();
        document
    }

    /// The hash of the services as they are now.
    #[must_use]
    pub fn compute_hash(&self) -> String {
        let services = serde_json::to_value(&self.services).unwrap_or(Value::Null);
        canonical::hash(&json!({"format": self.format, "services": services}))
    }

    /// Reads a document and sees that it is whole. `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is none, of another format, or names a schema that it does not
    /// have; [`Error::Altered`] where its content is not what its hash says.
    pub fn parse(what: &str, text: &str) -> Result<Self, Error> {
        let malformed = |why: String| Error::Malformed { what: what.to_owned(), why };
        let value: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            Some(other) => return Err(malformed(format!("format {other}; this version reads {FORMAT}"))),
            None => return Err(malformed("it names no format".to_owned())),
        }
        let document: Self = serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
        let found = document.compute_hash();
        if found != document.hash {
            return Err(Error::Altered { what: what.to_owned(), said: document.hash, found });
        }
        for (name, service) in &document.services {
            if let Some(missing) = service.referenced().find(|hash| !service.schemas.contains_key(*hash)) {
                return Err(malformed(format!("{name} names schema {missing}, which is not there")));
            }
        }
        Ok(document)
    }

    /// The document as text; equal contracts of equal origin are equal texts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = canonical::text(&serde_json::to_value(self).unwrap_or(Value::Null));
        text.push('\n');
        text
    }
}

impl Service {
    /// The hashes of all schemas that something names.
    fn referenced(&self) -> impl Iterator<Item = &String> {
        let operations = self.operations.values().flat_map(|operation| {
            operation.request.iter().chain(&operation.query).chain(&operation.response).map(|s| &s.schema)
        });
        operations.chain(self.resources.values().filter_map(|resource| match resource {
            Resource::Published { schema } | Resource::Internal { schema } => Some(schema),
            Resource::Attributes { .. } => None,
        }))
    }

    /// Takes a schema in, in its canonical form; hands back its hash.
    pub fn keep(&mut self, schema: &Value) -> String {
        let schema = canonical::schema(schema);
        let hash = canonical::hash(&schema);
        self.schemas.entry(hash.clone()).or_insert(schema);
        hash
    }

    /// The service as the programs in `programs/` hand it over, where schemas stand in full.
    ///
    /// # Errors
    /// What is not as expected.
    pub fn from_program(raw: Value) -> Result<Self, String> {
        let mut raw = raw;
        let mut service = Self::default();
        let operations = raw.get_mut("operations").map(Value::take).unwrap_or_default();
        let resources = raw.get_mut("resources").map(Value::take).unwrap_or_default();
        for (name, operation) in object(operations, "operations")? {
            let mut operation = operation;
            for kind in ["request", "query", "response"] {
                for entry in operation.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
                    let hash = service.keep(entry.get("schema").unwrap_or(&Value::Null));
                    entry["schema"] = Value::String(hash);
                }
            }
            let mut operation: Operation =
                serde_json::from_value(operation).map_err(|error| format!("operation {name}: {error}"))?;
            operation.versions.sort();
            operation.success.sort();
            operation.errors.sort();
            for list in [&mut operation.request, &mut operation.query, &mut operation.response] {
                list.sort();
                list.dedup();
            }
            service.operations.insert(name, operation);
        }
        for (name, resource) in object(resources, "resources")? {
            let mut resource = resource;
            if let Some(schema) = resource.get("schema") {
                resource["schema"] = Value::String(service.keep(&schema.clone()));
            }
            let resource =
                serde_json::from_value(resource).map_err(|error| format!("resource {name}: {error}"))?;
            service.resources.insert(name, resource);
        }
        for key in ["operations", "resources"] {
            raw.as_object_mut().map(|map| map.remove(key));
        }
        let rest: Self = serde_json::from_value(raw).map_err(|error| error.to_string())?;
        Ok(Self {
            operations: service.operations,
            resources: service.resources,
            schemas: service.schemas,
            ..rest
        })
    }
}

fn object(value: Value, what: &str) -> Result<serde_json::Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err(format!("{what} is no object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let raw = json!({
            "version": "33.0.2", "microversions": {"min": "2.1", "max": "2.103"},
            "operations": {"GET /a": {"method": "GET", "path": "/a", "action": null, "versions": [{"min": null, "max": null}],
                "response": [{"min": "2.1", "max": null, "schema": {"enum": ["b", "a"]}}]}},
            "resources": {"/schemas/image": {"use": "published", "schema": {"enum": ["a", "b"]}}},
        });
        let origin = Origin {
            kind: OriginKind::Installed,
            of: "/r".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            python: Some("3.11.2".to_owned()),
        };
        Document::new(origin, [("nova".to_owned(), Service::from_program(raw).unwrap())].into())
    }

    #[test]
    fn equal_schemas_stand_once() {
        assert_eq!(document().services["nova"].schemas.len(), 1);
    }

    #[test]
    fn a_document_comes_back_as_it_was_written() {
        let document = document();
        assert_eq!(Document::parse("x", &document.to_text()).unwrap(), document);
    }

    #[test]
    fn where_it_is_from_does_not_change_its_hash() {
        let mut other = document();
        other.origin.of = "/elsewhere".to_owned();
        assert_eq!(other.compute_hash(), document().hash);
    }

    #[test]
    fn an_altered_document_is_refused() {
        let text = document().to_text().replace("2.103", "2.104");
        assert!(matches!(Document::parse("x", &text), Err(Error::Altered { .. })));
    }

    #[test]
    fn what_is_no_document_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "EOF"),
            ("{}", "names no format"),
            (r#"{"format": "volutus-contract/9"}"#, "volutus-contract/9"),
            (r#"{"format": "volutus-contract/1"}"#, "missing field"),
        ] {
            let error = Document::parse("x", text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let mut broken = document();
        if let Some(service) = broken.services.get_mut("nova") {
            service.schemas.clear();
        }
        broken.hash = broken.compute_hash();
        assert!(Document::parse("x", &broken.to_text()).unwrap_err().to_string().contains("is not there"));
    }
}

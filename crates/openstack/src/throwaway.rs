//! Objects that are made to compare how old and new code make them, and that are to be gone again.

use reqwest::Method;
use serde_json::Value;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::quote;
use crate::error::Error;

/// What all their names begin with; nothing else has such names.
pub const THROWAWAY: &str = "volutus-write-";

/// One kind of them.
struct Kind {
    service: ServiceType,
    what: &'static str,
    /// The path of the list, whose query keeps to the user's own.
    list: &'static str,
    /// What the list is called in its answer.
    key: &'static str,
    /// Where an element has its name (RFC 6901); nova wraps each keypair.
    name: &'static str,
    /// Where it has what its path ends with.
    id: &'static str,
}

/// A network's subnets go with it, and a security group's rules.
const KINDS: [Kind; 6] = [
    Kind {
        service: ServiceType::Compute,
        what: "keypair",
        list: "/os-keypairs",
        key: "keypairs",
        name: "/keypair/name",
        id: "/keypair/name",
    },
    Kind {
        service: ServiceType::Compute,
        what: "server group",
        list: "/os-server-groups",
        key: "server_groups",
        name: "/name",
        id: "/id",
    },
    Kind {
        service: ServiceType::Network,
        what: "security group",
        list: "/security-groups?project_id={project}",
        key: "security_groups",
        name: "/name",
        id: "/id",
    },
    Kind {
        service: ServiceType::Network,
        what: "network",
        list: "/networks?project_id={project}",
        key: "networks",
        name: "/name",
        id: "/id",
    },
    Kind {
        service: ServiceType::Image,
        what: "image",
        list: "/images?owner={project}&limit=1000",
        key: "images",
        name: "/name",
        id: "/id",
    },
    Kind {
        service: ServiceType::Identity,
        what: "application credential",
        list: "/users/{user}/application_credentials",
        key: "application_credentials",
        name: "/name",
        id: "/id",
    },
];

impl Client {
    /// Deletes the throw-away objects of this user and its project, of one service or of all; one line for each
    /// that was found. What is being deleted by somebody else does no harm.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sweep_throwaways(&self, service: Option<ServiceType>) -> Result<Vec<String>, Error> {
        let token = self.token().await?;
        let project = quote(token.project_id.as_deref().unwrap_or_default());
        let mut found = Vec::new();
        for kind in KINDS.iter().filter(|kind| service.is_none_or(|service| service == kind.service)) {
            let list = kind.list.replace("{project}", &project).replace("{user}", &quote(&token.user_id));
            let answer = self.request(&Request::new(Method::GET, kind.service, list.clone())).await?;
            // A user who has come by an application credential may neither make nor list any.
            if kind.service == ServiceType::Identity && answer.status == 403 {
                continue;
            }
            let objects: Vec<Value> = answer.expect_status(&[200])?.part(kind.key)?;
            let collection = list.split('?').next().unwrap_or_default();
            for object in objects {
                let text = |place| object.pointer(place).and_then(Value::as_str);
                let (Some(name), Some(id)) = (text(kind.name), text(kind.id)) else { continue };
                if !name.starts_with(THROWAWAY) {
                    continue;
                }
                let path = format!("{collection}/{}", quote(id));
                self.request(&Request::new(Method::DELETE, kind.service, path))
                    .await?
                    .expect_status(&[202, 204, 404])?;
                found.push(format!("{} {name} ({id})", kind.what));
            }
        }
        Ok(found)
    }
}

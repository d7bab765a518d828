//! What an instance is to be made of.

use serde_json::{Value, json};

/// What an instance is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A network by id; nova makes the port.
    Network(String),
    /// A port by id.
    Port(String),
}

/// Where an instance is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// Where the scheduler puts it.
    #[default]
    Anywhere,
    /// In this availability zone, or `ZONE:HOST`, which bypasses the scheduler's filters (not
    /// placement, which knows no candidates on a disabled compute).
    Zone(String),
    /// On this host, if the scheduler's filters allow it; for administrators.
    Host(String),
}

/// An instance to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServer {
    /// Its name.
    pub name: String,
    /// The image's id.
    pub image: String,
    /// The flavor's id.
    pub flavor: String,
    /// What it is attached to; nothing where empty.
    pub attachments: Vec<Attachment>,
    /// Where it is to be.
    pub destination: Destination,
}

impl NewServer {
    /// The body of the request that creates it.
    #[must_use]
    pub fn body(&self) -> Value {
        let networks = match self.attachments.as_slice() {
            [] => json!("none"),
            some => some
                .iter()
                .map(|attachment| match attachment {
                    Attachment::Network(id) => json!({"uuid": id}),
                    Attachment::Port(id) => json!({"port": id}),
                })
                .collect(),
        };
        let mut server = json!({
            "name": self.name,
            "imageRef": self.image,
            "flavorRef": self.flavor,
            "networks": networks,
        });
        match &self.destination {
            Destination::Anywhere => {}
            Destination::Zone(zone) => server["availability_zone"] = json!(zone),
            Destination::Host(host) => server["host"] = json!(host),
        }
        json!({"server": server})
    }
}

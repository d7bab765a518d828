//! Asks a program that runs in a release's own Python on a host.

use std::time::Duration;

use serde_json::{Value, json};
use volutus_model::Series;
use volutus_model::name::{HostName, ServiceName};

use crate::CloudDriver;
use crate::channel::{Channel, Trouble};
use crate::ssh::Error;

impl CloudDriver {
    /// The Python of a service's release on a host: that of `series`, or where there is none, that of
    /// the release which one of the service's daemons there is linked to.
    ///
    /// # Errors
    /// [`Error::Host`] where no daemon of the service is declared on the host.
    pub fn release_python(
        &self,
        host: &HostName,
        service: &ServiceName,
        series: Option<Series>,
    ) -> Result<String, Error> {
        if let Some(series) = series {
            return Ok(format!("{}/bin/python3", self.inventory.releases.path_of(series, service)));
        }
        let kinds =
            self.catalog.services.get(service).map(|known| known.daemons.as_slice()).unwrap_or_default();
        let mut declared = self.inventory.daemons().filter(|(_, declared, _)| declared.name == *host);
        let daemon = declared.find(|(id, ..)| kinds.iter().any(|known| known.kind == id.kind));
        let (id, ..) = daemon.ok_or_else(|| Error::Host {
            host: host.clone(),
            doing: format!("tell which release of {service} it runs"),
            seen: "the cloud description declares none of its daemons there".to_owned(),
        })?;
        Ok(format!("{}/bin/python3", self.inventory.releases.current_of(service, &id.kind)))
    }

    /// Sends a program to the Python at `python` on a host, and asks it one question. Nothing stays
    /// there: the program ends with the conversation.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask_release(
        &self,
        host: &HostName,
        python: &str,
        parts: &[&str],
        question: &str,
        timeout: Duration,
    ) -> Result<Value, Trouble> {
        let mut channel = Channel::to_release(&self.hosts, host, python, parts).await?;
        channel.ask(question, json!({}), timeout).await
    }
}

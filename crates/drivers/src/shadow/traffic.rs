//! What the site's own clients ask, from the log of its load balancer where Volutus runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};

use volutus_contract::Document;
use volutus_contract::requests::Prepared;
use volutus_contract::traffic::{Joined, Traffic};

use crate::CloudDriver;

/// The service behind each backend of the load balancer.
pub(super) fn services(cloud: &CloudDriver) -> BTreeMap<String, String> {
    let known = cloud.catalog.daemons();
    let mut services = BTreeMap::new();
    for (id, _, declared) in cloud.inventory.daemons() {
        let Some((service, _)) = known.get(&id.kind) else { continue };
        for backend in &declared.backends {
            services.insert(backend.to_string(), service.name.to_string());
        }
    }
    services
}

/// The requests of a log for one service, and what is to be told of it.
///
/// # Errors
/// Why the log cannot be read.
pub(super) async fn asked(
    path: &str,
    services: BTreeMap<String, String>,
    document: &Document,
    service: &str,
) -> Result<(Vec<Prepared>, String), String> {
    let file = path.to_owned();
    let read = move || -> io::Result<Traffic> {
        let mut traffic = Traffic::new(services);
        traffic.read(BufReader::new(File::open(file)?))?;
        Ok(traffic)
    };
    let unread = |why: String| format!("the log {path} of `traffic` in [contract] could not be read: {why}");
    let traffic = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| unread(error.to_string()))?
        .map_err(|error| unread(error.to_string()))?;
    let joined = traffic.joined(document, service);
    let told = told(&traffic, &joined);
    Ok((joined.requests.into_iter().map(|(request, _)| request).collect(), told))
}

fn told(traffic: &Traffic, joined: &Joined) -> String {
    let made: u64 =
        joined.requests.iter().filter(|(one, _)| !one.is_of_named_objects()).map(|(_, count)| count).sum();
    format!(
        "{} requests stand for {made} of clients in {} lines of the log ({} not understood); {} of clients are \
         of no known reading operation, {} too rare",
        joined.requests.len(),
        traffic.figures.lines,
        traffic.figures.malformed,
        joined.unknown,
        joined.rare
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use volutus_contract::document::{Origin, OriginKind, Service};

    use super::*;

    fn document() -> Document {
        let origin = Origin {
            kind: OriginKind::Installed,
            of: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            python: None,
        };
        let operations = json!({"a": {"method": "GET", "path": "/v2/images", "versions": [{}]}});
        let glance = Service::from_program(json!({"operations": operations})).unwrap();
        Document::new(origin, [("glance".to_owned(), glance)].into())
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_told_and_a_line_that_cannot_is_counted() {
        let services: BTreeMap<String, String> = [("glance".to_owned(), "glance".to_owned())].into();
        let error = asked("/nowhere/haproxy.log", services.clone(), &document(), "glance").await.unwrap_err();
        assert!(error.contains("/nowhere/haproxy.log"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let line =
            "198.51.100.7:1 [26/Nov/2026:08:00:01.004] x glance/ctl2 0/0/0/5/5 200 9 - - ---- 1/1/0/0/0 0/0";
        let text = format!("{line} \"GET /v2/images?limit=5 HTTP/1.1\"\nnonsense\n\u{fffd}{line}");
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let (requests, told) = asked(path, services, &document(), "glance").await.unwrap();
        assert_eq!(requests[0].query.as_deref(), Some("limit=5"));
        assert!(told.starts_with("1 requests stand for 1 of clients in 3 lines of the log (2 not"), "{told}");
    }
}

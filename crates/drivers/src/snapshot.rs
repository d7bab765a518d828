//! Consistent copies of databases, on their own host.

use serde::Deserialize;
use serde_json::json;
use volutus_model::name::{HostName, ServiceName};
use volutus_model::outcome::Outcome;

use crate::attempt::{Attempt, Attempted, command, last_line, permanent};
use crate::channel::standalone;
use crate::work::{Program, perform, safe};

#[derive(Debug, Deserialize)]
struct Copy {
    path: String,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    files: Vec<Copy>,
    why: String,
}

/// Copies the databases of a service into files of `directory`, each with its checksum beside it.
pub(crate) async fn take(
    attempt: &Attempt<'_>,
    service: &ServiceName,
    host: &HostName,
    databases: &[String],
    directory: &str,
) -> Attempted {
    let label = format!("{}-{}", safe(service.as_str()), safe(attempt.order.attempt.as_str()));
    let request = json!({"databases": databases, "directory": directory, "label": label});
    let program = Program::Python(standalone(&request, &[include_str!("host/snapshot.py")]));
    let slot = format!("snapshot of {}", safe(service.as_str()));
    let finished = perform(attempt, host, &slot, &program).await?;
    let report: Report = serde_json::from_str(last_line(&finished.output)).unwrap_or_default();
    if finished.exit_code == 0 && report.files.len() == databases.len() {
        let files: Vec<String> = report
            .files
            .iter()
            .map(|file| format!("{} ({} bytes, sha256 {})", file.path, file.bytes, file.sha256))
            .collect();
        return Ok(Outcome::done(files.join(", ")));
    }
    let why = if report.why.is_empty() { last_line(&finished.output) } else { &report.why };
    let argv = vec!["mariadb-dump".to_owned(), "--single-transaction".to_owned()];
    Err(permanent(
        format!("no copy of {service}'s databases ({}) on {host}: {why}", databases.join(", ")),
        format!("make room in {directory} or mend what is said, then resume; nothing has been changed"),
        vec![command(host, &[argv, databases.to_vec()].concat(), Some(finished.exit_code), &finished.output)],
    ))
}

//! Consistent copies of databases, on their own host: taken, encrypted, and restored in a scratch
//! server before anything relies on them.

use serde::Deserialize;
use serde_json::{Value, json};
use volutus_model::name::{HostName, ServiceName};
use volutus_model::outcome::Outcome;

use crate::attempt::{Attempt, Attempted, command, last_line, permanent};
use crate::channel::standalone;
use crate::work::{Program, perform, safe};

pub(crate) const COMMON: &str = include_str!("host/snapshot/common.py");
pub(crate) const LOOK: &str = include_str!("host/snapshot/look.py");
const PARTS: [&str; 5] = [
    COMMON,
    include_str!("host/snapshot/scratch.py"),
    include_str!("host/snapshot/take.py"),
    include_str!("host/snapshot/restore.py"),
    include_str!("host/snapshot/run.py"),
];

/// What is to be copied, and how the copy is kept.
pub(crate) struct Wanted<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The databases.
    pub databases: &'a [String],
    /// The snapshot's directory.
    pub directory: &'a str,
    /// The file with the key.
    pub key_file: Option<&'a str>,
    /// How many snapshots stay.
    pub keep: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Copy {
    file: String,
    bytes: u64,
    sha256: String,
    encrypted: bool,
    tables: u64,
    removed: Vec<String>,
}

/// A program about snapshots, for the host's Python.
pub(crate) fn program(request: &Value) -> Program {
    Program::Python(standalone(request, &PARTS))
}

/// Why a program about snapshots failed.
pub(crate) fn why(output: &str) -> String {
    #[derive(Deserialize)]
    struct Why {
        why: String,
    }
    let line = last_line(output);
    serde_json::from_str(line).map_or_else(|_| line.to_owned(), |Why { why }| why)
}

/// Copies the databases of a service into `directory`, and sees that the copy can be restored.
pub(crate) async fn take(attempt: &Attempt<'_>, host: &HostName, wanted: &Wanted<'_>) -> Attempted {
    let Wanted { service, databases, directory, key_file, keep } = wanted;
    let request = json!({
        "do": "take", "directory": directory, "service": service, "databases": databases,
        "cloud": attempt.cloud.inventory.name, "run": attempt.order.run,
        "attempt": safe(attempt.order.attempt.as_str()), "key_file": key_file, "keep": keep,
    });
    let finished = perform(attempt, host, &slot(service), &program(&request)).await?;
    if finished.exit_code == 0
        && let Ok(copy) = serde_json::from_str::<Copy>(last_line(&finished.output))
    {
        let mut text = format!(
            "{directory}/{} ({} bytes, {} tables, sha256 {}{}), restored and compared in a scratch server",
            copy.file,
            copy.bytes,
            copy.tables,
            copy.sha256,
            if copy.encrypted { ", encrypted" } else { "" },
        );
        if !copy.removed.is_empty() {
            text.push_str(&format!("; older snapshots removed: {}", copy.removed.join(", ")));
        }
        return Ok(Outcome::done(text));
    }
    let argv = vec!["mariadb-dump".to_owned(), "--single-transaction".to_owned()];
    Err(permanent(
        format!(
            "no verified copy of {service}'s databases ({}) on {host}: {}",
            databases.join(", "),
            why(&finished.output)
        ),
        format!("mend what is said (room in {directory}?), then resume; nothing has been changed"),
        vec![command(host, &[argv, databases.to_vec()].concat(), Some(finished.exit_code), &finished.output)],
    ))
}

/// What is done with a service's snapshots on a host is done by one program at a time.
pub(crate) fn slot(service: &ServiceName) -> String {
    format!("snapshot of {}", safe(service.as_str()))
}

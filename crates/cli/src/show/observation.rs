//! What was seen of a cloud. What was not seen is printed as unseen, with the reason.

use std::collections::BTreeMap;

use owo_colors::OwoColorize as _;
use volutus_model::observation::{DaemonObservation, Fact};
use volutus_model::{HostName, Observation};

use super::table;

fn or_unseen<T>(fact: &Fact<T>, show: impl Fn(&T) -> String) -> String {
    match fact {
        Fact::Observed { value, .. } => show(value),
        Fact::Unobserved { why } => format!("unseen: {why}").yellow().to_string(),
    }
}

fn daemon_row(fact: &Fact<DaemonObservation>, instances: Option<u64>) -> [String; 5] {
    match fact {
        Fact::Unobserved { why } => {
            let unseen = format!("unseen: {why}").yellow().to_string();
            [unseen, String::new(), String::new(), String::new(), String::new()]
        }
        Fact::Observed { value, .. } => [
            or_unseen(&value.version, ToString::to_string),
            or_unseen(&value.release_path, Clone::clone),
            value.active_state.clone(),
            value.restarts.to_string(),
            instances.map_or(String::new(), |count| count.to_string()),
        ],
    }
}

/// The whole observation.
pub fn render(observation: &Observation) -> String {
    let mut text = String::new();
    let mut hosts = table(&["host", "kernel", "python", "clock", "free", "staged"]);
    for (name, fact) in &observation.hosts {
        match fact {
            Fact::Unobserved { why } => {
                hosts.add_row([name.to_string(), format!("unseen: {why}").yellow().to_string()]);
            }
            Fact::Observed { value, .. } => {
                let staged: Vec<String> = value.staged.keys().map(ToString::to_string).collect();
                hosts.add_row([
                    name.to_string(),
                    value.kernel.clone(),
                    value.python.clone(),
                    format!("{:+} ms", value.clock_skew_ms),
                    format!("{:.1} GiB", value.release_free_bytes as f64 / f64::from(1 << 30)),
                    staged.join(" "),
                ]);
            }
        }
    }
    text += &format!("{hosts}\n\n");
    let empty = BTreeMap::<HostName, u64>::new();
    let instances = observation.instances.value().unwrap_or(&empty);
    let mut daemons = table(&["daemon", "running version", "release", "unit", "restarts", "instances"]);
    for (id, fact) in &observation.daemons {
        let count = (id.kind.as_str() == "nova-compute").then(|| instances.get(&id.host).copied()).flatten();
        let [version, release, unit, restarts, instances] = daemon_row(fact, count);
        daemons.add_row([id.to_string(), version, release, unit, restarts, instances]);
    }
    text += &format!("{daemons}\n\n");
    if let Fact::Unobserved { why } = &observation.instances {
        text += &format!("instances per host: unseen: {why}\n\n");
    }
    let mut schemas = table(&["service", "schema heads", "pending rows", "endpoint", "versions"]);
    for (service, fact) in &observation.schemas {
        let heads = or_unseen(fact, |heads| {
            heads
                .iter()
                .map(|(name, head)| format!("{name}={}", head.join("+")))
                .collect::<Vec<_>>()
                .join(" ")
        });
        let pending = observation
            .pending_migrations
            .get(service)
            .map_or(String::new(), |fact| or_unseen(fact, |rows| rows.values().sum::<u64>().to_string()));
        let (url, versions) = observation.endpoints.get(service).map_or_else(Default::default, |fact| {
            (
                or_unseen(fact, |endpoint| endpoint.url.clone()),
                fact.value().map_or(String::new(), |e| format!("{}..{}", e.min_version, e.max_version)),
            )
        });
        schemas.add_row([service.to_string(), heads, pending, url, versions]);
    }
    text += &format!("{schemas}\n\n");
    let mut backends = table(&["backend", "servers"]);
    for (backend, fact) in &observation.backends {
        let servers = or_unseen(fact, |servers| {
            servers
                .iter()
                .map(|s| format!("{} {} ({} sessions)", s.name, s.status, s.sessions))
                .collect::<Vec<_>>()
                .join(", ")
        });
        backends.add_row([backend.to_string(), servers]);
    }
    text += &format!("{backends}\n\n");
    let mut records = table(&["record", "host", "version", "last report", "state"]);
    for (service, fact) in &observation.records {
        match fact {
            Fact::Unobserved { why } => {
                records.add_row([service.to_string(), format!("unseen: {why}").yellow().to_string()]);
            }
            Fact::Observed { value, .. } => {
                for record in value {
                    let state = match (&record.disabled, record.forced_down) {
                        _ if record.is_anchor() => "anchor, kept for the way back".to_owned(),
                        (_, true) => "forced down".to_owned(),
                        (Some(reason), _) => format!("disabled: {reason}"),
                        (None, false) => "enabled".to_owned(),
                    };
                    records.add_row([
                        record.binary.clone(),
                        record.host.clone(),
                        record.version.clone(),
                        record.age_s.map_or("never".to_owned(), |age| format!("{age} s ago")),
                        state,
                    ]);
                }
            }
        }
    }
    text += &format!("{records}\n\n");
    let vifs = or_unseen(&observation.vif_types, |types| {
        types.iter().map(|(vif, count)| format!("{vif} {count}")).collect::<Vec<_>>().join(", ")
    });
    text += &format!("ports by VIF type: {vifs}\nseen at {}\n", observation.at);
    text
}

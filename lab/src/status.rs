//! What a lab looks like now, seen from the machine.

use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::machine::Machine;
use crate::paths::StateDir;
use crate::record::{Phase, Record};

/// One daemon as systemd and its link show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaemonStatus {
    /// Kind of the daemon.
    pub kind: String,
    /// systemd's word: active, inactive, failed, activating ...
    pub state: String,
    /// Series that its link points to. What the running process has loaded may be older.
    pub link: String,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Role.
    pub role: &'static str,
    /// systemd's word for the whole host, or `off`.
    pub state: String,
    /// Its OpenStack daemons.
    pub daemons: Vec<DaemonStatus>,
}

/// A whole lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabStatus {
    /// Name.
    pub name: String,
    /// Whether `up` has come to its end.
    pub ready: bool,
    /// Its network.
    pub network: String,
    /// Description of its cloud.
    pub cloud_toml: String,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn observe(state: &StateDir, record: &Record) -> Result<LabStatus> {
    let hosts = record
        .hosts
        .iter()
        .map(|host| observe_host(Machine { state, record, host }))
        .collect::<Result<Vec<_>>>()?;
    Ok(LabStatus {
        name: record.options.name.clone(),
        ready: record.phase == Phase::Ready,
        network: format!("198.18.{}.0/24", record.subnet),
        cloud_toml: state.cloud_toml().display().to_string(),
        hosts,
    })
}

fn observe_host(machine: Machine<'_>) -> Result<HostStatus> {
    let host = machine.host;
    let mut status = HostStatus {
        name: host.name.clone(),
        address: host.address.to_string(),
        role: host.role.as_str(),
        state: "off".into(),
        daemons: Vec::new(),
    };
    if machine.leader().is_none() {
        return Ok(status);
    }
    // One visit per host: state, then for every daemon its state and its link.
    let mut script = String::from("systemctl is-system-running || true\n");
    for daemon in host.daemons() {
        script.push_str(&format!(
            "echo {kind} $(systemctl is-active {kind}.service || true) \
             $(basename \"$(readlink /opt/openstack/current/{kind})\")\n",
            kind = daemon.kind
        ));
    }
    let seen = machine.script("observing", &script, LIMIT)?;
    let mut lines = seen.lines();
    lines.next().unwrap_or("unknown").clone_into(&mut status.state);
    for line in lines {
        let mut words = line.split_whitespace().map(str::to_owned);
        if let (Some(kind), Some(state), Some(link)) = (words.next(), words.next(), words.next()) {
            status.daemons.push(DaemonStatus { kind, state, link });
        }
    }
    Ok(status)
}

impl LabStatus {
    /// The table that people read.
    pub fn table(&self) -> String {
        let phase = if self.ready { "ready" } else { "NOT READY (being made, or left half way)" };
        let mut text = format!(
            "{} {phase}  network {}\ncloud description: {}\n\n{:<16}{:<16}{:<12}{:<12}{}\n",
            self.name, self.network, self.cloud_toml, "HOST", "ADDRESS", "ROLE", "STATE", "DAEMONS"
        );
        for host in &self.hosts {
            text.push_str(&format!(
                "{:<16}{:<16}{:<12}{:<12}{}\n",
                host.name,
                host.address,
                host.role,
                host.state,
                summary(&host.daemons)
            ));
        }
        text
    }
}

/// "13 active on 2025.2", with everything that differs by name.
fn summary(daemons: &[DaemonStatus]) -> String {
    if daemons.is_empty() {
        return "-".into();
    }
    let active: Vec<&DaemonStatus> = daemons.iter().filter(|d| d.state == "active").collect();
    let mut links: Vec<&str> = daemons.iter().map(|daemon| daemon.link.as_str()).collect();
    links.sort_unstable();
    links.dedup();
    let mut text = format!("{} of {} active on {}", active.len(), daemons.len(), links.join(" and "));
    for daemon in daemons.iter().filter(|daemon| daemon.state != "active") {
        text.push_str(&format!("; {} {}", daemon.kind, daemon.state));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(kind: &str, state: &str, link: &str) -> DaemonStatus {
        DaemonStatus { kind: kind.into(), state: state.into(), link: link.into() }
    }

    #[test]
    fn the_summary_names_what_is_not_active() {
        let daemons = [daemon("a", "active", "2025.2"), daemon("b", "failed", "2026.1")];
        assert_eq!(summary(&daemons), "1 of 2 active on 2025.2 and 2026.1; b failed");
        assert_eq!(summary(&[]), "-");
    }
}

//! Announces router ports that have moved to another gateway, from there, so that switches outside send what is
//! for them the new way (`docs/decisions/0023-announcing-gateways.md`).
//!
//! It is an aid: what goes wrong is told, and fails nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use volutus_model::inventory::Ovn;
use volutus_model::name::HostName;

use crate::CloudDriver;
use crate::channel::Channel;

/// When a port is announced, counted from when it was seen to have moved: the first may come before its new
/// gateway forwards, and any may be lost.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(600)];

/// A host that cannot be reached, or says nothing, for so long announces nothing: the others wait for it, and a
/// busy one needs some seconds to let ssh in.
const HOST_MAX: Duration = Duration::from_secs(15);

/// A router port, as networks outside know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RouterPort {
    /// OVN's name of it.
    pub port: String,
    mac: String,
    /// Addresses that are reached by the MAC.
    addresses: Vec<String>,
    /// The localnet ports behind which it is outside, and their VLANs.
    localnets: Vec<(String, Option<u16>)>,
}

/// A port that has moved.
struct Moved {
    /// OVN's name of its new gateway.
    to: String,
    seen: Instant,
    /// How many rounds were sent.
    sent: usize,
}

/// Announces ports as they move.
pub(crate) struct Announcer<'a> {
    cloud: &'a CloudDriver,
    ovn: &'a Ovn,
    ports: BTreeMap<String, RouterPort>,
    moved: BTreeMap<String, Moved>,
    /// Conversations with gateways by OVN's names of these, or why there is none.
    gateways: BTreeMap<String, Result<Channel, String>>,
    /// Ports that were announced at least once, and by which host.
    announced: BTreeMap<String, String>,
    /// Ports that were not, and why.
    missed: BTreeMap<String, String>,
}

impl<'a> Announcer<'a> {
    /// Gets ready to announce `ports` from any gateway, and from those of `likely` without a delay.
    pub(crate) async fn new(
        cloud: &'a CloudDriver,
        ovn: &'a Ovn,
        ports: Vec<RouterPort>,
        likely: BTreeSet<String>,
    ) -> Self {
        let likely = if ports.is_empty() { BTreeSet::new() } else { likely };
        let localnets: BTreeSet<&String> =
            ports.iter().flat_map(|port| &port.localnets).map(|(name, _)| name).collect();
        // Found once, they are remembered there.
        let asked = json!({"vsctl": ovn.vsctl, "localnets": localnets});
        let gateways = join_all(likely.into_iter().map(|name| {
            let asked = asked.clone();
            async move {
                let gateway = match open(cloud, &name).await {
                    Ok(mut channel) => {
                        let found = channel.ask::<Value>("ovs_patch_ports", asked, HOST_MAX).await;
                        found.map(|_| channel).map_err(|trouble| trouble.to_string())
                    }
                    Err(why) => Err(why),
                };
                (name, gateway)
            }
        }))
        .await;
        Self {
            cloud,
            ovn,
            gateways: gateways.into_iter().collect(),
            ports: ports.into_iter().map(|port| (port.port.clone(), port)).collect(),
            moved: BTreeMap::new(),
            announced: BTreeMap::new(),
            missed: BTreeMap::new(),
        }
    }

    /// Takes note of where a port is now. Ports that are none of these are nobody's concern.
    pub(crate) fn seen(&mut self, port: &str, at: &str) {
        let anew = self.moved.get(port).is_none_or(|moved| moved.to != at);
        if anew && self.ports.contains_key(port) {
            let moved = Moved { to: at.to_owned(), seen: Instant::now(), sent: 0 };
            self.moved.insert(port.to_owned(), moved);
        }
    }

    /// Whether a port was seen to have moved, or is not announced anyway.
    pub(crate) fn has_moved(&self, port: &str) -> bool {
        self.moved.contains_key(port) || !self.ports.contains_key(port)
    }

    /// Whether all that has moved was announced as often as it is.
    pub(crate) fn is_done(&self) -> bool {
        self.moved.values().all(|moved| moved.sent == ROUNDS.len())
    }

    /// Announces what is due, from all hosts at once.
    pub(crate) async fn announce(&mut self) {
        let mut due: BTreeMap<String, Vec<RouterPort>> = BTreeMap::new();
        for (name, moved) in &mut self.moved {
            let rounds = ROUNDS.iter().filter(|after| moved.seen.elapsed() >= **after).count();
            if moved.sent < rounds {
                moved.sent = rounds;
                due.entry(moved.to.clone()).or_default().push(self.ports[name].clone());
            }
        }
        let (cloud, ovn) = (self.cloud, self.ovn);
        let ready: Vec<_> =
            due.into_iter().map(|(at, ports)| (self.gateways.remove(&at), at, ports)).collect();
        let told = join_all(ready.into_iter().map(|(gateway, at, ports)| async move {
            let mut gateway = match gateway {
                Some(gateway) => gateway,
                None => open(cloud, &at).await,
            };
            let said = match &mut gateway {
                Ok(channel) => {
                    let all = json!({"vsctl": ovn.vsctl, "ofctl": ovn.ofctl, "ports": ports});
                    let said = channel.ask::<BTreeSet<String>>("ovs_announce", all, HOST_MAX).await;
                    said.map_err(|trouble| trouble.to_string())
                }
                Err(why) => Err(why.clone()),
            };
            // What has failed on a host would fail again, or hang again.
            if let Err(why) = &said {
                gateway = Err(why.clone());
            }
            (gateway, at, ports, said)
        }))
        .await;
        for (gateway, at, ports, said) in told {
            for RouterPort { port, .. } in ports {
                match &said {
                    Ok(announced) if announced.contains(&port) => {
                        self.announced.insert(port, at.clone());
                    }
                    Ok(_) => {
                        self.missed.insert(port, format!("no bridge of {at} leads to its network"));
                    }
                    Err(why) => {
                        self.missed.insert(port, why.clone());
                    }
                }
            }
            self.gateways.insert(at, gateway);
        }
    }

    /// What was announced and what was not, to be put behind another sentence; nothing where nothing moved.
    pub(crate) fn told(&self) -> String {
        tell(&self.announced, &self.missed)
    }
}

/// A conversation with a gateway by OVN's name of it, or why there is none.
async fn open(cloud: &CloudDriver, name: &str) -> Result<Channel, String> {
    let hosts = cloud.inventory.hosts.iter().map(|host| &host.name);
    let host = described(hosts, name)
        .ok_or_else(|| format!("{name} is no host of the cloud description, or several"))?;
    match tokio::time::timeout(HOST_MAX, Channel::to_host(&cloud.hosts, host)).await {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{host} was not reached within {} s", HOST_MAX.as_secs())),
    }
}

/// The host of the cloud description that OVN calls so: one of the two names may have a domain.
fn described<'a>(hosts: impl Iterator<Item = &'a HostName> + Clone, name: &str) -> Option<&'a HostName> {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let exact = hosts.clone().find(|host| host.as_str() == name);
    exact.or_else(|| {
        let mut alike = hosts.filter(|host| short(host.as_str()) == short(name));
        alike.next().filter(|_| alike.next().is_none())
    })
}

fn tell(announced: &BTreeMap<String, String>, missed: &BTreeMap<String, String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for host in announced.values() {
        *counts.entry(host).or_default() += 1;
    }
    let mut told: Vec<String> = counts
        .into_iter()
        .map(|(host, count)| format!("{count} router ports announced from {host}"))
        .collect();
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, why) in missed.iter().filter(|(port, _)| !announced.contains_key(*port)) {
        *missing.entry(why).or_default() += 1;
    }
    told.extend(missing.into_iter().map(|(why, count)| format!("{count} router ports not announced: {why}")));
    told.into_iter().map(|part| format!("; {part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_host_is_found_with_or_without_its_domain() {
        let hosts = [name("cmp1"), name("cmp2.a"), name("cmp2.b"), name("cmp3.site")];
        let found = |text: &str| described(hosts.iter(), text).map(HostName::as_str);
        assert_eq!(found("cmp1.site"), Some("cmp1"));
        assert_eq!(found("cmp2.b"), Some("cmp2.b"));
        assert_eq!(found("cmp2.c"), None, "it may be either");
        assert_eq!(found("cmp3"), Some("cmp3.site"));
        assert_eq!(found("cmp4"), None);
    }

    #[test]
    fn what_was_not_announced_is_told_with_its_reason() {
        let pairs = |all: &[(&str, &str)]| {
            all.iter().map(|(port, what)| ((*port).to_owned(), (*what).to_owned())).collect()
        };
        assert_eq!(tell(&BTreeMap::new(), &BTreeMap::new()), "");
        // One that was announced at the second try was announced.
        let announced = pairs(&[("cr-1", "cmp2"), ("cr-2", "cmp2"), ("cr-3", "cmp3")]);
        let missed = pairs(&[("cr-1", "it was away"), ("cr-4", "cmp4 is no host of the cloud description")]);
        assert_eq!(
            tell(&announced, &missed),
            "; 2 router ports announced from cmp2; 1 router ports announced from cmp3; 1 router ports not \
             announced: cmp4 is no host of the cloud description"
        );
    }
}

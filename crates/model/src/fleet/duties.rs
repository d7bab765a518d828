//! What a host does for the network besides carrying instances: what neutron's own agents have to do there.

use serde::{Deserialize, Serialize};

/// The duties of the DHCP agent and of the L3 agent of a host. What an L3 agent does for the instances of its
/// own host only (`dvr`) is no duty: it goes with the instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duties {
    /// Networks that it serves with DHCP.
    #[serde(default)]
    pub networks: u32,
    /// Those among them that no other agent serves.
    #[serde(default)]
    pub networks_alone: u32,
    /// Routers that are on this host only; of distributed ones, their source NAT.
    #[serde(default)]
    pub routers: u32,
    /// Routers that other hosts carry, too.
    #[serde(default)]
    pub ha_routers: u32,
    /// Those among them that are active here.
    #[serde(default)]
    pub ha_active: u32,
    /// Networks and routers, in words, that no other agent could take as things are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<String>,
    /// Whether Volutus has put the agents of the host aside and has yet to give it its duties back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
}

impl Duties {
    /// What they are, in words: `DHCP of 3 networks (1 alone), 2 routers, 5 HA routers (2 active)`.
    #[must_use]
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.networks > 0 {
            parts.push(format!("DHCP of {} networks ({} alone)", self.networks, self.networks_alone));
        }
        if self.routers > 0 {
            parts.push(format!("{} routers", self.routers));
        }
        if self.ha_routers > 0 {
            parts.push(format!("{} HA routers ({} active)", self.ha_routers, self.ha_active));
        }
        if self.aside {
            parts.push("put aside by Volutus".to_owned());
        }
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// What moves when the host is prepared for a restart, in words.
    #[must_use]
    pub fn moves(&self) -> String {
        let moved = [
            (self.networks_alone, "networks get a second DHCP agent"),
            (self.routers, "routers move, and are away for seconds"),
            (self.ha_active, "HA routers become active elsewhere"),
        ];
        let told: Vec<String> = moved
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duties_are_told_in_words() {
        let duties = Duties {
            networks: 3,
            networks_alone: 1,
            routers: 2,
            ha_routers: 5,
            ha_active: 2,
            aside: true,
            ..Duties::default()
        };
        assert_eq!(
            duties.words(),
            "DHCP of 3 networks (1 alone), 2 routers, 5 HA routers (2 active), put aside by Volutus"
        );
        assert_eq!(
            duties.moves(),
            "1 networks get a second DHCP agent, 2 routers move, and are away for seconds, 2 HA routers become active \
             elsewhere"
        );
        assert_eq!((Duties::default().words(), Duties::default().moves()), ("none".into(), "nothing".into()));
    }
}

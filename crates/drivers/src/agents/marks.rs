//! What Volutus writes down in neutron beside what it changes, so that what has to be given back is known
//! whatever becomes of Volutus: in the description of an agent that it has put aside, and in tags of
//! networks and routers that another agent looks after meanwhile.

use std::collections::BTreeSet;

use volutus_openstack::agents::Agent;

/// An agent whose duties were moved, or are about to be.
const ASIDE: &str = "volutus:aside";
/// The same, and Volutus disabled it.
const DOWN: &str = "volutus:down";
/// Between the mark and the description that was there before.
const BEFORE: &str = "; ";
/// Characters that a description may have. Source: neutron-lib, `constants.DESCRIPTION_FIELD_SIZE`.
const DESCRIPTION_MAX: usize = 255;

/// What Volutus did with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Others are to take no account of it.
    Aside,
    /// It was enabled, and is disabled by Volutus.
    Down,
}

/// What stands in an agent's description: Volutus's mark, and the site's own text.
pub(crate) fn mark_of(agent: &Agent) -> (Option<Mark>, Option<&str>) {
    let text = agent.description.as_deref().filter(|text| !text.is_empty());
    for (word, mark) in [(ASIDE, Mark::Aside), (DOWN, Mark::Down)] {
        if let Some(rest) = text.and_then(|text| text.strip_prefix(word)) {
            if rest.is_empty() {
                return (Some(mark), None);
            }
            if let Some(before) = rest.strip_prefix(BEFORE) {
                return (Some(mark), Some(before));
            }
        }
    }
    (None, text)
}

/// The description that marks an agent and keeps the site's own text; none where both are too long.
pub(crate) fn marked(mark: Mark, before: Option<&str>) -> Option<String> {
    let word = match mark {
        Mark::Aside => ASIDE,
        Mark::Down => DOWN,
    };
    let text = before.map_or_else(|| word.to_owned(), |before| format!("{word}{BEFORE}{before}"));
    (text.chars().count() <= DESCRIPTION_MAX).then_some(text)
}

/// What is lent: the two are told apart, because a network and a router have ids alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Serving a network with DHCP.
    Dhcp,
    /// Carrying a router.
    Router,
}

impl Duty {
    fn word(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Router => "l3",
        }
    }

    /// The tag of what has been lent by an agent, by which it is found again.
    pub(crate) fn from(self, owner: &str) -> String {
        format!("volutus:{}-from:{owner}", self.word())
    }

    /// The tag that says to which agent. `new` says of DHCP that the port that the other agent serves by is
    /// one that it made, so that nothing of it may stay.
    pub(crate) fn to(self, owner: &str, to: &str, new: bool) -> String {
        format!("volutus:{}-{}:{owner}:{to}", self.word(), if new { "new" } else { "to" })
    }

    /// Everything that tags say is lent.
    pub(crate) fn loans(self, tags: &BTreeSet<String>) -> Vec<Loan> {
        let read = |tag: &String| {
            let rest = tag.strip_prefix("volutus:")?.strip_prefix(self.word())?.strip_prefix('-')?;
            let (new, rest) = match rest.strip_prefix("new:") {
                Some(rest) => (true, rest),
                None => (false, rest.strip_prefix("to:")?),
            };
            let (owner, to) = rest.split_once(':')?;
            Some(Loan { owner: owner.to_owned(), to: to.to_owned(), new, tag: tag.clone() })
        };
        tags.iter().filter_map(read).collect()
    }
}

/// A network or router that one agent looks after for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loan {
    /// The agent that gets it back.
    pub owner: String,
    /// The agent that has it.
    pub to: String,
    /// See [`Duty::to`].
    pub new: bool,
    /// The tag that says so.
    pub tag: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(description: Option<&str>) -> Agent {
        serde_json::from_value(serde_json::json!({
            "id": "a", "agent_type": "L3 agent", "host": "h", "alive": true, "admin_state_up": true,
            "description": description,
        }))
        .unwrap()
    }

    #[test]
    fn what_a_site_wrote_of_an_agent_outlives_the_mark() {
        for before in [None, Some("rack 4"), Some("volutus:asides are nice")] {
            assert_eq!(mark_of(&agent(before)), (None, before));
            for mark in [Mark::Aside, Mark::Down] {
                let text = marked(mark, before).unwrap();
                assert_eq!(mark_of(&agent(Some(&text))), (Some(mark), before));
            }
        }
        assert_eq!(mark_of(&agent(Some(""))), (None, None));
        assert_eq!(marked(Mark::Aside, Some(&"x".repeat(250))), None);
    }

    #[test]
    fn what_is_lent_is_read_from_tags_and_nothing_else_is() {
        let tags = [
            Duty::Dhcp.from("a"),
            Duty::Dhcp.to("a", "b", true),
            Duty::Dhcp.to("c", "d", false),
            Duty::Router.to("a", "b", false),
            "volutus:dhcp-to:nonsense".to_owned(),
            "dhcp-to:a:b".to_owned(),
        ];
        let loans = Duty::Dhcp.loans(&tags.into());
        let told: Vec<(&str, &str, bool)> =
            loans.iter().map(|loan| (loan.owner.as_str(), loan.to.as_str(), loan.new)).collect();
        assert_eq!(told, [("a", "b", true), ("c", "d", false)]);
    }
}

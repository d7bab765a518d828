//! Which names are one person's, so that nobody approves their own plan under another name.
//!
//! The author of a plan is known as a user of a machine; who approves it over the network is known as
//! a user of keystone. Nothing in the names tells whether the two are one person.

use std::collections::BTreeMap;

use serde::Deserialize;
use volutus_model::event::Actor;

use crate::{Caller, Way};

/// Whoever may become it, and so nobody in particular.
const ROOT: &str = "root";

/// Why somebody may not approve a plan where four eyes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// They made it.
    Author,
    /// Nobody knows who made it.
    Unknown,
    /// The author is known by another way in, and nothing says that the two are different people.
    Unrelated,
    /// One of the two is root, who is nobody in particular.
    Root,
}

impl Refused {
    /// Why, behind a colon.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Author => "that is the same person",
            Self::Unknown => "the author of a plan has to be known",
            Self::Unrelated => "nothing says that the two names are not one person's",
            Self::Root => "root is nobody in particular",
        }
    }

    /// What to do.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Author | Self::Unknown => "Somebody else has to read and approve it.",
            Self::Unrelated => "Name both in the file of --people; docs/operating/serve.md shows it.",
            Self::Root => "Plan and approve as yourself, or say in the file of --people whose name root is.",
        }
    }
}

/// The file is not as documented.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// It is no TOML, or has other keys.
    #[error("{0}")]
    Syntax(String),
    /// A name is two people's.
    #[error("the name `{name}` is given to both `{one}` and `{other}`; a name is one person's")]
    Twice {
        /// The name.
        name: String,
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    people: BTreeMap<String, Vec<String>>,
}

/// Whose a name is, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People(BTreeMap<String, String>);

impl People {
    /// Reads the table `[people]`: for each person, as whom they are known. `alice` is a user of a
    /// machine, `alice@Default` one of keystone, with their domain.
    ///
    /// # Errors
    /// Where it is no TOML of that form, or a name is two people's.
    pub fn parse(text: &str) -> Result<Self, PeopleError> {
        let file: File = toml::from_str(text).map_err(|error| PeopleError::Syntax(error.to_string()))?;
        let mut whose: BTreeMap<String, String> = BTreeMap::new();
        for (person, names) in file.people {
            for name in names {
                if let Some(other) = whose.insert(name.clone(), person.clone())
                    && other != person
                {
                    return Err(PeopleError::Twice { name, one: other, other: person });
                }
            }
        }
        Ok(Self(whose))
    }

    /// Whether a caller may be the author of a plan, as far as can be known; `None` where they are
    /// surely not.
    #[must_use]
    pub fn same(&self, author: Option<&Actor>, caller: &Caller) -> Option<Refused> {
        let Some(author) = author else { return Some(Refused::Unknown) };
        let person = |actor: &Actor| self.0.get(&actor.0);
        match (person(author), person(&caller.actor)) {
            (Some(author), Some(caller)) => (author == caller).then_some(Refused::Author),
            _ if *author == caller.actor => Some(Refused::Author),
            _ if caller.way == Way::Network => Some(Refused::Unrelated),
            (_, None) if caller.actor.0 == ROOT => Some(Refused::Root),
            (None, _) if author.0 == ROOT => Some(Refused::Root),
            // Two users of machines, at least one of whom goes by one name only.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        let way = if name.contains('@') { Way::Network } else { Way::Socket };
        Caller { actor: Actor(name.to_owned()), roles: Vec::new(), way }
    }

    #[test]
    fn nobody_approves_their_own_plan_under_another_name() {
        let people = People::parse(
            "[people]\nalice = [\"alice\", \"a.smith@Default\", \"root\"]\nbob = [\"bob\", \"bob@Default\"]",
        )
        .unwrap();
        for (author, name, refused) in [
            ("alice", "alice", Some(Refused::Author)),
            ("alice", "a.smith@Default", Some(Refused::Author)),
            ("alice", "root", Some(Refused::Author)),
            ("alice", "bob@Default", None),
            ("alice", "bob", None),
            ("bob", "root", None),
            // Of these nobody knows.
            ("alice", "carol@Default", Some(Refused::Unrelated)),
            ("carol", "bob@Default", Some(Refused::Unrelated)),
            ("carol", "carol", Some(Refused::Author)),
            ("carol", "dave", None),
            ("root", "dave", None),
        ] {
            let found = people.same(Some(&Actor(author.to_owned())), &caller(name));
            assert_eq!(found, refused, "{author}, {name}");
        }
        assert_eq!(people.same(None, &caller("bob")), Some(Refused::Unknown));
        let alice = Actor("alice".to_owned());
        assert_eq!(People::default().same(Some(&alice), &caller("root")), Some(Refused::Root));
        let root = Actor(ROOT.to_owned());
        assert_eq!(People::default().same(Some(&root), &caller("bob")), Some(Refused::Root));
        assert_eq!(People::default().same(Some(&alice), &caller("alice@Default")), Some(Refused::Unrelated));
    }

    #[test]
    fn a_name_is_one_persons() {
        let twice = People::parse("[people]\na = [\"x\"]\nb = [\"x\"]").unwrap_err();
        assert!(twice.to_string().contains("`x` is given to both `a` and `b`"), "{twice}");
        assert!(People::parse("peopel = {}").is_err());
    }
}

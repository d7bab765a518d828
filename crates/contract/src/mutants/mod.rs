//! Mutations: what a bad new release could do, done to recorded answers and to contracts, to see that
//! each is caught; and harmless changes, to see that none is.

mod answers;
mod documents;

use serde::Deserialize;

pub use answers::{harmless_answers, mutated_answers};
pub use documents::{example, harmless_documents, mutated_documents};

use crate::answers::{Asked, Recorded};
use crate::error::Error;

const RECORDINGS: &[(&str, &str)] = &[
    ("keystone", include_str!("../../recordings/keystone.json")),
    ("placement", include_str!("../../recordings/placement.json")),
];

/// One request, and two answers of the same code to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// The request.
    pub asked: Asked,
    /// The first answer.
    pub first: Recorded,
    /// The second one.
    pub second: Recorded,
}

/// The recordings as text, one each: what a comparison of traffic begins with.
///
/// # Errors
/// [`Error::Malformed`] where the built-in recordings do not load.
pub fn recordings() -> Result<Vec<Recording>, Error> {
    let mut all = Vec::new();
    for (what, text) in RECORDINGS {
        let list: Vec<Recording> = serde_json::from_str(text)
            .map_err(|error| Error::Malformed { what: (*what).to_owned(), why: error.to_string() })?;
        all.extend(list);
    }
    Ok(all)
}

/// What came of one kind of mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// Its name.
    pub name: &'static str,
    /// How many times it could be applied.
    pub tried: usize,
    /// How many of these were noticed: breaking, or to be reviewed.
    pub caught: usize,
    /// How many were classed as breaking.
    pub breaking: usize,
}

impl Caught {
    /// Whether it was noticed every time, and there was a time.
    #[must_use]
    pub fn always(&self) -> bool {
        self.tried > 0 && self.caught == self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_of_answers_is_caught() {
        let caught = mutated_answers(&recordings().unwrap()).unwrap();
        assert!(caught.len() >= 20, "{}", caught.len());
        for caught in caught {
            assert!(caught.always(), "{caught:?}");
        }
    }

    #[test]
    fn harmless_answers_alarm_nobody() {
        for (name, tried, alarms) in harmless_answers(&recordings().unwrap()).unwrap() {
            assert!(tried > 0, "{name} was never tried");
            assert_eq!(alarms, 0, "{name}");
        }
    }

    #[test]
    fn every_mutation_of_a_contract_is_caught() {
        let caught = mutated_documents(&example().unwrap()).unwrap();
        assert!(caught.len() >= 20, "{}", caught.len());
        for caught in caught {
            assert!(caught.always(), "{caught:?}");
        }
    }

    #[test]
    fn harmless_contracts_alarm_nobody() {
        for (name, tried, alarms) in harmless_documents(&example().unwrap()).unwrap() {
            assert!(tried > 0, "{name} was never tried");
            assert_eq!(alarms, 0, "{name}");
        }
    }
}

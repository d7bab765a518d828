//! Limits that are written as a number or as a share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// So many, or such a share of all: `3` or `"5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// Such a share, in percent; rounded down, but one at least.
    Percent(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Count(u32),
    Share(String),
}

impl TryFrom<Text> for Amount {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        let refuse = |text: &str| format!("`{text}`, expected a number from 1 on or a share as \"5%\"");
        match text {
            Text::Count(0) => Err(refuse("0")),
            Text::Count(count) => Ok(Self::Count(count)),
            Text::Share(text) => {
                let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                match number {
                    Some(share) if (1..=100).contains(&share) => Ok(Self::Percent(share)),
                    _ => Err(refuse(&text)),
                }
            }
        }
    }
}

impl From<Amount> for Text {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Count(count) => Self::Count(count),
            Amount::Percent(share) => Self::Share(format!("{share}%")),
        }
    }
}

impl Amount {
    /// The number of `all` that it allows; one at least, because none would let nothing happen.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).max(1),
            Self::Percent(share) => (all * share as usize / 100).max(1),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// Whether a pattern with `*` (any text) and `?` (any character) matches a whole name.
#[must_use]
pub fn glob_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, matches) in [
            ("c*", "c07", true),
            ("c*", "d07", false),
            ("*", "", true),
            ("c?7", "c07", true),
            ("c?7", "c7", false),
            ("*-gpu-*", "az1-gpu-07", true),
            ("*-gpu", "az1-gpu-07", false),
            ("c07", "c07", true),
            ("c07", "c070", false),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(glob_matches(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn amounts() {
        let read = |text: &str| serde_json::from_str::<Amount>(text);
        assert_eq!(read("3").unwrap().of(100), 3);
        assert_eq!(read("\"5%\"").unwrap().of(100), 5);
        assert_eq!(read("\"5%\"").unwrap().of(10), 1);
        for bad in ["0", "\"0%\"", "\"101%\"", "\"5\"", "\"x%\""] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
    }
}

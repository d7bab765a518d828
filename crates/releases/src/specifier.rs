//! Which versions a specifier admits: `>=3.10,!=3.11.1,<4`.
//!
//! Source: PEP 440, "Version specifiers". It is wanted for `Requires-Python` (PEP 345) alone.

use volutus_advisories::Version;

/// Whether a specifier admits a version; nothing where it is not understood.
pub(crate) fn admits(specifier: &str, version: &Version) -> Option<bool> {
    let mut all = true;
    for clause in specifier.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
        all &= clause_admits(clause, version)?;
    }
    Some(all)
}

fn clause_admits(clause: &str, version: &Version) -> Option<bool> {
    // Longer operators first, so that `>=` is not read as `>`.
    let operators = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];
    let operator = operators.into_iter().find(|operator| clause.starts_with(operator))?;
    let text = clause[operator.len()..].trim();
    if let Some(prefix) = text.strip_suffix(".*") {
        let matches = version.begins_with(&Version::parse(prefix, false)?, places(prefix));
        return match operator {
            "==" => Some(matches),
            "!=" => Some(!matches),
            _ => None,
        };
    }
    let bound = Version::parse(text, false)?;
    Some(match operator {
        "==" | "===" => *version == bound,
        "!=" => *version != bound,
        "<=" => *version <= bound,
        ">=" => *version >= bound,
        "<" => *version < bound,
        ">" => *version > bound,
        // `~=3.8.1` is `>=3.8.1,==3.8.*`.
        _ => {
            *version >= bound && version.begins_with(&bound, places(text).checked_sub(1).filter(|n| *n > 0)?)
        }
    })
}

/// How many numbers a version is written with.
fn places(text: &str) -> usize {
    text.split('.').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_mean_what_pep_440_says() {
        let python = Version::parse("3.11", false).unwrap();
        for (specifier, admitted) in [
            (">=3.10", true),
            (">= 3.11", true),
            (">=3.12", false),
            (">=3.9,<3.11", false),
            (">2.7, !=3.0.*, !=3.1.*", true),
            ("!=3.11.*", false),
            ("==3.*", true),
            ("~=3.8", true),
            ("~=3.8.0", false),
            ("==3.11.0", true),
            ("", true),
        ] {
            assert_eq!(admits(specifier, &python), Some(admitted), "{specifier}");
        }
        for strange in ["3.10", ">=three", "=>3.10", ">=3.*", "~=3"] {
            assert_eq!(admits(strange, &python), None, "{strange}");
        }
    }
}

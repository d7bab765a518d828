//! Names of what the prober makes: by them, and only by them, it knows its own.

use volutus_model::name::RunId;

/// What all its names begin with.
pub const PREFIX: &str = "volutus-probe-";

/// The kinds of objects that it makes, as they appear in names.
pub const KINDS: [&str; 5] = ["server", "port", "network", "image", "volume"];

/// The name of the `number`th object of a kind in a run.
#[must_use]
pub fn object_name(run: &RunId, kind: &str, number: u64) -> String {
    format!("{PREFIX}{run}-{kind}-{number}")
}

/// Whether a name is one that a prober chose, in whichever run: the prefix alone would also fit
/// what people make for the prober by hand, such as its network.
#[must_use]
pub fn is_own(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let mut parts = rest.rsplitn(3, '-');
    let number = parts.next().unwrap_or_default();
    let kind = parts.next().unwrap_or_default();
    let run = parts.next().unwrap_or_default();
    !run.is_empty()
        && KINDS.contains(&kind)
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chosen_names_are_own() {
        let run = RunId::new("run-7").unwrap();
        for kind in KINDS {
            assert!(is_own(&object_name(&run, kind, 12)));
        }
        for foreign in [
            "volutus-probe-net",
            "volutus-probe-server-1",
            "volutus-probe-run-7-server-",
            "volutus-probe-run-7-server-1a",
            "volutus-probe-run-7-router-1",
            "my-volutus-probe-run-7-server-1",
            "",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}

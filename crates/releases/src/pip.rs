//! Where pip looks for packages, by its own configuration.
//!
//! Source: pip, documentation, "Configuration": `PIP_INDEX_URL` before the files; of these the later ones
//! before the earlier; `[install]` before `[global]`.

/// The index that pip would use, of the variable and the texts of its configuration files in the order in which
/// pip reads them; nothing where none names one.
#[must_use]
pub fn index_of(variable: Option<&str>, files: &[String]) -> Option<String> {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some(index) = variable.and_then(given) {
        return Some(index);
    }
    let named = |section: &str| files.iter().rev().find_map(|text| value(text, section).and_then(given));
    named("install").or_else(|| named("global"))
}

fn value<'a>(text: &'a str, section: &str) -> Option<&'a str> {
    let mut within = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            within = name == section;
        } else if within && let Some((key, value)) = line.split_once(['=', ':']) {
            // pip takes either spelling.
            if key.trim().replace('_', "-") == "index-url" {
                found = Some(value.trim());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pips_own_order_is_kept() {
        let site = "[global]\nindex-url = https://site.example/simple\n[list]\nindex-url = no\n".to_owned();
        let user = "# own\n[global]\nindex_url: https://user.example/simple\n".to_owned();
        let install = "[install]\nindex-url=https://install.example/simple\n".to_owned();
        let of = |variable, files: &[&String]| {
            index_of(variable, &files.iter().map(|text| (*text).clone()).collect::<Vec<_>>())
        };
        assert_eq!(of(None, &[&site, &user]).as_deref(), Some("https://user.example/simple"));
        assert_eq!(of(None, &[&install, &site]).as_deref(), Some("https://install.example/simple"));
        assert_eq!(of(Some("https://v.example"), &[&site]).as_deref(), Some("https://v.example"));
        assert_eq!(of(Some(""), &[&site]).as_deref(), Some("https://site.example/simple"));
        assert_eq!(of(None, &[]), None);
    }
}

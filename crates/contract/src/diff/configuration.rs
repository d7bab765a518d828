//! Configuration options and console scripts: what those who operate the daemons notice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Audience, Found, Pair, changed};
use crate::document::Service;

pub(crate) fn compare(pair: &mut Pair<'_>, a: &Service, b: &Service) {
    if !pair.installed() {
        return;
    }
    if pair.knows("options") {
        options(pair, a, b);
    }
    if pair.knows("scripts") {
        for (rule, script) in changed(&a.scripts, &b.scripts, "script-removed", "script-added") {
            pair.add(Found::about(rule, script).audience([Audience::Operator]));
        }
    }
}

fn options(pair: &mut Pair<'_>, a: &Service, b: &Service) {
    let renamed: BTreeMap<&String, &String> = b
        .options
        .iter()
        .flat_map(|(name, option)| option.deprecated_names.iter().map(move |old| (old, name)))
        .collect();
    for name in a.options.keys().chain(b.options.keys()).collect::<BTreeSet<_>>() {
        let about = |rule: &str| Found::about(rule, name).audience([Audience::Operator]);
        match (a.options.get(name), b.options.get(name)) {
            (Some(_), None) => match renamed.get(name) {
                Some(now) => pair.add(about("option-renamed").values(name.as_str(), now.as_str())),
                None => pair.add(about("option-removed")),
            },
            (None, Some(_)) => pair.add(about("option-added")),
            (Some(old), Some(new)) => {
                if old.default != new.default {
                    let value = |value: &Option<String>| value.as_deref().map_or(Value::Null, Value::from);
                    pair.add(
                        about("option-default-changed").values(value(&old.default), value(&new.default)),
                    );
                }
                if old.kind != new.kind {
                    pair.add(about("option-type-changed").values(old.kind.as_str(), new.kind.as_str()));
                }
            }
            (None, None) => {}
        }
    }
}

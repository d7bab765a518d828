//! Mutations of answers.

use serde_json::{Value, json};

use super::{Caught, Recording};
use crate::answers::{Body, Comparator, Noise, Recorded};
use crate::error::Error;
use crate::rules::Class;

/// Changes an answer; false where it does not apply.
type Mutation = fn(&mut Recorded) -> bool;

const ORIGINS: [&str; 2] = ["http://198.51.100.10", "http://198.51.100.11"];

const MUTATIONS: &[(&str, Mutation)] = &[
    ("a field removed", |answer| {
        first(answer, &mut |value| {
            let Value::Object(map) = value else { return false };
            let Some(key) = map.keys().next_back().cloned() else { return false };
            map.remove(&key).is_some()
        })
    }),
    ("a field renamed", |answer| {
        first(answer, &mut |value| {
            let Value::Object(map) = value else { return false };
            let Some((key, value)) =
                map.keys().next().cloned().and_then(|key| Some((key.clone(), map.remove(&key)?)))
            else {
                return false;
            };
            map.insert(format!("{key}_new"), value);
            true
        })
    }),
    ("a field added", |answer| {
        first(answer, &mut |value| {
            let Value::Object(map) = value else { return false };
            map.insert("volutus_new".to_owned(), json!(1)).is_none()
        })
    }),
    ("a text became a number", |answer| leaf(answer, &mut |value| value.is_string(), json!(7))),
    ("a number became a text", |answer| leaf(answer, &mut |value| value.is_number(), json!("7"))),
    ("a whole number became a fraction", |answer| {
        leaf(answer, &mut |value| value.is_i64() || value.is_u64(), json!(7.5))
    }),
    ("a text changed", |answer| leaf(answer, &mut |value| value.is_string(), json!("another text"))),
    ("a number changed", |answer| leaf(answer, &mut |value| value.is_number(), json!(987_654))),
    ("a flag flipped", |answer| {
        first(answer, &mut |value| {
            let Value::Bool(flag) = value else { return false };
            *flag = !*flag;
            true
        })
    }),
    ("a value became null", |answer| {
        leaf(answer, &mut |value| value.is_string() || value.is_number(), Value::Null)
    }),
    ("an object became a list", |answer| {
        first_below(answer, &mut |value| {
            let taken = value.is_object() && !value.as_object().is_some_and(|map| map.is_empty());
            if taken {
                *value = json!([]);
            }
            taken
        })
    }),
    ("a list became an object", |answer| {
        first(answer, &mut |value| {
            let taken = value.is_array();
            if taken {
                *value = json!({});
            }
            taken
        })
    }),
    ("an element removed from a list", |answer| {
        first(answer, &mut |value| value.as_array_mut().is_some_and(|list| list.pop().is_some()))
    }),
    ("an element added to a list", |answer| {
        first(answer, &mut |value| {
            let Value::Array(list) = value else { return false };
            let Some(mut element) = list.first().cloned() else { return false };
            match &mut element {
                Value::Object(map) => {
                    for key in ["id", "uuid", "name", "rel"] {
                        if map.contains_key(key) {
                            map.insert(key.to_owned(), json!("one-more"));
                        }
                    }
                }
                other => *other = json!("one-more"),
            }
            list.push(element);
            true
        })
    }),
    ("a list in another order", |answer| {
        first(answer, &mut |value| {
            let Value::Array(list) = value else { return false };
            let before = list.clone();
            list.reverse();
            *list != before
        })
    }),
    ("another status of success", |answer| status(answer, ..300, 202)),
    ("a status of success became 403", |answer| status(answer, ..300, 403)),
    ("a status of success became 404", |answer| status(answer, ..300, 404)),
    ("a status of success became 500", |answer| status(answer, ..300, 500)),
    ("an error became another error", |answer| status(answer, 400..500, 409)),
    ("an error became a 500", |answer| status(answer, 400..500, 500)),
    ("an error became a success", |answer| status(answer, 400..500, 200)),
    ("the microversion's header gone", |answer| answer.headers.remove("openstack-api-version").is_some()),
    ("another microversion's header", |answer| header(answer, "openstack-api-version", "placement 1.1")),
    ("the header of caches gone", |answer| answer.headers.remove("vary").is_some()),
    ("another type of content", |answer| header(answer, "content-type", "text/html")),
    ("an empty body", |answer| {
        let taken = answer.body != Body::Empty;
        answer.body = Body::Empty;
        taken
    }),
    ("a body that is no JSON", |answer| {
        let taken = matches!(answer.body, Body::Json(_));
        answer.body = Body::Text("<html>".to_owned());
        taken
    }),
    ("links to another path", |answer| {
        leaf(
            answer,
            &mut |value| value.as_str().is_some_and(|text| text.starts_with("http://198.51.100.10")),
            json!("http://198.51.100.10/elsewhere"),
        )
    }),
    ("the highest microversion lowered", |answer| version(answer, "max_version", "1.2")),
    ("the lowest microversion raised", |answer| version(answer, "min_version", "1.9")),
];

const HARMLESS: &[(&str, Mutation)] = &[
    ("nothing", |_| true),
    ("another date and request id", |answer| {
        answer.headers.insert("date".to_owned(), "Thu, 26 Nov 2026 00:00:00 GMT".to_owned());
        answer.headers.insert("x-openstack-request-id".to_owned(), "req-other".to_owned());
        true
    }),
    ("links to the other daemon", |answer| {
        let Body::Json(value) = &mut answer.body else { return false };
        let text = value.to_string();
        let moved = text.replace(ORIGINS[0], ORIGINS[1]);
        *value = serde_json::from_str(&moved).unwrap_or(Value::Null);
        moved != text
    }),
    ("names of a header in another order and case", |answer| {
        let Some(vary) = answer.headers.get_mut("vary") else { return false };
        *vary = vary.split(',').rev().map(|name| name.trim().to_uppercase()).collect::<Vec<_>>().join(" , ");
        true
    }),
    ("a charset behind the type of content", |answer| {
        header(answer, "content-type", "application/json; charset=utf-8")
    }),
    ("a higher highest microversion", |answer| version(answer, "max_version", "1.99")),
];

/// Applies every mutation to every recording that it applies to.
///
/// # Errors
/// Where the built-in rules do not load.
pub fn mutated_answers(recordings: &[Recording]) -> Result<Vec<Caught>, Error> {
    let counted = apply(MUTATIONS, recordings)?;
    Ok(counted
        .into_iter()
        .map(|(name, tried, caught, breaking)| Caught { name, tried, caught, breaking })
        .collect())
}

/// Applies harmless changes; tells for each how often it was tried, and how many alarms there were.
///
/// # Errors
/// Where the built-in rules do not load.
pub fn harmless_answers(recordings: &[Recording]) -> Result<Vec<(&'static str, usize, usize)>, Error> {
    Ok(apply(HARMLESS, recordings)?
        .into_iter()
        .map(|(name, tried, caught, _)| (name, tried, caught))
        .collect())
}

type Counted = (&'static str, usize, usize, usize);

fn apply(mutations: &[(&'static str, Mutation)], recordings: &[Recording]) -> Result<Vec<Counted>, Error> {
    let comparator = Comparator::new(ORIGINS.map(str::to_owned).into())?;
    let mut noise = Noise::default();
    for recording in recordings {
        noise.learn(&comparator, &recording.asked, &recording.first, &recording.second);
    }
    let mut counted = Vec::new();
    for (name, mutation) in mutations {
        let (mut tried, mut caught, mut breaking) = (0, 0, 0);
        for recording in recordings {
            let mut new = recording.second.clone();
            if !mutation(&mut new) || new == recording.second && *name != "nothing" {
                continue;
            }
            tried += 1;
            let compared = comparator.compare(&recording.asked, &recording.first, &new, &noise);
            // A field more is what services without microversions may have.
            let unversioned = recording.asked.microversion.is_none();
            let growth = unversioned && matches!(*name, "a field added" | "an element added to a list");
            let noticed = |class: Class| class <= Class::Review || (growth && class == Class::Additive);
            caught += usize::from(compared.differences.iter().any(|difference| noticed(difference.class)));
            breaking += usize::from(compared.broken());
        }
        counted.push((*name, tried, caught, breaking));
    }
    Ok(counted)
}

/// Applies a change to the first value, from the innermost and earliest outward, that takes it.
fn first(answer: &mut Recorded, change: &mut dyn FnMut(&mut Value) -> bool) -> bool {
    match &mut answer.body {
        Body::Json(value) => innermost(value, change),
        Body::Empty | Body::Text(_) => false,
    }
}

/// The same below the outermost value.
fn first_below(answer: &mut Recorded, change: &mut dyn FnMut(&mut Value) -> bool) -> bool {
    match &mut answer.body {
        Body::Json(Value::Object(map)) => map.values_mut().any(|value| innermost(value, change)),
        _ => false,
    }
}

fn innermost(value: &mut Value, change: &mut dyn FnMut(&mut Value) -> bool) -> bool {
    let inside = match value {
        Value::Array(list) => list.iter_mut().any(|item| innermost(item, change)),
        Value::Object(map) => map.values_mut().any(|item| innermost(item, change)),
        _ => false,
    };
    inside || change(value)
}

/// Replaces the first value that is as wanted. Texts of errors are left alone: their wording is free.
fn leaf(answer: &mut Recorded, wanted: &mut dyn FnMut(&Value) -> bool, by: Value) -> bool {
    let ok = answer.status < 400;
    ok && first(answer, &mut |value| {
        let taken = wanted(value) && *value != by;
        if taken {
            *value = by.clone();
        }
        taken
    })
}

fn status(answer: &mut Recorded, from: impl std::ops::RangeBounds<u16>, to: u16) -> bool {
    let taken = from.contains(&answer.status) && answer.status != to;
    if taken {
        answer.status = to;
    }
    taken
}

fn header(answer: &mut Recorded, name: &str, value: &str) -> bool {
    match answer.headers.get_mut(name) {
        Some(had) => {
            value.clone_into(had);
            true
        }
        None => false,
    }
}

fn version(answer: &mut Recorded, key: &str, to: &str) -> bool {
    first(answer, &mut |value| match value.get_mut(key) {
        Some(had) if had.is_string() => {
            *had = json!(to);
            true
        }
        _ => false,
    })
}

//! Operations, with their schemas and statuses, at every microversion that both sides serve; and what
//! new microversions bring.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::audience::{Audiences, key};
use super::{Found, News, Pair};
use crate::document::{Coded, Operation, Schemed, Service};
use crate::microversion::{Microversion, Range};
use crate::schema::{self, Change};

/// What tells a difference apart before microversions are gathered.
type Told = (String, String, String, String);

struct Gathered {
    before: Value,
    after: Value,
    at: Vec<Option<Microversion>>,
}

pub(crate) fn compare(pair: &mut Pair<'_>, a: &Service, b: &Service) -> Vec<News> {
    if !pair.installed() || !pair.knows("operations") {
        return Vec::new();
    }
    let old: BTreeMap<String, (&String, &Operation)> =
        a.operations.iter().map(|(n, o)| (key(o), (n, o))).collect();
    let new: BTreeMap<String, (&String, &Operation)> =
        b.operations.iter().map(|(n, o)| (key(o), (n, o))).collect();
    let range = a.microversions.zip(b.microversions).and_then(|(a, b)| a.common(b));
    let versions: Vec<Option<Microversion>> = match (a.microversions, b.microversions) {
        (None, None) => vec![None],
        _ => range.into_iter().flat_map(Range::all).map(Some).collect(),
    };
    let (before, after) = (Audiences::of(a), Audiences::of(b));
    let mut schemas = Schemas { a, b, same_python: pair.same_python, known: BTreeMap::new() };
    let mut news = Vec::new();
    let splits = splits(&old, &new);
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let sides = (old.get(name), new.get(name));
        if splits.values().flatten().any(|literal| literal == name) {
            // It was served before, under a path with a parameter.
            continue;
        }
        let mut gathered: BTreeMap<Told, Gathered> = BTreeMap::new();
        for at in &versions {
            let mut note = |rule: &str, location: String, before: Value, after: Value| {
                let told = (rule.to_owned(), location, before.to_string(), after.to_string());
                gathered.entry(told).or_insert(Gathered { before, after, at: Vec::new() }).at.push(*at);
            };
            at_one(sides.0.map(|s| s.1), sides.1.map(|s| s.1), *at, &mut schemas, &mut note);
        }
        let (subject, audience) = match sides {
            (Some((name, operation)), _) => (*name, before.may(operation)),
            (None, Some((name, operation))) => (*name, after.may(operation)),
            (None, None) => continue,
        };
        for ((mut rule, location, ..), Gathered { before, mut after, at }) in gathered {
            if rule == "operation-removed"
                && let Some(literals) = splits.get(name)
            {
                rule = "operation-split".to_owned();
                after = Value::from(literals.clone());
            }
            for run in runs(&at) {
                let found = Found::about(rule.as_str(), subject.as_str()).location(location.as_str()).at(run);
                pair.add(found.values(before.clone(), after.clone()).audience(audience.clone()));
            }
        }
        if let (Some((name, operation)), Some(range)) = (sides.1, a.microversions.zip(b.microversions)) {
            news.extend(brought(pair.name, name, operation, range));
        }
    }
    news.sort_by(|a, b| (a.microversion, &a.operation).cmp(&(b.microversion, &b.operation)));
    news
}

/// Operations of the old side whose path ends in a parameter, and which the new side spells out: `PUT
/// /os-services/{}` became `PUT /os-services/enable` and others. To a client these are the same.
fn splits(
    old: &BTreeMap<String, (&String, &Operation)>,
    new: &BTreeMap<String, (&String, &Operation)>,
) -> BTreeMap<String, Vec<String>> {
    let added: Vec<&String> = new.keys().filter(|name| !old.contains_key(*name)).collect();
    let mut found = BTreeMap::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let Some(stem) = name.strip_suffix("{}") else { continue };
        let below = |other: &str| {
            other.strip_prefix(stem).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        };
        let literals: Vec<String> =
            added.iter().filter(|other| below(other)).map(|other| (*other).clone()).collect();
        if !literals.is_empty() {
            found.insert(name.clone(), literals);
        }
    }
    found
}

/// What an operation is on both sides at one microversion.
fn at_one(
    old: Option<&Operation>,
    new: Option<&Operation>,
    at: Option<Microversion>,
    schemas: &mut Schemas<'_>,
    note: &mut impl FnMut(&str, String, Value, Value),
) {
    let here = |operation: Option<&'_ Operation>| operation.is_some_and(|operation| operation.exists(at));
    let (Some(a), Some(b)) = (old.filter(|_| here(old)), new.filter(|_| here(new))) else {
        match (here(old), here(new)) {
            // What only said that it is gone may go.
            (true, false) if old.is_some_and(|old| old.removed) => {}
            (true, false) => note("operation-removed", String::new(), Value::Null, Value::Null),
            (false, true) => note("operation-added", String::new(), Value::Null, Value::Null),
            _ => {}
        }
        return;
    };
    match (a.removed, b.removed) {
        (false, true) => return note("operation-gone", String::new(), Value::Null, Value::Null),
        (true, false) => return note("operation-back", String::new(), Value::Null, Value::Null),
        (true, true) => return,
        (false, false) => {}
    }
    for (rule, location, old, new) in [
        ("success-changed", "success", &a.success, &b.success),
        ("errors-changed", "errors", &a.errors, &b.errors),
    ] {
        // A method that declares no status of success answers with 200.
        let usual = |codes: BTreeSet<u16>| match (location, codes.is_empty()) {
            ("success", true) => [200].into(),
            _ => codes,
        };
        let (old, new) = (usual(codes(old, at)), usual(codes(new, at)));
        if old != new {
            let list = |codes: BTreeSet<u16>| {
                if codes.is_empty() { "none declared".into() } else { Value::from(Vec::from_iter(codes)) }
            };
            note(rule, location.to_owned(), list(old), list(new));
        }
    }
    for (location, old, new) in [
        ("request", &a.request, &b.request),
        ("query", &a.query, &b.query),
        ("response", &a.response, &b.response),
    ] {
        let direction = if location == "response" { "response" } else { "request" };
        match (schema_at(old, at), schema_at(new, at)) {
            (Some(old), Some(new)) if old != new => {
                for change in schemas.changes(old, new).iter() {
                    let place = format!("{location} {}", change.location);
                    note(
                        &format!("{}.{direction}", change.kind),
                        place,
                        change.before.clone(),
                        change.after.clone(),
                    );
                }
            }
            (Some(_), None) => {
                note(&format!("schema-removed.{direction}"), location.to_owned(), Value::Null, Value::Null);
            }
            (None, Some(_)) => {
                note(&format!("schema-added.{direction}"), location.to_owned(), Value::Null, Value::Null);
            }
            _ => {}
        }
    }
}

/// Changes between schemas, each pair looked at once.
struct Schemas<'a> {
    a: &'a Service,
    b: &'a Service,
    same_python: bool,
    known: BTreeMap<(String, String), std::rc::Rc<Vec<Change>>>,
}

impl Schemas<'_> {
    fn changes(&mut self, old: &str, new: &str) -> std::rc::Rc<Vec<Change>> {
        let pair = (old.to_owned(), new.to_owned());
        if let Some(known) = self.known.get(&pair) {
            return known.clone();
        }
        let found = match (self.a.schemas.get(old), self.b.schemas.get(new)) {
            (Some(old), Some(new)) => schema::changes(old, new, self.same_python),
            _ => Vec::new(),
        };
        let found = std::rc::Rc::new(found);
        self.known.insert(pair, found.clone());
        found
    }
}

fn codes(list: &[Coded], at: Option<Microversion>) -> BTreeSet<u16> {
    list.iter().filter(|entry| entry.span.holds(at)).flat_map(|entry| entry.codes.iter().copied()).collect()
}

fn schema_at(list: &[Schemed], at: Option<Microversion>) -> Option<&str> {
    list.iter().find(|entry| entry.span.holds(at)).map(|entry| entry.schema.as_str())
}

/// Microversions that follow each other, as ranges; without microversions there is one without range.
fn runs(at: &[Option<Microversion>]) -> Vec<Option<Range>> {
    let mut runs: Vec<Option<Range>> = Vec::new();
    for at in at {
        match (at, runs.last_mut()) {
            (None, _) => return vec![None],
            (Some(at), Some(Some(run))) if run.max.next() == *at => run.max = *at,
            (Some(at), _) => runs.push(Some(Range { min: *at, max: *at })),
        }
    }
    runs
}

/// What the microversions above the old maximum bring to one operation of the new side.
fn brought(service: &str, name: &str, operation: &Operation, (old, new): (Range, Range)) -> Vec<News> {
    let mut news = Vec::new();
    let mut before = old.max;
    for at in new.all().filter(|at| *at > old.max) {
        let (then, now) = (Some(before), Some(at));
        let mut what = BTreeSet::new();
        match (operation.exists(then), operation.exists(now)) {
            (false, true) => {
                what.insert("exists");
            }
            (true, false) => {
                what.insert("gone");
            }
            _ => {}
        }
        if operation.exists(then) && operation.exists(now) {
            for (part, list) in [
                ("request", &operation.request),
                ("query", &operation.query),
                ("response", &operation.response),
            ] {
                if schema_at(list, then) != schema_at(list, now) {
                    what.insert(part);
                }
            }
            for (part, list) in [("success", &operation.success), ("errors", &operation.errors)] {
                if codes(list, then) != codes(list, now) {
                    what.insert(part);
                }
            }
        }
        if !what.is_empty() {
            news.push(News {
                service: service.to_owned(),
                microversion: at,
                operation: name.to_owned(),
                what: what.into_iter().map(str::to_owned).collect(),
            });
        }
        before = at;
    }
    news
}

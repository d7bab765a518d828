use serde_json::json;

use super::*;
use crate::diff::Audience;

const OLD: &str = "http://198.51.100.10:8774";
const NEW: &str = "http://198.51.100.11:18774";

fn asked() -> Asked {
    Asked {
        service: "nova".to_owned(),
        operation: "GET /servers/detail".to_owned(),
        path: "/servers/detail".to_owned(),
        microversion: Some("2.1".parse().unwrap()),
        audience: Audience::Member,
    }
}

fn answer(body: Value) -> Recorded {
    let headers = [("content-type", "application/json"), ("vary", "A, B"), ("date", "now")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Recorded { status: 200, headers, body: Body::Json(body) }
}

fn comparator() -> Comparator {
    Comparator::new(vec![OLD.to_owned(), NEW.to_owned()]).unwrap()
}

fn told(old: &Recorded, new: &Recorded) -> Vec<(String, Class, String)> {
    let compared = comparator().compare(&asked(), old, new, &Noise::default());
    compared.differences.into_iter().map(|d| (d.rule, d.class, d.location)).collect()
}

fn bodies(old: Value, new: Value) -> Vec<(String, Class, String)> {
    told(&answer(old), &answer(new))
}

fn expect(rule: &str, class: Class, location: &str) -> Vec<(String, Class, String)> {
    vec![(rule.to_owned(), class, location.to_owned())]
}

#[test]
fn links_to_either_daemon_are_the_same() {
    let link = |origin: &str| json!({"servers": [{"id": "a", "links": [{"rel": "self", "href": format!("{origin}/v2.1/servers/a")}]}]});
    assert_eq!(bodies(link(OLD), link(NEW)), []);
    let other = link("http://203.0.113.1");
    assert_eq!(bodies(link(OLD), other), expect("value-changed", Class::Breaking, "servers[].links[].href"));
}

#[test]
fn statuses_have_their_rules() {
    let with = |status| Recorded { status, ..answer(json!({})) };
    for (old, new, rule, class) in [
        (200, 202, "status-changed", Class::Breaking),
        (200, 403, "success-became-error", Class::Breaking),
        (200, 500, "server-error", Class::Breaking),
        (404, 500, "server-error", Class::Breaking),
        (200, UNANSWERED, "server-error", Class::Breaking),
        (404, 400, "status-changed", Class::Breaking),
        (403, 404, "refusal-changed", Class::Review),
        (403, 200, "error-became-success", Class::Review),
        (500, 404, "server-error-mended", Class::Correction),
    ] {
        assert_eq!(told(&with(old), &with(new)), expect(rule, class, "status"), "{old} {new}");
    }
}

#[test]
fn only_headers_that_matter_are_compared() {
    let old = answer(json!({}));
    let with = |name: &str, value: Option<&str>| {
        let mut new = old.clone();
        match value {
            Some(value) => new.headers.insert(name.to_owned(), value.to_owned()),
            None => new.headers.remove(name),
        };
        told(&old, &new)
    };
    assert_eq!(with("date", Some("later")), []);
    assert_eq!(with("vary", Some("b,a")), []);
    assert_eq!(with("content-type", Some("application/json; charset=UTF-8")), []);
    assert_eq!(
        with("content-type", Some("text/html")),
        expect("header-changed", Class::Breaking, "header content-type")
    );
    assert_eq!(with("vary", None), expect("header-missing", Class::Breaking, "header vary"));
    assert_eq!(with("retry-after", Some("1")), expect("header-added", Class::Review, "header retry-after"));
}

#[test]
fn bodies_are_compared_part_by_part() {
    let old = json!({"servers": [{"id": "a", "n": 1, "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]});
    for (rule, class, place, new) in [
        (
            "field-removed",
            Class::Breaking,
            "servers[].n",
            json!({"servers": [{"id": "a", "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "field-added",
            Class::Review,
            "servers[].z",
            json!({"servers": [{"id": "a", "n": 1, "s": null, "t": ["x", "y"], "z": 0}, {"id": "b", "n": 2}]}),
        ),
        (
            "type-changed",
            Class::Breaking,
            "servers[].n",
            json!({"servers": [{"id": "a", "n": "1", "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "type-changed",
            Class::Breaking,
            "servers[].n",
            json!({"servers": [{"id": "a", "n": 1.0, "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "value-changed",
            Class::Breaking,
            "servers[].n",
            json!({"servers": [{"id": "a", "n": 7, "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "became-null",
            Class::Breaking,
            "servers[].n",
            json!({"servers": [{"id": "a", "n": null, "s": null, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "was-null",
            Class::Review,
            "servers[].s",
            json!({"servers": [{"id": "a", "n": 1, "s": 1, "t": ["x", "y"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "element-removed",
            Class::Breaking,
            "servers[]",
            json!({"servers": [{"id": "a", "n": 1, "s": null, "t": ["x", "y"]}]}),
        ),
        (
            "element-removed",
            Class::Breaking,
            "servers[].t[]",
            json!({"servers": [{"id": "a", "n": 1, "s": null, "t": ["x"]}, {"id": "b", "n": 2}]}),
        ),
        (
            "order-changed",
            Class::Breaking,
            "servers",
            json!({"servers": [{"id": "b", "n": 2}, {"id": "a", "n": 1, "s": null, "t": ["x", "y"]}]}),
        ),
        (
            "order-changed",
            Class::Breaking,
            "servers[].t",
            json!({"servers": [{"id": "a", "n": 1, "s": null, "t": ["y", "x"]}, {"id": "b", "n": 2}]}),
        ),
    ] {
        assert_eq!(bodies(old.clone(), new), expect(rule, class, place));
    }
    assert_eq!(bodies(old.clone(), old), []);
}

#[test]
fn lists_without_identity_are_compared_by_place() {
    let old = json!([{"a": 1}, {"a": 2}]);
    assert_eq!(
        bodies(old.clone(), json!([{"a": 2}, {"a": 1}])),
        expect("order-changed", Class::Breaking, "body")
    );
    assert_eq!(
        bodies(old.clone(), json!([{"a": 1}, {"a": 3}])),
        expect("value-changed", Class::Breaking, "[].a")
    );
    assert_eq!(bodies(old, json!([{"a": 1}])), expect("place-removed", Class::Breaking, "[]"));
}

#[test]
fn growth_is_additive_without_microversions() {
    let unversioned = Asked { microversion: None, service: "neutron".to_owned(), ..asked() };
    let (old, new) = (answer(json!({"a": 1})), answer(json!({"a": 1, "b": 2})));
    let compared = comparator().compare(&unversioned, &old, &new, &Noise::default());
    assert_eq!(compared.differences[0].class, Class::Additive);
    assert!(!compared.broken());
}

#[test]
fn kinds_of_bodies_are_told_apart() {
    let with = |body| Recorded { body, ..answer(json!({})) };
    assert_eq!(Body::of(b""), Body::Empty);
    assert_eq!(Body::of(b"{}"), Body::Json(json!({})));
    assert_eq!(Body::of(b"<html>"), Body::Text("<html>".to_owned()));
    let rule = |old: Body, new: Body| told(&with(old), &with(new)).remove(0).0;
    assert_eq!(rule(Body::Json(json!({})), Body::Empty), "body-kind-changed");
    assert_eq!(rule(Body::Text("a".to_owned()), Body::Text("b".to_owned())), "text-changed");
}

#[test]
fn what_varies_by_itself_is_learnt() {
    let body = |at: &str, extra: bool, order: [&str; 2]| {
        let mut body = json!({"at": at, "list": order, "fixed": 1});
        if extra {
            body["sometimes"] = json!({"x": 1});
        }
        answer(body)
    };
    let comparator = comparator();
    let mut noise = Noise::default();
    noise.learn(&comparator, &asked(), &body("1", true, ["a", "b"]), &body("2", false, ["b", "a"]));
    assert_eq!(noise.places(), 3);
    let old = body("1", true, ["a", "b"]);
    let same = comparator.compare(&asked(), &old, &body("3", false, ["b", "a"]), &noise);
    assert_eq!((same.differences.len(), same.noise), (0, 3));
    // A value that varies must still be there, and be learnt for its own operation only.
    let mut gone = body("3", true, ["a", "b"]);
    let Body::Json(value) = &mut gone.body else { panic!("no JSON") };
    value.as_object_mut().unwrap().remove("at");
    assert_eq!(comparator.compare(&asked(), &old, &gone, &noise).differences[0].rule, "field-removed");
    let other = Asked { operation: "GET /other".to_owned(), ..asked() };
    assert_eq!(comparator.compare(&other, &old, &body("3", true, ["a", "b"]), &noise).differences.len(), 1);
}

#[test]
fn elements_that_come_and_go_hide_no_change_of_those_that_stay() {
    let comparator = comparator();
    let server = |id: &str| json!({"id": id, "status": "ACTIVE"});
    let mut noise = Noise::default();
    let both = answer(json!({"servers": [server("a"), server("b")]}));
    noise.learn(&comparator, &asked(), &both, &answer(json!({"servers": [server("a")]})));
    let new = answer(json!({"servers": [{"id": "a"}]}));
    let compared = comparator.compare(&asked(), &both, &new, &noise);
    let rules: Vec<&str> = compared.differences.iter().map(|d| d.rule.as_str()).collect();
    assert_eq!((rules, compared.noise), (vec!["field-removed"], 1));
}

#[test]
fn an_operation_of_unsteady_status_is_not_compared() {
    let comparator = comparator();
    let busy = Recorded { status: 503, ..answer(json!({})) };
    let mut noise = Noise::default();
    noise.learn(&comparator, &asked(), &answer(json!({})), &busy);
    let compared = comparator.compare(&asked(), &answer(json!({"a": 1})), &answer(json!({})), &noise);
    assert_eq!((compared.differences.len(), compared.noise), (0, 1));
}

#[test]
fn version_documents_may_grow_and_must_not_shrink() {
    let document =
        |min: &str, max: &str| json!({"versions": [{"id": "v2.1", "version": max, "min_version": min}]});
    let one = |new: Value| bodies(document("2.1", "2.100"), new).remove(0);
    assert_eq!(one(document("2.1", "2.103")).1, Class::Additive);
    assert_eq!(one(document("2.1", "2.99")).1, Class::Breaking);
    assert_eq!(one(document("2.2", "2.100")).1, Class::Breaking);
}

#[test]
fn the_wording_of_errors_is_no_contract() {
    let with = |text: &str| Recorded {
        status: 404,
        ..answer(json!({"itemNotFound": {"code": 404, "message": text}}))
    };
    assert_eq!(told(&with("a"), &with("b")), expect("expected", Class::Correction, "itemNotFound.message"));
    // In a success it is data.
    assert_eq!(
        bodies(json!({"message": "a"}), json!({"message": "b"})),
        expect("value-changed", Class::Breaking, "message")
    );
}

#[test]
fn a_known_change_is_told_and_is_not_taken_for_another() {
    let server = |properties: Value, more: Value| json!({"server": {"id": "a", "image": {"id": "i", "properties": properties}, "more": more}});
    let (all, own) = (json!({"hw_machine_type": "q35", "a.b": "c"}), json!({"hw_machine_type": "q35"}));
    assert_eq!(
        bodies(server(all, json!({"x": 1})), server(own, json!({}))),
        [
            expect("expected", Class::Review, "server.image.properties.a.b").remove(0),
            expect("field-removed", Class::Breaking, "server.more.x").remove(0),
        ]
    );
    // Another value is no part of it.
    assert_eq!(
        bodies(server(json!({"a": "1"}), json!(1)), server(json!({"a": "2"}), json!(1))),
        expect("value-changed", Class::Breaking, "server.image.properties.a")
    );
}

#[test]
fn a_tally_tells_what_was_compared() {
    let compared =
        comparator().compare(&asked(), &answer(json!({"a": 1})), &answer(json!({})), &Noise::default());
    let tally = Tally::of([(&asked(), &compared), (&asked(), &Compared::default())]);
    assert_eq!((tally.held, tally.operations_compared, tally.requests_compared), (false, 1, 2));
    assert_eq!(tally.differences, [(Class::Breaking, 1)].into());
}

#[test]
fn every_rule_of_the_code_is_among_the_data() {
    let rules = &AnswerRules::builtin().unwrap().rules;
    let sources = [include_str!("mod.rs"), include_str!("body.rs"), include_str!("outline.rs")].concat();
    for name in rules.keys() {
        assert!(sources.contains(&format!("\"{name}\"")), "no code finds {name}");
    }
    for expected in &AnswerRules::builtin().unwrap().expected {
        let name = expected.rule.as_ref();
        assert!(
            name.is_none_or(|name| rules.contains_key(name)),
            "{name:?} is no rule, so nothing is expected"
        );
    }
    for part in include_str!("body.rs").split("note(\"").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(rules.contains_key(name), "{name} has no entry in data/answers.toml");
    }
}

//! Small contracts made by hand, and the one difference that each pair has.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::document::{Origin, OriginKind};
use crate::rules::Class;

fn document(kind: OriginKind, service: Value) -> Document {
    let origin = Origin { kind, of: "test".to_owned(), at: Timestamp::UNIX_EPOCH, python: None };
    Document::new(origin, [("nova".to_owned(), Service::from_program(service).unwrap())].into())
}

fn installed(service: Value) -> Document {
    document(OriginKind::Installed, service)
}

/// A service with microversions and one operation.
fn versioned(operation: Value) -> Value {
    json!({"microversions": {"min": "2.1", "max": "2.4"}, "operations": {"GET /a/{id}": whole(operation)}})
}

fn whole(mut operation: Value) -> Value {
    let defaults = json!({"method": "GET", "path": "/a/{id}", "versions": [{}]});
    for (key, value) in defaults.as_object().unwrap() {
        operation.as_object_mut().unwrap().entry(key.clone()).or_insert(value.clone());
    }
    operation
}

fn differences(old: Value, new: Value) -> Vec<Difference> {
    compare(&installed(old), &installed(new)).unwrap().differences
}

fn only(old: Value, new: Value) -> (String, Class, String) {
    let mut found = differences(old, new);
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = found.remove(0);
    (found.rule, found.class, super::super::report::range(found.at))
}

fn told(rule: &str, class: Class, at: &str) -> (String, Class, String) {
    (rule.to_owned(), class, at.to_owned())
}

#[test]
fn equal_contracts_have_no_difference() {
    let service = versioned(json!({"response": [{"schema": {"enum": ["a", "b"]}}]}));
    let other = versioned(json!({"response": [{"schema": {"enum": ["b", "a"], "description": "other"}}]}));
    assert_eq!(differences(service, other), []);
}

#[test]
fn a_schema_of_the_code_that_an_operation_names_is_compared_there_alone() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let mut service = versioned(json!({"response": [{"schema": schema}]}));
    service["resources"] = json!({"code.schema": {"use": "internal", "schema": schema}});
    assert_eq!(differences(service.clone(), service), []);
}

#[test]
fn bounds_of_microversions_are_compared() {
    let with = |min: &str, max: &str| json!({"microversions": {"min": min, "max": max}});
    assert_eq!(only(with("2.1", "2.4"), with("2.2", "2.4")), told("minimum-raised", Class::Breaking, ""));
    assert_eq!(only(with("2.1", "2.4"), with("2.1", "2.3")), told("maximum-lowered", Class::Breaking, ""));
    assert_eq!(only(with("2.1", "2.4"), with("2.1", "2.5")), told("maximum-raised", Class::Additive, ""));
    assert_eq!(only(with("2.1", "2.4"), json!({})), told("microversions-dropped", Class::Breaking, ""));
}

#[test]
fn operations_are_compared_at_each_microversion() {
    let all = versioned(json!({}));
    let until = versioned(json!({"versions": [{"max": "2.2"}]}));
    assert_eq!(only(all.clone(), until.clone()), told("operation-removed", Class::Breaking, "2.3–2.4"));
    assert_eq!(only(until, all.clone()), told("operation-added", Class::Review, "2.3–2.4"));
    let gone = versioned(json!({"removed": true}));
    assert_eq!(only(all.clone(), gone.clone()), told("operation-gone", Class::Breaking, "2.1–2.4"));
    let none = json!({"microversions": {"min": "2.1", "max": "2.4"}});
    assert_eq!(only(all, none.clone()), told("operation-removed", Class::Breaking, "2.1–2.4"));
    assert_eq!(differences(gone, none), [], "what only said that it is gone may go");
}

#[test]
fn names_of_parameters_are_no_difference() {
    let renamed = versioned(json!({"path": "/a/{a_id}"}));
    assert_eq!(differences(versioned(json!({})), renamed), []);
}

#[test]
fn statuses_are_compared() {
    let with = |code: u16, from: &str| versioned(json!({"success": [{"min": from, "codes": [code]}]}));
    assert_eq!(only(with(202, "2.1"), with(204, "2.1")), told("success-changed", Class::Breaking, "2.1–2.4"));
    assert_eq!(only(with(202, "2.1"), with(202, "2.4")), told("success-changed", Class::Breaking, "2.1–2.3"));
    let errors = |codes: Value| versioned(json!({"errors": [{"codes": codes}]}));
    assert_eq!(
        only(errors(json!([404])), errors(json!([404, 409]))),
        told("errors-changed", Class::Review, "2.1–2.4")
    );
}

#[test]
fn no_declared_status_of_success_is_200() {
    let declared = versioned(json!({"success": [{"codes": [200]}]}));
    assert_eq!(differences(versioned(json!({})), declared), []);
}

#[test]
fn a_path_that_is_spelled_out_is_not_removed() {
    let with = |paths: &[&str]| {
        let operations: serde_json::Map<String, Value> = paths
            .iter()
            .map(|path| (format!("PUT {path}"), json!({"method": "PUT", "path": path, "versions": [{}]})))
            .collect();
        json!({"operations": operations})
    };
    let found = differences(with(&["/s/{id}"]), with(&["/s/enable", "/s/disable", "/s/x/y"]));
    let rules: Vec<(&str, &str)> = found.iter().map(|d| (d.rule.as_str(), d.subject.as_str())).collect();
    assert_eq!(rules, [("operation-split", "PUT /s/{id}"), ("operation-added", "PUT /s/x/y")]);
}

#[test]
fn a_schema_counts_by_its_direction() {
    let with = |kind: &str, schema: Value| versioned(json!({kind: [{"min": "2.2", "schema": schema}]}));
    let (more, less) = (json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}));
    for (kind, direction) in [("request", "request"), ("query", "request"), ("response", "response")] {
        let rule = format!("enum-removed.{direction}");
        let found = only(with(kind, more.clone()), with(kind, less.clone()));
        assert_eq!(found, told(&rule, Class::Breaking, "2.2–2.4"));
    }
    let (open, needed) =
        (json!({"properties": {"x": {}}}), json!({"properties": {"x": {}}, "required": ["x"]}));
    assert_eq!(only(with("request", open.clone()), with("request", needed.clone())).1, Class::Breaking);
    assert_eq!(only(with("response", open), with("response", needed)).1, Class::Correction);
}

#[test]
fn the_same_growth_is_additive_without_microversions() {
    let with = |schema: Value| json!({"operations": {"GET /a/{id}": whole(json!({"response": [{"schema": schema}]}))}});
    let (old, new) = (json!({"properties": {}}), json!({"properties": {"x": {}}}));
    assert_eq!(only(with(old), with(new)), told("property-added.response", Class::Additive, ""));
}

#[test]
fn a_new_microversion_brings_news_and_no_difference() {
    let service = |max: &str| {
        json!({"microversions": {"min": "2.1", "max": max}, "operations": {
            "GET /a/{id}": whole(json!({"response": [{"max": "2.4", "schema": {"type": "object", "properties": {"x": {}}}},
                {"min": "2.5", "schema": {"type": "object", "properties": {"x": {}, "y": {}}}}]})),
            "GET /b": {"method": "GET", "path": "/b", "versions": [{"min": "2.5"}]}}})
    };
    let comparison = compare(&installed(service("2.4")), &installed(service("2.5"))).unwrap();
    assert_eq!(comparison.differences.len(), 1);
    assert_eq!(comparison.differences[0].rule, "maximum-raised");
    let news: Vec<String> = comparison
        .news
        .iter()
        .map(|news| format!("{} {} {:?}", news.microversion, news.operation, news.what))
        .collect();
    assert_eq!(news, [r#"2.5 GET /a/{id} {"response"}"#, r#"2.5 GET /b {"exists"}"#]);
}

#[test]
fn policies_are_compared_by_whom_they_allow() {
    let with = |check: &str, allowed: &[&str]| json!({"policies": {"servers:index": {"check": check, "allowed": allowed, "operations": ["GET /servers"]}}});
    let old = with("role:reader", &["reader", "member", "admin"]);
    let found = differences(old.clone(), with("role:admin", &["admin"]));
    assert_eq!((found[0].rule.as_str(), found[0].class), ("policy-tightened", Class::Breaking));
    assert_eq!(found[0].audience, [Audience::Reader, Audience::Member].into());
    assert_eq!(found[0].sees, "status 403 for reader, member");
    let loosened = differences(with("role:admin", &["admin"]), old.clone());
    assert_eq!((loosened[0].rule.as_str(), loosened[0].class), ("policy-loosened", Class::Review));
    let reworded = with("rule:reader", &["reader", "member", "admin"]);
    assert_eq!(only(old, reworded).0, "policy-reworded");
}

#[test]
fn an_operation_concerns_those_whom_its_policies_allow() {
    let mut old = versioned(json!({}));
    old["policies"] = json!({"a:show": {"check": "role:admin", "allowed": ["admin"], "operations": ["GET /v2.1/a/{a_id}"]}});
    let mut new = old.clone();
    new["operations"] = json!({});
    assert_eq!(differences(old, new)[0].audience, [Audience::Admin].into());
}

#[test]
fn extensions_and_versions_are_promises() {
    let extensions = |aliases: &[&str]| {
        let map: serde_json::Map<String, Value> =
            aliases.iter().map(|a| ((*a).to_owned(), json!({}))).collect();
        json!({"extensions": map})
    };
    let (old, new) = (extensions(&["dns", "qos"]), extensions(&["qos"]));
    assert_eq!(only(old.clone(), new.clone()), told("extension-removed", Class::Breaking, ""));
    assert_eq!(only(new.clone(), old.clone()), told("extension-added", Class::Additive, ""));
    // A live cloud loads some of what is installed.
    let live = compare(&installed(old.clone()), &document(OriginKind::Live, new.clone())).unwrap();
    assert_eq!(live.differences[0].class, Class::Review);
    let other = compare(&document(OriginKind::Live, new), &installed(old)).unwrap();
    assert_eq!(other.differences, []);
    let versions = |list: Value| json!({"api_versions": list});
    assert_eq!(only(versions(json!(["v2.0", "v2.1"])), versions(json!(["v2.0"]))).0, "api-version-removed");
}

#[test]
fn attributes_of_neutron_are_compared_one_by_one() {
    let with = |attribute: Value| json!({"resources": {"ports": {"use": "attributes", "attributes": {"name": attribute}}}});
    let base = json!({"allow_post": true, "allow_put": true, "is_visible": true, "default": ""});
    let changed = |key: &str, value: Value| {
        let mut other = base.clone();
        if value.is_null() {
            other.as_object_mut().unwrap().remove(key);
        } else {
            other[key] = value;
        }
        with(other)
    };
    for (rule, class, other) in [
        ("attribute-not-settable", Class::Breaking, changed("allow_put", json!(false))),
        ("attribute-hidden", Class::Breaking, changed("is_visible", json!(false))),
        ("attribute-needed", Class::Breaking, changed("default", Value::Null)),
        ("attribute-changed", Class::Review, changed("default", json!("x"))),
        ("attribute-changed", Class::Review, changed("validate", json!({"type:uuid": null}))),
        ("attribute-filter-added", Class::Additive, changed("is_filter", json!(true))),
        (
            "attribute-removed",
            Class::Breaking,
            json!({"resources": {"ports": {"use": "attributes", "attributes": {}}}}),
        ),
        ("resource-removed", Class::Breaking, json!({})),
    ] {
        assert_eq!(only(with(base.clone()), other), told(rule, class, ""));
    }
    let values = |list: Value| changed("validate", json!({"type:values": list}));
    assert_eq!(only(values(json!(["a", "b"])), values(json!(["b"]))).0, "attribute-values-removed");
    assert_eq!(differences(values(json!(["a", "b"])), values(json!(["b", "a"]))), []);
}

#[test]
fn operators_are_told_of_options_and_scripts() {
    let with = |options: Value, scripts: Value| json!({"options": options, "scripts": scripts});
    let old = with(json!({"DEFAULT/a": {"type": "Integer", "default": "1"}}), json!(["nova-api"]));
    let found = differences(old.clone(), with(json!({}), json!([])));
    let rules: Vec<&str> = found.iter().map(|d| d.rule.as_str()).collect();
    assert_eq!(rules, ["option-removed", "script-removed"]);
    assert!(found.iter().all(|d| d.class == Class::Review && d.audience == [Audience::Operator].into()));
    let renamed = json!({"api/a": {"type": "Integer", "default": "1", "deprecated_names": ["DEFAULT/a"]}});
    let found = differences(old.clone(), with(renamed, json!(["nova-api"])));
    assert_eq!(found.iter().map(|d| d.rule.as_str()).collect::<Vec<_>>(), ["option-renamed", "option-added"]);
    let other = with(json!({"DEFAULT/a": {"type": "Integer", "default": "2"}}), json!(["nova-api"]));
    assert_eq!(only(old, other).0, "option-default-changed");
}

#[test]
fn what_could_not_be_read_is_not_taken_for_empty() {
    let old = json!({"extensions": {"dns": {}}});
    let new = json!({"unobserved": {"extensions": "ImportError"}});
    assert_eq!(only(old, new), told("unobserved", Class::Review, ""));
}

#[test]
fn published_documents_are_compared_by_shape() {
    let live = |shape: Value| document(OriginKind::Live, json!({"published": {"GET /limits": shape}}));
    let rule = |old: Value, new: Value| {
        compare(&live(old), &live(new)).unwrap().differences.into_iter().map(|d| d.rule).collect::<Vec<_>>()
    };
    let old = json!({"limits": {"absolute": {"a": "number", "b": "null"}, "rate": []}});
    assert_eq!(
        rule(old.clone(), json!({"limits": {"absolute": {"b": "string"}, "rate": ["string"]}})),
        ["published-removed"]
    );
    assert_eq!(
        rule(old.clone(), json!({"limits": {"absolute": {"a": "string", "b": "null"}, "rate": []}})),
        ["published-changed"]
    );
    assert!(rule(old.clone(), old).is_empty());
}

#[test]
fn every_rule_that_code_names_is_among_the_data() {
    let rules = DocumentRules::builtin().unwrap();
    let sources = [
        include_str!("mod.rs"),
        include_str!("operations.rs"),
        include_str!("resources.rs"),
        include_str!("policies.rs"),
        include_str!("configuration.rs"),
        include_str!("published.rs"),
    ]
    .concat();
    let schema = include_str!("../schema.rs");
    let names: Vec<&str> = rules.names().collect();
    for name in &names {
        let bare = name.split('.').next().unwrap_or(name);
        assert!(sources.contains(bare) || schema.contains(bare), "no code finds {name}");
    }
    // And every literal of a rule's form in a call that notes one.
    for text in [sources.as_str(), schema] {
        for part in text.split("about(\"").chain(text.split("self.add(\"")).skip(1) {
            let Some(name) = part.split('"').next().filter(|n| n.contains('-') && n.len() < 40) else {
                continue;
            };
            let known = names.iter().any(|known| known.split('.').next() == Some(name) || *known == name);
            assert!(known || name.contains(' '), "{name} has no entry in data/documents.toml");
        }
    }
}

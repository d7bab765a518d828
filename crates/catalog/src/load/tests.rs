use volutus_model::plan::SchemaClass;

use super::*;

fn with(name: &str, change: impl Fn(&str) -> String) -> Result<Catalog, Error> {
    let changed: Vec<(&str, String)> = builtin_files()
        .into_iter()
        .map(|(file, text)| {
            let new = if file == name { change(text) } else { text.to_owned() };
            assert!(file != name || new != text, "the change to {file} changed nothing");
            (file, new)
        })
        .collect();
    let files: Vec<(&str, &str)> = changed.iter().map(|(file, text)| (*file, &**text)).collect();
    Catalog::load(&files)
}

fn refusal(name: &str, from: &str, to: &str) -> String {
    with(name, |text| text.replacen(from, to, 1)).expect_err("it was accepted").to_string()
}

fn series(text: &str) -> Series {
    text.parse().unwrap()
}

#[test]
fn what_is_shipped_holds_together() {
    let catalog = Catalog::builtin().unwrap();
    assert_eq!(catalog.services.len(), 6);
    assert_eq!(catalog.series.len(), 8);
    let versions = &catalog.series[&series("2026.1")].versions;
    assert_eq!(versions["nova"].as_str(), "33.0.2");
    assert_eq!(versions["placement"].as_str(), "15.0.0");
    assert_eq!(catalog.services["nova"].record_versions[&series("2026.1")], 72);
    for service in catalog.services.values() {
        assert_eq!(service.versions.len(), catalog.series.len(), "versions of {}", service.name);
        assert_eq!(service.hops.len() + 1, catalog.series.len(), "hops of {}", service.name);
    }
    for kind in ["nova-compute", "cinder-volume", "neutron-rpc-server", "nova-metadata"] {
        assert!(catalog.daemon(&kind.parse().unwrap()).is_some(), "{kind}");
    }
}

#[test]
fn versions_tell_their_series() {
    let catalog = Catalog::builtin().unwrap();
    let nova = "nova".parse().unwrap();
    let of = |text: &str| {
        catalog.series_of(&nova, &volutus_model::PackageVersion::new(text)).map(|s| s.to_string())
    };
    assert_eq!(of("33.0.0").as_deref(), Some("2026.1"));
    assert_eq!(of("32.2.1").as_deref(), Some("2025.2"));
    assert_eq!(of("99.0.0"), None);
}

#[test]
fn hops_compose_to_their_worst() {
    let catalog = Catalog::builtin().unwrap();
    let way = catalog.between(series("2025.1"), series("2026.1"));
    let neutron = &catalog.services["neutron"];
    assert_eq!(neutron.hop(&way, |_, _| Some(true)).class, SchemaClass::Restore);
    assert_eq!(neutron.hop(&way, |_, _| None).class, SchemaClass::Restore);
    // 2025.1 to 2025.2 still has to be reviewed.
    assert_eq!(neutron.hop(&way, |_, _| Some(false)).class, SchemaClass::Review);
    assert_eq!(catalog.services["cinder"].hop(&way, |_, _| None).class, SchemaClass::None);
}

#[test]
fn the_way_goes_over_allowed_paths() {
    let catalog = Catalog::builtin().unwrap();
    let way = |from, to| {
        catalog
            .way(series(from), series(to))
            .map(|way| way.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(way("2025.1", "2026.2").as_deref(), Some("2026.1 2026.2"));
    assert_eq!(way("2025.2", "2026.1").as_deref(), Some("2026.1"));
    assert_eq!(way("2026.1", "2025.2"), None);
    assert!(catalog.path(series("2025.1"), series("2026.2")).is_none());
}

#[test]
fn hazards_concern_what_is_passed_over() {
    let catalog = Catalog::builtin().unwrap();
    let bridge = catalog.hazards.iter().find(|h| h.code == "linux-bridge-vif").unwrap();
    assert!(bridge.concerns(series("2026.1"), series("2026.2")));
    assert!(!bridge.concerns(series("2025.2"), series("2026.1")));
    let tags = catalog.hazards.iter().find(|h| h.code == "neutron-tags-conversion").unwrap();
    assert!(tags.concerns(series("2025.1"), series("2026.1")));
}

#[test]
fn refusals_name_file_and_line() {
    insta::assert_snapshot!(
        refusal("services/nova.toml", "distribution = ", "distribtion = "),
        @"catalog file services/nova.toml, line 4, column 1: unknown field `distribtion`, expected one of `name`, `distribution`, `endpoint_type`, `after`, `config_files`, `versions`, `sources`, `schemas`, `other_databases`, `upgrade_check`, `expand`, `online_data_migrations`, `contract`, `daemons`, `hops`, `options`, `pending`, `record_versions`, `record_versions_oldest`, `refuses_newer_records`, `anchor`, `recorded_versions`, `graceful_shutdown_s`"
    );
}

#[test]
fn contradictions_are_refused() {
    let cases = [
        ("services/nova.toml", "after = [\"placement\"]", "after = [\"plazement\"]", "plazement"),
        ("services/nova.toml", "after = [\"nova-conductor\"]", "after = [\"nova-api\"]", "above it"),
        ("services/nova.toml", "{release}/bin/nova-status", "nova-status", "must start with"),
        ("services/nova.toml", "name = \"nova\"", "name = \"nowa\"", "must be called nowa.toml"),
        ("services/nova.toml", "schema = \"main\"", "schema = \"cell9\"", "cell9"),
        ("services/nova.toml", "health = { path = \"/\", statuses = [200] }\n", "", "needs `health`"),
        ("services/cinder.toml", "daemons = \"", "demons = \"", "says nothing about `daemons`"),
        ("services/keystone.toml", "\"2026.2\" = \"30.0.0\"", "\"2030.2\" = \"30.0.0\"", "2030.2"),
        (
            "services/neutron.toml",
            "option = \"DEFAULT/service_plugins\"",
            "option = \"DEFAULT/plugins\"",
            "nobody would look at it",
        ),
        ("services/glance.toml", "to = \"2023.2\"", "to = \"2024.1\"", "does not lead to the next"),
        ("paths.toml", "to = \"2023.2\"", "to = \"2024.1\"", "is not adjacent"),
        ("hazards.toml", "service = \"nova\"", "service = \"nowa\"", "`nowa` is not known"),
        (
            "hazards.toml",
            "option = \"upgrade_levels/compute\"",
            "option = \"upgrade_levels/cumpute\"",
            "nobody would look at it",
        ),
    ];
    for (file, from, to, expected) in cases {
        let message = refusal(file, from, to);
        assert!(message.contains(expected) && message.contains(file), "{file}: {message}");
    }
}

#[test]
fn a_service_is_a_data_file() {
    let heat = r#"
name = "heat"
distribution = "openstack-heat"
endpoint_type = "orchestration"
upgrade_check = ["{release}/bin/heat-status", "upgrade", "check"]
expand = []
online_data_migrations = []
contract = []
[versions]
"2026.1" = "26.0.2"
[sources]
versions = "a"
upgrade_check = "b"
daemons = "c"
[[schemas]]
name = "main"
connection = "database/connection"
version_table = "alembic_version"
database = "heat"
[[daemons]]
kind = "heat-engine"
role = "worker"
steady_s = 5
expected_s = 10
"#;
    let mut files = builtin_files();
    files.push(("/etc/site/services/heat.toml", heat));
    let catalog = Catalog::load(&files).unwrap();
    let heat = &catalog.services["heat"];
    assert_eq!(catalog.series[&series("2026.1")].versions["heat"].as_str(), "26.0.2");
    // What is not known of a hop is never taken for harmless.
    let way = catalog.between(series("2025.2"), series("2026.1"));
    assert_eq!(heat.hop(&way, |_, _| None).class, SchemaClass::Review);
    files.push(("notes.txt", ""));
    assert!(matches!(
        Catalog::load(&files).unwrap_err(),
        Error::UnknownFile { file } if file == "notes.txt"
    ));
}

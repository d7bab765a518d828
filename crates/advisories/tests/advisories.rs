//! Reading, precedence, exposure and patches, from the texts that are published to what an operator
//! is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, date};
use proptest::prelude::*;
use volutus_advisories::{
    Advisories, Exposure, ExposureInput, Feed, Judgement, Patch, Products, Published, Read, Statements,
    builtin, exposure, patch, read,
};
use volutus_model::observation::{DaemonObservation, Environment, Fact, HostObservation};
use volutus_model::{Observation, PackageVersion};

fn products() -> Products {
    Products::builtin().unwrap()
}

fn read_one(text: &str) -> Read {
    read(text, "test", &products()).unwrap()
}

const OSSA: &str = "
date: 2026-05-28
id: OSSA-2026-099
title: A title
affected-products:
  - product: 'Keystone'
    version: '>=14.0.0 <27.0.2, >=28.0.0, <28.0.2, ==29.0.0'
vulnerabilities:
  - cve-id: CVE-2026-42999
  - cve-id: CVE-2026-43000
reviews:
  2026.1/gazpacho:
    - https://review.example.org/1
notes:
  - Only with the federation extension.
errata_history:
  - 2026-06-01 - Errata 1
";

const CVE: &str = r#"{"dataType": "CVE_RECORD", "cveMetadata": {"cveId": "CVE-2026-42999", "state": "PUBLISHED",
 "datePublished": "2026-05-29T00:00:00.000Z"}, "containers": {"cna": {"affected": [
 {"vendor": "OpenStack", "product": "Keystone", "defaultStatus": "unaffected", "versions": [
  {"version": "14.0.0", "lessThan": "27.0.2", "status": "affected", "versionType": "semver"},
  {"version": "28.0.0", "lessThanOrEqual": "28.0.1", "status": "affected", "versionType": "semver"}]}],
 "references": [{"url": "https://security.openstack.org/ossa/OSSA-2026-099.html"}]}}}"#;

const OSV: &str = "
id: PYSEC-2026-9
modified: '2026-06-10T16:51:27Z'
published: '2026-06-10T16:51:27Z'
aliases: [CVE-2026-42999]
details: something
affected:
  - package: {ecosystem: PyPI, name: keystone}
    ranges:
      - type: ECOSYSTEM
        events: [{introduced: '0'}, {fixed: 28.0.0}, {introduced: 29.0.0}, {last_affected: 29.0.1}]
    versions: [29.0.1, 30.0.0]
";

#[test]
fn an_ossa_file_is_read() {
    let read = read_one(OSSA);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let record = &read.records[0];
    assert_eq!((record.feed, record.date, record.errata), (Feed::Ossa, Some(date(2026, 5, 28)), true));
    assert_eq!(record.aliases, ["CVE-2026-42999", "CVE-2026-43000"].map(String::from).into());
    assert_eq!(record.affected[0].ranges.len(), 3);
    assert_eq!(record.notes.len(), 1);
}

#[test]
fn a_cve_record_is_read() {
    let record = &read_one(CVE).records[0];
    let ranges: Vec<String> = record.affected[0].ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, [">=14.0.0 <27.0.2", ">=28.0.0 <=28.0.1"]);
    assert!(record.aliases.contains("OSSA-2026-099"));
    // A status that changes within, and a default of "affected" with exceptions.
    let text = r#"{"cveMetadata": {"cveId": "CVE-2026-1"}, "containers": {"cna": {"affected": [
      {"vendor": "OpenStack", "product": "Nova", "versions": [{"version": "0", "lessThan": "*", "status": "affected",
        "changes": [{"at": "31.3.1", "status": "unaffected"}, {"at": "32.0.0", "status": "affected"}]}]},
      {"vendor": "OpenStack", "product": "Glance", "defaultStatus": "affected",
        "versions": [{"version": "30.0.0", "lessThan": "31.0.0", "status": "unaffected"}]}]}}}"#;
    let read = read_one(text);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let judge = |i: usize, version: &str| read.records[0].affected[i].judge(version, &products());
    for (i, version, expected) in [
        (0, "31.3.0", Judgement::Affected),
        (0, "31.3.1", Judgement::NotAffected),
        (0, "32.0.0", Judgement::Affected),
        (1, "29.0.0", Judgement::Affected),
        (1, "30.1.0", Judgement::NotAffected),
        (1, "31.0.0", Judgement::Affected),
    ] {
        assert_eq!(judge(i, version), expected, "{version}");
    }
}

#[test]
fn an_osv_record_is_read() {
    let record = &read_one(OSV).records[0];
    let ranges: Vec<String> = record.affected[0].ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["<28.0.0", ">=29.0.0 <=29.0.1", "==30.0.0"]);
}

/// As in PYSEC-2012-20: the fixes are commits, so the range has lost its end.
#[test]
fn a_range_that_lost_its_end_is_not_believed() {
    let text = "
id: PYSEC-2012-20
modified: '2026-06-10T16:51:27Z'
aliases: [CVE-2012-5563]
affected:
  - package: {ecosystem: PyPI, name: keystone}
    ranges:
      - {type: GIT, events: [{introduced: '0'}, {fixed: 38c7e46a}]}
      - {type: ECOSYSTEM, events: [{introduced: '0'}]}
    versions: [12.0.2, 29.0.1]
";
    let read = read_one(text);
    assert_eq!(read.problems.len(), 1);
    let judged = read.records[0].affected[0].judge("29.0.1", &products());
    assert!(matches!(judged, Judgement::Unjudged { .. }), "{judged:?}");
    // OSSA knows better, where it knows it.
    let records = read.records.into_iter().chain(builtin(&products()).unwrap().records);
    let advisories = Advisories::new(records, products());
    assert!(!advisories.hits("keystone", "29.0.1").any(|hit| hit.vulnerability.id == "OSSA-2012-018"));
}

#[test]
fn what_is_about_other_software_is_counted_and_left() {
    let text = r#"{"cveMetadata": {"cveId": "CVE-2026-2"}, "containers": {"cna": {"affected": [
      {"vendor": "Some Body", "product": "Nova", "versions": [{"version": "1", "status": "affected"}]}]}}}"#;
    let read = read_one(text);
    assert_eq!((read.records.len(), read.others, read.problems.len()), (0, 1, 0));
}

#[test]
fn what_cannot_be_read_is_told_and_does_not_stop_the_rest() {
    for text in ["", "a: b", "[1, 2", "%", "id: X-1", "{\"id\": \"X-1\"}"] {
        assert!(read(text, "test", &products()).is_err(), "{text:?} was accepted");
    }
    let text = r#"{"advisories": [{"title": "no id"}, {"id": "bad id"}, {"id": "CVE-2026-3", "affected": []},
      {"id": "CVE-2026-4", "date": "yesterday", "affected": [{"product": "nova", "versions": "soon"}, {}]},
      {"id": "CVE-2026-5", "affected": [{"product": "nova", "versions": "<1.0"}]}]}"#;
    let read = read_one(text);
    let ids: Vec<&str> = read.records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["CVE-2026-4", "CVE-2026-5"]);
    let left_out = read.problems.iter().filter(|problem| problem.left_out).count();
    assert_eq!((left_out, read.problems.len()), (3, 6), "{:?}", read.problems);
}

#[test]
fn ossa_outweighs_cve_and_cve_outweighs_osv() {
    let all = [OSV, CVE, OSSA];
    let records = |texts: &[&str]| texts.iter().flat_map(|text| read_one(text).records).collect::<Vec<_>>();
    let judge = |texts: &[&str], version: &str| {
        let advisories = Advisories::new(records(texts), products());
        assert_eq!(advisories.all().len(), 1, "one vulnerability has become several");
        advisories.hits("keystone", version).map(|hit| hit.claim.record.clone()).next()
    };
    assert_eq!(judge(&all, "29.0.0").as_deref(), Some("OSSA-2026-099"));
    assert_eq!(judge(&[OSV, CVE], "29.0.0"), None);
    assert_eq!(judge(&[OSV], "29.0.0").as_deref(), Some("PYSEC-2026-9"));
    let advisories = Advisories::new(records(&all), products());
    let found = advisories.find("cve-2026-43000").unwrap();
    assert_eq!(found.claims.len(), 1);
    assert_eq!(found.claims[0].overruled, ["CVE-2026-42999", "PYSEC-2026-9"]);
    assert!(advisories.find("CVE-1999-0001").is_err());
}

/// The table was made by another program from the same sources; see its first line.
#[test]
fn the_built_in_advisories_judge_as_expected() {
    let products = products();
    let read = builtin(&products).unwrap();
    assert_eq!(read.records.len(), 196);
    let not_understood: Vec<&str> = read.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(not_understood, ["built in (OSSA-2013-016)"], "{:?}", read.problems);
    let by_id: BTreeMap<&str, _> = read.records.iter().map(|record| (record.id.as_str(), record)).collect();
    let explained: BTreeSet<&str> = include_str!("../testdata/disagreements.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once('\t').unwrap().0)
        .collect();
    let mut disagreements: Vec<String> = Vec::new();
    let mut judged = 0;
    for line in include_str!("../testdata/expected.tsv").lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let distribution = products.distribution(cells[1]);
        let affected = by_id[cells[0]].affected.iter().find(|one| one.distribution == distribution).unwrap();
        for (version, expected) in [(cells[3], cells[4]), (cells[5], cells[6]), (cells[7], "not_affected")] {
            let expected = match expected {
                "affected" => Judgement::Affected,
                _ => Judgement::NotAffected,
            };
            if version != "-" {
                judged += 1;
                if affected.judge(version, &products) != expected {
                    disagreements.push([cells[0], cells[1], version].join("\t"));
                }
            }
        }
    }
    assert!(judged > 850, "only {judged} judgements");
    assert_eq!(disagreements.iter().map(String::as_str).collect::<BTreeSet<_>>(), explained);
}

/// A cloud of some daemons, each on a host of its own, with one environment for all.
fn cloud(daemons: &[(&str, &str)], packages: &[(&str, &str)]) -> Observation {
    let path = "/opt/openstack/2025.2";
    let text = |items: &[(&str, &str)]| {
        items
            .iter()
            .map(|(name, v)| ((*name).to_owned(), PackageVersion::new(*v)))
            .collect::<BTreeMap<_, _>>()
    };
    let environment = Environment { packages: text(packages) };
    let digest = environment.digest();
    let mut observation: Observation = serde_json::from_str(
        r#"{"at": "2026-11-25T12:00:00Z", "inventory": "x", "hosts": {}, "daemons": {}, "schemas": {},
            "backends": {}, "records": {}, "instances": {"unobserved": {"why": "not asked"}},
            "instances_in_error": {"unobserved": {"why": "not asked"}},
            "vif_types": {"unobserved": {"why": "not asked"}}, "pending_migrations": {}, "endpoints": {}}"#,
    )
    .unwrap();
    for (i, (kind, version)) in daemons.iter().enumerate() {
        let host = format!("h{i}");
        let seen = DaemonObservation {
            active_state: "active".to_owned(),
            main_pid: 1,
            restarts: 0,
            timeout_stop_s: None,
            environment: BTreeMap::new(),
            version: Fact::observed(PackageVersion::new(*version), "test"),
            release_path: Fact::observed(path.to_owned(), "test"),
            link: Fact::observed(path.to_owned(), "test"),
            replaced: BTreeSet::new(),
        };
        let on = HostObservation {
            boot_id: String::new(),
            kernel: String::new(),
            python: String::new(),
            clock_skew_ms: 0,
            release_free_bytes: 0,
            root_free_bytes: 0,
            staged: BTreeMap::new(),
            options: BTreeMap::new(),
            environments: BTreeMap::from([(path.to_owned(), Fact::observed(digest.clone(), "test"))]),
        };
        observation.daemons.insert(format!("{kind}@{host}").parse().unwrap(), Fact::observed(seen, "test"));
        observation.hosts.insert(host.parse().unwrap(), Fact::observed(on, "test"));
    }
    observation.environments.insert(digest, environment);
    observation
}

fn known() -> Advisories {
    let products = products();
    Advisories::new(builtin(&products).unwrap().records, products)
}

fn expose(observation: &Observation, statements: &str, today: Date) -> Exposure {
    let advisories = known();
    let distributions = [("keystone-api", "keystone"), ("nova-compute", "nova"), ("ironic-api", "ironic")]
        .map(|(kind, distribution)| (kind.parse().unwrap(), distribution.to_owned()))
        .into();
    let statements = Statements::parse(statements, advisories.products()).unwrap();
    exposure(&ExposureInput {
        advisories: &advisories,
        observation,
        distributions: &distributions,
        statements: &statements,
        today,
    })
}

const TODAY: Date = date(2026, 11, 25);

fn mend(name: &str, exposure: &Exposure) -> Patch {
    let advisories = known();
    let published = Published::builtin(advisories.products()).unwrap();
    patch(name, exposure, &advisories, &published).unwrap()
}

#[test]
fn a_service_exposes_its_own_daemons_and_a_library_all_of_them() {
    let observation = cloud(
        &[("keystone-api", "28.0.1"), ("nova-compute", "32.2.1")],
        &[
            ("keystone", "28.0.1"),
            ("nova", "32.2.1"),
            ("Oslo_Middleware", "6.6.0"),
            ("keystonemiddleware", "10.10.0"),
        ],
    );
    let found = expose(&observation, "", TODAY);
    assert!(found.is_complete(), "{:?} {:?}", found.unjudged, found.not_seen);
    assert_eq!((found.daemons, found.environments), (2, 1));
    let keystone: Vec<_> = found.of("CVE-2026-42999").collect();
    assert_eq!(keystone.len(), 1);
    assert_eq!(keystone[0].daemons.iter().map(ToString::to_string).collect::<Vec<_>>(), ["keystone-api@h0"]);
    let middleware: Vec<_> = found.of("OSSA-2026-001").collect();
    assert_eq!(middleware[0].daemons.len(), 2);
    assert_eq!(middleware[0].hosts.len(), 2);
    // 32.2.1 is the fix of OSSA-2026-022, and no other advisory concerns it.
    assert!(found.exposed.iter().all(|exposed| exposed.distribution != "nova"), "{:?}", found.exposed);
}

#[test]
fn what_was_not_seen_is_not_clean() {
    let mut observation =
        cloud(&[("nova-compute", "32.2.1"), ("nova-compute", "32.2.1")], &[("nova", "32.2.1")]);
    observation.daemons.insert("nova-compute@h1".parse().unwrap(), Fact::unobserved("no route"));
    observation
        .daemons
        .insert("odd@h0".parse().unwrap(), observation.daemons.first_key_value().unwrap().1.clone());
    let found = expose(&observation, "", TODAY);
    assert!(found.is_clean() && !found.is_complete());
    assert_eq!(found.not_seen.len(), 2, "{:?}", found.not_seen);
    // An observation from before environments were listed still tells of the services themselves.
    let mut observation = cloud(&[("keystone-api", "28.0.1")], &[]);
    observation.environments.clear();
    let found = expose(&observation, "", TODAY);
    assert!(!found.is_clean() && found.not_seen.len() == 1);
}

#[test]
fn a_library_that_was_replaced_under_a_running_process_is_not_judged() {
    let mut observation =
        cloud(&[("nova-compute", "32.2.1")], &[("nova", "32.2.1"), ("keystonemiddleware", "10.12.1")]);
    for fact in observation.daemons.values_mut() {
        let Fact::Observed { value, .. } = fact else { panic!("it is seen") };
        value.replaced = ["keystonemiddleware".to_owned(), "unrelated".to_owned()].into();
    }
    let found = expose(&observation, "", TODAY);
    assert!(found.is_clean());
    assert_eq!(found.unjudged.len(), 1);
    assert!(found.unjudged[0].why.contains("restart the daemon"));
}

const STATEMENT: &str = "
[[statement]]
vulnerability = 'CVE-2026-43000'
status = 'not-affected'
because = 'federation is not configured'
by = 'jo'
until = 2026-12-31
product = 'Keystone'
versions = '>=28.0.0 <28.0.2'
hosts = ['h0']
";

#[test]
fn a_statement_excuses_what_it_covers_until_it_ends() {
    let observation = cloud(&[("keystone-api", "28.0.1"), ("keystone-api", "28.0.1")], &[]);
    let of = |found: &[volutus_advisories::Exposed]| -> Vec<(String, usize)> {
        let own = found.iter().filter(|exposed| exposed.vulnerability == "CVE-2026-43000");
        own.map(|exposed| (exposed.version.to_string(), exposed.daemons.len())).collect()
    };
    let found = expose(&observation, STATEMENT, TODAY);
    assert_eq!(of(&found.excused), [("28.0.1".to_owned(), 1)]);
    assert_eq!(of(&found.exposed), [("28.0.1".to_owned(), 1)]);
    let found = expose(&observation, STATEMENT, date(2027, 1, 1));
    assert!(found.excused.is_empty());
    // It is told that there was a statement, and for whom there was none.
    assert_eq!(of(&found.exposed).len(), 2);
    assert!(found.of("CVE-2026-43000").any(|exposed| exposed.statement.is_some()));
}

#[test]
fn a_statement_that_says_too_little_is_refused() {
    for (from, to) in [
        ("because = 'federation is not configured'", "because = ' '"),
        ("by = 'jo'", "by = ''"),
        ("until = 2026-12-31\n", ""),
        ("until = 2026-12-31", "until = 2026-02-30"),
        ("'CVE-2026-43000'", "'the bad one'"),
        ("'>=28.0.0 <28.0.2'", "'the old ones'"),
        ("product = 'Keystone'\n", ""),
        ("'not-affected'", "'fine'"),
        ("hosts", "host"),
    ] {
        let text = STATEMENT.replace(from, to);
        assert_ne!(text, STATEMENT);
        assert!(Statements::parse(&text, &products()).is_err(), "{to} was accepted");
    }
}

#[test]
fn the_smallest_change_within_the_series_is_found() {
    let observation =
        cloud(&[("keystone-api", "28.0.1"), ("keystone-api", "28.0.1"), ("nova-compute", "32.2.1")], &[]);
    let found = expose(&observation, "", TODAY);
    let patch = mend("cve-2026-42999", &found);
    assert_eq!(patch.changes.len(), 1);
    let change = &patch.changes[0];
    assert_eq!((change.from.as_str(), change.to.as_str(), change.published), ("28.0.1", "28.0.2", true));
    assert_eq!((patch.restarts.len(), patch.unfixed.len()), (2, 0));
    assert!(change.closes.contains("CVE-2026-43000") && change.closes.contains("CVE-2026-44394"));
    // 28.0.2 has CVE-2026-90460, which 28.1.0 has not.
    assert!(change.remain.contains("CVE-2026-90460"));
    assert_eq!(change.better.as_ref().map(PackageVersion::as_str), Some("28.1.0"));
}

/// OSSA-2026-012 names 32.0.2, which was never published.
#[test]
fn a_fix_that_was_never_published_is_not_offered() {
    let found = expose(&cloud(&[("ironic-api", "32.0.1")], &[]), "", TODAY);
    assert_eq!(mend("OSSA-2026-012", &found).changes[0].to.as_str(), "32.1.0");
}

#[test]
fn where_there_is_no_fix_it_says_so_and_what_there_is() {
    let found = expose(&cloud(&[("ironic-api", "39.0.0")], &[]), "", TODAY);
    let patch = mend("CVE-2026-90458", &found);
    assert!(patch.changes.is_empty() && patch.restarts.is_empty());
    assert!(patch.unfixed[0].why.contains("2026.2"), "{}", patch.unfixed[0].why);
    assert!(patch.unfixed[0].elsewhere.is_empty());
    // Nova of 2024.1 has no fixed release of its own for OSSA-2026-002; later series have.
    let found = expose(&cloud(&[("nova-compute", "29.2.0")], &[]), "", TODAY);
    let patch = mend("OSSA-2026-002", &found);
    assert!(patch.changes.is_empty());
    let elsewhere: Vec<String> =
        patch.unfixed[0].elsewhere.iter().map(|(series, _)| series.to_string()).collect();
    assert!(elsewhere.contains(&"2025.2".to_owned()), "{elsewhere:?}");
}

#[test]
fn of_a_library_the_advisory_names_the_fix() {
    let found =
        expose(&cloud(&[("nova-compute", "32.2.1")], &[("keystonemiddleware", "10.10.0")]), "", TODAY);
    let patch = mend("OSSA-2026-001", &found);
    assert_eq!(patch.changes[0].to.as_str(), "10.12.1");
    assert!(!patch.changes[0].published);
}

#[test]
fn what_does_not_run_needs_no_patch() {
    let found = expose(&cloud(&[("nova-compute", "32.2.1")], &[]), "", TODAY);
    let patch = mend("CVE-2026-42999", &found);
    assert!(patch.changes.is_empty() && patch.unfixed.is_empty());
}

proptest! {
    /// Whatever comes in: an answer or an error, and what is kept reads back as it was.
    #[test]
    fn no_input_breaks_it(text in ".{0,200}", expression in "[<>=!~ ,;0-9.a-z]{0,60}") {
        let products = products();
        let _answer = read(&text, "test", &products);
        let value = serde_json::json!({"advisories": [{"id": "CVE-1-1", "affected": [
            {"product": "nova", "versions": expression}]}]});
        let found = read(&value.to_string(), "test", &products).unwrap();
        for record in found.records {
            let kept = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(&serde_json::from_str::<volutus_advisories::Record>(&kept).unwrap(), &record);
            let _judged = record.affected[0].judge("32.0.0", &products);
        }
    }
}

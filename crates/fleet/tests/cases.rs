//! Plans and explanations of small fleets, compared with what was reviewed before. Every plan is
//! judged by plancheck as well.
//!
//! `UPDATE_CASES=1 cargo test -p volutus-fleet --test cases` writes the files anew; their difference
//! is then what has to be reviewed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;

use support::{check, host, instance};
use volutus_fleet::{explain, plan, render_markdown};
use volutus_model::fleet::plan::{How, RebootPlan};
use volutus_model::fleet::policy::{Rung, Zones};
use volutus_model::fleet::steps::HostStep;
use volutus_model::fleet::{
    Availability, Fleet, GroupPolicy, MigrationSettings, Obstacle, OwnerChoice, Part, RebootPolicy,
    Selection, ServerGroup, TimeoutAction,
};

fn group(id: &str, policy: GroupPolicy) -> ServerGroup {
    ServerGroup { id: id.to_owned(), name: format!("group-{id}"), policy }
}

/// Four hosts of which one is empty; an anti-affinity pair, local disks, an owner who consents to a
/// stop.
fn four_hosts() -> Fleet {
    let mut fleet = Fleet {
        hosts: ["c1", "c2", "c3", "c4"].map(|name| host(name, 64)).into(),
        groups: vec![group("g", GroupPolicy::AntiAffinity { per_host_max: 1 })],
        ..Fleet::default()
    };
    for (id, on, gib) in
        [("a1", "c1", 16), ("a2", "c1", 8), ("b1", "c2", 16), ("b2", "c2", 32), ("d1", "c3", 24)]
    {
        fleet.instances.push(instance(id, on, gib));
    }
    fleet.instances[0].group = Some("g".to_owned());
    fleet.instances[2].group = Some("g".to_owned());
    fleet.instances[1].local_disk_bytes = 40 << 30;
    let mut device = instance("d2", "c3", 8);
    device.obstacles = [Obstacle::Vgpu].into();
    device.choice = Some(OwnerChoice::Stop);
    fleet.instances.push(device);
    fleet
}

/// The same, but no host is empty and everything that may go wrong does.
fn troubled() -> Fleet {
    let mut fleet = four_hosts();
    fleet.hosts.pop();
    fleet.hosts.push(host("c5", 64));
    fleet.hosts[3].availability = Availability::Disabled { reason: "memory errors".to_owned() };
    fleet.instances[5].choice = Some(OwnerChoice::Live);
    fleet.instances[4].choice = Some(OwnerChoice::Notify);
    fleet
}

const POLICY: &str = r#"
[reboot.hosts]
at_once = 2
per_zone = "50%"
canaries = ["c3"]
[reboot.drain]
ladder = ["live", "auto-converge", "cold", "stop", "skip"]
cold_without_consent = true
[reboot.capacity]
fill_max_percent = 95
[[reboot.override]]
host = "c1"
reboot_s = 900
[[reboot.override]]
host = "c[1]"
skip = true
[[reboot.override]]
host = "c1*"
per_source = 2
"#;

fn compare(name: &str, made: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_CASES=1", path.display()));
    assert!(
        kept == made,
        "{} differs from what was made:\n{made}\nUPDATE_CASES=1 writes it anew",
        path.display()
    );
}

fn made(fleet: &Fleet, policy: &RebootPolicy, selection: &Selection) -> RebootPlan {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let plan = plan(fleet, policy, selection, &"cloud".parse().unwrap(), now).unwrap();
    assert_eq!(check(&plan, fleet, policy), []);
    plan
}

#[test]
fn four_hosts_of_which_one_is_empty() {
    let (fleet, policy) = (four_hosts(), RebootPolicy::default());
    compare("four-hosts.md", &render_markdown(&made(&fleet, &policy, &Selection::default())));
}

#[test]
fn a_policy_with_canaries_overrides_and_a_cap() {
    let (fleet, policy) = (four_hosts(), RebootPolicy::parse(POLICY).unwrap());
    compare("policy.md", &render_markdown(&made(&fleet, &policy, &Selection::default())));
    compare("policy-explained.txt", &explain(&fleet, &policy, &Selection::default()));
}

#[test]
fn no_empty_host_and_what_may_go_wrong() {
    let (fleet, policy) = (troubled(), RebootPolicy::default());
    compare("troubled.md", &render_markdown(&made(&fleet, &policy, &Selection::default())));
    compare("troubled-explained.txt", &explain(&fleet, &policy, &Selection::default()));
}

/// Hosts that permit post-copy, auto-converge, neither, and nobody knows what.
#[test]
fn what_becomes_of_live_migrations_that_do_not_converge_is_told_per_host() {
    let mut fleet = four_hosts();
    let mut fifth = host("c5", 64);
    fifth.migrations = None;
    fleet.hosts.push(fifth);
    fleet.instances.push(instance("e1", "c5", 8));
    let settings = |post_copy, auto_converge| {
        Some(MigrationSettings { post_copy, auto_converge, ..MigrationSettings::default() })
    };
    fleet.hosts[0].migrations = settings(true, true);
    fleet.hosts[1].migrations = settings(false, true);
    fleet.hosts[2].migrations = settings(false, false);
    let ladder =
        "ladder = [\"live\", \"post-copy\", \"auto-converge\", \"force-complete\", \"stop\", \"skip\"]";
    let policy = RebootPolicy::parse(&format!("[reboot.drain]\n{ladder}")).unwrap();
    let plan = made(&fleet, &policy, &Selection::default());
    compare("converge.md", &render_markdown(&plan));
    compare("converge-explained.txt", &explain(&fleet, &policy, &Selection::default()));
    let then = |id: &str| plan.content.moves.iter().find(|one| one.instance == id).unwrap().then.clone();
    assert_eq!(then("a1"), [Rung::PostCopy, Rung::ForceComplete, Rung::Skip]);
    assert_eq!(then("b1"), [Rung::AutoConverge, Rung::ForceComplete, Rung::Skip]);
    assert_eq!(then("d1"), [Rung::ForceComplete, Rung::Skip]);
    assert_eq!(then("e1"), [Rung::ForceComplete, Rung::Skip]);
    // nova does not post-copy persistent memory, nor slow it down where it permits post-copy.
    fleet.instances[0].resources.insert("CUSTOM_PMEM_NAMESPACE_4GB".to_owned(), 1);
    let memory = [("CUSTOM_PMEM_NAMESPACE_4GB".to_owned(), fleet.hosts[0].inventories["MEMORY_MB"].clone())];
    fleet.hosts.iter_mut().for_each(|host| host.inventories.extend(memory.clone()));
    let plan = made(&fleet, &policy, &Selection::default());
    let moved = plan.content.moves.iter().find(|one| one.instance == "a1").unwrap();
    assert_eq!(moved.then, [Rung::ForceComplete, Rung::Skip]);
    let told = plan.content.findings.iter().any(|finding| finding.explanation.contains("persistent memory"));
    assert!(told, "{:#?}", plan.content.findings);
}

/// nova's own limit is told where it comes before the ladder's turns, and only there.
#[test]
fn a_nova_that_acts_before_the_ladder_is_told() {
    let acts = |timeout, action, post_copy, ladder: &str| -> Vec<String> {
        let mut fleet = four_hosts();
        let settings = MigrationSettings {
            completion_timeout_s_per_gib: timeout,
            timeout_action: action,
            post_copy,
            auto_converge: true,
        };
        fleet.hosts.iter_mut().for_each(|host| host.migrations = Some(settings));
        let policy = RebootPolicy::parse(&format!("[reboot.drain]\nladder = [\"live\", {ladder}]")).unwrap();
        let plan = made(&fleet, &policy, &Selection::default());
        let found = plan.content.findings.iter().filter(|finding| finding.code == "nova-acts-first");
        found.map(|finding| finding.explanation.clone()).collect()
    };
    use TimeoutAction::{Abort, ForceComplete};
    assert_eq!(acts(800, Abort, false, "\"skip\""), [""; 0], "both at the same time, to the same end");
    assert_eq!(acts(0, ForceComplete, false, "\"skip\""), [""; 0], "nova has no limit");
    let ends = acts(800, Abort, false, "\"auto-converge\"");
    assert!(ends[0].contains("breaks a live migration off") && ends[0].contains("after 1200 s"), "{ends:?}");
    let pauses = acts(800, ForceComplete, false, "\"skip\"");
    assert!(pauses[0].contains("pauses the instance"), "which the policy does not have: {pauses:?}");
    let early = acts(300, ForceComplete, true, "\"post-copy\"");
    assert!(early[0].contains("switches a live migration") && early[0].contains("after 400 s"), "{early:?}");
    assert_eq!(acts(800, ForceComplete, true, "\"post-copy\""), [""; 0], "it was switched by then");
}

/// One host alone: the others may be moved to, and are not rebooted.
#[test]
fn one_host_that_is_named() {
    let (mut fleet, policy) = (four_hosts(), RebootPolicy::default());
    fleet.hosts[3].part = Part::Untouched;
    let selection = Selection { hosts: Some("c1".to_owned()), ..Selection::default() };
    let plan = made(&fleet, &policy, &selection);
    assert_eq!(plan.content.drains.len(), 1);
    assert_eq!(plan.content.drains[0].after, []);
    assert!(plan.content.moves.iter().all(|one| one.to.as_str() != "c4"), "that host is not to be touched");
    let none = Selection { zone: Some("nowhere".to_owned()), ..Selection::default() };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let error = volutus_fleet::plan(&fleet, &policy, &none, &"cloud".parse().unwrap(), now).unwrap_err();
    assert_eq!(error.to_string(), "no host of the fleet is meant by zone nowhere; there are b");
}

/// What the executor reads: the steps of each host in order, and what each waits for.
#[test]
fn steps_of_every_host() {
    let mut policy = RebootPolicy::default();
    policy.drain.ladder.insert(2, Rung::ForceComplete);
    let plan = made(&four_hosts(), &policy, &Selection::default());
    let steps = plan.host_steps();
    assert_eq!(steps.len(), plan.content.drains.len());
    let mut back = vec!["c4"];
    for host in &steps {
        let name = host.drain.host.as_str();
        for other in &host.drain.after {
            assert!(
                steps
                    .iter()
                    .take_while(|one| one.drain.host.as_str() != name)
                    .any(|one| one.drain.host == *other)
            );
        }
        let moves: Vec<_> = host
            .steps
            .iter()
            .filter_map(|step| if let HostStep::Move(one) = step { Some(*one) } else { None })
            .collect();
        assert_eq!(moves.len(), host.drain.moves as usize);
        for one in &moves {
            assert!(
                back.contains(&one.to.as_str()),
                "{} goes to {}, which is not back",
                one.instance,
                one.to
            );
            assert_eq!(
                (one.how, one.then.as_slice()),
                (How::Live, [Rung::ForceComplete, Rung::Skip].as_slice())
            );
            assert!(one.timeout_s > 800);
        }
        assert_eq!(host.steps[..2], [HostStep::Disable, HostStep::Settle]);
        assert_eq!(host.steps.last(), Some(&HostStep::Enable));
        let at = |wanted: HostStep<'_>| host.steps.iter().position(|step| *step == wanted).unwrap();
        assert!(at(HostStep::ProveEmpty) < at(HostStep::Act) && at(HostStep::Act) < at(HostStep::Reboot));
        assert!(at(HostStep::Reboot) < at(HostStep::ProveBack));
        back.push(name);
    }
    let c3 = steps.iter().find(|host| host.drain.host.as_str() == "c3").unwrap();
    let stop = c3.steps.iter().position(|step| matches!(step, HostStep::Stop(_))).unwrap();
    let start = c3.steps.iter().position(|step| matches!(step, HostStep::Start(_))).unwrap();
    let reboot = c3.steps.iter().position(|step| *step == HostStep::Reboot).unwrap();
    assert!(stop < reboot && reboot < start);
}

/// A run that is under way plans anew with the hosts that it disabled itself.
#[test]
fn a_run_takes_over_what_it_disabled() {
    let mut fleet = four_hosts();
    fleet.hosts[0].availability = Availability::Disabled { reason: "volutus:r1".to_owned() };
    fleet.hosts[1].availability = Availability::Disabled { reason: "volutus:r2".to_owned() };
    fleet.take_over("volutus:r1");
    let availability: Vec<bool> =
        fleet.hosts.iter().map(|host| host.availability == Availability::Enabled).collect();
    assert_eq!(availability, [true, false, true, true]);
}

/// A host that is filled over the cap gives no room and takes none of the others'. The second zone
/// shows it: what is too high in the first one makes the sum higher than the makespan.
#[test]
fn bounds_hold_where_a_host_is_filled_over_the_cap() {
    let mut fleet = Fleet::default();
    for (name, zone, part) in [
        ("a1", "a", Part::Exempt),
        ("a2", "a", Part::Exempt),
        ("a3", "a", Part::Reboot),
        ("b1", "b", Part::Exempt),
        ("b2", "b", Part::Reboot),
    ] {
        let mut one = host(name, 64);
        (one.zone, one.part) = (Some(zone.to_owned()), part);
        fleet.hosts.push(one);
    }
    fleet.instances.push(instance("full", "a1", 63));
    fleet.instances.extend((0..5).map(|number| instance(&format!("i{number}"), "a3", 11)));
    fleet.instances.push(instance("other", "b2", 8));
    let mut policy = RebootPolicy::default();
    policy.hosts.zones = Zones::OneAfterAnother;
    policy.capacity.fill_max_percent = 90;
    let figures = made(&fleet, &policy, &Selection::default()).content.figures;
    assert_eq!(figures.moves, 6);
    assert!(figures.bounds.greatest_ms() <= figures.makespan_ms, "{figures:?}");
}

//! Every rule of the checker must be able to fail: a good plan is spoilt in one way each, and the
//! rule that forbids it must say so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use support::{check, host, instance, make};
use volutus_model::fleet::limits::Amount;
use volutus_model::fleet::plan::{HostDrain, How, Stay, StayReason};
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{
    Availability, Fleet, GroupPolicy, MigrationSettings, Newcomers, NumaCell, OwnerChoice, Pin, RebootPlan,
    RebootPolicy, ServerGroup,
};

/// Three full hosts and an empty one, with a hard group over two of them; and one in another zone.
fn world() -> (Fleet, RebootPolicy) {
    let mut fleet = Fleet::default();
    for name in ["c1", "c2", "c3", "c4", "z1"] {
        let mut one = host(name, 64);
        one.cells = vec![NumaCell { pcpus: 8, memory_mb: 64 * 1024 }; 2];
        fleet.hosts.push(one);
    }
    fleet.hosts[4].zone = Some("z".to_owned());
    for (number, on) in ["c1", "c2", "c3"].iter().enumerate() {
        for part in 0..3 {
            fleet.instances.push(instance(&format!("i{number}{part}"), on, 16));
        }
    }
    let policy = GroupPolicy::AntiAffinity { per_host_max: 1 };
    fleet.groups.push(ServerGroup { id: "g".to_owned(), name: String::new(), policy });
    fleet.instances[0].group = Some("g".to_owned());
    fleet.instances[3].group = Some("g".to_owned());
    fleet.instances[6].pins = vec![Pin { cell: 0, pcpus: 8, memory_mb: 1024 }];
    let mut policy = RebootPolicy::default();
    policy.hosts.at_once = Amount::Count(1);
    (fleet, policy)
}

/// Spoils a plan, gives it a fitting id, and asserts that the rule says so.
#[track_caller]
fn expect(code: &str, spoil: impl Fn(&mut RebootPlan)) {
    let (fleet, policy) = world();
    let mut plan = make(&fleet, &policy).unwrap();
    assert_eq!(check(&plan, &fleet, &policy), [], "the plan is not good to begin with");
    let before = plan.clone();
    spoil(&mut plan);
    assert_ne!(plan, before, "nothing was spoilt");
    plan.id = RebootPlan::compute_id(&plan.content);
    let findings = check(&plan, &fleet, &policy);
    assert!(findings.iter().any(|finding| finding.code == code), "`{code}` is not among {findings:#?}");
}

#[test]
fn identity() {
    let (mut fleet, mut policy) = world();
    let mut plan = make(&fleet, &policy).unwrap();
    plan.content.cloud = "other".parse().unwrap();
    policy.hosts.settle_s += 1;
    fleet.hosts[0].rack = Some("r".to_owned());
    let codes: Vec<String> = check(&plan, &fleet, &policy).into_iter().map(|finding| finding.code).collect();
    for code in ["fleet-plan-altered", "fleet-plan-other-policy", "fleet-plan-stale"] {
        assert!(codes.iter().any(|found| found == code), "{code} is not among {codes:?}");
    }
    expect("fleet-plan-format", |plan| plan.content.format += 1);
    expect("fleet-unknown-name", |plan| plan.content.moves[0].to = "nowhere".parse().unwrap());
}

#[test]
fn coverage_and_moves() {
    expect("fleet-coverage", |plan| drop(plan.content.drains.pop()));
    expect("fleet-coverage", |plan| drop(plan.content.moves.pop()));
    expect("fleet-coverage", |plan| {
        let again = plan.content.drains[0].clone();
        plan.content.drains.push(again);
    });
    expect("fleet-moved-again", |plan| {
        let again = plan.content.moves[0].clone();
        plan.content.moves.push(again);
    });
}

#[test]
fn places_room_and_groups() {
    expect("fleet-place", |plan| plan.content.moves[0].to = "z1".parse().unwrap());
    expect("fleet-place", |plan| plan.content.moves[0].to = plan.content.moves[0].from.clone());
    // All onto one host: more than it has, and both members of the group.
    let onto_one = |plan: &mut RebootPlan| {
        let to = plan.content.moves[0].to.clone();
        plan.content.moves.iter_mut().for_each(|one| one.to = to.clone());
    };
    expect("fleet-capacity", onto_one);
    expect("fleet-group", onto_one);
    expect("fleet-cells", |plan| {
        let one = plan.content.moves.iter_mut().find(|one| one.instance == "i20").unwrap();
        one.cells.clear();
    });
}

#[test]
fn budgets() {
    expect("fleet-hosts-at-once", |plan| {
        for drain in &mut plan.content.drains {
            drain.disable_ms = 0;
        }
    });
    expect("fleet-moves-at-once", |plan| {
        let first = plan.content.moves[0].clone();
        let from = first.from.clone();
        for one in plan.content.moves.iter_mut().filter(|one| one.from == from) {
            (one.start_ms, one.end_ms) = (first.start_ms, first.end_ms);
        }
    });
}

#[test]
fn order_and_times() {
    expect("fleet-time", |plan| plan.content.moves[0].end_ms -= 1);
    expect("fleet-order", |plan| {
        let one = &mut plan.content.moves[0];
        (one.start_ms, one.end_ms) = (0, one.end_ms - one.start_ms);
    });
    expect("fleet-order", |plan| {
        let drain = plan.content.drains.iter_mut().find(|drain| drain.moves > 0).unwrap();
        drain.empty_ms = drain.disable_ms;
    });
    expect("fleet-order", |plan| plan.content.moves[0].moves_again = true);
    expect("fleet-order", |plan| plan.content.drains.iter_mut().for_each(|drain| drain.after.clear()));
    expect("fleet-order", |plan| {
        let last = plan.content.drains.last().unwrap().host.clone();
        plan.content.drains[0].after.push(last);
    });
    expect("fleet-order", |plan| plan.content.drains[0].phase += 1);
    expect("fleet-not-given-back", |plan| {
        let drain = &mut plan.content.drains[0];
        drain.back_ms = drain.empty_ms;
    });
}

#[test]
fn consent() {
    expect("fleet-consent", |plan| {
        let one = &mut plan.content.moves[0];
        one.how = How::Cold;
    });
    expect("fleet-consent", |plan| plan.content.moves[0].then = vec![Rung::Stop]);
    expect("fleet-consent", |plan| plan.content.moves[0].then = vec![Rung::PostCopy]);
    expect("fleet-consent", |plan| {
        let one = plan.content.moves.pop().unwrap();
        plan.content.stays.push(Stay { instance: one.instance, host: one.from, why: StayReason::Stopped });
    });
    let (mut fleet, policy) = world();
    let plan = make(&fleet, &policy).unwrap();
    fleet.instances[0].choice = Some(OwnerChoice::Never);
    let findings = check(&plan, &fleet, &policy);
    assert!(findings.iter().any(|finding| finding.code == "fleet-consent"), "{findings:#?}");
}

/// What is left for a live migration is what its source permits, no more and no less.
#[test]
fn rungs() {
    let (mut fleet, mut policy) = world();
    policy.drain.ladder = vec![Rung::Live, Rung::PostCopy, Rung::AutoConverge, Rung::ForceComplete];
    let of = |post_copy, auto_converge| MigrationSettings { post_copy, auto_converge, ..Default::default() };
    let settings = [Some(of(true, true)), Some(of(false, true)), None];
    for (host, settings) in fleet.hosts.iter_mut().zip(settings) {
        host.migrations = settings;
    }
    let good = make(&fleet, &policy).unwrap();
    assert_eq!(check(&good, &fleet, &policy), []);
    let judge = |on: &str, then: &[Rung]| -> Vec<String> {
        let mut plan = good.clone();
        let one = plan.content.moves.iter_mut().find(|one| one.from.as_str() == on).unwrap();
        one.then = then.to_vec();
        plan.id = RebootPlan::compute_id(&plan.content);
        check(&plan, &fleet, &policy).into_iter().map(|finding| finding.code).collect()
    };
    use Rung::{AutoConverge, ForceComplete, PostCopy};
    assert_eq!(judge("c1", &[PostCopy, ForceComplete]), [""; 0]);
    assert_eq!(judge("c1", &[ForceComplete]), ["fleet-rung"], "passed over although it is permitted");
    assert_eq!(
        judge("c1", &[PostCopy, AutoConverge, ForceComplete]),
        ["fleet-rung"],
        "nova does not do both"
    );
    assert_eq!(judge("c2", &[PostCopy, AutoConverge, ForceComplete]), ["fleet-rung"]);
    assert_eq!(judge("c2", &[ForceComplete]), ["fleet-rung"]);
    for rung in [PostCopy, AutoConverge] {
        assert_eq!(judge("c3", &[rung, ForceComplete]), ["fleet-rung"], "nothing is known of it");
    }
    // nova.conf was changed since: what is no longer permitted makes the plan wrong, more does not.
    fleet.hosts[0].migrations = Some(of(false, false));
    fleet.hosts[2].migrations = Some(of(true, false));
    let codes: BTreeSet<String> =
        check(&good, &fleet, &policy).into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["fleet-plan-stale", "fleet-rung"].map(str::to_owned).into());
    fleet.hosts[0].migrations = Some(of(true, true));
    let codes: BTreeSet<String> =
        check(&good, &fleet, &policy).into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["fleet-plan-stale".to_owned()].into());
    let mut plan = good;
    plan.content.moves.iter_mut().for_each(|one| one.timeout_s = 0);
    plan.id = RebootPlan::compute_id(&plan.content);
    assert!(check(&plan, &fleet, &policy).iter().any(|finding| finding.code == "fleet-rung"));
}

/// The first host whose newcomers may go anywhere.
fn with_a_way(plan: &mut RebootPlan) -> &mut HostDrain {
    plan.content.drains.iter_mut().find(|drain| !drain.newcomers.is_none()).unwrap()
}

#[test]
fn newcomers() {
    let to = |plan: &mut RebootPlan, name: &str| {
        with_a_way(plan).newcomers.to[0].host = name.parse().unwrap();
    };
    // A host that is emptied later: what came would move twice.
    expect("fleet-newcomer", |plan| {
        let last = plan.content.drains.last().unwrap().host.clone();
        to(plan, last.as_str());
    });
    expect("fleet-newcomer", |plan| {
        let own = with_a_way(plan).host.clone();
        to(plan, own.as_str());
    });
    expect("fleet-newcomer", |plan| to(plan, "z1"));
    expect("fleet-newcomer", |plan| to(plan, "nowhere"));
    expect("fleet-newcomer", |plan| {
        let way = &mut with_a_way(plan).newcomers;
        way.to.push(way.to[0].clone());
    });
    expect("fleet-newcomer", |plan| with_a_way(plan).newcomers.to[0].per_destination += 1);
    expect("fleet-newcomer", |plan| with_a_way(plan).newcomers.then.push(Rung::PostCopy));
    let (fleet, mut policy) = world();
    let plan = make(&fleet, &policy).unwrap();
    policy.drain.newcomers = Newcomers::Halt;
    assert!(check(&plan, &fleet, &policy).iter().any(|finding| finding.code == "fleet-newcomer"));
    let halts = make(&fleet, &policy).unwrap();
    assert!(halts.content.drains.iter().all(|drain| drain.newcomers.is_none()));
    // A host that a person has disabled since.
    let (mut fleet, policy) = world();
    let taken = plan.content.drains.iter().flat_map(|drain| &drain.newcomers.to).next().unwrap();
    let host = fleet.hosts.iter_mut().find(|host| host.name == taken.host).unwrap();
    host.availability = Availability::Disabled { reason: "mine".to_owned() };
    assert!(check(&plan, &fleet, &policy).iter().any(|finding| finding.code == "fleet-newcomer"));
}

#[test]
fn figures_fill_and_spares() {
    expect("fleet-figures", |plan| plan.content.figures.makespan_ms -= 1);
    expect("fleet-figures", |plan| plan.content.figures.waves += 1);
    expect("fleet-figures", |plan| plan.content.figures.headroom[0].least += 1);
    expect("fleet-figures", |plan| plan.content.figures.bounds.growth_ms *= 2);
    let (fleet, mut policy) = world();
    let plan = make(&fleet, &policy).unwrap();
    policy.capacity.spare_hosts = 1;
    policy.capacity.fill_max_percent = 50;
    let findings = check(&plan, &fleet, &policy);
    for code in ["fleet-spare", "fleet-fill"] {
        assert!(findings.iter().any(|finding| finding.code == code), "{code}: {findings:#?}");
    }
}

/// A group of five on five hosts, and a zone that lacks room: found before the start, with the
/// cause and the action.
#[test]
fn hosts_that_cannot_be_emptied_are_told_with_cause_and_action() {
    let mut fleet = Fleet::default();
    let policy = GroupPolicy::AntiAffinity { per_host_max: 1 };
    fleet.groups.push(ServerGroup { id: "g".to_owned(), name: "quorum".to_owned(), policy });
    for number in 1..=5 {
        fleet.hosts.push(host(&format!("c{number}"), 64));
        let mut one = instance(&format!("i{number}"), &format!("c{number}"), 8);
        one.group = Some("g".to_owned());
        fleet.instances.push(one);
    }
    let plan = make(&fleet, &RebootPolicy::default()).unwrap();
    assert_eq!(check(&plan, &fleet, &RebootPolicy::default()), []);
    assert_eq!(plan.content.left.len(), 5);
    let left = &plan.content.left[0];
    assert_eq!(left.code, "group-as-large-as-hosts");
    assert!(left.cause.contains("5 members") && left.action.contains("max_server_per_host"), "{left:?}");

    let mut fleet = Fleet { hosts: vec![host("c1", 64), host("c2", 64)], ..Fleet::default() };
    fleet.instances = vec![instance("i1", "c1", 51), instance("i2", "c2", 51)];
    let plan = make(&fleet, &RebootPolicy::default()).unwrap();
    let left = &plan.content.left[0];
    assert_eq!(left.code, "capacity-short");
    assert!(left.cause.contains("38 GiB too little") && left.cause.contains("zone b"), "{left:?}");
}

//! Invariants over random fleets: what the planner makes, the checker, which shares no code with
//! it, finds nothing against.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{check, make};
use volutus_fleet::described::{Shape, fleet};
use volutus_model::Severity;
use volutus_model::fleet::limits::Amount;
use volutus_model::fleet::policy::{AffinityGroups, Order, Override, Rung, Zones};
use volutus_model::fleet::{Fleet, Newcomers, Obstacle, Part, RebootPlan, RebootPolicy, Since};

fn shape(odd: impl Strategy<Value = bool>) -> impl Strategy<Value = Shape> {
    (3usize..36, 1usize..4, 30u32..96, 0usize..3, odd, any::<u64>()).prop_map(
        |(hosts, zones, fill, empty_per_zone, odd, seed)| Shape {
            hosts,
            zones,
            fill: f64::from(fill) / 100.0,
            empty_per_zone,
            odd,
            seed,
        },
    )
}

prop_compose! {
    fn policy()(
        at_once in prop_oneof![(1u32..6).prop_map(Amount::Count), (5u32..60).prop_map(Amount::Percent)],
        per in (prop::option::of(1u32..4), prop::option::of(1u32..3), prop::option::of(1u32..4), prop::option::of(2u32..9)),
        zones in any::<bool>(),
        named in any::<bool>(),
        canary in any::<bool>(),
        include_disabled in any::<bool>(),
        moves in (1u32..5, 1u32..5, prop::option::of(1u32..20), 0u32..8),
        capacity in (80u32..=100, 0u32..2, any::<bool>(), any::<bool>()),
        drain in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<[bool; 3]>()),
        part in prop::option::of((1u32..3, 60u32..=100)),
        reboot in prop::bool::weighted(0.95),
        halts in prop::bool::weighted(0.1),
    ) -> RebootPolicy {
        let mut policy = RebootPolicy::default();
        policy.act.reboot = reboot;
        policy.drain.newcomers = if halts { Newcomers::Halt } else { Newcomers::Move };
        policy.hosts.at_once = at_once;
        let ways = [Rung::PostCopy, Rung::AutoConverge, Rung::ForceComplete].into_iter().zip(drain.4);
        let mut chosen: Vec<Rung> = ways.filter(|(_, chosen)| *chosen).map(|(rung, _)| rung).collect();
        let behind_live = policy.drain.ladder.iter().position(|rung| *rung == Rung::Live).unwrap() + 1;
        chosen.extend(policy.drain.ladder.split_off(behind_live));
        policy.drain.ladder.extend(chosen);
        policy.hosts.per_zone = per.0.map(Amount::Count);
        policy.hosts.per_rack = per.1.map(Amount::Count);
        policy.hosts.per_aggregate = per.2.map(Amount::Count);
        policy.hosts.per_role = per.3.map(Amount::Count);
        policy.hosts.zones = if zones { Zones::OneAfterAnother } else { Zones::Together };
        policy.hosts.zone_order = vec!["az2".to_owned()];
        policy.hosts.order = if named { Order::Name } else { Order::Fast };
        policy.hosts.include_disabled = include_disabled;
        if canary {
            policy.hosts.canaries = vec!["c0000?".to_owned()];
        }
        policy.moves.per_source = moves.0;
        policy.moves.per_destination = moves.1;
        policy.moves.overall = moves.2.unwrap_or(0);
        policy.moves.bandwidth_mbit = moves.3 * policy.moves.rate_mbit;
        policy.capacity.fill_max_percent = capacity.0;
        policy.capacity.spare_hosts = capacity.1;
        policy.capacity.cross_zones = capacity.2;
        policy.capacity.cpu_check = capacity.3;
        policy.drain.cold_without_consent = drain.0;
        policy.drain.stop_without_consent = drain.1;
        if drain.2 {
            policy.drain.affinity_groups = AffinityGroups::Together;
        }
        if drain.3 {
            policy.drain.movable = vec![Obstacle::Sriov];
        }
        if let Some((at_once, fill)) = part {
            policy.overrides = vec![
                Override { host: Some("c0001*".to_owned()), at_once: Some(Amount::Count(at_once)), fill_max_percent: Some(fill), reboot_s: Some(900), ..Override::default() },
                Override { zone: Some("az3".to_owned()), aggregate: Some("fast".to_owned()), skip: true, ..Override::default() },
            ];
        }
        policy
    }
}

/// The fleet as it is when a plan's run was stopped at a time: moves that had begun are done, and
/// hosts that were back need no reboot any more.
fn stopped_at(fleet: &Fleet, plan: &RebootPlan, time: u64) -> (Fleet, BTreeSet<String>) {
    let mut fleet = fleet.clone();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for (number, instance) in fleet.instances.iter().enumerate() {
        at.insert(instance.id.clone(), number);
    }
    let mut settled = BTreeSet::new();
    for one in plan.content.moves.iter().filter(|one| one.start_ms < time) {
        let instance = &mut fleet.instances[at[&one.instance]];
        instance.host = one.to.clone();
        for (pin, cell) in instance.pins.iter_mut().zip(&one.cells) {
            pin.cell = *cell;
        }
        if !one.moves_again {
            settled.insert(one.instance.clone());
        }
    }
    let back: BTreeSet<&str> =
        plan.content.drains.iter().filter(|d| d.back_ms <= time).map(|d| d.host.as_str()).collect();
    for host in &mut fleet.hosts {
        if back.contains(host.name.as_str()) {
            host.part = Part::Exempt;
        }
    }
    (fleet, settled)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Capacity, groups, budgets, places, order, consent, spares and figures hold at every
    /// instant, whatever the fleet and the policy.
    #[test]
    fn nothing_is_found_against_any_plan(shape in shape(any::<bool>()), policy in policy()) {
        let fleet = fleet(&shape);
        if let Some(plan) = make(&fleet, &policy) {
            let findings = check(&plan, &fleet, &policy);
            prop_assert!(findings.is_empty(), "{findings:#?}");
        }
    }

    /// Where hosts are alike and every zone has an empty one, every instance moves once, and no
    /// host is left.
    #[test]
    fn with_an_empty_host_every_instance_moves_once(mut shape in shape(Just(false)), at_once in 1u32..9, per in 1u32..5) {
        shape.empty_per_zone = shape.empty_per_zone.max(1);
        shape.hosts = shape.hosts.max(2 * shape.zones);
        let mut fleet = fleet(&shape);
        for instance in &mut fleet.instances {
            instance.aggregates_required.clear();
        }
        let mut policy = RebootPolicy::default();
        policy.hosts.at_once = Amount::Count(at_once);
        policy.moves.per_source = per;
        policy.moves.per_destination = per;
        let plan = make(&fleet, &policy).unwrap();
        let findings = check(&plan, &fleet, &policy);
        prop_assert!(findings.is_empty(), "{findings:#?}");
        prop_assert_eq!(&plan.content.left, &[]);
        prop_assert_eq!(plan.content.figures.second_moves, 0);
        prop_assert_eq!(plan.content.figures.moves as usize, fleet.instances.len());
        prop_assert!(plan.content.moves.iter().all(|one| !one.moves_again));
    }

    /// A run that is stopped at any time leaves a fleet that can be planned on, and no instance
    /// that has been moved onto a rebooted host is moved again.
    #[test]
    fn from_any_point_there_is_a_way_on(shape in shape(any::<bool>()), policy in policy(), part in 0u64..=100) {
        let fleet = fleet(&shape);
        let Some(plan) = make(&fleet, &policy) else { return Ok(()) };
        let (later, settled) = stopped_at(&fleet, &plan, plan.content.figures.makespan_ms * part / 100);
        // What was moved in such a way that its host is full beyond the cap is nobody's mistake:
        // the cap is for what is moved, and it counts again in the second plan.
        if let Some(second) = make(&later, &policy) {
            let findings = check(&second, &later, &policy);
            prop_assert!(findings.is_empty(), "{findings:#?}");
            for one in &second.content.moves {
                let on_done = settled.contains(&one.instance)
                    && plan.content.drains.iter().any(|d| d.host == one.from && d.back_ms <= plan.content.figures.makespan_ms * part / 100);
                prop_assert!(!on_done, "{} is moved off {}, which is done", one.instance, one.from);
            }
        }
    }

    /// What came, went and was moved since a plan was made is all that is wrong with it then, but for what one
    /// instance does to another: groups, and the room that they share.
    #[test]
    fn what_is_undone_leaves_a_plan_as_good_as_it_was(
        shape in shape(any::<bool>()),
        policy in policy(),
        which in any::<[prop::sample::Index; 4]>(),
    ) {
        let fleet = fleet(&shape);
        let Some(plan) = make(&fleet, &policy) else { return Ok(()) };
        if fleet.instances.is_empty() || plan.content.drains.is_empty() {
            return Ok(());
        }
        let mut later = fleet;
        let went = which[0].index(later.instances.len());
        later.instances.remove(went);
        if let Some(moved) = later.instances.get(which[1].index(later.instances.len().max(1))) {
            let mut came = moved.clone();
            came.id = "came".to_owned();
            came.host = plan.content.drains[which[2].index(plan.content.drains.len())].host.clone();
            let at = which[1].index(later.instances.len());
            later.instances[at].host = later.hosts[which[3].index(later.hosts.len())].name.clone();
            later.instances.push(came);
        }
        let (before, as_before) = Since::of(&plan, &later).undone(&plan, &later);
        let shared = ["fleet-capacity", "fleet-fill", "fleet-group", "fleet-cells", "fleet-consent", "fleet-spare"];
        let wrong = check(&before, &as_before, &policy);
        let others: Vec<_> = wrong
            .iter()
            .filter(|one| one.severity >= Severity::Serious && !shared.contains(&one.code.as_str()))
            .collect();
        prop_assert!(others.is_empty(), "{others:#?}");
    }

    /// The same input makes the same plan.
    #[test]
    fn plans_are_the_same_every_time(shape in shape(any::<bool>()), policy in policy()) {
        let fleet = fleet(&shape);
        prop_assert_eq!(make(&fleet, &policy), make(&fleet, &policy));
    }
}

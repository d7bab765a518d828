//! What has to come before what: settling before moves, moves before the reboot, the reboot
//! before the host is given back; canaries before all others; zones one after another.

use std::collections::BTreeMap;

use volutus_model::Finding;
use volutus_model::fleet::RebootPlan;
use volutus_model::fleet::plan::HostDrain;
use volutus_model::fleet::policy::Zones;

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_order(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let settle = 1000 * u64::from(facts.policy.hosts.settle_s);
    let mut moves: BTreeMap<&str, (u64, u64, u32)> = BTreeMap::new();
    for one in &plan.content.moves {
        let (instance, _, _) = facts.of_move(one);
        let expected = facts.move_ms(&facts.fleet.instances[instance], one.how);
        if one.end_ms < one.start_ms || one.end_ms - one.start_ms != expected {
            findings.push(blocking(
                "fleet-time",
                &one.instance,
                format!(
                    "its move is said to take from {} to {} ms; {expected} ms are expected",
                    one.start_ms, one.end_ms
                ),
                PLAN_AGAIN,
            ));
        }
        let entry = moves.entry(one.from.as_str()).or_insert((u64::MAX, 0, 0));
        *entry = (entry.0.min(one.start_ms), entry.1.max(one.end_ms), entry.2 + 1);
    }
    for drain in &plan.content.drains {
        let (first, last, count) = moves.get(drain.host.as_str()).copied().unwrap_or((u64::MAX, 0, 0));
        let mut wrong = |code, text: String| findings.push(blocking(code, &drain.host, text, PLAN_AGAIN));
        if first < drain.disable_ms + settle {
            wrong(
                "fleet-order",
                format!("a move begins {first} ms after the start, before the host is disabled and settled"),
            );
        }
        if drain.empty_ms < last || drain.empty_ms < drain.disable_ms + settle {
            wrong("fleet-order", "it is rebooted before it is settled and empty".to_owned());
        }
        let at = facts.host(&drain.host).expect("names were looked up before");
        if drain.back_ms < drain.empty_ms + facts.own[at].act_ms {
            wrong(
                "fleet-not-given-back",
                "it is given back before its reboot and proof can have ended".to_owned(),
            );
        }
        if count != drain.moves {
            wrong("fleet-figures", format!("{} moves are said to empty it, and {count} do", drain.moves));
        }
    }
    check_phases(facts, plan, findings);
    check_after(plan, findings);
}

/// What a drain is said to wait for is what its moves need: a run goes by it, not by the times.
fn check_after(plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let drained: BTreeMap<&str, &HostDrain> =
        plan.content.drains.iter().map(|drain| (drain.host.as_str(), drain)).collect();
    for one in &plan.content.moves {
        // A destination that is rebooted is back before what it takes begins; one that is yet to be
        // rebooted begins after what it has taken.
        let (waits, for_host) = if one.moves_again { (&one.to, &one.from) } else { (&one.from, &one.to) };
        let (Some(drain), true) = (drained.get(waits.as_str()), drained.contains_key(for_host.as_str()))
        else {
            continue;
        };
        if !drain.after.contains(for_host) {
            let text = format!("it does not wait for {for_host}, which instance {} needs", one.instance);
            findings.push(blocking("fleet-order", waits, text, PLAN_AGAIN));
        }
    }
    for (drain, other) in plan.content.drains.iter().flat_map(|d| d.after.iter().map(move |other| (d, other)))
    {
        let earlier = drained.get(other.as_str()).is_some_and(|other| other.disable_ms < drain.disable_ms);
        if !earlier {
            let text = format!("it waits for {other}, which is not begun before it");
            findings.push(blocking("fleet-order", &drain.host, text, PLAN_AGAIN));
        }
    }
}

/// The rank of a host: lower ranks end before higher ones begin.
fn rank<'a>(facts: &Facts<'a>, drain: &HostDrain) -> (u8, usize, &'a str) {
    let host = &facts.fleet.hosts[facts.host(&drain.host).expect("names were looked up before")];
    let order = &facts.policy.hosts.zone_order;
    if facts.is_canary(host) {
        return (0, 0, "");
    }
    match facts.policy.hosts.zones {
        Zones::Together => (1, 0, ""),
        Zones::OneAfterAnother => {
            let zone = host.zone.as_deref().unwrap_or("");
            (1, order.iter().position(|name| name == zone).unwrap_or(order.len()), zone)
        }
    }
}

fn check_phases(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let mut ranks: BTreeMap<(u8, usize, &str), Vec<&HostDrain>> = BTreeMap::new();
    for drain in &plan.content.drains {
        ranks.entry(rank(facts, drain)).or_default().push(drain);
    }
    let mut earliest = 0;
    let mut phase = None;
    for (rank, drains) in ranks {
        for drain in &drains {
            if Some(drain.phase) <= phase || drain.phase != drains[0].phase {
                let text = format!("phase {} is not the one that the policy gives it", drain.phase);
                findings.push(blocking("fleet-order", &drain.host, text, PLAN_AGAIN));
            }
            if drain.disable_ms < earliest {
                findings.push(blocking(
                    "fleet-order",
                    &drain.host,
                    format!(
                        "it is begun at {} ms, before what goes before it has ended at {earliest} ms",
                        drain.disable_ms
                    ),
                    PLAN_AGAIN,
                ));
            }
        }
        phase = drains.first().map(|drain| drain.phase);
        let soak = if rank.0 == 0 { 1000 * u64::from(facts.policy.hosts.canary_soak_s) } else { 0 };
        let ended = drains.iter().map(|drain| drain.back_ms).max().unwrap_or(0);
        earliest = earliest.max(ended + soak);
    }
}

//! What becomes of a live migration that does not converge: what the ladder has for it, as far as nova on
//! its source host permits that.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::fleet::plan::How;
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{MigrationSettings, RebootPlan, RebootPolicy, TimeoutAction, Turns};
use volutus_model::{Finding, Severity};

use crate::index::{Index, InstanceFacts, Role};
use crate::ladder::{self, Outcome, PassedOver};
use crate::render;
use crate::schedule::Schedule;

/// Hosts that a finding names.
const NAMES_SHOWN_MAX: usize = 6;

/// What becomes of the live migrations of some instances that do not converge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The hosts that they leave, by name.
    pub hosts: Vec<String>,
    /// How many they are.
    pub moves: usize,
    /// What is done, in words.
    pub words: String,
}

/// What becomes of the live migrations of a plan that do not converge, by the hosts that they leave.
#[must_use]
pub fn fates(plan: &RebootPlan) -> Vec<Fate> {
    let live = plan.content.moves.iter().filter(|moved| moved.how == How::Live);
    by_ways(&plan.content.policy, live.map(|moved| (ways(&moved.then), moved.from.as_str())))
}

/// The same for the instances on the hosts that are meant, wherever they go.
pub(crate) fn fates_of(index: &Index<'_>) -> Vec<Fate> {
    let all =
        to_be_moved(index).map(|(instance, from)| (ways(&rest(index, instance, from)), index.name(from)));
    by_ways(index.policy, all)
}

/// The instances that are to be moved alive off the hosts that are meant, and these hosts.
fn to_be_moved<'a>(index: &'a Index<'_>) -> impl Iterator<Item = (u32, u32)> + 'a {
    let live = |facts: &&InstanceFacts| facts.outcome == Outcome::Move(How::Live);
    let all = (0u32..).zip(&index.instances).filter(move |(_, facts)| live(facts));
    all.filter(|(_, facts)| index.hosts[facts.host as usize].role == Role::Reboot)
        .map(|(instance, facts)| (instance, facts.host))
}

fn settings<'a>(index: &Index<'a>, host: u32) -> Option<&'a MigrationSettings> {
    index.fleet.hosts[host as usize].migrations.as_ref()
}

/// The rungs that are left for the live migration of an instance off a host.
fn rest(index: &Index<'_>, instance: u32, from: u32) -> Vec<Rung> {
    let described = &index.fleet.instances[instance as usize];
    ladder::rest(described, index.policy, How::Live, settings(index, from), index.is_bound(instance))
}

fn by_ways<'a>(policy: &RebootPolicy, moves: impl Iterator<Item = (Vec<Rung>, &'a str)>) -> Vec<Fate> {
    let mut found: BTreeMap<Vec<Rung>, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for (ways, host) in moves {
        let (hosts, moves) = found.entry(ways).or_default();
        hosts.insert(host);
        *moves += 1;
    }
    let fate = |(ways, (hosts, moves)): (Vec<Rung>, (BTreeSet<&str>, usize))| Fate {
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        moves,
        words: words(policy, &ways),
    };
    found.into_iter().map(fate).collect()
}

/// Of the rungs that are left, the ways to end a live migration.
fn ways(then: &[Rung]) -> Vec<Rung> {
    let is_way = |rung: &&Rung| matches!(rung, Rung::PostCopy | Rung::AutoConverge | Rung::ForceComplete);
    then.iter().filter(is_way).copied().collect()
}

fn words(policy: &RebootPolicy, ways: &[Rung]) -> String {
    let turns = Turns::of(ways, u64::from(policy.drain.live_timeout_s_per_gib));
    let mut parts = Vec::new();
    if ways.contains(&Rung::AutoConverge) {
        parts.push("slowed down by QEMU until it converges (auto-converge)".to_owned());
    }
    if let Some(after) = turns.post_copy_after {
        parts.push(format!(
            "after {after} s for each GiB switched to post-copy: it runs on at its destination at once, and is \
             lost if the network between both hosts breaks before all of its memory is there"
        ));
    }
    match (turns.force_after, turns.post_copy_after) {
        (Some(after), Some(_)) => parts.push(format!("after {after} s switched once more, if that failed")),
        (Some(after), None) => {
            // Where the ladder has the rung, it was passed over because nova does not post-copy.
            let or = if policy.drain.ladder.contains(&Rung::PostCopy) {
                ""
            } else {
                ", or switches it to post-copy where its host permits that"
            };
            parts.push(format!(
                "after {after} s for each GiB completed by nova, which pauses it until the rest is sent{or}"
            ));
        }
        (None, _) => {}
    }
    let end = turns.end;
    parts.push(match turns.post_copy_after {
        Some(_) => format!("after {end} s broken off if it still runs on its source, and its host fails"),
        None => format!("after {end} s for each GiB broken off: it runs on where it is, and its host fails"),
    });
    parts.join("; ")
}

/// Rungs that are passed over on some hosts, and hosts on which nova acts before the ladder does.
pub(crate) fn findings(index: &Index<'_>, done: &Schedule) -> Vec<Finding> {
    let live = done.moves.iter().filter(|moved| moved.how == How::Live);
    judged(index, live.map(|moved| (moved.instance, moved.from)))
}

/// The same for the instances on the hosts that are meant, wherever they go.
pub(crate) fn findings_of(index: &Index<'_>) -> Vec<Finding> {
    judged(index, to_be_moved(index))
}

/// Judges live migrations, each an instance and the host that it leaves.
fn judged(index: &Index<'_>, moves: impl Iterator<Item = (u32, u32)>) -> Vec<Finding> {
    let mut over: BTreeMap<(Rung, PassedOver), (BTreeSet<&str>, usize)> = BTreeMap::new();
    let mut first: BTreeMap<(MigrationSettings, Turn), BTreeSet<&str>> = BTreeMap::new();
    for (instance, host) in moves {
        let from = settings(index, host);
        for rung in &index.policy.drain.ladder {
            let described = &index.fleet.instances[instance as usize];
            if let Some(why) = ladder::passed_over(*rung, described, from) {
                let (hosts, instances) = over.entry((*rung, why)).or_default();
                hosts.insert(index.name(host));
                *instances += 1;
            }
        }
        let Some(settings) = from else { continue };
        let limit = u64::from(index.policy.drain.live_timeout_s_per_gib);
        if let Some(turn) = beaten(settings, &Turns::of(&rest(index, instance, host), limit)) {
            first.entry((*settings, turn)).or_default().insert(index.name(host));
        }
    }
    let ladder = &index.policy.drain.ladder;
    let mut found: Vec<Finding> = over
        .into_iter()
        .map(|((rung, why), (hosts, instances))| told(ladder, rung, why, &hosts, instances))
        .collect();
    found.extend(first.into_iter().map(|((settings, turn), hosts)| acts_first(&settings, turn, &hosts)));
    found
}

/// A turn of the ladder, in seconds for each GiB, that nova does not let come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    after: u64,
    /// Whether it is the end, at which the migration is broken off.
    end: bool,
}

/// The turn that nova's own limit comes before; none where nova does nothing that matters.
fn beaten(settings: &MigrationSettings, turns: &Turns) -> Option<Turn> {
    let limit = u64::from(settings.completion_timeout_s_per_gib);
    if limit == 0 {
        return None;
    }
    let end = Turn { after: turns.end, end: true };
    let completing = turns.post_copy_after.or(turns.force_after).map(|after| Turn { after, end: false });
    match (settings.timeout_action, completing) {
        // At the same time nova is first: its clock starts earlier, and moves have their overhead besides.
        (_, Some(turn)) if limit <= turn.after => Some(turn),
        // By then it was switched or paused, and nova's own action finds nothing to do.
        (TimeoutAction::ForceComplete, Some(_)) => None,
        (TimeoutAction::ForceComplete, None) => (limit <= end.after).then_some(end),
        (TimeoutAction::Abort, _) => (limit < end.after).then_some(end),
    }
}

fn told(ladder: &[Rung], rung: Rung, why: PassedOver, hosts: &BTreeSet<&str>, instances: usize) -> Finding {
    let names = render::list(hosts.iter().copied(), NAMES_SHOWN_MAX);
    let option = match rung {
        Rung::PostCopy => "live_migration_permit_post_copy",
        _ => "live_migration_permit_auto_converge",
    };
    let off = format!("take `{}` off reboot.drain.ladder", rung.name());
    let (severity, cause, action) = match why {
        PassedOver::NotPermitted => (
            Severity::Warning,
            format!("[libvirt] {option} is not true there"),
            format!("Set it in nova.conf on these hosts and restart nova-compute; or {off}."),
        ),
        PassedOver::Unknown => (
            Severity::Warning,
            "their nova.conf was not read, so it is not known what it permits".to_owned(),
            format!(
                "See the findings `host-not-described` and `migration-settings-unseen` for the reason; or {off}."
            ),
        ),
        PassedOver::PostCopyInstead if ladder.contains(&Rung::PostCopy) => (
            Severity::Info,
            "[libvirt] live_migration_permit_post_copy is true there, and then nova slows nothing down"
                .to_owned(),
            String::new(),
        ),
        PassedOver::PostCopyInstead => (
            Severity::Warning,
            "[libvirt] live_migration_permit_post_copy is true there, and then nova slows nothing down"
                .to_owned(),
            "Put `post-copy` on reboot.drain.ladder as well.".to_owned(),
        ),
        PassedOver::PersistentMemory => (
            Severity::Warning,
            format!("{instances} instances there have persistent memory, which nova does not post-copy"),
            "Nothing is to be done where their owners bear a pause, or a host that is left.".to_owned(),
        ),
    };
    Finding::new(
        severity,
        "rung-passed-over",
        format!("{} on {names}", rung.name()),
        format!("{cause}: the rung is passed over for {instances} live migrations off these hosts"),
        action,
    )
}

fn acts_first(settings: &MigrationSettings, turn: Turn, hosts: &BTreeSet<&str>) -> Finding {
    let limit = settings.completion_timeout_s_per_gib;
    let does = match settings.timeout_action {
        TimeoutAction::Abort => "breaks a live migration off",
        TimeoutAction::ForceComplete if settings.post_copy => "switches a live migration to post-copy",
        TimeoutAction::ForceComplete => "pauses the instance of a live migration until the rest is sent",
    };
    let what = if turn.end { "the end of the ladder" } else { "the ladder's turn to complete it" };
    Finding::new(
        Severity::Warning,
        "nova-acts-first",
        render::list(hosts.iter().copied(), NAMES_SHOWN_MAX),
        format!(
            "nova there {does} by itself after {limit} s for each GiB ([libvirt] \
             live_migration_completion_timeout and live_migration_timeout_action), and {what} comes after {} s",
            turn.after
        ),
        "Set live_migration_completion_timeout to 0 or to more than that on these hosts and restart nova-compute; \
         or lower reboot.drain.live_timeout_s_per_gib.",
    )
}

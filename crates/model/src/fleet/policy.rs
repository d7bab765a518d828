//! What the operator wants kept while a fleet is rebooted: the table `[reboot]` of `policy.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limits::{Amount, glob_matches};
use super::newcomers::Newcomers;
use super::{FleetHost, Hook, Obstacle, place};

/// The limits of a reboot of a fleet. Defaults are careful: nova's own default of one live
/// migration per host, and no consent to anything that an instance would notice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RebootPolicy {
    /// What is done on an empty host.
    pub act: Act,
    /// How many hosts at once, and in which order.
    pub hosts: Hosts,
    /// How hosts are emptied.
    pub drain: Drain,
    /// How many moves at once, and how long they are expected to take.
    pub moves: Moves,
    /// How full hosts may become.
    pub capacity: Capacity,
    /// What differs for some hosts; the first that matches a host is used.
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
    /// Commands for other systems, around what is done to each host.
    // Left out where there are none: the ids of plans that were stored before are hashes of what they say.
    #[serde(rename = "hook", skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// What is done on an empty host, and how long it is expected to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Act {
    /// Whether the host is rebooted. Where it is not, instances may run on.
    pub reboot: bool,
    /// Packages that are upgraded first; `["*"]` for all of them.
    pub packages: Vec<String>,
    /// The kernel that has to run afterwards (`uname -r`); any where empty.
    pub kernel: String,
    /// A command that brings firmware up to date, run on the empty host.
    pub firmware: Vec<String>,
    /// A command that is run on the host before anything else is done to it.
    pub before: Vec<String>,
    /// A command that is run on the host after all else.
    pub after: Vec<String>,
    /// The exit code by which one of these commands says that there was nothing to do.
    pub nothing_to_do_exit: u8,
    /// Seconds that commands and packages are expected to take.
    pub work_s: u32,
    /// Seconds from the order to reboot until all agents of the host report.
    pub reboot_s: u32,
    /// Seconds in which a host proves itself before instances come to it.
    pub prove_s: u32,
    /// Seconds after which a host counts as not having come back; 0 for three times what is
    /// expected, and ten minutes at least.
    pub reboot_limit_s: u32,
    /// Seconds after which one of the commands counts as failed; 0 as for a reboot.
    pub command_limit_s: u32,
}

impl Default for Act {
    fn default() -> Self {
        Self {
            reboot: true,
            packages: Vec::new(),
            kernel: String::new(),
            firmware: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            // As in CloudStack's rolling maintenance, so that hooks can be carried over.
            nothing_to_do_exit: 70,
            work_s: 0,
            // Servers spend minutes in their firmware before a kernel runs.
            reboot_s: 300,
            // A canary instance boots, gets its network and answers.
            prove_s: 60,
            reboot_limit_s: 0,
            command_limit_s: 0,
        }
    }
}

/// How many hosts at once, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hosts {
    /// Out of service at once, overall.
    pub at_once: Amount,
    /// Out of service at once in one zone.
    pub per_zone: Option<Amount>,
    /// In one rack.
    pub per_rack: Option<Amount>,
    /// In one aggregate.
    pub per_aggregate: Option<Amount>,
    /// Of one role of the cloud description.
    pub per_role: Option<Amount>,
    /// Whether zones are done one after another.
    pub zones: Zones,
    /// The order of zones that are done one after another; those that are not named follow by
    /// name.
    pub zone_order: Vec<String>,
    /// The order of hosts.
    pub order: Order,
    /// Hosts that go first, all others waiting, by name or pattern.
    pub canaries: Vec<String>,
    /// Seconds that the canaries are watched before any other host follows.
    pub canary_soak_s: u32,
    /// So many hosts may fail without the run halting: one that cannot be emptied is given back, one
    /// that was acted upon stays out of service, and the rest goes on under a new plan.
    pub failed_max: u32,
    /// Whether hosts that a person disabled are taken too. They are left alone otherwise.
    pub include_disabled: bool,
    /// Seconds that are expected between a host's disabling and its first move, in which what was on
    /// its way there arrives: a request that the scheduler has answered is not called back. A run
    /// waits until nothing is under way there, however long that takes.
    pub settle_s: u32,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            at_once: Amount::Percent(5),
            per_zone: None,
            per_rack: None,
            per_aggregate: None,
            per_role: None,
            zones: Zones::Together,
            zone_order: Vec::new(),
            order: Order::Fast,
            canaries: Vec::new(),
            canary_soak_s: 600,
            failed_max: 0,
            include_disabled: false,
            settle_s: 5,
        }
    }
}

impl Rung {
    /// Its name in a policy file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaveRunning => "leave-running",
            Self::Live => "live",
            Self::PostCopy => "post-copy",
            Self::AutoConverge => "auto-converge",
            Self::ForceComplete => "force-complete",
            Self::Cold => "cold",
            Self::Stop => "stop",
            Self::Skip => "skip",
        }
    }
}

/// Whether zones are done together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zones {
    /// In all zones at once.
    Together,
    /// A zone is finished before the next begins.
    OneAfterAnother,
}

/// The order of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Those first that give back the most capacity for the least moving.
    Fast,
    /// By name, as far as capacity allows.
    Name,
}

/// How hosts are emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// What is tried for an instance, in this order.
    pub ladder: Vec<Rung>,
    /// Seconds that a live migration may take for each GiB of memory and local disk before the
    /// next rung is tried.
    pub live_timeout_s_per_gib: u32,
    /// Seconds that a cold migration may take for each GiB of local disk.
    pub cold_timeout_s_per_gib: u32,
    /// Whether instances without a choice of their owner may be moved cold.
    pub cold_without_consent: bool,
    /// Whether instances without a choice of their owner may be stopped where they are.
    pub stop_without_consent: bool,
    /// What happens to hard affinity groups of several instances.
    pub affinity_groups: AffinityGroups,
    /// Obstacles to live migration that do not count in this cloud.
    pub movable: Vec<Obstacle>,
    /// So many hosts may refuse instances without the run halting: a new plan moves them elsewhere.
    pub refusals_max: u32,
    /// What becomes of instances that come after the plan was made.
    #[serde(skip_serializing_if = "Newcomers::is_move")]
    pub newcomers: Newcomers,
    /// Days of notice to owners who chose `notify`.
    pub notice_days: u32,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            ladder: vec![Rung::LeaveRunning, Rung::Live, Rung::Cold, Rung::Stop, Rung::Skip],
            // nova's live_migration_completion_timeout: 800 s for each GiB.
            live_timeout_s_per_gib: 800,
            cold_timeout_s_per_gib: 60,
            cold_without_consent: false,
            stop_without_consent: false,
            affinity_groups: AffinityGroups::Stay,
            movable: Vec::new(),
            refusals_max: 2,
            newcomers: Newcomers::Move,
            notice_days: 5,
        }
    }
}

/// One way of emptying a host of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The instance runs on, where the host is not rebooted.
    LeaveRunning,
    /// A live migration.
    Live,
    /// nova is told to complete the live migration, and switches it to post-copy. Passed over where the
    /// source host does not permit that, because nova would pause the instance instead.
    PostCopy,
    /// QEMU slows the instance down from the beginning on, so the migration gets more time. Passed over
    /// where the source host does not permit that.
    AutoConverge,
    /// nova is told to complete the live migration: it pauses the instance, or post-copies where the
    /// source host permits that.
    ForceComplete,
    /// Stopped, moved, started; with consent.
    Cold,
    /// Stopped, left, started after the reboot; with consent.
    Stop,
    /// The host is left as it is.
    Skip,
}

/// What happens to hard affinity groups of several instances.
///
/// nova refuses to live-migrate a member away from the others: its scheduler's filter and the
/// destination both look for the others there (`nova/compute/manager.py`,
/// `_validate_instance_group_policy`). Only with microversion 2.67 or lower, `force`, and
/// `[workarounds] disable_group_policy_check_upcall` on the computes can they be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AffinityGroups {
    /// They cannot be moved alive.
    Stay,
    /// They are moved to one destination, one right after another.
    Together,
}

/// How many moves at once, and how long they are expected to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moves {
    /// From one host. nova's `max_concurrent_live_migrations` bounds it as well.
    pub per_source: u32,
    /// To one host.
    pub per_destination: u32,
    /// Overall; 0 for as many as the hosts allow.
    pub overall: u32,
    /// What one move transfers, in Mbit/s.
    pub rate_mbit: u32,
    /// What all moves together may transfer, in Mbit/s; 0 for no limit.
    pub bandwidth_mbit: u32,
    /// Memory that is sent for each 100 bytes of it, because some is written meanwhile.
    pub memory_percent: u32,
    /// Seconds of a move that no byte takes: checks, ports, clean-up.
    pub overhead_s: u32,
    /// Whether the disks of instances are on storage that all hosts share (Ceph, NFS), so that none
    /// of their bytes travel. No API tells it.
    pub shared_disks: bool,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            // nova's default.
            per_source: 1,
            per_destination: 2,
            overall: 0,
            rate_mbit: 4000,
            bandwidth_mbit: 0,
            memory_percent: 120,
            overhead_s: 10,
            shared_disks: false,
        }
    }
}

/// How full hosts may become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Percent of a destination's capacity that may be in use once something is moved to it.
    pub fill_max_percent: u32,
    /// Hosts that are empty at the start and stay so, in each zone.
    pub spare_hosts: u32,
    /// Whether an instance that is not bound to a zone may be moved to another one.
    pub cross_zones: bool,
    /// Whether a destination must have every processor feature of the source.
    pub cpu_check: bool,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { fill_max_percent: 100, spare_hosts: 0, cross_zones: false, cpu_check: true }
    }
}

/// What differs for some hosts. All selectors that are given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Hosts by name or pattern.
    pub host: Option<String>,
    /// Hosts of a zone.
    pub zone: Option<String>,
    /// Hosts of an aggregate.
    pub aggregate: Option<String>,
    /// Hosts of a rack.
    pub rack: Option<String>,
    /// They are left alone: neither rebooted nor used.
    pub skip: bool,
    /// Of all hosts that this override is used for, so many out of service at once.
    pub at_once: Option<Amount>,
    /// See [`Act::work_s`].
    pub work_s: Option<u32>,
    /// See [`Act::reboot_s`].
    pub reboot_s: Option<u32>,
    /// See [`Act::prove_s`].
    pub prove_s: Option<u32>,
    /// See [`Capacity::fill_max_percent`].
    pub fill_max_percent: Option<u32>,
    /// See [`Moves::per_source`].
    pub per_source: Option<u32>,
    /// See [`Moves::per_destination`].
    pub per_destination: Option<u32>,
}

impl Override {
    /// Whether it is meant for a host.
    #[must_use]
    pub fn matches(&self, host: &FleetHost) -> bool {
        self.host.as_deref().is_none_or(|pattern| glob_matches(pattern, host.name.as_str()))
            && self.zone.as_ref().is_none_or(|zone| host.zone.as_ref() == Some(zone))
            && self.rack.as_ref().is_none_or(|rack| host.rack.as_ref() == Some(rack))
            && self.aggregate.as_ref().is_none_or(|aggregate| host.aggregates.contains(aggregate))
    }
}

/// The file: other tables of it are somebody else's.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    reboot: RebootPolicy,
}

impl RebootPolicy {
    /// Reads the table `[reboot]` of a policy file; absent keys keep their defaults.
    ///
    /// # Errors
    /// [`PolicyError`] with the line, the key, what was seen and what is allowed.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let File { reboot } = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let (line, key) = place::at(text, offset);
            let told = error.message().lines().next().unwrap_or_default();
            // The parser says what was seen and what is allowed in one sentence.
            let (seen, allowed) = told.split_once(", expected ").unwrap_or((told, ""));
            PolicyError { line: Some(line), key, seen: seen.to_owned(), allowed: allowed.to_owned() }
        })?;
        reboot.check().map_err(|error| PolicyError { line: place::of(text, &error.key), ..error })?;
        Ok(reboot)
    }

    /// Whether every limit makes sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (key, value) in [
            ("reboot.moves.per_source", self.moves.per_source),
            ("reboot.moves.per_destination", self.moves.per_destination),
            ("reboot.moves.rate_mbit", self.moves.rate_mbit),
            ("reboot.drain.live_timeout_s_per_gib", self.drain.live_timeout_s_per_gib),
            ("reboot.drain.cold_timeout_s_per_gib", self.drain.cold_timeout_s_per_gib),
        ] {
            if value == 0 {
                return refuse(key, "0, which would let nothing happen", "1 or more");
            }
        }
        if self.moves.memory_percent < 100 {
            let seen = format!("{}, which would send less than there is", self.moves.memory_percent);
            return refuse("reboot.moves.memory_percent", seen, "100 or more");
        }
        let (all, one) = (self.moves.bandwidth_mbit, self.moves.rate_mbit);
        if all != 0 && all < one {
            let allowed = format!("0 for no limit, or reboot.moves.rate_mbit, which is {one}, and more");
            return refuse("reboot.moves.bandwidth_mbit", format!("{all}, less than a single move"), allowed);
        }
        check_fill("reboot.capacity.fill_max_percent", self.capacity.fill_max_percent)?;
        self.check_ladder()?;
        for (index, part) in self.overrides.iter().enumerate() {
            check_override(index, part)?;
        }
        for (index, hook) in self.hooks.iter().enumerate() {
            let key = |key: &str| format!("reboot.hook.{index}.{key}");
            if let Some(mistake) = hook.mistake() {
                return refuse(key(mistake.key), mistake.seen, mistake.allowed);
            }
            if self.hooks[..index].iter().any(|other| other.name == hook.name) {
                return refuse(key("name"), format!("`{}` twice", hook.name), "each name once");
            }
        }
        Ok(())
    }

    fn check_ladder(&self) -> Result<(), PolicyError> {
        const KEY: &str = "reboot.drain.ladder";
        let ladder = &self.drain.ladder;
        let at = |rung: Rung| ladder.iter().position(|r| *r == rung);
        for (index, rung) in ladder.iter().enumerate() {
            if ladder[..index].contains(rung) {
                return refuse(KEY, format!("`{}` twice", rung.name()), "each rung once");
            }
        }
        for rung in [Rung::PostCopy, Rung::AutoConverge, Rung::ForceComplete] {
            if at(rung).is_some_and(|place| at(Rung::Live).is_none_or(|live| live > place)) {
                let seen = format!("`{}` without `live` before it", rung.name());
                return refuse(KEY, seen, "it after `live`, because it is a way to end a live migration");
            }
        }
        for rung in [Rung::PostCopy, Rung::AutoConverge] {
            if at(Rung::ForceComplete).is_some_and(|forced| at(rung).is_some_and(|place| place > forced)) {
                let seen = format!("`{}` after `force-complete`", rung.name());
                return refuse(
                    KEY,
                    seen,
                    "it before `force-complete`, behind which nothing is left for it to do",
                );
            }
        }
        if at(Rung::Skip).is_some_and(|place| place + 1 != ladder.len()) {
            return refuse(KEY, "a rung after `skip`", "`skip` at the end, because nothing can follow it");
        }
        for (consent, rung, key) in [
            (self.drain.cold_without_consent, Rung::Cold, "reboot.drain.cold_without_consent"),
            (self.drain.stop_without_consent, Rung::Stop, "reboot.drain.stop_without_consent"),
        ] {
            if consent && at(rung).is_none() {
                let seen = format!("true, which has no effect: reboot.drain.ladder lacks `{}`", rung.name());
                return refuse(key, seen, "false, or that rung on the ladder");
            }
        }
        Ok(())
    }

    /// The index of the override that is used for a host.
    #[must_use]
    pub fn override_of(&self, host: &FleetHost) -> Option<usize> {
        self.overrides.iter().position(|part| part.matches(host))
    }

    /// The policy as it is for one host, overrides applied.
    #[must_use]
    pub fn for_host(&self, host: &FleetHost) -> HostPolicy {
        let none = Override::default();
        let part = self.override_of(host).map_or(&none, |index| &self.overrides[index]);
        let seconds = |own: Option<u32>, all: u32| u64::from(own.unwrap_or(all));
        let reboot_s = if self.act.reboot { seconds(part.reboot_s, self.act.reboot_s) } else { 0 };
        let work_s = seconds(part.work_s, self.act.work_s);
        HostPolicy {
            skip: part.skip,
            act_ms: 1000 * (work_s + reboot_s + seconds(part.prove_s, self.act.prove_s)),
            fill_max_percent: part.fill_max_percent.unwrap_or(self.capacity.fill_max_percent),
            per_source: part.per_source.unwrap_or(self.moves.per_source),
            per_destination: part.per_destination.unwrap_or(self.moves.per_destination),
        }
    }

    /// Moves at once overall, from both limits; `None` where there is none.
    #[must_use]
    pub fn moves_at_once(&self) -> Option<u32> {
        let by_count = (self.moves.overall > 0).then_some(self.moves.overall);
        let by_bandwidth = (self.moves.bandwidth_mbit > 0)
            .then(|| (self.moves.bandwidth_mbit / self.moves.rate_mbit).max(1));
        match (by_count, by_bandwidth) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The rungs in words, for those who read a plan.
    #[must_use]
    pub fn rung_words() -> BTreeMap<Rung, &'static str> {
        BTreeMap::from([
            (Rung::LeaveRunning, "left running where the host is not rebooted"),
            (Rung::Live, "live-migrated"),
            (Rung::PostCopy, "switched to post-copy when it does not converge, where its host permits that"),
            (Rung::AutoConverge, "given half as much time again, where its host slows it down"),
            (Rung::ForceComplete, "forced to complete, with a pause"),
            (Rung::Cold, "stopped, moved and started, with consent"),
            (Rung::Stop, "stopped, left and started after the reboot, with consent"),
            (Rung::Skip, "the reason to leave its host as it is"),
        ])
    }
}

/// The policy as it is for one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPolicy {
    /// It is left alone.
    pub skip: bool,
    /// From the moment it is empty until it is back, in milliseconds.
    pub act_ms: u64,
    /// See [`Capacity::fill_max_percent`].
    pub fill_max_percent: u32,
    /// See [`Moves::per_source`].
    pub per_source: u32,
    /// See [`Moves::per_destination`].
    pub per_destination: u32,
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{key}: seen {seen}{}", line_words(line), allowed_words(allowed))]
pub struct PolicyError {
    /// The line of the file, from 1, where it is known.
    pub line: Option<usize>,
    /// The key, with the tables that it is in.
    pub key: String,
    /// What was seen.
    pub seen: String,
    /// What is allowed; empty where what was seen says it.
    pub allowed: String,
}

fn line_words(line: &Option<usize>) -> String {
    line.map_or(String::new(), |line| format!("line {line}: "))
}

fn allowed_words(allowed: &str) -> String {
    if allowed.is_empty() { String::new() } else { format!("; allowed: {allowed}") }
}

fn refuse(
    key: impl Into<String>,
    seen: impl Into<String>,
    allowed: impl Into<String>,
) -> Result<(), PolicyError> {
    Err(PolicyError { line: None, key: key.into(), seen: seen.into(), allowed: allowed.into() })
}

fn check_fill(key: impl Into<String>, fill: u32) -> Result<(), PolicyError> {
    if (1..=100).contains(&fill) {
        return Ok(());
    }
    refuse(key, fill.to_string(), "1 to 100, in percent")
}

fn check_override(index: usize, part: &Override) -> Result<(), PolicyError> {
    let key = format!("reboot.override.{index}");
    if part.host.is_none() && part.zone.is_none() && part.aggregate.is_none() && part.rack.is_none() {
        let allowed = "host, zone, aggregate or rack, at least one; for all hosts, set the key itself";
        return refuse(key, "an override of no hosts", allowed);
    }
    let nothing = Override {
        host: part.host.clone(),
        zone: part.zone.clone(),
        aggregate: part.aggregate.clone(),
        rack: part.rack.clone(),
        ..Override::default()
    };
    if *part == nothing {
        return refuse(key, "an override that changes nothing", "a key that differs for these hosts");
    }
    for (name, value) in [("per_source", part.per_source), ("per_destination", part.per_destination)] {
        if value == Some(0) {
            let allowed = "1 or more; skip = true leaves hosts alone";
            return refuse(format!("{key}.{name}"), "0, which would let nothing happen", allowed);
        }
    }
    part.fill_max_percent.map_or(Ok(()), |fill| check_fill(format!("{key}.fill_max_percent"), fill))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(RebootPolicy::parse("").unwrap(), RebootPolicy::default());
        RebootPolicy::default().check().unwrap();
        // Keys of the control plane's policy are not its business.
        assert_eq!(RebootPolicy::parse("soak_s = 7").unwrap(), RebootPolicy::default());
        assert!(crate::Policy::parse("soak_s = 7\n[reboot.hosts]\nat_once = 3").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (text, named) in [
            ("[reboot.hosts]\nat_once = 0", "0"),
            ("[reboot.hosts]\nat_onse = 1", "at_onse"),
            ("[reboot.moves]\nper_source = 0", "per_source"),
            ("[reboot.moves]\nmemory_percent = 90", "memory_percent"),
            ("[reboot.moves]\nbandwidth_mbit = 10", "bandwidth_mbit"),
            ("[reboot.capacity]\nfill_max_percent = 101", "fill_max_percent"),
            ("[reboot.drain]\nladder = [\"post-copy\", \"live\"]", "post-copy"),
            (
                "[reboot.drain]\nladder = [\"live\", \"force-complete\", \"post-copy\"]",
                "after `force-complete`",
            ),
            ("[reboot.drain]\nladder = [\"skip\", \"live\"]", "skip"),
            ("[reboot.drain]\nladder = [\"live\", \"live\"]", "twice"),
            ("[reboot.drain]\nladder = [\"live\"]\ncold_without_consent = true", "cold"),
            ("[[reboot.hook]]\nname = \"x\"\nbefore = [\"a\"]", "without `after`"),
            (
                "[[reboot.hook]]\nname = \"x\"\nafter = [\"a\"]\n[[reboot.hook]]\nname = \"x\"\nafter = [\"a\"]",
                "twice",
            ),
            ("[[reboot.override]]\nskip = true", "no hosts"),
            ("[[reboot.override]]\nzone = \"a\"", "nothing"),
            ("[[reboot.override]]\nzone = \"a\"\nper_source = 0", "skip"),
        ] {
            let error = RebootPolicy::parse(text).unwrap_err().to_string();
            assert!(error.contains(named) && error.starts_with("line "), "{text}: {error}");
        }
    }

    #[test]
    fn errors_name_line_key_what_was_seen_and_what_is_allowed() {
        let error = |text: &str| RebootPolicy::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("soak_s = 1\n\n[reboot.capacity]\n# a comment\nfill_max_percent = 0\n"),
            "line 5: reboot.capacity.fill_max_percent: seen 0; allowed: 1 to 100, in percent"
        );
        assert_eq!(
            error(
                "[[reboot.override]]\nzone = \"a\"\nskip = true\n[[reboot.override]]\nzone = \"b\"\nper_source = 0"
            ),
            "line 6: reboot.override.1.per_source: seen 0, which would let nothing happen; allowed: 1 or more; \
             skip = true leaves hosts alone"
        );
        assert_eq!(
            error("[reboot]\nmoves.overhead_s = \"x\""),
            "line 2: reboot.moves.overhead_s: seen invalid type: string \"x\"; allowed: u32"
        );
        assert_eq!(
            error("[reboot.hosts]\nat_once = 0"),
            "line 2: reboot.hosts.at_once: seen `0`; allowed: a number from 1 on or a share as \"5%\""
        );
        let unknown = error("[reboot.hosts]\nat_onse = 1");
        assert!(
            unknown
                .starts_with("line 2: reboot.hosts.at_onse: seen unknown field `at_onse`; allowed: one of"),
            "{unknown}"
        );
        let zones = error("[reboot.hosts]\nzones = \"random\"");
        assert!(zones.contains("`together`") && zones.contains("line 2: reboot.hosts.zones"), "{zones}");
    }

    #[test]
    fn both_limits_of_moves_count() {
        let of = |text: &str| RebootPolicy::parse(text).unwrap().moves_at_once();
        assert_eq!(of(""), None);
        assert_eq!(of("[reboot.moves]\noverall = 7"), Some(7));
        assert_eq!(of("[reboot.moves]\noverall = 7\nrate_mbit = 1000\nbandwidth_mbit = 3500"), Some(3));
    }
}

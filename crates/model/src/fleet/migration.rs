//! What nova on a compute host is configured to do with live migrations that leave it. nova has no API
//! that tells or changes any of it for one migration; the host's nova.conf says it.

use serde::{Deserialize, Serialize};

use super::Instance;
use super::policy::Rung;

/// Settings of `[libvirt]` in a compute host's nova.conf. Those of the host that an instance leaves
/// count (`nova/virt/libvirt/driver.py`, `_parse_migration_flags`, `_live_migration_monitor`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MigrationSettings {
    /// `live_migration_permit_post_copy`: nova's `force_complete` lets the instance run on at its
    /// destination before all of its memory is there, instead of pausing it.
    pub post_copy: bool,
    /// `live_migration_permit_auto_converge`: QEMU slows an instance down that writes faster than is
    /// sent. See [`MigrationSettings::slows_down`].
    pub auto_converge: bool,
    /// `live_migration_completion_timeout`: seconds for each GiB of memory and local disk after which
    /// nova acts by itself; 0 for never.
    pub completion_timeout_s_per_gib: u32,
    /// `live_migration_timeout_action`: what it does then.
    pub timeout_action: TimeoutAction,
}

/// What nova does with a live migration whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutAction {
    /// It breaks it off.
    Abort,
    /// It completes it, as if it had been asked to.
    ForceComplete,
}

impl Default for MigrationSettings {
    /// nova's own defaults (`nova/conf/libvirt.py` of 2025.1 to 2026.2).
    fn default() -> Self {
        Self {
            post_copy: false,
            auto_converge: false,
            completion_timeout_s_per_gib: 800,
            timeout_action: TimeoutAction::Abort,
        }
    }
}

impl MigrationSettings {
    /// The options that they are read from, as `section/option`.
    pub const OPTIONS: [&str; 4] = [
        "libvirt/live_migration_permit_post_copy",
        "libvirt/live_migration_permit_auto_converge",
        "libvirt/live_migration_completion_timeout",
        "libvirt/live_migration_timeout_action",
    ];

    /// Reads them; `value` gives the value of an option, none where it is not set.
    ///
    /// # Errors
    /// The option, and a value that nova would not start with.
    pub fn read<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let [post_copy, auto_converge, timeout, action] = Self::OPTIONS;
        let default = Self::default();
        let refused = |option: &str, seen: &str| format!("{option} is `{seen}`, which nova does not take");
        let permits = |option: &str| match value(option) {
            None => Ok(false),
            // oslo_config/types.py, Boolean.
            Some(seen) => match seen.to_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok(true),
                "false" | "0" | "off" | "no" => Ok(false),
                _ => Err(refused(option, seen)),
            },
        };
        Ok(Self {
            post_copy: permits(post_copy)?,
            auto_converge: permits(auto_converge)?,
            completion_timeout_s_per_gib: match value(timeout) {
                None => default.completion_timeout_s_per_gib,
                Some(seen) => seen.parse().map_err(|_| refused(timeout, seen))?,
            },
            timeout_action: match value(action) {
                None => default.timeout_action,
                Some("abort") => TimeoutAction::Abort,
                Some("force_complete") => TimeoutAction::ForceComplete,
                Some(seen) => return Err(refused(action, seen)),
            },
        })
    }

    /// Whether nova has QEMU slow instances down: where it permits post-copy it never does, whatever
    /// becomes of the migration (`nova/virt/libvirt/driver.py`, `_handle_live_migration_auto_converge`).
    #[must_use]
    pub fn slows_down(&self) -> bool {
        self.auto_converge && !self.post_copy
    }

    /// Whether nova switches the migration of this instance to post-copy when it is told to complete it:
    /// not with persistent memory, which it pauses (`nova/virt/libvirt/driver.py`,
    /// `_live_migration_monitor`).
    #[must_use]
    pub fn post_copies(&self, instance: &Instance) -> bool {
        self.post_copy && !instance.has_persistent_memory()
    }
}

impl Instance {
    /// Whether it has virtual persistent memory (`nova/objects/resource.py`: the resource classes are
    /// `CUSTOM_PMEM_NAMESPACE_$LABEL`).
    #[must_use]
    pub fn has_persistent_memory(&self) -> bool {
        self.resources
            .iter()
            .any(|(class, amount)| *amount > 0 && class.starts_with("CUSTOM_PMEM_NAMESPACE_"))
    }
}

/// Seconds that a live migration may take from its first byte on. As nova reckons its own limit: at least 2 GiB
/// of memory, and the disks that travel (`nova/virt/libvirt/driver.py`, `_live_migration_data_gb`).
#[must_use]
pub fn live_limit_s(memory_mb: u64, disk_bytes: u64, overhead_s: u32, per_gib_s: u32) -> u64 {
    let gib = memory_mb.div_ceil(1024).max(2) + disk_bytes.div_ceil(1 << 30);
    u64::from(overhead_s) + u64::from(per_gib_s) * gib
}

/// When what is done about a live migration that does not converge has its turn, in seconds (or seconds
/// for each GiB) from the moment at which its memory begins to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// nova is told to complete it, which means post-copy.
    pub post_copy_after: Option<u64>,
    /// nova is told to complete it, whatever that means.
    pub force_after: Option<u64>,
    /// It is broken off, unless it runs on by post-copy, which cannot be broken off.
    pub end: u64,
}

impl Turns {
    /// The turns of the rungs that a migration has left, with the time that the policy gives it. Half of
    /// that time is for converging by itself, the other half for being completed; `auto-converge` adds a
    /// half in which the slowed down instance may still converge. Behind `post-copy`, `force-complete`
    /// asks a second time, in case that the switch failed.
    #[must_use]
    pub fn of(then: &[Rung], limit: u64) -> Self {
        let has = |rung: Rung| then.contains(&rung);
        let half = limit / 2;
        let patience = if has(Rung::AutoConverge) { half } else { 0 };
        let forced = if has(Rung::PostCopy) { half + limit / 4 } else { half };
        Self {
            post_copy_after: has(Rung::PostCopy).then(|| half.saturating_add(patience)),
            force_after: has(Rung::ForceComplete).then(|| forced.saturating_add(patience)),
            end: limit.saturating_add(patience),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &'static str)]) -> Result<MigrationSettings, String> {
        MigrationSettings::read(|option| set.iter().find(|(name, _)| option.ends_with(name)).map(|(_, v)| *v))
    }

    #[test]
    fn options_are_read_as_nova_reads_them() {
        assert_eq!(read(&[]), Ok(MigrationSettings::default()));
        let both = read(&[("post_copy", "True"), ("auto_converge", "yes"), ("completion_timeout", "0")]);
        let both = both.unwrap();
        assert_eq!((both.post_copy, both.auto_converge, both.completion_timeout_s_per_gib), (true, true, 0));
        assert!(!both.slows_down(), "nova takes post-copy instead");
        let one = read(&[("auto_converge", "on"), ("timeout_action", "force_complete")]).unwrap();
        assert!(one.slows_down());
        assert_eq!(one.timeout_action, TimeoutAction::ForceComplete);
        for (option, seen) in
            [("post_copy", "maybe"), ("completion_timeout", "-1"), ("timeout_action", "stop")]
        {
            let why = read(&[(option, seen)]).unwrap_err();
            assert!(why.contains(option) && why.contains(seen), "{why}");
        }
    }

    #[test]
    fn every_rung_has_its_turn_before_the_end() {
        let of = |then: &[Rung]| {
            let turns = Turns::of(then, 800);
            (turns.post_copy_after, turns.force_after, turns.end)
        };
        assert_eq!(of(&[]), (None, None, 800));
        assert_eq!(of(&[Rung::Skip]), (None, None, 800));
        assert_eq!(of(&[Rung::ForceComplete]), (None, Some(400), 800));
        assert_eq!(of(&[Rung::PostCopy, Rung::ForceComplete]), (Some(400), Some(600), 800));
        assert_eq!(of(&[Rung::AutoConverge, Rung::ForceComplete]), (None, Some(800), 1200));
        assert_eq!(of(&[Rung::AutoConverge]), (None, None, 1200));
    }
}

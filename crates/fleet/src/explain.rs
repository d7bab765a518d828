//! What a policy does to a certain fleet, in words.

use std::fmt::Write as _;

use volutus_model::fleet::limits::{Amount, glob_matches};
use volutus_model::fleet::policy::{AffinityGroups, Order, Rung, Zones};
use volutus_model::fleet::{Availability, Fleet, FleetHost, Newcomers, RebootPolicy, Selection};

use crate::index::{Index, Role};
use crate::{classes, converge, render};

/// Names that are written out in one line.
const NAMES_SHOWN_MAX: usize = 6;

/// Says what a policy does to the hosts of a fleet that are meant. The fleet and the policy are
/// checked already.
#[must_use]
pub fn explain(fleet: &Fleet, policy: &RebootPolicy, selection: &Selection) -> String {
    let chosen = selection.applied_to(fleet);
    let index = Index::new(&chosen, policy);
    let mut lines = Lines(String::new());
    explain_hosts(&mut lines, &index, selection);
    explain_at_once(&mut lines, &index);
    explain_order(&mut lines, &index);
    explain_act(&mut lines, policy);
    explain_instances(&mut lines, &index);
    explain_converging(&mut lines, &index);
    explain_moves(&mut lines, policy);
    explain_capacity(&mut lines, &index);
    explain_overrides(&mut lines, &index);
    lines.0
}

struct Lines(String);

impl Lines {
    fn title(&mut self, text: &str) {
        // Writing into a string cannot fail, so the results of `writeln!` carry nothing.
        let _ = writeln!(self.0, "{}{text}", if self.0.is_empty() { "" } else { "\n" });
    }

    fn say(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "  {}", text.as_ref());
    }
}

fn names<'a>(hosts: impl Iterator<Item = &'a FleetHost>) -> String {
    render::list(hosts.map(|host| host.name.as_str()), NAMES_SHOWN_MAX)
}

fn explain_hosts(lines: &mut Lines, index: &Index<'_>, selection: &Selection) {
    let all = &index.fleet.hosts;
    let of = |role| {
        all.iter().zip(&index.hosts).filter(move |(_, facts)| facts.role == role).map(|(host, _)| host)
    };
    lines.title("Hosts");
    lines.say(format!(
        "{} of {} are rebooted ({selection} meant): {}",
        of(Role::Reboot).count(),
        all.len(),
        names(of(Role::Reboot))
    ));
    if of(Role::Ready).count() > 0 {
        lines.say(format!(
            "{} are not rebooted and may be moved to: {}",
            of(Role::Ready).count(),
            names(of(Role::Ready))
        ));
    }
    let untouched: Vec<&FleetHost> = of(Role::Untouched).collect();
    let why = |why: &str, which: &dyn Fn(&FleetHost) -> bool, lines: &mut Lines| {
        let hosts: Vec<&FleetHost> = untouched.iter().copied().filter(|host| which(host)).collect();
        if !hosts.is_empty() {
            lines.say(format!("{} are neither, {why}: {}", hosts.len(), names(hosts.iter().copied())));
        }
    };
    let skipped = |host: &FleetHost| index.policy.for_host(host).skip;
    why("because an override skips them", &skipped, lines);
    why("because they are down", &|host| !skipped(host) && host.availability == Availability::Down, lines);
    why(
        "because somebody disabled them (hosts.include_disabled = true would reboot those that are meant)",
        &|host| !skipped(host) && matches!(host.availability, Availability::Disabled { .. }),
        lines,
    );
}

fn explain_at_once(lines: &mut Lines, index: &Index<'_>) {
    let hosts = &index.policy.hosts;
    lines.title("At once out of service");
    let used =
        || index.fleet.hosts.iter().zip(&index.hosts).filter(|(_, facts)| facts.role != Role::Untouched);
    let used: Vec<&FleetHost> = used().map(|(host, _)| host).collect();
    lines.say(format!(
        "{} in all ({} of {} that are used)",
        hosts.at_once.of(used.len()),
        hosts.at_once,
        used.len()
    ));
    type Names = fn(&FleetHost) -> Vec<&str>;
    let kinds: [(&str, Option<Amount>, Names); 4] = [
        ("zone", hosts.per_zone, |host| host.zone.iter().map(String::as_str).collect()),
        ("rack", hosts.per_rack, |host| host.rack.iter().map(String::as_str).collect()),
        ("aggregate", hosts.per_aggregate, |host| host.aggregates.iter().map(String::as_str).collect()),
        ("role", hosts.per_role, |host| host.roles.iter().map(String::as_str).collect()),
    ];
    for (kind, limit, of) in kinds {
        let Some(limit) = limit else { continue };
        let mut sizes: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for name in used.iter().flat_map(|host| of(host)) {
            *sizes.entry(name).or_default() += 1;
        }
        if sizes.is_empty() {
            lines.say(format!("{limit} in each {kind}; no host has one, so that this limits nothing"));
            continue;
        }
        let each: Vec<String> =
            sizes.iter().map(|(name, size)| format!("{} of {size} in {name}", limit.of(*size))).collect();
        lines.say(format!(
            "in each {kind}: {}",
            render::list(each.iter().map(String::as_str), NAMES_SHOWN_MAX)
        ));
    }
}

fn explain_order(lines: &mut Lines, index: &Index<'_>) {
    let policy = &index.policy.hosts;
    lines.title("Order");
    if !policy.canaries.is_empty() {
        let canary = |host: &&FleetHost| {
            policy.canaries.iter().any(|pattern| glob_matches(pattern, host.name.as_str()))
        };
        let canaries: Vec<&FleetHost> = index.fleet.hosts.iter().filter(canary).collect();
        lines.say(format!(
            "first {}, watched for {} before any other follows",
            names(canaries.iter().copied()),
            render::duration(u64::from(policy.canary_soak_s) * 1000)
        ));
    }
    match policy.zones {
        Zones::Together => lines.say("all zones together"),
        Zones::OneAfterAnother => {
            let mut zones: Vec<(u32, &str)> = index
                .fleet
                .hosts
                .iter()
                .zip(&index.hosts)
                .filter(|(_, facts)| facts.role == Role::Reboot && facts.phase > 0)
                .map(|(host, facts)| (facts.phase, host.zone.as_deref().unwrap_or("(no zone)")))
                .collect();
            zones.sort_unstable();
            zones.dedup();
            let zones: Vec<&str> = zones.into_iter().map(|(_, zone)| zone).collect();
            lines.say(format!("one zone after another: {}", zones.join(", then ")));
        }
    }
    lines.say(match policy.order {
        Order::Fast => "hosts first whose emptying brings the most room for the least moving",
        Order::Name => "hosts by name, as far as room allows",
    });
}

fn explain_act(lines: &mut Lines, policy: &RebootPolicy) {
    let act = &policy.act;
    lines.title("On an empty host");
    for (what, command) in [("before all else", &act.before), ("firmware", &act.firmware)] {
        if !command.is_empty() {
            lines.say(format!(
                "{what}: `{}`, exit code {} meaning that there was nothing to do",
                command.join(" "),
                act.nothing_to_do_exit
            ));
        }
    }
    match act.packages.as_slice() {
        [] => {}
        [all] if all == "*" => lines.say("all packages are upgraded"),
        some => lines.say(format!("packages are upgraded: {}", some.join(", "))),
    }
    if act.reboot {
        let kernel = if act.kernel.is_empty() { "any kernel" } else { act.kernel.as_str() };
        lines.say(format!("it is rebooted; {kernel} has to run afterwards"));
    } else {
        lines.say("it is not rebooted");
    }
    if !act.after.is_empty() {
        lines.say(format!("afterwards: `{}`", act.after.join(" ")));
    }
    for hook in &policy.hooks {
        let run = |argv: &[String]| argv.join(" ");
        let begins = if hook.before.is_empty() {
            String::new()
        } else {
            format!("`{}` before it, ", run(&hook.before))
        };
        let always = if hook.always { ", also when the host failed" } else { ", not when the host failed" };
        lines.say(format!(
            "the hook {} on {}: {begins}`{}` after it{always}; each within {} s",
            hook.name,
            hook.on,
            run(&hook.after),
            hook.limit_s
        ));
    }
    let reboot = if act.reboot { act.reboot_s } else { 0 };
    lines.say(format!(
        "expected to take {} (work {}, reboot {}, proof {})",
        render::duration(1000 * u64::from(act.work_s + reboot + act.prove_s)),
        render::duration(1000 * u64::from(act.work_s)),
        render::duration(1000 * u64::from(reboot)),
        render::duration(1000 * u64::from(act.prove_s))
    ));
}

fn explain_instances(lines: &mut Lines, index: &Index<'_>) {
    lines.title("Instances on these hosts");
    let classes = classes::classes(index);
    if classes.is_empty() {
        lines.say("none");
    }
    for class in classes {
        lines.say(format!("{:>6} {}: {}", class.instances, class.name, class.outcome));
    }
    let drain = &index.policy.drain;
    let words = RebootPolicy::rung_words();
    let rungs: Vec<&str> = drain.ladder.iter().filter_map(|rung| words.get(rung).copied()).collect();
    lines.say(format!("the ladder: {}", rungs.join("; ")));
    for (allowed, what) in
        [(drain.cold_without_consent, "moved cold"), (drain.stop_without_consent, "stopped where they are")]
    {
        if allowed {
            lines.say(format!(
                "instances that cannot be moved alive may be {what} without their owners' consent"
            ));
        }
    }
    lines.say(match drain.newcomers {
        Newcomers::Move if drain.ladder.contains(&Rung::Live) => {
            "what comes after the plan was made: planned in when the run begins, and in the run live-migrated to \
             hosts that are done"
        }
        Newcomers::Move => {
            "what comes after the plan was made: planned in when the run begins; in the run a new plan is made"
        }
        Newcomers::Halt => "what comes after the plan was made: not touched, and its host fails",
    });
    if drain.affinity_groups == AffinityGroups::Together {
        lines.say(
            "hard affinity groups are moved as a whole; nova allows that only with \
             disable_group_policy_check_upcall on the computes",
        );
    }
}

fn explain_converging(lines: &mut Lines, index: &Index<'_>) {
    let fates = converge::fates_of(index);
    if fates.is_empty() {
        return;
    }
    lines.title("Live migrations that do not converge");
    for fate in fates {
        let hosts = render::list(fate.hosts.iter().map(String::as_str), NAMES_SHOWN_MAX);
        lines.say(format!("{:>6} off {hosts}: {}", fate.moves, fate.words));
    }
    for finding in converge::findings_of(index) {
        let to_do = if finding.action.is_empty() { String::new() } else { format!(" {}", finding.action) };
        lines.say(format!("{}: {}.{to_do}", finding.subject, finding.explanation));
    }
}

fn explain_moves(lines: &mut Lines, policy: &RebootPolicy) {
    let moves = &policy.moves;
    lines.title("Moves");
    let overall =
        policy.moves_at_once().map_or("no limit overall".to_owned(), |most| format!("{most} overall"));
    lines.say(format!(
        "at once {} from a host, {} to a host, {overall}",
        moves.per_source, moves.per_destination
    ));
    lines.say(format!(
        "expected to transfer {} Mbit/s each, {} % of memory{}, and {} s besides",
        moves.rate_mbit,
        moves.memory_percent,
        if moves.shared_disks { ", no disks" } else { " and local disks" },
        moves.overhead_s
    ));
}

fn explain_capacity(lines: &mut Lines, index: &Index<'_>) {
    let capacity = &index.policy.capacity;
    lines.title("Room");
    lines.say(format!(
        "destinations are filled to {} % of what placement gives at the most",
        capacity.fill_max_percent
    ));
    if capacity.spare_hosts > 0 {
        lines.say(format!("{} empty hosts of each zone stay empty", capacity.spare_hosts));
    }
    lines.say(if capacity.cross_zones {
        "instances that nobody bound to a zone may change it"
    } else {
        "instances stay in their zones"
    });
    if !capacity.cpu_check {
        lines.say("processor features are left to nova");
    }
}

fn explain_overrides(lines: &mut Lines, index: &Index<'_>) {
    if index.policy.overrides.is_empty() {
        return;
    }
    lines.title("Overrides (the first that matches a host is used)");
    for (number, part) in index.policy.overrides.iter().enumerate() {
        let matched = index.fleet.hosts.iter().filter(|host| part.matches(host)).count();
        let used: Vec<&FleetHost> =
            index.fleet.hosts.iter().filter(|host| index.policy.override_of(host) == Some(number)).collect();
        let mut changes: Vec<String> = Vec::new();
        if part.skip {
            changes.push("left alone".to_owned());
        }
        if let Some(limit) = part.at_once {
            changes.push(format!("{} at once", limit.of(used.len())));
        }
        for (name, value) in [
            ("work_s", part.work_s),
            ("reboot_s", part.reboot_s),
            ("prove_s", part.prove_s),
            ("fill_max_percent", part.fill_max_percent),
            ("per_source", part.per_source),
            ("per_destination", part.per_destination),
        ] {
            changes.extend(value.map(|value| format!("{name} {value}")));
        }
        let note = match (matched, used.len()) {
            (0, _) => "; NO HOST MATCHES IT".to_owned(),
            (_, 0) => "; IT IS NEVER USED, because earlier ones match all of its hosts".to_owned(),
            (matched, used) if used < matched => {
                format!("; earlier ones take {} of its hosts", matched - used)
            }
            _ => String::new(),
        };
        lines.say(format!(
            "{}: {} for {}{note}",
            number + 1,
            changes.join(", "),
            names(used.iter().copied())
        ));
    }
}

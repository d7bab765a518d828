//! A fleet and the plan of its reboot.

use std::collections::BTreeMap;

use volutus_fleet::{bytes, disk, duration, fates};
use volutus_model::HostName;
use volutus_model::fleet::plan::How;
use volutus_model::fleet::{Availability, Duties, Fleet, RebootPlan, Work};

use super::{findings, short, table};

/// Hosts of a plan, and hosts that are left, that are shown; of more there is a count.
const ROWS_SHOWN_MAX: usize = 40;
/// Hosts that are named in a sentence.
const HOSTS_SHOWN_MAX: usize = 6;

/// The hosts of a fleet with what placement gives and holds.
pub fn render(fleet: &Fleet) -> String {
    let mut used: BTreeMap<&str, (usize, BTreeMap<&str, u64>)> = BTreeMap::new();
    for instance in &fleet.instances {
        let entry = used.entry(instance.host.as_str()).or_default();
        entry.0 += 1;
        for (class, amount) in &instance.resources {
            *entry.1.entry(class).or_default() += amount;
        }
    }
    let mut hosts = table(&[
        "host",
        "zone",
        "scheduling",
        "instances",
        "memory",
        "processors",
        "disk",
        "permits",
        "aggregates",
    ]);
    for host in &fleet.hosts {
        let empty = (0, BTreeMap::new());
        let (count, amounts) = used.get(host.name.as_str()).unwrap_or(&empty);
        let of = |class: &str| {
            let usable = host.inventories.get(class).map_or(0, |record| record.usable());
            let held = host.held.get(class).copied().unwrap_or(0);
            (amounts.get(class).copied().unwrap_or(0) + held, usable)
        };
        let (memory, memory_of) = of("MEMORY_MB");
        let (processors, processors_of) = of("VCPU");
        let (dedicated, dedicated_of) = of("PCPU");
        let (disk, disk_of) = of("DISK_GB");
        let dedicated = if dedicated_of > 0 {
            format!(", {dedicated} of {dedicated_of} dedicated")
        } else {
            String::new()
        };
        hosts.add_row([
            host.name.to_string(),
            host.zone.clone().unwrap_or_default(),
            match &host.availability {
                Availability::Enabled => "enabled".to_owned(),
                Availability::Disabled { reason } => format!("disabled: {reason}"),
                Availability::Down => "down".to_owned(),
            },
            count.to_string(),
            format!("{} of {}", bytes(memory), bytes(memory_of)),
            format!("{processors} of {processors_of}{dedicated}"),
            format!("{disk} of {disk_of} GiB"),
            match &host.migrations {
                None => "not seen",
                Some(settings) if settings.post_copy => "post-copy",
                Some(settings) if settings.auto_converge => "auto-converge",
                Some(_) => "neither",
            }
            .to_owned(),
            host.aggregates.iter().cloned().collect::<Vec<_>>().join(" "),
        ]);
    }
    let mut text =
        format!("{hosts}\n\n{} instances, {} server groups\n", fleet.instances.len(), fleet.groups.len());
    if !fleet.duties.is_empty() {
        text += &format!("\n{}\n", duties_table(&fleet.duties, "could not be moved"));
    }
    if !fleet.unseen.is_empty() {
        text += &format!("\n{}", findings::render(&fleet.unseen));
    }
    text
}

/// What neutron's own agents have to do on hosts, and what moves with them.
fn duties_table(all: &BTreeMap<HostName, Duties>, stuck: &str) -> String {
    let mut hosts = table(&["host", "duties as network node", "moves before a restart", stuck]);
    for (host, duties) in all.iter().take(ROWS_SHOWN_MAX) {
        hosts.add_row([host.to_string(), duties.words(), duties.moves(), duties.stuck.len().to_string()]);
    }
    format!("{hosts}\n{}", rest(all.len(), "hosts"))
}

/// A plan of one host by hand: what is moved where.
fn render_by_hand(plan: &RebootPlan) -> String {
    let content = &plan.content;
    let hosts: Vec<&str> = content.drains.iter().map(|drain| drain.host.as_str()).collect();
    let hosts = hosts.join(", ");
    let what = match content.work {
        Work::Undrain => format!("{hosts} is proved well, enabled again, and an instance boots there"),
        Work::Reboot | Work::Drain if content.moves.is_empty() => {
            format!("{hosts} carries nothing that has to move; it is disabled and stays so")
        }
        Work::Reboot | Work::Drain => {
            let expected = duration(content.figures.makespan_ms);
            let moves = content.moves.len();
            format!(
                "{hosts} is disabled and stays so; {moves} instances are moved off it, in about {expected}"
            )
        }
    };
    let mut text = format!("plan {} of cloud {}: {what}\n", short(plan.id.as_str()), content.cloud);
    if !content.moves.is_empty() {
        let mut moves = table(&["instance", "to", "how", "at the most"]);
        for one in content.moves.iter().take(ROWS_SHOWN_MAX) {
            let how = match one.how {
                How::Live => "live",
                How::Cold => "cold",
            };
            let most = duration(one.timeout_s.saturating_mul(1_000));
            moves.add_row([one.instance.clone(), one.to.to_string(), how.to_owned(), most]);
        }
        text += &format!("\n{moves}\n{}", rest(content.moves.len(), "moves"));
    }
    text += &converging(plan);
    if !content.stays.is_empty() {
        text += &format!("{} instances that are off stay on it\n", content.stays.len());
    }
    for (host, duties) in &content.duties {
        text += &match content.work {
            Work::Undrain => format!("{host} as a network node: {}\n", duties.words()),
            Work::Reboot | Work::Drain => {
                format!("{host} as a network node: {}; {}\n", duties.words(), duties.moves())
            }
        };
    }
    if !content.findings.is_empty() {
        text += &format!("\n{}", findings::render(&content.findings));
    }
    text
}

/// What becomes of live migrations that do not converge, by the hosts that they leave.
fn converging(plan: &RebootPlan) -> String {
    let fates = fates(plan);
    if fates.is_empty() {
        return String::new();
    }
    let mut text = "live migrations that do not converge:\n".to_owned();
    for fate in fates {
        let shown = fate.hosts.len().min(HOSTS_SHOWN_MAX);
        let more = fate.hosts.len() - shown;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text += &format!("  {} off {}{more}: {}\n", fate.moves, fate.hosts[..shown].join(", "), fate.words);
    }
    text + "\n"
}

/// A plan, its figures first.
pub fn render_plan(plan: &RebootPlan, figures: &str) -> String {
    let content = &plan.content;
    if content.work != Work::Reboot {
        return render_by_hand(plan);
    }
    let mut text = format!(
        "plan {} of a reboot of {} ({} meant), made at {}\n\n{figures}\n",
        short(plan.id.as_str()),
        content.cloud,
        content.selection,
        content.created_at
    );
    let mut classes = table(&["instances", "which", "memory", "disks that travel", "what is done"]);
    for class in &content.classes {
        classes.add_row([
            class.instances.to_string(),
            class.name.clone(),
            bytes(class.memory_mb),
            disk(class.local_disk_bytes),
            class.outcome.clone(),
        ]);
    }
    text += &format!("{classes}\n\n{}", converging(plan));
    let mut hosts = table(&["wave", "host", "disabled", "empty", "back", "moves", "after"]);
    for drain in content.drains.iter().take(ROWS_SHOWN_MAX) {
        let after: Vec<&str> = drain.after.iter().map(|host| host.as_str()).collect();
        hosts.add_row([
            drain.wave.to_string(),
            drain.host.to_string(),
            duration(drain.disable_ms),
            duration(drain.empty_ms),
            duration(drain.back_ms),
            drain.moves.to_string(),
            after.join(" "),
        ]);
    }
    text += &format!("{hosts}\n");
    text += &rest(content.drains.len(), "hosts");
    if !content.duties.is_empty() {
        text += &format!("\n{}", duties_table(&content.duties, "cannot be moved"));
    }
    if !content.left.is_empty() {
        let mut left = table(&["left as it is", "code", "because", "to do"]);
        for one in content.left.iter().take(ROWS_SHOWN_MAX) {
            left.add_row([one.host.to_string(), one.code.clone(), one.cause.clone(), one.action.clone()]);
        }
        text += &format!("\n{left}\n{}", rest(content.left.len(), "hosts"));
    }
    if !content.findings.is_empty() {
        text += &format!("\n{}", findings::render(&content.findings));
    }
    text
}

fn rest(all: usize, what: &str) -> String {
    match all.saturating_sub(ROWS_SHOWN_MAX) {
        0 => String::new(),
        more => format!("... and {more} more {what}; `--output md` or `json` has all\n"),
    }
}

//! A plan in words, for those who are to approve it.

use std::fmt::Write as _;

use volutus_model::fleet::RebootPlan;
use volutus_model::fleet::plan::StayReason;

/// Rows of a list that are written out; of longer lists the first ones are, and a count.
const ROWS_SHOWN_MAX: usize = 20;

/// Milliseconds as people read them: `42s`, `3m05s`, `2h07m`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let whole = (ms + 500) / 1000;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// MiB as people read them.
#[must_use]
pub fn bytes(mib: u64) -> String {
    match mib {
        0..1024 => format!("{mib} MiB"),
        1024..1_048_576 => format!("{:.0} GiB", mib as f64 / 1024.0),
        _ => format!("{:.1} TiB", mib as f64 / 1_048_576.0),
    }
}

/// An amount of a resource class in its own unit.
pub(crate) fn amount(class: &str, amount: i64) -> String {
    let amount = amount.max(0) as u64;
    match class {
        "MEMORY_MB" => bytes(amount),
        "DISK_GB" => format!("{amount} GiB"),
        _ => amount.to_string(),
    }
}

/// Names in a sentence: the first ones, and how many more there are.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>, shown: usize) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        all if all <= shown => names.join(", "),
        all => format!("{} and {} more", names[..shown].join(", "), all - shown),
    }
}

/// The figures in a few lines.
#[must_use]
pub fn render_text(plan: &RebootPlan) -> String {
    let figures = &plan.content.figures;
    let mut text = String::new();
    // Writing into a string cannot fail, so the results of `writeln!` carry nothing.
    let _ = writeln!(
        text,
        "{} hosts are rebooted in {} waves; {} instances move, {:.2} times each ({} move twice)",
        figures.hosts,
        figures.waves,
        figures.instances_moved,
        figures.moves_per_instance(),
        figures.second_moves
    );
    let stopped = plan.content.stays.iter().filter(|stay| stay.why == StayReason::Stopped).count();
    let _ = writeln!(
        text,
        "{} instances stay on their hosts, {stopped} of them stopped with consent",
        plan.content.stays.len()
    );
    let bounds = &figures.bounds;
    let _ = writeln!(
        text,
        "expected: {}, which is {:.2} times the lower bound of {} (hosts at once {}, growth of empty \
         capacity {}, longest host {}{})",
        duration(figures.makespan_ms),
        figures.gap(),
        duration(bounds.greatest_ms()),
        duration(bounds.hosts_at_once_ms),
        duration(bounds.growth_ms),
        duration(bounds.longest_host_ms),
        if bounds.moves_at_once_ms > 0 {
            format!(", moves at once {}", duration(bounds.moves_at_once_ms))
        } else {
            String::new()
        }
    );
    for headroom in &figures.headroom {
        let zone = if headroom.zone.is_empty() { "no zone" } else { &headroom.zone };
        let _ = writeln!(
            text,
            "least free in {zone}: {} of {} {} ({:.1} %), after {}",
            amount(&headroom.class, headroom.least as i64),
            amount(&headroom.class, headroom.of as i64),
            headroom.class,
            100.0 * headroom.least as f64 / headroom.of.max(1) as f64,
            duration(headroom.at_ms)
        );
    }
    if figures.soft_groups_worse > 0 {
        let _ =
            writeln!(text, "{} soft server groups are fulfilled less afterwards", figures.soft_groups_worse);
    }
    let _ = writeln!(text, "{} hosts are left as they are", plan.content.left.len());
    text
}

/// Bytes of disks as people read them.
#[must_use]
pub fn disk(bytes_in_all: u64) -> String {
    bytes(bytes_in_all.div_ceil(1 << 20))
}

/// The plan as Markdown, for a change request.
#[must_use]
pub fn render_markdown(plan: &RebootPlan) -> String {
    let content = &plan.content;
    let mut text =
        format!("# Reboot of {}\n\nPlan `{}`, made at {}.\n\n", content.cloud, plan.id, content.created_at);
    for line in render_text(plan).lines() {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\n## Instances\n\n| class | instances | memory | disks that travel | what is done |\n|---|---|---|---|---|\n");
    for class in &content.classes {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            class.name,
            class.instances,
            bytes(class.memory_mb),
            disk(class.local_disk_bytes),
            class.outcome
        );
    }
    let fates = crate::fates(plan);
    if !fates.is_empty() {
        text.push_str("\n## Live migrations that do not converge\n\n| off | live migrations | what is done |\n|---|---|---|\n");
        for fate in fates {
            let hosts = list(fate.hosts.iter().map(String::as_str), ROWS_SHOWN_MAX);
            let _ = writeln!(text, "| {hosts} | {} | {} |", fate.moves, fate.words);
        }
    }
    if !content.duties.is_empty() {
        text.push_str("\n## Network nodes\n\n| host | duties | moves before a restart |\n|---|---|---|\n");
        for (host, duties) in &content.duties {
            let _ = writeln!(text, "| {host} | {} | {} |", duties.words(), duties.moves());
        }
    }
    if !content.left.is_empty() {
        text.push_str("\n## Hosts that are left\n\n| host | code | why | to do |\n|---|---|---|---|\n");
        for left in &content.left {
            let _ = writeln!(text, "| {} | {} | {} | {} |", left.host, left.code, left.cause, left.action);
        }
    }
    if !content.findings.is_empty() {
        text.push_str("\n## Findings\n\n");
        for finding in &content.findings {
            let _ = writeln!(
                text,
                "- {} [{}] {}: {} {}",
                finding.severity, finding.code, finding.subject, finding.explanation, finding.action
            );
        }
    }
    text.push_str("\n## Hosts\n\n| host | disabled at | empty at | back at | wave | moves |\n|---|---|---|---|---|---|\n");
    for drain in &content.drains {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            drain.host,
            duration(drain.disable_ms),
            duration(drain.empty_ms),
            duration(drain.back_ms),
            drain.wave,
            drain.moves
        );
    }
    text.push_str(
        "\n## Moves\n\n| instance | from | to | begins at | takes | how |\n|---|---|---|---|---|---|\n",
    );
    for moved in content.moves.iter().take(ROWS_SHOWN_MAX) {
        let how = match moved.how {
            volutus_model::fleet::plan::How::Live => "live",
            volutus_model::fleet::plan::How::Cold => "cold",
        };
        let again = if moved.moves_again { ", moves again" } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {how}{again} |",
            moved.instance,
            moved.from,
            moved.to,
            duration(moved.start_ms),
            duration(moved.end_ms - moved.start_ms)
        );
    }
    if content.moves.len() > ROWS_SHOWN_MAX {
        let _ = writeln!(
            text,
            "\n... and {} more moves; `--output json` has all.",
            content.moves.len() - ROWS_SHOWN_MAX
        );
    }
    text
}

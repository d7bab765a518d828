//! What a rehearsal came to, as an operator reads it.

use volutus_sim::{Rehearsal, Spread};

use super::{duration, findings, short, table};

/// Stages and failures that are listed; the rest is in the JSON.
const LISTED_MAX: usize = 12;

/// The whole report.
pub fn render(rehearsal: &Rehearsal) -> String {
    let mut text = format!(
        "plan {} rehearsed {} times, {} steps, seed {}\n\n",
        short(&rehearsal.plan),
        rehearsal.runs,
        rehearsal.steps,
        rehearsal.seed
    );
    let endings: Vec<String> =
        rehearsal.endings.iter().map(|(ending, runs)| format!("{runs} {ending}")).collect();
    text += &format!("runs ended: {}\n", endings.join(", "));
    text += &format!("ended well: {} of {}\n", rehearsal.ended_well, rehearsal.runs);
    text += &format!("everything replaced and watched: {}\n", spread(rehearsal.roll_s));
    text += &format!("to the end of finalize:          {}\n", spread(rehearsal.total_s));
    if let Some(least) = &rehearsal.headroom {
        text += &format!(
            "least headroom: {} replicas above the budget, in {} after {} of run {}; below it in {} runs\n",
            least.spare,
            least.backend,
            duration(least.at_s as f64),
            least.run,
            least.runs_below
        );
    }
    text += &format!(
        "runs in which requests of users failed: {} (at most {} requests)\n",
        rehearsal.runs_with_failed_requests, rehearsal.failed_requests.max
    );
    let faults: Vec<String> =
        rehearsal.faults.iter().map(|(fault, times)| format!("{times} {fault}")).collect();
    if !faults.is_empty() {
        text += &format!("what went wrong: {}\n", faults.join(", "));
    }
    text += &stages(rehearsal);
    text += &failures(rehearsal);
    for violation in &rehearsal.violations {
        text += &format!("BROKEN RULE: {violation}\n");
    }
    text += "\n";
    text += &findings::render(&rehearsal.findings);
    text
}

fn stages(rehearsal: &Rehearsal) -> String {
    let mut longest: Vec<_> = rehearsal.stages.iter().collect();
    longest.sort_by_key(|stage| std::cmp::Reverse(stage.seconds.p50));
    let mut shown = table(&["where time goes", "p50", "p90", "max", "runs"]);
    for stage in longest.iter().take(LISTED_MAX) {
        let seconds = |value: u64| duration(value as f64);
        shown.add_row([
            stage.stage.clone(),
            seconds(stage.seconds.p50),
            seconds(stage.seconds.p90),
            seconds(stage.seconds.max),
            stage.seconds.runs.to_string(),
        ]);
    }
    format!("\n{}\n", shown.trim_fmt())
}

fn failures(rehearsal: &Rehearsal) -> String {
    if rehearsal.failed.is_empty() {
        return String::new();
    }
    let mut shown = table(&["steps that failed", "times", "how"]);
    for failed in rehearsal.failed.iter().take(LISTED_MAX) {
        shown.add_row([failed.steps.clone(), failed.times.to_string(), failed.why.clone()]);
    }
    format!("\n{}\n", shown.trim_fmt())
}

fn spread(of: Spread) -> String {
    if of.runs == 0 {
        return "in no run".to_owned();
    }
    let seconds = |value: u64| duration(value as f64);
    format!("{} (p50), {} (p90), {} (max)", seconds(of.p50), seconds(of.p90), seconds(of.max))
}

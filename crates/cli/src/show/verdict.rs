//! The verdict of a run.

use std::collections::BTreeMap;

use owo_colors::OwoColorize as _;
use volutus_model::gate::GateFailure;
use volutus_model::verdict::{
    ApiContract, ContractResult, ExposedVersion, ExposureProof, ExposureResult, Level, Verdict,
};

use super::{duration, short, table};

/// The whole verdict; its last line is the one that counts.
pub fn render(verdict: &Verdict) -> String {
    let mut requests =
        table(&["service", "level", "requests", "failed", "p50", "p99", "baseline p99", "longest gap"]);
    for (service, seen) in &verdict.requests {
        requests.add_row([
            service.to_string(),
            seen.level.to_string(),
            seen.total.to_string(),
            seen.failed.to_string(),
            format!("{:.0} ms", seen.p50_ms),
            format!("{:.0} ms", seen.p99_ms),
            seen.baseline_p99_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms")),
            format!("{:.1} s", seen.max_gap_ms / 1000.0),
        ]);
    }
    let reach = if verdict.reach.is_empty() { String::new() } else { format!("{}\n\n", reach(verdict)) };
    let seen = verdict.versions_observed.values().flatten().count();
    let mut text = format!(
        "run {} ({}), {} -> {} in {}\n\n{requests}\n\n{reach}{} of {} requests failed; {} of {} daemons were observed running\n",
        short(verdict.run.as_str()),
        verdict.status,
        verdict.from,
        verdict.to,
        duration(verdict.duration_s),
        verdict.requests_failed,
        verdict.requests_total,
        seen,
        verdict.versions_observed.len(),
    );
    text += &contract(&verdict.api_contract);
    for (service, seen) in &verdict.advertised {
        text += &format!("highest microversion of {service}: {} -> {}", seen.first, seen.last);
        text += &match seen.fell {
            0 => format!(", never lower than before ({} times asked)\n", seen.asked),
            times => format!(", lower than before in {times} of {} answers\n", seen.asked),
        };
    }
    for gate in &verdict.gates {
        let result = match (gate.passed, gate.on_failure) {
            (true, _) => "passed",
            (false, GateFailure::Warn) => "FAILED, and only warns",
            (false, GateFailure::Block) => "FAILED",
        };
        text += &format!("gate {} ({}): {result}: {}\n", gate.gate, gate.when, gate.detail);
    }
    if let Some(proof) = &verdict.exposure {
        text += &exposure(proof);
    }
    text += &format!("latency test: {}\n", verdict.test);
    for reason in &verdict.reasons {
        text += &format!("not higher because: {reason}\n");
    }
    let level = verdict.level.to_string();
    let level = if verdict.level >= Level::ZeroDowntime {
        level.green().bold().to_string()
    } else {
        level.red().bold().to_string()
    };
    if verdict.rolled_back {
        text += &format!("rolled back: the cloud runs {} again\n", verdict.to);
    }
    text += &format!("verdict: {level}\n");
    text
}

/// Whether the API contract held, before users met new code and with it.
fn contract(contract: &ApiContract) -> String {
    let by_class = |differences: &BTreeMap<String, u64>| {
        let each: Vec<String> = differences.iter().map(|(class, count)| format!("{count} {class}")).collect();
        if each.is_empty() { "none".to_owned() } else { each.join(", ") }
    };
    let result = match contract.result {
        ContractResult::Broken => contract.result.red().bold().to_string(),
        ContractResult::Held | ContractResult::NotMeasured => contract.result.to_string(),
    };
    let mut text = format!(
        "API contract: {result}; {} requests to {} operations compared, {} of throw-away objects besides, \
         differences: {}\n",
        contract.requests_compared,
        contract.operations_compared,
        contract.writes_compared,
        by_class(&contract.differences),
    );
    let Some(after) = &contract.after else { return text };
    // Where nothing was compared before, there is nothing to be said of afterwards.
    if contract.requests_compared == 0 && after.requests_compared == 0 {
        return text;
    }
    text += &format!(
        "  asked again of what serves users: {} requests to {} operations, differences that were not there \
         before: {}; {} known ones, {} requests about what is gone\n",
        after.requests_compared,
        after.operations_compared,
        by_class(&after.differences),
        after.known,
        after.gone,
    );
    if after.differences.get("breaking").is_some_and(|count| *count > 0) {
        let told =
            "  WHAT USERS ARE ANSWERED NOW BREAKS THE CONTRACT; `volutus journal show` has the requests";
        text += &format!("{}\n", told.red().bold());
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (service, why) in &after.not_measured {
        by_reason.entry(why).or_default().push(service.as_str());
    }
    for (why, services) in by_reason {
        text += &format!("  not asked again: {} ({why})\n", services.join(", "));
    }
    text
}

/// What the run of a patch closed, by what was seen before and after.
fn exposure(proof: &ExposureProof) -> String {
    let told = |exposed: &[ExposedVersion]| {
        let each: Vec<String> = exposed
            .iter()
            .map(|one| {
                let daemons: Vec<String> = one.daemons.iter().map(ToString::to_string).collect();
                format!("{} {} on {}", one.distribution, one.version, daemons.join(", "))
            })
            .collect();
        if each.is_empty() { "nothing".to_owned() } else { each.join("; ") }
    };
    let result = match proof.result {
        ExposureResult::Closed => proof.result.green().bold().to_string(),
        ExposureResult::Mitigated => proof.result.yellow().bold().to_string(),
        ExposureResult::Remains | ExposureResult::NotProved => proof.result.red().bold().to_string(),
    };
    let mut text = format!(
        "exposure to {}: {result}; exposed before: {}; exposed now: {}\n",
        proof.vulnerability,
        told(&proof.before),
        told(&proof.after)
    );
    if let Some(by) = &proof.mitigated {
        let hosts: Vec<&str> = by.checked.iter().map(|host| host.as_str()).collect();
        let on = if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") };
        text += &format!("  mitigated by {}, checked on {on}; the versions stay vulnerable\n", by.name);
    }
    for why in &proof.unproved {
        text += &format!("  not seen or not judged: {why}\n");
    }
    text
}

/// How reachable the data plane was.
fn reach(verdict: &Verdict) -> impl std::fmt::Display {
    let mut reach = table(&["data plane", "sent", "lost", "longest gap", "during"]);
    for (target, seen) in &verdict.reach {
        let during: Vec<&str> = seen.gap_steps.iter().map(|step| step.as_str()).collect();
        reach.add_row([
            target.clone(),
            seen.sent.to_string(),
            seen.lost.to_string(),
            format!("{:.1} s", seen.longest_gap_ms / 1000.0),
            during.join(", "),
        ]);
    }
    reach
}

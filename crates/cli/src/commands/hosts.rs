//! `volutus hosts`: the state of every compute host, and who disabled it.

use std::collections::BTreeMap;

use serde::Serialize;
use volutus_drivers::ComputeRecord;
use volutus_model::RunId;
use volutus_model::fleet::{REASON_TOKEN, Work};
use volutus_model::plan::{Action, Plan, Step};
use volutus_model::run::{RunState, StepStatus};
use volutus_store::Store;

use crate::args::{Format, HostsArgs};
use crate::commands::{control, go_on, print_json};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// A compute host as nova records it.
#[derive(Debug, Serialize)]
struct Row {
    host: String,
    zone: String,
    /// `up`, `down` or `forced down`.
    state: &'static str,
    enabled: bool,
    /// `volutus`, `a person or another tool`; none where it is enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_by: Option<&'static str>,
    /// The run of Volutus that disabled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// What that run made of the host, by its journal: `drained`, `in work`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<String>,
    /// The reason in nova's record.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Instances of nova that are on it, whatever their state.
    instances: usize,
    /// Whether the cloud description has it.
    described: bool,
}

/// Prints them.
pub async fn run(context: &Context, args: &HostsArgs) -> Result<()> {
    let driver = context.driver()?;
    let seen = look(context, &driver).await;
    driver.close().await;
    let mut rows = seen?;
    tell_standing(&context.store()?, &mut rows);
    match args.output {
        Format::Json => print_json(&rows),
        Format::Table => {
            let mut table =
                show::table(&["host", "zone", "state", "scheduling", "disabled by", "reason", "instances"]);
            for row in &rows {
                let by = match (&row.run, row.disabled_by) {
                    (Some(run), _) => {
                        let standing = row.standing.as_ref().map(|told| format!(": {told}"));
                        format!("volutus, run {run}{}", standing.unwrap_or_default())
                    }
                    (None, by) => by.unwrap_or("-").to_owned(),
                };
                table.add_row([
                    row.host.clone(),
                    row.zone.clone(),
                    row.state.to_owned(),
                    if row.enabled { "enabled" } else { "disabled" }.to_owned(),
                    by,
                    row.reason.clone().unwrap_or_else(|| "-".to_owned()),
                    row.instances.to_string(),
                ]);
            }
            anstream::println!("{table}");
            let strange: Vec<&str> =
                rows.iter().filter(|row| !row.described).map(|row| row.host.as_str()).collect();
            if !strange.is_empty() {
                anstream::eprintln!("not in the cloud description: {}", strange.join(", "));
            }
            Ok(())
        }
    }
}

async fn look(context: &Context, driver: &volutus_drivers::CloudDriver) -> Result<Vec<Row>> {
    let refused = |error: volutus_drivers::ApiError| {
        let message = format!("could not see the compute hosts of cloud {}", context.inventory.name);
        CliError::new(Kind::Cloud, "fleet-unseen", message).because(&error).hint(error.hint())
    };
    let records = driver.observe_computes().await.map_err(refused)?;
    let instances = driver.observe_instance_counts().await.map_err(refused)?;
    let described = |name: &str| context.inventory.hosts.iter().any(|host| host.name.as_str() == name);
    Ok(records.into_iter().map(|record| row(&record, &instances, described(&record.host))).collect())
}

/// Says of hosts that Volutus disabled what the journals know of them.
fn tell_standing(store: &Store, rows: &mut [Row]) {
    let mut loaded: BTreeMap<String, Option<(Plan, RunState)>> = BTreeMap::new();
    for row in rows {
        let Some(run) = &row.run else { continue };
        let known = loaded.entry(run.clone()).or_insert_with(|| {
            let record = RunId::new(run).ok().and_then(|id| store.run(&id).ok())?;
            control::load(store, &record).ok().map(|(plan, state, _)| (plan, state))
        });
        row.standing = Some(match known {
            // The journal is kept where Volutus ran, which need not be here.
            None => "a run that is not known here".to_owned(),
            Some((plan, state)) => standing(&row.host, plan, state),
        });
    }
}

/// What a run made of a host that it disabled.
fn standing(host: &str, plan: &Plan, state: &RunState) -> String {
    let disables = |step: &&Step| {
        step.actions
            .iter()
            .any(|action| matches!(action, Action::DisableCompute { host: on, .. } if on.as_str() == host))
    };
    let step = plan.steps().map(|(_, step)| step).find(disables);
    let why = step.and_then(|step| go_on::failure_of(state, &step.id)).map_or("", |failure| &failure.message);
    match (step.map(|step| state.step(&step.id)), plan.kind.work()) {
        (Some(StepStatus::Completed), Some(Work::Drain)) => "drained".to_owned(),
        (Some(StepStatus::Failed { .. }), _) => format!("failed there, and {}: {why}", state.status),
        (Some(StepStatus::Running { .. }), _) if !state.status.is_final() => {
            format!("in work, and {}", state.status)
        }
        _ => state.status.to_string(),
    }
}

fn row(record: &ComputeRecord, instances: &BTreeMap<String, usize>, described: bool) -> Row {
    let enabled = record.status == "enabled";
    let reason = record.disabled_reason.clone().filter(|reason| !enabled && !reason.is_empty());
    let run = reason.as_deref().and_then(|reason| reason.strip_prefix(REASON_TOKEN)).map(str::to_owned);
    Row {
        host: record.host.clone(),
        zone: record.zone.clone(),
        state: match (record.forced_down, record.state.as_str()) {
            (true, _) => "forced down",
            (false, "up") => "up",
            (false, _) => "down",
        },
        enabled,
        disabled_by: (!enabled).then_some(if run.is_some() { "volutus" } else { "a person or another tool" }),
        run,
        standing: None,
        reason,
        instances: instances.get(&record.host).copied().unwrap_or(0),
        described,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: &str, reason: Option<&str>, state: &str, forced_down: bool) -> ComputeRecord {
        ComputeRecord {
            id: "id".to_owned(),
            binary: "nova-compute".to_owned(),
            host: "c1".to_owned(),
            zone: "nova".to_owned(),
            status: status.to_owned(),
            state: state.to_owned(),
            disabled_reason: reason.map(str::to_owned),
            forced_down,
            updated_at: None,
        }
    }

    #[test]
    fn who_disabled_a_host_is_told_by_the_reason() {
        for (record, by, run, state) in [
            (record("enabled", None, "up", false), None, None, "up"),
            // nova keeps no reason of an enabled service; if it did, it would mean nothing.
            (record("enabled", Some("volutus:r1"), "up", false), None, None, "up"),
            (record("disabled", Some("volutus:r1"), "up", false), Some("volutus"), Some("r1"), "up"),
            (
                record("disabled", Some("memory errors"), "down", false),
                Some("a person or another tool"),
                None,
                "down",
            ),
            (record("disabled", None, "down", true), Some("a person or another tool"), None, "forced down"),
        ] {
            let row = row(&record, &BTreeMap::from([("c1".to_owned(), 3)]), true);
            assert_eq!((row.disabled_by, row.run.as_deref(), row.state), (by, run, state), "{record:?}");
            assert_eq!(row.instances, 3);
        }
    }
}

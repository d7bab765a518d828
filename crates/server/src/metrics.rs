//! What Prometheus is told.

use std::sync::atomic::AtomicI64;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use volutus_model::run::{RunStatus, StepStatus};
use volutus_runtime::Standing;

use crate::{Api, Problem};

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    method: String,
    path: String,
    status: u32,
}

/// Requests that were answered.
pub type Requests = Family<Labels, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

/// Labels of a look for new releases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookLabels {
    series: String,
    from: String,
}

type Looks = Family<LookLabels, Gauge<i64, AtomicI64>>;

type Numbers = Family<Named, Gauge<i64, AtomicI64>>;

const STATUSES: [RunStatus; 7] = [
    RunStatus::Running,
    RunStatus::Paused,
    RunStatus::Halted,
    RunStatus::AwaitingFinalize,
    RunStatus::Aborting,
    RunStatus::Aborted,
    RunStatus::Succeeded,
];

/// Counts requests by the path as it is documented, so that ids do not become labels.
pub async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("unknown", |path| path.as_str()).to_owned();
    // Other methods are refused, and whoever calls could invent any number of them.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "HEAD") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let status = u32::from(response.status().as_u16());
    api.requests().get_or_create(&Labels { method, path, status }).inc();
    response
}

fn named(family: &Numbers, name: impl Into<String>, value: i64) {
    family.get_or_create(&Named { name: name.into() }).set(value);
}

/// All metrics, as they are now. Blocks for as long as the disk takes.
pub fn render(api: &Api) -> Result<String, Problem> {
    let mut registry = Registry::with_prefix("volutus");
    let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("cloud", api.cloud().to_string())];
    registry.register("build", "The Volutus that answers", Info::new(labels));
    registry.register("http_requests", "Requests that were answered", api.requests().clone());
    run(api, &mut registry)?;
    schedules(api, &mut registry)?;
    looks(api, &mut registry)?;
    let slots: Gauge<i64, AtomicI64> = Gauge::default();
    registry.register("reboot_slots_held", "Slots that hosts which reboot themselves hold", slots.clone());
    slots.set(number(api.store().slots()?.len() as u64));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| Problem::broken("the metrics could not be written"))?;
    Ok(text)
}

/// What is told of the latest run of the cloud.
fn run(api: &Api, registry: &mut Registry) -> Result<(), Problem> {
    let (store, cloud) = (api.store(), api.cloud());
    let (status, steps, probes) = (Numbers::default(), Numbers::default(), Numbers::default());
    let held: Gauge<i64, AtomicI64> = Gauge::default();
    let events: Gauge<i64, AtomicI64> = Gauge::default();
    registry.register("run_status", "1 for the status of the latest run, 0 for every other", status.clone());
    registry.register("run_steps", "Steps of the latest run, by where they stand", steps.clone());
    registry.register(
        "run_probe_requests",
        "Requests of the synthetic user in the latest run",
        probes.clone(),
    );
    registry.register("run_journal_entries", "Entries in the journal of the latest run", events.clone());
    registry.register("lease_held", "1 while a process works on the cloud", held.clone());
    held.set(i64::from(store.lease(cloud, Api::now())?.is_some()));
    let latest = store.latest_run(cloud)?;
    let standing = latest.as_ref().map(|record| Standing::read(store, record)).transpose()?;
    for each in STATUSES {
        let is = standing.as_ref().is_some_and(|standing| standing.state.status == each);
        named(&status, each.to_string(), i64::from(is));
    }
    let (Some(record), Some(standing)) = (latest, standing) else { return Ok(()) };
    let count = |is: fn(&StepStatus) -> bool| standing.state.steps.values().filter(|s| is(s)).count() as u64;
    let total = standing.plan.stages.iter().map(|stage| stage.steps.len() as u64).sum();
    named(&steps, "completed", number(count(|s| matches!(s, StepStatus::Completed))));
    named(&steps, "failed", number(count(|s| matches!(s, StepStatus::Failed { .. }))));
    named(&steps, "running", number(count(|s| matches!(s, StepStatus::Running { .. }))));
    named(&steps, "planned", number(total));
    let (failed, total) = store.count_samples(&record.id, 0)?;
    named(&probes, "failed", number(failed));
    named(&probes, "all", number(total));
    events.set(number(record.entries));
    Ok(())
}

fn schedules(api: &Api, registry: &mut Registry) -> Result<(), Problem> {
    let (next, held) = (Numbers::default(), Numbers::default());
    let missed: Gauge<i64, AtomicI64> = Gauge::default();
    registry.register("schedule_next_timestamp_seconds", "When something is due next", next.clone());
    registry.register("schedule_held", "1 where a schedule is held because it did not go well", held.clone());
    registry.register(
        "schedule_missed",
        "What was due in the past three months and was not done",
        missed.clone(),
    );
    let calendar = api.works().calendar()?;
    for schedule in &calendar.schedules {
        let due =
            calendar.entries.iter().find(|entry| entry.schedule == schedule.name).and_then(|entry| entry.due);
        if let Some(due) = due {
            named(&next, &schedule.name, due.as_second());
        }
        named(&held, &schedule.name, i64::from(calendar.held.contains_key(&schedule.name)));
    }
    missed.set(number(calendar.missed.len() as u64));
    Ok(())
}

fn looks(api: &Api, registry: &mut Registry) -> Result<(), Problem> {
    let (last, failures) = (Looks::default(), Looks::default());
    registry.register(
        "release_look_timestamp_seconds",
        "When a source was last asked for new releases",
        last.clone(),
    );
    registry.register(
        "release_look_failures",
        "Looks for new releases that failed since the last one that did not",
        failures.clone(),
    );
    for look in api.works().releases()?.looks {
        let labels = LookLabels { series: look.series, from: look.from };
        if let Some(at) = look.last {
            last.get_or_create(&labels).set(at.as_second());
        }
        // Two looks may ask one source for different packages: the worse one counts.
        let worst = failures.get_or_create(&labels).get().max(i64::from(look.failures));
        failures.get_or_create(&labels).set(worst);
    }
    Ok(())
}

/// Prometheus counts in 64 bits with a sign.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

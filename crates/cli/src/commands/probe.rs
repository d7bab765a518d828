//! `volutus probe`

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use volutus_model::ServiceName;
use volutus_model::probe::Sample;
use volutus_prober::statistics::percentile;
use volutus_runtime::new_run_id;

use crate::args::{Format, ProbeArgs};
use crate::commands::{
    print_json,
    run::{report_stop, start_prober},
};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// What was seen of one service.
#[derive(Debug, Default, Serialize)]
struct Seen {
    total: u64,
    failed: u64,
    p50_ms: f64,
    p99_ms: f64,
    #[serde(skip)]
    latencies_ms: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Counted {
    total: u64,
    failed: u64,
    services: BTreeMap<ServiceName, Seen>,
    failures: Vec<Sample>,
}

/// Works through the endpoints for a while, and counts.
pub async fn run(context: &Context, args: &ProbeArgs) -> Result<()> {
    let id = new_run_id(Context::now())
        .map_err(|error| CliError::new(Kind::Internal, "run-id", "no id for the probe").because(&error))?;
    let (handle, mut receiver) = start_prober(context, &id).await?;
    anstream::eprintln!("Probing for {} s; Ctrl-C ends it.", args.seconds);
    let mut samples = Vec::new();
    let end = tokio::time::sleep(Duration::from_secs(u64::from(args.seconds)));
    tokio::pin!(end);
    let mut open = true;
    while open {
        tokio::select! {
            received = receiver.recv() => match received {
                Some(sample) => samples.push(sample),
                None => open = false,
            },
            () = &mut end => break,
            signal = tokio::signal::ctrl_c() => {
                if let Err(error) = signal {
                    tracing::warn!(%error, "signals cannot be received");
                }
                break;
            }
        }
    }
    let stopping = tokio::spawn(report_stop(handle));
    while let Some(sample) = receiver.recv().await {
        samples.push(sample);
    }
    if let Err(error) = stopping.await {
        tracing::warn!(%error, "the synthetic user did not end in good order");
    }
    let counted = count(samples);
    match args.output {
        Format::Json => print_json(&counted),
        Format::Table => {
            let mut table = show::table(&["service", "requests", "failed", "p50", "p99"]);
            for (service, seen) in &counted.services {
                table.add_row([
                    service.to_string(),
                    seen.total.to_string(),
                    seen.failed.to_string(),
                    format!("{:.0} ms", seen.p50_ms),
                    format!("{:.0} ms", seen.p99_ms),
                ]);
            }
            anstream::println!("{table}\n\n{} of {} requests failed", counted.failed, counted.total);
            for sample in &counted.failures {
                anstream::println!("  {} {}: {:?}", sample.service, sample.operation, sample.result);
            }
            Ok(())
        }
    }
}

fn count(samples: Vec<Sample>) -> Counted {
    let mut services: BTreeMap<ServiceName, Seen> = BTreeMap::new();
    for sample in &samples {
        let seen = services.entry(sample.service.clone()).or_default();
        seen.total += 1;
        seen.failed += u64::from(sample.failed());
        seen.latencies_ms.push(sample.latency_ms);
    }
    for seen in services.values_mut() {
        seen.latencies_ms.sort_by(f64::total_cmp);
        seen.p50_ms = percentile(&seen.latencies_ms, 0.50).unwrap_or_default();
        seen.p99_ms = percentile(&seen.latencies_ms, 0.99).unwrap_or_default();
    }
    let total = samples.len() as u64;
    let failures: Vec<Sample> = samples.into_iter().filter(Sample::failed).collect();
    Counted { total, failed: failures.len() as u64, services, failures }
}

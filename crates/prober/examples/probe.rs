//! Runs the synthetic user against a cloud for a while and prints what it saw.
//!
//! `cargo run -p volutus-prober --example probe -- CLOUD.TOML SECONDS [RATE]`

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use volutus_model::Inventory;
use volutus_model::name::RunId;
use volutus_model::probe::{Sample, SampleResult};
use volutus_openstack::CloudConfig;
use volutus_prober::statistics::percentile;
use volutus_prober::{Prober, ProberConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cloud, seconds, rate @ ..] = arguments.as_slice() else {
        return Err("usage: probe CLOUD.TOML SECONDS [RATE]".into());
    };
    let seconds: u64 = seconds.parse()?;
    let cloud = Path::new(cloud);
    let inventory = Inventory::parse(&std::fs::read_to_string(cloud)?)?;
    let credentials = &inventory.credentials;
    let folder = cloud.parent().unwrap_or(Path::new("."));
    let file = credentials.clouds_yaml.as_ref().map(|file| folder.join(file));
    let entry = |name: &str| CloudConfig::load(file.as_deref(), name);
    let run = RunId::new(format!("example{}", std::process::id()))?;
    let mut config = ProberConfig::new(
        entry(&credentials.operator)?,
        entry(&credentials.prober)?,
        inventory.prober.clone(),
        run,
    );
    if let Some(rate) = rate.first() {
        config.rate_per_s = rate.parse()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let failed = runtime.block_on(probe(config, Duration::from_secs(seconds)))?;
    if failed > 0 {
        return Err(format!("{failed} failed").into());
    }
    Ok(())
}

async fn probe(config: ProberConfig, span: Duration) -> Result<usize, Box<dyn Error>> {
    let (handle, mut receiver) = Prober::start(config).await?;
    for note in handle.notes() {
        eprintln!("note: {note}");
    }
    let reader = tokio::spawn(async move {
        let mut samples: Vec<Sample> = Vec::new();
        while let Some(sample) = receiver.recv().await {
            if let SampleResult::Failed { why } = &sample.result {
                eprintln!("failed: {} {} {:?}: {why}", sample.service, sample.operation, sample.status);
            }
            samples.push(sample);
        }
        samples
    });
    tokio::time::sleep(span).await;
    let report = handle.stop().await;
    let samples = reader.await?;
    println!(
        "{:<10} {:<28} {:>6} {:>6} {:>9} {:>9} {:>9}",
        "service", "operation", "count", "failed", "p50 ms", "p99 ms", "max ms"
    );
    let mut groups: BTreeMap<(String, String), Vec<&Sample>> = BTreeMap::new();
    for sample in &samples {
        groups.entry((sample.service.to_string(), sample.operation.clone())).or_default().push(sample);
        groups.entry((sample.service.to_string(), "(all)".to_owned())).or_default().push(sample);
    }
    for ((service, operation), group) in &groups {
        let mut latencies: Vec<f64> = group.iter().map(|sample| sample.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        let at = |share| percentile(&latencies, share).unwrap_or(0.0);
        let failed = group.iter().filter(|sample| sample.failed()).count();
        println!(
            "{service:<10} {operation:<28} {:>6} {failed:>6} {:>9.1} {:>9.1} {:>9.1}",
            group.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    let failed = samples.iter().filter(|sample| sample.failed()).count();
    println!(
        "{} samples ({:.1}/s), {failed} failed; {report:?}",
        samples.len(),
        samples.len() as f64 / span.as_secs_f64()
    );
    Ok(failed)
}

//! Observes a cloud, or carries out one action on it, and prints what came of it as JSON:
//!
//! ```text
//! cargo run -p volutus-drivers --example drive -- cloud.toml observe
//! cargo run -p volutus-drivers --example drive -- cloud.toml '{"action": "disable-compute", "host": "cmp1"}' [ATTEMPT]
//! ```
//!
//! With the id of an attempt, that attempt is taken up as after a crash.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use volutus_catalog::Catalog;
use volutus_drivers::CloudDriver;
use volutus_engine::ports::{Driver, Order};
use volutus_model::Inventory;
use volutus_model::name::{AttemptId, RunId, StepId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(cloud), Some(what)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: drive CLOUD_TOML (observe | ACTION_JSON [ATTEMPT])".into());
    };
    let path = Path::new(cloud);
    let inventory = Arc::new(Inventory::parse(&std::fs::read_to_string(path)?)?);
    let catalog = Arc::new(Catalog::builtin()?);
    let base = path.parent().unwrap_or(Path::new("."));
    let driver = CloudDriver::connect(inventory, base, &base.join(".volutus/gates"), catalog)?;
    let begun = Instant::now();
    if what == "observe" {
        let observation = driver.observe().await;
        println!("{}", serde_json::to_string_pretty(&observation)?);
    } else {
        let attempt = arguments.get(2).cloned();
        let fresh = format!("example-{}", std::process::id());
        let order = Order {
            run: RunId::new("example")?,
            attempt: AttemptId::new(attempt.clone().unwrap_or(fresh))?,
            step: StepId::new("example")?,
            action: serde_json::from_str(what)?,
            timeout_s: 120,
            taken_up: attempt.is_some(),
            retried: false,
        };
        let say = |text: String| eprintln!("{:7.2} s  {text}", begun.elapsed().as_secs_f64());
        let outcome = driver.perform(&order, &say).await;
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    }
    eprintln!("{:.2} s", begun.elapsed().as_secs_f64());
    driver.close().await;
    Ok(())
}

//! `volutus snapshot`: list, verify, restore.

mod offer;
mod restore;

use std::collections::BTreeMap;

use serde::Serialize;
use volutus_drivers::{CloudDriver, Copy, Restore, Snapshot, SnapshotError, SnapshotWork, Trouble};
use volutus_model::{Plan, ServiceName};
use volutus_store::{Holder, Lease, RunRecord, Store};

use crate::args::{Format, SnapshotArgs, SnapshotCommand};
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// How long a lease of work outside of a run lasts, and how often it is renewed.
const LEASE_TTL: std::time::Duration = std::time::Duration::from_secs(30);
const LEASE_RENEWAL: std::time::Duration = std::time::Duration::from_secs(5);

/// `volutus snapshot`
pub async fn run(context: &Context, args: &SnapshotArgs) -> Result<()> {
    let driver = context.driver()?;
    let result = match &args.command {
        SnapshotCommand::List { output } => list(&driver, *output).await,
        SnapshotCommand::Verify { id, services, output } => {
            verify(context, &driver, id, services, *output).await
        }
        SnapshotCommand::Restore { id, services, confirm, undo, output } => {
            let (snapshots, _) = driver.snapshots().await.map_err(trouble)?;
            let snapshot = find(&snapshots, id)?;
            let store = context.store()?;
            let asked = offer::Asked { services, confirm: confirm.as_deref(), undo: *undo };
            let offer = offer::make(context, &store, &driver, snapshot, &asked).await?;
            restore::consented(context, &store, &driver, &offer, *output).await
        }
    };
    driver.close().await;
    result
}

/// What `volutus rollback` does once finalize took the way back without loss: it offers the restore
/// of the snapshot that the run took. Without a snapshot it answers `false`.
pub async fn offer_after_finalize(
    context: &Context,
    store: &Store,
    record: &RunRecord,
    plan: &Plan,
    confirm: Option<&str>,
) -> Result<bool> {
    let driver = context.driver()?;
    let result = async {
        let (snapshots, _) = driver.snapshots().await.map_err(trouble)?;
        let own = |snapshot: &&Snapshot| snapshot.copies.iter().any(|copy| copy.run == record.id);
        let Some(snapshot) = snapshots.iter().find(own) else { return Ok(false) };
        anstream::eprintln!(
            "Run {} was finalized: old code cannot go onto the databases as they are now. What is left is \
             to put the databases back to their copies, which loses what was written since. Going on \
             forward loses nothing.\n",
            show::short(record.id.as_str())
        );
        let uncopied: Vec<&str> = plan
            .versions
            .keys()
            .filter(|service| !snapshot.copies.iter().any(|copy| copy.service == **service))
            .map(ServiceName::as_str)
            .collect();
        if !uncopied.is_empty() {
            anstream::eprintln!(
                "This hop changed no schema of {}, so there is no copy of theirs: their daemons stay on {}, \
                 and their data as it is.\n",
                uncopied.join(", "),
                plan.to
            );
        }
        let asked = offer::Asked { services: &[], confirm, undo: false };
        let offer = offer::make(context, store, &driver, snapshot, &asked).await?;
        restore::consented(context, store, &driver, &offer, Format::Table).await.map(|()| true)
    }
    .await;
    driver.close().await;
    result
}

async fn list(driver: &CloudDriver, output: Format) -> Result<()> {
    #[derive(Serialize)]
    struct Listed {
        snapshots: Vec<Snapshot>,
        restores: Vec<Restore>,
    }
    let (snapshots, restores) = driver.snapshots().await.map_err(trouble)?;
    match output {
        Format::Json => print_json(&Listed { snapshots, restores }),
        Format::Table => {
            if snapshots.is_empty() {
                anstream::eprintln!("There is no snapshot; a run takes one before it widens a schema.");
            } else {
                anstream::print!("{}", show::snapshot::render(&snapshots, &restores));
            }
            Ok(())
        }
    }
}

async fn verify(
    context: &Context,
    driver: &CloudDriver,
    id: &str,
    services: &[String],
    output: Format,
) -> Result<()> {
    #[derive(Serialize)]
    struct Verified<'a> {
        snapshot: &'a str,
        service: &'a ServiceName,
        verified: bool,
        why: Option<String>,
    }
    let (snapshots, _) = driver.snapshots().await.map_err(trouble)?;
    let snapshot = find(&snapshots, id)?;
    let copies = chosen(snapshot, services)?;
    let store = context.store()?;
    let _held = Held::take(context, &store)?;
    let mut results = Vec::new();
    for copy in copies {
        let why = match driver.work_on_snapshot(snapshot, &copy.service, SnapshotWork::Verify, &say).await {
            Ok(_) => None,
            Err(SnapshotError::Failed(why) | SnapshotError::Unseen(why)) => Some(why),
            Err(SnapshotError::Trouble(error)) => return Err(trouble(error)),
        };
        results.push(Verified {
            snapshot: &snapshot.id,
            service: &copy.service,
            verified: why.is_none(),
            why,
        });
    }
    match output {
        Format::Json => print_json(&results)?,
        Format::Table => {
            for each in &results {
                match &each.why {
                    None => anstream::println!("{}: restored in a scratch server, and equal", each.service),
                    Some(why) => anstream::println!("{}: NOT verified: {why}", each.service),
                }
            }
        }
    }
    let bad: Vec<&str> =
        results.iter().filter(|each| !each.verified).map(|each| each.service.as_str()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(CliError::new(
        Kind::Blocked,
        "snapshot-not-verified",
        format!("snapshot {} could not be verified for {}", snapshot.id, bad.join(", ")),
    )
    .hint("A reason such as a lack of room or a wrong key can be mended; a damaged copy is of no use, and `snapshot list` shows it so."))
}

/// The snapshot of that id, or the only one whose id begins so.
fn find<'a>(snapshots: &'a [Snapshot], id: &str) -> Result<&'a Snapshot> {
    let exact: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.id == id).collect();
    let begun: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.id.starts_with(id)).collect();
    let found = if exact.is_empty() { begun } else { exact };
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::refused("not-found", format!("there is no snapshot `{id}`"))
            .hint("`volutus snapshot list` shows what there is.")),
        more => Err(CliError::refused(
            "ambiguous",
            format!("`{id}` is the beginning of {} snapshots", more.len()),
        )
        .hint("Type more of it.")),
    }
}

/// The copies of these services; all where none is named.
fn chosen<'a>(snapshot: &'a Snapshot, services: &[String]) -> Result<Vec<&'a Copy>> {
    for service in services {
        if !snapshot.copies.iter().any(|copy| copy.service.as_str() == service) {
            return Err(CliError::refused(
                "not-found",
                format!("snapshot {} holds no copy of `{service}`", snapshot.id),
            )
            .hint("`volutus snapshot list` shows of which services it does."));
        }
    }
    let wanted =
        |copy: &&Copy| services.is_empty() || services.iter().any(|name| copy.service.as_str() == name);
    Ok(snapshot.copies.iter().filter(wanted).collect())
}

fn trouble(error: Trouble) -> CliError {
    CliError::new(Kind::Cloud, "database-host", "the database host could not be asked").because(&error)
}

/// What long work says, on stderr; its result, which is the last that it says, is for programs.
fn say(text: String) {
    if !text.starts_with('{') {
        anstream::eprintln!("{text}");
    }
}

/// The lease of the cloud, renewed until it is dropped: no run begins meanwhile.
struct Held {
    store: Store,
    lease: Lease,
    renewal: tokio::task::JoinHandle<()>,
}

impl Held {
    fn take(context: &Context, store: &Store) -> Result<Self> {
        let holder = Holder::this_process().map_err(store_error)?;
        let lease = store
            .acquire_lease(&context.inventory.name, &holder, Context::now(), LEASE_TTL)
            .map_err(store_error)?;
        let (renewed, mine) = (store.clone(), lease.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE_RENEWAL).await;
                if let Err(error) = renewed.renew_lease(&mine, Context::now()) {
                    tracing::warn!(%error, "the lease was not renewed");
                }
            }
        });
        Ok(Self { store: store.clone(), lease, renewal })
    }

    /// Refuses to go on where another process has taken the cloud.
    fn check(&self) -> Result<()> {
        self.store.renew_lease(&self.lease, Context::now()).map_err(store_error)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
        if let Err(error) = self.store.release_lease(&self.lease) {
            tracing::warn!(%error, "the lease stays until it runs out");
        }
    }
}

/// Numbers of objects in words: `2 instances, 1 port`.
fn count_words(made: &BTreeMap<String, u64>) -> String {
    let some: Vec<String> =
        made.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    if some.is_empty() { "nothing that tables record the making of".to_owned() } else { some.join(", ") }
}

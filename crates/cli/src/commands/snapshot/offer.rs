//! What a restore would do and lose, said before it is consented to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use volutus_drivers::{CloudDriver, Copy, RestorePhase, Snapshot};
use volutus_model::name::DaemonId;
use volutus_model::{Plan, Series, ServiceName};
use volutus_store::Store;

use crate::commands::control::load;
use crate::commands::plan::store_error;
use crate::commands::snapshot::{chosen, count_words, trouble};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// What was asked for.
pub struct Asked<'a> {
    /// Of which services; all where empty.
    pub services: &'a [String],
    /// What was typed already.
    pub confirm: Option<&'a str>,
    /// Whether a restore is to be taken back.
    pub undo: bool,
}

/// A restore that can be done.
pub struct Offer<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// What is restored, in the order in which services start.
    pub losses: Vec<Loss<'a>>,
    /// The daemons that are stopped and started.
    pub daemons: Vec<(ServiceName, DaemonId, String)>,
    /// The series that they are started from.
    pub series: Series,
    /// The other series that they may run from now.
    pub other: Series,
    /// Whether an earlier restore is taken back.
    pub undo: bool,
    /// What has to be typed.
    pub word: String,
    /// What was typed already.
    pub typed: Option<String>,
}

/// What is lost of one service.
pub struct Loss<'a> {
    /// Its copy.
    pub copy: &'a Copy,
    /// Everything written from then on.
    pub since: Timestamp,
    /// Objects made since, by kind; `None` where it could not be counted.
    pub made: Option<BTreeMap<String, u64>>,
}

/// Sees that a restore can be done, and what it would lose.
pub async fn make<'a>(
    context: &Context,
    store: &Store,
    driver: &CloudDriver,
    snapshot: &'a Snapshot,
    asked: &Asked<'_>,
) -> Result<Offer<'a>> {
    let copies = chosen(snapshot, asked.services)?;
    let Some(first) = copies.first() else {
        return Err(CliError::refused("not-found", format!("snapshot {} holds no copy", snapshot.id)));
    };
    if let Some(other) = copies.iter().find(|copy| copy.cloud != context.inventory.name) {
        return Err(CliError::refused(
            "other-cloud",
            format!("snapshot {} is of cloud {}", snapshot.id, other.cloud),
        )
        .hint("Name that cloud's description with --cloud."));
    }
    let record = store.find_run(first.run.as_str()).map_err(|error| {
        store_error(error).hint(
            "A restore needs the run's plan to know which release its databases belong to: name the state \
             directory of the machine that did the run with --state.",
        )
    })?;
    if let Some(latest) = store.latest_run(&record.cloud).map_err(store_error)?.filter(|latest| !latest.ended)
    {
        return Err(CliError::refused(
            "run-unfinished",
            format!(
                "run {} has not ended, and a restore would pull its ground away",
                show::short(latest.id.as_str())
            ),
        )
        .hint(
            "`volutus rollback` loses nothing while finalize was not allowed; else `volutus abort` first.",
        ));
    }
    let (plan, state, _) = load(store, &record)?;
    let mut losses = Vec::new();
    let (_, restores) = driver.snapshots().await.map_err(trouble)?;
    for copy in in_order(context, copies) {
        let restore =
            restores.iter().find(|each| each.service == copy.service && each.snapshot == snapshot.id);
        let since = if asked.undo {
            restore
                .filter(|each| {
                    each.undone_at.is_none()
                        && each.phase != RestorePhase::Load
                        && each.phase != RestorePhase::Loaded
                })
                .map(|each| each.swapped_at.unwrap_or(copy.taken_at))
                .ok_or_else(|| {
                    CliError::refused(
                        "nothing-to-take-back",
                        format!("{} was not restored from snapshot {}", copy.service, snapshot.id),
                    )
                })?
        } else {
            refuse_unusable(snapshot, copy)?;
            copy.taken_at
        };
        // A restore that was cut off may have moved what is being lost already.
        let mut databases = copy.databases.clone();
        if let Some(restore) = restore.filter(|each| !asked.undo && is_under_way(each.phase)) {
            databases.extend(restore.before.values().cloned());
        }
        let made = match driver.made_since(&snapshot.host, &databases, since).await {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!(%error, service = %copy.service, "what would be lost could not be counted");
                None
            }
        };
        losses.push(Loss { copy, since, made });
    }
    let (series, other) = releases(&plan, asked.undo && state.finalize_allowed);
    let daemons = daemons_of(context, &losses);
    refuse_missing(driver, &daemons, series).await?;
    refuse_other_release(context, driver, &daemons, [plan.from, plan.to]).await?;
    let word = match losses.as_slice() {
        [only] => only.copy.service.to_string(),
        _ => record.id.to_string(),
    };
    Ok(Offer {
        snapshot,
        losses,
        daemons,
        series,
        other,
        undo: asked.undo,
        word,
        typed: asked.confirm.map(str::to_owned),
    })
}

/// A restored schema is of the series that the run came from; the one that was in use, of that it
/// went to where it was finalized.
fn releases(plan: &Plan, newer: bool) -> (Series, Series) {
    if newer { (plan.to, plan.from) } else { (plan.from, plan.to) }
}

fn is_under_way(phase: RestorePhase) -> bool {
    matches!(phase, RestorePhase::Swap | RestorePhase::Done)
}

fn refuse_unusable(snapshot: &Snapshot, copy: &Copy) -> Result<()> {
    let why = match (copy.present, copy.verified_at) {
        (false, _) => "its file is gone",
        (_, None) => "it was never verified, or was found damaged",
        _ => return Ok(()),
    };
    Err(CliError::refused(
        "snapshot-not-verified",
        format!("snapshot {} of {} cannot be relied on: {why}", snapshot.id, copy.service),
    )
    .hint(format!("`volutus snapshot verify {}` tries to restore it in a scratch server.", snapshot.id)))
}

async fn refuse_missing(
    driver: &CloudDriver,
    daemons: &[(ServiceName, DaemonId, String)],
    series: Series,
) -> Result<()> {
    let ids: Vec<DaemonId> = daemons.iter().map(|(_, id, _)| id.clone()).collect();
    let missing = driver.missing_releases(&ids, series).await.map_err(trouble)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(CliError::refused(
        "release-missing",
        format!(
            "the restored databases need daemons of {series}, which is not on every host: {}",
            missing.join(", ")
        ),
    )
    .hint("Put it there with the `stage` command of the cloud description. Nothing was changed."))
}

/// A copy belongs to the code of its run: after a later upgrade it fits nothing that runs.
async fn refuse_other_release(
    context: &Context,
    driver: &CloudDriver,
    daemons: &[(ServiceName, DaemonId, String)],
    known: [Series; 2],
) -> Result<()> {
    let observation = driver.observe().await;
    let releases = &context.inventory.releases;
    let elsewhere: Vec<String> = daemons
        .iter()
        .filter_map(|(service, id, _)| {
            let runs = observation.daemons.get(id)?.value()?.release_path.value()?;
            let fits = known.iter().any(|series| releases.release_at(runs, *series, service).is_some());
            (!fits).then(|| format!("{id} runs from {runs}"))
        })
        .collect();
    if elsewhere.is_empty() {
        return Ok(());
    }
    let [from, to] = known;
    Err(CliError::refused(
        "other-release",
        format!(
            "the snapshot is of the hop from {from} to {to}, and the cloud has left it: {}",
            elsewhere.join(", ")
        ),
    )
    .hint("A later run took snapshots of its own: `volutus snapshot list`. Nothing was changed."))
}

/// Services after those that they need.
fn in_order<'a>(context: &Context, copies: Vec<&'a Copy>) -> Vec<&'a Copy> {
    let mut waiting = copies;
    let mut ordered: Vec<&Copy> = Vec::new();
    while !waiting.is_empty() {
        let free = |copy: &&Copy| {
            let after = context.catalog.services.get(&copy.service).map(|service| &service.after);
            after.is_none_or(|after| !waiting.iter().any(|other| after.contains(&other.service)))
        };
        // A circle in the catalog would be a defect; the order is then as it comes.
        let next = waiting.iter().position(free).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

fn daemons_of(context: &Context, losses: &[Loss<'_>]) -> Vec<(ServiceName, DaemonId, String)> {
    let mut found = Vec::new();
    for loss in losses {
        for (id, _, declared) in context.inventory.daemons() {
            let service = context.catalog.daemon(&id.kind).map(|(service, _)| &service.name);
            if service == Some(&loss.copy.service) {
                found.push((loss.copy.service.clone(), id, declared.unit.clone()));
            }
        }
    }
    found
}

impl Offer<'_> {
    /// Everything that a person has to know before consenting.
    pub fn statement(&self, now: Timestamp) -> String {
        let mut text = String::new();
        let what = if self.undo {
            "Taking the restore back puts in place again what was in use before it"
        } else {
            "The restore puts databases back to what they held then"
        };
        text.push_str(&format!(
            "Snapshot {} on {}. {what}. LOST is what was written since:\n",
            self.snapshot.id, self.snapshot.host
        ));
        for loss in &self.losses {
            let window = now.duration_since(loss.since).as_secs_f64();
            let made = loss.made.as_ref().map_or_else(|| "could not be counted".to_owned(), count_words);
            text.push_str(&format!(
                "  {}: from {} until now, {}; made in it: {made}\n",
                loss.copy.service,
                loss.since.strftime("%Y-%m-%d %H:%M:%S UTC"),
                show::duration(window),
            ));
        }
        let hosts: BTreeSet<_> = self.daemons.iter().map(|(_, id, _)| &id.host).collect();
        text.push_str(&format!(
            "Changes and deletions since then are lost as well, whoever made them. Instances go on running, but \
             what was made since is no longer known to OpenStack.\n\
             {} daemons on {} hosts are stopped and then started from {}: from the stop on, the APIs of {} do not \
             answer, for some minutes. The databases in use now are kept under other names, so that this can be \
             taken back (--undo).\n",
            self.daemons.len(),
            hosts.len(),
            self.series,
            self.losses.iter().map(|loss| loss.copy.service.as_str()).collect::<Vec<_>>().join(", "),
        ));
        text
    }
}

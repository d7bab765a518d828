//! The restore itself: beside what is in use, then daemons stop, tables are exchanged, daemons start.
//! Every part can be done again, so that the same command goes on after a kill.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};

use serde::Serialize;
use volutus_drivers::{CloudDriver, Restore, SnapshotError, SnapshotWork};
use volutus_model::name::{DaemonId, HostName};
use volutus_model::{Observation, ServiceName};
use volutus_store::Store;

use crate::args::Format;
use crate::commands::print_json;
use crate::commands::snapshot::offer::{Loss, Offer};
use crate::commands::snapshot::{Held, count_words, say};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Daemons of a whole cloud start within this, or something keeps them from it.
const SERVING_LIMIT: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct Report<'a> {
    snapshot: &'a str,
    undone: bool,
    stopped_s: f64,
    services: Vec<ServiceReport<'a>>,
}

#[derive(Serialize)]
struct ServiceReport<'a> {
    service: &'a ServiceName,
    lost_since: jiff::Timestamp,
    lost_s: f64,
    made: Option<&'a BTreeMap<String, u64>>,
    kept: BTreeMap<String, String>,
}

/// Says what would be lost, asks, and restores.
pub async fn consented(
    context: &Context,
    store: &Store,
    driver: &CloudDriver,
    offer: &Offer<'_>,
    output: Format,
) -> Result<()> {
    anstream::eprint!("{}", offer.statement(Context::now()));
    consent(offer)?;
    let held = Held::take(context, store)?;
    let work = Work { context, driver, offer, held };
    let (stopped_s, ended_at, kept) = work.carry_out().await?;
    let report = Report {
        snapshot: &offer.snapshot.id,
        undone: offer.undo,
        stopped_s,
        services: offer
            .losses
            .iter()
            .zip(kept)
            .map(|(loss, kept)| ServiceReport {
                service: &loss.copy.service,
                lost_since: loss.since,
                lost_s: ended_at.duration_since(loss.since).as_secs_f64(),
                made: loss.made.as_ref(),
                kept,
            })
            .collect(),
    };
    match output {
        Format::Json => print_json(&report),
        Format::Table => {
            for each in &report.services {
                anstream::println!(
                    "{}: lost is what was written in the {} from {} on ({}); what was in use is kept in {}",
                    each.service,
                    show::duration(each.lost_s),
                    each.lost_since.strftime("%Y-%m-%d %H:%M:%S UTC"),
                    each.made.map_or_else(|| "not counted".to_owned(), count_words),
                    each.kept.values().cloned().collect::<Vec<_>>().join(", "),
                );
            }
            anstream::println!(
                "All daemons run {}; they were stopped for {}.",
                offer.series,
                show::duration(stopped_s)
            );
            Ok(())
        }
    }
}

fn consent(offer: &Offer<'_>) -> Result<()> {
    let refused = |message: &str| {
        CliError::refused("no-consent", message)
            .hint(format!("Scripts say `--confirm {}`; nothing was changed.", offer.word))
    };
    let typed = match &offer.typed {
        Some(typed) => typed.clone(),
        None if std::io::stdin().is_terminal() => {
            let what = if offer.losses.len() == 1 { "the service's name" } else { "the run's id" };
            anstream::eprint!("\nType {what} in full ({}) to lose that: ", offer.word);
            let mut answer = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut answer)
                .map_err(|error| refused("the answer could not be read").because(&error))?;
            answer
        }
        None => return Err(refused("a restore has to be consented to, and there is no terminal to ask at")),
    };
    if typed.trim() == offer.word { Ok(()) } else { Err(refused("what was typed is not what was asked for")) }
}

struct Work<'a> {
    context: &'a Context,
    driver: &'a CloudDriver,
    offer: &'a Offer<'a>,
    held: Held,
}

impl Work<'_> {
    async fn carry_out(&self) -> Result<(f64, jiff::Timestamp, Vec<BTreeMap<String, String>>)> {
        let losses = &self.offer.losses;
        if !self.offer.undo {
            for loss in losses {
                self.held.check()?;
                if let Err(error) = self.on(loss, SnapshotWork::Prepare).await {
                    if !matches!(error, SnapshotError::Unseen(_)) {
                        self.cancel().await;
                    }
                    return Err(failed(
                        &error,
                        "nothing that is in use was touched, and no daemon was stopped",
                    )
                    .hint("Mend what is said, and give the command again."));
                }
            }
        }
        self.held.check()?;
        let stopped = Instant::now();
        let exchange = if self.offer.undo { SnapshotWork::Undo } else { SnapshotWork::Swap };
        if let Err(error) = self.systemctl(false).await {
            return Err(self.given_back(&error, "not every daemon stopped", exchange).await);
        }
        let ended_at = Context::now();
        let mut kept = Vec::new();
        for loss in losses {
            if let Err(lost) = self.held.check() {
                return Err(CliError::new(
                    lost.kind,
                    lost.code,
                    format!("{}; the daemons of {} are stopped", lost.message, self.services()),
                )
                .hint(
                    "See who works on the cloud now (`volutus status`); give the command again once \
                       nobody does: it goes on from there.",
                ));
            }
            match self.on(loss, exchange).await {
                Ok(restore) => kept.push(if self.offer.undo { restore.undone } else { restore.before }),
                Err(error) if kept.is_empty() => {
                    return Err(self.given_back(&error, "no database was exchanged", exchange).await);
                }
                Err(error) => {
                    return Err(failed(
                        &error,
                        "some services have their databases exchanged and others have not; all their daemons are stopped",
                    )
                    .hint("Mend what is said, and give the command again: it goes on from there. `--undo` with the \
                           services that were exchanged takes them back."));
                }
            }
        }
        self.start().await?;
        self.serving().await?;
        if !self.offer.undo {
            for loss in losses {
                self.on(loss, SnapshotWork::End)
                    .await
                    .map_err(|error| failed(&error, "daemons run on the restored databases"))?;
            }
        }
        Ok((stopped.elapsed().as_secs_f64(), ended_at, kept))
    }

    async fn on(&self, loss: &Loss<'_>, what: SnapshotWork) -> Result<Restore, SnapshotError> {
        let value = self.driver.work_on_snapshot(self.offer.snapshot, &loss.copy.service, what, &say).await?;
        serde_json::from_value(value).map_err(|error| SnapshotError::Failed(error.to_string()))
    }

    /// Takes away what was prepared; what cannot be is dropped by the next restore.
    async fn cancel(&self) {
        for loss in &self.offer.losses {
            let service = &loss.copy.service;
            let done = self.driver.work_on_snapshot(self.offer.snapshot, service, SnapshotWork::Cancel, &say);
            if let Err(error) = done.await {
                tracing::warn!(%error, %service, "what was restored beside the databases stays until the next restore");
            }
        }
    }

    fn units(&self) -> BTreeMap<&HostName, Vec<String>> {
        let mut units: BTreeMap<&HostName, Vec<String>> = BTreeMap::new();
        for (_, id, unit) in &self.offer.daemons {
            units.entry(&id.host).or_default().push(unit.clone());
        }
        units
    }

    async fn systemctl(&self, start: bool) -> Result<(), SnapshotError> {
        let verb = if start { "starting" } else { "stopping" };
        say(format!("{verb} {} daemons", self.offer.daemons.len()));
        let units = self.units();
        if start {
            self.driver.start_units(&units, &say).await
        } else {
            self.driver.stop_units(&units, &say).await
        }
    }

    /// Starts daemons again as they were, where their databases are seen to be as they were, and
    /// tells what is so now.
    async fn given_back(&self, error: &SnapshotError, what: &str, exchange: SnapshotWork) -> CliError {
        const AGAIN: &str = "Mend what is said, and give the command again: it goes on from there.";
        // Whoever was not seen to end may still exchange tables, or may just have done it.
        let untouched = !matches!(error, SnapshotError::Unseen(_)) && self.is_untouched(exchange).await;
        if !untouched {
            let state = format!(
                "it is not sure that every database is as it was, so the daemons of {} are left stopped",
                self.services()
            );
            return failed(error, &state).hint(AGAIN);
        }
        let started = self.systemctl(true).await;
        if exchange == SnapshotWork::Swap {
            self.cancel().await;
        }
        match started {
            Ok(()) => failed(error, &format!("{what}; daemons were started again as they were")).hint(AGAIN),
            Err(not) => failed(error, &format!("{what}; but not every daemon started again: {not}"))
                .hint("Start them by hand (`volutus observe` names them); then mend what is said, and give the command again."),
        }
    }

    /// Whether the database host says of every service that no table of it was exchanged.
    async fn is_untouched(&self, exchange: SnapshotWork) -> bool {
        let restores = match self.driver.snapshots().await {
            Ok((_, restores)) => restores,
            Err(error) => {
                tracing::warn!(%error, "how far the restore has come could not be seen");
                return false;
            }
        };
        self.offer.losses.iter().all(|loss| {
            let own = |each: &&Restore| {
                each.service == loss.copy.service && each.snapshot == self.offer.snapshot.id
            };
            restores.iter().find(own).is_none_or(|restore| !restore.has_exchanged(exchange))
        })
    }

    fn services(&self) -> String {
        let names: Vec<&str> = self.offer.losses.iter().map(|loss| loss.copy.service.as_str()).collect();
        names.join(", ")
    }

    /// Service by service, since later ones need earlier ones.
    async fn start(&self) -> Result<()> {
        for loss in &self.offer.losses {
            say(format!("starting {}'s daemons from {}", loss.copy.service, self.offer.series));
            let own: Vec<DaemonId> = self
                .offer
                .daemons
                .iter()
                .filter(|(service, _, _)| *service == loss.copy.service)
                .map(|(_, daemon, _)| daemon.clone())
                .collect();
            self.driver.start_from(&own, self.offer.series, self.offer.other, &say).await.map_err(
                |error| {
                    failed(&error, "databases are in place, but not every daemon started")
                        .hint("Mend what is said, and give the command again: it goes on from there.")
                },
            )?;
        }
        Ok(())
    }

    /// Waits until every daemon was seen running the release that its databases belong to, and its
    /// load balancer takes it for up.
    async fn serving(&self) -> Result<()> {
        let deadline = Instant::now() + SERVING_LIMIT;
        let releases = &self.context.inventory.releases;
        loop {
            let observation = self.driver.observe().await;
            let missing: Vec<String> = self
                .offer
                .daemons
                .iter()
                .filter(|(service, id, _)| {
                    let path = releases.path_of(self.offer.series, service);
                    let runs = observation.daemons.get(id).and_then(|fact| fact.value());
                    !runs.is_some_and(|daemon| {
                        daemon.active_state == "active" && daemon.release_path.value() == Some(&path)
                    })
                })
                .map(|(_, id, _)| id.to_string())
                .chain(self.behind_their_backends(&observation))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CliError::new(
                    Kind::Cloud,
                    "not-serving",
                    format!("databases are in place, but these do not serve from {}: {}", self.offer.series, missing.join(", ")),
                )
                .hint("See their logs; mend the cause and give the command again, or take the restore back with `--undo`."));
            }
            say(format!("waiting for {} daemons", missing.len()));
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }

    /// Replicas that their load balancer does not send requests to.
    fn behind_their_backends(&self, observation: &Observation) -> Vec<String> {
        let mut down = Vec::new();
        for (_, id, _) in &self.offer.daemons {
            let Some((host, declared)) = self.context.inventory.daemon(id) else { continue };
            let name = declared.server_name(&host.name);
            for backend in &declared.backends {
                let servers = observation.backends.get(backend).and_then(|fact| fact.value());
                let server = servers.and_then(|servers| servers.iter().find(|server| server.name == name));
                let status = server.map_or("unseen", |server| server.status.as_str());
                if !status.starts_with("UP") && status != "no check" {
                    down.push(format!("{backend}/{name} ({status})"));
                }
            }
        }
        down
    }
}

fn failed(error: &SnapshotError, state: &str) -> CliError {
    let kind = match error {
        SnapshotError::Failed(_) => Kind::Stopped,
        SnapshotError::Trouble(_) | SnapshotError::Unseen(_) => Kind::Cloud,
    };
    CliError::new(kind, "restore-stopped", format!("the restore stopped: {state}")).because(error)
}

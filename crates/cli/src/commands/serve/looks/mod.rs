//! Looks for new releases: locks what is found, and tells of what is new. Nothing is upgraded by it.

mod file;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use volutus_model::run::RunStatus;
use volutus_model::{LockName, Series};
use volutus_notices::{Facts, Moment, NewRelease, What};
use volutus_releases::{Error, Release};
use volutus_store::{Store, Subject};

pub use self::file::{LookedAt, Looks, Which};
use self::memory::Untold;
pub use self::memory::{Looked, Memory};
use super::clock::Clock;
use crate::commands::glances::Glances;
use crate::commands::notice::Notices;
use crate::commands::plan::store_error;
use crate::commands::release::lock::{Held, Lookup, held_against, keep};
use crate::commands::release::{kept, release_error};
use crate::context::Context;
use crate::error::{CliError, Result};

/// How long the first look waits: a machine that has just started may have no network yet, and one whose server
/// starts again and again asks nobody.
pub const FIRST: Duration = Duration::from_secs(60);

/// How often it is looked whether a look is due; sources are asked in hours.
pub const PERIOD: Duration = Duration::from_secs(30);

/// One look: at a source, for a series.
pub struct Job<'a> {
    /// The series, or why it is not known.
    pub series: Result<Series>,
    /// Where.
    pub source: &'a LookedAt,
    /// What the look is remembered by.
    pub key: String,
}

impl Looks {
    /// Every look there is, each once.
    pub fn jobs(&self, context: &Context, store: &Store, glances: &Glances) -> Vec<Job<'_>> {
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for source in &self.sources {
            for which in &source.series {
                let series = match which {
                    Which::Named(series) => Ok(*series),
                    Which::Next => next_series(context, store, glances),
                };
                let named = series.as_ref().map_or_else(|_| "next".to_owned(), Series::to_string);
                let key = format!("{named} {}", source.key);
                if jobs.iter().all(|job| job.key != key) {
                    jobs.push(Job { series, source, key });
                }
            }
        }
        jobs
    }
}

/// The series after the one that runs: as the latest run of an upgrade left the cloud, or as the latest plan found it.
fn next_series(context: &Context, store: &Store, glances: &Glances) -> Result<Series> {
    let cloud = &context.inventory.name;
    let plans = store.plans().map_err(store_error)?;
    let plans = plans.into_iter().filter(|plan| plan.cloud == *cloud).filter_map(|plan| match plan.subject {
        Subject::Upgrade { from, to } => Some((plan, from, to)),
        Subject::Reboot => None,
    });
    let plans: Vec<_> = plans.collect();
    let runs = store.runs().map_err(store_error)?;
    let run = runs.iter().find(|run| run.cloud == *cloud);
    let of_run =
        run.and_then(|run| plans.iter().find(|(plan, ..)| plan.id == run.plan).map(|plan| (run, plan)));
    let runs = match (of_run, plans.first()) {
        (Some((run, (_, from, to))), Some((latest, ..))) if run.created_at >= latest.created_at => {
            match glances.status(store, run)? {
                RunStatus::AwaitingFinalize | RunStatus::Succeeded => *to,
                // Until all is replaced the older one still runs.
                _ => *from.min(to),
            }
        }
        (_, Some((_, from, _))) => *from,
        (_, None) => {
            let message = "which series runs is not known, because nothing was planned for this cloud yet";
            return Err(CliError::refused("unknown-series", message)
                .hint("`volutus plan` looks at the cloud; or name the series in the file of --releases."));
        }
    };
    runs.next().ok_or_else(|| CliError::refused("unknown-series", format!("no series is known after {runs}")))
}

/// Where what is to be read in the log goes.
pub type Log = Box<dyn FnMut(&str) + Send>;

/// The one that looks.
pub struct Looker {
    context: Arc<Context>,
    store: Store,
    clock: Clock,
    looks: Arc<Looks>,
    glances: Arc<Glances>,
    memory: Memory,
    /// The last looks; the store may be out of room, and nobody is asked more often for that.
    looked: BTreeMap<String, Looked>,
    /// Where what is to be read in the log goes.
    log: Log,
    /// What is wrong with what is at hand, now and the time before, so that it is said once.
    wrong: [Vec<String>; 2],
}

/// What came of a look that reached its source.
enum Came {
    /// All that is locked of the series now.
    Release(LockName),
    /// The series is not there, or not all of it.
    NotYet(String),
}

impl Looker {
    /// Remembers what earlier processes looked at.
    pub fn new(
        context: Arc<Context>,
        store: Store,
        clock: Clock,
        looks: Arc<Looks>,
        glances: Arc<Glances>,
        log: Log,
    ) -> Result<Self> {
        let memory = Memory::of(&context.inventory.name, &store);
        let looked = memory.looked()?;
        Ok(Self { context, store, clock, looks, glances, memory, looked, log, wrong: Default::default() })
    }

    /// Looks, until it is stopped: also in the middle of a look, which is taken again after the next start.
    pub async fn work(mut self, mut stopped: watch::Receiver<bool>, first: Duration, period: Duration) {
        let looking = async {
            tokio::time::sleep(first).await;
            loop {
                self.look().await;
                tokio::time::sleep(period).await;
            }
        };
        tokio::select! {
            biased;
            _stopped_or_nobody_can = stopped.wait_for(|stop| *stop) => {}
            () = looking => {}
        }
    }

    /// Takes every look that is due, one after the other, and tells what is to be told. What goes wrong is said and
    /// stops nothing else.
    pub async fn look(&mut self) {
        self.wrong.swap(0, 1);
        self.wrong[0].clear();
        let (looks, store) = (self.looks.clone(), self.store.clone());
        for job in looks.jobs(&self.context, &store, &self.glances) {
            match self.clock.now() {
                Ok(now) if self.is_due(&job.key, now) => self.take(&job).await,
                Ok(_) => {}
                Err(error) => self.say_once(&error),
            }
        }
        if let Err(error) = self.tell() {
            self.say_once(&error);
        }
    }

    fn is_due(&self, key: &str, now: Timestamp) -> bool {
        self.looked.get(key).is_none_or(|looked| looked.next(self.looks.every, now) <= now)
    }

    fn say_once(&mut self, error: &CliError) {
        if !self.wrong.iter().flatten().any(|said| *said == error.message) {
            (self.log)(&format!("looks for new releases: {error}"));
        }
        self.wrong[0].push(error.message.clone());
    }

    /// Takes one look, and remembers it.
    async fn take(&mut self, job: &Job<'_>) {
        let came = self.ask(job).await;
        let Ok(at) = self.clock.now() else { return };
        let before = self.looked.get(&job.key);
        let (failed, release) = before.map_or((0, None), |looked| (looked.failures, looked.release.clone()));
        let of = match &job.series {
            Ok(series) => format!("releases of {series} at {}", job.source.told),
            Err(_) => format!("releases at {}", job.source.told),
        };
        let looked = match came {
            Ok(Came::Release(name)) => Looked { at, failures: 0, why: None, release: Some(name) },
            Ok(Came::NotYet(why)) => Looked { at, failures: 0, why: Some(why), release },
            Err(error) => {
                let why = Some(error.message.clone());
                let looked = Looked { at, failures: failed.saturating_add(1), why, release };
                if failed == 0 {
                    let wait = looked.wait(self.looks.every).as_mins();
                    (self.log)(&format!(
                        "looking for {of} failed; it is tried again in {wait} minutes, and then ever later\n{error}"
                    ));
                }
                looked
            }
        };
        if failed > 0 && looked.failures == 0 {
            (self.log)(&format!("looking for {of} works again"));
        }
        let remembered = self.memory.keep_looked(&job.key, &looked);
        self.looked.insert(job.key.clone(), looked);
        if let Err(error) = remembered {
            self.say_once(&error);
        }
    }

    /// Asks the source, and locks what it has.
    async fn ask(&mut self, job: &Job<'_>) -> Result<Came> {
        let series = match &job.series {
            Ok(series) => *series,
            Err(error) => return Err(CliError::refused(error.code, error.message.clone())),
        };
        let lookup = Lookup::new(&self.context, series, &job.source.options)?;
        let found = lookup.look(&self.context).await;
        let all = kept(&self.store)?;
        let packages = match found {
            Ok(found) => found.packages,
            // On the day of a release its packages come one after the other. What was there once does not go.
            Err(error @ Error::NoVersion { .. })
                if all.iter().all(|(_, release)| release.series != series) =>
            {
                return Ok(Came::NotYet(error.to_string()));
            }
            Err(error) => return Err(release_error(&error)),
        };
        let release = Release::new(None, series, lookup.source, packages);
        let before = match held_against(&all, &release, None)? {
            Held::Same { release, .. } => return Ok(Came::Release(release.name.clone())),
            Held::New { before } => before.cloned(),
        };
        let now = self.clock.now()?;
        self.memory.keep_untold(&release.name, &Untold { before: before.clone() }, now)?;
        keep(&self.store, &release, now)?;
        let name = &release.name;
        let what = before.map_or_else(
            || format!("volutus release show {name}"),
            |before| format!("volutus release diff {before} {name}"),
        );
        (self.log)(&format!("{} of {series} is new at {}: {what}", release.name, job.source.told));
        Ok(Came::Release(release.name))
    }

    /// Queues what people are to be told of releases that are new.
    fn tell(&mut self) -> Result<()> {
        let untold = self.memory.untold()?;
        if untold.is_empty() {
            return Ok(());
        }
        let (all, notices) = (kept(&self.store)?, Notices::load(&self.context, &self.store)?);
        for (name, Untold { before }) in untold {
            // One that could not be kept is found again.
            let release = all.iter().find(|(_, release)| release.name.as_str() == name);
            if let (Some((at, release)), Some(notices)) = (release, &notices) {
                notices.queue(&facts(self.context.inventory.name.as_str(), *at, release, before))?;
            }
            self.memory.forget_untold(&name)?;
        }
        Ok(())
    }
}

/// What there is to tell of a release that is new.
fn facts(cloud: &str, at: Timestamp, release: &Release, before: Option<LockName>) -> Facts {
    Facts {
        cloud: cloud.to_owned(),
        moment: Moment::NewRelease,
        what: What::Upgrade,
        plan: String::new(),
        run: None,
        from: String::new(),
        to: release.series.to_string(),
        begins: at,
        ended: None,
        expected_s: 0,
        services: Vec::new(),
        instances: Vec::new(),
        requests: None,
        cause: None,
        schedule: None,
        release: Some(NewRelease {
            name: release.name.to_string(),
            source: format!("{} {}", release.source.kind, release.source.at),
            before: before.map(|before| before.to_string()),
        }),
    }
}

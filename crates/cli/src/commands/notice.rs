//! `volutus notice`, and what a run tells by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use volutus_model::fleet::RebootPlan;
use volutus_model::run::{RunState, RunStatus};
use volutus_model::{Plan, PlanKind, RunId};
use volutus_notices::{
    Config, Deliverer, ENTRIES_MAX, Error, Facts, Key, Moment, NewRelease, Occurrence, Settling, Templates,
    What, atom, deliver_due, expected_impact, messages, status_page,
};
use volutus_store::{AnyPlan, FEED, Store};

use crate::args::{AnnounceArgs, Format, NoticeCommand, NoticeMoment, PreviewArgs, PublishForm};
use crate::commands::drains;
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// The name of the file beside the cloud description.
const FILE: &str = "notices.toml";
/// Between two looks at the queue while a run lasts.
const LOOK: Duration = Duration::from_secs(3);
/// What is still to be sent at the end of a run may hold its process up for so long, and then waits for
/// the next one.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// `volutus notice`
pub async fn run(context: &Context, command: &NoticeCommand) -> Result<()> {
    let store = context.store()?;
    match command {
        NoticeCommand::Preview(args) => preview(context, &store, args),
        NoticeCommand::Announce(args) => announce(context, &store, args).await,
        NoticeCommand::List { last, output } => list(context, &store, *last, *output),
        NoticeCommand::Deliver => {
            let settling = Notices::needed(context, &store)?.deliver().await?;
            anstream::println!("{}", in_words(settling));
            Ok(())
        }
        NoticeCommand::Retry { id } => retry(&store, *id),
        NoticeCommand::Publish { form } => publish(context, &store, *form),
    }
}

/// Those who are told, and how.
pub struct Notices {
    config: Config,
    templates: Templates,
    /// What signs links by which owners answer, where the file says where they lead.
    key: Option<Key>,
    deliverer: Deliverer,
    store: Store,
    cloud: String,
}

impl Notices {
    /// What the file says; `None` where there is none.
    pub fn load(context: &Context, store: &Store) -> Result<Option<Self>> {
        Self::file(context).map(|path| Self::read(context, store, &path)).transpose()
    }

    /// The file that says who is told what; `None` where there is none.
    pub fn file(context: &Context) -> Option<PathBuf> {
        let beside = context.base().join(FILE);
        match &context.notices {
            Some(path) => Some(path.clone()),
            None => Some(beside).filter(|beside| beside.exists()),
        }
    }

    /// How many days ahead what a schedule will begin is told; `None` where it is not.
    pub fn before_days(context: &Context) -> Result<Option<u16>> {
        let Some(path) = Self::file(context) else { return Ok(None) };
        Ok(read_config(&path)?.before_days)
    }

    fn needed(context: &Context, store: &Store) -> Result<Self> {
        Self::load(context, store)?.ok_or_else(|| {
            let place = context.base().join(FILE);
            CliError::refused(
                "no-notices",
                format!("nothing says who is to be told: there is no {}", place.display()),
            )
            .hint("Write one (docs/operating/notices.md), or name it with --notices FILE.")
        })
    }

    fn read(context: &Context, store: &Store, path: &Path) -> Result<Self> {
        let base = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let malformed = |error: Error| malformed(path, &error);
        let config = read_config(path)?;
        let asks = config.confirm_url.is_some();
        let state = store.path().parent().unwrap_or(Path::new("."));
        let key = asks.then(|| Key::make(state)).transpose().map_err(|error| {
            CliError::refused("no-confirm-key", "links by which owners answer cannot be signed")
                .because(&error)
        })?;
        Ok(Self {
            key,
            templates: Templates::load(&config, &base).map_err(malformed)?,
            deliverer: Deliverer::new(&config, &base).map_err(malformed)?,
            config,
            store: store.clone(),
            cloud: context.inventory.name.to_string(),
        })
    }

    fn messages(&self, facts: &Facts) -> Result<Vec<volutus_store::NewNotice>> {
        messages(&self.config, &self.templates, self.key.as_ref(), facts).map_err(|error| {
            CliError::refused("malformed-notices", error.to_string())
                .hint("`volutus notice preview PLAN --moment MOMENT` shows a text without sending it.")
        })
    }

    /// Queues what is to be told; what was queued before is not queued again.
    pub fn queue(&self, facts: &Facts) -> Result<usize> {
        let messages = self.messages(facts)?;
        self.store.queue_notices(&self.cloud, &messages, Context::now()).map_err(store_error)
    }

    /// Sends what is due.
    pub async fn deliver(&self) -> Result<Settling> {
        deliver_due(&self.store, &self.cloud, &self.deliverer, Context::now).await.map_err(store_error)
    }
}

fn read_config(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-notices", format!("could not read {}", path.display())).because(&error)
    })?;
    Config::parse(&text).map_err(|error| malformed(path, &error))
}

fn malformed(path: &Path, error: &Error) -> CliError {
    CliError::refused("malformed-notices", format!("{}: {error}", path.display()))
        .hint("docs/operating/notices.md shows every key and every word of a template.")
}

/// What a run tells while it lasts. Nothing of it can hold the run up or end it: what goes wrong is
/// logged, and what was not sent stays queued.
pub struct Telling {
    notices: Option<Arc<Notices>>,
    end: Arc<Notify>,
    sending: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins to send what is queued.
    pub fn begin(context: &Context, store: &Store) -> Self {
        let notices = match Notices::load(context, store) {
            Ok(notices) => notices.map(Arc::new),
            Err(error) => {
                tracing::warn!("nobody is told of this run: {}", error.message);
                None
            }
        };
        let end = Arc::new(Notify::new());
        let sending = notices.clone().map(|notices| tokio::spawn(send(notices, end.clone())));
        Self { notices, end, sending }
    }

    /// Tells that a run begins, unless it is long under way.
    pub fn tell_start(&self, store: &Store, run: &RunId, plan: &Plan, state: &RunState) {
        if state.rolled_at.is_none() && !plan.kind.is_rollback() {
            self.tell(|| run_facts(store, run, plan, state, Moment::Start));
        }
    }

    /// Tells how a run ended, or that it stands still.
    pub fn tell_end(&self, store: &Store, run: &RunId, plan: &Plan, state: &RunState) {
        let moment = match state.status {
            RunStatus::AwaitingFinalize | RunStatus::Succeeded if plan.kind.is_rollback() => {
                Moment::RolledBack
            }
            RunStatus::AwaitingFinalize | RunStatus::Succeeded => Moment::End,
            RunStatus::Halted | RunStatus::Aborted => Moment::Halted,
            RunStatus::Paused | RunStatus::Running | RunStatus::Aborting => return,
        };
        self.tell(|| run_facts(store, run, plan, state, moment));
    }

    fn tell(&self, facts: impl FnOnce() -> Result<Facts>) {
        let Some(notices) = &self.notices else { return };
        if let Err(error) = facts().and_then(|facts| notices.queue(&facts)) {
            tracing::warn!("people could not be told: {}", error.message);
        }
    }

    /// Sends what is left, for a while.
    pub async fn finish(mut self) {
        let Some(sending) = self.sending.take() else { return };
        self.end.notify_one();
        if tokio::time::timeout(LAST_WORDS, sending).await.is_err() {
            tracing::warn!("some notices wait for the next run, or for `volutus notice deliver`");
        }
    }
}

impl Drop for Telling {
    /// A run that broke off leaves nobody behind who goes on sending.
    fn drop(&mut self) {
        self.end.notify_one();
    }
}

async fn send(notices: Arc<Notices>, end: Arc<Notify>) {
    loop {
        let last = tokio::time::timeout(LOOK, end.notified()).await.is_ok();
        if let Err(error) = notices.deliver().await {
            tracing::warn!("notices wait: {}", error.message);
        }
        if last {
            return;
        }
    }
}

/// What there is to tell of a run.
fn run_facts(store: &Store, run: &RunId, plan: &Plan, state: &RunState, moment: Moment) -> Result<Facts> {
    let mut facts = plan_facts(store, plan, moment, state.started_at.unwrap_or_else(Context::now))?;
    facts.run = Some(run.to_string());
    facts.ended = state.rolled_at.or(state.last_at);
    facts.cause.clone_from(&state.halt_cause);
    if matches!(moment, Moment::End | Moment::RolledBack) {
        let verdict = store.verdict(run).map_err(store_error)?;
        facts.requests = verdict.map(|verdict| (verdict.requests_failed, verdict.requests_total));
    }
    Ok(facts)
}

/// What there is to tell of a plan.
pub fn plan_facts(store: &Store, plan: &Plan, moment: Moment, begins: Timestamp) -> Result<Facts> {
    let (what, instances) = match &plan.kind {
        PlanKind::Upgrade => {
            let reboot = drains::find(store, plan)?;
            (What::Upgrade, reboot.map(|reboot| volutus_notices::fates(&reboot, moment)).unwrap_or_default())
        }
        PlanKind::Rollback { .. } => (What::Rollback, Vec::new()),
        PlanKind::Patch { .. } | PlanKind::Mitigation { .. } => (What::Patch, Vec::new()),
        PlanKind::Reboot { of, .. } => {
            let instances = match store.find_any_plan(of.as_str()).map_err(store_error)? {
                AnyPlan::Reboot(reboot) => volutus_notices::fates(&reboot, moment),
                AnyPlan::Upgrade(_) => Vec::new(),
            };
            (What::Reboot, instances)
        }
    };
    let estimate = volutus_planner::estimate(plan);
    Ok(Facts {
        cloud: plan.cloud.to_string(),
        moment,
        what,
        plan: plan.id.to_string(),
        run: None,
        from: plan.from.to_string(),
        to: plan.to.to_string(),
        begins,
        ended: None,
        expected_s: estimate.baseline_s + estimate.roll_s + estimate.soak_s,
        services: expected_impact(plan),
        instances,
        requests: None,
        cause: None,
        schedule: None,
        release: None,
    })
}

/// What there is to tell of a reboot before its steps are made.
fn reboot_facts(plan: &RebootPlan, moment: Moment, begins: Timestamp) -> Facts {
    Facts {
        cloud: plan.content.cloud.to_string(),
        moment,
        what: What::Reboot,
        plan: plan.id.to_string(),
        run: None,
        from: String::new(),
        to: String::new(),
        begins,
        ended: None,
        expected_s: plan.content.figures.makespan_ms / 1_000,
        services: Vec::new(),
        instances: volutus_notices::fates(plan, moment),
        requests: None,
        cause: None,
        schedule: None,
        release: None,
    }
}

fn facts_of(store: &Store, plan: &str, moment: Moment, begins: Timestamp) -> Result<Facts> {
    match store.find_any_plan(plan).map_err(store_error)? {
        AnyPlan::Upgrade(plan) => plan_facts(store, &plan, moment, begins),
        AnyPlan::Reboot(plan) => Ok(reboot_facts(&plan, moment, begins)),
    }
}

const fn moment_of(moment: NoticeMoment) -> Moment {
    match moment {
        NoticeMoment::Before => Moment::Before,
        NoticeMoment::Start => Moment::Start,
        NoticeMoment::End => Moment::End,
        NoticeMoment::RolledBack => Moment::RolledBack,
        NoticeMoment::Halted => Moment::Halted,
        NoticeMoment::Missed => Moment::Missed,
        NoticeMoment::Held => Moment::Held,
        NoticeMoment::NewRelease => Moment::NewRelease,
    }
}

fn preview(context: &Context, store: &Store, args: &PreviewArgs) -> Result<()> {
    let notices = Notices::needed(context, store)?;
    let begins = args.at.unwrap_or_else(Context::now);
    let mut facts = facts_of(store, &args.plan, moment_of(args.moment), begins)?;
    if facts.moment != Moment::Before {
        // What only a run can say is made up, so that every word of a template is seen.
        facts.run = Some("RUN".to_owned());
        let takes = jiff::SignedDuration::from_secs(i64::try_from(facts.expected_s).unwrap_or(i64::MAX));
        facts.ended = begins.checked_add(takes).ok();
        facts.requests = Some((0, 1_000));
        facts.cause = Some("an example of a cause".to_owned());
        if facts.moment.is_of_schedule() {
            facts.schedule = Some(Occurrence { name: "SCHEDULE".to_owned(), due: begins });
        }
        if facts.moment == Moment::NewRelease {
            let (name, source) = (format!("{}-RELEASE", facts.to), "SOURCE".to_owned());
            facts.release = Some(NewRelease { name, source, before: Some(format!("{}-BEFORE", facts.to)) });
        }
        if facts.moment == Moment::RolledBack && facts.what == What::Upgrade {
            facts.what = What::Rollback;
            std::mem::swap(&mut facts.from, &mut facts.to);
        }
    }
    let made = notices.messages(&facts)?;
    for one in &made {
        anstream::print!("{}", show::notice::render_message(one));
    }
    let people = made.iter().filter(|one| one.channel != FEED).count();
    anstream::eprintln!("{people} would be sent. Nothing was.");
    Ok(())
}

async fn announce(context: &Context, store: &Store, args: &AnnounceArgs) -> Result<()> {
    if args.at <= Context::now() {
        return Err(CliError::refused("past", format!("{} is in the past", args.at)));
    }
    let notices = Notices::needed(context, store)?;
    let facts = facts_of(store, &args.plan, Moment::Before, args.at)?;
    let new = notices.queue(&facts)?;
    let settling = notices.deliver().await?;
    anstream::println!("{new} new notices; {}", in_words(settling));
    Ok(())
}

fn in_words(settling: Settling) -> String {
    let Settling { sent, later, lost } = settling;
    format!("{sent} sent, {later} to be tried again, {lost} not taken (`volutus notice list`)")
}

fn list(context: &Context, store: &Store, last: u32, output: Format) -> Result<()> {
    let notices = store.notices(context.inventory.name.as_str(), last).map_err(store_error)?;
    match output {
        Format::Json => print_json(&notices),
        Format::Table => {
            anstream::print!("{}", show::notice::render(&notices));
            Ok(())
        }
    }
}

/// `volutus confirmations`
pub fn confirmations(context: &Context, output: Format) -> Result<()> {
    let all = context.store()?.confirmations(context.inventory.name.as_str()).map_err(store_error)?;
    match output {
        Format::Json => print_json(&all),
        Format::Table => {
            anstream::print!("{}", show::notice::render_confirmations(&all));
            Ok(())
        }
    }
}

fn retry(store: &Store, id: i64) -> Result<()> {
    if store.requeue_notice(id, Context::now()).map_err(store_error)? {
        anstream::println!("notice {id} waits to be sent: `volutus notice deliver`");
        return Ok(());
    }
    Err(CliError::refused(
        "not-found",
        format!("notice {id} was not refused, and it is known whether it left"),
    )
    .hint("`volutus notice list` shows which failed or are unsure."))
}

fn publish(context: &Context, store: &Store, form: PublishForm) -> Result<()> {
    let cloud = context.inventory.name.as_str();
    let notices = store.public_notices(cloud, ENTRIES_MAX).map_err(store_error)?;
    let text = match form {
        PublishForm::Atom => atom(cloud, Context::now(), &notices),
        PublishForm::Html => status_page(cloud, Context::now(), &notices),
    };
    anstream::print!("{text}");
    Ok(())
}

//! `volutus schedule add`, `schedule list`, `schedule remove`, and `volutus calendar`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::{TimeZoneDatabase, db};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use volutus_schedule::{
    Entry, Facts, Interval, Next, Openings, Rule, Schedule, Scope, Windows, calendar, not_done, read_ics,
    write_ics,
};
use volutus_store::Store;

use crate::args::{CalendarArgs, CalendarFormat, Format, ScheduleAddArgs, ScheduleArgs, ScheduleCommand};
use crate::commands::glances::Glances;
use crate::commands::plan::{series, store_error};
use crate::commands::serve::firing::{Deeds, Firing};
use crate::commands::{print_json, release};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// The name of the file of windows beside the cloud description.
const WINDOWS: &str = "windows.toml";

/// How far back is looked for what was not done.
const BACK_DAYS: i64 = 92;

/// How far ahead imported calendars are read: a year and a bit, for what is due after a release.
const AHEAD_DAYS: i64 = 400;

/// How far freezes are read from calendars: a year of calendar, and what may wait behind it.
const FREEZES_DAYS: i64 = 500;

/// Past runs whose durations count.
const RUNS_MAX: usize = 5;

/// Adds, lists or removes schedules.
pub fn run(context: &Context, args: &ScheduleArgs) -> Result<()> {
    match &args.command {
        ScheduleCommand::Add(add) => self::add(context, add),
        ScheduleCommand::List { windows, output } => list(context, windows.as_deref(), *output),
        ScheduleCommand::Remove { name } => remove(context, name),
    }
}

/// The kind under which the store keeps the schedules of a cloud.
fn kind(context: &Context) -> String {
    format!("schedule/{}", context.inventory.name)
}

/// Everything that schedules are judged by.
pub struct Known {
    /// The schedules.
    pub schedules: Vec<Schedule>,
    /// Windows and freezes.
    pub windows: Windows,
    facts: Facts,
    /// When runs were begun.
    begun: Vec<Timestamp>,
    /// The median of what the latest runs took.
    expected_s: Option<i64>,
    /// What each schedule did last.
    pub firings: BTreeMap<String, Firing>,
    /// As of when.
    pub now: Timestamp,
}

impl Known {
    /// Reads all of it, with the windows of the file named or of the one beside the cloud description.
    pub fn load(context: &Context, windows: Option<&Path>) -> Result<Self> {
        Self::load_at(context, &context.store()?, windows, Context::now(), &Glances::default())
    }

    /// The same as of a time, for whoever looks again and again.
    pub fn load_at(
        context: &Context,
        store: &Store,
        windows: Option<&Path>,
        now: Timestamp,
        glances: &Glances,
    ) -> Result<Self> {
        let schedules = store.documents::<Schedule>(&kind(context)).map_err(store_error)?;
        let firings = Deeds::of(context, store).firings()?;
        let past = past(context, store, &firings, glances)?;
        let released = context.catalog.series.iter();
        let mut releases: BTreeMap<_, _> =
            released.filter_map(|(series, facts)| Some((*series, facts.released.parse().ok()?))).collect();
        releases.extend(release::days_of_unknown(context, store)?);
        Ok(Self {
            schedules: schedules.into_iter().map(|document| document.body).collect(),
            windows: read_windows(context, windows, now)?,
            facts: Facts { releases, last_success: past.last_success },
            begun: past.begun,
            expected_s: past.expected_s,
            firings,
            now,
        })
    }

    /// The entries of the coming months.
    pub fn coming(&self, months: u8) -> Result<Vec<Entry>> {
        let ahead = self.now.to_zoned(jiff::tz::TimeZone::UTC).checked_add(i64::from(months).months());
        self.entries(self.now, ahead.map_or(self.now, |end| end.timestamp()))
    }

    /// The opening in which work by a schedule may be done now, where one is open; it has no end that
    /// counts where no window is declared.
    pub fn opening(&self, schedule: &Schedule) -> Result<Option<Interval>> {
        let horizon = Interval { start: self.now, end: days_from(self.now, BACK_DAYS) };
        let openings = Openings::of(&self.windows, &schedule.scope(), horizon, zones());
        let opening = openings.map_err(|error| malformed(&error))?.at_or_after(self.now);
        Ok(opening.filter(|opening| opening.contains(self.now)))
    }

    /// The entries from one time to another.
    pub fn entries(&self, start: Timestamp, end: Timestamp) -> Result<Vec<Entry>> {
        let expected = |_: &Schedule| self.expected_s;
        let horizon = Interval { start, end };
        calendar(&self.schedules, &self.windows, &self.facts, expected, horizon, self.now, zones())
            .map_err(|error| malformed(&error))
    }

    /// What was due and was not done.
    pub fn missed(&self) -> Result<Vec<Entry>> {
        let from = days_from(self.now, -BACK_DAYS);
        let mut missed = not_done(self.entries(from, self.now)?, &self.begun);
        let did = |entry: &Entry| {
            let firing = self.firings.get(&entry.schedule);
            firing.is_some_and(|firing| entry.due.is_some_and(|due| firing.did(due)))
        };
        missed.retain(|entry| !did(entry));
        Ok(missed)
    }
}

/// Refuses where windows are declared and none of those for everything is open now.
pub fn refuse_outside_windows(context: &Context) -> Result<()> {
    let now = Context::now();
    let windows = read_windows(context, None, now)?;
    let horizon = Interval { start: now, end: days_from(now, BACK_DAYS) };
    let openings = Openings::of(&windows, &Scope::default(), horizon, zones());
    let next = openings.map_err(|error| malformed(&error))?.at_or_after(now);
    if next.is_some_and(|opening| opening.contains(now)) {
        return Ok(());
    }
    let when = next.map_or("none opens in the next three months".to_owned(), |opening| {
        format!("the next one opens at {}", opening.start)
    });
    Err(CliError::refused("outside-window", format!("no maintenance window is open now; {when}"))
        .hint("A policy with `outside_windows = true` in [patch] lets patches run at any time."))
}

fn zones() -> &'static TimeZoneDatabase {
    db()
}

fn days_from(now: Timestamp, days: i64) -> Timestamp {
    now.saturating_add((days * 24).hours()).unwrap_or(now)
}

fn malformed(error: &volutus_schedule::Error) -> CliError {
    use volutus_schedule::Error;
    let code = match error {
        Error::Rule { .. } => "malformed-rule",
        Error::Zone(_) => "unknown-time-zone",
        Error::Windows(_) => "malformed-windows",
        Error::Calendar { .. } => "malformed-calendar",
    };
    CliError::refused(code, error.to_string()).hint("docs/operating/schedules.md shows every form.")
}

fn add(context: &Context, args: &ScheduleAddArgs) -> Result<()> {
    let rule = Rule::parse(&args.rule).map_err(|error| malformed(&error))?;
    let to = args.to.as_deref().map(|text| series(context, text)).transpose()?;
    let expected_s = args.expect.as_deref().map(seconds).transpose()?;
    let known = Known::load(context, args.windows.as_deref())?;
    if known.schedules.iter().any(|schedule| schedule.name == args.name) {
        return Err(CliError::refused("exists", format!("there is a schedule `{}` already", args.name))
            .hint(format!("`volutus schedule remove {}` first, or give another name.", args.name)));
    }
    let schedule = Schedule {
        name: args.name.clone(),
        rule,
        to,
        zones: args.zones.iter().cloned().collect(),
        projects: args.projects.iter().cloned().collect(),
        expected_s,
        by: Context::actor().to_string(),
        since: known.now,
    };
    if !known.windows.admit(&schedule.scope()) {
        return Err(CliError::refused("no-window", "no maintenance window is for what this schedule touches")
            .hint("A window for some zones or projects admits only work that is restricted to these: give --zone or \
                   --project, or declare a window for all."));
    }
    let next = schedule.rule.next(known.now, &known.facts, zones()).map_err(|error| malformed(&error))?;
    if next == Next::Over {
        return Err(CliError::refused("past", format!("`{}` is in the past", schedule.rule)));
    }
    let document = [(schedule.name.clone(), schedule.clone())];
    context.store()?.put_documents(&kind(context), &document, known.now).map_err(store_error)?;
    let known = Known { schedules: vec![schedule], ..known };
    let ahead = known.entries(known.now, days_from(known.now, AHEAD_DAYS))?;
    anstream::print!("{}", show::schedule::render(&ahead[..ahead.len().min(3)]));
    Ok(())
}

/// Reads a duration such as `2h 30m`, in seconds.
pub fn seconds(text: &str) -> Result<i64> {
    let duration: Option<SignedDuration> = text.parse().ok();
    duration.map(|duration| duration.as_secs()).filter(|seconds| *seconds > 0).ok_or_else(|| {
        CliError::refused("malformed-duration", format!("`{text}` is not a duration such as `2h 30m`"))
    })
}

fn list(context: &Context, windows: Option<&Path>, output: Format) -> Result<()> {
    let known = Known::load(context, windows)?;
    if output == Format::Json {
        return print_json(&known.schedules);
    }
    let mut next: Vec<Entry> = Vec::new();
    for entry in known.entries(known.now, days_from(known.now, AHEAD_DAYS))? {
        if !next.iter().any(|known| known.schedule == entry.schedule) {
            next.push(entry);
        }
    }
    let missed = known.missed()?;
    anstream::print!("{}", show::schedule::render_list(&known.schedules, &next, &missed));
    Ok(())
}

fn remove(context: &Context, name: &str) -> Result<()> {
    let store = context.store()?;
    // What it did last holds none that is added again under its name.
    Deeds::of(context, &store).forget_firing(name)?;
    match store.remove_document(&kind(context), name).map_err(store_error)? {
        true => Ok(()),
        false => Err(CliError::refused("not-found", format!("there is no schedule `{name}`"))
            .hint("`volutus schedule list` names them.")),
    }
}

/// Prints the coming months.
pub fn run_calendar(context: &Context, args: &CalendarArgs) -> Result<()> {
    let known = Known::load(context, args.windows.as_deref())?;
    let entries = known.coming(args.months)?;
    match args.output {
        CalendarFormat::Json => print_json(&entries)?,
        CalendarFormat::Ics => {
            // Line breaks are part of the format, so nothing may be added to them.
            anstream::print!("{}", write_ics(context.inventory.name.as_str(), &entries, known.now));
        }
        CalendarFormat::Table => {
            anstream::print!("{}", show::schedule::render(&entries));
            let missed = known.missed()?;
            anstream::print!("{}", show::schedule::render_missed(&missed));
        }
    }
    Ok(())
}

/// What past runs tell.
struct Past {
    last_success: Option<Timestamp>,
    begun: Vec<Timestamp>,
    expected_s: Option<i64>,
}

/// Looks at the journals of the cloud's runs: when they were begun, how long it took until everything
/// was replaced and watched, and when the last of them succeeded. Times of a run that a schedule began
/// are by the clock that it was begun by.
fn past(
    context: &Context,
    store: &Store,
    firings: &BTreeMap<String, Firing>,
    glances: &Glances,
) -> Result<Past> {
    let mut found = Past { last_success: None, begun: Vec::new(), expected_s: None };
    let mut took: Vec<i64> = Vec::new();
    let runs = store.runs().map_err(store_error)?;
    for run in runs.into_iter().filter(|run| run.cloud == context.inventory.name) {
        let of = firings.values().find(|firing| firing.run == run.id);
        let ahead = SignedDuration::from_secs(of.map_or(0, |firing| firing.ahead_s));
        found.begun.push(run.created_at.saturating_add(ahead).unwrap_or(run.created_at));
        if took.len() >= RUNS_MAX && found.last_success.is_some() {
            continue;
        }
        let Some(times) = glances.times(store, &run)? else { continue };
        if let Some(rolled) = times.rolled.filter(|_| took.len() < RUNS_MAX) {
            took.push(rolled.as_second() - run.created_at.as_second());
        }
        // Runs come the latest first.
        let succeeded = times.succeeded.map(|at| at.saturating_add(ahead).unwrap_or(at));
        found.last_success = found.last_success.or(succeeded);
    }
    took.sort_unstable();
    found.expected_s = took.get(took.len() / 2).copied();
    Ok(found)
}

/// The operator's windows: of the file named, or of the one beside the cloud description, with the
/// calendars that it names.
fn read_windows(context: &Context, named: Option<&Path>, now: Timestamp) -> Result<Windows> {
    let beside = context.base().join(WINDOWS);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(Windows::default()),
    };
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| {
            CliError::refused("no-windows", format!("could not read {}", path.display())).because(&error)
        })
    };
    let located = |path: &Path, error: &volutus_schedule::Error| {
        let found = malformed(error);
        CliError { message: format!("{}: {}", path.display(), found.message), ..found }
    };
    let mut windows = Windows::parse(&read(path)?, zones()).map_err(|error| located(path, &error))?;
    let horizon = Interval { start: days_from(now, -BACK_DAYS - 2), end: days_from(now, FREEZES_DAYS) };
    for (file, scope) in std::mem::take(&mut windows.calendars) {
        let path = path.parent().unwrap_or(Path::new("")).join(file);
        let freezes =
            read_ics(&read(&path)?, &scope, horizon, zones()).map_err(|error| located(&path, &error))?;
        windows.freezes.extend(freezes);
    }
    Ok(windows)
}

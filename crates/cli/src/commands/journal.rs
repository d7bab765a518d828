//! `volutus journal`

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::event::{Event, JournalEntry};
use volutus_model::name::{AttemptId, StepId};
use volutus_model::plan::Plan;

use crate::args::{Format, JournalCommand, JournalShowArgs, JournalVerifyArgs};
use crate::commands::control::locate;
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::progress;

/// Shows a run's journal, or verifies it.
pub fn run(context: &Context, command: &JournalCommand) -> Result<()> {
    match command {
        JournalCommand::Show(args) => show(context, args),
        JournalCommand::Verify(args) => verify(context, args),
    }
}

fn verify(context: &Context, args: &JournalVerifyArgs) -> Result<()> {
    let store = context.store()?;
    let run = locate(context, &store, args.run.as_deref())?;
    let mut entries = 0_u64;
    store.read_journal(&run.id, |_| entries += 1).map_err(|error| {
        CliError::new(Kind::Internal, "journal-broken", format!("the journal of run {} is not whole", run.id))
            .because(&error)
    })?;
    anstream::println!("{entries} entries of run {}: the chain of hashes is whole", run.id);
    Ok(())
}

fn show(context: &Context, args: &JournalShowArgs) -> Result<()> {
    let store = context.store()?;
    let run = locate(context, &store, args.run.as_deref())?;
    let entries = store.journal(&run.id, 0).map_err(store_error)?;
    let plan = store.plan(&run.plan).map_err(store_error)?;
    let mut filter = Filter::new(args, &plan)?;
    if args.output == Format::Json {
        let wanted: Vec<&JournalEntry> = entries.iter().filter(|entry| filter.takes(entry)).collect();
        return print_json(&wanted);
    }
    let mut describe = progress::Describer::new(&plan);
    for entry in &entries {
        // Every entry is described, because later ones refer to it.
        let text = describe.describe(&entry.event);
        if !filter.takes(entry) {
            continue;
        }
        anstream::println!("{:>5} {} {} {text}", entry.seq, entry.at.strftime("%H:%M:%S%.3f"), entry.actor);
    }
    Ok(())
}

/// Which entries are wanted. Entries have to be shown to it in their order.
struct Filter<'a> {
    args: &'a JournalShowArgs,
    /// Steps that act on the wanted host; all of them where none is wanted.
    on_host: Option<BTreeSet<&'a StepId>>,
    /// Entries that end an attempt name it alone.
    step_of: BTreeMap<AttemptId, StepId>,
}

impl<'a> Filter<'a> {
    fn new(args: &'a JournalShowArgs, plan: &'a Plan) -> Result<Self> {
        let on_host = args.host.as_deref().map(|host| {
            let acts = |step: &volutus_model::Step| {
                step.actions
                    .iter()
                    .any(|action| action.host().is_some_and(|on| on.as_str().eq_ignore_ascii_case(host)))
            };
            plan.steps().filter(|(_, step)| acts(step)).map(|(_, step)| &step.id).collect::<BTreeSet<_>>()
        });
        if let (Some(host), Some(steps)) = (&args.host, &on_host)
            && steps.is_empty()
        {
            return Err(CliError::refused(
                "unknown-host",
                format!("no step of plan {} acts on host {host}", plan.id),
            )
            .hint("`volutus plan show` names the hosts of every step."));
        }
        Ok(Self { args, on_host, step_of: BTreeMap::new() })
    }

    fn takes(&mut self, entry: &JournalEntry) -> bool {
        let step = match &entry.event {
            Event::AttemptStarted { attempt, step, .. } => {
                self.step_of.insert(attempt.clone(), step.clone());
                Some(step)
            }
            Event::AttemptTakenUp { attempt } | Event::AttemptFinished { attempt, .. } => {
                self.step_of.get(attempt)
            }
            Event::StepCompleted { step } | Event::StepFailed { step } | Event::StepRetried { step } => {
                Some(step)
            }
            _ => None,
        };
        let on_host =
            self.on_host.as_ref().is_none_or(|wanted| step.is_some_and(|step| wanted.contains(step)));
        let named = self
            .args
            .step
            .as_deref()
            .is_none_or(|wanted| step.is_some_and(|step| step.as_str().contains(wanted)));
        let late = self.args.since.is_none_or(|since| entry.at >= since);
        let early = self.args.until.is_none_or(|until| entry.at < until);
        on_host && named && late && early
    }
}

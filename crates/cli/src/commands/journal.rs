//! `volutus journal`

use crate::args::{Format, JournalArgs};
use crate::commands::control::locate;
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::progress;

/// Shows a run's journal, or verifies its chain of hashes.
pub fn run(context: &Context, args: &JournalArgs) -> Result<()> {
    let store = context.store()?;
    let run = locate(context, &store, args.run.as_deref())?;
    let entries = store.journal(&run.id, 0).map_err(store_error)?;
    if args.verify {
        store.verify_journal(&run.id).map_err(|error| {
            CliError::new(
                Kind::Internal,
                "journal-broken",
                format!("the journal of run {} is not whole", run.id),
            )
            .because(&error)
        })?;
        anstream::println!("{} entries of run {}: the chain of hashes is whole", entries.len(), run.id);
        return Ok(());
    }
    if args.output == Format::Json {
        return print_json(&entries);
    }
    let plan = store.plan(&run.plan).map_err(store_error)?;
    let mut describe = progress::Describer::new(&plan);
    for entry in &entries {
        let text = describe.describe(&entry.event);
        anstream::println!("{:>5} {} {} {text}", entry.seq, entry.at.strftime("%H:%M:%S%.3f"), entry.actor);
    }
    Ok(())
}

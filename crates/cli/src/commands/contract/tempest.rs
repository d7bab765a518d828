//! `volutus contract tempest`: OpenStack's own tests, against the cloud of the description.

use std::path::{Path, PathBuf};
use std::time::Duration;

use volutus_contract::tempest::{Accounts, Options, Results, Set, Tools, measure};

use super::{operator, refused, text_of};
use crate::args::{TempestArgs, TempestFormat};
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Runs the tests. They make and remove what they need; nothing that is there is changed.
pub async fn run(context: &Context, args: &TempestArgs) -> Result<()> {
    let before = args.before.as_deref().map(read).transpose()?;
    let accounts = match &args.accounts {
        None => Accounts::Dynamic,
        Some(path) => Accounts::Provided(absolute(path)?),
    };
    let tools = Tools::ready(&cache(args)?, &args.python).await.map_err(|error| refused(&error))?;
    let options = Options {
        set: args.matching.clone().map_or(Set::Smoke, Set::Matching),
        accounts,
        validation: args.validation,
        limit: Duration::from_secs(args.limit),
        concurrency: args.concurrency,
        before: before.as_ref(),
    };
    let (client, name) = (operator(context)?, context.inventory.name.to_string());
    let results = measure(&tools, &client, &name, &options, Context::now()).await;
    let results = results.map_err(|error| refused(&error))?;
    if let Some(path) = &args.write {
        std::fs::write(path, results.to_text()).map_err(|error| {
            CliError::refused("write-results", format!("could not write the results to {}", path.display()))
                .because(&error)
        })?;
    }
    let differences = before.as_ref().map(|before| results.differences(before));
    match args.output {
        TempestFormat::Json => print_json(&results)?,
        TempestFormat::Table => {
            anstream::print!("{}", show::tempest::render(&results, before.as_ref(), differences.as_ref()));
        }
    }
    match differences.map(|found| found.broken.len()) {
        Some(count) if count > 0 => Err(CliError::new(
            Kind::Blocked,
            "tests-broken",
            format!("{count} tests that passed before do not pass now, also when they are run again"),
        )
        .hint("Each is listed with its reason; --matching NAME runs a single one.")),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Results> {
    let text = text_of(path, "the earlier results")?;
    Results::parse(&path.display().to_string(), &text).map_err(|error| refused(&error))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| {
        CliError::refused("no-accounts", format!("there are no accounts in {}", path.display()))
            .because(&error)
    })
}

/// The folder that Python environments are kept in. Source: XDG Base Directory Specification.
fn cache(args: &TempestArgs) -> Result<PathBuf> {
    if let Some(path) = &args.cache {
        return std::path::absolute(path).map_err(|error| {
            CliError::refused("no-cache", format!("{} is no path", path.display())).because(&error)
        });
    }
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    folder.map(|folder| folder.join("volutus")).ok_or_else(|| {
        CliError::refused("no-cache", "there is no home directory to keep Tempest's environment in")
            .hint("Name a folder with --cache PATH.")
    })
}

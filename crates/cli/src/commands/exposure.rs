//! `volutus exposure` and `volutus patch`

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;
use volutus_advisories::{Advisories, Exposure, ExposureInput, Published, Statements, exposure, patch};
use volutus_model::Observation;

use crate::args::{ExposureArgs, Format, PatchArgs};
use crate::commands::advisories::{Known, internal, known};
use crate::commands::print_json;
use crate::commands::rehearse::read_observation;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// The name of the file of statements beside the cloud description.
const STATEMENTS: &str = "statements.toml";

/// Prints who is exposed to what.
pub async fn run(context: &Context, args: &ExposureArgs) -> Result<()> {
    let Known { advisories, as_of } = known(&context.store()?)?;
    let exposure =
        compute(context, &advisories, args.statements.as_deref(), args.observation.as_deref()).await?;
    match args.output {
        Format::Json => print_json(&exposure)?,
        Format::Table => anstream::print!("{}", show::advisories::render_exposure(&exposure)),
    }
    anstream::eprintln!("Advisories: {as_of}");
    if !exposure.is_clean() {
        let message = format!("{} vulnerable versions run", exposure.exposed.len());
        return Err(CliError::new(Kind::Blocked, "exposed", message).hint(
            "`volutus patch ID` shows what closes one; docs/operating/advisories.md how to state that \
                   one does not concern this cloud.",
        ));
    }
    if !exposure.is_complete() {
        let message = format!(
            "nothing is known to be exposed, but {} versions could not be judged and {} daemons not be seen",
            exposure.unjudged.len(),
            exposure.not_seen.len()
        );
        return Err(CliError::new(Kind::Cloud, "exposure-incomplete", message).hint(
            "The lines above name them. Daemons are seen once their hosts answer (`volutus observe`); versions are \
             judged by statements (docs/operating/advisories.md).",
        ));
    }
    Ok(())
}

/// Prints what closes one vulnerability.
pub async fn run_patch(context: &Context, args: &PatchArgs) -> Result<()> {
    let Known { advisories, as_of } = known(&context.store()?)?;
    // A misspelt name is told before any host is asked.
    advisories.find(&args.vulnerability).map_err(|error| {
        CliError::refused("unknown-vulnerability", error.to_string())
            .hint("`volutus advisories list` names all; `volutus advisories sync` brings newer ones.")
    })?;
    let exposure =
        compute(context, &advisories, args.statements.as_deref(), args.observation.as_deref()).await?;
    let published = Published::builtin(advisories.products()).map_err(|error| internal(&error))?;
    let found = patch(&args.vulnerability, &exposure, &advisories, &published)
        .map_err(|error| CliError::refused("unknown-vulnerability", error.to_string()))?;
    match args.output {
        Format::Json => print_json(&found)?,
        Format::Table => anstream::print!("{}", show::advisories::render_patch(&found, &exposure)),
    }
    anstream::eprintln!("Advisories: {as_of}");
    match found.unfixed.len() {
        0 => Ok(()),
        count => {
            let message = format!("{count} exposed versions have no fixed release in their series");
            Err(CliError::new(Kind::Blocked, "no-fix", message)
                .hint("The report names what there is instead: a later series, or a statement of why it does not matter."))
        }
    }
}

async fn compute(
    context: &Context,
    advisories: &Advisories,
    statements: Option<&Path>,
    observation: Option<&Path>,
) -> Result<Exposure> {
    let statements = read_statements(context, statements, advisories)?;
    let observation = match observation {
        Some(file) => read_observation(file)?,
        None => observe(context).await?,
    };
    let distributions: BTreeMap<_, _> = context
        .catalog
        .daemons()
        .into_iter()
        .map(|(kind, (service, _))| (kind.clone(), service.distribution.clone()))
        .collect();
    Ok(exposure(&ExposureInput {
        advisories,
        observation: &observation,
        distributions: &distributions,
        statements: &statements,
        today: Context::now().to_zoned(TimeZone::UTC).date(),
    }))
}

async fn observe(context: &Context) -> Result<Observation> {
    let driver = context.driver()?;
    let seen = context.observe(&driver).await;
    driver.close().await;
    seen
}

/// The operator's statements: of the file named, or of the one beside the cloud description.
fn read_statements(context: &Context, named: Option<&Path>, advisories: &Advisories) -> Result<Statements> {
    let beside = context.base().join(STATEMENTS);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(Statements::default()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-statements", format!("could not read {}", path.display())).because(&error)
    })?;
    Statements::parse(&text, advisories.products()).map_err(|error| {
        CliError::refused("malformed-statements", format!("{}: {error}", path.display()))
            .hint("docs/operating/advisories.md shows every key.")
    })
}

//! `volutus exposure`, and what is exposed for `volutus patch`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;
use volutus_advisories::{Advisories, Exposure, ExposureInput, exposure};
use volutus_model::Observation;

use crate::args::{ExposureArgs, Format};
use crate::commands::advisories::{Known, known};
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
    let observation = match &args.observation {
        Some(file) => read_observation(file)?,
        None => observe(context).await?,
    };
    let statements = Statements::Of(args.statements.as_deref());
    let exposure = expose(context, &advisories, statements, &observation)?;
    match args.output {
        Format::Json => print_json(&exposure)?,
        Format::Table => anstream::print!("{}", show::advisories::render_exposure(&exposure)),
    }
    anstream::eprintln!("Advisories: {as_of}");
    if !exposure.is_clean() {
        let message = format!("{} vulnerable versions run", exposure.exposed.len());
        return Err(CliError::new(Kind::Blocked, "exposed", message).hint(
            "`volutus patch ID` plans what closes one; docs/operating/advisories.md how to state that \
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

/// What the operator states, and where that is.
#[derive(Debug, Clone, Copy)]
pub enum Statements<'a> {
    /// Nothing counts but what was seen.
    None,
    /// The file named, or the one beside the cloud description.
    Of(Option<&'a Path>),
}

/// Holds an observation against what is known.
pub fn expose(
    context: &Context,
    advisories: &Advisories,
    statements: Statements<'_>,
    observation: &Observation,
) -> Result<Exposure> {
    let statements = match statements {
        Statements::None => volutus_advisories::Statements::default(),
        Statements::Of(file) => read_statements(context, file, advisories)?,
    };
    let known = context.catalog.daemons();
    let known = known.into_iter().map(|(kind, (service, _))| (kind.clone(), service.distribution.clone()));
    let mut distributions: BTreeMap<_, _> = known.collect();
    // Nobody plans for a daemon that the catalog does not know; what is known of its vulnerabilities is
    // told all the same, where its kind begins with its service's name as all of OpenStack's do.
    for id in observation.daemons.keys() {
        let named = id.kind.as_str().split('-').next().unwrap_or_default();
        let distribution = advisories.products().distribution(named);
        if !distributions.contains_key(&id.kind) && advisories.products().is_service(&distribution) {
            distributions.insert(id.kind.clone(), distribution);
        }
    }
    Ok(exposure(&ExposureInput {
        advisories,
        observation,
        distributions: &distributions,
        statements: &statements,
        today: Context::now().to_zoned(TimeZone::UTC).date(),
    }))
}

/// Looks at the cloud.
pub async fn observe(context: &Context) -> Result<Observation> {
    let driver = context.driver()?;
    let seen = context.observe(&driver).await;
    driver.close().await;
    seen
}

/// The operator's statements: of the file named, or of the one beside the cloud description.
fn read_statements(
    context: &Context,
    named: Option<&Path>,
    advisories: &Advisories,
) -> Result<volutus_advisories::Statements> {
    let beside = context.base().join(STATEMENTS);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(volutus_advisories::Statements::default()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-statements", format!("could not read {}", path.display())).because(&error)
    })?;
    volutus_advisories::Statements::parse(&text, advisories.products()).map_err(|error| {
        CliError::refused("malformed-statements", format!("{}: {error}", path.display()))
            .hint("docs/operating/advisories.md shows every key.")
    })
}

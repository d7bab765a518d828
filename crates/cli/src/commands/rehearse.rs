//! `volutus rehearse`: the real plan, carried out many times in a simulated twin of the cloud.

use std::path::Path;
use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_model::{Inventory, Observation, Policy};
use volutus_planner::{PlanningInput, described, parse_target};
use volutus_sim::{Options, Prepared, Profile, rehearse};

use crate::args::{Cli, Format, RehearseArgs, RehearseProfile};
use crate::commands::plan::plan_error_code;
use crate::commands::{print_json, rehearse_real};
use crate::context::{Context, read_policy};
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Rehearses an upgrade, and says what may come of it. Nothing is changed anywhere.
pub async fn run(cli: &Cli, args: &RehearseArgs) -> Result<()> {
    let subject = Subject::read(cli, args).await?;
    let Subject { inventory, observation, policy, catalog } = subject;
    let refused = |error: &volutus_planner::Error| {
        let message = format!("could not plan an upgrade of {} to {}", inventory.name, args.to);
        CliError::refused(plan_error_code(error), message).because(error)
    };
    let target = parse_target(&args.to, &catalog).map_err(|error| refused(&error))?;
    let input = PlanningInput {
        now: observation.at,
        inventory: inventory.clone(),
        observation,
        target,
        versions: None,
        lock: None,
        policy,
        parent: None,
        drains: None,
    };
    if args.real {
        let (plan, _) = volutus_planner::plan(&input, &catalog).map_err(|error| refused(&error))?;
        return rehearse_real::run(&inventory, &plan, &catalog, cli.policy.as_deref(), args);
    }
    let prepared = Prepared::plan(&input, &catalog).map_err(|error| match &error {
        volutus_sim::Error::Plan(why) => refused(why),
        other => CliError::refused("not-rehearsed", "the plan cannot be rehearsed")
            .because(other)
            .hint("`volutus check --to SERIES` tells what stands in the way, and what mends it."),
    })?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let profile = match args.profile {
        RehearseProfile::None => Profile::None,
        RehearseProfile::Mild => Profile::Mild,
        RehearseProfile::Harsh => Profile::Harsh,
    };
    let options = Options { runs: args.runs, seed: args.seed, profile, faults: args.faults, threads };
    let rehearsal = rehearse(&Arc::new(prepared), &catalog, &options).map_err(|error| {
        CliError::new(Kind::Internal, "rehearsal", "the rehearsal broke off").because(&error)
    })?;
    match args.output {
        Format::Json => print_json(&rehearsal)?,
        Format::Table => anstream::print!("{}", show::rehearsal::render(&rehearsal)),
    }
    if rehearsal.violations.is_empty() && rehearsal.ended_well == rehearsal.runs {
        return Ok(());
    }
    Err(CliError::new(
        Kind::Blocked,
        "rehearsal-ended-badly",
        format!(
            "{} of {} rehearsed runs did not end as a run should",
            rehearsal.runs - rehearsal.ended_well,
            rehearsal.runs
        ),
    )
    .hint("Do not run this plan. The lines above name the rules that were broken; please report them."))
}

/// What is rehearsed upon.
struct Subject {
    inventory: Inventory,
    observation: Observation,
    policy: Policy,
    catalog: Arc<Catalog>,
}

impl Subject {
    /// The cloud as it is seen now, as it was seen before, or one that is only described.
    async fn read(cli: &Cli, args: &RehearseArgs) -> Result<Self> {
        if let Some(hosts) = args.described {
            let policy = cli.policy.as_deref().map(read_policy).transpose()?.unwrap_or_default();
            let catalog = Catalog::builtin().map_err(|error| {
                CliError::new(Kind::Internal, "catalog", "the built-in catalog does not load").because(&error)
            })?;
            let (inventory, observation) = described::cloud(hosts);
            return Ok(Self { inventory, observation, policy, catalog: Arc::new(catalog) });
        }
        let context = Context::load(cli)?;
        let observation = match &args.observation {
            Some(file) => read_observation(file)?,
            None => {
                let driver = context.driver()?;
                let seen = context.observe(&driver).await;
                driver.close().await;
                seen?
            }
        };
        Ok(Self {
            inventory: (*context.inventory).clone(),
            observation,
            policy: context.policy.clone(),
            catalog: context.catalog.clone(),
        })
    }
}

/// Reads what `volutus observe --output json` wrote.
pub fn read_observation(file: &Path) -> Result<Observation> {
    let refused = |error: &dyn std::error::Error| {
        CliError::refused("no-observation", format!("could not read the observation {}", file.display()))
            .because(error)
            .hint("`volutus observe --output json` writes one.")
    };
    let text = std::fs::read_to_string(file).map_err(|error| refused(&error))?;
    serde_json::from_str(&text).map_err(|error| refused(&error))
}

//! `volutus plan`, `plan show`, `plan list`, `plan diff`

use std::collections::BTreeMap;
use std::path::Path;

use volutus_drivers::CloudDriver;
use volutus_model::fleet::RebootPlan;
use volutus_model::{LockedRelease, Observation, PackageVersion, Plan, PlanId, Series, ServiceName};
use volutus_planner::{PlanReport, PlanningInput, render_dot, render_markdown};
use volutus_store::{AnyPlan, Store, Subject};

use crate::args::{PlanArgs, PlanCommand, PlanFormat};
use crate::commands::{contract, drains, fleet, print_json, release};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Makes a plan, or shows, lists or compares plans.
pub async fn run(context: &Context, args: &PlanArgs) -> Result<()> {
    if args.reboot && args.to.is_none() {
        return fleet::plan(context, args).await;
    }
    match (&args.command, &args.to) {
        (None, Some(to)) => create(context, args, to).await,
        (Some(PlanCommand::Show { plan, output }), _) => {
            let store = context.store()?;
            match store.find_any_plan(plan).map_err(store_error)? {
                AnyPlan::Upgrade(plan) => {
                    print(&plan, None, *output)?;
                    print_drains(drains::find(&store, &plan)?.as_ref(), *output)
                }
                AnyPlan::Reboot(plan) => {
                    fleet::print(&plan, *output)?;
                    fleet::warn_of_answers(context, &store, &plan)
                }
            }
        }
        (Some(PlanCommand::List), _) => list(context),
        (Some(PlanCommand::Diff { a, b }), _) => {
            let store = context.store()?;
            let (a, b) = (find(&store, a)?, find(&store, b)?);
            anstream::print!("{}", volutus_planner::diff(&a, &b));
            Ok(())
        }
        (None, None) => Err(CliError::refused("no-target", "neither --to SERIES nor a subcommand is given")),
    }
}

async fn create(context: &Context, args: &PlanArgs, to: &str) -> Result<()> {
    let to = series(context, to)?;
    if args.control {
        let message = "hosts of the control plane are not restarted by the run that upgrades them";
        return Err(CliError::refused("control-in-upgrade", message)
            .hint("Leave out --control, and plan behind the upgrade: volutus plan --reboot --control"));
    }
    let versions = args.versions.as_deref().map(read_versions).transpose()?;
    let lock = args.release.as_deref().map(|name| release::lock_of(context, name, to)).transpose()?;
    contract::refuse_unreadable(&context.policy)?;
    let driver = context.driver()?;
    let observed = observe(context, &driver, args, to).await;
    driver.close().await;
    let (observation, drains) = observed?;
    let wanted = Wanted { target: to, versions, lock, drains: drains.clone(), parent: None };
    let (plan, report) = make(context, &observation, wanted)?;
    let store = context.store()?;
    if let Some(reboot) = &drains {
        drains::refuse_otherwise(&plan, reboot)?;
        store.put_reboot_plan(reboot).map_err(store_error)?;
    }
    store.put_plan(&plan).map_err(store_error)?;
    store.put_author(&plan.id, &Context::actor(), Context::now()).map_err(store_error)?;
    print(&plan, Some(&report), args.output)?;
    print_drains(drains.as_ref(), args.output)?;
    anstream::eprintln!(
        "\nNothing was changed. Next:\n  volutus check {id}\n  volutus approve {id}\n  volutus run {id}",
        id = show::short(plan.id.as_str())
    );
    Ok(())
}

/// What runs, and the reboot that is to be a part of the upgrade.
async fn observe(
    context: &Context,
    driver: &CloudDriver,
    args: &PlanArgs,
    to: Series,
) -> Result<(Observation, Option<RebootPlan>)> {
    let observation = context.observe(driver).await?;
    if !args.reboot {
        return Ok((observation, None));
    }
    let selection = fleet::selection(&args.selected);
    let part = drains::part_of(context, driver, &observation, &context.reboot, &selection, to).await?;
    Ok((observation, Some(part)))
}

/// What an upgrade is to lead to.
#[derive(Debug)]
pub struct Wanted {
    /// The series.
    pub target: Series,
    /// Versions that differ from the catalog's latest ones.
    pub versions: Option<BTreeMap<ServiceName, PackageVersion>>,
    /// The locked release that is installed.
    pub lock: Option<LockedRelease>,
    /// The reboot that is a part of it.
    pub drains: Option<RebootPlan>,
    /// The plan that it goes on from.
    pub parent: Option<PlanId>,
}

impl Wanted {
    /// A series in the catalog's latest versions, with instances left where they are.
    pub fn series(target: Series) -> Self {
        Self { target, versions: None, lock: None, drains: None, parent: None }
    }
}

/// Makes a plan from what was observed.
pub fn make(context: &Context, observation: &Observation, wanted: Wanted) -> Result<(Plan, PlanReport)> {
    let Wanted { target, versions, lock, drains, parent } = wanted;
    let input = PlanningInput {
        inventory: (*context.inventory).clone(),
        observation: observation.clone(),
        target,
        versions,
        lock,
        policy: context.policy.clone(),
        now: Context::now(),
        parent,
        drains,
    };
    volutus_planner::plan(&input, &context.catalog).map_err(|error| {
        let message = format!("could not plan an upgrade of {} to {target}", context.inventory.name);
        CliError::refused(plan_error_code(&error), message).because(&error)
    })
}

/// The stable code of a planner's refusal.
pub fn plan_error_code(error: &volutus_planner::Error) -> &'static str {
    use volutus_planner::Error;
    match error {
        Error::UnknownSeries { .. } => "unknown-series",
        Error::ForbiddenPath { .. } => "forbidden-path",
        Error::TooFewToExchange { .. } => "too-few-to-exchange",
        Error::Older { .. } => "older-target",
        Error::NotLocked { .. } => "not-locked",
        Error::AlreadyOnTarget { .. } => "already-on-target",
        Error::OtherAnchor { .. } => "anchor-of-earlier-run",
        Error::WayBackClosed { .. } => "way-back-closed",
        Error::NoAnchor { .. } => "no-anchor",
        Error::NothingToTakeBack { .. } => "nothing-to-take-back",
        Error::UndeclaredHost { .. } => "unknown-host",
        Error::VitalHost { .. } => "vital-host",
        Error::NothingToPatch { .. } => "nothing-to-patch",
        Error::PatchOfSeveralSeries { .. } => "patch-of-several-series",
        Error::PatchUneven { .. } => "patch-uneven",
        Error::ReleaseInUse { .. } => "release-in-use",
        Error::NoUndo { .. } => "no-undo",
        _ => "cannot-plan",
    }
}

/// The series that was named, if the catalog knows it.
pub fn series(context: &Context, text: &str) -> Result<Series> {
    volutus_planner::parse_target(text, &context.catalog)
        .map_err(|error| CliError::refused("unknown-series", error.to_string()))
}

fn read_versions(path: &Path) -> Result<BTreeMap<ServiceName, PackageVersion>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-versions", format!("could not read {}", path.display())).because(&error)
    })?;
    toml::from_str(&text).map_err(|error| {
        CliError::refused("malformed-versions", format!("{} is not `service = \"version\"`", path.display()))
            .because(&error)
    })
}

/// The plan that a reference names.
pub fn find(store: &Store, reference: &str) -> Result<Plan> {
    store.find_plan(reference).map_err(store_error)
}

/// A store's error as the operator sees it.
pub fn store_error(error: volutus_store::Error) -> CliError {
    let code = error.code();
    let kind = if code == "store" { Kind::Internal } else { Kind::Refused };
    CliError::new(kind, code, error.to_string()).because(&error)
}

fn print(plan: &Plan, report: Option<&PlanReport>, format: PlanFormat) -> Result<()> {
    match format {
        PlanFormat::Json => print_json(plan),
        PlanFormat::Md => {
            anstream::print!("{}", render_markdown(plan, report));
            Ok(())
        }
        PlanFormat::Dot => {
            anstream::print!("{}", render_dot(plan));
            Ok(())
        }
        PlanFormat::Table => {
            anstream::print!("{}", show::plan::render(plan, &volutus_planner::estimate(plan)));
            if let Some(report) = report {
                anstream::print!("\n{report}");
            }
            Ok(())
        }
    }
}

/// Prints the reboot that is a part of an upgrade, where one is, in the forms that people read.
fn print_drains(reboot: Option<&RebootPlan>, format: PlanFormat) -> Result<()> {
    match (reboot, format) {
        (Some(reboot), PlanFormat::Table | PlanFormat::Md) => {
            anstream::println!();
            fleet::print(reboot, format)
        }
        // The one document stays one; the other is shown by its own id.
        (Some(_), PlanFormat::Json | PlanFormat::Dot) | (None, _) => Ok(()),
    }
}

fn list(context: &Context) -> Result<()> {
    let store = context.store()?;
    let mut table = show::table(&["plan", "made at", "from", "to", "approved by"]);
    for plan in store.plans().map_err(store_error)? {
        let (from, to) = match plan.subject {
            Subject::Upgrade { from, to } => (from.to_string(), to.to_string()),
            Subject::Reboot => ("-".to_owned(), "reboot".to_owned()),
        };
        table.add_row([
            show::short(plan.id.as_str()).to_owned(),
            plan.created_at.to_string(),
            from,
            to,
            plan.approval.map_or("-".to_owned(), |approval| approval.actor.to_string()),
        ]);
    }
    anstream::println!("{table}");
    Ok(())
}

//! Plans of reboots: made, judged and shown.

use std::path::Path;

use volutus_catalog::DaemonRole;
use volutus_drivers::CloudDriver;
use volutus_fleet::described::{self, Shape};
use volutus_fleet::{render_markdown, render_text};
use volutus_model::fleet::{Answers, Fleet, Past, RebootPlan, RebootPolicy, Selection};
use volutus_model::{Finding, HostName, Observation, Plan};
use volutus_planner::RebootInput;
use volutus_store::{Approval, Store};

use crate::args::{Cli, FleetSubject, PlanArgs, PlanFormat, SelectedHosts};
use crate::commands::plan::{plan_error_code, store_error};
use crate::commands::print_json;
use crate::commands::run::refuse_findings;
use crate::context::{Context, read_reboot_policy};
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Looks at hosts and instances.
pub async fn observe(context: &Context) -> Result<Fleet> {
    let driver = context.driver()?;
    let seen = observe_with(context, &driver).await;
    driver.close().await;
    seen
}

/// The same with a driver that is there already.
pub async fn observe_with(context: &Context, driver: &CloudDriver) -> Result<Fleet> {
    driver.observe_fleet().await.map_err(|error| {
        let message = format!("could not see hosts and instances of cloud {}", context.inventory.name);
        CliError::new(Kind::Cloud, "fleet-unseen", message).because(&error).hint(error.hint())
    })
}

/// What owners have answered that counts now.
pub fn answers(context: &Context, store: &Store) -> Result<Answers> {
    let all = store.confirmations(context.inventory.name.as_str()).map_err(store_error)?;
    Ok(Answers::counting(&all, Context::now()))
}

/// Says so where owners have answered what a plan does not contain.
pub fn warn_of_answers(context: &Context, store: &Store, plan: &RebootPlan) -> Result<()> {
    if let Some(finding) = answers(context, store)?.since(plan) {
        anstream::eprint!("{}", show::findings::render(&[finding]));
    }
    Ok(())
}

/// What stands in the way of a plan on the fleet as it is now.
pub fn judge(plan: &RebootPlan, mut fleet: Fleet, answers: &Answers) -> Vec<Finding> {
    answers.apply_to_judge(plan, &mut fleet);
    let mut findings = volutus_plancheck::check_reboot(plan, &fleet, &plan.content.policy);
    findings.extend(answers.since(plan));
    findings.extend(fleet.unseen.iter().cloned());
    findings
}

/// Plans a reboot of the cloud as it is now, and keeps the plan.
pub async fn plan(context: &Context, args: &PlanArgs) -> Result<()> {
    let driver = context.driver()?;
    let seen =
        async { Ok::<_, CliError>((observe_with(context, &driver).await?, context.observe(&driver).await?)) };
    let seen = seen.await;
    driver.close().await;
    let (mut fleet, observation) = seen?;
    let store = context.store()?;
    answers(context, &store)?.apply(&mut fleet);
    let mut plan = make(&fleet, &context.reboot, &selection(&args.selected), &context.inventory.name)?;
    if args.control {
        plan = volutus_fleet::with_control(plan, &fleet, control_hosts(context));
    }
    // What keeps its steps from being made is told now, and not when the window has opened.
    steps(context, &plan, observation)?;
    store.put_reboot_plan(&plan).map_err(store_error)?;
    store.put_author(&plan.id, &Context::actor(), Context::now()).map_err(store_error)?;
    print(&plan, args.output)?;
    let id = show::short(plan.id.as_str());
    anstream::eprintln!("\nNothing was changed. Next:\n  volutus check {id}\n  volutus approve {id}");
    Ok(())
}

/// The steps of a reboot plan, as the cloud is.
pub fn steps(context: &Context, plan: &RebootPlan, observation: Observation) -> Result<Plan> {
    let input = RebootInput {
        inventory: (*context.inventory).clone(),
        observation,
        reboot: plan.clone(),
        policy: context.policy.clone(),
        now: Context::now(),
    };
    let made = volutus_planner::plan_reboot(&input, &context.catalog);
    made.map(|(plan, _)| plan).map_err(|error| {
        let message = format!("could not make the steps of reboot plan {}", show::short(plan.id.as_str()));
        CliError::refused(plan_error_code(&error), message).because(&error)
    })
}

/// The hosts that carry daemons and no instances, in the order of the description.
fn control_hosts(context: &Context) -> Vec<HostName> {
    let known = context.catalog.daemons();
    let is_compute = |host: &HostName| {
        context.inventory.daemons().any(|(id, _, declared)| {
            id.host == *host
                && known.get(&declared.kind).is_some_and(|(_, facts)| facts.role == DaemonRole::Compute)
        })
    };
    let carries = |host: &HostName| context.inventory.daemons().any(|(id, _, _)| id.host == *host);
    let hosts = context.inventory.hosts.iter().map(|host| host.name.clone());
    hosts.filter(|host| carries(host) && !is_compute(host)).collect()
}

/// Judges an approved reboot plan by the fleet as it was seen, and makes its steps as the cloud is.
pub async fn prepare(
    context: &Context,
    driver: &CloudDriver,
    plan: &RebootPlan,
    approval: &Approval,
    fleet: Fleet,
) -> Result<(Plan, Observation)> {
    let answers = answers(context, &context.store()?)?;
    refuse_findings(&judge(plan, fleet, &answers), &approval.consents).map_err(|error| {
        error.hint(
            "The fleet is judged as it is now: make a new plan with volutus plan --reboot. Serious findings can be \
             consented to: volutus approve PLAN --accept CODE",
        )
    })?;
    let observation = context.observe(driver).await?;
    let made = steps(context, plan, observation.clone())?;
    Ok((made, observation))
}

/// Whether a fleet is meant that is not looked at now.
pub fn is_elsewhere(subject: &FleetSubject) -> bool {
    subject.fleet.is_some() || subject.described.is_some()
}

/// Plans for a fleet that is described or was seen before. Such a plan is shown, and not kept.
pub fn plan_elsewhere(cli: &Cli, args: &PlanArgs) -> Result<()> {
    let policy = read_reboot_policy(cli.policy.as_deref())?;
    let (fleet, name) = elsewhere(&args.subject)?;
    if let Some(to) = &args.to {
        return Err(CliError::refused(
            "fleet-elsewhere",
            format!(
                "an upgrade to {to} is planned by what runs in a cloud, and this fleet is not looked at now"
            ),
        )
        .hint("Leave out --to, or --fleet and --described."));
    }
    let plan = make(&fleet, &policy, &selection(&args.selected), &name)?;
    print(&plan, args.output)?;
    anstream::eprintln!("\nThe plan is not kept: it is not of a cloud as it is now.");
    Ok(())
}

/// A fleet that is not looked at now, and what it is called.
pub fn elsewhere(subject: &FleetSubject) -> Result<(Fleet, HostName)> {
    let name = |text: &str| {
        HostName::new(text)
            .map_err(|error| CliError::new(Kind::Internal, "name", "a name is not one").because(&error))
    };
    if let Some(file) = &subject.fleet {
        return Ok((read(file)?, name("seen-before")?));
    }
    let hosts = subject.described.unwrap_or_default();
    let fill = f64::from(subject.fill) / 100.0;
    let shape = Shape { hosts, zones: 3, fill, empty_per_zone: (hosts / 150).max(1), odd: true, seed: 1 };
    Ok((described::fleet(&shape), name("described")?))
}

fn read(file: &Path) -> Result<Fleet> {
    let refused = |error: &dyn std::error::Error| {
        CliError::refused("no-fleet", format!("could not read the fleet {}", file.display()))
            .because(error)
            .hint("`volutus observe --fleet --output json` writes one.")
    };
    let text = std::fs::read_to_string(file).map_err(|error| refused(&error))?;
    let fleet: Fleet = serde_json::from_str(&text).map_err(|error| refused(&error))?;
    fleet.check().map_err(|error| refused(&error))?;
    Ok(fleet)
}

/// The hosts that the command line means.
pub fn selection(hosts: &SelectedHosts) -> Selection {
    Selection {
        hosts: hosts.hosts.clone(),
        zone: hosts.zone.clone(),
        aggregate: hosts.aggregate.clone(),
        past: Past::default(),
    }
}

/// A plan of a reboot of the hosts of a fleet that are meant.
pub fn make(
    fleet: &Fleet,
    policy: &RebootPolicy,
    selection: &Selection,
    cloud: &HostName,
) -> Result<RebootPlan> {
    let made = volutus_fleet::plan(fleet, policy, selection, cloud, Context::now());
    checked(made, fleet, &format!("could not plan a reboot of {cloud}"))
}

/// A plan that was made, unless its own check refuses it.
pub fn checked(
    made: std::result::Result<RebootPlan, volutus_fleet::Error>,
    fleet: &Fleet,
    attempted: &str,
) -> Result<RebootPlan> {
    let plan = made.map_err(|error| {
        use volutus_fleet::Error;
        let (code, hint) = match &error {
            Error::Description(_) => ("fleet-malformed", "Look at `volutus observe --fleet`.".to_owned()),
            Error::Policy(_) => {
                ("malformed-policy", "docs/reference/reboot-policy.md lists every key.".to_owned())
            }
            Error::NothingSelected { .. } => ("no-such-hosts", "`volutus hosts` lists them.".to_owned()),
            Error::NoSuchHost { .. } => ("unknown-host", "`volutus hosts` lists them.".to_owned()),
            Error::NothingToDo { .. } => {
                ("nothing-to-reboot", "`volutus hosts` shows the state of each.".to_owned())
            }
            Error::CannotBeEmptied { left } => ("cannot-be-emptied", left.action.clone()),
        };
        CliError::refused(code, attempted).because(&error).hint(hint)
    })?;
    // A plan that its own check refuses is a mistake of Volutus, and nobody is to see it as a plan.
    let findings = volutus_plancheck::check_reboot(&plan, fleet, &plan.content.policy);
    match findings.first() {
        None => Ok(plan),
        Some(first) => {
            let message =
                format!("the plan that was made breaks {} rules: {}", findings.len(), first.explanation);
            Err(CliError::new(Kind::Internal, "plan-refused", message)
                .hint("Please report it with the fleet."))
        }
    }
}

/// Prints a plan of a reboot.
pub fn print(plan: &RebootPlan, format: PlanFormat) -> Result<()> {
    match format {
        PlanFormat::Json => print_json(plan),
        PlanFormat::Md => {
            anstream::print!("{}", render_markdown(plan));
            Ok(())
        }
        PlanFormat::Table => {
            anstream::print!("{}", show::fleet::render_plan(plan, &render_text(plan)));
            Ok(())
        }
        PlanFormat::Dot => Err(CliError::refused("no-such-form", "a plan of a reboot has no Graphviz form")
            .hint("--output table, md or json")),
    }
}

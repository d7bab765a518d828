//! `volutus patch --mitigate`: what the policy declares against a vulnerability, the plan of it, and what is
//! said of it once it was run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use volutus_advisories::{Advisories, Exposure, Statement, StatementStatus, Statements, Vulnerability};
use volutus_model::mitigation::{EXAMPLE, command};
use volutus_model::plan::Action;
use volutus_model::verdict::{ExposedVersion, ExposureProof, MitigatedBy};
use volutus_model::{
    ExposedPackage, Mitigation, Observation, PackageVersion, Plan, RunId, RunState, StepStatus,
};
use volutus_planner::{MitigationInput, PlanReport, plan_mitigation};

use crate::args::PatchArgs;
use crate::commands::patch::tell_serious;
use crate::commands::plan::plan_error_code;
use crate::context::Context;
use crate::error::{CliError, Result};

/// Days that a statement of a mitigation is proposed for: long enough that nobody is asked every week,
/// short enough that a fixed release which has appeared meanwhile is not forgotten.
const STATED_DAYS: i32 = 30;

/// The mitigations that the policy declares against a vulnerability, by whichever of its names.
pub fn declared<'a>(
    context: &'a Context,
    advisories: &Advisories,
    vulnerability: &Vulnerability,
) -> Vec<&'a Mitigation> {
    let against = |one: &&Mitigation| {
        advisories.find(&one.vulnerability).is_ok_and(|found| found.id == vulnerability.id)
    };
    context.policy.patch.mitigations.iter().filter(against).collect()
}

/// The one that was named; of several the least disruptive.
fn choose<'a>(
    declared: &[&'a Mitigation],
    name: Option<&str>,
    vulnerability: &str,
) -> Result<&'a Mitigation> {
    let chosen = match name {
        Some(name) => declared.iter().find(|one| one.name == name),
        None => declared.iter().min_by_key(|one| one.method),
    };
    chosen.copied().ok_or_else(|| {
        let message = match name {
            Some(name) => format!("the policy declares no mitigation `{name}` of {vulnerability}"),
            None => format!("the policy declares no mitigation of {vulnerability}"),
        };
        let known: Vec<&str> = declared.iter().map(|one| one.name.as_str()).collect();
        CliError::refused("no-mitigation", message).hint(match known.is_empty() {
            true => {
                format!("One is declared so in the file that --policy names:\n{}", example(vulnerability))
            }
            false => format!("It declares: {}", known.join(", ")),
        })
    })
}

/// What a mitigation of a vulnerability looks like.
pub fn example(vulnerability: &str) -> String {
    EXAMPLE.replace("{vulnerability}", vulnerability)
}

/// Makes the plan of a mitigation, or of taking it back, and has it checked.
pub fn make(
    context: &Context,
    args: &PatchArgs,
    vulnerability: &Vulnerability,
    declared: &[&Mitigation],
    exposure: &Exposure,
    observation: Observation,
) -> Result<(Plan, PlanReport)> {
    let name = args.mitigate.as_ref().and_then(Option::as_deref);
    let mitigation = choose(declared, name, &vulnerability.id)?;
    let exposed = match args.undo {
        false => exposed(exposure, vulnerability),
        true => running(context, vulnerability, &observation),
    };
    let input = MitigationInput {
        inventory: (*context.inventory).clone(),
        observation,
        vulnerability: vulnerability.id.clone(),
        exposed,
        mitigation: mitigation.clone(),
        undo: args.undo,
        policy: context.policy.for_patch(),
        now: Context::now(),
    };
    let (plan, report) = plan_mitigation(&input, &context.catalog).map_err(|error| {
        let message = format!(
            "could not plan mitigation {} of {} against {}",
            mitigation.name, context.inventory.name, vulnerability.id
        );
        CliError::refused(plan_error_code(&error), message).because(&error)
    })?;
    tell_serious(context, &input.observation, &plan);
    Ok((plan, report))
}

fn packages(all: impl IntoIterator<Item = (String, PackageVersion)>) -> Vec<ExposedPackage> {
    let mut found: BTreeMap<String, BTreeSet<PackageVersion>> = BTreeMap::new();
    for (distribution, version) in all {
        found.entry(distribution).or_default().insert(version);
    }
    found.into_iter().map(|(distribution, versions)| ExposedPackage { distribution, versions }).collect()
}

/// The versions that are exposed, whether or not a release has the fix.
fn exposed(exposure: &Exposure, vulnerability: &Vulnerability) -> Vec<ExposedPackage> {
    packages(exposure.of(&vulnerability.id).map(|one| (one.distribution.clone(), one.version.clone())))
}

/// Whatever runs of the packages that the vulnerability is in: a mitigation is also taken back once a fixed
/// release has made it superfluous, and where it is stated that the vulnerability does not matter.
fn running(
    context: &Context,
    vulnerability: &Vulnerability,
    observation: &Observation,
) -> Vec<ExposedPackage> {
    let known = context.catalog.daemons();
    let claimed = || vulnerability.claims.iter().map(|claim| claim.affected.distribution.as_str());
    packages(observation.daemons.keys().flat_map(|id| {
        let service = known.get(&id.kind).map(|(service, _)| *service);
        let loaded = service.into_iter().flat_map(|service| {
            claimed().filter(|distribution| context.catalog.may_load(service, distribution)).filter_map(
                |distribution| {
                    let runs = observation.running_package(id, &service.distribution, distribution)?;
                    Some((distribution.to_owned(), runs.clone()))
                },
            )
        });
        loaded.collect::<Vec<_>>()
    }))
}

/// On which hosts a run saw the mitigation in force: where a step came to its end that has the check in it.
pub fn seen_in_force(mitigation: &Mitigation, plan: &Plan, state: &RunState) -> MitigatedBy {
    let completed = plan.steps().filter(|(_, step)| matches!(state.step(&step.id), StepStatus::Completed));
    let checked = completed.flat_map(|(_, step)| &step.actions).filter_map(|action| match action {
        Action::RunCommand { host, what, .. } if what == command::CHECK => Some(host.clone()),
        _ => None,
    });
    MitigatedBy { name: mitigation.name.clone(), checked: checked.collect() }
}

/// What to add to the statements, so that `volutus exposure` counts the mitigation; nothing where the proof
/// has none in force.
pub fn tell_statement(run: &RunId, proof: &ExposureProof) {
    let Some(by) = &proof.mitigated else { return };
    let today = Context::now().to_zoned(TimeZone::UTC).date();
    let Some(text) = statement(run, proof, by, &Context::actor().0, today) else { return };
    anstream::println!(
        "\nThe versions stay vulnerable, and `volutus exposure` names them until it is stated that the way to them is \
         closed. To be added to statements.toml beside the cloud description, with the end that suits you:\n\n{text}"
    );
}

fn statement(run: &RunId, proof: &ExposureProof, by: &MitigatedBy, who: &str, today: Date) -> Option<String> {
    let hosts: Vec<&str> = by.checked.iter().map(|host| host.as_str()).collect();
    let because = format!("mitigation {}, seen to be in force on {} by run {run}", by.name, hosts.join(", "));
    let of = |exposed: &ExposedVersion| Statement {
        vulnerability: proof.vulnerability.clone(),
        status: StatementStatus::NotAffected,
        because: because.clone(),
        by: who.to_owned(),
        until: today.saturating_add(STATED_DAYS.days()),
        product: Some(exposed.distribution.clone()),
        versions: Some(format!("=={}", exposed.version)),
        hosts: exposed.daemons.iter().map(|daemon| daemon.host.to_string()).collect(),
        daemons: exposed.daemons.iter().map(|daemon| daemon.kind.to_string()).collect(),
    };
    let statements = Statements { statements: proof.after.iter().map(of).collect() };
    match toml::to_string(&statements) {
        Ok(text) if !statements.statements.is_empty() => Some(text),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "the statement to add could not be written");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails in a test ends it")]
mod tests {
    use volutus_model::MitigationMethod;

    use super::*;

    fn named(name: &str, method: MitigationMethod) -> Mitigation {
        let argv = vec!["/usr/local/sbin/mitigate".to_owned()];
        Mitigation {
            vulnerability: "CVE-2026-90458".to_owned(),
            name: name.to_owned(),
            method,
            argv: argv.clone(),
            unchanged_exit: 0,
            limit_s: 10,
            check: argv,
            undo: Vec::new(),
        }
    }

    #[test]
    fn the_least_disruptive_is_chosen_unless_another_is_named() {
        let hard = named("hard", MitigationMethod::RestartWithoutDrain);
        let (soft, live) = (named("soft", MitigationMethod::Restart), named("live", MitigationMethod::None));
        let chosen = |declared: &[&Mitigation], name| {
            choose(declared, name, "CVE-2026-90458").map(|one| one.name.clone()).map_err(|error| error.code)
        };
        assert_eq!(chosen(&[&hard, &soft], None).unwrap(), "soft");
        assert_eq!(chosen(&[&hard, &soft, &live], None).unwrap(), "live");
        assert_eq!(chosen(&[&hard, &soft], Some("hard")).unwrap(), "hard");
        assert_eq!(chosen(&[&hard], Some("soft")).unwrap_err(), "no-mitigation");
        assert_eq!(chosen(&[], None).unwrap_err(), "no-mitigation");
    }

    #[test]
    fn the_statement_that_is_proposed_can_be_read() {
        let exposed = ExposedVersion {
            distribution: "keystone".to_owned(),
            version: PackageVersion::new("28.1.0"),
            daemons: ["keystone-api@ctl1", "keystone-api@ctl2"].map(|id| id.parse().unwrap()).into(),
        };
        let by = MitigatedBy {
            name: "say \"no\"".to_owned(),
            checked: ["ctl1", "ctl2"].map(|host| host.parse().unwrap()).into(),
        };
        let proof = ExposureProof::new("CVE-2026-90458".to_owned(), Vec::new(), vec![exposed], Vec::new());
        let run = RunId::new("run-1").unwrap();
        let today: Date = "2026-11-26".parse().unwrap();
        let text = statement(&run, &proof, &by, "jo", today).unwrap();
        let products = volutus_advisories::Products::builtin().unwrap();
        let records = volutus_advisories::builtin(&products).unwrap().records;
        let advisories = Advisories::new(records, products);
        let read = Statements::parse(&text, advisories.products()).unwrap();
        let [one] = read.statements.as_slice() else { panic!("{text}") };
        assert_eq!((one.until.to_string().as_str(), one.hosts.len()), ("2026-12-26", 2));
        assert!(one.because.contains("say \"no\""), "{text}");
        let vulnerability = advisories.find("CVE-2026-90458").unwrap();
        let holds = |daemon: &str, version: &str| {
            let daemon = daemon.parse().unwrap();
            let products = advisories.products();
            read.covering(vulnerability, "keystone", version, &daemon, today, products).is_some()
        };
        assert!(holds("keystone-api@ctl1", "28.1.0"));
        assert!(!holds("keystone-api@ctl3", "28.1.0") && !holds("keystone-api@ctl1", "28.0.2"));
    }
}

//! `volutus patch`: what closes a vulnerability, the plan of it, its run, and the proof at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use volutus_advisories::{Advisories, Exposure, Patch, Published, Vulnerability, patch};
use volutus_model::plan::PlanKind;
use volutus_model::verdict::{ExposedVersion, ExposureProof, ExposureResult, Verdict};
use volutus_model::{
    Mitigation, Observation, PackageVersion, PatchName, Plan, RunId, RunState, Severity, VersionChange,
};
use volutus_planner::{PatchInput, PlanReport, plan_patch};
use volutus_store::Store;

use crate::args::{Format, PatchArgs};
use crate::commands::advisories::{Known, internal, known};
use crate::commands::check::judge;
use crate::commands::exposure::{Statements, expose, observe};
use crate::commands::plan::{plan_error_code, store_error};
use crate::commands::rehearse::read_observation;
use crate::commands::run::{self, After};
use crate::commands::{consent, mitigate, print_json};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// What is printed as JSON: what closes it, and the plan where one was made.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    patch: &'a Patch,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mitigations: &'a [&'a Mitigation],
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
}

/// Shows what closes a vulnerability, plans it, and carries it out where that is wanted.
pub async fn run(context: &Context, args: &PatchArgs) -> Result<()> {
    let store = context.store()?;
    let Known { advisories, as_of } = known(&store)?;
    // A misspelt name is told before any host is asked.
    let vulnerability = advisories.find(&args.vulnerability).map_err(|error| {
        CliError::refused("unknown-vulnerability", error.to_string())
            .hint("`volutus advisories list` names all; `volutus advisories sync` brings newer ones.")
    })?;
    let takes = takes(args, &advisories)?;
    let observation = match &args.observation {
        Some(file) => read_observation(file)?,
        None => observe(context).await?,
    };
    let statements = Statements::Of(args.statements.as_deref());
    let exposure = expose(context, &advisories, statements, &observation)?;
    let published = Published::builtin(advisories.products()).map_err(|error| internal(&error))?;
    let found = patch(&args.vulnerability, &exposure, &advisories, &published)
        .map_err(|error| CliError::refused("unknown-vulnerability", error.to_string()))?;
    let declared = mitigate::declared(context, &advisories, vulnerability);
    if args.mitigate.is_some() {
        let made = mitigate::make(context, args, vulnerability, &declared, &exposure, observation)?;
        keep(&store, &made.0)?;
        print(&found, &exposure, &declared, Some(&made), args.output)?;
        anstream::eprintln!("Advisories: {as_of}");
        return go_on(context, &store, args, &made.0).await;
    }
    let changes = changes(&found, &takes, args.better)?;
    let only_report = args.report || args.observation.is_some() || changes.is_empty();
    let made = match only_report {
        true => None,
        false => Some(make(context, args, vulnerability, changes, observation)?),
    };
    if let Some((plan, ..)) = &made {
        keep(&store, plan)?;
    }
    print(&found, &exposure, &declared, made.as_ref(), args.output)?;
    anstream::eprintln!("Advisories: {as_of}");
    let unfixed = found.unfixed.iter().filter(|unfixed| !takes.contains_key(&unfixed.distribution)).count();
    if let Some((plan, _)) = made {
        if unfixed > 0 {
            anstream::eprintln!(
                "The plan closes a part of it: {unfixed} exposed versions have no fixed release."
            );
        }
        go_on(context, &store, args, &plan).await?;
        if args.run {
            return Ok(());
        }
    }
    match unfixed {
        0 => Ok(()),
        count => {
            let message = format!("{count} exposed versions have no fixed release in their series");
            Err(CliError::new(Kind::Blocked, "no-fix", message).hint(
                "What there is: a later series (the report names it); a package with a patch of your vendor or of your \
                 own (--take DISTRIBUTION=VERSION plans with it); a change of the configuration that closes the way \
                 to it, declared as a mitigation in the policy (--mitigate plans it); a statement of why it does \
                 not matter. See docs/operating/advisories.md.",
            ))
        }
    }
}

/// Keeps a plan, with who had it made.
fn keep(store: &Store, plan: &Plan) -> Result<()> {
    store.put_plan(plan).map_err(store_error)?;
    store.put_author(&plan.id, &Context::actor(), Context::now()).map_err(store_error)
}

/// Carries a plan out where that is wanted, and says how to otherwise.
async fn go_on(context: &Context, store: &Store, args: &PatchArgs, plan: &Plan) -> Result<()> {
    if args.run {
        return carry_out(context, store, args, plan).await;
    }
    let id = show::short(plan.id.as_str());
    anstream::eprintln!(
        "\nNothing was changed. Next:\n  volutus check {id}\n  volutus approve {id}\n  volutus run {id}"
    );
    Ok(())
}

fn print(
    found: &Patch,
    exposure: &Exposure,
    declared: &[&Mitigation],
    made: Option<&(Plan, PlanReport)>,
    format: Format,
) -> Result<()> {
    if format == Format::Json {
        return print_json(&Answer { patch: found, mitigations: declared, plan: made.map(|(plan, _)| plan) });
    }
    anstream::print!("{}", show::advisories::render_patch(found, exposure));
    anstream::print!("{}", show::advisories::render_mitigations(found, declared));
    if let Some((plan, report)) = made {
        anstream::print!("\n{}", show::plan::render(plan, &volutus_planner::estimate(plan)));
        anstream::print!("\n{report}");
    }
    Ok(())
}

/// Versions that the operator names, by distribution.
fn takes(args: &PatchArgs, advisories: &Advisories) -> Result<BTreeMap<String, PackageVersion>> {
    let read = |text: &String| {
        let (name, version) = text.split_once('=')?;
        let version = version.trim_start_matches('=');
        let given = !name.is_empty() && !version.is_empty();
        given.then(|| (advisories.products().distribution(name), PackageVersion::new(version)))
    };
    let refused = |text: &String| {
        CliError::refused("malformed-version", format!("--take {text} is not DISTRIBUTION=VERSION"))
            .hint("For example --take ironic=39.0.0+site1.")
    };
    args.take.iter().map(|text| read(text).ok_or_else(|| refused(text))).collect()
}

/// One change for each distribution that is exposed and has something to take the place of.
fn changes(
    found: &Patch,
    takes: &BTreeMap<String, PackageVersion>,
    better: bool,
) -> Result<Vec<VersionChange>> {
    let mut all: BTreeMap<&str, (BTreeSet<PackageVersion>, PackageVersion)> = BTreeMap::new();
    let fixed = found.changes.iter().map(|change| {
        let to = change.better.as_ref().filter(|_| better).unwrap_or(&change.to);
        (&change.distribution, &change.from, Some(to))
    });
    let unfixed = found.unfixed.iter().map(|unfixed| (&unfixed.distribution, &unfixed.version, None));
    for (distribution, from, to) in fixed.chain(unfixed) {
        let Some(to) = takes.get(distribution).or(to) else { continue };
        let entry = all.entry(distribution).or_insert_with(|| (BTreeSet::new(), to.clone()));
        entry.0.insert(from.clone());
        if *to > entry.1 {
            entry.1 = to.clone();
        }
    }
    if let Some(other) = takes.keys().find(|name| !all.contains_key(name.as_str())) {
        return Err(CliError::refused(
            "not-exposed",
            format!(
                "--take names {other}, and no version of it that runs is exposed to {}",
                found.vulnerability
            ),
        )
        .hint("`volutus patch ID --report` shows what is."));
    }
    let made = all.into_iter();
    Ok(made
        .map(|(distribution, (from, to))| VersionChange { distribution: distribution.to_owned(), from, to })
        .collect())
}

/// Makes the plan, and has it checked.
fn make(
    context: &Context,
    args: &PatchArgs,
    vulnerability: &Vulnerability,
    changes: Vec<VersionChange>,
    observation: Observation,
) -> Result<(Plan, PlanReport)> {
    let name = args.release.clone().unwrap_or_else(|| args.vulnerability.to_ascii_lowercase());
    let release = PatchName::new(name).map_err(|error| {
        CliError::refused("malformed-release", error.to_string()).hint("Name it with --release NAME.")
    })?;
    let input = PatchInput {
        inventory: (*context.inventory).clone(),
        observation,
        vulnerability: vulnerability.id.clone(),
        release,
        changes,
        policy: context.policy.for_patch(),
        now: Context::now(),
    };
    let (plan, report) = plan_patch(&input, &context.catalog).map_err(|error| {
        let message =
            format!("could not plan a patch of {} against {}", context.inventory.name, vulnerability.id);
        CliError::refused(plan_error_code(&error), message).because(&error)
    })?;
    tell_serious(context, &input.observation, &plan);
    Ok((plan, report))
}

/// Tells what stands in the way of a plan right when it is made, when there is time to mend it.
pub(super) fn tell_serious(context: &Context, observation: &Observation, plan: &Plan) {
    let findings = judge(context, observation, plan);
    if findings.iter().any(|finding| finding.severity >= Severity::Serious) {
        anstream::eprint!("{}", show::findings::render(&findings));
    }
}

/// Approves the plan as whoever asks for it, and carries it out.
async fn carry_out(context: &Context, store: &Store, args: &PatchArgs, plan: &Plan) -> Result<()> {
    if !args.yes {
        let question = format!("\nType the cloud's name ({}) to carry it out", plan.cloud);
        consent::ask(&question, plan.cloud.as_str())?;
    }
    store.approve(&plan.id, &Context::actor(), Context::now(), &args.accepted).map_err(store_error)?;
    let (run, plan) = run::begin(context, store, plan.id.as_str()).await?;
    run::execute(context, store, &run, &plan, After::AsRecorded, &Context::actor()).await
}

/// Computes the exposure to what a patch was for again, by what was seen to run before and after its run.
///
/// What the operator states counts afterwards, not before: it is the word for a package whose version does
/// not tell that the fix is in. Of a mitigation it does not count: the versions stay vulnerable, and where it
/// was seen to be in force is in the journal.
pub fn prove(
    context: &Context,
    store: &Store,
    plan: &Plan,
    state: &RunState,
    before: Option<&Observation>,
    after: &Observation,
) -> Result<Option<ExposureProof>> {
    let (vulnerability, mitigation) = match &plan.kind {
        PlanKind::Patch { vulnerability, .. } => (vulnerability, None),
        PlanKind::Mitigation { vulnerability, mitigation, undo: false, .. } => {
            (vulnerability, Some(mitigation))
        }
        // Nothing is closed by taking a mitigation back.
        PlanKind::Mitigation { undo: true, .. }
        | PlanKind::Upgrade
        | PlanKind::Rollback { .. }
        | PlanKind::Reboot { .. } => return Ok(None),
    };
    let Known { advisories, .. } = known(store)?;
    let facts = advisories
        .find(vulnerability)
        .map_err(|error| CliError::refused("unknown-vulnerability", error.to_string()))?;
    let versions = |exposure: &Exposure| -> Vec<ExposedVersion> {
        let exposed = exposure.of(&facts.id);
        exposed
            .map(|exposed| ExposedVersion {
                distribution: exposed.distribution.clone(),
                version: exposed.version.clone(),
                daemons: exposed.daemons.clone(),
            })
            .collect()
    };
    let before = match before {
        Some(seen) => versions(&expose(context, &advisories, Statements::None, seen)?),
        None => Vec::new(),
    };
    let statements = if mitigation.is_some() { Statements::None } else { Statements::Of(None) };
    let exposure = expose(context, &advisories, statements, after)?;
    let unjudged = exposure.unjudged.iter().filter(|unjudged| unjudged.vulnerability == facts.id);
    let mut unproved: Vec<String> = unjudged
        .map(|unjudged| format!("{} {}: {}", unjudged.distribution, unjudged.version, unjudged.why))
        .collect();
    let concerned = concerned(context, facts);
    let not_seen = exposure.not_seen.iter().filter(|unseen| concerned(unseen.daemon.kind.as_str()));
    unproved.extend(not_seen.map(|unseen| format!("{}: {}", unseen.daemon, unseen.why)));
    let after = versions(&exposure);
    let proof = ExposureProof::new(facts.id.clone(), before, after, unproved);
    Ok(Some(match mitigation {
        None => proof,
        Some(mitigation) => proof.mitigated(mitigate::seen_in_force(mitigation, plan, state)),
    }))
}

/// Whether a kind of daemon could run something that a vulnerability is in: its own service's package, or
/// a library, which anything may have loaded.
fn concerned<'a>(context: &'a Context, vulnerability: &'a Vulnerability) -> impl Fn(&str) -> bool + 'a {
    let known = context.catalog.daemons();
    let services: BTreeSet<&str> =
        context.catalog.services.values().map(|service| service.distribution.as_str()).collect();
    let claimed = move || vulnerability.claims.iter().map(|claim| claim.affected.distribution.as_str());
    let in_library = claimed().any(|distribution| !services.contains(distribution));
    move |kind| {
        let own = known.iter().find(|(known, _)| known.as_str() == kind);
        let own = own.map(|(_, (service, _))| service.distribution.as_str());
        in_library || own.is_some_and(|own| claimed().any(|distribution| distribution == own))
    }
}

/// What a verdict says of the vulnerability that the run was to close.
pub fn conclude(run: &RunId, verdict: &Verdict) -> Result<()> {
    let Some(proof) = &verdict.exposure else { return Ok(()) };
    if proof.result == ExposureResult::Mitigated {
        mitigate::tell_statement(run, proof);
    }
    let (run, name) = (show::short(run.as_str()), &proof.vulnerability);
    match proof.result {
        ExposureResult::Closed | ExposureResult::Mitigated => Ok(()),
        ExposureResult::Remains => Err(CliError::new(
            Kind::Blocked,
            "exposure-remains",
            format!("run {run} is through, and {name} is not closed"),
        )
        .hint("The verdict names who is exposed. `volutus patch` plans what is left.")),
        ExposureResult::NotProved => Err(CliError::new(
            Kind::Cloud,
            "exposure-not-proved",
            format!("run {run} is through, and that {name} is closed is not proved"),
        )
        .hint("The verdict names what was not seen or judged; `volutus exposure` looks again.")),
    }
}

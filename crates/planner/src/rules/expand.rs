//! Schemas are widened while old code runs; before that the databases are copied where the hop
//! changes anything.

use volutus_catalog::{HopFacts, Service};
use volutus_model::Severity;
use volutus_model::name::StageId;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, SchemaClass, SchemaPhase, Step};

use super::upgrade_check;
use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// Copies and schema changes of large tables take long; hours mean that somebody has to look.
pub(crate) const SCHEMA_TIMEOUT_S: u32 = 7_200;
/// Copying, starting a scratch server, restoring and comparing, for a database of some 10 MB: seconds.
const SNAPSHOT_EXPECTED_S: u32 = 5;

/// The id of a service's stage.
pub(crate) fn stage_of(service: &Service) -> String {
    format!("expand-{}", service.name)
}

/// Widens the schemas of the services that are `late`, or of those that are not.
///
/// The expand of a service that closes its way back comes late: everything that does not need it
/// is replaced and proved before, while all of it can still be taken back.
pub(crate) fn plan_expand(draft: &mut Draft<'_>, late: bool) -> Result<(), Error> {
    let before: Vec<StageId> = if late { draft.leaves() } else { Vec::new() };
    for &service in &draft.state.services {
        if closes_way_back(draft, service) != late {
            continue;
        }
        let Some(first) = draft.state.first_of(service) else {
            continue;
        };
        let host = first.host.name.clone();
        let hop = draft.hop(service);
        let mut steps = Vec::new();
        if hop.class == SchemaClass::None {
            draft.note(
                stage_of(service),
                "no revision is new in this hop, so no snapshot is taken; the commands run all \
                 the same, because they see to it that the schema is where the new code wants it",
            );
        } else {
            steps.extend(snapshot(draft, service, &hop)?);
        }
        let mut actions = Vec::new();
        let mut expected_s = 0;
        for command in &service.expand {
            expected_s += command.expected_s;
            actions.push(Action::MigrateSchema {
                service: service.name.clone(),
                host: host.clone(),
                phase: SchemaPhase::Expand,
                argv: draft.argv(service, &command.argv),
                success: command.success.clone(),
                rerun: command.rerun.clone(),
            });
        }
        if !actions.is_empty() {
            let mut expand = step(
                format!("expand/{}", service.name),
                format!("widen {}'s schema; old code keeps running", service.name),
                actions,
                impact_of(service, &hop),
                expected_s,
                SCHEMA_TIMEOUT_S,
            )?;
            expand.requires = steps.iter().map(|step: &Step| step.id.clone()).collect();
            steps.push(expand);
        }
        let mut after: Vec<(StageId, String)> = draft
            .edge(
                upgrade_check::STAGE,
                "no schema is touched before every service's upgrade check has passed",
            )
            .into_iter()
            .collect();
        for stage in before.iter().filter(|stage| stage.as_str() != upgrade_check::STAGE) {
            let why = format!("{}'s way back ends here, so that what can go before does", service.name);
            after.push((stage.clone(), why));
        }
        draft.add(NewStage {
            id: stage_of(service),
            phase: Phase::Expand,
            title: format!("widen {}'s schema", service.name),
            parallel_max: 1,
            after,
            steps,
        })?;
    }
    Ok(())
}

/// Whether the service's expand takes away something that its old code needs.
pub(crate) fn closes_way_back(draft: &Draft<'_>, service: &Service) -> bool {
    draft.hop(service).class == SchemaClass::Restore
}

fn snapshot(draft: &mut Draft<'_>, service: &Service, hop: &HopFacts) -> Result<Option<Step>, Error> {
    let Some(database) = draft.input.inventory.databases.first() else {
        draft.find(
            Severity::Serious,
            "no-snapshot",
            &service.name,
            format!(
                "this hop changes {}'s schema ({}), and no [[database]] is declared on which a \
                 copy could be taken before",
                service.name, hop.why
            ),
            "Declare the database server in the cloud description, or take a copy yourself just \
             before the run.",
        );
        return Ok(None);
    };
    let directory = format!(
        "/var/lib/volutus/snapshots/{}-{}-{}",
        draft.input.inventory.name,
        draft.input.target,
        draft.input.now.strftime("%Y%m%dT%H%M%SZ"),
    );
    let databases = service.schemas.iter().map(|schema| &schema.database);
    let databases = databases.chain(&service.other_databases).cloned().collect();
    step(
        format!("snapshot/{}", service.name),
        format!(
            "copy {}'s databases on {}, and see that the copy can be restored",
            service.name, database.host
        ),
        vec![Action::SnapshotDatabase {
            service: service.name.clone(),
            host: database.host.clone(),
            databases,
            directory,
            key_file: database.snapshot_key_file.clone(),
            keep: Some(draft.input.policy.snapshots_keep),
        }],
        no_impact("it reads in one consistent view, and restores it in a server of its own"),
        SNAPSHOT_EXPECTED_S,
        SCHEMA_TIMEOUT_S,
    )
    .map(Some)
}

fn impact_of(service: &Service, hop: &HopFacts) -> Impact {
    if hop.class == SchemaClass::None {
        return no_impact("nothing changes");
    }
    Impact {
        level: ImpactLevel::Minor,
        service: Some(service.name.clone()),
        why: "requests to a table wait while it is altered".to_owned(),
    }
}

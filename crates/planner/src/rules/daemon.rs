//! The actions that replace one daemon, and the time that they may take.

use std::net::IpAddr;

use volutus_model::Severity;
use volutus_model::name::PackageVersion;
use volutus_model::plan::{Action, Impact, ImpactLevel, Proof, Step};

use crate::Error;
use crate::draft::{Draft, step};
use crate::state::Member;

/// Seconds that a daemon of an API needs for nothing but its start and its answers.
const START_SLACK_S: u32 = 120;
/// A stop that takes longer than this is not graceful but stuck.
const STOP_MAX_S: u64 = 900;

/// The steps that replace those that are pending, each by itself; the first one shows that the new release works,
/// and the others may then go side by side. `why`: what each being out means.
pub(crate) fn first_alone(
    draft: &mut Draft<'_>,
    members: &[Member<'_>],
    why: impl Fn(&Member<'_>) -> String,
) -> Result<Vec<Step>, Error> {
    let mut steps: Vec<Step> = Vec::new();
    for member in members.iter().filter(|member| member.pending) {
        let service = Some(member.service.name.clone());
        let mut new = step(
            format!("roll/{}", member.id),
            format!("{} {}", draft.verb(), member.id),
            vec![switch(draft, member), prove(draft, member)],
            Impact { level: ImpactLevel::Minor, service, why: why(member) },
            member.facts.expected_s,
            action_timeout_s(draft, member),
        )?;
        new.requires = steps.first().map(|first| first.id.clone()).into_iter().collect();
        steps.push(new);
    }
    Ok(steps)
}

/// Stop gracefully, switch, start.
pub(crate) fn switch(draft: &Draft<'_>, member: &Member<'_>) -> Action {
    let service = member.service;
    Action::SwitchDaemon {
        daemon: member.id.clone(),
        service: service.name.clone(),
        unit: member.declaration.unit.clone(),
        link: draft.releases().current_of(&service.name, &member.id.kind),
        from: draft.old_release(member),
        to: draft.new_release(member),
    }
}

/// See that it serves, in the new version.
pub(crate) fn prove(draft: &mut Draft<'_>, member: &Member<'_>) -> Action {
    let version = draft.state.versions[&member.service.name].clone();
    prove_version(draft, member, version)
}

/// See that it serves, in a version.
pub(crate) fn prove_version(draft: &mut Draft<'_>, member: &Member<'_>, version: PackageVersion) -> Action {
    let service = member.service;
    let mut proofs = Vec::new();
    if let Some(health) = &member.facts.health {
        match member.declaration.port {
            Some(port) => proofs.push(Proof::Http {
                url: format!("http://{}:{port}{}", host_part(member.host.address), health.path),
                statuses: health.statuses.clone(),
                authenticated: health.authenticated,
            }),
            None => draft.find(
                Severity::Serious,
                "api-without-port",
                &member.id.kind,
                "the cloud description gives no port for it, so a replica cannot be asked \
                 whether it serves; only its process is looked at",
                "Give `port` in the daemon's declaration.",
            ),
        }
    }
    if let Some(record) = &member.facts.record {
        let version =
            record.versioned.then(|| service.record_versions.get(&draft.input.target).copied()).flatten();
        proofs.push(Proof::ServiceRecord {
            service: service.name.clone(),
            binary: record.binary.clone(),
            version,
        });
    }
    if let Some(seconds) = member.facts.steady_s {
        proofs.push(Proof::Steady { seconds });
    }
    if proofs.is_empty() {
        // Without any other proof, a process that stays up for a while is the least to ask for.
        proofs.push(Proof::Steady { seconds: 10 });
    }
    Action::ProveDaemon {
        daemon: member.id.clone(),
        service: service.name.clone(),
        unit: member.declaration.unit.clone(),
        version,
        proofs,
    }
}

/// Seconds after which one action on this daemon is given up: its graceful stop and its start,
/// the drain before them, or the proof after them, whichever is longest.
pub(crate) fn action_timeout_s(draft: &Draft<'_>, member: &Member<'_>) -> u32 {
    let graceful = [draft.state.from, draft.input.target]
        .into_iter()
        .filter_map(|series| member.service.graceful_shutdown_in(series))
        .chain(member.seen.timeout_stop_s)
        .max()
        .unwrap_or(90)
        .min(STOP_MAX_S);
    let stop = u32::try_from(graceful).unwrap_or(u32::MAX).saturating_add(START_SLACK_S);
    let policy = draft.policy();
    stop.max(policy.drain_timeout_s.saturating_add(START_SLACK_S)).max(policy.prove_timeout_s)
}

pub(crate) fn host_part(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

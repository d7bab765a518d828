//! Replicas of an API: drained at the load balancer, replaced, proved, given back; one after another, or
//! around one exchange ([`advertised`]).

use std::collections::BTreeMap;

use volutus_model::Severity;
use volutus_model::name::BackendName;
use volutus_model::plan::{Action, Impact, ImpactLevel, Step};

use super::{advertised, daemon};
use crate::Error;
use crate::draft::{Draft, step};
use crate::state::Member;

/// How many replicas may be out at the same time, and the steps.
pub(crate) fn steps(draft: &mut Draft<'_>, members: &[Member<'_>]) -> Result<(u32, Vec<Step>), Error> {
    if let Some(step) = advertised::exchange(draft, members)? {
        return Ok((1, vec![step]));
    }
    let replicas = Replicas::of(members);
    let mut steps: Vec<Step> = Vec::new();
    let pending = members.iter().filter(|member| member.pending);
    let (serving, broken): (Vec<_>, Vec<_>) =
        pending.partition(|member| !draft.is_back() || serves(draft, member));
    let broken_count = broken.len();
    // On the way back a replica that does not serve is mended before one that does is taken out.
    for member in broken.into_iter().chain(serving) {
        let (mut actions, undrain) = around(draft, member, &replicas);
        actions.push(daemon::switch(draft, member));
        actions.push(daemon::prove(draft, member));
        actions.extend(undrain.clone());
        let mut new = step(
            format!("roll/{}", member.id),
            format!("{} {}", draft.verb(), member.id),
            actions,
            impact(member, &replicas, draft.policy().serving_replicas_min),
            member.facts.expected_s,
            daemon::action_timeout_s(draft, member),
        )?;
        new.give_back = undrain;
        // The first replica shows that the release serves; only then may two be out at once.
        let awaited = broken_count.min(steps.len()).saturating_sub(1);
        new.requires = steps.get(awaited).map(|first| first.id.clone()).into_iter().collect();
        steps.push(new);
    }
    advertised::go_on(draft, members, &mut steps)?;
    Ok((width(draft, &replicas), steps))
}

/// Whether the load balancer sends requests to a replica now; what was not seen is taken for
/// serving, because then it is not taken out beside another one.
pub(crate) fn serves(draft: &Draft<'_>, member: &Member<'_>) -> bool {
    let name = member.declaration.server_name(&member.host.name);
    member.declaration.backends.iter().all(|backend| {
        let seen = draft.input.observation.backends.get(backend).and_then(|fact| fact.value());
        let server = seen.and_then(|servers| servers.iter().find(|server| server.name == name));
        server.is_none_or(|server| server.status == "UP" || server.status == "no check")
    })
}

/// Declared replicas of a kind.
pub(crate) struct Replicas {
    by_backend: BTreeMap<BackendName, u32>,
    total: u32,
}

impl Replicas {
    pub fn of(members: &[Member<'_>]) -> Self {
        let mut by_backend = BTreeMap::new();
        for backend in members.iter().flat_map(|member| &member.declaration.backends) {
            *by_backend.entry(backend.clone()).or_insert(0) += 1;
        }
        Self { by_backend, total: u32::try_from(members.len()).unwrap_or(u32::MAX) }
    }

    /// Replicas of the smallest backend that the member serves in; of the kind where none.
    fn beside(&self, member: &Member<'_>) -> u32 {
        let counts = member.declaration.backends.iter().filter_map(|b| self.by_backend.get(b));
        counts.min().copied().unwrap_or(self.total)
    }
}

/// Replicas that may be out at once: never more than leaves the policy's minimum serving, and
/// never more than a third, so that the rest is not suddenly asked to carry twice its load.
pub(crate) fn width(draft: &Draft<'_>, replicas: &Replicas) -> u32 {
    let min = draft.policy().serving_replicas_min;
    let counts = replicas.by_backend.values().copied();
    counts
        .chain([replicas.total])
        .map(|count| count.saturating_sub(min).min(count / 3).max(1))
        .min()
        .unwrap_or(1)
}

/// The drains before and the undrains after whatever is done to a replica: one for every backend
/// that it serves in, given back in the opposite order.
pub(crate) fn around(
    draft: &mut Draft<'_>,
    member: &Member<'_>,
    replicas: &Replicas,
) -> (Vec<Action>, Vec<Action>) {
    let min = draft.policy().serving_replicas_min;
    let fewest = replicas.beside(member);
    if fewest <= min {
        draft.find(
            Severity::Serious,
            "single-replica",
            &member.id.kind,
            format!(
                "{fewest} replica(s) serve it, and {min} must serve at any moment: while one is \
                 replaced too few are left, so requests fail. Zero downtime is not possible here"
            ),
            "Add replicas behind the load balancer, or accept the downtime with \
             `accept_downtime = true` in the policy.",
        );
    }
    if member.declaration.backends.is_empty() {
        draft.find(
            Severity::Serious,
            "api-without-backend",
            &member.id.kind,
            "the cloud description names no backend for it, so its replicas cannot be drained \
             before they stop: requests that they are sent meanwhile fail",
            "Give `backend` in the daemon's declaration.",
        );
    }
    let (mut drains, mut undrains) = (Vec::new(), Vec::new());
    for backend in &member.declaration.backends {
        let count = replicas.by_backend.get(backend).copied().unwrap_or(1);
        let server = member.declaration.server_name(&member.host.name);
        drains.push(Action::DrainBackend {
            daemon: member.id.clone(),
            backend: backend.clone(),
            server: server.clone(),
            others_up_min: min.min(count.saturating_sub(1)),
        });
        undrains.push(Action::UndrainBackend { daemon: member.id.clone(), backend: backend.clone(), server });
    }
    undrains.reverse();
    (drains, undrains)
}

/// What users notice while one replica is out.
pub(crate) fn impact(member: &Member<'_>, replicas: &Replicas, min: u32) -> Impact {
    let count = replicas.beside(member);
    let service = Some(member.service.name.clone());
    if member.declaration.backends.is_empty() {
        let why = "it is not behind a load balancer: requests to it fail meanwhile".to_owned();
        return Impact { level: ImpactLevel::Major, service, why };
    }
    if count <= min.max(1) {
        let why = format!("too few of {count} replicas serve meanwhile: requests fail");
        return Impact { level: ImpactLevel::Major, service, why };
    }
    let why = format!("one of {count} replicas is out; the others serve");
    Impact { level: ImpactLevel::Minor, service, why }
}

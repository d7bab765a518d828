//! Compute hosts that get more than new daemons' code in the same go: each is emptied onto hosts that are done,
//! upgraded while it is empty, restarted, and given back, so that one pass over the fleet does both.
//!
//! Computes that are not emptied are upgraded in place, as in any upgrade, and before: whatever may be moved to
//! is then on the new release, or waits on the old one for its own turn.

use volutus_catalog::{DaemonRole, Service};
use volutus_model::Severity;
use volutus_model::fleet::plan::Content;
use volutus_model::name::HostName;
use volutus_model::plan::Phase;

use crate::Error;
use crate::draft::Draft;
use crate::reboot;
use crate::rules::hooks;
use crate::state::Member;

/// Whether services have daemons beside instances: only these make a drain wait.
pub(crate) fn any_on_computes(draft: &Draft<'_>, services: &[&Service]) -> bool {
    let beside = |service: &&Service| {
        let mut kinds = service.daemons.iter().filter(|daemon| daemon.role == DaemonRole::Compute);
        kinds.any(|daemon| draft.state.members.contains_key(&daemon.kind))
    };
    services.iter().any(beside)
}

/// The passes over the fleet, behind everything that is planned so far; nothing where no host is emptied.
pub(crate) fn plan_drains(draft: &mut Draft<'_>) -> Result<(), Error> {
    let input = draft.input;
    let Some(reboot) = &input.drains else { return Ok(()) };
    let content = &reboot.content;
    hooks::declared(&input.inventory, &content.policy)?;
    let why = "instances are moved by the upgraded control plane, at rest, onto hosts that are done";
    let after = draft.leaves().into_iter().map(|stage| (stage, why.to_owned())).collect();
    reboot::plan_computes(draft, content, after)?;
    for left in &content.left {
        if upgraded(draft, &left.host).is_empty() {
            continue;
        }
        draft.find(
            Severity::Warning,
            "upgraded-in-place",
            &left.host,
            format!(
                "it is not restarted, because {}; its daemons are replaced beside its instances",
                left.cause
            ),
            left.action.clone(),
        );
    }
    let figures = &content.figures;
    draft.note(
        "instances",
        format!(
            "{} of them move, in {} moves, off {} hosts that are upgraded and restarted while they are empty; \
             all others stay where they are",
            figures.instances_moved, figures.moves, figures.hosts
        ),
    );
    let behind = &content.selection.past.failed;
    if !behind.is_empty() {
        let names: Vec<&str> = behind.iter().map(HostName::as_str).collect();
        draft.find(
            Severity::Warning,
            "finalize-withheld",
            names.join(", "),
            "what failed stays on the old release, and finalize takes away what that needs: it is refused",
            "Mend these hosts, give the run up, and upgrade them by a new plan; that one finalizes.",
        );
    }
    Ok(())
}

/// Says so where no host is emptied although computes are replaced.
pub(crate) fn tell_of_staying(draft: &mut Draft<'_>) {
    let replaced = |member: &Member<'_>| member.pending && member.facts.role == DaemonRole::Compute;
    if draft.input.drains.is_none() && draft.state.members.values().flatten().any(replaced) {
        draft.note(
            "instances",
            "all of them stay where they are and run on: only daemons beside them are replaced. Where hosts are \
             to get packages or a restart besides, a plan with a reboot does both in one pass",
        );
    }
}

/// What belongs to instances on a host and is switched while the host is empty; nothing where no release changes.
pub(crate) fn upgraded<'a>(draft: &Draft<'a>, host: &HostName) -> Vec<&'a Member<'a>> {
    if !draft.kind.is_upgrade() {
        return Vec::new();
    }
    let beside = |member: &&Member<'_>| {
        member.pending && member.facts.role == DaemonRole::Compute && member.host.name == *host
    };
    draft.state.members.values().flatten().filter(beside).collect()
}

/// Whether anything that belongs to instances is replaced on a host.
pub(crate) fn is_upgraded(draft: &Draft<'_>, host: &HostName) -> bool {
    !upgraded(draft, host).is_empty()
}

/// The host that every other one that is upgraded waits for: the first that is emptied, where none was replaced
/// in place before.
pub(crate) fn canary<'c>(draft: &Draft<'_>, content: &'c Content) -> Option<&'c HostName> {
    if draft.stages().iter().any(|stage| stage.phase == Phase::Canary) {
        return None;
    }
    // The earliest waits for none that is upgraded, since it waits only for what is begun before it.
    let upgraded = content.drains.iter().filter(|drain| is_upgraded(draft, &drain.host));
    upgraded.min_by_key(|drain| (drain.disable_ms, &drain.host)).map(|drain| &drain.host)
}

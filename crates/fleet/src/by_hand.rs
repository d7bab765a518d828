//! One host by hand: emptied onto whatever hosts fit, or given back.

use jiff::Timestamp;
use volutus_model::HostName;
use volutus_model::fleet::plan::{Content, FORMAT, Figures, HostDrain, RebootPlan, Stay, StayReason, Work};
use volutus_model::fleet::policy::Act;
use volutus_model::fleet::{Fleet, NewcomerWay, RebootPolicy, Selection};

use crate::{Error, duties, plan, render};

/// Plans to empty one host, which then stays disabled. Every other host of the fleet that is in
/// service may be moved to, and a host that somebody disabled is emptied, too: that is what was
/// asked for.
///
/// # Errors
/// [`Error`]; [`Error::CannotBeEmptied`] where an instance has to stay.
pub fn drain(
    fleet: &Fleet,
    policy: &RebootPolicy,
    host: &HostName,
    cloud: &HostName,
    now: Timestamp,
) -> Result<RebootPlan, Error> {
    known(fleet, host)?;
    let mut policy = policy.clone();
    policy.hosts.include_disabled = true;
    // Nothing is done on the host once it is empty; instances may not run on, whatever is.
    policy.act = Act { reboot: true, work_s: 0, reboot_s: 0, prove_s: 0, ..Act::default() };
    let made = plan(fleet, &policy, &only(host), cloud, now)?;
    match made.content.left.first() {
        Some(left) => Err(Error::CannotBeEmptied { left: Box::new(left.clone()) }),
        None => Ok(RebootPlan::new(duties::told(Content { work: Work::Drain, ..made.content }, fleet))),
    }
}

/// Plans to give one host back, and to start there what Volutus stopped.
///
/// # Errors
/// [`Error::NoSuchHost`], [`Error::Description`].
pub fn undrain(
    fleet: &Fleet,
    policy: &RebootPolicy,
    host: &HostName,
    cloud: &HostName,
    now: Timestamp,
) -> Result<RebootPlan, Error> {
    known(fleet, host)?;
    let drain = HostDrain {
        host: host.clone(),
        disable_ms: 0,
        empty_ms: 0,
        back_ms: 0,
        wave: 1,
        moves: 0,
        per_source: 1,
        phase: 0,
        after: Vec::new(),
        newcomers: NewcomerWay::default(),
    };
    let content = Content {
        format: FORMAT,
        cloud: cloud.clone(),
        created_at: now,
        fleet: fleet.digest(),
        work: Work::Undrain,
        upgrade: None,
        selection: only(host),
        policy: policy.clone(),
        drains: vec![drain],
        moves: Vec::new(),
        stays: fleet
            .instances
            .iter()
            .filter(|instance| instance.host == *host && instance.stopped)
            .map(|instance| Stay {
                instance: instance.id.clone(),
                host: host.clone(),
                why: StayReason::Stopped,
            })
            .collect(),
        left: Vec::new(),
        control: Vec::new(),
        classes: Vec::new(),
        duties: std::collections::BTreeMap::new(),
        owners: std::collections::BTreeMap::new(),
        undecided: Vec::new(),
        findings: fleet.unseen.clone(),
        figures: Figures { hosts: 1, waves: 1, ..Figures::default() },
    };
    Ok(RebootPlan::new(duties::told(content, fleet)))
}

fn only(host: &HostName) -> Selection {
    Selection { hosts: Some(host.to_string()), ..Selection::default() }
}

fn known(fleet: &Fleet, host: &HostName) -> Result<(), Error> {
    fleet.check()?;
    if fleet.hosts.iter().any(|known| known.name == *host) {
        return Ok(());
    }
    let names = fleet.hosts.iter().map(|known| known.name.as_str());
    Err(Error::NoSuchHost { host: host.clone(), known: render::list(names, 10) })
}

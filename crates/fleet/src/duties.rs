//! What is told of hosts of a plan that are network nodes besides: what moves, and what cannot.

use volutus_model::fleet::plan::{Content, RebootPlan, Work};
use volutus_model::fleet::{Duties, Fleet};
use volutus_model::{Finding, HostName, Severity};

use crate::render;

const STUCK: &str = "duties-without-another-agent";
const AWAY: &str = "routers-away";
/// Networks and routers that one finding names.
const NAMED_MAX: usize = 5;

/// Puts hosts of the control plane behind those that carry instances, with what they have to do for the
/// network.
#[must_use]
pub fn with_control(plan: RebootPlan, fleet: &Fleet, control: Vec<HostName>) -> RebootPlan {
    RebootPlan::new(told(Content { control, ..plan.content }, fleet))
}

/// The plan with the duties of its hosts, and what is to be said of them.
pub(crate) fn told(mut content: Content, fleet: &Fleet) -> Content {
    content.findings.retain(|finding| ![STUCK, AWAY].contains(&finding.code.as_str()));
    content.duties.clear();
    // Where hosts do not go away, their agents go on serving.
    if content.work == Work::Reboot && !content.policy.act.reboot {
        return content;
    }
    let hosts = content.drains.iter().map(|drain| &drain.host).chain(&content.control);
    let found = hosts.filter_map(|host| Some((host.clone(), fleet.duties.get(host)?.clone())));
    content.duties = found.collect();
    if content.work != Work::Undrain {
        let findings = content.duties.iter().flat_map(|(host, duties)| findings(host, duties));
        content.findings.extend(findings.collect::<Vec<_>>());
        content.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    }
    content
}

fn findings(host: &HostName, duties: &Duties) -> Vec<Finding> {
    let mut found = Vec::new();
    if !duties.stuck.is_empty() {
        found.push(Finding::new(
            Severity::Serious,
            STUCK,
            host,
            format!(
                "as things are no other agent can take {}: the run halts at this host, before it restarts",
                render::list(duties.stuck.iter().map(String::as_str), NAMED_MAX)
            ),
            "Put HA routers on a second agent, or start a DHCP or L3 agent that reaches these networks in their zones.",
        ));
    }
    if duties.routers > 0 {
        found.push(Finding::new(
            Severity::Warning,
            AWAY,
            host,
            format!(
                "{} routers are on no other agent: each is moved, and moved back, and is away for the seconds that \
                 its new agent takes to build it (of distributed routers, their source NAT is)",
                duties.routers
            ),
            "Make them HA routers where that is too long.",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fleet() -> Fleet {
        let duties = Duties { networks: 2, networks_alone: 1, routers: 1, ..Duties::default() };
        let stuck = Duties { ha_routers: 1, stuck: vec!["router r (1)".to_owned()], ..Duties::default() };
        let hosts: Vec<_> =
            ["c1", "c2"].map(|name| volutus_model::fleet::FleetHost::named(name.parse().unwrap())).to_vec();
        let duties = [("c1", duties), ("net1", stuck)].map(|(host, one)| (host.parse().unwrap(), one));
        Fleet { hosts, duties: BTreeMap::from(duties), ..Fleet::default() }
    }

    #[test]
    fn the_duties_of_the_hosts_of_a_plan_are_told_and_no_others() {
        let fleet = fleet();
        let policy = volutus_model::fleet::RebootPolicy::default();
        let selection = volutus_model::fleet::Selection::default();
        let cloud: HostName = "cloud".parse().unwrap();
        let made = crate::plan(&fleet, &policy, &selection, &cloud, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let told = |plan: &RebootPlan| -> (Vec<String>, Vec<String>) {
            let content = &plan.content;
            let hosts = content.duties.keys().map(ToString::to_string).collect();
            (hosts, content.findings.iter().map(|one| format!("{} {}", one.code, one.subject)).collect())
        };
        assert_eq!(told(&made), (vec!["c1".to_owned()], vec!["routers-away c1".to_owned()]));
        let with = with_control(made, &fleet, vec!["net1".parse().unwrap()]);
        assert_eq!(
            told(&with),
            (
                vec!["c1".to_owned(), "net1".to_owned()],
                vec!["duties-without-another-agent net1".to_owned(), "routers-away c1".to_owned()]
            )
        );
        assert_eq!(with.id, RebootPlan::compute_id(&with.content));
        // They tell of the cloud, and are no part of what instances go by.
        assert_eq!(fleet.digest(), Fleet { duties: BTreeMap::new(), ..fleet.clone() }.digest());
        let mut stays = policy;
        stays.act.reboot = false;
        let made = crate::plan(&fleet, &stays, &selection, &cloud, jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(&made), (Vec::new(), Vec::new()));
    }
}

//! What single planning rules decide, and how plans are compared and drawn.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{catalog, input, set_running};
use volutus_model::inventory::Inventory;
use volutus_model::plan::{Action, Phase, SchemaClass};
use volutus_model::{Fact, Severity};
use volutus_plancheck::check_plan;
use volutus_planner::described::{Shape, cloud, describe_text, observe};
use volutus_planner::{PlanningInput, diff, plan, render_dot};

fn judged(input: &PlanningInput) -> volutus_model::Plan {
    let (made, _) = plan(input, &catalog()).unwrap();
    let findings = check_plan(&made, &input.inventory, &input.observation, &catalog(), &input.policy);
    assert_eq!(findings, [], "{findings:#?}");
    made
}

fn width(plan: &volutus_model::Plan, stage: &str) -> u32 {
    plan.stages.iter().find(|s| s.id.as_str() == stage).unwrap().parallel_max
}

#[test]
fn replicas_out_at_once_keep_the_minimum() {
    let mut input = input(6, 3, "2025.2", "2026.1");
    assert_eq!(width(&judged(&input), "roll-nova-api"), 2);
    assert_eq!(width(&judged(&input), "roll-nova-conductor"), 4);
    input.policy.serving_replicas_min = 5;
    assert_eq!(width(&judged(&input), "roll-nova-api"), 1);
    assert_eq!(width(&judged(&input), "roll-nova-conductor"), 1);
}

#[test]
fn workers_that_drop_messages_when_they_stop_go_one_after_another() {
    let mut input = input(6, 3, "2025.2", "2026.1");
    let ctl2 = input.observation.hosts.iter_mut().find(|(name, _)| name.as_str() == "ctl2");
    let Some((_, Fact::Observed { value, .. })) = ctl2 else {
        panic!("ctl2 is described");
    };
    let nova = value.options.get_mut("/etc/nova/nova.conf").unwrap();
    nova.insert("oslo_messaging_rabbit/use_queue_manager".into(), "False".into());
    let made = judged(&input);
    assert_eq!(width(&made, "roll-nova-conductor"), 1);
    assert_eq!(width(&made, "roll-nova-scheduler"), 1);
    // Cinder has a file of its own, in which it is switched on.
    assert_eq!(width(&made, "roll-cinder-scheduler"), 4);
}

/// A cloud in which every compute is a network node with neutron's own agents, too.
fn with_agents(computes: usize) -> PlanningInput {
    let shape = support::shape(3, computes, "2025.2");
    let kinds = ["neutron-openvswitch-agent", "neutron-dhcp-agent", "neutron-l3-agent"];
    let daemons = kinds.map(|kind| format!("{{ kind = \"{kind}\", unit = \"{kind}.service\" }}"));
    let text = describe_text(&shape).replace("[\"compute\"]", "[\"compute\", \"network\"]");
    let role = format!("\n[[role]]\nname = \"network\"\ndaemons = [{}]\n", daemons.join(", "));
    let inventory = Inventory::parse(&(text + &role)).unwrap();
    let observation = observe(&inventory, &shape);
    support::input_of(inventory, observation, "2026.1")
}

#[test]
fn agents_follow_the_servers_and_the_one_for_ports_goes_first() {
    let mut input = with_agents(8);
    // So that nothing else keeps all of them from going at once.
    input.policy.parallel_steps_max = 8;
    let made = judged(&input);
    let stage = |id: &str| made.stages.iter().find(|stage| stage.id.as_str() == id).unwrap();
    let waits_for = |id: &str, other: &str| stage(id).after.iter().any(|edge| edge.as_str() == other);
    for server in ["roll-neutron-api", "roll-neutron-rpc-server", "stage-computes"] {
        assert!(waits_for("roll-neutron-openvswitch-agent", server), "{server}");
    }
    for agent in ["roll-neutron-dhcp-agent", "roll-neutron-l3-agent"] {
        assert!(waits_for(agent, "roll-neutron-openvswitch-agent"), "{agent}");
        assert_eq!(width(&made, agent), input.policy.compute_wave);
        let (first, others) = stage(agent).steps.split_first().unwrap();
        assert_eq!(others.len(), 7);
        assert!(others.iter().all(|step| step.requires == [first.id.clone()]), "{agent}");
    }

    let codes = |plan: &volutus_model::Plan| -> Vec<String> {
        let findings = check_plan(plan, &input.inventory, &input.observation, &catalog(), &input.policy);
        findings.into_iter().map(|finding| finding.code).collect()
    };
    let mut wide = made.clone();
    let at = made.stages.iter().position(|stage| stage.id.as_str() == "roll-neutron-l3-agent").unwrap();
    wide.stages[at].parallel_max = 8;
    for step in &mut wide.stages[at].steps {
        step.requires.clear();
    }
    wide.id = wide.compute_id();
    assert!(codes(&wide).contains(&"budget-exceeded".to_owned()), "{:?}", codes(&wide));
    let mut early = made.clone();
    early.stages[at].after.clear();
    early.id = early.compute_id();
    assert!(codes(&early).contains(&"daemon-order".to_owned()), "{:?}", codes(&early));
}

#[test]
fn a_zone_always_keeps_a_compute() {
    let catalog = catalog();
    let mut shape = Shape::new(3, 8, "2025.2".parse().unwrap(), &catalog).unwrap();
    shape.zones = 3;
    let inventory = Inventory::parse(&describe_text(&shape)).unwrap();
    let observation = observe(&inventory, &shape);
    let mut input = support::input_of(inventory, observation, "2026.1");
    input.policy.compute_wave = 10;
    let made = judged(&input);
    assert_eq!(width(&made, "waves-nova-compute-az1"), 2);
    assert_eq!(width(&made, "waves-nova-compute-az3"), 1);
    let canary = made.stages.iter().find(|stage| stage.phase == Phase::Canary).unwrap();
    assert_eq!(canary.steps[0].id.as_str(), "canary/nova-compute@cmp1");
}

#[test]
fn a_disabled_compute_is_no_canary() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    if let Some(Fact::Observed { value, .. }) = input.observation.records.get_mut("nova") {
        let record = value.iter_mut().find(|r| r.binary == "nova-compute" && r.host == "cmp1");
        record.unwrap().disabled = Some("broken fan".to_owned());
    }
    let made = judged(&input);
    let canary = made.stages.iter().find(|stage| stage.phase == Phase::Canary).unwrap();
    assert_eq!(canary.steps[0].id.as_str(), "canary/nova-compute@cmp2");
}

#[test]
fn the_segment_range_plug_in_closes_neutrons_way_back() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    for fact in input.observation.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact
            && let Some(options) = value.options.get_mut("/etc/neutron/neutron.conf")
        {
            options.insert("DEFAULT/service_plugins".into(), "router,network_segment_range".into());
        }
    }
    let made = judged(&input);
    let neutron = made.rollback.iter().find(|h| h.service.as_str() == "neutron").unwrap();
    assert_eq!(neutron.class, SchemaClass::Restore);
    assert_eq!(neutron.until.as_ref().unwrap().as_str(), "expand-neutron");
    assert_eq!(made.point_of_no_return.unwrap().as_str(), "expand-neutron");
}

#[test]
fn several_backends_are_all_drained() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    let api = input.inventory.roles[0].daemons.iter_mut().find(|d| d.kind.as_str() == "nova-api");
    api.unwrap().backends.push("nova-external".parse().unwrap());
    input.observation.inventory = input.inventory.digest();
    let made = judged(&input);
    let (_, step) = made.step(&"roll/nova-api@ctl1".parse().unwrap()).unwrap();
    let kinds: Vec<String> = step.actions.iter().map(Action::summary).collect();
    assert_eq!(kinds[..2], ["drain nova/ctl1", "drain nova-external/ctl1"]);
    assert_eq!(kinds[4..], ["undrain nova-external/ctl1", "undrain nova/ctl1"]);
    assert_eq!(step.give_back.len(), 2);
}

#[test]
fn a_shared_link_is_told() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.inventory.releases.current = "/opt/cur/{service}".to_owned();
    input.observation.inventory = input.inventory.digest();
    let (_, report) = plan(&input, &catalog()).unwrap();
    let finding = report.findings.iter().find(|f| f.code == "shared-link").unwrap();
    assert_eq!(finding.severity, Severity::Serious);
}

#[test]
fn plans_are_compared_by_what_they_do() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    let (a, _) = plan(&input, &catalog()).unwrap();
    assert!(diff(&a, &a).is_empty());
    set_running(&mut input.observation, "glance-api@ctl1", "2026.1");
    input.policy.soak_s = 0;
    let (b, _) = plan(&input, &catalog()).unwrap();
    let text = diff(&a, &b).to_string();
    let wanted = [
        "- policy soak_s: 20",
        "+ policy soak_s: 0",
        "@@ stage soak (only in the first plan) @@",
        "- soak/watch: watch for 20 s",
        "@@ stage roll-glance-api (differs) @@",
        "- roll/glance-api@ctl1: drain glance/ctl1;",
    ];
    for line in wanted {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_drawing_has_every_stage_and_edge() {
    let (made, _) = plan(&input(3, 3, "2025.2", "2026.1"), &catalog()).unwrap();
    let drawing = render_dot(&made);
    let edges: usize = made.stages.iter().map(|stage| stage.after.len()).sum();
    assert_eq!(drawing.matches(" -> ").count(), edges);
}

#[test]
fn large_clouds_are_planned_and_judged_whole() {
    let (inventory, observation) = cloud(2_000);
    let input = support::input_of(inventory, observation, "2026.1");
    let made = judged(&input);
    let switches = made
        .steps()
        .flat_map(|(_, step)| &step.actions)
        .filter(|action| matches!(action, Action::SwitchDaemon { .. }));
    assert_eq!(switches.count(), input.inventory.daemons().count());
}

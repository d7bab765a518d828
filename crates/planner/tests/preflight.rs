//! Preflight: a well cloud passes, and each thing that can be wrong with one is found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{catalog, input, series};
use volutus_model::observation::{DaemonObservation, HostObservation, ServiceRecord};
use volutus_model::{Fact, Finding, Severity};
use volutus_plancheck::preflight;
use volutus_planner::PlanningInput;

fn judge(input: &PlanningInput, from: &str) -> Vec<Finding> {
    let catalog = catalog();
    let versions = catalog.series[&input.target].versions.clone();
    preflight(
        &input.inventory,
        &input.observation,
        &catalog,
        series(from),
        input.target,
        &versions,
        &input.policy,
    )
}

/// What is found once a well cloud on its way from 2025.2 to 2026.1 is changed.
fn found(change: impl Fn(&mut PlanningInput)) -> Vec<(Severity, String, String)> {
    let mut input = input(3, 3, "2025.2", "2026.1");
    change(&mut input);
    judge(&input, "2025.2").into_iter().map(|f| (f.severity, f.code, f.subject)).collect()
}

#[track_caller]
fn expect(severity: Severity, code: &str, subject: &str, change: impl Fn(&mut PlanningInput)) {
    let found = found(change);
    let wanted = (severity, code.to_owned(), subject.to_owned());
    assert!(found.contains(&wanted), "{wanted:?} is not among {found:#?}");
}

fn host<'i>(input: &'i mut PlanningInput, name: &str) -> &'i mut HostObservation {
    match input.observation.hosts.get_mut(name).unwrap() {
        Fact::Observed { value, .. } => value,
        Fact::Unobserved { why } => panic!("{why}"),
    }
}

fn daemon<'i>(input: &'i mut PlanningInput, name: &str) -> &'i mut DaemonObservation {
    match input.observation.daemons.get_mut(&name.parse().unwrap()).unwrap() {
        Fact::Observed { value, .. } => value,
        Fact::Unobserved { why } => panic!("{why}"),
    }
}

fn record<'i>(input: &'i mut PlanningInput, binary: &str) -> &'i mut ServiceRecord {
    let service = binary.split('-').next().unwrap();
    match input.observation.records.get_mut(service).unwrap() {
        Fact::Observed { value, .. } => value.iter_mut().find(|r| r.binary == binary).unwrap(),
        Fact::Unobserved { why } => panic!("{why}"),
    }
}

#[test]
fn a_well_cloud_has_only_what_everybody_should_hear() {
    for (from, to) in [("2025.2", "2026.1"), ("2026.1", "2026.2"), ("2025.1", "2026.1")] {
        let findings = judge(&input(3, 3, from, to), from);
        let worst = findings.iter().map(|finding| finding.severity).max();
        assert_eq!(worst, Some(Severity::Info), "{findings:#?}");
    }
}

#[test]
fn hosts() {
    use Severity::{Blocking, Warning};
    expect(Blocking, "host-unseen", "ctl2", |input| {
        let why = Fact::unobserved("REMOTE HOST IDENTIFICATION HAS CHANGED");
        input.observation.hosts.insert("ctl2".parse().unwrap(), why);
    });
    expect(Blocking, "host-unseen", "cmp1", |input| {
        input.observation.hosts.remove("cmp1");
    });
    expect(Warning, "clock-skew", "ctl1", |input| host(input, "ctl1").clock_skew_ms = -1_400);
    expect(Blocking, "clock-skew", "ctl1", |input| host(input, "ctl1").clock_skew_ms = 6_000);
    expect(Blocking, "disk-full", "cmp2", |input| host(input, "cmp2").root_free_bytes = 9_000_000);
    expect(Warning, "disk-tight", "hosts", |input| {
        host(input, "cmp2").release_free_bytes = 600_000_000;
    });
    expect(Blocking, "python-too-old", "ctl3", |input| host(input, "ctl3").python = "3.9.2".into());
    // A host that carries no daemon may have any Python.
    assert!(
        found(|input| host(input, "infra1").python = "3.5".into())
            .iter()
            .all(|(_, code, _)| code != "python-too-old")
    );
}

#[test]
fn daemons() {
    use Severity::{Blocking, Serious, Warning};
    expect(Blocking, "daemon-unseen", "nova-api@ctl1", |input| {
        let id = "nova-api@ctl1".parse().unwrap();
        input.observation.daemons.insert(id, Fact::unobserved("no such unit"));
    });
    expect(Blocking, "daemon-not-active", "nova-compute@cmp1", |input| {
        daemon(input, "nova-compute@cmp1").active_state = "failed".to_owned();
    });
    expect(Blocking, "daemon-not-active", "nova-compute@cmp1", |input| {
        daemon(input, "nova-compute@cmp1").main_pid = 0;
    });
    expect(Blocking, "version-unseen", "glance-api@ctl1", |input| {
        daemon(input, "glance-api@ctl1").version = Fact::unobserved("no maps");
    });
    expect(Blocking, "series-skew", "glance-api@ctl1", |input| {
        let old = volutus_model::PackageVersion::new("30.2.0");
        daemon(input, "glance-api@ctl1").version = Fact::observed(old, "test");
    });
    expect(Warning, "version-skew", "glance", |input| {
        let other = volutus_model::PackageVersion::new("31.0.0");
        daemon(input, "glance-api@ctl1").version = Fact::observed(other, "test");
    });
    expect(Serious, "restart-would-switch", "nova-scheduler@ctl1", |input| {
        let link = Fact::observed("/opt/openstack/2026.1".to_owned(), "test");
        daemon(input, "nova-scheduler@ctl1").link = link;
    });
    expect(Blocking, "restart-would-switch", "nova-scheduler@ctl1", |input| {
        let link = Fact::observed("/opt/elsewhere".to_owned(), "test");
        daemon(input, "nova-scheduler@ctl1").link = link;
    });
    expect(Serious, "link-unseen", "nova-scheduler@ctl1", |input| {
        daemon(input, "nova-scheduler@ctl1").link = Fact::unobserved("no such link");
    });
    // 2026.1's default is 180 s; an option that says less makes a shorter time enough.
    expect(Warning, "stop-timeout-short", "nova-compute@cmp1", |input| {
        daemon(input, "nova-compute@cmp1").timeout_stop_s = Some(90);
    });
    let configured = found(|input| {
        daemon(input, "nova-compute@cmp1").timeout_stop_s = Some(90);
        let options = host(input, "cmp1").options.get_mut("/etc/nova/nova.conf").unwrap();
        options.insert("DEFAULT/graceful_shutdown_timeout".to_owned(), "10".to_owned());
    });
    assert!(configured.iter().all(|(_, code, _)| code != "stop-timeout-short"));
}

#[test]
fn records() {
    use Severity::{Blocking, Info, Serious, Warning};
    expect(Blocking, "record-stale", "nova-compute@cmp1", |input| {
        record(input, "nova-compute").age_s = Some(61);
    });
    expect(Blocking, "record-stale", "nova-compute@cmp1", |input| {
        record(input, "nova-compute").age_s = None;
    });
    expect(Blocking, "record-too-old", "nova-compute@cmp1", |input| {
        let record = record(input, "nova-compute");
        record.version = "67".to_owned();
        record.forced_down = true;
    });
    expect(Serious, "record-of-unknown-host", "nova-compute@gone", |input| {
        record(input, "nova-compute").host = "gone".to_owned();
    });
    expect(Info, "service-disabled", "cinder-volume@ctl1@lab", |input| {
        record(input, "cinder-volume").disabled = Some("new disks".to_owned());
    });
    expect(Serious, "records-unseen", "nova", |input| {
        let why = Fact::unobserved("access denied");
        input.observation.records.insert("nova".parse().unwrap(), why);
    });
    expect(Serious, "records-unseen", "cinder", |input| {
        input.observation.records.remove("cinder");
    });
    expect(Warning, "pending-migrations", "nova", |input| {
        let counts = [("populate_instance_compute_id".to_owned(), 3)].into();
        let fact = Fact::observed(counts, "test");
        input.observation.pending_migrations.insert("nova".parse().unwrap(), fact);
    });
}

#[test]
fn backends() {
    use Severity::{Blocking, Serious};
    let set = |input: &mut PlanningInput, status: Option<&str>| {
        let Some(Fact::Observed { value, .. }) = input.observation.backends.get_mut("nova") else {
            panic!("no such backend");
        };
        match status {
            Some(status) => value[0].status = status.to_owned(),
            None => {
                value.remove(0);
            }
        }
    };
    expect(Serious, "server-not-up", "nova/ctl1", |input| set(input, Some("MAINT")));
    expect(Blocking, "server-missing", "nova/ctl1", |input| set(input, None));
    expect(Blocking, "backend-missing", "nova", |input| {
        input.observation.backends.remove("nova");
    });
    expect(Blocking, "endpoint-unseen", "glance", |input| {
        let why = Fact::unobserved("connection refused");
        input.observation.endpoints.insert("glance".parse().unwrap(), why);
    });
    let mut single = input(1, 3, "2025.2", "2026.1");
    let severity = |input: &PlanningInput| {
        let findings = judge(input, "2025.2");
        findings.iter().find(|f| f.code == "single-replica").map(|f| f.severity)
    };
    assert_eq!(severity(&single), Some(Blocking));
    single.policy.accept_downtime = true;
    assert_eq!(severity(&single), Some(Serious));
}

#[test]
fn hazards() {
    use Severity::{Blocking, Serious, Warning};
    let mut bridge = input(3, 3, "2026.1", "2026.2");
    bridge.observation.vif_types = Fact::observed([("bridge".to_owned(), 7)].into(), "test");
    let findings = judge(&bridge, "2026.1");
    let finding = findings.iter().find(|f| f.code == "linux-bridge-vif").unwrap();
    assert_eq!(finding.severity, Blocking);
    assert!(finding.explanation.contains("7 ports"), "{}", finding.explanation);
    // Not seen is not absent.
    bridge.observation.vif_types = Fact::unobserved("access denied");
    let findings = judge(&bridge, "2026.1");
    let finding = findings.iter().find(|f| f.code == "linux-bridge-vif").unwrap();
    assert_eq!(finding.severity, Serious);

    expect(Blocking, "upgrade-levels-compute", "nova", |input| {
        host(input, "cmp2").options.get_mut("/etc/nova/nova.conf").unwrap().clear();
    });
    expect(Serious, "upgrade-levels-compute", "nova", |input| {
        host(input, "cmp2").options.clear();
    });
    expect(Serious, "network-segment-range", "neutron", |input| {
        let options = host(input, "ctl1").options.get_mut("/etc/neutron/neutron.conf").unwrap();
        options.insert("DEFAULT/service_plugins".into(), "network_segment_range".into());
    });
    expect(Warning, "rpc-lost-at-stop-cinder", "cinder", |input| {
        let options = host(input, "ctl3").options.get_mut("/etc/cinder/cinder.conf").unwrap();
        options.remove("oslo_messaging_rabbit/use_queue_manager");
    });
    expect(Warning, "concurrency-mode-control", "nova", |input| {
        daemon(input, "nova-scheduler@ctl2").environment.clear();
    });
}

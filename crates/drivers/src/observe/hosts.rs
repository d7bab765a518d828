//! Asks every host about itself and its daemons, one program per host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use volutus_catalog::Service;
use volutus_model::inventory::{DaemonDeclaration, HostDeclaration};
use volutus_model::name::{DaemonId, HostName, PackageVersion, Series, ServiceName};
use volutus_model::observation::{DaemonObservation, Environment, Fact, HostObservation};

use crate::CloudDriver;
use crate::channel::{Channel, Trouble};
use crate::prove::{Code, Link, UnitReport, wanted};

/// Hosts that are asked at once: each is an ssh process here.
const AT_ONCE: usize = 50;
/// How long one host may take in all, from the connection to its answer.
const HOST_TIME: Duration = Duration::from_secs(40);
/// With more hosts than this their connections are closed again as soon as they have answered, so
/// that a large fleet does not mean as many processes here.
const KEPT_OPEN_MAX: usize = 100;

/// How versions of running daemons are seen, for the record.
const PROCESS_SOURCE: &str = "process maps and package metadata";

/// What one host said.
pub(super) struct Seen {
    pub host: HostName,
    pub report: Fact<HostObservation>,
    pub daemons: Vec<(DaemonId, Fact<DaemonObservation>)>,
    /// By digest; see [`HostObservation::environments`].
    pub environments: BTreeMap<String, Environment>,
}

#[derive(Deserialize)]
struct Report {
    boot_id: String,
    kernel: String,
    python: String,
    release_free_bytes: u64,
    root_free_bytes: u64,
    staged: BTreeMap<Series, BTreeMap<ServiceName, PackageVersion>>,
    options: BTreeMap<String, BTreeMap<String, String>>,
    /// The host's clock when it began to look, in seconds since the epoch.
    clock_s: f64,
    /// How long it looked.
    took_s: f64,
    environments: BTreeMap<String, Listed>,
    daemons: Vec<Daemon>,
}

/// What is installed in a release directory.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Seen { packages: BTreeMap<String, PackageVersion> },
    Unseen { why: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Daemon {
    Seen(Box<UnitReport>),
    Unseen { why: String },
}

type Declared<'a> = (DaemonId, &'a DaemonDeclaration);

pub(super) async fn observe(cloud: &CloudDriver) -> Vec<Seen> {
    let mut daemons: BTreeMap<&HostName, Vec<Declared<'_>>> = BTreeMap::new();
    for (id, host, declared) in cloud.inventory.daemons() {
        daemons.entry(&host.name).or_default().push((id, declared));
    }
    let services = cloud.catalog.daemons();
    let service_of = |id: &DaemonId| services.get(&id.kind).map(|(service, _)| *service);
    let looks = cloud.inventory.hosts.iter().map(|host| {
        let declared = daemons.get(&host.name).cloned().unwrap_or_default();
        let services: Vec<Option<&Service>> = declared.iter().map(|(id, _)| service_of(id)).collect();
        look(cloud, host, declared, services)
    });
    // Futures, and not the closure that makes them, are kept while others are waited for: only so
    // can the whole be sent between threads.
    let looks: Vec<_> = looks.collect();
    futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
}

async fn look<'a>(
    cloud: &'a CloudDriver,
    host: &'a HostDeclaration,
    declared: Vec<Declared<'a>>,
    services: Vec<Option<&'a Service>>,
) -> Seen {
    let known: Vec<(&Declared<'_>, &Service)> = declared
        .iter()
        .zip(&services)
        .filter_map(|(daemon, service)| service.map(|known| (daemon, known)))
        .collect();
    let question = question(cloud, &known);
    let answer = tokio::time::timeout(HOST_TIME, ask(cloud, &host.name, question)).await;
    if cloud.inventory.hosts.len() > KEPT_OPEN_MAX {
        cloud.hosts.close(&host.name).await;
    }
    let answer = match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(trouble)) => Err(trouble.to_string()),
        Err(_) => Err(format!("{} did not answer within {} s", host.name, HOST_TIME.as_secs())),
    };
    let unknown = declared.iter().zip(&services).filter(|(_, service)| service.is_none());
    let mut daemons: Vec<(DaemonId, Fact<DaemonObservation>)> = unknown
        .map(|((id, _), _)| {
            (id.clone(), Fact::unobserved(format!("the catalog knows no daemon {}", id.kind)))
        })
        .collect();
    let ids = known.iter().map(|((id, _), _)| id.clone());
    let mut environments = BTreeMap::new();
    let report = match answer {
        Ok((report, skew_ms)) => {
            let mut by_path = BTreeMap::new();
            for (path, listed) in report.environments {
                let fact = match listed {
                    Listed::Seen { packages } => {
                        let environment = Environment { packages };
                        let digest = environment.digest();
                        environments.insert(digest.clone(), environment);
                        Fact::observed(digest, "package metadata")
                    }
                    Listed::Unseen { why } => Fact::unobserved(why),
                };
                by_path.insert(path, fact);
            }
            daemons.extend(ids.zip(report.daemons.into_iter().map(daemon)));
            let seen = HostObservation {
                boot_id: report.boot_id,
                kernel: report.kernel,
                python: report.python,
                clock_skew_ms: skew_ms,
                release_free_bytes: report.release_free_bytes,
                root_free_bytes: report.root_free_bytes,
                staged: report.staged,
                options: report.options,
                environments: by_path,
            };
            Fact::observed(seen, "the host itself, over ssh")
        }
        Err(why) => {
            daemons.extend(ids.map(|id| (id, Fact::unobserved(why.clone()))));
            Fact::unobserved(why)
        }
    };
    Seen { host: host.name.clone(), report, daemons, environments }
}

/// What a host is asked: its declared daemons, the release directories that there may be, and the
/// options that checks look at.
fn question(cloud: &CloudDriver, known: &[(&Declared<'_>, &Service)]) -> Value {
    let releases = &cloud.inventory.releases;
    let mut staged: BTreeMap<String, BTreeMap<&str, (String, &str)>> = BTreeMap::new();
    let mut options: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    let mut paths: Vec<String> = Vec::new();
    let mut services: BTreeMap<&ServiceName, &Service> = BTreeMap::new();
    for (_, service) in known {
        services.insert(&service.name, service);
    }
    for (name, service) in services {
        for series in cloud.catalog.series.keys() {
            let path = releases.path_of(*series, name);
            paths.push(path.clone());
            paths.push(releases.patched_pattern(*series, name));
            let entry = (path, service.distribution.as_str());
            staged.entry(series.to_string()).or_default().insert(name.as_str(), entry);
        }
        for file in cloud.config_files(service) {
            options.entry(file).or_default().extend(&service.options);
        }
    }
    paths.sort();
    paths.dedup();
    let daemons: Vec<Value> = known
        .iter()
        .map(|((id, declared), service)| wanted(cloud, id, &service.name, &declared.unit))
        .collect();
    // The file system that holds releases is that of the part of their path that does not vary.
    let root = releases.path.split('{').next().unwrap_or("/");
    json!({"daemons": daemons, "releases": staged, "root": root, "known": paths, "options": options})
}

async fn ask(cloud: &CloudDriver, host: &HostName, question: Value) -> Result<(Report, i64), Trouble> {
    let mut channel = Channel::to_host(&cloud.hosts, host).await?;
    let (clock, begun) = (SystemTime::now(), Instant::now());
    let report: Report = channel.ask("look", question, HOST_TIME).await?;
    let round_trip_s = (begun.elapsed().as_secs_f64() - report.took_s).max(0.0);
    let here_s = clock.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    // The host read its clock half a round trip after the question went off.
    let skew_s = report.clock_s - (here_s + round_trip_s / 2.0);
    // Casting saturates, and a clock that is millions of years off is off enough.
    #[expect(clippy::cast_possible_truncation)]
    let skew_ms = (skew_s * 1_000.0).round() as i64;
    Ok((report, skew_ms))
}

fn daemon(report: Daemon) -> Fact<DaemonObservation> {
    let report = match report {
        Daemon::Seen(report) => *report,
        Daemon::Unseen { why } => return Fact::unobserved(why),
    };
    let (version, release_path, replaced) = match report.code {
        Code::Loaded { version, release, replaced } => (
            Fact::observed(PackageVersion::new(version), PROCESS_SOURCE),
            Fact::observed(release, PROCESS_SOURCE),
            replaced,
        ),
        Code::Unseen { why } => (Fact::unobserved(why.clone()), Fact::unobserved(why), BTreeSet::new()),
    };
    let link = match report.link {
        Link::To { value } => Fact::observed(value, "the link"),
        Link::Unseen { why } => Fact::unobserved(why),
    };
    let seen = DaemonObservation {
        active_state: report.active,
        main_pid: report.pid,
        restarts: report.restarts,
        timeout_stop_s: report.timeout_stop_s,
        environment: report.environment,
        version,
        release_path,
        link,
        replaced,
    };
    Fact::observed(seen, "systemd and /proc")
}

//! Which running daemons are exposed to what. A daemon is its service's own distribution and every
//! library in the environment that its process has loaded its code from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use volutus_model::name::DaemonKind;
use volutus_model::observation::{DaemonObservation, Fact, HostObservation};
use volutus_model::{DaemonId, HostName, Observation, PackageVersion};

use crate::product::is_normal;
use crate::record::Judgement;
use crate::{Advisories, Statement, Statements, normal};

/// What an exposure is computed from.
#[derive(Debug, Clone, Copy)]
pub struct ExposureInput<'a> {
    /// What is known.
    pub advisories: &'a Advisories,
    /// What runs.
    pub observation: &'a Observation,
    /// The distribution of each kind of daemon, from the catalog.
    pub distributions: &'a BTreeMap<DaemonKind, String>,
    /// What the operator states.
    pub statements: &'a Statements,
    /// The day on which statements have to hold.
    pub today: Date,
}

/// Who is exposed to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// When the cloud was looked at.
    pub observed_at: Timestamp,
    /// Daemons that were judged.
    pub daemons: usize,
    /// Different sets of packages that they run from.
    pub environments: usize,
    /// What is exposed, the latest advisory first.
    pub exposed: Vec<Exposed>,
    /// What would be, but for a statement of the operator.
    pub excused: Vec<Exposed>,
    /// What cannot be told.
    pub unjudged: Vec<Unjudged>,
    /// What was not seen, so that nothing can be said of it.
    pub not_seen: Vec<NotSeen>,
}

/// One vulnerability of one version, and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposed {
    /// The vulnerability.
    pub vulnerability: String,
    /// Its other names.
    pub aliases: BTreeSet<String>,
    /// Its title.
    pub title: String,
    /// When it was published.
    pub published: Option<Date>,
    /// The distribution.
    pub distribution: String,
    /// The version that runs.
    pub version: PackageVersion,
    /// The versions that are affected, as the advisory words them.
    pub affected: String,
    /// The record that was gone by.
    pub record: String,
    /// The daemons that run it.
    pub daemons: BTreeSet<DaemonId>,
    /// Their hosts.
    pub hosts: BTreeSet<HostName>,
    /// What the operator states: it holds where this is among the excused, and has ended where it is
    /// among the exposed.
    pub statement: Option<Statement>,
}

/// Something of which it cannot be told whether it is exposed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unjudged {
    /// The vulnerability.
    pub vulnerability: String,
    /// The distribution.
    pub distribution: String,
    /// The version, as the package's metadata gives it.
    pub version: String,
    /// Why it cannot be told.
    pub why: String,
    /// The daemons concerned.
    pub daemons: BTreeSet<DaemonId>,
}

/// Something that was not seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotSeen {
    /// The daemon.
    pub daemon: DaemonId,
    /// What, and why not.
    pub why: String,
}

impl Exposure {
    /// Whether nothing is exposed. What was not seen or not judged does not count against it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.exposed.is_empty()
    }

    /// Whether everything was seen and judged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unjudged.is_empty() && self.not_seen.is_empty()
    }

    /// Who is exposed to one vulnerability.
    pub fn of<'a>(&'a self, vulnerability: &'a str) -> impl Iterator<Item = &'a Exposed> {
        self.exposed.iter().filter(move |exposed| exposed.vulnerability == vulnerability)
    }
}

/// What is the same for all daemons that run the same code from the same packages.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape<'a> {
    own: &'a str,
    version: &'a PackageVersion,
    environment: Option<&'a str>,
    replaced: &'a BTreeSet<String>,
}

/// What a shape is exposed to.
#[derive(Default)]
struct Found {
    exposed: Vec<Exposed>,
    unjudged: Vec<Unjudged>,
}

/// Holds an observation against what is known.
#[must_use]
pub fn exposure(input: &ExposureInput<'_>) -> Exposure {
    let mut shapes: BTreeMap<Shape<'_>, Vec<&DaemonId>> = BTreeMap::new();
    let mut not_seen = Vec::new();
    let mut judged = 0;
    for (daemon, fact) in &input.observation.daemons {
        let mut miss = |why: String| not_seen.push(NotSeen { daemon: daemon.clone(), why });
        match shape_of(input, daemon, fact) {
            Ok((shape, missing)) => {
                judged += 1;
                shapes.entry(shape).or_default().push(daemon);
                missing.into_iter().for_each(&mut miss);
            }
            Err(why) => miss(why),
        }
    }
    let environments: BTreeSet<_> = shapes.keys().filter_map(|shape| shape.environment).collect();
    let environments = environments.len();
    let mut exposed: BTreeMap<Key, Exposed> = BTreeMap::new();
    let mut excused: BTreeMap<Key, Exposed> = BTreeMap::new();
    let mut unjudged: BTreeMap<(String, String, String), Unjudged> = BTreeMap::new();
    for (shape, daemons) in &shapes {
        let found = look(input, shape);
        for hit in &found.exposed {
            let Ok(vulnerability) = input.advisories.find(&hit.vulnerability) else { continue };
            for daemon in daemons {
                let covering = input.statements.covering(
                    vulnerability,
                    &hit.distribution,
                    hit.version.as_str(),
                    daemon,
                    input.today,
                    input.advisories.products(),
                );
                let holds = covering.is_some_and(|(_, holds)| holds);
                let statement = covering.map(|(statement, _)| statement);
                let key = Key::of(hit, statement);
                let entry = if holds { &mut excused } else { &mut exposed };
                let entry = entry
                    .entry(key)
                    .or_insert_with(|| Exposed { statement: statement.cloned(), ..hit.clone() });
                entry.daemons.insert((*daemon).clone());
                entry.hosts.insert(daemon.host.clone());
            }
        }
        for hit in found.unjudged {
            let key = (hit.vulnerability.clone(), hit.distribution.clone(), hit.version.clone());
            unjudged.entry(key).or_insert(hit).daemons.extend(daemons.iter().copied().cloned());
        }
    }
    let latest_first = |found: BTreeMap<Key, Exposed>| {
        let mut found: Vec<Exposed> = found.into_values().collect();
        found.sort_by(|a, b| {
            b.published.cmp(&a.published).then_with(|| {
                (&a.vulnerability, &a.distribution, &a.version).cmp(&(
                    &b.vulnerability,
                    &b.distribution,
                    &b.version,
                ))
            })
        });
        found
    };
    Exposure {
        observed_at: input.observation.at,
        daemons: judged,
        environments,
        exposed: latest_first(exposed),
        excused: latest_first(excused),
        unjudged: unjudged.into_values().collect(),
        not_seen,
    }
}

/// What makes one entry of the result.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    vulnerability: String,
    distribution: String,
    version: PackageVersion,
    statement: Option<(String, Date)>,
}

impl Key {
    fn of(hit: &Exposed, statement: Option<&Statement>) -> Self {
        Self {
            vulnerability: hit.vulnerability.clone(),
            distribution: hit.distribution.clone(),
            version: hit.version.clone(),
            statement: statement.map(|statement| (statement.because.clone(), statement.until)),
        }
    }
}

/// What a daemon runs, and what of it was not seen; why nothing can be said where nothing can.
fn shape_of<'a>(
    input: &ExposureInput<'a>,
    daemon: &DaemonId,
    fact: &'a Fact<DaemonObservation>,
) -> Result<(Shape<'a>, Option<String>), String> {
    let unseen = |fact: Option<&str>| fact.unwrap_or("no reason is known").to_owned();
    let seen = fact.value().ok_or_else(|| unseen(fact.why()))?;
    let version = seen.version.value().ok_or_else(|| unseen(seen.version.why()))?;
    let own = input
        .distributions
        .get(&daemon.kind)
        .ok_or_else(|| format!("the catalog knows no daemon {}", daemon.kind))?;
    let packages = environment_of(input.observation.hosts.get(&daemon.host), seen);
    let (environment, missing) = match packages {
        Ok(environment) if input.observation.environments.contains_key(environment) => {
            (Some(environment), None)
        }
        Ok(environment) => (None, Some(format!("the observation lacks its environment {environment}"))),
        Err(why) => (None, Some(format!("{why}; only {own} itself was judged"))),
    };
    Ok((Shape { own, version, environment, replaced: &seen.replaced }, missing))
}

/// The environment that a daemon's process has loaded its code from.
fn environment_of<'a>(
    host: Option<&'a Fact<HostObservation>>,
    seen: &'a DaemonObservation,
) -> Result<&'a str, String> {
    let path = match &seen.release_path {
        Fact::Observed { value, .. } => value,
        Fact::Unobserved { why } => return Err(why.clone()),
    };
    let host = host.and_then(Fact::value).ok_or("its host was not seen")?;
    match host.environments.get(path) {
        Some(Fact::Observed { value, .. }) => Ok(value),
        Some(Fact::Unobserved { why }) => Err(why.clone()),
        None => Err(format!("the packages of {path} were not listed")),
    }
}

fn look(input: &ExposureInput<'_>, shape: &Shape<'_>) -> Found {
    let mut found = Found::default();
    let own = normal(shape.own);
    look_at(input, &mut found, &own, shape.version, false);
    let environment = shape.environment.and_then(|id| input.observation.environments.get(id));
    for (distribution, version) in environment.into_iter().flat_map(|environment| &environment.packages) {
        // The observer normalises names; those of an observation from elsewhere may be otherwise.
        let distribution: Cow<'_, str> = match is_normal(distribution) {
            true => Cow::Borrowed(distribution),
            false => Cow::Owned(normal(distribution)),
        };
        if !input.advisories.concerns(&distribution) {
            continue;
        }
        // Another service's code in the same environment is not what this daemon runs.
        if distribution == own || input.advisories.products().is_service(&distribution) {
            continue;
        }
        look_at(input, &mut found, &distribution, version, shape.replaced.contains(distribution.as_ref()));
    }
    found
}

fn look_at(
    input: &ExposureInput<'_>,
    found: &mut Found,
    distribution: &str,
    version: &PackageVersion,
    replaced: bool,
) {
    let mut unjudged = |vulnerability: &str, why: String| {
        found.unjudged.push(Unjudged {
            vulnerability: vulnerability.to_owned(),
            distribution: distribution.to_owned(),
            version: version.to_string(),
            why,
            daemons: BTreeSet::new(),
        });
    };
    for hit in input.advisories.hits(distribution, version.as_str()) {
        match hit.judgement {
            Judgement::NotAffected => {}
            Judgement::Unjudged { why } => unjudged(&hit.vulnerability.id, why),
            Judgement::Affected => found.exposed.push(Exposed {
                vulnerability: hit.vulnerability.id.clone(),
                aliases: hit.vulnerability.aliases.clone(),
                title: hit.vulnerability.title.clone(),
                published: hit.vulnerability.published,
                distribution: distribution.to_owned(),
                version: version.clone(),
                affected: hit.claim.affected.text.clone(),
                record: hit.claim.record.clone(),
                daemons: BTreeSet::new(),
                hosts: BTreeSet::new(),
                statement: None,
            }),
        }
    }
    // What is installed is not what the process loaded: the version it runs is not known.
    if replaced {
        found.unjudged.push(Unjudged {
            vulnerability: "*".to_owned(),
            distribution: distribution.to_owned(),
            version: version.to_string(),
            why: "it was replaced after the process had started, so the process still runs an older one; \
                  restart the daemon"
                .to_owned(),
            daemons: BTreeSet::new(),
        });
    }
}

//! What is known of OpenStack, as data files with a typed loader.
//!
//! A service is a data file: its daemons and their order, its schema commands, its proofs, and
//! what each hop between two series does to its schema. Nothing here is code about a certain
//! service, and nothing here looks at a cloud. [`Catalog::builtin`] is what Volutus ships;
//! [`Catalog::load`] reads any set of files, so that a site can add a service.

mod facts;
mod load;
mod options;

use std::collections::{BTreeMap, BTreeSet};

pub use facts::HopFacts;
pub use load::{Error, builtin_files};
pub use options::{OptionSeen, options_of};
use serde::Deserialize;
use volutus_model::Severity;
use volutus_model::name::{DaemonKind, PackageVersion, Series, ServiceName};
use volutus_model::plan::{Refresh, SchemaClass};

/// Everything that is known.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The release series, oldest first.
    pub series: BTreeMap<Series, SeriesFacts>,
    /// The paths that upstream allows.
    pub paths: Vec<UpgradePath>,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
    /// What has gone wrong before.
    pub hazards: Vec<Hazard>,
}

/// A release series.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesFacts {
    /// Its code name.
    pub name: String,
    /// Date of the coordinated release, ISO 8601.
    pub released: String,
    /// The lowest Python that its services accept, such as "3.11".
    pub python_min: String,
    /// The versions that a run to this series installs: the latest of each service. Filled
    /// from the services' own files.
    #[serde(skip)]
    pub versions: BTreeMap<ServiceName, PackageVersion>,
}

/// A path that upstream allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradePath {
    /// From this series.
    pub from: Series,
    /// To this one.
    pub to: Series,
    /// Why it is allowed.
    pub kind: PathKind,
}

/// Why a path is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// To the next series.
    Adjacent,
    /// From one SLURP series to the next one, over the series in between.
    Slurp,
}

/// A service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The distribution that carries it, for example `openstack-placement`.
    pub distribution: String,
    /// Its type in Keystone's catalog, for example `compute`.
    pub endpoint_type: String,
    /// Services whose control plane must be rolled before this one's, with the source.
    #[serde(default)]
    pub after: Vec<ServiceName>,
    /// Where its configuration is by default: the files that commands and checks read where
    /// the cloud description names none.
    #[serde(default)]
    pub config_files: Vec<String>,
    /// Its latest version per series.
    pub versions: BTreeMap<Series, PackageVersion>,
    /// Where the facts of this file are known from, by the name of the field.
    pub sources: BTreeMap<String, String>,
    /// Its schemas.
    pub schemas: Vec<Schema>,
    /// Databases that its schema commands also change and that no connection option names:
    /// nova's cell0, which is found by its cell mapping.
    #[serde(default)]
    pub other_databases: Vec<String>,
    /// The upgrade check, run with the new code; `{release}` and `{config_args}` are replaced.
    pub upgrade_check: Vec<String>,
    /// Commands that widen the schemas, in order.
    pub expand: Vec<SchemaCommand>,
    /// Commands that convert data online, in order.
    pub online_data_migrations: Vec<SchemaCommand>,
    /// Commands that remove what old code needs, in order.
    pub contract: Vec<SchemaCommand>,
    /// Its daemons, in the order in which they are rolled.
    pub daemons: Vec<Daemon>,
    /// What each hop does to the schema.
    #[serde(default)]
    pub hops: Vec<Hop>,
    /// Options of its configuration that checks look at, as `section/option`.
    #[serde(default)]
    pub options: Vec<String>,
    /// Queries that count rows which online data migrations have still to convert.
    #[serde(default)]
    pub pending: Vec<PendingQuery>,
    /// The number that the service's records carry per series (nova's SERVICE_VERSION).
    #[serde(default)]
    pub record_versions: BTreeMap<Series, u32>,
    /// The lowest record version that code of a series accepts among its peers.
    #[serde(default)]
    pub record_versions_oldest: BTreeMap<Series, u32>,
    /// Whether code refuses to start once all records of its binary are newer than it: then the
    /// way back closes when the last record of a binary becomes new.
    #[serde(default)]
    pub refuses_newer_records: bool,
    /// By what its old daemons are allowed to start again until finalize; see
    /// [`Service::refuses_newer_records`].
    #[serde(default)]
    pub anchor: Option<AnchorFacts>,
    /// The versions that its daemons record of themselves, by series, where old code does not
    /// understand a newer one in its own record or its peers' (cinder caps what it sends to
    /// them). Where they are the same in both series of a hop, nothing stands in the way back.
    #[serde(default)]
    pub recorded_versions: BTreeMap<Series, BTreeMap<String, String>>,
    /// Seconds that its daemons take at most to stop by default, from each series on.
    #[serde(default)]
    pub graceful_shutdown_s: BTreeMap<Series, u64>,
}

/// How an anchor of a service is made; see [`volutus_model::plan::Anchor`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorFacts {
    /// The class of the service's records, as a dotted path: `nova.objects.Service`.
    pub object: String,
    /// The binaries whose records count.
    pub binaries: Vec<String>,
}

/// One schema of a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Its name within the service: `main`, `api`, `cell0`.
    pub name: String,
    /// The option that holds its connection, as `section/option`.
    pub connection: String,
    /// Table that holds its alembic revisions.
    pub version_table: String,
    /// The database's usual name; the cloud's own connection tells the real one.
    pub database: String,
}

/// One schema command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaCommand {
    /// The command; `{release}` and `{config_args}` are replaced.
    pub argv: Vec<String>,
    /// Exit codes that mean success.
    #[serde(default = "exit_zero")]
    pub success: BTreeSet<i32>,
    /// Exit codes that mean "run it again".
    #[serde(default)]
    pub rerun: BTreeSet<i32>,
    /// Seconds that it is expected to take.
    pub expected_s: u32,
}

fn exit_zero() -> BTreeSet<i32> {
    BTreeSet::from([0])
}

/// One kind of daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// Its kind.
    pub kind: DaemonKind,
    /// How it serves, which decides how it is replaced.
    pub role: DaemonRole,
    /// Kinds of the same service that must be rolled before.
    #[serde(default)]
    pub after: Vec<DaemonKind>,
    /// For APIs: what its own port must answer.
    #[serde(default)]
    pub health: Option<Health>,
    /// For APIs with microversions: the highest that it advertises, per series.
    #[serde(default)]
    pub microversions: BTreeMap<Series, String>,
    /// For daemons that keep a record of themselves.
    #[serde(default)]
    pub record: Option<Record>,
    /// For daemons that publish nothing: seconds that it must run without a restart.
    #[serde(default)]
    pub steady_s: Option<u32>,
    /// How it forgets cached versions of its peers at finalize; absent where it caches none.
    #[serde(default)]
    pub refresh: Option<Refresh>,
    /// Seconds that replacing one is expected to take.
    pub expected_s: u32,
}

impl Daemon {
    /// Whether the highest microversion that it advertises differs between two series. Where it is known
    /// of one of them only, it is taken to differ.
    #[must_use]
    pub fn advertises_otherwise(&self, a: Series, b: Series) -> bool {
        self.microversions.get(&a) != self.microversions.get(&b)
    }
}

/// How a daemon serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonRole {
    /// HTTP replicas behind a load balancer.
    Api,
    /// Consumers of a queue; replicas share the work.
    Worker,
    /// Sets something up on its own host that goes on while it restarts: neutron's agents.
    Agent,
    /// Carries instances: nova-compute.
    Compute,
}

impl DaemonRole {
    /// Whether it is a part of the control plane: one for all hosts, with access to the databases.
    #[must_use]
    pub fn is_central(self) -> bool {
        matches!(self, Self::Api | Self::Worker)
    }
}

/// What an API replica must answer on its own port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The path.
    pub path: String,
    /// Status codes that prove that the application answers (not just the web server, and not
    /// just the authentication in front of it).
    pub statuses: BTreeSet<u16>,
    /// Whether the request carries the operator's token, so that it goes all the way through
    /// authentication, policy and database.
    #[serde(default)]
    pub authenticated: bool,
}

/// The record that a daemon keeps of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The binary's name in the record.
    pub binary: String,
    /// Whether the record's version is one of [`Service::record_versions`].
    pub versioned: bool,
}

/// What a hop between two series does to a service's schema.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// From this series.
    pub from: Series,
    /// To the next one. Hops over several series are composed of adjacent ones.
    pub to: Series,
    /// The class.
    pub class: SchemaClass,
    /// The revisions, and what they do, in a sentence.
    pub why: String,
    /// Where that is known from.
    pub source: String,
    /// Where the class holds only for clouds with a certain option.
    #[serde(default)]
    pub only_where: Option<OnlyWhere>,
    /// Old code was tried on the schema of the newer series, and this was seen. It outweighs
    /// static analysis: the hop then counts as [`SchemaClass::CodeOnly`] at the most. Where the
    /// hop has `only_where`, the trial was of a cloud without that option, and says nothing of
    /// clouds with it.
    #[serde(default)]
    pub trial: Option<String>,
}

/// Narrows the class of a hop to clouds that have a certain option. Where the option was not
/// seen, the hop's own class holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlyWhere {
    /// `section/option`, one of [`Service::options`].
    pub option: String,
    /// The text that the option's value must contain on some host.
    pub contains: String,
    /// The class of the hop where it does not.
    pub otherwise: SchemaClass,
    /// Why that is so.
    pub why: String,
}

/// A query that counts rows still to be converted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingQuery {
    /// The online data migration's name.
    pub name: String,
    /// The schema that is asked; see [`Schema::name`].
    pub schema: String,
    /// A `SELECT COUNT(*)`.
    pub sql: String,
}

/// Something that has gone wrong before: what to look for in a cloud, before which hop, and
/// what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hazard {
    /// Stable code of the finding.
    pub code: String,
    /// Only for runs that reach or pass over one of these series; all where empty.
    #[serde(default)]
    pub to: Vec<Series>,
    /// The service concerned.
    pub service: ServiceName,
    /// How bad it is where it is found.
    pub severity: Severity,
    /// What to look for.
    pub look: Look,
    /// What it means.
    pub explanation: String,
    /// What to do.
    pub action: String,
    /// Where it is known from.
    pub source: String,
}

/// What a hazard looks for in an observation. What was not observed is reported as not judged,
/// never as absent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Look {
    /// Ports bound with this VIF type.
    VifType {
        /// For example `bridge`.
        vif_type: String,
    },
    /// Always present on this hop: a known fact that operators should hear of.
    Always,
    /// An option that has none of these values (absent counts as the empty text).
    OptionNotIn {
        /// `section/option`.
        option: String,
        /// Accepted values.
        values: BTreeSet<String>,
    },
    /// An option whose value contains a text.
    OptionContains {
        /// `section/option`.
        option: String,
        /// The text, compared without regard to case.
        text: String,
    },
    /// A variable that the daemon's unit does not set to one of these values.
    EnvironmentNotIn {
        /// The daemon kinds.
        daemons: Vec<DaemonKind>,
        /// The variable.
        variable: String,
        /// Accepted values.
        values: BTreeSet<String>,
    },
}

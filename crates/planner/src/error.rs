//! Why no plan can be made. All of these are refusals: somebody can mend them.

use volutus_model::inventory::Inventory;
use volutus_model::name::{
    DaemonId, DaemonKind, HostName, InvalidName, PackageVersion, PlanId, Series, ServiceName,
};
use volutus_model::{LockName, WayBackClosed};

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is no series that the catalog knows.
    #[error("unknown series `{given}`: known are {}{}", join(.known), did_you_mean(.nearest.as_ref()))]
    UnknownSeries {
        /// What was asked for.
        given: String,
        /// The series of the catalog.
        known: Vec<Series>,
        /// The one that was perhaps meant.
        nearest: Option<Series>,
    },
    /// Upstream does not test the path.
    #[error(
        "no upgrade leads from {from} to {to} in one run: OpenStack supports going to the next \
         series, and from one SLURP series (the first of a year) to the next SLURP series. {}",
        other_way(.way)
    )]
    ForbiddenPath {
        /// The series that the cloud runs.
        from: Series,
        /// The series that was asked for.
        to: Series,
        /// The series over which the allowed way leads, `to` included; empty where none does.
        way: Vec<Series>,
    },
    /// The target is older than what runs.
    #[error(
        "the cloud runs {from}, and {to} is older: a plan never leads to an older series. The \
         way back of a run is a rollback of that run"
    )]
    Older {
        /// The series that the cloud runs.
        from: Series,
        /// The series that was asked for.
        to: Series,
    },
    /// Everything runs the target already.
    #[error("all {daemons} daemons run {to} in the wanted versions already: nothing is to be done")]
    AlreadyOnTarget {
        /// The target.
        to: Series,
        /// How many daemons.
        daemons: usize,
    },
    /// A daemon runs the target series in another version than is to be installed.
    #[error(
        "{count} daemons run {to} already, but in another version than the plan would install \
         ({first} runs {runs}, wanted is {wanted}): releases of one series share a directory, so \
         this cannot be planned as an upgrade. Give the running version with the plan's versions"
    )]
    OtherVersionOfTarget {
        /// The target.
        to: Series,
        /// How many daemons.
        count: usize,
        /// One of them.
        first: DaemonId,
        /// What it runs.
        runs: PackageVersion,
        /// What it should run.
        wanted: PackageVersion,
    },
    /// Daemons run more than one series besides the target.
    #[error(
        "the cloud runs more than one series besides the target {to}: {}. Finish or take back \
         the run that left it so, then plan again",
        .seen.iter().map(|(series, example, count)| format!("{series} on {count} daemons (for \
         example {example})")).collect::<Vec<_>>().join(", ")
    )]
    MixedSeries {
        /// The target.
        to: Series,
        /// Series, one daemon that runs it, and how many do.
        seen: Vec<(Series, DaemonId, usize)>,
    },
    /// A locked release does not hold a service that the cloud has.
    #[error(
        "the locked release {lock} has no {distribution}, and the cloud runs {service}: lock a release of all \
         services that it runs"
    )]
    NotLocked {
        /// The service.
        service: ServiceName,
        /// Its distribution.
        distribution: String,
        /// The locked release.
        lock: LockName,
    },
    /// What runs was not seen.
    #[error(
        "what {} of the declared daemons run was not seen, and a plan is never made on a guess:\n{}",
        .unseen.len(),
        list_some(.unseen)
    )]
    Unseen {
        /// The daemons with the reason.
        unseen: Vec<(DaemonId, String)>,
    },
    /// The policy wants an API's highest microversion only to grow, and too few replicas are there for it.
    #[error(
        "`[api] advertised = \"only-grows\"` wants old and new replicas of {kind} never to serve together; with \
         {replicas} replicas {worst} of them serve beside the exchange, and {min} must (`serving_replicas_min`). \
         Add replicas until there are {}, lower `serving_replicas_min`, or let it flap with \
         `[api.services] {service} = \"may-flap\"`",
        (*.min).max(1).saturating_mul(2)
    )]
    TooFewToExchange {
        /// The service.
        service: ServiceName,
        /// The API.
        kind: DaemonKind,
        /// Its declared replicas.
        replicas: usize,
        /// Replicas that would serve at the worst instant.
        worst: usize,
        /// Replicas that must.
        min: u32,
    },
    /// A host that is to be restarted is not declared.
    #[error("the cloud description declares no host `{host}`{}", did_you_mean(.nearest.as_ref()))]
    UndeclaredHost {
        /// The host.
        host: HostName,
        /// A declared one that looks like it.
        nearest: Option<HostName>,
    },
    /// A host that is to be restarted holds what the cloud cannot be without meanwhile.
    #[error(
        "{host} is the only {what} that the cloud description declares: while it restarts nobody is \
         served. Add another one, or restart it by hand in a window of downtime"
    )]
    VitalHost {
        /// The host.
        host: HostName,
        /// What it is.
        what: &'static str,
    },
    /// A running version belongs to no series of the catalog.
    #[error(
        "{daemon} runs {service} {version}, which belongs to no series of the catalog (known are \
         {})", join(.known)
    )]
    UnknownVersion {
        /// The daemon.
        daemon: DaemonId,
        /// Its service.
        service: ServiceName,
        /// What it runs.
        version: PackageVersion,
        /// The known series.
        known: Vec<Series>,
    },
    /// The description has daemons that no catalog file knows.
    #[error(
        "the catalog knows no daemon {}{}; a daemon that nobody plans for would be left behind. \
         Add its service to the catalog as a data file, or take it out of the cloud description",
        .kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", "),
        did_you_mean(.nearest.as_ref())
    )]
    UnknownDaemons {
        /// The kinds.
        kinds: Vec<DaemonKind>,
        /// A known kind that looks like the first of them.
        nearest: Option<DaemonKind>,
    },
    /// The description has no daemon at all.
    #[error("cloud `{cloud}` declares no daemon: there is nothing to upgrade")]
    NoDaemons {
        /// The cloud.
        cloud: String,
    },
    /// A wanted version is not of the target series, or of no service here.
    #[error("version {version} of `{service}` cannot be installed by a run to {to}: {why}")]
    WrongVersion {
        /// The service.
        service: ServiceName,
        /// What was given.
        version: PackageVersion,
        /// The target.
        to: Series,
        /// What is wrong with it.
        why: String,
    },
    /// The catalog knows the service, but not in the target series.
    #[error(
        "the catalog knows no version of `{service}` for {to}; add it to [versions] of \
         services/{service}.toml, or give it with the plan's versions"
    )]
    NoVersion {
        /// The service.
        service: ServiceName,
        /// The target.
        to: Series,
    },
    /// The observation was made with another description.
    #[error(
        "the observation of {observed_at} was made with another description of the cloud than \
         `{}`; observe again", .cloud
    )]
    OtherInventory {
        /// The cloud.
        cloud: String,
        /// When the observation was made.
        observed_at: jiff::Timestamp,
    },
    /// An anchor of an earlier run is still there.
    #[error(
        "{service} keeps records at version {version} for the way back of an earlier run, and the \
         cloud runs {from} now: finalize that run, or roll it back, first"
    )]
    OtherAnchor {
        /// The service.
        service: ServiceName,
        /// The version of the records.
        version: String,
        /// The series that the cloud runs.
        from: Series,
    },
    /// The way back of a run is closed.
    #[error("plan {of} cannot be taken back without loss: {why}")]
    WayBackClosed {
        /// The plan.
        of: PlanId,
        /// What closed it, and what is left to do.
        why: WayBackClosed,
    },
    /// Nothing was replaced, or everything has been put back.
    #[error("all {daemons} daemons run {to}, and no anchor is kept: nothing is to be taken back")]
    NothingToTakeBack {
        /// The series that the way back leads to.
        to: Series,
        /// How many daemons.
        daemons: usize,
    },
    /// The old version of a service is nowhere to be seen, or there are several.
    #[error(
        "to which version of `{service}` the way back leads is not clear: {}. See which release \
         directory of {to} the hosts should have, and put it there",
        if .seen.is_empty() { "no host has a release of it".to_owned() }
        else { format!("hosts have {}", join(.seen)) }
    )]
    OldVersion {
        /// The service.
        service: ServiceName,
        /// The series that the way back leads to.
        to: Series,
        /// The versions that were seen.
        seen: Vec<PackageVersion>,
    },
    /// Old code would refuse to start, and no anchor can be set any more.
    #[error(
        "old daemons of {service} would refuse to start: every record of one of its binaries is newer \
         than version {version}, and none is kept at it. Nothing was changed. One record of each \
         binary has to be lowered to {version} in the service's database by hand; the way back is \
         open then"
    )]
    NoAnchor {
        /// The service.
        service: ServiceName,
        /// The version of the old code's records.
        version: u32,
    },
    /// No daemon runs a version that is to go.
    #[error(
        "no daemon was seen to run a version that is exposed to {vulnerability}: nothing is to be patched"
    )]
    NothingToPatch {
        /// The vulnerability.
        vulnerability: String,
    },
    /// Daemons of several series are exposed.
    #[error(
        "daemons of more than one series are exposed ({}), and a patch stays within one. Finish or take back \
         the run that left it so, then patch",
        .seen.iter().map(|(series, example)| format!("{series}, for example {example}")).collect::<Vec<_>>().join("; ")
    )]
    PatchOfSeveralSeries {
        /// The series, with one daemon of each.
        seen: Vec<(Series, DaemonId)>,
    },
    /// A service would have several versions after the patch.
    #[error(
        "after the patch daemons of {service} would run {}: one patched release holds one version of a \
         service. Name the version that all are to have: --take DISTRIBUTION=VERSION",
        join(.versions)
    )]
    PatchUneven {
        /// The service.
        service: ServiceName,
        /// The versions.
        versions: Vec<PackageVersion>,
    },
    /// The patched release is one that something exposed runs from.
    #[error(
        "{daemon} runs from {path}, or its link points there, which would be changed under it. Name the patched \
         release otherwise: --release NAME"
    )]
    ReleaseInUse {
        /// The daemon.
        daemon: DaemonId,
        /// The directory.
        path: String,
    },
    /// Nothing takes a mitigation back.
    #[error(
        "mitigation {mitigation} cannot be taken back: the policy declares no `undo` for it. Declare the command \
         that does, or take it back by hand on the hosts"
    )]
    NoUndo {
        /// The mitigation.
        mitigation: String,
    },
    /// Names that are made of the description's names do not make valid ids.
    #[error("a name of the cloud description does not make an id of the plan")]
    Name(#[from] InvalidName),
    /// Bug in the catalog or the planner: the stages wait for each other.
    #[error("the stages {} wait for each other in a circle", join(.stages))]
    Circle {
        /// Stages of the circle, or behind it.
        stages: Vec<String>,
    },
}

impl Error {
    pub(crate) fn other_inventory(inventory: &Inventory, observed_at: jiff::Timestamp) -> Self {
        Self::OtherInventory { cloud: inventory.name.to_string(), observed_at }
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn did_you_mean<T: ToString>(nearest: Option<&T>) -> String {
    nearest.map_or(String::new(), |name| format!(". Did you mean {}?", name.to_string()))
}

fn other_way(way: &[Series]) -> String {
    if way.is_empty() {
        "The catalog knows no way there".to_owned()
    } else {
        format!("The allowed way is by one run each to {}", join(way))
    }
}

/// Ten lines are enough to see what is wrong; ten thousand would hide it.
fn list_some(unseen: &[(DaemonId, String)]) -> String {
    let mut lines: Vec<String> =
        unseen.iter().take(10).map(|(daemon, why)| format!("  {daemon}: {why}")).collect();
    if unseen.len() > lines.len() {
        lines.push(format!("  and {} more", unseen.len() - lines.len()));
    }
    lines.join("\n")
}

/// The candidate that a mistyped word was perhaps meant to be: at most a third of its
/// characters differ.
pub(crate) fn nearest<'a, T: ToString>(word: &str, candidates: impl Iterator<Item = &'a T>) -> Option<&'a T> {
    candidates
        .map(|candidate| (edit_distance(word, &candidate.to_string()), candidate))
        .filter(|(distance, _)| *distance * 3 <= word.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

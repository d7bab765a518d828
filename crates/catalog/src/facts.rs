//! Questions that others ask of the catalog.

use std::collections::BTreeMap;

use volutus_model::name::{DaemonKind, PackageVersion, Series, ServiceName};
use volutus_model::plan::SchemaClass;

use crate::{Catalog, Daemon, Hazard, PathKind, Service, UpgradePath};

/// What a hop, possibly over several series, does to a service's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopFacts {
    /// The worst class of the adjacent hops that it is composed of.
    pub class: SchemaClass,
    /// What each of them does, one sentence after another.
    pub why: String,
}

impl Catalog {
    /// The service and the facts of a kind of daemon.
    #[must_use]
    pub fn daemon(&self, kind: &DaemonKind) -> Option<(&Service, &Daemon)> {
        self.services.values().find_map(|service| {
            service.daemons.iter().find(|d| d.kind == *kind).map(|daemon| (service, daemon))
        })
    }

    /// Every kind of daemon with its service, for callers that look up many.
    #[must_use]
    pub fn daemons(&self) -> BTreeMap<&DaemonKind, (&Service, &Daemon)> {
        self.services
            .values()
            .flat_map(|service| service.daemons.iter().map(move |d| (&d.kind, (service, d))))
            .collect()
    }

    /// The path between two series, where upstream allows it.
    #[must_use]
    pub fn path(&self, from: Series, to: Series) -> Option<&UpgradePath> {
        self.paths.iter().find(|path| path.from == from && path.to == to)
    }

    /// The shortest allowed way between two series, by the series in which it stops, `from`
    /// excluded; `None` where there is none.
    #[must_use]
    pub fn way(&self, from: Series, to: Series) -> Option<Vec<Series>> {
        // Few series and paths: a breadth-first search over them is a handful of looks.
        let mut ways = vec![vec![from]];
        for _ in 0..self.series.len() {
            let mut next = Vec::new();
            for way in &ways {
                let last = way[way.len() - 1];
                for path in self.paths.iter().filter(|path| path.from == last) {
                    let mut longer = way.clone();
                    longer.push(path.to);
                    if path.to == to {
                        longer.remove(0);
                        return Some(longer);
                    }
                    next.push(longer);
                }
            }
            ways = next;
        }
        None
    }

    /// The adjacent series between two, both ends included, oldest first.
    #[must_use]
    pub fn between(&self, from: Series, to: Series) -> Vec<Series> {
        if from > to {
            return Vec::new();
        }
        self.series.range(from..=to).map(|(series, _)| *series).collect()
    }

    /// Whether a daemon of a service can have loaded a distribution: its service's own, or a library. The
    /// code of another service that is installed in the same environment is not loaded.
    #[must_use]
    pub fn may_load(&self, service: &Service, distribution: &str) -> bool {
        distribution == service.distribution
            || self.services.values().all(|other| other.distribution != distribution)
    }

    /// The series that a version of a service belongs to, by its first number: services of the
    /// coordinated cycle raise it once per series.
    #[must_use]
    pub fn series_of(&self, service: &ServiceName, version: &PackageVersion) -> Option<Series> {
        let major = version.major()?;
        let facts = self.services.get(service)?;
        facts.versions.iter().find(|(_, known)| known.major() == Some(major)).map(|(s, _)| *s)
    }
}

impl Service {
    /// What the way from one series to another does to the schema: the worst of its adjacent
    /// hops. `option_contains` answers whether some host's value of an option contains a text;
    /// `None` where the option was not seen, which counts as the worse case.
    pub fn hop(&self, series: &[Series], option_contains: impl Fn(&str, &str) -> Option<bool>) -> HopFacts {
        let mut class = SchemaClass::None;
        let mut why = Vec::new();
        for pair in series.windows(2) {
            let Some(hop) = self.hops.iter().find(|hop| hop.from == pair[0] && hop.to == pair[1]) else {
                class = class.max(SchemaClass::Review);
                why.push(format!("{} to {} is not in the catalog", pair[0], pair[1]));
                continue;
            };
            let other = hop
                .only_where
                .as_ref()
                .filter(|condition| option_contains(&condition.option, &condition.contains) == Some(false));
            let (mut own, mut text) = match other {
                Some(condition) => {
                    (condition.otherwise, format!("{}: {}; {}", hop.to, hop.why, condition.why))
                }
                None => (hop.class, format!("{}: {}", hop.to, hop.why)),
            };
            let tried = hop.trial.as_ref().filter(|_| hop.only_where.is_none() || other.is_some());
            if let Some(seen) = tried {
                own = own.min(SchemaClass::CodeOnly);
                text = format!("{text}. Tried: {seen}");
            }
            class = class.max(own);
            why.push(text);
        }
        HopFacts { class, why: why.join(". ") }
    }

    /// The most seconds that its daemons take to stop in that series by default, where known.
    #[must_use]
    pub fn graceful_shutdown_in(&self, series: Series) -> Option<u64> {
        self.graceful_shutdown_s.range(..=series).next_back().map(|(_, seconds)| *seconds)
    }
}

impl Hazard {
    /// Whether a run between two series has to mind it.
    #[must_use]
    pub fn concerns(&self, from: Series, to: Series) -> bool {
        self.to.is_empty() || self.to.iter().any(|series| *series > from && *series <= to)
    }
}

impl PathKind {
    /// The kind in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adjacent => "adjacent",
            Self::Slurp => "SLURP",
        }
    }
}

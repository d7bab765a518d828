//! The fewest changes of versions that close one vulnerability within the series.

use std::collections::BTreeSet;

use serde::Serialize;
use volutus_model::{DaemonId, HostName, PackageVersion, Series};

use crate::record::Judgement;
use crate::{Advisories, Error, Exposed, Exposure, Published, Version, Vulnerability};

/// What closes a vulnerability, and what does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Patch {
    /// The vulnerability.
    pub vulnerability: String,
    /// Its other names.
    pub aliases: BTreeSet<String>,
    /// Its title.
    pub title: String,
    /// What its authors add, such as the configuration that it takes to be vulnerable.
    pub notes: Vec<String>,
    /// The changes: one for each version that is exposed and has a fix in its series.
    pub changes: Vec<Change>,
    /// What has no fix in its series.
    pub unfixed: Vec<Unfixed>,
    /// The daemons that have to be restarted for the changes.
    pub restarts: BTreeSet<DaemonId>,
}

/// One version that takes another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The distribution.
    pub distribution: String,
    /// The version that is exposed.
    pub from: PackageVersion,
    /// The lowest one in the series that is not.
    pub to: PackageVersion,
    /// The series, where the distribution is known to belong to one.
    pub series: Option<Series>,
    /// Whether that version is known to be published. Of a library only the advisory's word is known.
    pub published: bool,
    /// The daemons that run it.
    pub daemons: BTreeSet<DaemonId>,
    /// Their hosts.
    pub hosts: BTreeSet<HostName>,
    /// Other vulnerabilities that the change closes as well.
    pub closes: BTreeSet<String>,
    /// Vulnerabilities of the new version that remain.
    pub remain: BTreeSet<String>,
    /// A later version of the series to which fewer or none of those remain.
    pub better: Option<PackageVersion>,
}

/// A version that has no fix in its series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfixed {
    /// The distribution.
    pub distribution: String,
    /// The version that is exposed.
    pub version: PackageVersion,
    /// Why there is no fix.
    pub why: String,
    /// The lowest fixed version of other series.
    pub elsewhere: Vec<(Series, PackageVersion)>,
    /// The daemons that run it.
    pub daemons: BTreeSet<DaemonId>,
}

/// Computes what closes a vulnerability in a cloud that is exposed as told.
///
/// Every version that is exposed has to go, and one change does that; so one change for each is the
/// fewest there can be, and the lowest version that is not affected is the smallest step.
///
/// # Errors
/// [`Error::Unknown`] where no vulnerability goes by that name.
pub fn patch(
    name: &str,
    exposure: &Exposure,
    advisories: &Advisories,
    published: &Published,
) -> Result<Patch, Error> {
    let vulnerability = advisories.find(name)?;
    let mut patch = Patch {
        vulnerability: vulnerability.id.clone(),
        aliases: vulnerability.aliases.clone(),
        title: vulnerability.title.clone(),
        notes: vulnerability.notes.clone(),
        changes: Vec::new(),
        unfixed: Vec::new(),
        restarts: BTreeSet::new(),
    };
    for exposed in exposure.of(&vulnerability.id) {
        let fix = Fix { vulnerability, exposed, advisories, published };
        match fix.find() {
            Ok(change) => {
                patch.restarts.extend(change.daemons.iter().cloned());
                add(&mut patch.changes, change);
            }
            Err(why) => patch.unfixed.push(fix.unfixed(why)),
        }
    }
    Ok(patch)
}

/// A version that part of the daemons have an expired statement of is still one change.
fn add(changes: &mut Vec<Change>, change: Change) {
    let same = |known: &&mut Change| known.distribution == change.distribution && known.from == change.from;
    match changes.iter_mut().find(same) {
        Some(known) => {
            known.daemons.extend(change.daemons);
            known.hosts.extend(change.hosts);
        }
        None => changes.push(change),
    }
}

struct Fix<'a> {
    vulnerability: &'a Vulnerability,
    exposed: &'a Exposed,
    advisories: &'a Advisories,
    published: &'a Published,
}

impl Fix<'_> {
    fn find(&self) -> Result<Change, String> {
        let distribution = self.exposed.distribution.as_str();
        let runs = self
            .parse(self.exposed.version.as_str())
            .ok_or_else(|| format!("{} cannot be compared", self.exposed.version))?;
        let series = self.published.series_of(distribution, &runs);
        let later: Vec<&Version> = match series {
            Some(series) => self
                .published
                .versions(distribution, series)
                .iter()
                .filter(|v| **v > runs && v.is_final())
                .collect(),
            None => Vec::new(),
        };
        let (to, known) = match series {
            Some(series) => match later.iter().find(|version| self.is_free(version)) {
                Some(version) => ((*version).clone(), true),
                None => {
                    let latest = self.published.versions(distribution, series).last();
                    let latest = latest.map_or_else(String::new, |v| format!("; the latest is {v}"));
                    return Err(format!("no published version of {series} is free of it{latest}"));
                }
            },
            None => (self.stated(&runs)?, false),
        };
        let remain = self.vulnerabilities(&to);
        let before = self.vulnerabilities(&runs);
        let fewest = later
            .iter()
            .filter(|version| ***version > to && self.is_free(version))
            .map(|version| (self.vulnerabilities(version).len(), *version))
            .filter(|(count, _)| *count < remain.len())
            .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        let mut closes: BTreeSet<String> = before.difference(&remain).cloned().collect();
        closes.remove(&self.vulnerability.id);
        Ok(Change {
            distribution: distribution.to_owned(),
            from: self.exposed.version.clone(),
            to: PackageVersion::new(to.to_string()),
            series,
            published: known,
            daemons: self.exposed.daemons.clone(),
            hosts: self.exposed.hosts.clone(),
            closes,
            remain,
            better: fewest.map(|(_, version)| PackageVersion::new(version.to_string())),
        })
    }

    fn parse(&self, text: &str) -> Option<Version> {
        Version::parse(text, self.advisories.products().renumbered(&self.exposed.distribution))
    }

    /// Whether a version is free of the vulnerability.
    fn is_free(&self, version: &Version) -> bool {
        let text = version.to_string();
        let claims = self.vulnerability.claims.iter();
        claims
            .filter(|claim| claim.affected.distribution == self.exposed.distribution)
            .all(|claim| claim.affected.judge(&text, self.advisories.products()) == Judgement::NotAffected)
    }

    /// The version that the advisory itself names as the first fixed one, where it names one.
    fn stated(&self, runs: &Version) -> Result<Version, String> {
        let claims = self.vulnerability.claims.iter();
        let stated = claims
            .filter(|claim| claim.affected.distribution == self.exposed.distribution)
            .filter_map(|claim| claim.affected.fixed_after(runs))
            .filter(|version| self.is_free(version))
            .min();
        stated.cloned().ok_or_else(|| {
            format!(
                "{} gives no version that is fixed ({}), and the published versions of {} are not known",
                self.exposed.record, self.exposed.affected, self.exposed.distribution
            )
        })
    }

    /// What a version is exposed to.
    fn vulnerabilities(&self, version: &Version) -> BTreeSet<String> {
        let text = version.to_string();
        let hits = self.advisories.hits(&self.exposed.distribution, &text);
        hits.filter(|hit| hit.judgement == Judgement::Affected)
            .map(|hit| hit.vulnerability.id.clone())
            .collect()
    }

    fn unfixed(&self, why: String) -> Unfixed {
        let runs = self.parse(self.exposed.version.as_str());
        let elsewhere = self
            .published
            .all(&self.exposed.distribution)
            .filter_map(|(series, versions)| {
                let free = versions
                    .iter()
                    .find(|v| runs.as_ref().is_some_and(|runs| *v > runs) && self.is_free(v))?;
                Some((series, PackageVersion::new(free.to_string())))
            })
            .collect();
        Unfixed {
            distribution: self.exposed.distribution.clone(),
            version: self.exposed.version.clone(),
            why,
            elsewhere,
            daemons: self.exposed.daemons.clone(),
        }
    }
}

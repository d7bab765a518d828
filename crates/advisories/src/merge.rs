//! Puts records of all feeds together: one vulnerability has many names and many records, and for
//! each distribution the record of the highest precedence tells its versions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Serialize;

use crate::record::{Affected, Judgement};
use crate::{Error, Feed, Products, Record};

/// One vulnerability, from all records of it.
#[derive(Debug, Clone, Serialize)]
pub struct Vulnerability {
    /// The id of the record with the highest precedence.
    pub id: String,
    /// All other names.
    pub aliases: BTreeSet<String>,
    /// When it was first published.
    pub published: Option<Date>,
    /// Its title, from the record with the highest precedence.
    pub title: String,
    /// Whether its advisory was corrected.
    pub errata: bool,
    /// What its authors add.
    pub notes: Vec<String>,
    /// What is affected, by distribution.
    pub claims: Vec<Claim>,
}

/// What one record says of one distribution.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// What it says.
    pub affected: Affected,
    /// The record.
    pub record: String,
    /// Its feed.
    pub feed: Feed,
    /// Records that say something else of the same distribution, and are not heard.
    pub overruled: Vec<String>,
}

/// A vulnerability that concerns a version, or may.
#[derive(Debug, Clone)]
pub struct Hit<'a> {
    /// The vulnerability.
    pub vulnerability: &'a Vulnerability,
    /// What was gone by.
    pub claim: &'a Claim,
    /// [`Judgement::Affected`] or [`Judgement::Unjudged`].
    pub judgement: Judgement,
}

/// All vulnerabilities that are known.
#[derive(Debug)]
pub struct Advisories {
    products: Products,
    vulnerabilities: Vec<Vulnerability>,
    by_name: BTreeMap<String, usize>,
    /// Distribution to vulnerabilities and their claims.
    by_distribution: BTreeMap<String, Vec<(usize, usize)>>,
}

impl Advisories {
    /// Puts records together. Of two records with one id the later one counts: advisories are
    /// corrected (errata), and a new sync replaces what it finds.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = Record>, products: Products) -> Self {
        let mut by_id: BTreeMap<String, Record> = BTreeMap::new();
        for record in records {
            by_id.insert(record.id.clone(), record);
        }
        let records: Vec<Record> = by_id.into_values().filter(|record| !record.withdrawn).collect();
        let mut vulnerabilities: Vec<Vulnerability> =
            groups(&records).into_iter().filter_map(|group| together(group, &records)).collect();
        vulnerabilities.sort_by(|a, b| (b.published, &b.id).cmp(&(a.published, &a.id)));
        let mut by_name = BTreeMap::new();
        let mut by_distribution: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (i, vulnerability) in vulnerabilities.iter().enumerate() {
            for name in std::iter::once(&vulnerability.id).chain(&vulnerability.aliases) {
                by_name.insert(name.clone(), i);
            }
            for (c, claim) in vulnerability.claims.iter().enumerate() {
                by_distribution.entry(claim.affected.distribution.clone()).or_default().push((i, c));
            }
        }
        Self { products, vulnerabilities, by_name, by_distribution }
    }

    /// What is known of products.
    #[must_use]
    pub fn products(&self) -> &Products {
        &self.products
    }

    /// All, the latest first.
    #[must_use]
    pub fn all(&self) -> &[Vulnerability] {
        &self.vulnerabilities
    }

    /// The vulnerability that goes by a name, whatever letters it is written in.
    ///
    /// # Errors
    /// [`Error::Unknown`] where none does.
    pub fn find(&self, name: &str) -> Result<&Vulnerability, Error> {
        let name = name.trim().to_ascii_uppercase();
        let found = self.by_name.get(&name).map(|i| &self.vulnerabilities[*i]);
        found.ok_or(Error::Unknown { id: name, known: self.vulnerabilities.len() })
    }

    /// Whether any vulnerability concerns a distribution, in whatever version.
    #[must_use]
    pub fn concerns(&self, distribution: &str) -> bool {
        self.by_distribution.contains_key(distribution)
    }

    /// What concerns a version of a distribution, or may.
    pub fn hits<'a>(&'a self, distribution: &str, version: &'a str) -> impl Iterator<Item = Hit<'a>> {
        let places = self.by_distribution.get(distribution).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(move |(i, c)| {
            let vulnerability = &self.vulnerabilities[*i];
            let claim = &vulnerability.claims[*c];
            match claim.affected.judge(version, &self.products) {
                Judgement::NotAffected => None,
                judgement => Some(Hit { vulnerability, claim, judgement }),
            }
        })
    }
}

/// Records that share a name, directly or over others.
fn groups(records: &[Record]) -> Vec<Vec<usize>> {
    fn root(parents: &mut [usize], mut i: usize) -> usize {
        while parents[i] != i {
            parents[i] = parents[parents[i]];
            i = parents[i];
        }
        i
    }
    let mut parents: Vec<usize> = (0..records.len()).collect();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, record) in records.iter().enumerate() {
        for name in std::iter::once(&record.id).chain(&record.aliases) {
            let other = *first.entry(name).or_insert(i);
            let (a, b) = (root(&mut parents, i), root(&mut parents, other));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..records.len() {
        groups.entry(root(&mut parents, i)).or_default().push(i);
    }
    groups.into_values().collect()
}

fn together(group: Vec<usize>, records: &[Record]) -> Option<Vulnerability> {
    let mut members: Vec<&Record> = group.into_iter().map(|i| &records[i]).collect();
    members.sort_by(|a, b| (a.feed, &a.id).cmp(&(b.feed, &b.id)));
    let first = *members.first()?;
    let mut claims: BTreeMap<&str, Vec<Claim>> = BTreeMap::new();
    for record in &members {
        for affected in &record.affected {
            let known = claims.entry(affected.distribution.as_str()).or_default();
            match known.first().map(|claim| claim.feed) {
                Some(feed) if feed < record.feed => {
                    let differs = |claim: &Claim| claim.affected.ranges != affected.ranges;
                    for claim in known.iter_mut().filter(|claim| differs(claim)) {
                        claim.overruled.push(record.id.clone());
                    }
                }
                _ => known.push(Claim {
                    affected: affected.clone(),
                    record: record.id.clone(),
                    feed: record.feed,
                    overruled: Vec::new(),
                }),
            }
        }
    }
    let mut aliases: BTreeSet<String> = members
        .iter()
        .flat_map(|record| std::iter::once(&record.id).chain(&record.aliases))
        .cloned()
        .collect();
    aliases.remove(&first.id);
    Some(Vulnerability {
        id: first.id.clone(),
        aliases,
        published: members.iter().filter_map(|record| record.date).min(),
        title: first.title.clone(),
        errata: members.iter().any(|record| record.errata),
        notes: members.iter().flat_map(|record| &record.notes).cloned().collect(),
        claims: claims.into_values().flatten().collect(),
    })
}

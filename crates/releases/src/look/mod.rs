//! Looks versions up at a source.

mod debian;
mod folder;
mod index;
mod registry;
mod requirements;

use std::collections::BTreeMap;

use volutus_advisories::{Version, normal};
use volutus_model::Series;

use crate::document::Package;
use crate::error::Error;
use crate::wanted::{Constraints, Lines, Wanted};

pub use debian::{Repository, debian};
pub use folder::folder;
pub use index::index;
pub use registry::{Images, registry};
pub use requirements::requirements;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The series that is to be locked.
    pub series: Series,
    /// The packages, by the names that the source has for them.
    pub packages: Vec<String>,
    /// The Python that they are for.
    pub python: Version,
    /// Which versions belong to which series.
    pub lines: Lines<'a>,
    /// Versions that are wanted whatever the series says.
    pub constraints: Constraints,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The packages, each in the version that is to be locked.
    pub packages: BTreeMap<String, Package>,
    /// What the operator should know: higher versions that were not taken, and what cannot be told.
    pub notes: Vec<String>,
}

impl<'a> Request<'a> {
    /// Which versions of a distribution are wanted.
    fn wanted(&self, distribution: &str) -> Result<Wanted<'a>, Error> {
        if let Some(version) = self.constraints.version(distribution, &self.python)? {
            return Ok(Wanted::Exactly(version.clone()));
        }
        self.lines
            .of(distribution, self.series)
            .ok_or_else(|| Error::NoLine { package: distribution.to_owned(), series: self.series })
    }

    /// The distributions that are looked for, by their normal names.
    fn distributions(&self) -> impl Iterator<Item = String> {
        self.packages.iter().map(|name| normal(name))
    }
}

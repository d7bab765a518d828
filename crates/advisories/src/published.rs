//! Which versions were published, per series: where a fix is looked for.

use std::collections::BTreeMap;

use volutus_model::Series;

use crate::{Error, Products, Version, normal};

/// Published final versions by distribution and series, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    by_distribution: BTreeMap<String, BTreeMap<Series, Vec<Version>>>,
}

impl Published {
    /// What this Volutus knows; see [`crate::BUILTIN_AS_OF`] for its age.
    ///
    /// # Errors
    /// [`Error::Data`] where the file is malformed, which the tests of this crate would show.
    pub fn builtin(products: &Products) -> Result<Self, Error> {
        Self::parse(include_str!("../data/published.toml"), products)
            .map_err(|why| Error::Data { file: "published.toml", why })
    }

    /// Reads `[distribution]` tables of `"2026.1" = ["28.0.0", ...]`.
    ///
    /// # Errors
    /// Says what is wrong where it is not TOML of that shape, or names what is no version.
    pub fn parse(text: &str, products: &Products) -> Result<Self, String> {
        let raw: BTreeMap<String, BTreeMap<Series, Vec<String>>> =
            toml::from_str(text).map_err(|error| error.to_string())?;
        let mut by_distribution = BTreeMap::new();
        for (name, series) in raw {
            let name = normal(&name);
            let renumbered = products.renumbered(&name);
            let mut found = BTreeMap::new();
            for (series, texts) in series {
                let mut versions = texts
                    .iter()
                    .map(|text| {
                        Version::parse(text, renumbered)
                            .ok_or_else(|| format!("{name}: `{text}` is no version"))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                versions.sort();
                found.insert(series, versions);
            }
            by_distribution.insert(name, found);
        }
        Ok(Self { by_distribution })
    }

    /// The series that a version belongs to: the one that has it, or else the latest one whose first
    /// version is not above it.
    #[must_use]
    pub fn series_of(&self, distribution: &str, version: &Version) -> Option<Series> {
        let series = self.by_distribution.get(distribution)?;
        let version = version.public();
        let has = series.iter().find(|(_, versions)| versions.contains(&version));
        let begun = || series.iter().rfind(|(_, versions)| versions.first().is_some_and(|v| *v <= version));
        has.or_else(begun).map(|(series, _)| *series)
    }

    /// The versions of a series, oldest first; nothing where the distribution is not known.
    #[must_use]
    pub fn versions(&self, distribution: &str, series: Series) -> &[Version] {
        let found = self.by_distribution.get(distribution).and_then(|all| all.get(&series));
        found.map(Vec::as_slice).unwrap_or_default()
    }

    /// The series of a distribution that are known, with their versions.
    pub fn all(&self, distribution: &str) -> impl Iterator<Item = (Series, &[Version])> {
        let found = self.by_distribution.get(distribution).into_iter().flatten();
        found.map(|(series, versions)| (*series, versions.as_slice()))
    }

    /// Whether anything is known of a distribution.
    #[must_use]
    pub fn knows(&self, distribution: &str) -> bool {
        self.by_distribution.contains_key(distribution)
    }
}

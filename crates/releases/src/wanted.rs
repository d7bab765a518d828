//! Which versions are wanted: by the series, or by a file of constraints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use volutus_advisories::{Products, Published, Version, normal};
use volutus_catalog::Catalog;
use volutus_model::Series;

use crate::error::Error;

/// What is known of which versions belong to which series.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// The services, whose first number names the series.
    pub catalog: &'a Catalog,
    /// What was published of other products.
    pub published: &'a Published,
    /// Names of products.
    pub products: &'a Products,
}

/// Which versions of one package are wanted.
#[derive(Debug, Clone)]
pub(crate) enum Wanted<'a> {
    /// This one, which a file of constraints names.
    Exactly(Version),
    /// The latest final one with one of these first numbers that belongs to the series as far as is known.
    Line {
        series: Series,
        majors: BTreeSet<u64>,
        /// What tells versions of two series apart that share a first number.
        of: Option<(&'a Published, String)>,
    },
}

impl Wanted<'_> {
    pub fn admits(&self, version: &Version) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == version,
            Self::Line { series, majors, of } => {
                let known = |(published, name): &(&Published, String)| {
                    published.series_of(name, version).is_none_or(|found| found == *series)
                };
                version.is_final() && majors.contains(&version.major()) && of.as_ref().is_none_or(known)
            }
        }
    }

    /// The first numbers that are wanted; nothing where one version is.
    pub fn majors(&self) -> BTreeSet<u64> {
        match self {
            Self::Exactly(version) => [version.major()].into(),
            Self::Line { majors, .. } => majors.clone(),
        }
    }
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(version) => write!(f, "the constraint {version}"),
            Self::Line { series, majors, .. } => {
                let majors: Vec<String> = majors.iter().map(|major| format!("{major}.*")).collect();
                write!(f, "{series} ({})", majors.join(" or "))
            }
        }
    }
}

impl<'a> Lines<'a> {
    /// Which versions of a package belong to a series. The package goes by the name of its distribution, of the
    /// service, or of the product.
    pub(crate) fn of(&self, package: &str, series: Series) -> Option<Wanted<'a>> {
        let name = self.products.distribution(package);
        let mut services = self.catalog.services.values();
        let service = services
            .find(|service| normal(&service.distribution) == name || service.name.as_str() == package);
        if let Some(major) = service.and_then(|service| service.versions.get(&series)?.major()) {
            return Some(Wanted::Line { series, majors: [major].into(), of: None });
        }
        let versions = self.published.versions(&name, series);
        let majors: BTreeSet<u64> = versions.iter().map(Version::major).collect();
        let of = Some((self.published, name));
        (!majors.is_empty()).then_some(Wanted::Line { series, majors, of })
    }

    /// Whether a distribution is that of a service of the catalog.
    pub(crate) fn is_service(&self, distribution: &str) -> bool {
        self.catalog.services.values().any(|service| normal(&service.distribution) == distribution)
    }
}

/// A file of constraints, such as OpenStack's upper-constraints: one version each for many distributions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraints {
    by_distribution: BTreeMap<String, Vec<Constraint>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Constraint {
    line: usize,
    version: Version,
    marker: Option<String>,
}

impl Constraints {
    /// Reads lines of `NAME===VERSION` or `NAME==VERSION`, each with an environment marker behind a
    /// semicolon where it has one. `place` names where they are from.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let mut by_distribution: BTreeMap<String, Vec<Constraint>> = BTreeMap::new();
        for (i, whole) in text.lines().enumerate() {
            let line = whole.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (pin, marker) = match line.split_once(';') {
                Some((pin, marker)) => (pin.trim(), Some(marker.trim().to_owned())),
                None => (line, None),
            };
            let read = pin.split_once("==").and_then(|(name, version)| {
                let version = Version::parse(version.trim_start_matches('='), false)?;
                (!name.trim().is_empty()).then(|| (normal(name), version))
            });
            let (name, version) = read.ok_or_else(|| {
                let why = format!("line {}: `{whole}` is not NAME===VERSION", i + 1);
                Error::malformed(place, why)
            })?;
            by_distribution.entry(name).or_default().push(Constraint { line: i + 1, version, marker });
        }
        Ok(Self { by_distribution })
    }

    /// The version that is named for a distribution, for a Python on Linux.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a marker is not understood, or two different versions are named.
    pub(crate) fn version(&self, distribution: &str, python: &Version) -> Result<Option<&Version>, Error> {
        let mut found: Option<&Version> = None;
        for constraint in self.by_distribution.get(distribution).into_iter().flatten() {
            let place = || format!("constraint of {distribution}, line {}", constraint.line);
            let applies = match &constraint.marker {
                None => true,
                Some(marker) => applies(marker, python).ok_or_else(|| {
                    Error::malformed(place(), format!("the marker `{marker}` is not understood"))
                })?,
            };
            if !applies {
                continue;
            }
            if let Some(other) = found.filter(|other| **other != constraint.version) {
                let why = format!("{other} and {} are both named", constraint.version);
                return Err(Error::malformed(place(), why));
            }
            found = Some(&constraint.version);
        }
        Ok(found)
    }
}

/// Whether an environment marker holds for a Python on Linux; nothing where it is not understood. Source:
/// PEP 508; of its grammar what upper-constraints uses.
pub(crate) fn applies(marker: &str, python: &Version) -> Option<bool> {
    let mut all = true;
    for part in marker.split(" and ") {
        let part = part.trim().trim_start_matches('(').trim_end_matches(')');
        let at = part.find(|c: char| "<>=!~".contains(c))?;
        let (variable, rest) = (part[..at].trim(), &part[at..]);
        let value_at = rest.find(['"', '\''])?;
        let (operator, value) = (rest[..value_at].trim(), rest[value_at..].trim().trim_matches(['"', '\'']));
        let is = |own: &str| match operator {
            "==" => Some(own == value),
            "!=" => Some(own != value),
            _ => None,
        };
        all &= match variable {
            "python_version" | "python_full_version" => {
                crate::specifier::admits(&format!("{operator}{value}"), python)?
            }
            "sys_platform" => is("linux")?,
            "platform_system" => is("Linux")?,
            "os_name" => is("posix")?,
            _ => return None,
        };
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text, false).unwrap()
    }

    #[test]
    fn constraints_go_by_the_python() {
        let text = "# all\nNumPy===1.26.4;python_version=='3.9'\nnumpy===2.2.6 ; python_version>='3.10'\n\
                    oslo.config===9.7.1 # why\nwinrm==1;sys_platform=='win32'\nodd==1;extra=='x'\n\
                    two==1\ntwo==2\n";
        let read = Constraints::parse(text, "it").unwrap();
        assert_eq!(read.version("numpy", &v("3.9")).unwrap(), Some(&v("1.26.4")));
        assert_eq!(read.version("numpy", &v("3.11")).unwrap(), Some(&v("2.2.6")));
        assert_eq!(read.version("oslo-config", &v("3.11")).unwrap(), Some(&v("9.7.1")));
        assert_eq!(read.version("winrm", &v("3.11")).unwrap(), None);
        assert!(read.version("odd", &v("3.11")).is_err());
        assert!(read.version("two", &v("3.11")).unwrap_err().to_string().contains("line 8"));
        for wrong in ["nova", "nova>=1", "===1", "nova===x"] {
            assert!(Constraints::parse(wrong, "it").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_series_has_its_first_numbers() {
        let (catalog, products) = (Catalog::builtin().unwrap(), Products::builtin().unwrap());
        let published = Published::builtin(&products).unwrap();
        let lines = Lines { catalog: &catalog, published: &published, products: &products };
        let series: Series = "2026.1".parse().unwrap();
        let nova = lines.of("nova", series).unwrap();
        assert!(nova.admits(&v("33.9.9")) && !nova.admits(&v("34.0.0")) && !nova.admits(&v("33.1.0rc1")));
        assert_eq!(nova.to_string(), "2026.1 (33.*)");
        assert!(lines.of("placement", series).unwrap().admits(&v("15.0.7")));
        assert!(lines.of("openstack-placement", series).unwrap().admits(&v("15.0.7")));
        let aodh = lines.of("aodh", series).unwrap();
        assert!(aodh.admits(&v("22.0.9")) && !aodh.admits(&v("21.0.0")));
        assert!(lines.of("leftpad", series).is_none());
    }
}

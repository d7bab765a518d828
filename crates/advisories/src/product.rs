//! What advisories call a product, and which distribution that is.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Error;

/// The facts of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Product {
    /// Its distribution on the package index; the product's own name where absent.
    pub distribution: Option<String>,
    /// Whether it is an OpenStack service: it then concerns that service's daemons only.
    pub service: bool,
    /// Whether it counted its versions by years before it began anew.
    pub renumbered: bool,
}

/// A range that stands in for one that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Correction {
    pub advisory: String,
    pub product: String,
    pub versions: String,
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corrections {
    correction: Vec<Correction>,
}

/// Everything that is known of products.
#[derive(Debug, Clone)]
pub struct Products {
    by_name: BTreeMap<String, Product>,
    /// Distribution to product.
    by_distribution: BTreeMap<String, String>,
    corrections: Vec<Correction>,
}

/// A distribution's name such that two ways to write it are the same. Source: PEP 503.
#[must_use]
pub fn normal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' | ' ' => {
                if !text.ends_with('-') {
                    text.push('-');
                }
            }
            c => text.push(c.to_ascii_lowercase()),
        }
    }
    text
}

/// Whether [`normal`] would change nothing.
pub(crate) fn is_normal(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') && !name.contains("--")
}

impl Products {
    /// What this Volutus knows.
    ///
    /// # Errors
    /// [`Error::Data`] where a data file of this crate is malformed, which its tests would show.
    pub fn builtin() -> Result<Self, Error> {
        let data = |file, error: toml::de::Error| Error::Data { file, why: error.to_string() };
        let named: BTreeMap<String, Product> = toml::from_str(include_str!("../data/products.toml"))
            .map_err(|error| data("products.toml", error))?;
        let corrections: Corrections = toml::from_str(include_str!("../data/corrections.toml"))
            .map_err(|error| data("corrections.toml", error))?;
        let by_name: BTreeMap<String, Product> =
            named.into_iter().map(|(name, product)| (normal(&name), product)).collect();
        let by_distribution = by_name
            .iter()
            .map(|(name, product)| (normal(product.distribution.as_ref().unwrap_or(name)), name.clone()))
            .collect();
        Ok(Self { by_name, by_distribution, corrections: corrections.correction })
    }

    /// The distribution that a name means, be it the product's or the distribution's own.
    #[must_use]
    pub fn distribution(&self, name: &str) -> String {
        let name = normal(name);
        match self.by_name.get(&name).and_then(|product| product.distribution.as_deref()) {
            Some(distribution) => normal(distribution),
            None => name,
        }
    }

    /// Whether a distribution counted by years before.
    #[must_use]
    pub fn renumbered(&self, distribution: &str) -> bool {
        self.of(distribution).is_some_and(|product| product.renumbered)
    }

    /// Whether a distribution is that of an OpenStack service.
    #[must_use]
    pub fn is_service(&self, distribution: &str) -> bool {
        self.of(distribution).is_some_and(|product| product.service)
    }

    fn of(&self, distribution: &str) -> Option<&Product> {
        self.by_name.get(self.by_distribution.get(distribution)?)
    }

    pub(crate) fn correction(&self, advisory: &str, distribution: &str) -> Option<&Correction> {
        self.corrections.iter().find(|correction| {
            correction.advisory == advisory && self.distribution(&correction.product) == distribution
        })
    }
}

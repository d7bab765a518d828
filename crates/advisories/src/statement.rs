//! What the operator states of vulnerabilities, in the spirit of VEX ("Vulnerability Exploitability
//! eXchange"): that a cloud is not affected by one, or has the fix without its version. Each has a
//! reason, an author and an end, since reasons go out of date.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use volutus_model::DaemonId;

use crate::expression::{self, Subject};
use crate::record::{Affected, Judgement};
use crate::{Error, Products, Vulnerability};

/// What is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatementStatus {
    /// The vulnerability cannot be reached here.
    NotAffected,
    /// The fix is in, though the version does not tell: a distributor's patch, a vendor's wheel.
    Fixed,
}

/// One statement of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Any name of the vulnerability.
    pub vulnerability: String,
    /// What is stated.
    pub status: StatementStatus,
    /// Why.
    pub because: String,
    /// Who states it.
    pub by: String,
    /// The last day on which it holds.
    #[serde(deserialize_with = "day")]
    pub until: Date,
    /// Only of this product; of all where absent.
    #[serde(default)]
    pub product: Option<String>,
    /// Only of these versions, in the grammar of advisories.
    #[serde(default)]
    pub versions: Option<String>,
    /// Only on these hosts.
    #[serde(default)]
    pub hosts: BTreeSet<String>,
    /// Only of these kinds of daemons.
    #[serde(default)]
    pub daemons: BTreeSet<String>,
}

/// A day, as TOML's own date or as a text.
fn day<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Date, D::Error> {
    let text = match toml::Value::deserialize(input)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a day such as 2026-12-31")))
}

/// All statements of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statements {
    /// The statements.
    #[serde(default, rename = "statement")]
    pub statements: Vec<Statement>,
}

impl Statements {
    /// Reads a file of statements.
    ///
    /// # Errors
    /// [`Error::Statements`] with the place, where it is not TOML of this shape, or a statement has no
    /// reason, no author or versions that cannot be read: then none counts, since a statement that is
    /// misunderstood would hide an exposure.
    pub fn parse(text: &str, products: &Products) -> Result<Self, Error> {
        let read: Self = toml::from_str(text).map_err(|error| Error::Statements(error.to_string()))?;
        for (position, statement) in read.statements.iter().enumerate() {
            let refuse = |why: &str| {
                let name = &statement.vulnerability;
                Err(Error::Statements(format!("statement {} (of {name}): {why}", position + 1)))
            };
            if !crate::read::is_id(&statement.vulnerability) {
                return refuse("`vulnerability` is no id such as CVE-2026-42999");
            }
            if statement.because.trim().is_empty() || statement.by.trim().is_empty() {
                return refuse("`because` and `by` must say something");
            }
            if statement.versions.is_some() && statement.product.is_none() {
                return refuse("`versions` needs `product`");
            }
            if statement.ranges(products).is_some_and(|affected| !affected.unread.is_empty()) {
                return refuse("its `versions` cannot be read; write them as `>=28.0.0 <28.0.2, ==29.0.0`");
            }
        }
        Ok(read)
    }

    /// The statement that covers an exposure, and whether it still holds on a day. One that holds is
    /// preferred over one that has ended.
    #[must_use]
    pub fn covering(
        &self,
        vulnerability: &Vulnerability,
        distribution: &str,
        version: &str,
        daemon: &DaemonId,
        today: Date,
        products: &Products,
    ) -> Option<(&Statement, bool)> {
        let covering = self
            .statements
            .iter()
            .filter(|statement| statement.covers(vulnerability, distribution, version, daemon, products));
        covering.map(|statement| (statement, today <= statement.until)).max_by_key(|(_, holds)| *holds)
    }
}

impl Statement {
    fn covers(
        &self,
        vulnerability: &Vulnerability,
        distribution: &str,
        version: &str,
        daemon: &DaemonId,
        products: &Products,
    ) -> bool {
        let name = self.vulnerability.to_ascii_uppercase();
        let within = |names: &BTreeSet<String>, name: &str| names.is_empty() || names.contains(name);
        (vulnerability.id == name || vulnerability.aliases.contains(&name))
            && within(&self.hosts, daemon.host.as_str())
            && within(&self.daemons, daemon.kind.as_str())
            && self.product.as_ref().is_none_or(|product| products.distribution(product) == distribution)
            && self
                .ranges(products)
                .is_none_or(|ranges| ranges.judge(version, products) == Judgement::Affected)
    }

    fn ranges(&self, products: &Products) -> Option<Affected> {
        let (product, text) = (self.product.as_ref()?, self.versions.as_ref()?);
        let distribution = products.distribution(product);
        let subject = Subject { products, distribution: &distribution, date: None };
        let read = expression::parse(text, &subject);
        Some(Affected {
            product: product.clone(),
            text: text.clone(),
            ranges: read.ranges,
            except: Vec::new(),
            unread: read.unread,
            corrected_by: None,
            distribution,
        })
    }
}

//! Reads data files into a [`Catalog`], and refuses what does not hold together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use volutus_model::name::Series;

use crate::{Catalog, DaemonRole, Hazard, Look, PathKind, SeriesFacts, Service, UpgradePath};

/// Why data files were refused. Every message names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or not of the shape that its name asks for.
    #[error("catalog file {file}, line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// The name says nothing about what the file is.
    #[error(
        "catalog file {file} is none of series.toml, paths.toml, hazards.toml and \
         services/NAME.toml: its name decides what is read from it"
    )]
    UnknownFile {
        /// The file.
        file: String,
    },
    /// A file says something that contradicts another one, or itself.
    #[error("catalog file {file}: {message}")]
    Contradiction {
        /// The file.
        file: String,
        /// What does not hold.
        message: String,
    },
}

/// The files that Volutus ships: name and text.
#[must_use]
pub fn builtin_files() -> Vec<(&'static str, &'static str)> {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            vec![$(($name, include_str!(concat!("../data/", $name)))),*]
        };
    }
    files![
        "series.toml",
        "paths.toml",
        "hazards.toml",
        "services/keystone.toml",
        "services/glance.toml",
        "services/placement.toml",
        "services/nova.toml",
        "services/neutron.toml",
        "services/cinder.toml",
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesFile {
    series: BTreeMap<Series, SeriesFacts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathsFile {
    path: Vec<UpgradePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HazardsFile {
    hazard: Vec<Hazard>,
}

impl Catalog {
    /// The catalog that Volutus ships.
    ///
    /// # Errors
    /// None as long as the shipped files hold together, which a test sees to; the type is that
    /// of [`Catalog::load`].
    pub fn builtin() -> Result<Self, Error> {
        Self::load(&builtin_files())
    }

    /// Reads data files. A name that ends in `series.toml`, `paths.toml`, `hazards.toml` or
    /// `services/NAME.toml` decides what is read from it. To add a service to what is shipped,
    /// pass [`builtin_files`] and one file more.
    ///
    /// # Errors
    /// [`Error`] where a file cannot be read as what it is, or where files contradict each other.
    pub fn load(files: &[(&str, &str)]) -> Result<Self, Error> {
        let mut catalog = Self {
            series: BTreeMap::new(),
            paths: Vec::new(),
            services: BTreeMap::new(),
            hazards: Vec::new(),
        };
        let mut origins = Origins::default();
        for (name, text) in files {
            catalog.read(name, text, &mut origins)?;
        }
        catalog.check(&origins)?;
        for service in catalog.services.values() {
            for (series, version) in &service.versions {
                if let Some(facts) = catalog.series.get_mut(series) {
                    facts.versions.insert(service.name.clone(), version.clone());
                }
            }
        }
        Ok(catalog)
    }

    fn read(&mut self, name: &str, text: &str, origins: &mut Origins) -> Result<(), Error> {
        let parts: Vec<&str> = name.rsplit('/').collect();
        match parts.as_slice() {
            [file, "services", ..] if file.ends_with(".toml") => {
                let service: Service = parse(name, text)?;
                if *file != format!("{}.toml", service.name) {
                    return contradiction(
                        name,
                        format!("it describes `{}`, so it must be called {0}.toml", service.name),
                    );
                }
                origins.services.insert(service.name.to_string(), name.to_owned());
                if let Some(other) = self.services.insert(service.name.clone(), service) {
                    return contradiction(name, format!("`{}` is described twice", other.name));
                }
            }
            ["series.toml", ..] => {
                for (series, facts) in parse::<SeriesFile>(name, text)?.series {
                    if self.series.insert(series, facts).is_some() {
                        return contradiction(name, format!("series {series} is given twice"));
                    }
                }
            }
            ["paths.toml", ..] => {
                self.paths.extend(parse::<PathsFile>(name, text)?.path);
                name.clone_into(&mut origins.paths);
            }
            ["hazards.toml", ..] => {
                self.hazards.extend(parse::<HazardsFile>(name, text)?.hazard);
                name.clone_into(&mut origins.hazards);
            }
            _ => {
                return Err(Error::UnknownFile { file: name.to_owned() });
            }
        }
        Ok(())
    }

    fn check(&self, origins: &Origins) -> Result<(), Error> {
        self.check_paths(&origins.paths)?;
        let mut kinds = BTreeMap::new();
        for service in self.services.values() {
            let file = origins.services.get(service.name.as_str()).map_or("", String::as_str);
            check_service(self, service, file)?;
            for daemon in &service.daemons {
                if let Some(other) = kinds.insert(&daemon.kind, &service.name) {
                    return contradiction(
                        file,
                        format!("daemon `{}` belongs to `{other}` already", daemon.kind),
                    );
                }
            }
        }
        self.check_hazards(&origins.hazards)
    }

    fn check_paths(&self, file: &str) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for path in &self.paths {
            let label = format!("path {} to {}", path.from, path.to);
            for end in [path.from, path.to] {
                if !self.series.contains_key(&end) {
                    return contradiction(file, format!("{label}: series {end} is not known"));
                }
            }
            if !seen.insert((path.from, path.to)) {
                return contradiction(file, format!("{label} is given twice"));
            }
            let hops = self.between(path.from, path.to).len();
            let fits = match path.kind {
                PathKind::Adjacent => hops == 2,
                PathKind::Slurp => hops == 3 && path.from.is_slurp() && path.to.is_slurp(),
            };
            if !fits {
                return contradiction(
                    file,
                    format!(
                        "{label} is not {}: adjacent paths lead to the next series, SLURP paths \
                         from one SLURP series over the one between to the next",
                        path.kind.as_str()
                    ),
                );
            }
        }
        Ok(())
    }

    fn check_hazards(&self, file: &str) -> Result<(), Error> {
        let mut codes = BTreeSet::new();
        for hazard in &self.hazards {
            let refuse = |what: String| contradiction(file, format!("{}: {what}", hazard.code));
            if !codes.insert(&hazard.code) {
                return refuse("the code is given twice".to_owned());
            }
            let Some(service) = self.services.get(&hazard.service) else {
                return refuse(format!("service `{}` is not known", hazard.service));
            };
            if let Some(series) = hazard.to.iter().find(|s| !self.series.contains_key(s)) {
                return refuse(format!("series {series} is not known"));
            }
            if hazard.severity != volutus_model::Severity::Info && hazard.action.is_empty() {
                return refuse("only a hazard of severity info may have no action".to_owned());
            }
            match &hazard.look {
                Look::OptionNotIn { option, .. } | Look::OptionContains { option, .. } => {
                    if !service.options.contains(option) {
                        return refuse(format!(
                            "option `{option}` is not among the options of `{}`, so nobody \
                             would look at it",
                            service.name
                        ));
                    }
                }
                Look::EnvironmentNotIn { daemons, .. } => {
                    let unknown =
                        daemons.iter().find(|kind| !service.daemons.iter().any(|d| d.kind == **kind));
                    if let Some(kind) = unknown {
                        return refuse(format!("`{}` has no daemon `{kind}`", service.name));
                    }
                }
                Look::VifType { .. } | Look::Always => {}
            }
        }
        Ok(())
    }
}

/// Which file said what, for messages.
#[derive(Default)]
struct Origins {
    services: BTreeMap<String, String>,
    paths: String,
    hazards: String,
}

fn contradiction<T>(file: &str, message: String) -> Result<T, Error> {
    Err(Error::Contradiction { file: file.to_owned(), message })
}

fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text[..text.floor_char_boundary(offset)];
        Error::Syntax {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            message: error.message().to_owned(),
        }
    })
}

fn check_service(catalog: &Catalog, service: &Service, file: &str) -> Result<(), Error> {
    let refuse = |message: String| contradiction(file, message);
    if let Some(other) = service.after.iter().find(|name| !catalog.services.contains_key(*name)) {
        return refuse(format!("after = `{other}`, which no file describes"));
    }
    for series in service
        .versions
        .keys()
        .chain(service.record_versions.keys())
        .chain(service.record_versions_oldest.keys())
        .chain(service.graceful_shutdown_s.keys())
        .chain(service.recorded_versions.keys())
        .chain(service.daemons.iter().flat_map(|daemon| daemon.microversions.keys()))
    {
        if !catalog.series.contains_key(series) {
            return refuse(format!("series {series} is not known"));
        }
    }
    if service.versions.is_empty() {
        return refuse("[versions] is empty, so no run could install it".to_owned());
    }
    if service.refuses_newer_records != service.anchor.is_some() {
        return refuse(
            "a service whose code refuses newer records needs [anchor], and no other one does: \
             without it the way back would close with the roll"
                .to_owned(),
        );
    }
    if service
        .anchor
        .as_ref()
        .is_some_and(|anchor| anchor.binaries.is_empty() || !anchor.object.contains('.'))
    {
        return refuse("[anchor] needs `binaries`, and `object` as a dotted path".to_owned());
    }
    check_hops(catalog, service, file)?;
    check_daemons(service, file)?;
    check_commands(service, file)?;
    check_sources(service, file)
}

fn check_hops(catalog: &Catalog, service: &Service, file: &str) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for hop in &service.hops {
        let label = format!("hop {} to {}", hop.from, hop.to);
        if catalog.between(hop.from, hop.to).len() != 2 || !catalog.series.contains_key(&hop.to) {
            return contradiction(file, format!("{label} does not lead to the next series"));
        }
        if !seen.insert((hop.from, hop.to)) {
            return contradiction(file, format!("{label} is given twice"));
        }
        if let Some(condition) = &hop.only_where
            && !service.options.contains(&condition.option)
        {
            return contradiction(
                file,
                format!(
                    "{label}: option `{}` is not among the service's options, so nobody would \
                     look at it",
                    condition.option
                ),
            );
        }
    }
    Ok(())
}

fn check_daemons(service: &Service, file: &str) -> Result<(), Error> {
    let mut before = BTreeSet::new();
    for daemon in &service.daemons {
        let refuse = |what: &str| contradiction(file, format!("daemon `{}`: {what}", daemon.kind));
        if let Some(other) = daemon.after.iter().find(|kind| !before.contains(*kind)) {
            return refuse(&format!("it comes after `{other}`, which is not among the daemons above it"));
        }
        if !before.insert(&daemon.kind) {
            return refuse("it is given twice");
        }
        if daemon.role == DaemonRole::Api && daemon.health.is_none() {
            return refuse("an API needs `health`, by which a replica proves itself");
        }
        if daemon.role != DaemonRole::Api && !daemon.microversions.is_empty() {
            return refuse("only an API advertises `microversions`");
        }
        if daemon.role != DaemonRole::Api && daemon.record.is_none() && daemon.steady_s.is_none() {
            return refuse("it needs `record` or `steady_s`: something by which it proves itself");
        }
        if daemon.record.as_ref().is_some_and(|record| record.versioned) && service.record_versions.is_empty()
        {
            return refuse("its record is versioned, but there are no [record_versions]");
        }
    }
    Ok(())
}

fn check_commands(service: &Service, file: &str) -> Result<(), Error> {
    let commands = service
        .expand
        .iter()
        .chain(&service.online_data_migrations)
        .chain(&service.contract)
        .map(|command| &command.argv);
    for argv in commands.chain([&service.upgrade_check]) {
        // A command without the release's own path would run whatever code the host has.
        if !argv.first().is_some_and(|word| word.starts_with("{release}/")) {
            return contradiction(
                file,
                format!("command {argv:?} must start with a program of {{release}}/"),
            );
        }
    }
    if let Some(query) =
        service.pending.iter().find(|query| !service.schemas.iter().any(|schema| schema.name == query.schema))
    {
        return contradiction(
            file,
            format!("query `{}` asks schema `{}`, which is not there", query.name, query.schema),
        );
    }
    Ok(())
}

/// Every fact must say where it is known from: a wrong one can then be traced and mended.
fn check_sources(service: &Service, file: &str) -> Result<(), Error> {
    let needed = [
        ("versions", true),
        ("upgrade_check", true),
        ("expand", !service.expand.is_empty()),
        ("contract", !service.contract.is_empty()),
        ("daemons", true),
        ("after", !service.after.is_empty()),
        ("record_versions", !service.record_versions.is_empty()),
        ("record_versions_oldest", !service.record_versions_oldest.is_empty()),
        ("graceful_shutdown_s", !service.graceful_shutdown_s.is_empty()),
        ("refuses_newer_records", service.refuses_newer_records),
        ("pending", !service.pending.is_empty()),
        ("anchor", service.anchor.is_some()),
        ("microversions", service.daemons.iter().any(|daemon| !daemon.microversions.is_empty())),
        ("recorded_versions", !service.recorded_versions.is_empty()),
    ];
    for (field, present) in needed {
        if present && service.sources.get(field).is_none_or(|source| source.is_empty()) {
            return contradiction(file, format!("[sources] says nothing about `{field}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

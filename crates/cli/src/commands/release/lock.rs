//! Looks releases up and keeps them: for `volutus release lock`, and for the server that looks by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use volutus_advisories::{Products, Published, Version};
use volutus_model::{LockName, Series};
use volutus_releases::look::{self, Found, Images, Repository, Request};
use volutus_releases::{
    Constraints, Credentials, Error, Lines, Release, Source, SourceKind, Web, docker_credentials, index_of,
    without_credentials,
};
use volutus_store::Store;

use super::{KIND, kept, print, read, release_error};
use crate::args::{LockArgs, LookArgs, Origin};
use crate::commands::advisories::internal;
use crate::commands::plan::store_error;
use crate::context::Context;
use crate::error::{CliError, Result};

/// `volutus release lock`
pub async fn run(context: &Context, args: &LockArgs) -> Result<()> {
    let series = series(context, &args.series)?;
    let lookup = Lookup::new(context, series, &args.look)?;
    let found = lookup.look(context).await.map_err(|error| release_error(&error))?;
    for note in &found.notes {
        anstream::eprintln!("Note: {note}");
    }
    let release = Release::new(args.name.clone(), series, lookup.source, found.packages);
    let store = context.store()?;
    let all = kept(&store)?;
    let before = match held_against(&all, &release, args.name.as_ref())? {
        Held::Same { at, release } => {
            anstream::eprintln!("Nothing is new since {at}: this is {} already.", release.name);
            return print(release, args.output);
        }
        Held::New { before } => before,
    };
    keep(&store, &release, Context::now())?;
    print(&release, args.output)?;
    if let Some(before) = before {
        anstream::eprintln!("What is new: volutus release diff {before} {}", release.name);
    }
    if release.lock().is_some() {
        anstream::eprintln!("Next: volutus plan --to {series} --release {}", release.name);
    }
    Ok(())
}

/// The series that is named. One that this Volutus does not know yet can be locked where constraints or files name
/// the versions.
pub fn series(context: &Context, text: &str) -> Result<Series> {
    volutus_planner::parse_target(text, &context.catalog)
        .or_else(|unknown| text.parse().map_err(|_| CliError::refused("unknown-series", unknown.to_string())))
}

/// A look at a source that can be taken: what it is to find, and where.
pub struct Lookup {
    /// Where, as it is told and kept.
    pub source: Source,
    series: Series,
    place: Place,
    packages: Vec<String>,
    python: Version,
    constraints: Constraints,
    products: Products,
    published: Published,
}

/// What is asked, with all that asking needs.
enum Place {
    Index(String),
    Debian(Repository),
    Registry(Images),
    File(PathBuf),
}

impl Lookup {
    /// Reads what the options name, and asks nobody yet.
    pub fn new(context: &Context, series: Series, options: &LookArgs) -> Result<Self> {
        let origin = match &options.from {
            Some(origin) => origin.clone(),
            None => Origin::Index(pip_index()?),
        };
        let (source, place) = place(options, &origin).map_err(|error| release_error(&error))?;
        let products = Products::builtin().map_err(|error| internal(&error))?;
        let published = Published::builtin(&products).map_err(|error| internal(&error))?;
        Ok(Self {
            source,
            series,
            place,
            packages: packages(context, options, &origin),
            python: match &options.python {
                Some(text) => python(text)?,
                None => python(&lowest_python(context, series))?,
            },
            constraints: options.constraints.as_deref().map(constraints).transpose()?.unwrap_or_default(),
            products,
            published,
        })
    }

    /// Asks the source.
    ///
    /// # Errors
    /// What the source, or what it says, is wrong with.
    pub async fn look(&self, context: &Context) -> Result<Found, Error> {
        let request = Request {
            series: self.series,
            packages: self.packages.clone(),
            python: self.python.clone(),
            lines: Lines { catalog: &context.catalog, published: &self.published, products: &self.products },
            constraints: self.constraints.clone(),
        };
        match &self.place {
            Place::Index(url) => look::index(&Web::new()?, url, &request).await,
            Place::Debian(repository) => look::debian(&Web::new()?, repository, &request).await,
            Place::Registry(images) => look::registry(&Web::new()?, images, &request).await,
            Place::File(path) if path.is_dir() => look::folder(path, &request),
            Place::File(path) => {
                let at = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::Malformed { place: at.clone(), why: error.to_string() })?;
                look::requirements(&text, &at, &request)
            }
        }
    }
}

fn place(options: &LookArgs, origin: &Origin) -> Result<(Source, Place), Error> {
    let source = |kind, at: String| Source { kind, at };
    Ok(match origin {
        Origin::Index(url) => {
            (source(SourceKind::Index, without_credentials(url)?), Place::Index(url.clone()))
        }
        Origin::Debian(url) => {
            let at = without_credentials(url)?;
            let Some(suite) = options.suite.clone() else {
                let why = "which `suite` of the repository is meant is not said".to_owned();
                return Err(Error::Address { address: at, why });
            };
            let LookArgs { component, architecture, .. } = options.clone();
            let at = format!("{at} {suite} {component} {architecture}");
            let repository = Repository { base: url.clone(), suite, component, architecture };
            (source(SourceKind::Debian, at), Place::Debian(repository))
        }
        Origin::Registry(url) => {
            let images = Images {
                base: url.clone(),
                repository: options.repository.clone(),
                tag: options.tag.clone(),
                credentials: registry_credentials(url)?,
            };
            (source(SourceKind::Registry, without_credentials(url)?), Place::Registry(images))
        }
        Origin::File(path) => {
            (source(SourceKind::File, path.display().to_string()), Place::File(path.clone()))
        }
    })
}

/// What a release is beside those that are kept.
pub enum Held<'a> {
    /// One that holds the same is kept.
    Same {
        /// Since when.
        at: Timestamp,
        /// That one.
        release: &'a Release,
    },
    /// None holds the same.
    New {
        /// The latest of the same series from the same kind of source.
        before: Option<&'a LockName>,
    },
}

/// Holds a release, and the name that was given for it, if any was, against those that are kept, the latest last.
/// Refuses a name that is taken by something else.
pub fn held_against<'a>(
    kept: &'a [(Timestamp, Release)],
    release: &Release,
    name: Option<&LockName>,
) -> Result<Held<'a>> {
    let same = kept.iter().find(|(_, other)| other.digest == release.digest);
    if let Some((at, other)) = same.filter(|(_, other)| name.is_none_or(|name| *name == other.name)) {
        return Ok(Held::Same { at: *at, release: other });
    }
    if kept.iter().any(|(_, other)| other.name == release.name) {
        let message = format!(
            "another release is locked as {} already, and a locked release is not changed",
            release.name
        );
        return Err(CliError::refused("exists", message).hint(
            "Give another --name, or none; `volutus release remove NAME` forgets one that is not wanted any more.",
        ));
    }
    let like = |other: &Release| other.series == release.series && other.source.kind == release.source.kind;
    let before = kept.iter().rev().find(|(_, other)| like(other));
    Ok(Held::New { before: before.map(|(_, other)| &other.name) })
}

/// Keeps a release under its name.
pub fn keep(store: &Store, release: &Release, at: Timestamp) -> Result<()> {
    let document = [(release.name.to_string(), release.clone())];
    store.put_documents(KIND, &document, at).map_err(store_error)
}

/// What is looked for where nothing is named: what the cloud description has daemons of. Files have what they have.
fn packages(context: &Context, options: &LookArgs, origin: &Origin) -> Vec<String> {
    if !options.packages.is_empty() || matches!(origin, Origin::File(_)) {
        return options.packages.clone();
    }
    let known = context.catalog.daemons();
    let names = context.inventory.daemons().filter_map(|(id, ..)| {
        let (service, _) = known.get(&id.kind)?;
        Some(match origin {
            Origin::Debian(_) => service.name.to_string(),
            Origin::Registry(_) => id.kind.to_string(),
            Origin::Index(_) | Origin::File(_) => service.distribution.clone(),
        })
    });
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The Python that packages are for where none is named: the lowest that the series runs on.
fn lowest_python(context: &Context, series: Series) -> String {
    let latest = context.catalog.series.iter().next_back().map(|(_, facts)| facts);
    let facts = context.catalog.series.get(&series).or(latest);
    facts.map(|facts| facts.python_min.clone()).unwrap_or_default()
}

/// Reads a version of Python.
pub fn python(text: &str) -> Result<Version> {
    Version::parse(text, false).ok_or_else(|| {
        CliError::refused("malformed-version", format!("`{text}` is no version of Python, such as 3.12"))
    })
}

/// Reads a file of constraints.
pub fn constraints(path: &Path) -> Result<Constraints> {
    Constraints::parse(&read(path)?, &path.display().to_string()).map_err(|error| release_error(&error))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder in which a user keeps configuration.
fn user_configuration() -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)
}

/// The index that pip would use. Source: pip, documentation, "Configuration", "Location".
fn pip_index() -> Result<String> {
    let home = variable("HOME").map(PathBuf::from);
    let places = [
        Some(PathBuf::from("/etc/xdg/pip/pip.conf")),
        Some(PathBuf::from("/etc/pip.conf")),
        home.map(|home| home.join(".pip/pip.conf")),
        user_configuration().map(|folder| folder.join("pip/pip.conf")),
        variable("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("pip.conf")),
        variable("PIP_CONFIG_FILE").map(PathBuf::from),
    ];
    // A file that is not there, or not this user's to read, configures nothing.
    let files: Vec<String> =
        places.into_iter().flatten().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    index_of(variable("PIP_INDEX_URL").as_deref(), &files).ok_or_else(|| {
        CliError::refused("no-source", "nothing says where versions are looked up")
            .hint("Give --from (`--from index=URL`, for one), or configure pip: PIP_INDEX_URL, or index-url in its files.")
    })
}

/// What Docker's or Podman's configuration has for a registry.
fn registry_credentials(registry: &str) -> Result<Option<Credentials>, Error> {
    let docker = variable("DOCKER_CONFIG").map(PathBuf::from);
    let docker = docker.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")));
    let places = [
        variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
        variable("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    for path in places.into_iter().flatten() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if let Some(found) = docker_credentials(&text, registry, &path.display().to_string())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

//! `volutus release`: locks versions, keeps them, compares them, and holds files against them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use volutus_advisories::{Products, Published, Version};
use volutus_model::{LockedRelease, Series};
use volutus_releases::look::{self, Found, Images, Repository, Request};
use volutus_releases::{
    Constraints, Credentials, Error, Lines, Release, Source, SourceKind, Web, compare_files, diff,
    docker_credentials, index_of, requirements, sha256,
};
use volutus_store::Store;

use crate::args::{Format, LockArgs, Origin, ReleaseArgs, ReleaseCommand, ReleaseFormat};
use crate::commands::advisories::internal;
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// The kind under which the store keeps locked releases.
const KIND: &str = "release";

/// Locks, lists, shows, compares, verifies or removes releases.
pub async fn run(context: &Context, args: &ReleaseArgs) -> Result<()> {
    match &args.command {
        ReleaseCommand::Lock(args) => lock(context, args).await,
        ReleaseCommand::List { output } => list(context, *output),
        ReleaseCommand::Show { release, output } => print(&find(context, release)?, *output),
        ReleaseCommand::Diff { first, second, output } => compare(context, first, second, *output),
        ReleaseCommand::Verify { release, files, output } => verify(context, release, files, *output),
        ReleaseCommand::Remove { name } => remove(context, name),
    }
}

/// What is kept, with when it was locked, the latest last.
pub fn kept(store: &Store) -> Result<Vec<(Timestamp, Release)>> {
    let documents = store.documents::<Release>(KIND).map_err(store_error)?;
    let mut all = Vec::new();
    for document in documents {
        let place = format!("the release {} in the store", document.key);
        document.body.check(&place).map_err(|error| release_error(&error))?;
        all.push((document.at, document.body));
    }
    all.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    Ok(all)
}

/// The release that is kept under a name, or that is in a file.
fn find(context: &Context, reference: &str) -> Result<Release> {
    let kept = kept(&context.store()?)?;
    if let Some((_, release)) = kept.into_iter().find(|(_, release)| release.name.as_str() == reference) {
        return Ok(release);
    }
    let path = Path::new(reference);
    if !path.is_file() {
        return Err(CliError::refused(
            "not-found",
            format!("no release is locked as `{reference}`, and no file is there"),
        )
        .hint("`volutus release list` names them; `volutus release lock` locks one."));
    }
    Release::parse(&read(path)?, reference).map_err(|error| release_error(&error))
}

/// What a plan needs of a locked release.
pub fn lock_of(context: &Context, reference: &str, to: Series) -> Result<LockedRelease> {
    let release = find(context, reference)?;
    if release.series != to {
        return Err(CliError::refused(
            "other-series",
            format!("the locked release {} is of {}, and the plan is to {to}", release.name, release.series),
        ));
    }
    release.lock().ok_or_else(|| {
        CliError::refused(
            "not-of-python",
            format!("the locked release {} is from a {}", release.name, kind_in_words(release.source.kind)),
        )
        .hint(
            "The cloud's releases are virtual environments (`[releases] method = \"venv\"`), which are held against \
             packages of Python: lock a release from an index or from files. `volutus release verify` holds files \
             against any release.",
        )
    })
}

fn kind_in_words(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Index => "index of Python packages",
        SourceKind::Debian => "Debian repository",
        SourceKind::Registry => "container registry",
        SourceKind::File => "file",
    }
}

async fn lock(context: &Context, args: &LockArgs) -> Result<()> {
    let series: Series = match volutus_planner::parse_target(&args.series, &context.catalog) {
        Ok(series) => series,
        // One that this Volutus does not know yet can be locked where constraints or files name the versions.
        Err(unknown) => {
            args.series.parse().map_err(|_| CliError::refused("unknown-series", unknown.to_string()))?
        }
    };
    let origin = match &args.from {
        Some(origin) => origin.clone(),
        None => Origin::Index(pip_index()?),
    };
    let products = Products::builtin().map_err(|error| internal(&error))?;
    let published = Published::builtin(&products).map_err(|error| internal(&error))?;
    let constraints = match &args.constraints {
        None => Constraints::default(),
        Some(path) => Constraints::parse(&read(path)?, &path.display().to_string())
            .map_err(|error| release_error(&error))?,
    };
    let request = Request {
        series,
        packages: packages(context, args, &origin),
        python: python(context, args, series)?,
        lines: Lines { catalog: &context.catalog, published: &published, products: &products },
        constraints,
    };
    let (source, found) = look(args, &origin, &request).await.map_err(|error| release_error(&error))?;
    for note in &found.notes {
        anstream::eprintln!("Note: {note}");
    }
    let release = Release::new(args.name.clone(), series, source, found.packages);
    let store = context.store()?;
    let kept = kept(&store)?;
    let same = kept.iter().find(|(_, other)| other.digest == release.digest);
    if let Some((at, other)) =
        same.filter(|(_, other)| args.name.as_ref().is_none_or(|name| *name == other.name))
    {
        anstream::eprintln!("Nothing is new since {at}: this is {} already.", other.name);
        return print(other, args.output);
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
    let document = [(release.name.to_string(), release.clone())];
    store.put_documents(KIND, &document, Context::now()).map_err(store_error)?;
    let before = kept
        .iter()
        .rev()
        .find(|(_, other)| other.series == series && other.source.kind == release.source.kind);
    print(&release, args.output)?;
    if let Some((_, before)) = before {
        anstream::eprintln!("What is new: volutus release diff {} {}", before.name, release.name);
    }
    if release.lock().is_some() {
        anstream::eprintln!("Next: volutus plan --to {series} --release {}", release.name);
    }
    Ok(())
}

async fn look(args: &LockArgs, origin: &Origin, request: &Request<'_>) -> Result<(Source, Found), Error> {
    let source = |kind, at: String| Source { kind, at };
    Ok(match origin {
        Origin::Index(url) => {
            let found = look::index(&Web::new()?, url, request).await?;
            (source(SourceKind::Index, volutus_releases::without_credentials(url)?), found)
        }
        Origin::Debian(url) => {
            let repository = Repository {
                base: url.clone(),
                suite: args.suite.clone().ok_or_else(|| Error::Address {
                    address: volutus_releases::without_credentials(url).unwrap_or_default(),
                    why: "which suite of the repository is meant? Name it with --suite".to_owned(),
                })?,
                component: args.component.clone(),
                architecture: args.architecture.clone(),
            };
            let found = look::debian(&Web::new()?, &repository, request).await?;
            let at = format!(
                "{} {} {} {}",
                volutus_releases::without_credentials(url)?,
                repository.suite,
                repository.component,
                repository.architecture
            );
            (source(SourceKind::Debian, at), found)
        }
        Origin::Registry(url) => {
            let images = Images {
                base: url.clone(),
                repository: args.repository.clone(),
                tag: args.tag.clone(),
                credentials: registry_credentials(url)?,
            };
            let found = look::registry(&Web::new()?, &images, request).await?;
            (source(SourceKind::Registry, volutus_releases::without_credentials(url)?), found)
        }
        Origin::File(path) => {
            let at = path.display().to_string();
            let found = if path.is_dir() {
                look::folder(path, request)?
            } else {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::Malformed { place: at.clone(), why: error.to_string() })?;
                look::requirements(&text, &at, request)?
            };
            (source(SourceKind::File, at), found)
        }
    })
}

/// What is looked for where nothing is named: what the cloud description has daemons of. Files have what they have.
fn packages(context: &Context, args: &LockArgs, origin: &Origin) -> Vec<String> {
    if !args.packages.is_empty() || matches!(origin, Origin::File(_)) {
        return args.packages.clone();
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

/// The Python that packages are for.
fn python(context: &Context, args: &LockArgs, series: Series) -> Result<Version> {
    let lowest = || {
        let latest = context.catalog.series.iter().next_back().map(|(_, facts)| facts);
        context.catalog.series.get(&series).or(latest).map(|facts| facts.python_min.clone())
    };
    let text = args.python.clone().or_else(lowest).unwrap_or_default();
    Version::parse(&text, false).ok_or_else(|| {
        CliError::refused("malformed-version", format!("`{text}` is no version of Python, such as 3.12"))
    })
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

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("malformed-source", format!("could not read {}", path.display())).because(&error)
    })
}

/// An error of looking up or reading, as the operator sees it.
fn release_error(error: &Error) -> CliError {
    let message = error.to_string();
    match error {
        Error::Fetch { .. } => CliError::new(Kind::Cloud, "source-not-reached", message)
            .hint("Nothing was locked. What was locked before is still there."),
        Error::Hash { .. } => CliError::refused("other-hash", message)
            .hint("Somebody or something changed it on its way, or it is being changed. Nothing was locked."),
        Error::NoVersion { .. } => CliError::refused("no-version", message),
        Error::NoLine { .. } => CliError::refused("no-version", message)
            .hint("--constraints FILE names versions, such as OpenStack's upper-constraints of the series."),
        Error::Address { .. } | Error::Malformed { .. } => CliError::refused("malformed-source", message),
    }
}

fn list(context: &Context, output: Format) -> Result<()> {
    let kept = kept(&context.store()?)?;
    match output {
        Format::Json => print_json(&kept.iter().map(|(_, release)| release).collect::<Vec<_>>()),
        Format::Table => {
            anstream::print!("{}", show::release::render_list(&kept));
            Ok(())
        }
    }
}

fn print(release: &Release, output: ReleaseFormat) -> Result<()> {
    match output {
        ReleaseFormat::Table => anstream::print!("{}", show::release::render(release)),
        ReleaseFormat::Json => anstream::println!("{}", release.to_json()),
        ReleaseFormat::Requirements if release.source.kind.is_python() => {
            anstream::print!("{}", requirements(release));
        }
        ReleaseFormat::Requirements => {
            let message = format!("{} is from a {}", release.name, kind_in_words(release.source.kind));
            return Err(
                CliError::refused("not-of-python", message).hint("pip takes packages of Python alone.")
            );
        }
    }
    Ok(())
}

fn compare(context: &Context, first: &str, second: &str, output: Format) -> Result<()> {
    let (first, second) = (find(context, first)?, find(context, second)?);
    let found = diff(&first, &second);
    let mut services: BTreeSet<String> = BTreeSet::new();
    for release in [&first, &second] {
        for (name, package) in &release.packages {
            let source = package.source.as_deref().unwrap_or(name);
            let image = name.rsplit('/').next().unwrap_or_default();
            let is = context.catalog.services.values().any(|service| {
                [source, image].contains(&service.distribution.as_str())
                    || source == service.name.as_str()
                    || service.daemons.iter().any(|daemon| daemon.kind.as_str() == image)
            });
            services.extend(is.then(|| name.clone()));
        }
    }
    match output {
        Format::Json => print_json(&found)?,
        Format::Table => anstream::print!("{}", show::release::render_diff(&found, &services)),
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} and {} differ: {} added, {} removed, {} changed",
        first.name,
        second.name,
        found.added.len(),
        found.removed.len(),
        found.changed.len()
    );
    Err(CliError::new(Kind::Blocked, "releases-differ", message))
}

fn verify(context: &Context, reference: &str, folder: &Path, output: Format) -> Result<()> {
    let release = find(context, reference)?;
    let unread = |error: std::io::Error| {
        CliError::refused("malformed-source", format!("could not read {}", folder.display())).because(&error)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).map_err(unread)?;
            files.push((entry.file_name().to_string_lossy().into_owned(), sha256(&bytes)));
        }
    }
    let differences = compare_files(&release, &files);
    match output {
        Format::Json => print_json(&differences)?,
        Format::Table if differences.is_empty() => {
            anstream::println!("{} files are as locked in {}", files.len(), release.name);
        }
        Format::Table => {
            for difference in &differences {
                anstream::println!("{difference}");
            }
        }
    }
    match differences.len() {
        0 => Ok(()),
        count => {
            let message =
                format!("{} is not as locked in {}: {count} differences", folder.display(), release.name);
            Err(CliError::new(Kind::Blocked, "not-as-locked", message))
        }
    }
}

fn remove(context: &Context, name: &str) -> Result<()> {
    match context.store()?.remove_document(KIND, name).map_err(store_error)? {
        true => Ok(()),
        false => Err(CliError::refused("not-found", format!("no release is locked as `{name}`"))
            .hint("`volutus release list` names them.")),
    }
}

/// When series came out that the catalog does not know yet: the day on which the last package of the first locked
/// release of it was published, or where the source does not tell, on which it was locked.
pub fn days_of_unknown(context: &Context, store: &Store) -> Result<Vec<(Series, jiff::civil::Date)>> {
    let mut days = Vec::new();
    for (at, release) in kept(store)? {
        let known = context.catalog.series.contains_key(&release.series);
        if known || days.iter().any(|(series, _)| *series == release.series) {
            continue;
        }
        let published = release.packages.values().map(|package| package.published);
        // One package that tells nothing may be the last.
        let last = published.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        days.push((release.series, last.unwrap_or(at).to_zoned(jiff::tz::TimeZone::UTC).date()));
    }
    Ok(days)
}

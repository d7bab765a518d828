//! `volutus release`: locks versions, keeps them, compares them, and holds files against them.

pub mod lock;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use volutus_model::{LockedRelease, Series};
use volutus_releases::{Error, Release, SourceKind, compare_files, diff, requirements, sha256};
use volutus_store::Store;

use crate::args::{Format, ReleaseArgs, ReleaseCommand, ReleaseFormat};
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
        ReleaseCommand::Lock(args) => lock::run(context, args).await,
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

/// The text of a file that the operator named.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("malformed-source", format!("could not read {}", path.display())).because(&error)
    })
}

/// An error of looking up or reading, as the operator sees it.
pub fn release_error(error: &Error) -> CliError {
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

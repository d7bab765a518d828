//! `volutus advisories sync`, `advisories list`; and what `exposure` and `patch` know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use volutus_advisories::{Advisories, BUILTIN_AS_OF, BYTES_MAX, Problem, Products, Read, Record};
use volutus_store::Store;

use crate::args::{AdvisoriesArgs, AdvisoriesCommand, Format};
use crate::commands::plan::store_error;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// The kind under which the store keeps records.
const KIND: &str = "advisory";

/// A directory of more files than this is none of advisories: the whole of the CVE list has some
/// 350,000.
const FILES_MAX: usize = 1_000_000;

/// A feed that does not answer within this is tried again later.
const FETCH_TIME: Duration = Duration::from_secs(60);

/// Problems that are printed; all are counted.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// Syncs or lists advisories.
pub async fn run(context: &Context, args: &AdvisoriesArgs) -> Result<()> {
    match &args.command {
        AdvisoriesCommand::Sync { from } => sync(context, from).await,
        AdvisoriesCommand::List { product, output } => list(context, product.as_deref(), *output),
    }
}

/// What is known, and since when.
pub struct Known {
    /// What is known.
    pub advisories: Advisories,
    /// How fresh that is, in words.
    pub as_of: String,
}

/// The built-in records, and over them those that were synced.
pub fn known(store: &Store) -> Result<Known> {
    let products = products()?;
    let builtin = volutus_advisories::builtin(&products).map_err(|error| internal(&error))?;
    let synced = store.documents::<Record>(KIND).map_err(store_error)?;
    let latest: Option<Timestamp> = synced.iter().map(|document| document.at).max();
    let as_of = match latest {
        Some(at) => format!("built in as of {BUILTIN_AS_OF}, and {} synced, last at {at}", synced.len()),
        None => format!("built in, as of {BUILTIN_AS_OF}; `volutus advisories sync` brings newer ones"),
    };
    let synced = synced.into_iter().map(|document| document.body);
    Ok(Known { advisories: Advisories::new(builtin.records.into_iter().chain(synced), products), as_of })
}

pub fn products() -> Result<Products> {
    Products::builtin().map_err(|error| internal(&error))
}

pub fn internal(error: &dyn std::error::Error) -> CliError {
    CliError::new(Kind::Internal, "advisories", "the built-in advisories do not load").because(error)
}

async fn sync(context: &Context, from: &str) -> Result<()> {
    let products = products()?;
    let mut all = Read::default();
    let mut files = 0;
    if from.starts_with("http://") || from.starts_with("https://") {
        files = 1;
        let text = fetch(from).await?;
        let read = volutus_advisories::read(&text, from, &products).map_err(|error| {
            CliError::refused("not-advisories", format!("{from} could not be read as advisories"))
                .because(&error)
                .hint("One document is fetched. Of a repository or an archive, give the unpacked directory.")
        })?;
        take(&mut all, read);
    } else {
        let path = Path::new(from);
        let listed = files_of(path).map_err(|error| {
            CliError::refused("not-advisories", format!("could not read {from}"))
                .because(&error)
                .hint("--from takes a directory, a file (JSON or YAML), or an http(s) address.")
        })?;
        for file in listed {
            files += 1;
            let source = file.strip_prefix(path).ok().filter(|rest| !rest.as_os_str().is_empty());
            let source = source.unwrap_or(&file).display().to_string();
            let read = std::fs::read_to_string(&file).map_err(|error| error.to_string()).and_then(|text| {
                volutus_advisories::read(&text, &source, &products).map_err(|error| error.to_string())
            });
            match read {
                Ok(read) => take(&mut all, read),
                Err(what) => all.problems.push(Problem { place: source, what, left_out: true }),
            }
        }
    }
    report(&all.problems);
    if all.records.is_empty() {
        return Err(CliError::refused(
            "not-advisories",
            format!("{from} has no advisory of OpenStack or of a Python package in {files} files"),
        )
        .hint("docs/operating/advisories.md names the formats and where to get them."));
    }
    let documents: Vec<(String, Record)> =
        all.records.into_iter().map(|record| (record.id.clone(), record)).collect();
    context.store()?.put_documents(KIND, &documents, Context::now()).map_err(store_error)?;
    let left_out = all.problems.iter().filter(|problem| problem.left_out).count();
    anstream::println!(
        "{} records from {files} files; {} about other software, {left_out} left out, {} remarks",
        documents.len(),
        all.others,
        all.problems.len() - left_out
    );
    Ok(())
}

fn take(all: &mut Read, read: Read) {
    all.records.extend(read.records);
    all.problems.extend(read.problems);
    all.others += read.others;
}

fn report(problems: &[Problem]) {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| !problem.left_out);
    for problem in sorted.iter().take(PROBLEMS_SHOWN_MAX) {
        anstream::eprintln!("Note: {problem}");
    }
    if sorted.len() > PROBLEMS_SHOWN_MAX {
        anstream::eprintln!("Note: and {} more", sorted.len() - PROBLEMS_SHOWN_MAX);
    }
}

async fn fetch(address: &str) -> Result<String> {
    let failed = |error: &dyn std::error::Error| {
        CliError::new(Kind::Cloud, "not-fetched", format!("could not fetch {address}"))
            .because(error)
            .hint("What was synced before is still there. Fetch it elsewhere and give the file instead.")
    };
    let client = reqwest::Client::builder().timeout(FETCH_TIME).build().map_err(|error| failed(&error))?;
    let mut answer = client
        .get(address)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| failed(&error))?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > BYTES_MAX {
            let message = format!("{address} sends more than {BYTES_MAX} bytes");
            return Err(CliError::refused("not-advisories", message));
        }
    }
    String::from_utf8(body).map_err(|error| failed(&error))
}

/// The JSON and YAML files of a directory and those below it, or the file itself.
fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // Links are not followed, so that none leads around in a circle.
            let kind = entry.file_type()?;
            let path = entry.path();
            let named = path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml");
            match () {
                () if hidden => {}
                () if kind.is_dir() => open.push(path),
                () if kind.is_file() && named => found.push(path),
                () => {}
            }
            if found.len() > FILES_MAX {
                return Err(std::io::Error::other(format!("it has more than {FILES_MAX} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn list(context: &Context, product: Option<&str>, output: Format) -> Result<()> {
    let Known { advisories, as_of } = known(&context.store()?)?;
    let wanted = product.map(|name| advisories.products().distribution(name));
    let listed: Vec<_> = advisories
        .all()
        .iter()
        .filter(|vulnerability| {
            let mut claims = vulnerability.claims.iter();
            wanted.as_ref().is_none_or(|name| claims.any(|claim| claim.affected.distribution == *name))
        })
        .collect();
    match output {
        Format::Json => print_json(&listed)?,
        Format::Table => anstream::print!("{}", show::advisories::render_list(&listed)),
    }
    anstream::eprintln!("{} of {} advisories ({as_of})", listed.len(), advisories.all().len());
    Ok(())
}

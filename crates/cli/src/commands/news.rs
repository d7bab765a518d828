//! `volutus news`

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use volutus_news::{Audience, Files, Form, ServiceNews, Source, news, render};

use crate::args::{NewsArgs, NewsAudience, NewsForm};
use crate::commands::print_json;
use crate::error::{CliError, Result};

/// Where reno keeps notes in a source.
const NOTES: &str = "releasenotes/notes/";
/// A source that unpacks to more is none of OpenStack's: the largest has some 100 MiB.
const UNPACKED_MAX: u64 = 2 << 30;
/// No note is longer.
const NOTE_MAX: u64 = 1 << 20;

/// Prints what is new between two releases.
pub fn run(args: &NewsArgs) -> Result<()> {
    let (from, to) = (sources(&args.from)?, sources(&args.to)?);
    let mut all: Vec<ServiceNews> = Vec::new();
    for later in to.values() {
        match from.get(&later.distribution) {
            Some(earlier) => all.push(news(earlier, later)),
            None => anstream::eprintln!(
                "Note: {} is not in {}, so what is new of it is not known",
                later.distribution,
                args.from.display()
            ),
        }
    }
    if all.is_empty() {
        return Err(CliError::refused(
            "no-sources",
            format!("{} and {} have no service in common", args.from.display(), args.to.display()),
        )
        .hint("A source distribution is called NAME-VERSION.tar.gz, as the package index has it."));
    }
    let audience = match args.audience {
        NewsAudience::Users => Some(Audience::Users),
        NewsAudience::Operators => Some(Audience::Operators),
        NewsAudience::All => None,
    };
    let form = match args.output {
        NewsForm::Md => Form::Markdown,
        NewsForm::Html => Form::Html,
        NewsForm::Text => Form::Text,
        NewsForm::Json => return print_json(&all),
    };
    anstream::print!("{}", render(&all, audience, form));
    let problems: Vec<_> = all.iter().flat_map(|service| &service.problems).collect();
    for problem in problems.iter().filter(|problem| problem.left_out) {
        anstream::eprintln!("Note: {}: {}, and that part is left out", problem.file, problem.what);
    }
    let notes: usize = all.iter().map(|service| service.notes).sum();
    anstream::eprintln!(
        "{notes} notes of {} services are new; {} were read in spite of a mistake",
        all.len(),
        problems.iter().filter(|problem| !problem.left_out).count()
    );
    Ok(())
}

/// The sources at a path, by the name of the distribution.
fn sources(path: &Path) -> Result<BTreeMap<String, Source>> {
    let refused = |path: &Path, error: &dyn std::error::Error| {
        CliError::refused("no-sources", format!("could not read sources at {}", path.display()))
            .because(error)
            .hint(
                "Give a source distribution (NAME-VERSION.tar.gz), an unpacked one, or a folder of several.",
            )
    };
    let mut found = BTreeMap::new();
    let mut add = |path: &Path| -> std::io::Result<bool> {
        let Some(source) = source(path)? else { return Ok(false) };
        found.insert(source.distribution.clone(), source);
        Ok(true)
    };
    if !add(path).map_err(|error| refused(path, &error))? {
        let entries = std::fs::read_dir(path).map_err(|error| refused(path, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| refused(path, &error))?.path();
            add(&entry).map_err(|error| refused(&entry, &error))?;
        }
    }
    if found.is_empty() {
        let none = std::io::Error::other("no source with release notes is there");
        return Err(refused(path, &none));
    }
    Ok(found)
}

/// One source; `None` where the path is none.
fn source(path: &Path) -> std::io::Result<Option<Source>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((distribution, version)) = named(name.strip_suffix(".tar.gz").unwrap_or(name)) else {
        return Ok(None);
    };
    let files = if path.is_dir() {
        if !path.join(NOTES).is_dir() {
            return Ok(None);
        }
        unpacked(&path.join(NOTES))?
    } else if name.ends_with(".tar.gz") {
        packed(std::fs::File::open(path)?)?
    } else {
        return Ok(None);
    };
    Ok(Some(Source { distribution, version, files }))
}

/// Name and version of a source, by what its file is called. Names are spelt as PEP 503 spells them.
fn named(stem: &str) -> Option<(String, String)> {
    let (name, version) = stem.rsplit_once('-')?;
    let version = version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)?;
    Some((name.replace(['_', '.'], "-").to_lowercase(), version.to_owned()))
}

fn unpacked(folder: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_note(name)) else {
            continue;
        };
        files.insert(name.to_owned(), text(std::fs::File::open(&path)?)?);
    }
    Ok(files)
}

fn packed(file: std::fs::File) -> std::io::Result<Files> {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(GzDecoder::new(file).take(UNPACKED_MAX));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if let Some((_, name)) = path.split_once(NOTES)
            && !name.contains('/')
            && is_note(name)
        {
            let name = name.to_owned();
            files.insert(name, text(entry)?);
        }
    }
    Ok(files)
}

fn is_note(name: &str) -> bool {
    name.ends_with(".yaml")
}

fn text(from: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(NOTE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

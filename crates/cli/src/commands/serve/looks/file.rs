//! The file that says where new releases are looked for, and how often.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;
use volutus_model::Series;
use volutus_releases::{sha256, without_credentials};

use crate::args::{ARCHITECTURE, COMPONENT, LookArgs, Origin, REPOSITORY};
use crate::commands::release::lock::{Lookup, constraints, python, series};
use crate::commands::release::release_error;
use crate::commands::schedule::seconds;
use crate::context::Context;
use crate::error::{CliError, Result};

/// More often than this no source is asked: releases come in days, and others run the source.
const EVERY_MIN: SignedDuration = SignedDuration::from_mins(10);

/// What stands in the place of a series for the one after the series that runs.
const NEXT: &str = "next";

/// Where new releases are looked for, and how often.
#[derive(Debug, Clone)]
pub struct Looks {
    /// From one look at a source to the next.
    pub every: SignedDuration,
    /// The sources.
    pub sources: Vec<LookedAt>,
}

/// One source.
#[derive(Debug, Clone)]
pub struct LookedAt {
    /// What is looked for.
    pub series: BTreeSet<Which>,
    /// Where, and for which packages.
    pub options: LookArgs,
    /// The source as people are told it: without credentials.
    pub told: String,
    /// What tells this look apart from others for the same series: all of its options.
    pub key: String,
}

/// Which series is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The one after the series that runs.
    Next,
    /// This one.
    Named(Series),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    every: Spanned<String>,
    look: Vec<Spanned<Table>>,
}

/// The options of `volutus release lock`, by the same names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    series: Spanned<OneOrMore>,
    from: Option<Spanned<String>>,
    #[serde(default)]
    packages: Vec<String>,
    constraints: Option<Spanned<PathBuf>>,
    python: Option<Spanned<String>>,
    suite: Option<String>,
    component: Option<String>,
    architecture: Option<String>,
    repository: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a series such as \"2026.1\", \"next\", or a list of them")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Looks {
    /// Reads the file, and everything that it names, so that what is wrong is told at the start and not at night.
    pub fn read(context: &Context, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::refused("no-looks", format!("could not read {}", path.display())).because(&error)
        })?;
        let place = Place { path, text: &text };
        let file: File = toml::from_str(&text).map_err(|error| place.syntax(&error))?;
        let every = seconds(file.every.get_ref()).map_err(|error| place.at(&file.every, "every", error))?;
        let every = SignedDuration::from_secs(every);
        if every < EVERY_MIN {
            let why =
                malformed(&format!("a source is asked every {} minutes at the most", EVERY_MIN.as_mins()));
            return Err(place.at(&file.every, "every", why));
        }
        let sources = file.look.into_iter().map(|table| place.source(context, table));
        let sources: Vec<LookedAt> = sources.collect::<Result<_>>()?;
        if sources.is_empty() {
            return Err(malformed(&format!("{}: no [[look]] says where to look", path.display())));
        }
        Ok(Self { every, sources })
    }
}

/// Where in the file something is.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    /// The number of the line in which a byte of the file is.
    fn line(&self, byte: usize) -> usize {
        self.text.get(..byte).unwrap_or_default().matches('\n').count() + 1
    }

    /// The same error, with file, line and key.
    fn at<T>(&self, value: &Spanned<T>, key: &str, error: CliError) -> CliError {
        let line = self.line(value.span().start);
        let message = format!("{}, line {line}, `{key}`: {}", self.path.display(), error.message);
        CliError { message, causes: error.causes, ..malformed("") }
    }

    /// What is not as documented. The line is not repeated: an address in it may have a password.
    fn syntax(&self, error: &toml::de::Error) -> CliError {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let key = text.split_once('=').map(|(key, _)| key.trim());
        let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let key = key.map(|key| format!(", `{key}`")).unwrap_or_default();
        malformed(&format!("{}, line {line}{key}: {}", self.path.display(), error.message()))
    }

    fn source(&self, context: &Context, table: Spanned<Table>) -> Result<LookedAt> {
        let start = Spanned::new(table.span(), ());
        let Table {
            series: wanted,
            from,
            packages,
            constraints: file,
            python: version,
            suite,
            component,
            architecture,
            repository,
            tag,
        } = table.into_inner();
        // Paths are relative to the file: a service has no folder of its own that anybody knows.
        let base = self.path.parent().unwrap_or(Path::new(""));
        let origin = |text: &Spanned<String>| match text.get_ref().parse::<Origin>() {
            Ok(Origin::File(path)) => Ok(Origin::File(base.join(path))),
            Ok(origin) => Ok(origin),
            Err(why) => Err(self.at(text, "from", malformed(&why))),
        };
        let options = LookArgs {
            from: from.as_ref().map(origin).transpose()?,
            packages,
            constraints: file.as_ref().map(|file| base.join(file.get_ref())),
            python: version.as_ref().map(|version| version.get_ref().clone()),
            suite,
            component: component.unwrap_or_else(|| COMPONENT.to_owned()),
            architecture: architecture.unwrap_or_else(|| ARCHITECTURE.to_owned()),
            repository: repository.unwrap_or_else(|| REPOSITORY.to_owned()),
            tag,
        };
        if let (Some(file), Some(path)) = (&file, &options.constraints) {
            constraints(path).map_err(|error| self.at(file, "constraints", error))?;
        }
        if let Some(version) = &version {
            python(version.get_ref()).map_err(|error| self.at(version, "python", error))?;
        }
        let series = self.series(context, &wanted)?;
        // What is left that can be wrong is where is looked.
        let located = |error| match &from {
            Some(from) => self.at(from, "from", error),
            None => self.at(&start, "look", error),
        };
        if let Some(known) = context.catalog.series.keys().next_back() {
            Lookup::new(context, *known, &options).map_err(located)?;
        }
        let told = told(&options).map_err(located)?;
        Ok(LookedAt { series, key: key(&options, &told), told, options })
    }

    fn series(&self, context: &Context, wanted: &Spanned<OneOrMore>) -> Result<BTreeSet<Which>> {
        let names = match wanted.get_ref() {
            OneOrMore::One(name) => std::slice::from_ref(name),
            OneOrMore::More(names) => names,
        };
        let which = |name: &String| match name.as_str() {
            NEXT => Ok(Which::Next),
            name => series(context, name).map(Which::Named),
        };
        let all: Result<BTreeSet<Which>> = names.iter().map(which).collect();
        let all = all.map_err(|error| self.at(wanted, "series", error))?;
        match all.is_empty() {
            true => Err(self.at(wanted, "series", malformed("no series is named"))),
            false => Ok(all),
        }
    }
}

fn malformed(message: &str) -> CliError {
    CliError::refused("malformed-looks", message).hint("docs/operating/releases.md shows every key.")
}

/// The source as people are told it. Which index pip uses is seen at each look anew.
fn told(options: &LookArgs) -> Result<String> {
    let (kind, at) = match &options.from {
        None => return Ok("the index that pip uses".to_owned()),
        Some(Origin::File(path)) => return Ok(format!("file {}", path.display())),
        Some(Origin::Index(url)) => ("index", url),
        Some(Origin::Debian(url)) => ("debian", url),
        Some(Origin::Registry(url)) => ("registry", url),
    };
    Ok(format!("{kind} {}", without_credentials(at).map_err(|error| release_error(&error))?))
}

/// All options but credentials, as one short text.
fn key(options: &LookArgs, told: &str) -> String {
    let LookArgs { from: _, packages, constraints, python, suite, component, architecture, repository, tag } =
        options;
    let mut text = told.to_owned();
    let rest = (packages, constraints, python, suite, component, architecture, repository, tag);
    write!(text, "{rest:?}").expect("a text takes text");
    sha256(text.as_bytes()).short().to_owned()
}

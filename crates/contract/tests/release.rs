//! Reads contracts of real releases, where the lab has built some; and wrong input.

#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use volutus_contract::diff;
use volutus_contract::extract::from_installed;
use volutus_contract::rules::Class;
use volutus_contract::{Document, Error};

const RELEASES: &str = "/var/cache/volutus-lab/releases";

/// The release of a series that the lab has built; without one the test says so past the test runner,
/// which keeps what passing tests print to itself.
fn release(series: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(RELEASES).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{series}-")))
        })
        .filter(|path| path.join("bin/python3").exists())
        .collect();
    found.sort();
    if found.is_empty() {
        assert!(std::env::var_os("VOLUTUS_NEED_RELEASES").is_none(), "no release {series} in {RELEASES}");
        let words = format!(
            "\n*** NOT TESTED: there is no release {series} in {RELEASES}. Build one with `volutus-lab up --series {series}`;\n\
             *** VOLUTUS_NEED_RELEASES=1 makes its absence a failure.\n"
        );
        std::io::stderr().write_all(words.as_bytes()).unwrap();
    }
    found.pop()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn read(path: &Path) -> Result<Document, Error> {
    runtime().block_on(from_installed(path, Timestamp::UNIX_EPOCH))
}

#[test]
fn two_real_releases_are_read_and_have_the_one_known_difference() {
    let (Some(old), Some(new)) = (release("2026.1"), release("2026.2")) else { return };
    let (old, new) = (read(&old).unwrap(), read(&new).unwrap());
    for document in [&old, &new] {
        for (service, operations) in [
            ("nova", 250),
            ("keystone", 200),
            ("glance", 70),
            ("neutron", 150),
            ("cinder", 150),
            ("placement", 30),
        ] {
            let service = &document.services[service];
            assert!(service.operations.len() > operations, "{}", service.operations.len());
            assert_eq!(service.unobserved, [].into());
            assert!(service.policies.values().all(|policy| policy.allowed.is_some()));
            assert!(service.options.len() > 20);
        }
        assert_eq!(Document::parse("x", &document.to_text()).unwrap().hash, document.hash);
    }
    let comparison = diff::compare(&old, &new).unwrap();
    let of_schemas: Vec<_> = comparison
        .differences
        .iter()
        .filter(|d| d.service == "nova" && d.at.is_some() && d.rule != "errors-changed")
        .map(|d| (d.subject.as_str(), d.rule.as_str(), d.class))
        .collect();
    assert!(!of_schemas.is_empty());
    assert!(
        of_schemas
            .iter()
            .all(|d| *d == ("GET /os-keypairs", "misplaced-keyword.response", Class::Correction)),
        "{of_schemas:?}"
    );
}

#[test]
fn reading_twice_gives_the_same_document() {
    let Some(path) = release("2025.2") else { return };
    assert_eq!(read(&path).unwrap().hash, read(&path).unwrap().hash);
}

/// A folder that looks like a virtual environment whose Python is a shell script.
fn fake(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("bin/python3");
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    // Written by another process: what other tests start at this moment would inherit a file that is open for writing,
    // and one that is cannot be executed.
    let text = format!("#!/bin/sh\n{script}\n");
    let write = ["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &text];
    let written = std::process::Command::new("sh").args(write).arg(&python).status().unwrap();
    assert!(written.success());
    folder
}

#[test]
fn what_is_no_release_is_refused() {
    let error = read(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(error, Error::NoRelease { .. }), "{error}");
    // An interpreter in which nothing is installed.
    let empty = fake("exec /usr/bin/python3 \"$@\"");
    let error = read(empty.path()).unwrap_err();
    assert!(matches!(error, Error::NoService { .. }), "{error}");
}

#[test]
fn a_program_that_fails_is_told_with_its_last_words() {
    for (script, words) in [
        ("cat > /dev/null; echo one >&2; echo 'ImportError: no thing' >&2; exit 3", "ImportError: no thing"),
        ("cat > /dev/null; echo not json", "no JSON"),
        ("cat > /dev/null; echo '{\"surprise\": 1}'", "not as expected"),
        ("exit 0", "no JSON"),
    ] {
        let folder = fake(script);
        let error = read(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Program { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let folder = fake("cat > /dev/null; exec yes 0123456789");
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

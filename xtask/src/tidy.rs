//! The rules of the repository that a compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{cargo, output, root};

/// A source file longer than this is about more than one thing.
const LINES_MAX: usize = 700;

/// Which crate may depend on which; the architecture in one table.
const LAYERS: &[(&str, &[&str])] = &[
    ("volutus-model", &[]),
    ("volutus-catalog", &["volutus-model"]),
    ("volutus-advisories", &["volutus-model"]),
    ("volutus-schedule", &["volutus-model"]),
    ("volutus-planner", &["volutus-model", "volutus-catalog"]),
    ("volutus-plancheck", &["volutus-model", "volutus-catalog"]),
    ("volutus-fleet", &["volutus-model"]),
    ("volutus-engine", &["volutus-model"]),
    ("volutus-store", &["volutus-model", "volutus-engine"]),
    ("volutus-news", &[]),
    ("volutus-notices", &["volutus-model", "volutus-store"]),
    ("volutus-openstack", &[]),
    ("volutus-contract", &["volutus-openstack"]),
    ("volutus-prober", &["volutus-model", "volutus-openstack"]),
    (
        "volutus-drivers",
        &["volutus-model", "volutus-catalog", "volutus-contract", "volutus-engine", "volutus-openstack"],
    ),
    ("volutus-releases", &["volutus-model", "volutus-catalog", "volutus-advisories"]),
    ("volutus-runtime", &["volutus-model", "volutus-engine", "volutus-store"]),
    (
        "volutus-server",
        &[
            "volutus-model",
            "volutus-engine",
            "volutus-notices",
            "volutus-schedule",
            "volutus-store",
            "volutus-runtime",
        ],
    ),
    (
        "volutus-sim",
        &["volutus-model", "volutus-catalog", "volutus-planner", "volutus-plancheck", "volutus-engine"],
    ),
    (
        "volutus-cli",
        &[
            "volutus-advisories",
            "volutus-model",
            "volutus-catalog",
            "volutus-planner",
            "volutus-plancheck",
            "volutus-fleet",
            "volutus-engine",
            "volutus-schedule",
            "volutus-server",
            "volutus-news",
            "volutus-notices",
            "volutus-store",
            "volutus-drivers",
            "volutus-contract",
            "volutus-openstack",
            "volutus-prober",
            "volutus-releases",
            "volutus-runtime",
            "volutus-sim",
        ],
    ),
    ("volutus-lab", &[]),
    (
        "volutus-fuzz",
        &[
            "volutus-advisories",
            "volutus-engine",
            "volutus-model",
            "volutus-notices",
            "volutus-runtime",
            "volutus-schedule",
            "volutus-server",
            "volutus-store",
        ],
    ),
    ("volutus-e2e", &["volutus-model", "volutus-openstack"]),
    (
        "xtask",
        &[
            "volutus-notices",
            "volutus-advisories",
            "volutus-model",
            "volutus-catalog",
            "volutus-planner",
            "volutus-plancheck",
            "volutus-fleet",
            "volutus-engine",
            "volutus-store",
            "volutus-contract",
            "volutus-sim",
            "volutus-e2e",
        ],
    ),
];

/// Crates that must stay free of I/O, clocks and async.
const PURE: &[&str] = &[
    "volutus-model",
    "volutus-catalog",
    "volutus-advisories",
    "volutus-schedule",
    "volutus-news",
    "volutus-planner",
    "volutus-plancheck",
    "volutus-fleet",
    "volutus-engine",
];
/// Files of otherwise pure crates that touch the world; all others of these crates must not.
const IMPURE_FILES: &[(&str, &[&str])] = &[
    (
        "crates/contract/src/",
        &["extract.rs", "fetch.rs", "tempest/install.rs", "tempest/mod.rs", "tempest/run.rs"],
    ),
    ("crates/releases/src/", &["fetch.rs", "look/folder.rs"]),
];
const IMPURE_DEPENDENCIES: &[&str] = &["tokio", "reqwest", "rusqlite", "rand", "openssh", "futures"];
const IMPURE_TEXTS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "thread_rng",
];

/// Words that the project does not use, because they mean something else to everybody.
const UNUSED_WORDS: &[&str] = &["Manager", "Helper", "Utils", "utils::", "Workflow"];

/// Checks every rule, prints what breaks one, and fails if anything does.
pub fn run() -> anyhow::Result<()> {
    let problems = problems()?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} rules of the repository are broken", problems.len());
    }
    println!("tidy: no problem found");
    Ok(())
}

fn problems() -> anyhow::Result<Vec<String>> {
    let mut problems = layers()?;
    for path in sources(&root())? {
        let text = std::fs::read_to_string(&path)?;
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{name}: {lines} lines; split it where it changes its subject"));
        }
        if name.starts_with("xtask/src/tidy.rs") {
            continue;
        }
        for word in UNUSED_WORDS {
            if text.contains(word) {
                problems.push(format!("{name}: `{word}` is a word that the project does not use"));
            }
        }
        let pure = PURE
            .iter()
            .any(|krate| name.starts_with(&format!("crates/{}/src", krate.trim_start_matches("volutus-"))))
            || IMPURE_FILES
                .iter()
                .any(|(folder, files)| name.strip_prefix(folder).is_some_and(|file| !files.contains(&file)));
        if pure {
            for banned in IMPURE_TEXTS.iter().filter(|banned| text.contains(**banned)) {
                problems.push(format!("{name}: `{banned}` in a pure crate"));
            }
        }
        for banned in ["#[ignore", "todo!(", "unimplemented!("] {
            if text.contains(banned) {
                problems.push(format!("{name}: `{banned}` is not left in the code"));
            }
        }
    }
    Ok(problems)
}

fn layers() -> anyhow::Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        LAYERS.iter().map(|(name, deps)| (*name, deps.iter().copied().collect())).collect();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let name = package["name"].as_str().context("a package has no name")?;
        let Some(allowed) = allowed.get(name) else {
            problems.push(format!("{name}: say in xtask/src/tidy.rs which layer it belongs to"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let normal = dependency["kind"].is_null();
            if normal && (on.starts_with("volutus-") || on == "xtask") && !allowed.contains(on) {
                problems.push(format!("{name} depends on {on}, which its layer does not allow"));
            }
            if normal && PURE.contains(&name) && IMPURE_DEPENDENCIES.contains(&on) {
                problems.push(format!("{name} is pure and depends on {on}"));
            }
        }
    }
    Ok(problems)
}

fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["crates", "fuzz", "lab", "tests", "xtask"].iter().map(|d| root.join(d)).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

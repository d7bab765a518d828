//! Reads the contract out of installed packages, by the release's own Python.
//!
//! One process per service, because the services of a release register options of the same name.
//! The programs are in `programs/`; each limits itself before it imports anything of the release.
//! Nothing is started, nothing is asked of a network, nothing is written but into a directory that
//! goes away.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::document::{Document, Origin, OriginKind, Service};
use crate::error::Error;

const COMMON: &str = include_str!("programs/common.py");
const LOCAL: &str = include_str!("programs/local.py");
const SERVED: &str = include_str!("programs/served.py");
const PROGRAMS: &[(&str, &str)] = &[
    ("cinder", include_str!("programs/cinder.py")),
    ("glance", include_str!("programs/glance.py")),
    ("keystone", include_str!("programs/keystone.py")),
    ("neutron", include_str!("programs/neutron.py")),
    ("nova", include_str!("programs/nova.py")),
    ("placement", include_str!("programs/placement.py")),
];

/// How long one service may take. The slowest took 5 s on a busy machine of two cores.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer that is read; nova's, the longest, has 3 MB.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// Of what a program says on its standard error, so much goes into a message.
const WORDS_BYTES_MAX: u64 = 8_192;
/// Programs that run at once: each keeps a core busy.
const AT_ONCE: usize = 2;

/// The services whose contract can be read.
pub fn services() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// The parts of the program that answers the question `contract` over a conversation with a host.
pub fn served_programs() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    PROGRAMS.iter().map(|(name, program)| (*name, vec![COMMON, *program, SERVED]))
}

/// What a program hands over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handed {
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    python: Option<String>,
    #[serde(default)]
    service: Option<Value>,
}

/// Collects what the programs of all services hand over.
#[derive(Debug, Default)]
pub struct Collected {
    python: Option<String>,
    services: BTreeMap<String, Service>,
}

impl Collected {
    /// Takes the answer of one service's program; a service that is not installed is left out.
    ///
    /// # Errors
    /// [`Error::Program`] where the answer is not as expected.
    pub fn take(&mut self, name: &str, python: &str, answer: Value) -> Result<(), Error> {
        let failed =
            |why: String| Error::Program { service: name.to_owned(), python: python.to_owned(), why };
        let handed: Handed = serde_json::from_value(answer)
            .map_err(|error| failed(format!("its answer is not as expected: {error}")))?;
        if handed.absent {
            return Ok(());
        }
        let raw = handed.service.ok_or_else(|| failed("its answer has no service".to_owned()))?;
        let service = Service::from_program(raw)
            .map_err(|why| failed(format!("its answer is not as expected: {why}")))?;
        self.python = self.python.take().or(handed.python);
        self.services.insert(name.to_owned(), service);
        Ok(())
    }

    /// The document of all that was collected. `of` says where it is from.
    ///
    /// # Errors
    /// [`Error::NoService`] where nothing was.
    pub fn document(self, of: String, at: Timestamp) -> Result<Document, Error> {
        if self.services.is_empty() {
            return Err(Error::NoService { path: of, services: services().collect::<Vec<_>>().join(", ") });
        }
        let origin = Origin { kind: OriginKind::Installed, of, at, python: self.python };
        Ok(Document::new(origin, self.services))
    }
}

/// Reads the contract of a release that is installed in the virtual environment at `path`.
///
/// # Errors
/// [`Error::NoRelease`] where there is no Python, [`Error::NoService`] where it has none of the
/// services, [`Error::Program`] where reading one failed or passed a limit.
pub async fn from_installed(path: &Path, at: Timestamp) -> Result<Document, Error> {
    let python = path.join("bin").join("python3");
    if !python.is_file() {
        return Err(Error::NoRelease { path: path.to_owned(), python });
    }
    let folder = tempfile::Builder::new()
        .prefix("volutus-contract-")
        .tempdir()
        .map_err(|source| Error::Local { doing: "making a temporary directory".to_owned(), source })?;
    let mut collected = Collected::default();
    let text = python.display().to_string();
    for chunk in PROGRAMS.chunks(AT_ONCE) {
        let mut running = Vec::new();
        for (name, program) in chunk {
            let (python, folder) = (python.clone(), folder.path().to_owned());
            running.push((*name, tokio::spawn(async move { run(name, program, &python, &folder).await })));
        }
        for (name, task) in running {
            let answer = task.await.map_err(|error| Error::Program {
                service: name.to_owned(),
                python: text.clone(),
                why: error.to_string(),
            })??;
            collected.take(name, &text, answer)?;
        }
    }
    collected.document(path.display().to_string(), at)
}

/// Runs the program of one service, within its limits, and reads its answer.
async fn run(name: &str, program: &str, python: &Path, folder: &Path) -> Result<Value, Error> {
    let failed =
        |why: String| Error::Program { service: name.to_owned(), python: python.display().to_string(), why };
    let local = |doing: &str, source| Error::Local { doing: format!("{doing} {}", python.display()), source };
    let mut path = python.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    let mut child = Command::new(python)
        .args(["-I", "-B", "-"])
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| local("starting", source))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
        return Err(failed("it has no standard streams".to_owned()));
    };
    let text = [COMMON, program, LOCAL].join("\n");
    let mut answer = Vec::new();
    let mut words = Vec::new();
    let work = async {
        let write = async {
            stdin.write_all(text.as_bytes()).await?;
            stdin.shutdown().await?;
            drop(stdin);
            Ok::<(), std::io::Error>(())
        };
        let mut bounded = stdout.take(ANSWER_BYTES_MAX + 1);
        let read = async {
            bounded.read_to_end(&mut answer).await?;
            // More than may come: the program is not let write on.
            drop(bounded);
            Ok::<(), std::io::Error>(())
        };
        // All of it is read so that the program never waits; only its end is kept.
        let listen = async {
            let mut piece = [0; 4_096];
            loop {
                let count = stderr.read(&mut piece).await?;
                if count == 0 {
                    return Ok::<(), std::io::Error>(());
                }
                words.extend_from_slice(&piece[..count]);
                let surplus = words.len().saturating_sub(WORDS_BYTES_MAX as usize);
                words.drain(..surplus);
            }
        };
        let (_written, read, heard) = tokio::join!(write, read, listen);
        read?;
        heard?;
        child.wait().await
    };
    let status = match tokio::time::timeout(SERVICE_TIMEOUT, work).await {
        Ok(ended) => ended.map_err(|source| local("talking to", source))?,
        Err(_) => return Err(failed(format!("it was not done within {} s", SERVICE_TIMEOUT.as_secs()))),
    };
    if answer.len() as u64 > ANSWER_BYTES_MAX {
        return Err(failed(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
    }
    if !status.success() {
        return Err(failed(format!("{status}: {}", last_words(&words))));
    }
    serde_json::from_slice(&answer).map_err(|error| failed(format!("its answer is no JSON: {error}")))
}

/// The last lines of what a program said, in one.
fn last_words(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        "it said nothing".to_owned()
    } else {
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

//! OpenStack's own interoperability tests: Tempest, run against a cloud with a configuration that is
//! made of what the cloud publishes, and its results as a document that can be compared.
//!
//! Tempest is no part of Volutus: it is installed as pinned packages into a Python environment of its
//! own, and runs as a process of its own.

mod cloud;
mod install;
mod results;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::process::Command;
use volutus_openstack::Client;

pub use cloud::Accounts;
pub use install::Tools;
pub use results::{Differences, Results, TestEnd, TestResult};

use self::results::{Told, fold, name_of};
use crate::error::Error;

/// The version of Tempest. It has no branches: the newest serves every series that is maintained.
/// Source: Tempest, "Tempest Release Process" (branchless).
pub const VERSION: &str = "47.0.0";

/// Tests of the smoke set. Source: Tempest, `tempest run --smoke`.
const SMOKE: &str = r"\[.*\bsmoke\b.*\]";
/// Listing imports all tests, which a busy machine takes some seconds for.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);
/// Decoding some thousand results.
const DECODE_TIMEOUT: Duration = Duration::from_secs(120);
/// Tests that are run again, at the most: if more fail, the cloud is broken and no test unsteady.
const AGAIN_MAX: usize = 20;
const DECODER: &str = include_str!("decode.py");

/// Which tests.
#[derive(Debug, Clone)]
pub enum Set {
    /// The smoke set.
    Smoke,
    /// Those whose names this regular expression finds.
    Matching(String),
}

/// What to run, and within which bounds.
#[derive(Debug)]
pub struct Options<'a> {
    /// Which tests.
    pub set: Set,
    /// As whom.
    pub accounts: Accounts,
    /// Whether tests log in to instances, which needs instances that run and can be reached.
    pub validation: bool,
    /// For all of it.
    pub limit: Duration,
    /// Processes at once.
    pub concurrency: u32,
    /// What an earlier run saw: tests that passed there and fail now are run again once.
    pub before: Option<&'a Results>,
}

/// Runs Tempest against the cloud of `client`, which `of` names.
///
/// # Errors
/// [`Error::Cloud`] where the cloud does not answer what the configuration is made of,
/// [`Error::Tempest`] where Tempest itself could not work. A test that fails is a result.
pub async fn measure(
    tools: &Tools,
    client: &Client,
    of: &str,
    options: &Options<'_>,
    at: Timestamp,
) -> Result<Results, Error> {
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("volutus-tempest-")
        .tempdir()
        .map_err(|source| Error::Local { doing: "making a temporary directory".to_owned(), source })?;
    let wanted =
        cloud::Wanted { accounts: &options.accounts, validation: options.validation, folder: folder.path() };
    let configuration = cloud::configure(client, &wanted).await?;
    let suite = Suite { tools, folder: folder.path() };
    suite.prepare(&configuration.text())?;
    let expression = match &options.set {
        Set::Smoke => SMOKE,
        Set::Matching(expression) => expression,
    };
    let listed = suite.list(expression).await?;
    if listed.is_empty() {
        return Err(suite.failed("listing tests", format!("`{expression}` finds none")));
    }
    tracing::info!("{} tests, {} at once", listed.len(), options.concurrency);
    let told = suite.run(&listed, options.concurrency, options.limit).await?;
    let set = match &options.set {
        Set::Smoke => "smoke".to_owned(),
        Set::Matching(expression) => expression.clone(),
    };
    let mut results = Results::new(set, of.to_owned(), at, fold(&listed, &told));
    results.settings = configuration.settings();
    // Files of this run, which are gone with it.
    results.settings.retain(|_, value| !Path::new(value).starts_with(folder.path()));
    if let Some(before) = options.before {
        let broken = results.broken_since(before);
        let again: Vec<String> = listed.iter().filter(|id| broken.contains(name_of(id))).cloned().collect();
        let left = options.limit.saturating_sub(started.elapsed());
        if (1..=AGAIN_MAX).contains(&again.len()) && !left.is_zero() {
            tracing::info!("{} tests that passed before are run again", again.len());
            let told = suite.run(&again, 1, left).await?;
            results.take_again(fold(&again, &told));
        }
    }
    results.seconds = started.elapsed().as_secs();
    Ok(results)
}

/// A folder with everything that a run needs.
struct Suite<'a> {
    tools: &'a Tools,
    folder: &'a Path,
}

impl Suite<'_> {
    fn failed(&self, doing: &str, why: String) -> Error {
        let hint = "run it with -v, and see whether Tempest's own command works in its environment";
        Error::Tempest { doing: doing.to_owned(), why, hint }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        // There are passwords in it.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| Error::Local { doing: format!("writing {}", path.display()), source })
    }

    fn prepare(&self, configuration: &str) -> Result<(), Error> {
        let packages = self.tools.packages()?;
        let packages = packages.display();
        self.write("tempest.conf", configuration)?;
        self.write("decode.py", DECODER)?;
        // Tests of one class share what the class prepares. Source: tempest, `.stestr.conf`.
        self.write(
            "stestr.conf",
            &format!(
                "[DEFAULT]\ntest_path = {packages}/tempest/test_discover\ntop_dir = {packages}\ngroup_regex = \
                 ([^\\.]*\\.)*\n"
            ),
        )
    }

    /// A program of the environment, which finds its configuration here.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tools.program(program));
        let mut path = self.tools.bin().into_os_string();
        if let Some(more) = std::env::var_os("PATH") {
            path.push(":");
            path.push(more);
        }
        command.args(arguments).current_dir(self.folder).env("PATH", path);
        command.env("TEMPEST_CONFIG_DIR", self.folder).env("TEMPEST_CONFIG", "tempest.conf");
        command.env("HOME", self.folder).env("PYTHONWARNINGS", "ignore").env("LC_ALL", "C.UTF-8");
        command.env_remove("PYTHON").env_remove("PYTHONPATH");
        command
    }

    async fn ended(
        &self,
        command: Command,
        doing: &str,
        limit: Duration,
        output: Option<&Path>,
    ) -> Result<run::Ran, Error> {
        run::ended(command, limit, output).await.map_err(|error| self.failed(doing, error.to_string()))
    }

    /// The ids of the tests that an expression finds.
    async fn list(&self, expression: &str) -> Result<Vec<String>, Error> {
        let init = self.command("stestr", &["--config", "stestr.conf", "init"]);
        let doing = "preparing Tempest";
        let ran = self.ended(init, doing, LIST_TIMEOUT, None).await?;
        if !ran.success {
            return Err(self.failed(doing, ran.words()));
        }
        let (doing, file) = ("listing tests", self.folder.join("list.txt"));
        let list = self.command("stestr", &["--config", "stestr.conf", "list", expression]);
        let ran = self.ended(list, doing, LIST_TIMEOUT, Some(&file)).await?;
        let text = fs::read_to_string(&file).map_err(|error| self.failed(doing, error.to_string()))?;
        if !ran.success {
            return Err(self.failed(doing, format!("{} {}", text.trim(), ran.words())));
        }
        let ids: BTreeSet<&str> =
            text.lines().map(str::trim).filter(|line| line.starts_with("tempest.")).collect();
        Ok(ids.into_iter().map(str::to_owned).collect())
    }

    /// Runs tests and reads what they told, also where time was up before all of them had ended.
    async fn run(&self, ids: &[String], concurrency: u32, limit: Duration) -> Result<Vec<Told>, Error> {
        let (list, stream) = (self.folder.join("ids.txt"), self.folder.join("results.subunit"));
        fs::write(&list, ids.join("\n"))
            .map_err(|source| Error::Local { doing: format!("writing {}", list.display()), source })?;
        let count = concurrency.max(1).to_string();
        let arguments = [
            "--config",
            "stestr.conf",
            "run",
            "--subunit",
            "--concurrency",
            &count,
            "--load-list",
            "ids.txt",
        ];
        let ran =
            self.ended(self.command("stestr", &arguments), "running Tempest", limit, Some(&stream)).await?;
        let file = self.folder.join("results.jsonl");
        let doing = "reading Tempest's results";
        let decode = self.command("python", &["decode.py", "results.subunit"]);
        let decoded = self.ended(decode, doing, DECODE_TIMEOUT, Some(&file)).await?;
        let text = fs::read_to_string(&file).map_err(|error| self.failed(doing, error.to_string()))?;
        if !decoded.success {
            return Err(self.failed(doing, decoded.words()));
        }
        let told: Result<Vec<Told>, _> = text.lines().map(serde_json::from_str).collect();
        let told = told.map_err(|error| self.failed(doing, error.to_string()))?;
        // Exit code 1 says that tests failed; where there is no result at all, Tempest did.
        if told.is_empty() {
            return Err(self.failed("running Tempest", ran.words()));
        }
        Ok(told)
    }
}

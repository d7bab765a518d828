//! Releases in virtual environments side by side: putting one on a host, and switching a daemon
//! to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use volutus_model::inventory::Releases;
use volutus_model::name::{DaemonId, HostName, PackageVersion, ServiceName};
use volutus_model::outcome::{Evidence, Outcome, tail_for_evidence};
use volutus_model::{LockName, LockedRelease, PatchedRelease, Series, Sha256};

use crate::attempt::{Attempt, Attempted, command, last_line, permanent};
use crate::channel::{ASK, Channel, PROCESS_PART, Trouble, standalone};
use crate::work::{Program, perform, safe};

/// What has to be on a host.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The series.
    pub series: Series,
    /// The versions of services.
    pub versions: &'a BTreeMap<ServiceName, PackageVersion>,
    /// The patched release of the series that is meant, with what else has to be in it.
    pub patch: Option<&'a PatchedRelease>,
    /// The locked release that what is there has to be.
    pub lock: Option<&'a LockedRelease>,
}

/// How long hashing what is installed may take: nova's 2,000 files take a second, those of a whole environment some
/// tens of seconds on a slow disk that has not read them yet.
const HASH: Duration = Duration::from_secs(300);

impl Wanted<'_> {
    fn name(&self) -> String {
        match self.patch {
            Some(patch) => format!("{}+{}", self.series, patch.name),
            None => self.series.to_string(),
        }
    }

    fn path(&self, releases: &Releases, service: &ServiceName) -> String {
        match self.patch {
            Some(patch) => releases.patched_path_of(self.series, &patch.name, service),
            None => releases.path_of(self.series, service),
        }
    }

    fn command(&self, releases: &Releases) -> Vec<String> {
        match self.patch {
            Some(patch) => releases.stage_patched_command(self.series, &patch.name, &patch.packages),
            None => releases.stage_command(self.series),
        }
    }
}

/// Puts a release onto a host beside what runs, and sees that the right versions are there.
pub(crate) async fn stage(attempt: &Attempt<'_>, wanted: &Wanted<'_>) -> Attempted {
    let (host, name) = (wanted.host, wanted.name());
    let first = look(attempt, wanted).await.map_err(|trouble| trouble.outcome(false))?;
    if first.is_whole() && !attempt.order.taken_up {
        return Ok(Outcome::unchanged(format!("{name} is there already: {first}")));
    }
    let argv = wanted.command(&attempt.cloud.inventory.releases);
    let slot = format!("staging of {}", safe(&name));
    let finished = perform(attempt, host, &slot, &Program::Argv(argv.clone())).await?;
    let evidence = command(host, &argv, Some(finished.exit_code), &finished.output);
    let key = match wanted.patch {
        Some(_) => "`releases.stage_patched` (or `stage`)",
        None => "`releases.stage`",
    };
    if finished.exit_code != 0 {
        return Err(permanent(
            format!("staging {name} on {host} ended with exit code {}", finished.exit_code),
            format!(
                "read the command's output below; it is {key} of the cloud description. What runs is \
                 not touched. Mend the cause and resume"
            ),
            vec![evidence],
        ));
    }
    let seen = look(attempt, wanted).await.map_err(|trouble| trouble.outcome(false))?;
    if !seen.is_whole() {
        return Err(permanent(
            format!("after staging, {name} on {host} is not what the plan wants: {seen}"),
            format!(
                "let {key} of the cloud description install these versions{}, or plan again with the \
                 versions that it installs",
                if wanted.lock.is_some() {
                    " from the very files that are locked (`volutus release show NAME --output requirements` \
                     is a file for pip that admits no others)"
                } else {
                    ""
                }
            ),
            vec![evidence],
        ));
    }
    Ok(Outcome::done(format!("{name} is there: {seen}")))
}

/// What is in the directories of a series, against what is wanted.
struct Staged {
    services: Vec<(String, PackageVersion, Option<String>)>,
    /// Interpreters that do not run, with what they said.
    broken: Vec<String>,
    /// What is otherwise than in the locked release.
    otherwise: Vec<String>,
    /// The locked release that was looked for, with how many packages' files were compared.
    compared: Option<(LockName, usize)>,
}

impl Staged {
    fn is_whole(&self) -> bool {
        self.broken.is_empty()
            && self.otherwise.is_empty()
            && self.services.iter().all(|(_, wanted, seen)| seen.as_deref() == Some(wanted.as_str()))
    }
}

impl std::fmt::Display for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = self.broken.clone();
        parts.extend(self.otherwise.iter().cloned());
        for (service, wanted, seen) in &self.services {
            match seen {
                Some(version) if version == wanted.as_str() => parts.push(format!("{service} {version}")),
                Some(version) => parts.push(format!("{service} {version}, wanted {wanted}")),
                None => parts.push(format!("{service} is missing, wanted {wanted}")),
            }
        }
        f.write_str(&parts.join(", "))?;
        match &self.compared {
            Some((lock, files)) if self.otherwise.is_empty() => {
                write!(f, "; as locked in {lock}, the files of {files} packages compared")
            }
            _ => Ok(()),
        }
    }
}

/// What is installed of one distribution: its version, and the digest of its files where it has a record of them.
#[derive(Debug, Deserialize)]
struct Installed(String, Option<Sha256>);

/// What is otherwise in a release directory than in a locked release, and how many packages' files were compared. A
/// library of the lock that is not there is no difference: code that is not there does not run.
fn compare(
    path: &str,
    lock: &LockedRelease,
    installed: &BTreeMap<String, Installed>,
) -> (Vec<String>, usize) {
    let (mut otherwise, mut files) = (Vec::new(), 0);
    for (name, locked) in &lock.packages {
        let Some(Installed(version, contents)) = installed.get(name) else { continue };
        if version != locked.version.as_str() {
            otherwise
                .push(format!("{name} {version} in {path}, locked in {} is {}", lock.name, locked.version));
            continue;
        }
        let Some(wanted) = &locked.contents else { continue };
        files += 1;
        match contents {
            Some(found) if found == wanted => {}
            Some(_) => otherwise
                .push(format!("files of {name} {version} in {path} are not those locked in {}", lock.name)),
            None => otherwise.push(format!(
                "{name} {version} in {path} has no record of its files to hold against the lock {}",
                lock.name
            )),
        }
    }
    (otherwise, files)
}

#[derive(Deserialize)]
struct Interpreter {
    code: i32,
    output: String,
}

async fn look(attempt: &Attempt<'_>, wanted: &Wanted<'_>) -> Result<Staged, Trouble> {
    let cloud = attempt.cloud;
    let releases = &cloud.inventory.releases;
    let mut channel = Channel::to_host(&cloud.hosts, wanted.host).await?;
    let (mut question, mut packages) = (Vec::new(), Vec::new());
    for (service, version) in wanted.versions {
        let distribution = cloud.catalog.services.get(service).map(|known| known.distribution.clone());
        let path = wanted.path(releases, service);
        let distribution = distribution.unwrap_or_else(|| service.to_string());
        // Where each service has an environment of its own, a library has to be right in all of them.
        let own = |name: &String| cloud.catalog.services.values().any(|known| known.distribution == *name);
        let more = wanted.patch.into_iter().flat_map(|patch| &patch.packages).filter(|(name, _)| !own(name));
        for (name, version) in more {
            question.push((path.clone(), name.clone()));
            packages.push((name.clone(), version.clone()));
        }
        question.push((path, distribution));
        packages.push((service.to_string(), version.clone()));
    }
    let seen: Vec<Option<String>> = channel.ask("packages", json!({"releases": question}), ASK).await?;
    let services: Vec<_> =
        packages.into_iter().zip(seen).map(|((name, wanted), seen)| (name, wanted, seen)).collect();
    let mut broken = Vec::new();
    let mut paths: Vec<String> = question.into_iter().map(|(path, _)| path).collect();
    paths.dedup();
    let (mut otherwise, mut compared) = (Vec::new(), None);
    if services.iter().all(|(_, _, seen)| seen.is_some()) {
        if let Some(lock) = wanted.lock {
            let mut files = 0;
            for path in &paths {
                let names: Vec<&String> = lock.packages.keys().collect();
                let request = json!({"release": path, "wanted": names});
                let installed = channel.ask("contents", request, HASH).await?;
                let (found, count) = compare(path, lock, &installed);
                otherwise.extend(found);
                files += count;
            }
            compared = Some((lock.name.clone(), files));
        }
        for path in paths {
            // An environment built for another Python of the system would only fail at the switch.
            let run: Interpreter = channel.ask("interpreter", json!({"release": path}), ASK).await?;
            if run.code != 0 {
                broken.push(format!("{path}/bin/python3 does not run (exit {}: {})", run.code, run.output));
            }
        }
    }
    Ok(Staged { services, broken, otherwise, compared })
}

/// The switch of one daemon.
pub(crate) struct Switch<'a> {
    /// The daemon.
    pub daemon: &'a DaemonId,
    /// Its service.
    pub service: &'a ServiceName,
    /// Its unit.
    pub unit: &'a str,
    /// The link.
    pub link: &'a str,
    /// Where the link must point before.
    pub from: &'a str,
    /// Where it points afterwards.
    pub to: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
enum SwitchReport {
    Switched { stop_s: f64, killed: bool, start_s: f64 },
    Unchanged { pid: u32 },
    Refused { why: String },
    Failed { why: String },
}

/// Stops a daemon gracefully, lets its link point to another release, and starts it.
pub(crate) async fn switch(attempt: &Attempt<'_>, switch: &Switch<'_>) -> Attempted {
    let host = &switch.daemon.host;
    let distribution = &attempt.cloud.service(switch.service)?.distribution;
    let request = json!({
        "unit": switch.unit, "link": switch.link, "before": switch.from, "after": switch.to,
        "distribution": distribution, "again": attempt.order.retried,
    });
    let program = Program::Python(standalone(&request, &[PROCESS_PART, include_str!("host/switch.py")]));
    attempt.say(format!("switching {}: it is given time to stop gracefully", switch.unit));
    let slot = format!("switch of {}", safe(switch.daemon.kind.as_str()));
    let finished = perform(attempt, host, &slot, &program).await?;
    match serde_json::from_str(last_line(&finished.output)) {
        Ok(SwitchReport::Switched { stop_s, killed, start_s }) => Ok(Outcome::done(format!(
            "{} {} after {stop_s:.1} s, started from {} in {start_s:.1} s",
            switch.unit,
            if killed { "did not stop by itself and was killed by systemd" } else { "stopped" },
            switch.to
        ))),
        Ok(SwitchReport::Unchanged { pid }) => Ok(Outcome::unchanged(format!(
            "process {pid} of {} runs from {} already",
            switch.unit, switch.to
        ))),
        Ok(SwitchReport::Refused { why }) => Err(permanent(
            format!("{} was not switched: {why}", switch.daemon),
            format!(
                "nothing was changed. See who changed {} on {host}; put it right and resume, or observe and plan \
                 again",
                switch.link
            ),
            vec![command(host, &["switch".to_owned()], Some(finished.exit_code), &finished.output)],
        )),
        Ok(SwitchReport::Failed { why }) => {
            let evidence = vec![
                command(
                    host,
                    &["systemctl".to_owned(), switch.unit.to_owned()],
                    Some(finished.exit_code),
                    &why,
                ),
                log(attempt, host, switch.unit).await,
            ];
            Err(permanent(
                format!("{} was not switched: {why}", switch.daemon),
                format!("read the log below; mend the cause on {host}, then resume"),
                evidence,
            ))
        }
        Err(error) => Err(permanent(
            format!("the switch of {} on {host} broke: {error}", switch.daemon),
            "read the output below, then resume",
            vec![command(host, &["switch".to_owned()], Some(finished.exit_code), &finished.output)],
        )),
    }
}

/// Lines of a daemon's log that go into evidence: enough for a traceback with its causes.
const LOG_LINES: u32 = 50;

/// The end of a unit's log, as evidence.
pub(crate) async fn log(attempt: &Attempt<'_>, host: &HostName, unit: &str) -> Evidence {
    let lines: Result<String, Trouble> = async {
        let mut channel = Channel::to_host(&attempt.cloud.hosts, host).await?;
        channel.ask("journal", json!({"unit": unit, "lines": LOG_LINES}), ASK).await
    }
    .await;
    let lines = lines.unwrap_or_else(|trouble| format!("the log could not be read: {trouble}"));
    Evidence::Log { host: host.to_string(), unit: unit.to_owned(), lines: tail_for_evidence(&lines) }
}

#[cfg(test)]
mod tests {
    use volutus_model::LockedPackage;

    use super::*;

    #[test]
    fn what_is_otherwise_than_locked_is_named() {
        let digest = |digit: &str| Sha256::new(&digit.repeat(64)).unwrap();
        let locked = |version: &str, contents: Option<&str>| LockedPackage {
            version: PackageVersion::new(version),
            contents: contents.map(digest),
        };
        let packages = [
            ("nova", locked("33.0.2", Some("a"))),
            ("oslo-config", locked("9.7.1", None)),
            ("not-there", locked("1.0", Some("a"))),
        ];
        let packages = packages.map(|(name, package)| (name.to_owned(), package)).into();
        let lock = LockedRelease { name: LockName::new("autumn").unwrap(), packages };
        let seen = |nova: Installed, config: &str| {
            let config = Installed(config.to_owned(), Some(digest("f")));
            compare("/r", &lock, &[("nova".to_owned(), nova), ("oslo-config".to_owned(), config)].into())
        };
        let nova =
            |version: &str, contents: Option<&str>| Installed(version.to_owned(), contents.map(digest));
        assert_eq!(seen(nova("33.0.2", Some("a")), "9.7.1"), (Vec::new(), 1));
        for (found, part) in [
            (seen(nova("33.0.2", Some("b")), "9.7.1"), "files of nova 33.0.2"),
            (seen(nova("33.0.2", None), "9.7.1"), "no record"),
            (seen(nova("33.0.1", Some("a")), "9.7.1"), "nova 33.0.1"),
            (seen(nova("33.0.2", Some("a")), "9.7.2"), "oslo-config 9.7.2"),
        ] {
            assert!(found.0.len() == 1 && found.0[0].contains(part), "{part}: {found:?}");
        }
    }
}

//! Releases in virtual environments side by side: putting one on a host, and switching a daemon
//! to it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use volutus_model::inventory::Releases;
use volutus_model::name::{DaemonId, HostName, PackageVersion, ServiceName};
use volutus_model::outcome::{Evidence, Outcome, tail_for_evidence};
use volutus_model::{PatchedRelease, Series};

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
}

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
                "let {key} of the cloud description install these versions, or plan again with the \
                 versions that it installs"
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
}

impl Staged {
    fn is_whole(&self) -> bool {
        self.broken.is_empty()
            && self.services.iter().all(|(_, wanted, seen)| seen.as_deref() == Some(wanted.as_str()))
    }
}

impl std::fmt::Display for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = self.broken.clone();
        for (service, wanted, seen) in &self.services {
            match seen {
                Some(version) if version == wanted.as_str() => parts.push(format!("{service} {version}")),
                Some(version) => parts.push(format!("{service} {version}, wanted {wanted}")),
                None => parts.push(format!("{service} is missing, wanted {wanted}")),
            }
        }
        f.write_str(&parts.join(", "))
    }
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
    if services.iter().all(|(_, _, seen)| seen.is_some()) {
        for path in paths {
            // An environment built for another Python of the system would only fail at the switch.
            let run: Interpreter = channel.ask("interpreter", json!({"release": path}), ASK).await?;
            if run.code != 0 {
                broken.push(format!("{path}/bin/python3 does not run (exit {}: {})", run.code, run.output));
            }
        }
    }
    Ok(Staged { services, broken })
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

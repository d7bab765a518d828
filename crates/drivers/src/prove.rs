//! Sees that a daemon serves, in the version that it should have.
//!
//! `systemctl is-active` proves nothing: a service can die inside a process that lives on. What
//! counts is what the process has loaded, and what it does:
//!
//! - **Code**: the processes of the unit have mapped modules of the release that the daemon's
//!   link points to, and the service's package there has the expected version.
//! - **HTTP**: the replica itself, not the load balancer, answers.
//! - **Record**: the service record carries the expected version number, and its report count
//!   advances by one over a reading that was made when the new process had already loaded its
//!   code. No clocks are compared. The old process cannot have made that report: it was stopped
//!   before, and it never wrote the new version number. One report is enough, because services
//!   report from a timer that they only start when their own start-up is through; a second one
//!   would cost every daemon another `report_interval` (10 s) and show nothing more.
//! - **Steady**: for daemons that publish nothing, the same process for a while.
//!
//! All the while the unit is watched: a process that ends or is restarted fails the proof at once,
//! with its log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use volutus_model::name::{DaemonId, PackageVersion, ServiceName};
use volutus_model::observation::ServiceRecord;
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::Proof;

use crate::CloudDriver;
use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::channel::{ASK, Channel, Trouble};
use crate::database;
use crate::release::log;

/// Between two looks at a unit: one look is a system call or two on the host.
const LOOK: Duration = Duration::from_millis(400);
/// Between two health requests.
const HEALTH: Duration = Duration::from_millis(250);
/// So many answers in a row have to be good. A replica may have several processes, and in some
/// services (neutron 28, seen) the first requests of a process race for its policy rules, and
/// the losers answer 404: these requests shall be Volutus's own, not a user's.
const GOOD_ANSWERS: u32 = 4;
/// Between two readings of service records, which change every 10 s.
const RECORD: Duration = Duration::from_millis(400);
/// A record that has not been written for longer than this belongs to a back end that is no
/// longer configured (cinder-volume keeps one record per back end); it never advances, and it is
/// not waited for while others are fresh. Ten report intervals.
const STALE_S: u64 = 100;

/// What is to be proved.
pub(crate) struct Claim<'a> {
    /// The daemon.
    pub daemon: &'a DaemonId,
    /// Its service.
    pub service: &'a ServiceName,
    /// Its unit.
    pub unit: &'a str,
    /// The version that it must have loaded; any where absent.
    pub version: Option<&'a PackageVersion>,
    /// What else must be seen.
    pub proofs: &'a [Proof],
}

/// A unit as its host reports it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UnitReport {
    pub active: String,
    pub sub: String,
    pub result: String,
    pub pid: u32,
    pub restarts: u32,
    pub exit_status: i32,
    pub running_s: f64,
    pub timeout_stop_s: Option<u64>,
    pub environment: BTreeMap<String, String>,
    pub code: Code,
    pub link: Link,
}

/// What a process has loaded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Code {
    Loaded {
        version: String,
        release: String,
        /// Distributions that were put there after the process had started.
        #[serde(default)]
        replaced: BTreeSet<String>,
    },
    Unseen {
        why: String,
    },
}

/// Where a link points.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Link {
    To { value: String },
    Unseen { why: String },
}

/// A unit of a daemon, to be looked at.
pub(crate) struct Unit<'a> {
    pub cloud: &'a CloudDriver,
    pub daemon: &'a DaemonId,
    pub service: &'a ServiceName,
    pub unit: &'a str,
}

/// What a host has to know to report on a unit.
pub(crate) fn wanted(
    cloud: &CloudDriver,
    daemon: &DaemonId,
    service: &ServiceName,
    unit: &str,
) -> serde_json::Value {
    let distribution = cloud.catalog.services.get(service).map(|known| known.distribution.as_str());
    json!({
        "unit": unit,
        "distribution": distribution.unwrap_or(service.as_str()),
        "link": cloud.inventory.releases.current_of(service, &daemon.kind),
    })
}

impl Unit<'_> {
    /// The unit as it is now.
    pub(crate) async fn look(&self, channel: &mut Channel) -> Result<UnitReport, Trouble> {
        let question = json!({
            "wanted": wanted(self.cloud, self.daemon, self.service, self.unit),
            "known": self.cloud.releases_of(self.service),
        });
        channel.ask("unit", question, ASK).await
    }
}

/// Sees that the claim holds.
pub(crate) async fn prove(attempt: &Attempt<'_>, claim: &Claim<'_>) -> Attempted {
    let unit = Unit { cloud: attempt.cloud, daemon: claim.daemon, service: claim.service, unit: claim.unit };
    let mut watch = Watch { attempt, claim, unit, channel: None, first: None, last: None };
    let loaded = watch.until_loaded().await?;
    let steady = claim.proofs.iter().filter_map(|proof| match proof {
        Proof::Steady { seconds } => Some(*seconds),
        _ => None,
    });
    let steady = steady.max().unwrap_or(0);
    let others = claim.proofs.iter().map(|proof| async move {
        match proof {
            Proof::Http { url, statuses, authenticated } => {
                http(attempt, claim, url, statuses, *authenticated).await.map(Some)
            }
            Proof::ServiceRecord { service, binary, version } => {
                let wanted = RecordClaim { service, binary, version: *version };
                record(attempt, claim, &wanted).await.map(Some)
            }
            Proof::Steady { .. } => Ok(None),
        }
    });
    let others = futures::future::try_join_all(others);
    tokio::pin!(others);
    let seen = loop {
        tokio::select! {
            seen = &mut others => break seen?,
            () = attempt.pause(LOOK) => { watch.look().await?; }
        }
    };
    // The unit has to be as it was while the rest was seen; for daemons that publish nothing this
    // is all there is.
    let last = watch.until_steady(steady).await?;
    let mut detail = vec![format!("process {} runs {loaded}", last.pid)];
    detail.extend(seen.into_iter().flatten());
    if steady > 0 {
        detail.push(format!("the same process for {:.0} s", last.running_s));
    }
    Ok(Outcome::done(detail.join("; ")))
}

/// Watches the unit while other things are waited for.
struct Watch<'a, 'b> {
    attempt: &'a Attempt<'b>,
    claim: &'a Claim<'a>,
    unit: Unit<'a>,
    channel: Option<Channel>,
    /// The first look, against which restarts are counted.
    first: Option<UnitReport>,
    last: Option<UnitReport>,
}

impl Watch<'_, '_> {
    /// Looks once. A lost connection is taken up again until time is up.
    async fn look(&mut self) -> Result<UnitReport, Outcome> {
        let host = &self.claim.daemon.host;
        let report = loop {
            let open = self.channel.take();
            let seen = async {
                let mut channel = match open {
                    Some(channel) => channel,
                    None => Channel::to_host(&self.attempt.cloud.hosts, host).await?,
                };
                let report = self.unit.look(&mut channel).await?;
                self.channel = Some(channel);
                Ok(report)
            }
            .await;
            match seen {
                Ok(report) => break report,
                Err(Trouble::Connection(_)) if !self.attempt.is_over() => {
                    self.attempt.say(format!("the connection to {host} is lost, trying again"));
                    self.attempt.pause(Duration::from_secs(1)).await;
                }
                Err(trouble) => return Err(trouble.outcome(false)),
            }
        };
        let first = self.first.get_or_insert_with(|| report.clone());
        let trouble = if report.active == "failed" || (report.active == "inactive" && report.pid == 0) {
            Some(format!(
                "the unit is {} (result {}, exit status {})",
                report.active, report.result, report.exit_status
            ))
        } else if report.restarts > first.restarts {
            Some(format!("systemd has restarted it {} times meanwhile", report.restarts - first.restarts))
        } else if first.pid != 0 && report.pid != first.pid {
            Some(format!("process {} became {}", first.pid, report.pid))
        } else {
            None
        };
        self.last = Some(report.clone());
        match trouble {
            Some(seen) => Err(self.failed(&format!("it does not stay up: {seen}"), vec![]).await),
            None => Ok(report),
        }
    }

    async fn until_loaded(&mut self) -> Result<String, Outcome> {
        loop {
            let report = self.look().await?;
            let seen = match (&report.code, &report.link) {
                (Code::Unseen { why }, _) | (_, Link::Unseen { why }) => why.clone(),
                (Code::Loaded { version, release, .. }, Link::To { value }) => {
                    let right = self.claim.version.is_none_or(|wanted| wanted.as_str() == version);
                    if right && release == value && report.active == "active" {
                        return Ok(format!("{} {version} from {release}", self.claim.service));
                    }
                    format!(
                        "the unit is {}, its process runs {version} from {release}, the link points to {value}",
                        report.active
                    )
                }
            };
            if self.attempt.is_over() {
                let what = match self.claim.version {
                    Some(version) => format!("it does not run {version}: {seen}"),
                    None => format!("it does not run: {seen}"),
                };
                return Err(self.failed(&what, vec![]).await);
            }
            self.attempt.say(format!("waiting until {} has loaded its code", self.claim.daemon));
            self.attempt.pause(LOOK).await;
        }
    }

    async fn until_steady(&mut self, seconds: u32) -> Result<UnitReport, Outcome> {
        loop {
            let report = self.look().await?;
            let left = f64::from(seconds) - report.running_s;
            if report.active == "active" && left <= 0.0 {
                return Ok(report);
            }
            if self.attempt.is_over() {
                let seen = format!("the unit is {}, for {:.0} s", report.active, report.running_s);
                return Err(self.failed(&format!("it is not steady: {seen}"), vec![]).await);
            }
            self.attempt.say(format!("watching {} for {:.0} s more", self.claim.daemon, left.max(0.0)));
            self.attempt.pause(LOOK.max(Duration::from_secs_f64(left.clamp(0.0, 1.0)))).await;
        }
    }

    async fn failed(&self, seen: &str, evidence: Vec<Evidence>) -> Outcome {
        let mut all = evidence;
        if let Some(last) = &self.last {
            all.push(state(format!("unit {}", self.claim.unit), describe(last)));
        }
        failed(self.attempt, self.claim, seen, all).await
    }
}

fn describe(report: &UnitReport) -> String {
    format!(
        "{} ({}), result {}, process {} for {:.0} s, {} restarts",
        report.active, report.sub, report.result, report.pid, report.running_s, report.restarts
    )
}

/// The outcome of a proof that failed, with the end of the daemon's log.
async fn failed(
    attempt: &Attempt<'_>,
    claim: &Claim<'_>,
    seen: &str,
    mut evidence: Vec<Evidence>,
) -> Outcome {
    evidence.push(log(attempt, &claim.daemon.host, claim.unit).await);
    permanent(
        format!("{} is not proved to serve: {seen}", claim.daemon),
        format!(
            "read the log below. Mend the cause on {} and resume (the daemon is proved again), or abort",
            claim.daemon.host
        ),
        evidence,
    )
}

async fn http(
    attempt: &Attempt<'_>,
    claim: &Claim<'_>,
    url: &str,
    statuses: &BTreeSet<u16>,
    authenticated: bool,
) -> Result<String, Outcome> {
    let mut good = 0;
    loop {
        let (status, body) = ask(attempt, url, authenticated).await;
        if let Some(status) = status.filter(|status| statuses.contains(status)) {
            good += 1;
            if good == GOOD_ANSWERS {
                return Ok(format!("{url} answers {status}"));
            }
            continue;
        }
        good = 0;
        let seen = status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
        if attempt.is_over() {
            let evidence = Evidence::Http {
                request: format!("GET {url}"),
                status,
                body: body.chars().take(1_000).collect(),
            };
            let wanted: Vec<String> = statuses.iter().map(u16::to_string).collect();
            let seen = format!("GET {url}: {seen}, expected {}", wanted.join(" or "));
            return Err(failed(attempt, claim, &seen, vec![evidence]).await);
        }
        attempt.say(format!("waiting until {} answers ({seen})", claim.daemon));
        attempt.pause(HEALTH).await;
    }
}

/// One request to a replica: the status, where one came, and the body or what went wrong.
async fn ask(attempt: &Attempt<'_>, url: &str, authenticated: bool) -> (Option<u16>, String) {
    let mut request = attempt.cloud.http.get(url);
    if authenticated {
        request = match attempt.cloud.operator.authorize(request).await {
            Ok(request) => request,
            Err(error) => return (None, format!("no token to ask it with: {error}")),
        };
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            (Some(status), answer.text().await.unwrap_or_else(|error| crate::ssh::describe(&error)))
        }
        Err(error) => (None, crate::ssh::describe(&error)),
    }
}

struct RecordClaim<'a> {
    service: &'a ServiceName,
    binary: &'a str,
    version: Option<u32>,
}

/// How far the proof of service records is.
#[derive(Debug, PartialEq, Eq)]
enum Advance {
    /// There is none.
    Missing,
    /// One does not have the version number yet.
    OtherVersion(String),
    /// One has not advanced yet.
    Waiting,
    /// All that count have advanced.
    Seen(String),
}

/// Judges one reading of a daemon's records against those before; `baseline` keeps the first
/// report count that was read of each with the right version.
fn judge(records: &[ServiceRecord], version: Option<u32>, baseline: &mut BTreeMap<String, u64>) -> Advance {
    if records.is_empty() {
        return Advance::Missing;
    }
    let fresh = |record: &&ServiceRecord| record.age_s.is_some_and(|age| age < STALE_S);
    let any_fresh = records.iter().any(|record| fresh(&record));
    let mut advanced = Vec::new();
    for record in records.iter().filter(|record| !any_fresh || fresh(record)) {
        if version.is_some_and(|wanted| record.version != wanted.to_string()) {
            return Advance::OtherVersion(record.version.clone());
        }
        let base = *baseline.entry(record.host.clone()).or_insert(record.report_count);
        if record.report_count <= base {
            // The others' readings have to be kept as well, so the loop goes on.
            continue;
        }
        advanced.push(format!("{} reports {base} to {}", record.host, record.report_count));
    }
    let counted = records.iter().filter(|record| !any_fresh || fresh(record)).count();
    if advanced.len() == counted { Advance::Seen(advanced.join(", ")) } else { Advance::Waiting }
}

async fn record(
    attempt: &Attempt<'_>,
    claim: &Claim<'_>,
    wanted: &RecordClaim<'_>,
) -> Result<String, Outcome> {
    let cloud = attempt.cloud;
    let service = cloud.service(wanted.service)?;
    let host = &claim.daemon.host;
    let mut baseline = BTreeMap::new();
    let mut channel: Option<Channel> = None;
    loop {
        let open = channel.take();
        let read: Result<Vec<ServiceRecord>, Trouble> = async {
            let mut open = match open {
                Some(open) => open,
                None => database::open(cloud, service).await?,
            };
            let records = database::records_of(&mut open, cloud, service, wanted.binary, host).await?;
            channel = Some(open);
            Ok(records)
        }
        .await;
        let expected = wanted.version.map_or_else(String::new, |version| format!(" at version {version}"));
        let (seen, value) = match &read {
            Ok(records) => match judge(records, wanted.version, &mut baseline) {
                Advance::Seen(how) => {
                    return Ok(format!("record of {}{expected}: {how}", wanted.binary));
                }
                Advance::Missing => ("there is no record".to_owned(), String::new()),
                Advance::OtherVersion(version) => {
                    (format!("its record has version {version}"), format!("{records:?}"))
                }
                Advance::Waiting => ("its reports do not advance".to_owned(), format!("{records:?}")),
            },
            Err(trouble) => (format!("its record cannot be read: {trouble}"), String::new()),
        };
        if attempt.is_over() {
            let what = format!("service records of {} on {host}", wanted.binary);
            let message = format!("no report of {}{expected}: {seen}", wanted.binary);
            return Err(failed(attempt, claim, &message, vec![state(what, value)]).await);
        }
        attempt.say(format!("waiting for a report of {}{expected} ({seen})", claim.daemon));
        attempt.pause(RECORD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host: &str, version: &str, report_count: u64, age_s: Option<u64>) -> ServiceRecord {
        ServiceRecord {
            binary: "nova-compute".to_owned(),
            host: host.to_owned(),
            version: version.to_owned(),
            report_count,
            age_s,
            disabled: None,
            forced_down: false,
        }
    }

    #[test]
    fn a_record_counts_when_it_advances_at_the_right_version() {
        let mut baseline = BTreeMap::new();
        assert_eq!(judge(&[], Some(72), &mut baseline), Advance::Missing);
        let old = [record("cmp1", "70", 5, Some(3))];
        assert_eq!(judge(&old, Some(72), &mut baseline), Advance::OtherVersion("70".to_owned()));
        // A report that the old process made must not be taken for one of the new process.
        assert!(baseline.is_empty());
        let started = [record("cmp1", "72", 6, Some(9))];
        assert_eq!(judge(&started, Some(72), &mut baseline), Advance::Waiting);
        assert_eq!(judge(&started, Some(72), &mut baseline), Advance::Waiting);
        let reported = [record("cmp1", "72", 7, Some(0))];
        assert!(matches!(judge(&reported, Some(72), &mut baseline), Advance::Seen(_)));
    }

    #[test]
    fn every_fresh_back_end_has_to_report_and_stale_ones_do_not() {
        let mut baseline = BTreeMap::new();
        let read = |a: u64, b: u64| {
            [
                record("c@a", "3.19", a, Some(1)),
                record("c@b", "3.19", b, Some(2)),
                record("c@old", "3.1", 4, Some(9_999)),
            ]
        };
        assert_eq!(judge(&read(1, 1), None, &mut baseline), Advance::Waiting);
        assert_eq!(judge(&read(2, 1), None, &mut baseline), Advance::Waiting);
        assert!(matches!(judge(&read(2, 2), None, &mut baseline), Advance::Seen(_)));
        // With none fresh, all of them have to.
        let mut baseline = BTreeMap::new();
        let stale = [record("c@a", "", 1, None)];
        assert_eq!(judge(&stale, None, &mut baseline), Advance::Waiting);
        assert_eq!(judge(&stale, None, &mut baseline), Advance::Waiting);
    }
}

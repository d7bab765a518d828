//! One API daemon of the new code beside the old one, out of the load balancer: asked the same as
//! the old one, compared, and taken away again.

mod again;
mod compare;
mod kept;
mod replicas;
mod traffic;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;
use volutus_contract::Document;
use volutus_contract::answers::{AnswerDifference, Asked, Body, Comparator, Recorded};
use volutus_contract::extract::{self, Collected};
use volutus_contract::requests::reading;
use volutus_contract::rules::Class;
use volutus_contract::writes::chains;
use volutus_model::contract::Shadow;
use volutus_model::contract::{ContractSeen, Gate, Waiver};
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::Anchor;
use volutus_openstack::ServiceType;

pub(crate) use self::again::ask_again;
use self::compare::{Example, Seen, compare};
use self::kept::file_of;
use self::replicas::{Replicas, forget_reader};
use self::writes::Writer;
use crate::anchor;
use crate::attempt::{Attempt, Attempted, permanent, state, transient};
use crate::channel::{ASK, Channel, Trouble};
use crate::work::safe;

/// What the daemon is called where it writes a service record.
const RECORD_HOST: &str = "volutus-shadow";
/// The daemon ends by itself so long after the attempt's time, should nobody be left to stop it.
const OUTLIVES: Duration = Duration::from_secs(120);
/// Between two looks whether it answers.
const LOOK: Duration = Duration::from_millis(500);
/// Good answers in a row before anything is compared: the first requests of a process load what it
/// needs.
const WARM_ANSWERS: u32 = 8;
/// Differences whose answers go into evidence.
const EXAMPLES_MAX: usize = 3;

#[derive(Deserialize)]
struct Running {
    active: bool,
    log: String,
}

/// A process of ours beside the old replica.
struct Beside<'a> {
    shadow: &'a Shadow,
    /// What it is called on the host.
    kind: String,
    /// Whose code it runs, for people.
    whose: &'static str,
    /// The release directory of its code.
    code: &'a str,
    /// Where it answers.
    url: String,
}

impl<'a> Beside<'a> {
    /// The new code, which is compared.
    fn new_code(shadow: &'a Shadow) -> Self {
        let kind = safe(shadow.daemon.kind.as_str());
        Self { shadow, kind, whose: "new", code: &shadow.to, url: shadow.new.clone() }
    }

    /// Old code in a fresh process that differs from the new code's in nothing else: sets of Python's
    /// come in the same order in both, and in another one in the old replicas.
    fn old_code(shadow: &'a Shadow) -> Self {
        let kind = format!("{}-old", safe(shadow.daemon.kind.as_str()));
        let (host, port) = shadow.new.rsplit_once(':').unwrap_or((&shadow.new, ""));
        let port = port.parse::<u16>().map_or(port.to_owned(), |port| port.wrapping_add(1).to_string());
        Self { shadow, kind, whose: "old", code: &shadow.from, url: format!("{host}:{port}") }
    }
}

/// What the policy says.
pub(crate) struct Terms<'a> {
    /// Of breaking differences, and of answers that cannot be compared.
    pub breaking: Gate,
    /// Of differences that the guideline does not settle.
    pub review: Gate,
    /// Differences that do not count until their end.
    pub waivers: &'a [Waiver],
}

/// What is asked besides every reading operation of the contract.
pub(crate) struct What<'a> {
    /// The load balancer's log that has what the site's clients ask.
    pub traffic: Option<&'a str>,
    /// Whether throw-away objects are made, changed and deleted.
    pub writes: bool,
}

/// Compares the answers of old and new code.
pub(crate) async fn prove(
    attempt: &Attempt<'_>,
    shadow: &Shadow,
    terms: &Terms<'_>,
    what: &What<'_>,
) -> Attempted {
    let seen = measure(attempt, shadow, terms, what).await;
    // Whatever came of it, nothing stays.
    let stopped = take_away(attempt, shadow).await;
    let seen = seen?;
    stopped?;
    match seen {
        Ok(mut seen) => {
            let file = file_of(&attempt.cloud.contract_dir, &attempt.order.run, &shadow.service);
            seen.kept.write(&file).map_err(|error| {
                transient(
                    format!("what the old code answered could not be kept in {}: {error}", file.display()),
                    "see that the state directory can be written to, and resume: it is compared again",
                    vec![],
                )
            })?;
            Ok(judged(shadow, terms, &seen))
        }
        Err(why) if terms.breaking == Gate::Block => Err(permanent(
            format!("the answers of {}'s new code were not compared: {why}", shadow.service),
            format!(
                "mend the cause and resume; or set `{} = \"warn\"` in [contract.services] of the policy, and \
                 plan again: users then meet it unproved",
                shadow.service
            ),
            vec![],
        )),
        Err(why) => Ok(Outcome::done(format!("not compared: {why}"))),
    }
}

/// Takes away what a shadow may have left.
pub(crate) async fn stop(attempt: &Attempt<'_>, shadow: &Shadow) -> Attempted {
    Ok(if take_away(attempt, shadow).await? {
        Outcome::done(format!("the shadow of {} is stopped", shadow.daemon))
    } else {
        Outcome::unchanged(format!("there is no shadow of {}", shadow.daemon))
    })
}

async fn take_away(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<bool, Outcome> {
    let stopped: Result<bool, Trouble> = async {
        let mut channel = Channel::to_host(&attempt.cloud.hosts, &shadow.daemon.host).await?;
        let mut stopped = false;
        for beside in [Beside::new_code(shadow), Beside::old_code(shadow)] {
            stopped |= channel.ask::<bool>("shadow_stop", json!({"kind": beside.kind}), ASK).await?;
        }
        Ok(stopped)
    }
    .await;
    forget_reader(attempt, shadow).await;
    let swept = writes::sweep(attempt, shadow).await;
    let stopped = stopped.map_err(|trouble| trouble.outcome(true))?;
    if let Some(record) = record_of(attempt, shadow)? {
        anchor::release_of(attempt, &record, RECORD_HOST).await?;
    }
    swept?;
    Ok(stopped)
}

/// The service record that the daemon writes at its start, where its service has such.
fn record_of(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<Option<Anchor>, Outcome> {
    let service = attempt.cloud.service(&shadow.service)?;
    Ok(service.anchor.as_ref().map(|facts| Anchor {
        service: shadow.service.clone(),
        host: shadow.daemon.host.clone(),
        python: format!("{}/bin/python3", shadow.to),
        config_files: attempt.cloud.config_files(service),
        object: facts.object.clone(),
        binaries: facts.binaries.clone(),
        version: 0,
    }))
}

/// The inner error says why nothing can be compared here.
async fn measure(
    attempt: &Attempt<'_>,
    shadow: &Shadow,
    terms: &Terms<'_>,
    what: &What<'_>,
) -> Result<Result<Seen, String>, Outcome> {
    let Some(kind) = ServiceType::of_project(shadow.service.as_str()) else {
        return Ok(Err(format!("the contract of {} cannot be read", shadow.service)));
    };
    attempt.say(format!("reading the contract of {}'s old code", shadow.service));
    let document = match contract_of(attempt, shadow).await {
        Ok(document) => document,
        Err(why) => return Ok(Err(why)),
    };
    let mut requests = reading(&document, &BTreeMap::new());
    let mut log = None;
    if let Some(path) = what.traffic {
        attempt.say(format!("reading what clients ask of {} from {path}", shadow.service));
        let services = traffic::services(attempt.cloud);
        match traffic::asked(path, services, &document, shadow.service.as_str()).await {
            Ok((more, told)) => {
                requests.extend(more);
                log = Some(told);
            }
            Err(why) => return Ok(Err(why)),
        }
    }
    let new = Beside::new_code(shadow);
    if let Err(trouble) = start(attempt, &new).await {
        return match trouble {
            Trouble::Refused { why, .. } => Ok(Err(why)),
            connection @ Trouble::Connection(_) => Err(connection.outcome(true)),
        };
    }
    serves(attempt, &new).await?;
    let unasked = |why: String| {
        transient(
            format!("comparing {}'s old and new code broke off: {why}", shadow.service),
            "see whether both daemons answer, and what their logs say; then resume",
            vec![],
        )
    };
    let replicas = Replicas::new(attempt, shadow, kind).await.map_err(unasked)?;
    let comparator = Comparator::new(replicas.origins.clone()).map_err(|error| unasked(error.to_string()))?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let waived = waived(terms.waivers, today);
    attempt.say(format!("{} requests to {}'s old and new code", requests.len(), shadow.service));
    let seen = compare(&replicas, &comparator, requests, &replicas.audiences(), &waived).await;
    let mut seen = seen.map(|seen| Seen { log, ..seen }).map_err(unasked)?;
    let chains = if what.writes && !seen.enough { chains(&document, kind.project()) } else { Vec::new() };
    if !chains.is_empty() {
        attempt.say(format!("{} chains of writing requests to {}'s code", chains.len(), shadow.service));
        // An attempt that broke off may have left something of the same name.
        writes::sweep(attempt, shadow).await?;
        let facts = replicas.facts().await.map_err(unasked)?;
        let (run, waived) = (&attempt.order.run, &waived);
        let writer = Writer { asks: &replicas, comparator: &comparator, run, facts, waived };
        writer.compare(&chains, &mut seen).await.map_err(unasked)?;
    }
    Ok(Ok(seen))
}

/// The differences that are waived on a day.
fn waived(waivers: &[Waiver], today: Date) -> BTreeSet<&str> {
    let valid = waivers.iter().filter(|waiver| waiver.expires >= today);
    valid.map(|waiver| waiver.difference.as_str()).collect()
}

async fn contract_of(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<Document, String> {
    let (name, host) = (shadow.service.as_str(), &shadow.daemon.host);
    let program = extract::served_programs().find(|(of, _)| *of == name);
    let (_, parts) = program.ok_or_else(|| format!("the contract of {name} cannot be read"))?;
    let python = format!("{}/bin/python3", shadow.from);
    let answer = attempt.cloud.ask_release(host, &python, &parts, "contract", extract::SERVICE_TIMEOUT).await;
    let answer = answer.map_err(|error| format!("the contract of {name} on {host}: {error}"))?;
    let mut collected = Collected::default();
    collected.take(name, &python, answer).map_err(|error| error.to_string())?;
    collected.document(host.to_string(), Timestamp::now()).map_err(|error| error.to_string())
}

async fn start(attempt: &Attempt<'_>, beside: &Beside<'_>) -> Result<(), Trouble> {
    let shadow = beside.shadow;
    attempt.say(format!("starting {}'s {} code beside {}", shadow.service, beside.whose, shadow.daemon));
    let mut channel = Channel::to_host(&attempt.cloud.hosts, &shadow.daemon.host).await?;
    let question = json!({
        "kind": beside.kind, "unit": shadow.unit, "before": shadow.from, "after": beside.code,
        "address": beside.url.trim_start_matches("http://"),
        "lifetime_s": (attempt.left() + OUTLIVES).as_secs(),
    });
    channel.ask("shadow_start", question, ASK).await
}

/// Waits until the code answers as it should.
async fn serves(attempt: &Attempt<'_>, beside: &Beside<'_>) -> Result<(), Outcome> {
    let (service, whose) = (&beside.shadow.service, beside.whose);
    let url = format!("{}{}", beside.url, beside.shadow.health);
    let mut good = 0;
    while good < WARM_ANSWERS {
        let answer = match attempt.cloud.operator.authorize(attempt.cloud.http.get(&url)).await {
            Ok(request) => request.send().await.map_err(|error| format!("{error:?}")),
            Err(error) => Err(error.to_string()),
        };
        let last = match answer {
            Ok(answer) if answer.status().is_success() => {
                good += 1;
                continue;
            }
            Ok(answer) => format!("status {}", answer.status().as_u16()),
            Err(error) => error,
        };
        good = 0;
        let running = running(attempt, beside).await.map_err(|trouble| trouble.outcome(true))?;
        if !running.active || attempt.is_over() {
            return Err(permanent(
                format!("{service}'s {whose} code does not serve beside the old: GET {url}: {last}"),
                "read its log below; users have not met it. Mend the cause and resume",
                vec![state("log of the shadow", &running.log)],
            ));
        }
        attempt.say(format!("waiting until {service}'s {whose} code answers ({last})"));
        attempt.pause(LOOK).await;
    }
    Ok(())
}

async fn running(attempt: &Attempt<'_>, beside: &Beside<'_>) -> Result<Running, Trouble> {
    let mut channel = Channel::to_host(&attempt.cloud.hosts, &beside.shadow.daemon.host).await?;
    channel.ask("shadow_seen", json!({"kind": beside.kind}), ASK).await
}

/// Starts the old code in a fresh process, and waits for it; where it answers.
async fn fresh_old_code(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<String, String> {
    let old = Beside::old_code(shadow);
    start(attempt, &old).await.map_err(|trouble| trouble.to_string())?;
    serves(attempt, &old).await.map_err(|outcome| format!("{outcome:?}"))?;
    Ok(old.url)
}

/// The outcome of what was seen, by the policy.
fn judged(shadow: &Shadow, terms: &Terms<'_>, seen: &Seen) -> Outcome {
    let differences = seen.differences.iter().map(|(class, count)| (class_name(*class), *count));
    let contract = ContractSeen {
        service: shadow.service.clone(),
        operations_compared: seen.operations.len() as u64,
        requests_compared: seen.pairs,
        writes_compared: seen.writes,
        differences: differences.collect(),
    };
    let (breaking, review) = (seen.count(Class::Breaking), seen.count(Class::Review));
    let mut evidence = vec![Evidence::Contract(contract)];
    let shown =
        seen.told(Class::Breaking).chain(seen.told(Class::Review).filter(|_| terms.review != Gate::Off));
    for example in of_each_rule_first(shown).into_iter().take(EXAMPLES_MAX) {
        evidence.extend(pieces(shadow, example));
    }
    let counts = format!(
        "{} requests to {} operations and {} of throw-away objects compared, {breaking} breaking differences, \
         {review} to review, {} waived{}{}{}",
        seen.pairs,
        seen.operations.len(),
        seen.writes,
        seen.waived,
        if seen.enough { "; the rest was not compared, since so much is broken" } else { "" },
        seen.log.as_ref().map_or_else(String::new, |log| format!("; {log}")),
        seen.unwritten.iter().fold(String::new(), |text, why| format!("{text}; {why}"))
    );
    let blocks = |count: u64, gate: Gate| count > 0 && gate == Gate::Block;
    if blocks(breaking, terms.breaking) || blocks(review, terms.review) && terms.breaking == Gate::Block {
        let class = if breaking > 0 { Class::Breaking } else { Class::Review };
        let first = seen.told(class).next().map(sentence).unwrap_or_default();
        return permanent(
            format!("{}'s new code does not keep the API contract: {first}. {counts}", shadow.service),
            "users have not met it. Have the release mended and staged anew, and plan again; or, where a \
             difference does no harm here, waive its id in [[contract.waiver]] of the policy",
            evidence,
        );
    }
    let first = seen.told(Class::Breaking).next().map(|example| format!("; first: {}", sentence(example)));
    Outcome::Done { detail: format!("{counts}{}", first.unwrap_or_default()), evidence }
}

/// In an order in which the first ones tell as many different things as there are.
fn of_each_rule_first<'a>(examples: impl Iterator<Item = &'a Example>) -> Vec<&'a Example> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, &Example)> = examples
        .map(|example| {
            let before = times.entry(&example.difference.rule).or_default();
            *before += 1;
            (*before, example)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, example)| example).collect()
}

fn class_name(class: Class) -> String {
    let text = serde_json::to_value(class).ok();
    text.as_ref().and_then(serde_json::Value::as_str).unwrap_or("review").to_owned()
}

/// A difference in one sentence: request, place, both values, rule.
fn sentence(example: &Example) -> String {
    in_sentence(&example.id, &example.asked, &example.difference)
}

fn in_sentence(id: &str, asked: &Asked, difference: &AnswerDifference) -> String {
    let version = asked.microversion.map_or_else(String::new, |version| format!(" at {version}"));
    format!(
        "{} of {}{version} as {:?}: {} was {}, is {} ({}: {}; id {id})",
        asked.operation,
        asked.service,
        asked.audience,
        difference.location,
        difference.old,
        difference.new,
        difference.rule,
        difference.why
    )
}

fn pieces(shadow: &Shadow, example: &Example) -> [Evidence; 3] {
    let method = example.asked.operation.split(' ').next().unwrap_or_default();
    let sent = example.body.as_ref().map_or_else(String::new, |body| format!(" {body}"));
    let answer = |base: &str, recorded: &Recorded| Evidence::Http {
        request: format!("{method} {base} … {}{sent}", example.asked.path),
        status: Some(recorded.status),
        body: beginning(&recorded.body),
    };
    [
        state("difference", sentence(example)),
        answer(&format!("(old) {}", shadow.old), &example.old),
        answer(&format!("(new) {}", shadow.new), &example.new),
    ]
}

/// The beginning of a body, for evidence.
fn beginning(body: &Body) -> String {
    match body {
        Body::Empty => String::new(),
        Body::Json(value) => value.to_string().chars().take(1_000).collect(),
        Body::Text(text) => text.chars().take(1_000).collect(),
    }
}

//! Mutations of the installed new release: each breaks the API contract on purpose, and the gate has to
//! halt the run before a user meets it.

mod list;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use self::list::{MUTATIONS, Mutation};
use crate::bad_input::text_at;
use crate::upgrade::{all_on, bring_back_silent_daemons, nothing_left_drained, runs_everywhere};
use crate::way_back::approved_under;
use crate::world::{Lab, World};

/// The release that is mutated, as the lab's hosts see it; it is shared by all labs, so that what is
/// changed is laid over it in one host.
const PACKAGES: &str = "/srv/releases/2026.1/lib/python3.11/site-packages";
/// Where changed copies lie on the host.
const COPIES: &str = "/var/lib/volutus-lab-mutated";

/// Copies a module with texts replaced. A text that does not stand there exactly once is an error: the
/// mutation would be another one than is told, or none.
const REPLACE: &str = r"
import pathlib, sys
path, copy = sys.argv[1:3]
text = pathlib.Path(path).read_text()
for old, new in zip(sys.argv[3::2], sys.argv[4::2]):
    if text.count(old) != 1:
        sys.exit('%d times in %s: %r' % (text.count(old), path, old))
    text = text.replace(old, new)
compile(text, path, 'exec')
pathlib.Path(copy).write_text(text)
";

const POLICY: &str = "baseline_s = 0\nsoak_s = 0\n\n[contract]\ngate = \"block\"\n";

/// Every mutation halts the run, with the request, both answers and the rule; without any the same run
/// goes to its end, and no user has noticed.
pub fn every_mutation_is_caught(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let (policy, plan) = approved_under(lab, POLICY)?;
    let mut trial = Trial::new(lab, &policy, &plan)?;
    let services = trial.left.keys().copied().collect::<Vec<_>>();
    for service in services {
        trial.lay(service)?;
    }
    let mut command = vec!["run".to_owned(), plan];
    let mut round = 0;
    while !trial.left.is_empty() {
        round += 1;
        let start = Instant::now();
        let words: Vec<&str> =
            ["--policy", &policy].into_iter().chain(command.iter().map(String::as_str)).collect();
        let ran = lab.volutus(&words)?;
        println!(
            "round {round}: `volutus {}` ended with {} after {} s",
            command[0],
            ran.code,
            start.elapsed().as_secs()
        );
        ensure!(matches!(ran.code, 0 | 5), "exit code {}:\n{}\n{}", ran.code, ran.stdout, ran.stderr);
        let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
        let again =
            trial.judge(&status).with_context(|| format!("after:\n{}\n{}", ran.stdout, ran.stderr))?;
        ensure!(ran.code == 5 || trial.left.is_empty(), "the upgrade went to its end before all was tried");
        command = if again {
            // What was missed is compared, and its step done: the rest of that service needs a new run.
            lab.volutus(&["abort"])?.expect(0, &[])?;
            let (_, plan) = approved_under(lab, POLICY)?;
            vec!["run".to_owned(), plan]
        } else {
            vec!["resume".to_owned()]
        };
    }
    println!("figures: mutations caught {}/{}", trial.caught, chosen().count());
    let words: Vec<&str> =
        ["--policy", &policy].into_iter().chain(command.iter().map(String::as_str)).collect();
    lab.volutus(&words)?.expect(0, &["verdict: ", "API contract: held"])?;
    all_on(lab, "2026.1", "33.")?;
    let contract = &runs_everywhere(lab, "2026.1", "33.")?["api_contract"];
    println!("API contract without a mutation: {contract}");
    ensure!(contract["result"] == "held", "{contract}");
    nothing_left_drained(lab)?;
    ensure!(trial.missed.is_empty(), "not caught:\n{}", trial.missed.join("\n"));
    Ok(())
}

/// All mutations; for working on some, those of which one of the texts in `VOLUTUS_E2E_MUTATIONS`, separated by
/// commas, is in service and file.
fn chosen() -> impl Iterator<Item = &'static Mutation> {
    let only = std::env::var("VOLUTUS_E2E_MUTATIONS").ok();
    MUTATIONS.iter().filter(move |mutation| {
        let place = format!("{} {} {}", mutation.service, mutation.file, mutation.what);
        only.as_ref().is_none_or(|only| only.split(',').any(|text| place.contains(text)))
    })
}

/// What is still to be tried, and what came of the rest.
struct Trial<'a> {
    lab: &'a Lab<'a>,
    /// Mutations by service; the first of each is laid over the release.
    left: BTreeMap<&'static str, VecDeque<&'static Mutation>>,
    /// Where each service's new code is shadowed.
    hosts: BTreeMap<&'static str, String>,
    /// Attempts that were judged already.
    judged: BTreeSet<String>,
    caught: usize,
    missed: Vec<String>,
}

impl<'a> Trial<'a> {
    fn new(lab: &'a Lab<'a>, policy: &str, plan: &str) -> anyhow::Result<Self> {
        let plan = lab
            .volutus(&["--policy", policy, "plan", "show", plan, "--output", "json"])?
            .expect(0, &[])?
            .json()?;
        let mut left: BTreeMap<&'static str, VecDeque<&'static Mutation>> = BTreeMap::new();
        for mutation in chosen() {
            left.entry(mutation.service).or_default().push_back(mutation);
        }
        let mut hosts = BTreeMap::new();
        for service in left.keys() {
            hosts.insert(*service, shadowed_on(&plan, service)?);
        }
        ensure!(!left.is_empty(), "VOLUTUS_E2E_MUTATIONS names no mutation");
        Ok(Self { lab, left, hosts, judged: BTreeSet::new(), caught: 0, missed: Vec::new() })
    }

    /// Lays the next mutation of a service over the release, where there is one.
    fn lay(&self, service: &str) -> anyhow::Result<()> {
        let Some(mutation) = self.left.get(service).and_then(VecDeque::front) else { return Ok(()) };
        let (file, copy) = (format!("{PACKAGES}/{}", mutation.file), format!("{COPIES}/{service}.py"));
        let texts = mutation.changes.iter().flat_map(|(old, new)| [*old, *new]).map(quoted);
        let shell = format!(
            "set -e; mkdir -p {COPIES}; python3 -c {} {file} {copy} {}; mount --bind {copy} {file}",
            quoted(REPLACE),
            texts.collect::<Vec<_>>().join(" ")
        );
        let what = format!("{service}: {}", mutation.what);
        self.lab.exec(&self.hosts[service], &shell)?.expect(0, &[]).with_context(|| what)?;
        Ok(())
    }

    /// Takes it away again.
    fn lift(&self, service: &str, mutation: &Mutation) -> anyhow::Result<()> {
        let shell = format!("umount {PACKAGES}/{}", mutation.file);
        self.lab.exec(&self.hosts[service], &shell)?.expect(0, &[])?;
        Ok(())
    }

    /// Judges what the run has seen, and lays the next mutations. Whether a new run is needed.
    fn judge(&mut self, status: &Value) -> anyhow::Result<bool> {
        let (mut moved, mut again) = (false, false);
        let services = self.left.keys().copied().collect::<Vec<_>>();
        for service in services {
            let mutation = self.left[service][0];
            let Some((attempt, outcome)) = last_attempt(status, service)? else { continue };
            if !self.judged.insert(attempt) {
                continue;
            }
            moved = true;
            let told = format!("{service}: {} ({})", mutation.what, mutation.file);
            match evidence(&outcome, mutation) {
                Ok(difference) => {
                    self.caught += 1;
                    println!("caught {told}: {difference}");
                }
                Err(why) => {
                    println!("MISSED {told}: {why}");
                    self.missed.push(format!("{told}: {why}"));
                }
            }
            self.lift(service, mutation)?;
            let rest = self.left.get_mut(service).context("no such service")?;
            rest.pop_front();
            if rest.is_empty() {
                self.left.remove(service);
            } else {
                again |= outcome["outcome"] != "failed";
                self.lay(service)?;
            }
        }
        if !moved {
            bail!("nothing was compared: {status}");
        }
        Ok(again)
    }
}

/// The host on which a plan shadows a service.
fn shadowed_on(plan: &Value, service: &str) -> anyhow::Result<String> {
    let stages = plan["stages"].as_array().context("the plan has no stages")?;
    let steps = stages.iter().filter_map(|stage| stage["steps"].as_array()).flatten();
    let step = steps.into_iter().find(|step| step["id"] == format!("shadow/{service}"));
    let step = step.with_context(|| format!("the plan does not compare {service}"))?;
    let actions = step["actions"].as_array().context("the step does nothing")?;
    let shadow = actions.iter().find(|action| action["action"] == "shadow-api");
    let daemon = text_at(shadow.context("the step compares nothing")?, &["daemon"])?;
    Ok(daemon.rsplit('@').next().unwrap_or_default().to_owned())
}

/// Id and outcome of the last finished attempt at comparing a service.
pub fn last_attempt(status: &Value, service: &str) -> anyhow::Result<Option<(String, Value)>> {
    let attempts = status["state"]["attempts"].as_object().context("no attempts")?;
    let step = format!("shadow/{service}");
    let own = attempts.iter().filter(|(_, attempt)| {
        attempt["step"] == step && attempt["list"] == "actions" && !attempt["outcome"].is_null()
    });
    let last = own.max_by_key(|(_, attempt)| attempt["number"].as_u64());
    Ok(last.map(|(id, attempt)| (id.clone(), attempt["outcome"].clone())))
}

/// The difference that tells of a mutation: with the rule, the request, and both answers.
fn evidence(outcome: &Value, mutation: &Mutation) -> anyhow::Result<String> {
    ensure!(outcome["outcome"] == "failed", "it was let through: {}", outcome["detail"]);
    let message = text_at(outcome, &["message"])?;
    ensure!(message.contains("does not keep the API contract"), "it failed otherwise: {message}");
    let pieces = outcome["evidence"].as_array().context("no evidence")?;
    let contract = pieces.iter().find(|piece| piece["kind"] == "contract").context("no figures")?;
    ensure!(contract["differences"]["breaking"].as_u64() > Some(0), "{contract}");
    let differences: Vec<&[Value]> =
        pieces.windows(3).filter(|three| three[0]["what"] == "difference").collect();
    for three in &differences {
        let difference = text_at(&three[0], &["value"])?;
        if !(difference.contains(mutation.rule) && difference.contains(mutation.at)) {
            continue;
        }
        for (answer, side) in three[1..].iter().zip(["(old)", "(new)"]) {
            ensure!(text_at(answer, &["request"])?.contains(side), "no answer of {side}: {answer}");
            ensure!(answer["status"].is_u64() && answer["body"].is_string(), "no answer: {answer}");
        }
        return Ok(difference.chars().take(240).collect());
    }
    let others: Vec<&Value> = differences.iter().map(|three| &three[0]["value"]).collect();
    bail!("what was told is none of {} about {}: {others:?}", mutation.rule, mutation.at)
}

/// Text as one word of a shell.
fn quoted(text: impl AsRef<str>) -> String {
    format!("'{}'", text.as_ref().replace('\'', "'\\''"))
}

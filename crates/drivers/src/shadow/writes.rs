//! Writing requests to old and new code, each about throw-away objects of its own, and what differs
//! between their answers. Whatever is made is deleted again through the code that made it; what that
//! leaves has a name by which it is swept.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use serde_json::Value;
use volutus_contract::answers::{Asked, Comparator, Compared, Noise, Recorded};
use volutus_contract::diff::Audience;
use volutus_contract::rules::Class;
use volutus_contract::writes::{Bindings, Chain, Made, alike};
use volutus_model::contract::Shadow;
use volutus_model::name::RunId;
use volutus_model::outcome::Outcome;
use volutus_openstack::{ServiceType, THROWAWAY};

use super::compare::{BREAKING_ENOUGH, PAUSE, Seen, Side};
use crate::attempt::{Attempt, transient};
use crate::work::safe;

/// Rounds in which a chain is gone through again by both where they differ. A chain has at most ten
/// requests about objects that nobody else knows, so that little varies by itself.
const WRITE_ROUNDS: u32 = 3;
/// A deletion may fail for a moment while others work on the same; so often the sweep is tried.
const SWEEPS: u32 = 3;

/// One request of a chain.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub asked: Asked,
    pub method: &'static str,
    /// The body with its media type.
    pub body: Option<(&'static str, Value)>,
}

/// Whoever sends writing requests to the daemons.
pub(super) trait Writes: Sync {
    /// One request to one of them, once.
    ///
    /// # Errors
    /// Why no whole answer came, or why none is asked for any more.
    fn send<'a>(&'a self, side: Side, sent: &'a Sent) -> BoxFuture<'a, Result<Recorded, String>>;
}

/// One request that was answered.
struct Done {
    sent: Sent,
    /// Without what is another one in each chain.
    answer: Recorded,
}

/// Goes through the chains.
pub(super) struct Writer<'a> {
    pub asks: &'a dyn Writes,
    pub comparator: &'a Comparator,
    pub run: &'a RunId,
    /// `user_id` and `until`.
    pub facts: Bindings,
    pub waived: &'a BTreeSet<&'a str>,
}

impl Writer<'_> {
    /// Goes through each chain with the old code twice, which tells what varies by itself, and once with
    /// the new; where they differ, again in rounds. What stays different in all of them is a difference.
    ///
    /// # Errors
    /// Why it could not be gone on with; what was made is deleted then as well.
    pub async fn compare(&self, chains: &[Chain], seen: &mut Seen) -> Result<(), String> {
        let mut noise = Noise::default();
        let mut number = 0;
        for chain in chains {
            if seen.told(Class::Breaking).count() >= BREAKING_ENOUGH {
                seen.enough = true;
                return Ok(());
            }
            let mut old = self.through(chain, Side::Old, &mut number).await?;
            let again = self.through(chain, Side::Old, &mut number).await?;
            self.learn(&mut noise, &old, &again);
            let mut new = self.through(chain, Side::New, &mut number).await?;
            let mut compared = self.pairs(&old, &new, &noise);
            for round in 1..=WRITE_ROUNDS {
                if compared.iter().all(|compared| compared.differences.is_empty()) {
                    break;
                }
                tokio::time::sleep(PAUSE * round).await;
                for side in [Side::AnyOld, Side::Old] {
                    let again = self.through(chain, side, &mut number).await?;
                    self.learn(&mut noise, &old, &again);
                    if side == Side::Old {
                        old = again;
                    }
                }
                new = self.through(chain, Side::New, &mut number).await?;
                let now = self.pairs(&old, &new, &noise);
                compared = compared.iter().zip(now).map(|(earlier, now)| earlier.standing(now)).collect();
            }
            if let Some(last) = old.last().filter(|_| old.len() < chain.steps.len()) {
                seen.unwritten.push(format!(
                    "the old code answers {} {}, so that what follows it was not asked",
                    last.sent.asked.operation, last.answer.status
                ));
            }
            for ((was, is), compared) in old.into_iter().zip(new).zip(compared) {
                let body = was.sent.body.map(|(_, body)| body);
                let answers = (was.answer, is.answer);
                seen.take_written(&was.sent.asked, body, answers, compared, self.waived);
            }
        }
        Ok(())
    }

    fn learn(&self, noise: &mut Noise, first: &[Done], second: &[Done]) {
        for (was, is) in first.iter().zip(second) {
            noise.learn(self.comparator, &was.sent.asked, &was.answer, &is.answer);
        }
    }

    fn pairs(&self, old: &[Done], new: &[Done], noise: &Noise) -> Vec<Compared> {
        let compare = |(was, is): (&Done, &Done)| {
            self.comparator.compare(&was.sent.asked, &was.answer, &is.answer, noise)
        };
        old.iter().zip(new).map(compare).collect()
    }

    /// Goes through a chain to its end, or to where something could not be made that the rest needs; and
    /// deletes what is still there then.
    async fn through(&self, chain: &Chain, side: Side, number: &mut u32) -> Result<Vec<Done>, String> {
        *number += 1;
        let mut bindings = self.facts.clone();
        // Names of keypairs have no dots at low microversions.
        let run = safe(self.run.as_str()).replace('.', "-");
        bindings.insert("name", format!("{THROWAWAY}{run}-{number}"));
        let mut there: BTreeMap<String, Made> = BTreeMap::new();
        let done = self.steps(chain, side, &mut bindings, &mut there).await;
        // What was made last goes first: a rule before its group.
        let mut left: Vec<(String, Made)> = there.into_iter().collect();
        left.sort_by_key(|(_, made)| {
            std::cmp::Reverse(chain.steps.iter().position(|s| s.makes == Some(*made)))
        });
        for (path, made) in left {
            self.delete(chain, side, path, made).await;
        }
        done
    }

    async fn steps(
        &self,
        chain: &Chain,
        side: Side,
        bindings: &mut Bindings,
        there: &mut BTreeMap<String, Made>,
    ) -> Result<Vec<Done>, String> {
        let mut done = Vec::new();
        let mut gone: BTreeMap<String, Made> = BTreeMap::new();
        for step in &chain.steps {
            let Some(path) = step.path(bindings) else { break };
            let asked = asked(chain, step.operation(chain.service), path.clone());
            let body = step.body(bindings).map(|body| (step.media, body));
            let sent = Sent { asked, method: step.method, body };
            let answer = self.asks.send(side, &sent).await?;
            let found = (200..300).contains(&answer.status);
            match (&step.makes, step.method) {
                (Some(made), _) if found => {
                    if let Some(id) = made.id_in(&answer) {
                        bindings.insert(made.hole, id);
                        there.extend(made.place(bindings).map(|place| (place, *made)));
                    }
                }
                (_, "DELETE") if found || answer.status == 404 => {
                    gone.extend(there.remove(&path).map(|made| (path, made)));
                }
                // A deletion that was answered well, and did nothing.
                (_, "GET") if found => there.extend(gone.remove(&path).map(|made| (path, made))),
                _ => {}
            }
            done.push(Done { sent, answer: alike(answer, bindings) });
        }
        Ok(done)
    }

    /// Deletes through the code that made it, and through the old where that does not; the sweep at the
    /// end does what neither did.
    async fn delete(&self, chain: &Chain, side: Side, path: String, made: Made) {
        let sent =
            Sent { asked: asked(chain, format!("DELETE {}", made.path), path), method: "DELETE", body: None };
        for side in [side, Side::Old] {
            if let Ok(answer) = self.asks.send(side, &sent).await
                && ((200..300).contains(&answer.status) || answer.status == 404)
            {
                return;
            }
        }
    }
}

fn asked(chain: &Chain, operation: String, path: String) -> Asked {
    Asked {
        service: chain.service.to_owned(),
        operation,
        path,
        microversion: chain.microversion,
        audience: Audience::Member,
    }
}

/// Deletes throw-away objects of the service that are left, of whichever attempt, through what serves
/// users.
pub(super) async fn sweep(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<(), Outcome> {
    let Some(kind) = ServiceType::of_project(shadow.service.as_str()) else { return Ok(()) };
    let mut why = String::new();
    for round in 1..=SWEEPS {
        match attempt.cloud.prober.sweep_throwaways(Some(kind)).await {
            Ok(found) => {
                if !found.is_empty() {
                    attempt.say(format!("deleted what was made to compare writing: {}", found.join(", ")));
                }
                return Ok(());
            }
            Err(error) => why = error.to_string(),
        }
        tokio::time::sleep(PAUSE * round).await;
    }
    Err(transient(
        format!("what was made to compare writing requests of {} may still be there: {why}", shadow.service),
        format!(
            "resume: it is swept then; or delete what is called `{THROWAWAY}…` in the synthetic user's project"
        ),
        vec![],
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;
    use volutus_contract::answers::Body;
    use volutus_contract::document::{Document, Origin, OriginKind};
    use volutus_contract::writes::chains;

    use super::super::compare::Example;
    use super::*;

    /// Spoils an answer of the new code.
    type Spoil = fn(&Sent, &mut Recorded);

    /// A neutron that has the objects of all sides in one database.
    struct Pretended {
        objects: Mutex<(u32, BTreeMap<String, Value>)>,
        /// Which side deleted what.
        deleted: Mutex<Vec<(Side, String)>>,
        spoil: Spoil,
    }

    impl Pretended {
        fn answer(&self, side: Side, sent: &Sent) -> Recorded {
            let mut objects = self.objects.lock().unwrap();
            let path = sent.asked.path.split('?').next().unwrap().to_owned();
            let collection = path.split('/').nth(1).unwrap().to_owned();
            let key = collection.trim_end_matches('s').replace('-', "_");
            let body = sent.body.as_ref().map(|(_, body)| body[&key].clone());
            let with = |status, body| Recorded { status, headers: BTreeMap::new(), body };
            match sent.method {
                "POST" => {
                    objects.0 += 1;
                    let id = format!("00000000-0000-0000-0000-{:012}", objects.0);
                    let mut one = body.unwrap();
                    one["id"] = id.clone().into();
                    one["created_at"] = format!("2026-11-26T08:00:{:02}Z", objects.0 % 60).into();
                    one["number"] = objects.0.into();
                    objects.1.insert(format!("{path}/{id}"), one.clone());
                    with(201, Body::Json(json!({key: one})))
                }
                "DELETE" => {
                    self.deleted.lock().unwrap().push((side, path.clone()));
                    with(if objects.1.remove(&path).is_some() { 204 } else { 404 }, Body::Empty)
                }
                "GET" if path.matches('/').count() == 1 => {
                    let name = sent.asked.path.split("?name=").nth(1).unwrap();
                    let of =
                        |(place, one): &(&String, &Value)| place.starts_with(&path) && one["name"] == name;
                    let found: Vec<Value> = objects.1.iter().filter(of).map(|(_, one)| one.clone()).collect();
                    with(200, Body::Json(json!({collection: found})))
                }
                _ => match objects.1.get_mut(&path) {
                    None => with(404, Body::Json(json!({"NeutronError": {"message": path}}))),
                    Some(one) => {
                        for (field, value) in body.iter().filter_map(Value::as_object).flatten() {
                            one[field] = value.clone();
                        }
                        with(200, Body::Json(json!({key: one.clone()})))
                    }
                },
            }
        }
    }

    impl Writes for Pretended {
        fn send<'a>(&'a self, side: Side, sent: &'a Sent) -> BoxFuture<'a, Result<Recorded, String>> {
            let mut answer = self.answer(side, sent);
            if side == Side::New {
                (self.spoil)(sent, &mut answer);
            }
            Box::pin(async move {
                if answer.status == 999 { Err("the connection broke".to_owned()) } else { Ok(answer) }
            })
        }
    }

    fn neutron() -> Vec<Chain> {
        let origin = Origin {
            kind: OriginKind::Installed,
            of: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            python: None,
        };
        chains(&Document::new(origin, BTreeMap::new()), "neutron")
    }

    async fn written(spoil: Spoil) -> (Result<Seen, String>, Pretended) {
        let asks = Pretended { objects: Mutex::default(), deleted: Mutex::default(), spoil };
        let comparator = Comparator::new(Vec::new()).unwrap();
        let (run, mut seen) = (RunId::new("run.1").unwrap(), Seen::default());
        let facts = [("user_id", "u".to_owned()), ("until", "2026-11-26T08:00:00".to_owned())].into();
        let waived = BTreeSet::new();
        let writer = Writer { asks: &asks, comparator: &comparator, run: &run, facts, waived: &waived };
        let result = writer.compare(&neutron(), &mut seen).await;
        (result.map(|()| seen), asks)
    }

    fn left(asks: &Pretended) -> Vec<String> {
        asks.objects.lock().unwrap().1.keys().cloned().collect()
    }

    fn found(seen: &Seen) -> Vec<&Example> {
        seen.examples.values().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn equal_answers_have_no_difference_and_nothing_is_left() {
        let (seen, asks) = written(|_, _| {}).await;
        let seen = seen.unwrap();
        assert_eq!((seen.writes, seen.pairs), (19, 0));
        assert_eq!(seen.differences, BTreeMap::new(), "{:?}", seen.examples);
        assert!(seen.unwritten.is_empty() && seen.kept.exchanges.is_empty(), "nothing of it is asked again");
        assert_eq!(left(&asks), Vec::<String>::new());
        assert_eq!(
            asks.objects.lock().unwrap().0,
            12,
            "two chains, twice by the old code and once by the new"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_field_that_a_creation_lost_is_found_with_the_request_and_both_answers() {
        let (seen, asks) = written(|sent, answer| {
            if let (true, Body::Json(body)) = (sent.asked.operation == "POST /networks", &mut answer.body) {
                body["network"].as_object_mut().unwrap().remove("admin_state_up");
                body["network"]["created_at"] = Value::Null;
            }
        })
        .await;
        let seen = seen.unwrap();
        let rules: BTreeSet<(&str, &str)> = found(&seen)
            .iter()
            .map(|one| (one.difference.rule.as_str(), one.difference.location.as_str()))
            .collect();
        let expected =
            [("field-removed", "network.admin_state_up"), ("became-null", "network.created_at")].into();
        assert_eq!(rules, expected);
        let one = found(&seen)[0];
        assert_eq!(one.body.as_ref().unwrap()["network"]["admin_state_up"], true);
        assert!(one.old.body != one.new.body && one.old.status == 201);
        assert_eq!(left(&asks), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_fails_is_found_and_made_up_for() {
        let (seen, asks) = written(|sent, answer| {
            if sent.asked.operation == "DELETE /networks/{network}" {
                answer.status = 202;
            }
        })
        .await;
        let seen = seen.unwrap();
        let example = found(&seen)[0];
        assert_eq!((example.old.status, example.new.status), (204, 202));
        assert_eq!((found(&seen).len(), example.difference.class), (1, Class::Breaking));
        assert_eq!(left(&asks), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_that_fails_is_found_and_everything_is_deleted_by_the_side_that_made_it() {
        let (seen, asks) = written(|sent, answer| {
            if sent.method == "PUT" && sent.asked.path.starts_with("/security-groups/") {
                answer.status = 500;
            }
        })
        .await;
        let seen = seen.unwrap();
        let example = found(&seen)[0];
        assert_eq!((example.difference.rule.as_str(), example.new.status), ("server-error", 500));
        assert_eq!(left(&asks), Vec::<String>::new());
        let deleted = asks.deleted.lock().unwrap();
        assert!(
            deleted.iter().any(|(side, path)| *side == Side::New && path.starts_with("/security-groups/"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_before_a_connection_broke_is_deleted() {
        let (seen, asks) = written(|sent, answer| {
            if sent.method == "PUT" || sent.method == "DELETE" {
                answer.status = 999;
            }
        })
        .await;
        assert!(seen.unwrap_err().contains("broke"));
        // The new code deleted it and broke then; the old is asked as well.
        assert_eq!(left(&asks), Vec::<String>::new());
        assert_eq!(asks.deleted.lock().unwrap().last().unwrap().0, Side::Old);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_answer_names_is_left_with_a_name_by_which_it_is_swept() {
        let (seen, asks) = written(|sent, answer| {
            if sent.asked.operation == "POST /networks" {
                *answer = Recorded { status: 500, headers: BTreeMap::new(), body: Body::Empty };
            }
        })
        .await;
        assert_eq!(found(&seen.unwrap())[0].difference.rule, "server-error");
        let objects = asks.objects.lock().unwrap();
        let names: Vec<&str> = objects.1.values().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names.len(), 1 + WRITE_ROUNDS as usize, "made by the new code each time: {names:?}");
        assert!(names.iter().all(|name| name.starts_with(THROWAWAY)), "{names:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_that_both_refuse_ends_its_chain_and_is_said() {
        let refusing = Refusing;
        let comparator = Comparator::new(Vec::new()).unwrap();
        let (run, waived, mut seen) = (RunId::new("r").unwrap(), BTreeSet::new(), Seen::default());
        let facts = Bindings::new();
        let writer = Writer { asks: &refusing, comparator: &comparator, run: &run, facts, waived: &waived };
        writer.compare(&neutron(), &mut seen).await.unwrap();
        assert_eq!((seen.writes, seen.differences.len()), (2, 0));
        assert!(seen.unwritten[0].contains("POST /security-groups 403"), "{:?}", seen.unwritten);
    }

    struct Refusing;

    impl Writes for Refusing {
        fn send<'a>(&'a self, _: Side, _: &'a Sent) -> BoxFuture<'a, Result<Recorded, String>> {
            Box::pin(async { Ok(Recorded { status: 403, headers: BTreeMap::new(), body: Body::Empty }) })
        }
    }
}

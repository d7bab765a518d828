//! What serves users now is asked the same as the old code was before them, and the outlines of the
//! answers are compared. Users went on working in between, so that what is no longer there is left out,
//! and only what stays different in every round is a difference.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use volutus_contract::answers::{AnswerDifference, Asked, Body, Comparator, Recorded};
use volutus_contract::diff::Audience;
use volutus_contract::requests::{is_listed, objects_in};
use volutus_contract::rules::Class;
use volutus_model::contract::{AskedAgain, Gate, Shadow};
use volutus_model::outcome::{Evidence, Outcome};
use volutus_openstack::ServiceType;

use super::compare::{Asks, BREAKING_ENOUGH, PAUSE, ROUNDS, Side, id_of};
use super::kept::{Exchange, Kept, file_of};
use super::replicas::{Replicas, forget_reader};
use super::{EXAMPLES_MAX, Terms, class_name, in_sentence, waived};
use crate::attempt::{Attempt, Attempted, permanent, state, transient};

/// Lists that are asked whether they still have an object; the same at other microversions or with
/// other queries.
const LISTS_MAX: usize = 3;

/// A difference that nobody has been told of.
#[derive(Debug, Clone)]
struct Example {
    asked: Asked,
    difference: AnswerDifference,
    now: Recorded,
}

/// What was seen.
#[derive(Debug, Default)]
struct SeenAgain {
    operations: BTreeSet<String>,
    pairs: u64,
    differences: BTreeMap<Class, u64>,
    examples: BTreeMap<String, Example>,
    known: u64,
    gone: u64,
    /// Requests that nobody could make, by whom they were made before.
    unasked: BTreeMap<Audience, u64>,
    /// Requests whose answer differs.
    different: u64,
    /// Whether it was not gone on, because enough was broken.
    enough: bool,
}

/// Asks again.
pub(crate) async fn ask_again(attempt: &Attempt<'_>, shadow: &Shadow, terms: &Terms<'_>) -> Attempted {
    let file = file_of(&attempt.cloud.contract_dir, &attempt.order.run, &shadow.service);
    let kept = match Kept::read(&file) {
        Ok(kept) => kept,
        // Nothing brings it back, so that halting would help nobody.
        Err(why) => return Ok(not_compared(shadow, why)),
    };
    let seen = measure(attempt, shadow, terms, &kept).await;
    forget_reader(attempt, shadow).await;
    match seen {
        Ok(seen) => Ok(judged(shadow, terms, &seen)),
        Err(why) if terms.breaking == Gate::Block => Err(transient(
            format!("asking {} again what its old code was asked broke off: {why}", shadow.service),
            "see whether it answers, and what its logs say; then resume",
            vec![],
        )),
        Err(why) => Ok(not_compared(shadow, why)),
    }
}

async fn measure(
    attempt: &Attempt<'_>,
    shadow: &Shadow,
    terms: &Terms<'_>,
    kept: &Kept,
) -> Result<SeenAgain, String> {
    let kind = ServiceType::of_project(shadow.service.as_str())
        .ok_or_else(|| format!("{} has no API that is known", shadow.service))?;
    let replicas = Replicas::new(attempt, shadow, kind).await?;
    let comparator = Comparator::new(replicas.origins.clone()).map_err(|error| error.to_string())?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let waived = waived(terms.waivers, today);
    attempt.say(format!("{} requests to {} as before the upgrade", kept.exchanges.len(), shadow.service));
    again(&replicas, &comparator, kept, &replicas.audiences(), &waived).await
}

/// # Errors
/// Why it could not be gone on with.
async fn again(
    asks: &dyn Asks,
    comparator: &Comparator,
    kept: &Kept,
    users: &[Audience],
    waived: &BTreeSet<&str>,
) -> Result<SeenAgain, String> {
    let mut seen = SeenAgain::default();
    'requests: for Exchange { asked, answer: before } in &kept.exchanges {
        if !users.contains(&asked.audience) {
            *seen.unasked.entry(asked.audience).or_default() += 1;
            continue;
        }
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut standing: Option<BTreeMap<String, Example>> = None;
        if seen.told(Class::Breaking).count() >= BREAKING_ENOUGH {
            seen.enough = true;
            break;
        }
        for round in 0..=ROUNDS {
            tokio::time::sleep(PAUSE * round).await;
            let now = asks.ask(Side::Users, asked).await?;
            if before.status < 400 && now.status == 404 && is_gone(asks, kept, asked).await? {
                seen.gone += 1;
                continue 'requests;
            }
            let compared = comparator.compare_outlines(asked, before, &comparator.outline(&now), &kept.noise);
            let mut found = BTreeMap::new();
            let of_code = |one: &AnswerDifference| !kept.balancer.contains(&one.location);
            for difference in compared.differences.into_iter().filter(of_code) {
                let id = id_of(asked, &difference);
                if kept.known.contains(&id) || waived.contains(id.as_str()) {
                    known.insert(id);
                } else {
                    found.insert(id, Example { asked: asked.clone(), difference, now: now.clone() });
                }
            }
            let still = match standing {
                None => found,
                Some(earlier) => found.into_iter().filter(|(id, _)| earlier.contains_key(id)).collect(),
            };
            // What was made sure of once is not chance the next time.
            let is_over = still.keys().all(|id| seen.examples.contains_key(id));
            standing = Some(still);
            if is_over {
                break;
            }
        }
        seen.take(asked, known.len(), standing.unwrap_or_default());
    }
    Ok(seen)
}

impl SeenAgain {
    fn take(&mut self, asked: &Asked, known: usize, standing: BTreeMap<String, Example>) {
        let operation = asked.operation.split('?').next().unwrap_or_default();
        self.operations.insert(operation.to_owned());
        self.pairs += 1;
        self.known += known as u64;
        self.different += u64::from(!standing.is_empty());
        for (id, example) in standing {
            *self.differences.entry(example.difference.class).or_default() += 1;
            self.examples.entry(id).or_insert(example);
        }
    }

    /// One of each difference of a class, with its id.
    fn told(&self, class: Class) -> impl Iterator<Item = (&String, &Example)> {
        self.examples.iter().filter(move |(_, one)| one.difference.class == class)
    }

    fn count(&self, class: Class) -> u64 {
        self.differences.get(&class).copied().unwrap_or(0)
    }

    /// What could not be asked.
    fn missed(&self) -> Option<String> {
        let each: Vec<String> = self
            .unasked
            .iter()
            .map(|(audience, count)| {
                format!("{count} requests were not made, because nobody asks as {audience:?}")
            })
            .collect();
        (!each.is_empty()).then(|| each.join("; "))
    }
}

/// Whether an object that a request is about is gone: what listed it no longer does. Where it does, not
/// to find it is an answer of the new code's.
async fn is_gone(asks: &dyn Asks, kept: &Kept, asked: &Asked) -> Result<bool, String> {
    for (list, object) in objects_in(&asked.operation, &asked.path) {
        let lists = kept.exchanges.iter().map(|exchange| &exchange.asked).filter(|other| {
            other.audience == asked.audience && other.path.split('?').next() == Some(list.as_str())
        });
        let mut is_there = false;
        for other in lists.take(LISTS_MAX) {
            let answer = asks.ask(Side::Users, other).await?;
            is_there |=
                answer.status == 200 && matches!(&answer.body, Body::Json(body) if is_listed(body, &object));
        }
        if !is_there {
            return Ok(true);
        }
    }
    Ok(false)
}

fn not_compared(shadow: &Shadow, why: String) -> Outcome {
    let detail = format!("not asked again: {why}");
    let seen = AskedAgain {
        service: shadow.service.clone(),
        operations_compared: 0,
        requests_compared: 0,
        differences: BTreeMap::new(),
        known: 0,
        gone: 0,
        not_compared: Some(why),
    };
    Outcome::Done { detail, evidence: vec![Evidence::AskedAgain(seen)] }
}

/// The outcome of what was seen, by the policy.
fn judged(shadow: &Shadow, terms: &Terms<'_>, seen: &SeenAgain) -> Outcome {
    let differences = seen.differences.iter().map(|(class, count)| (class_name(*class), *count));
    let mut evidence = vec![Evidence::AskedAgain(AskedAgain {
        service: shadow.service.clone(),
        operations_compared: seen.operations.len() as u64,
        requests_compared: seen.pairs,
        differences: differences.collect(),
        known: seen.known,
        gone: seen.gone,
        not_compared: seen.missed(),
    })];
    let sentence = |(id, one): (&String, &Example)| in_sentence(id, &one.asked, &one.difference);
    let shown =
        seen.told(Class::Breaking).chain(seen.told(Class::Review).filter(|_| terms.review != Gate::Off));
    for (id, example) in shown.take(EXAMPLES_MAX) {
        evidence.push(state("difference that was not there before", sentence((id, example))));
        evidence.push(Evidence::Http {
            request: format!("GET (what serves users now) … {}", example.asked.path),
            status: Some(example.now.status),
            body: super::beginning(&example.now.body),
        });
    }
    let (breaking, review) = (seen.count(Class::Breaking), seen.count(Class::Review));
    let counts = format!(
        "{} requests to {} operations asked again, {breaking} new breaking differences, {review} to review, {} \
         known, {} about what is gone{}",
        seen.pairs,
        seen.operations.len(),
        seen.known,
        seen.gone,
        if seen.enough { "; the rest was not asked, since so much is broken" } else { "" }
    );
    let blocks = |count: u64, gate: Gate| count > 0 && gate == Gate::Block;
    if blocks(breaking, terms.breaking) || blocks(review, terms.review) && terms.breaking == Gate::Block {
        let class = if breaking > 0 { Class::Breaking } else { Class::Review };
        let first = seen.told(class).next().map(sentence).unwrap_or_default();
        return permanent(
            format!(
                "what serves {}'s users now does not keep the API contract that its old code kept: {first}. \
                 {counts}",
                shadow.service
            ),
            "users meet it. The way back is open: `volutus rollback`. Where the difference does no harm here: \
             `volutus abort`, and plan anew; what is left then is to finalize",
            evidence,
        );
    }
    let first = seen.told(Class::Breaking).next().map(sentence);
    let detail = first.map_or_else(
        || counts.clone(),
        |first| format!("THE API CONTRACT IS BROKEN FOR USERS: {first}. {counts}"),
    );
    Outcome::Done { detail, evidence }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::future::BoxFuture;
    use serde_json::{Value, json};

    use super::*;

    /// What serves users: answers by path, from which answers are taken one after another, the last one
    /// for good.
    struct Now(Mutex<BTreeMap<&'static str, Vec<(u16, Value)>>>);

    impl Asks for Now {
        fn ask<'a>(&'a self, side: Side, asked: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>> {
            assert_eq!(side, Side::Users);
            let mut answers = self.0.lock().unwrap();
            let answer = match answers.get_mut(asked.path.as_str()) {
                None => (404, json!({"itemNotFound": {"code": 404, "message": asked.path}})),
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
            };
            Box::pin(async move { Ok(recorded(answer.0, answer.1)) })
        }
    }

    fn recorded(status: u16, body: Value) -> Recorded {
        Recorded { status, headers: BTreeMap::new(), body: Body::Json(body) }
    }

    fn exchange(operation: &str, path: &str, body: Value) -> Exchange {
        let asked = Asked {
            service: "nova".to_owned(),
            operation: format!("GET {operation}"),
            path: path.to_owned(),
            microversion: Some("2.1".parse().unwrap()),
            audience: Audience::Member,
        };
        let answer = Comparator::new(Vec::new()).unwrap().outline(&recorded(200, body));
        Exchange { asked, answer }
    }

    fn list(ids: &[&str]) -> Value {
        let servers: Vec<Value> = ids.iter().map(|id| json!({"id": id, "name": "x"})).collect();
        json!({"servers": servers})
    }

    fn one(id: &str) -> Value {
        json!({"server": {"id": id, "name": "x", "status": "ACTIVE"}})
    }

    fn kept() -> Kept {
        let exchanges = vec![
            exchange("/servers", "/servers", list(&["a", "b"])),
            exchange("/servers/{server_id}", "/servers/a", one("a")),
            exchange("/servers/{server_id}", "/servers/b", one("b")),
        ];
        Kept { exchanges, ..Kept::default() }
    }

    async fn seen(kept: &Kept, now: &[(&'static str, Vec<(u16, Value)>)], waived: &[&str]) -> SeenAgain {
        let now = Now(Mutex::new(now.iter().cloned().collect()));
        let comparator = Comparator::new(Vec::new()).unwrap();
        let waived = waived.iter().copied().collect();
        again(&now, &comparator, kept, &[Audience::Admin, Audience::Member], &waived).await.unwrap()
    }

    fn shadow() -> Shadow {
        serde_json::from_value(json!({
            "daemon": "nova-api@ctl1", "service": "nova", "unit": "nova-api.service", "from": "/a", "to": "/b",
            "old": "http://198.51.100.1:8774", "new": "http://198.51.100.1:28774", "health": "/v2.1"}))
        .unwrap()
    }

    fn outcome(seen: &SeenAgain, gate: Gate) -> Outcome {
        judged(&shadow(), &Terms { breaking: gate, review: Gate::Warn, waivers: &[] }, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_came_and_went_are_no_difference() {
        let now = [("/servers", vec![(200, list(&["b", "c"]))]), ("/servers/b", vec![(200, one("b"))])];
        let seen = seen(&kept(), &now, &[]).await;
        assert_eq!((seen.pairs, seen.operations.len(), seen.gone, seen.different), (2, 2, 1, 0));
        assert!(outcome(&seen, Gate::Block).is_success());
    }

    #[tokio::test(start_paused = true)]
    async fn not_to_find_what_is_listed_breaks_the_contract() {
        let now = [("/servers", vec![(200, list(&["a", "b"]))]), ("/servers/b", vec![(200, one("b"))])];
        let seen = seen(&kept(), &now, &[]).await;
        assert_eq!((seen.count(Class::Breaking), seen.gone), (1, 0));
        let Outcome::Failed(failure) = outcome(&seen, Gate::Block) else { panic!("it does not halt") };
        assert!(failure.message.contains("GET /servers/{server_id}"), "{}", failure.message);
        let Outcome::Done { detail, evidence } = outcome(&seen, Gate::Warn) else { panic!("it halts") };
        assert!(detail.starts_with("THE API CONTRACT IS BROKEN"));
        let Evidence::AskedAgain(told) = &evidence[0] else { panic!("{evidence:?}") };
        assert!(told.is_broken() && told.requests_compared == 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_no_difference_and_what_stays_is_told_once_by_its_id() {
        let spoilt = json!({"server": {"id": "a", "name": "x"}});
        let passing = [
            ("/servers", vec![(200, list(&["a", "b"]))]),
            ("/servers/a", vec![(503, json!({})), (200, spoilt.clone()), (200, one("a"))]),
            ("/servers/b", vec![(200, one("b"))]),
        ];
        assert_eq!(seen(&kept(), &passing, &[]).await.different, 0);
        let staying = [
            ("/servers", vec![(200, list(&["a", "b"]))]),
            ("/servers/a", vec![(200, spoilt.clone())]),
            ("/servers/b", vec![(200, spoilt)]),
        ];
        let found = seen(&kept(), &staying, &[]).await;
        assert_eq!((found.count(Class::Breaking), found.examples.len()), (2, 1));
        let id = found.examples.keys().next().unwrap();
        // Waived, or told before users met the new code.
        let other = seen(&kept(), &staying, &[id]).await;
        assert_eq!((other.different, other.known), (0, 2));
        let told = Kept { known: [id.clone()].into(), ..kept() };
        assert_eq!(seen(&told, &staying, &[]).await.known, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_breaks_everything_is_not_asked_to_its_end() {
        let number = |number: usize| exchange(&format!("/things{number}"), "/things", list(&["a"]));
        let kept = Kept { exchanges: (0..100).map(number).collect(), ..Kept::default() };
        let seen = seen(&kept, &[("/things", vec![(406, json!({}))])], &[]).await;
        assert!(seen.enough);
        assert_eq!(seen.pairs as usize, BREAKING_ENOUGH);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_of_the_load_balancer_are_none_of_the_code() {
        let mut kept = kept();
        kept.exchanges.truncate(1);
        let mut old = recorded(200, list(&["a"]));
        old.headers.insert("vary".to_owned(), "A".to_owned());
        kept.exchanges[0].answer = Comparator::new(Vec::new()).unwrap().outline(&old);
        let now = [("/servers", vec![(200, list(&["a"]))])];
        assert_eq!(seen(&kept, &now, &[]).await.count(Class::Breaking), 1);
        kept.balancer.insert("header vary".to_owned());
        assert_eq!(seen(&kept, &now, &[]).await.different, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_could_ask_is_said() {
        let mut kept = kept();
        kept.exchanges[1].asked.audience = Audience::Reader;
        let now = [("/servers", vec![(200, list(&["b"]))]), ("/servers/b", vec![(200, one("b"))])];
        let seen = seen(&kept, &now, &[]).await;
        assert_eq!(seen.pairs, 2);
        assert_eq!(seen.missed().unwrap(), "1 requests were not made, because nobody asks as Reader");
    }
}

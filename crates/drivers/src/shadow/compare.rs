//! The same reading requests to old and new code, and what differs between their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use volutus_contract::answers::{AnswerDifference, Asked, Body, Comparator, Compared, Noise, Recorded};
use volutus_contract::canonical;
use volutus_contract::diff::Audience;
use volutus_contract::requests::{Objects, Pin, Prepared};
use volutus_contract::rules::Class;

use super::kept::{Exchange, Kept};

/// Requests of one service that are compared at the most. The six services of a small cloud have
/// some 2,000 together.
const PAIRS_MAX: usize = 3_000;

/// Rounds in which both are asked again where they differ: an order that is left to chance looks the
/// same now and then.
pub(super) const ROUNDS: u32 = 5;
/// Before the first of them; longer before each that follows.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Requests that are asked through the load balancer as well, to learn what it does to headers: it does
/// the same to all.
const BALANCED: u64 = 5;

/// So many different breaking differences, and no more is compared: the contract is broken whatever else is
/// found, and each costs seconds to make sure of. A raised minimum microversion breaks every operation.
pub(super) const BREAKING_ENOUGH: usize = 20;

/// Operations that are not asked, because their answers can be as large as an image.
const UNASKED: &[(&str, &str)] = &[("glance", "/file")];

/// Which code is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The old replica that is shadowed.
    Old,
    /// Any old replica: the load balancer chooses.
    AnyOld,
    /// Whatever serves users: the load balancer chooses.
    Users,
    /// Old code in a process that differs from the new code's in nothing else.
    FreshOld,
    /// The new code.
    New,
}

/// Whoever asks the daemons.
pub(super) trait Asks: Sync {
    /// One request to one of them.
    ///
    /// # Errors
    /// Why no whole answer came, or why none is asked for any more.
    fn ask<'a>(&'a self, side: Side, asked: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>>;
}

/// A difference, with the request and both answers.
#[derive(Debug, Clone)]
pub(super) struct Example {
    /// Names the difference in waivers: the same for every object, user and microversion.
    pub id: String,
    pub asked: Asked,
    /// What was sent.
    pub body: Option<Value>,
    pub difference: AnswerDifference,
    pub old: Recorded,
    pub new: Recorded,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub operations: BTreeSet<String>,
    pub pairs: u64,
    /// Differences by class.
    pub differences: BTreeMap<Class, u64>,
    /// One of each difference, by its id.
    pub examples: BTreeMap<String, Example>,
    /// Differences that were waived.
    pub waived: u64,
    /// Whether it was not gone on, because enough was broken.
    pub enough: bool,
    /// What was read of the load balancer's log, where one was.
    pub log: Option<String>,
    /// Requests of chains that write.
    pub writes: u64,
    /// Chains that did not come to their end, and why.
    pub unwritten: Vec<String>,
    /// What the old code answered, to be compared with later answers.
    pub kept: Kept,
}

impl Seen {
    /// How many differences of a class stand.
    pub fn count(&self, class: Class) -> u64 {
        self.differences.get(&class).copied().unwrap_or(0)
    }

    /// One of each difference of a class.
    pub fn told(&self, class: Class) -> impl Iterator<Item = &Example> {
        self.examples.values().filter(move |example| example.difference.class == class)
    }

    fn take(
        &mut self,
        comparator: &Comparator,
        asked: &Asked,
        answers: (Recorded, Recorded),
        compared: Compared,
        waived: &BTreeSet<&str>,
    ) {
        let answer = comparator.outline(&answers.0);
        self.kept.exchanges.push(Exchange { asked: asked.clone(), answer });
        let operation = asked.operation.split('?').next().unwrap_or_default();
        self.operations.insert(operation.to_owned());
        self.pairs += 1;
        self.note(asked, None, answers, compared, waived);
    }

    /// Takes a request of a chain that writes, which is not asked again later.
    pub fn take_written(
        &mut self,
        asked: &Asked,
        body: Option<Value>,
        answers: (Recorded, Recorded),
        compared: Compared,
        waived: &BTreeSet<&str>,
    ) {
        self.writes += 1;
        self.note(asked, body, answers, compared, waived);
    }

    fn note(
        &mut self,
        asked: &Asked,
        body: Option<Value>,
        answers: (Recorded, Recorded),
        compared: Compared,
        waived: &BTreeSet<&str>,
    ) {
        for difference in compared.differences {
            let id = id_of(asked, &difference);
            self.kept.known.insert(id.clone());
            if waived.contains(id.as_str()) {
                self.waived += 1;
                continue;
            }
            *self.differences.entry(difference.class).or_default() += 1;
            self.examples.entry(id.clone()).or_insert_with(|| Example {
                id,
                asked: asked.clone(),
                body: body.clone(),
                difference,
                old: answers.0.clone(),
                new: answers.1.clone(),
            });
        }
    }
}

/// Names a difference: the same for every object, user and microversion.
pub(super) fn id_of(asked: &Asked, difference: &AnswerDifference) -> String {
    let what = json!([asked.service, asked.operation, difference.rule, difference.location]);
    canonical::hash(&what)[..12].to_owned()
}

/// Asks everything. Where an answer of the new code differs, both are asked again and again: what the
/// old code then says otherwise than before is noise, what was changed by somebody in between is the
/// same the next time, and only what stays different in every round is a difference.
///
/// # Errors
/// Why it could not be gone on with.
pub(super) async fn compare(
    asks: &dyn Asks,
    comparator: &Comparator,
    mut requests: Vec<Prepared>,
    users: &[Audience],
    waived: &BTreeSet<&str>,
) -> Result<Seen, String> {
    // What lists objects comes before what needs them.
    requests.sort_by_key(|request| request.holes.len());
    let mut objects: BTreeMap<Audience, Objects> = BTreeMap::new();
    let mut seen = Seen::default();
    for request in requests.iter().filter(|request| !is_unasked(request)) {
        for audience in users.iter().filter(|user| is_asked_as(request, **user)) {
            for path in objects.entry(*audience).or_default().fill(request) {
                if seen.pairs as usize >= PAIRS_MAX {
                    return Ok(seen);
                }
                if seen.told(Class::Breaking).count() >= BREAKING_ENOUGH {
                    seen.enough = true;
                    return Ok(seen);
                }
                let asked = Asked {
                    service: request.service.clone(),
                    operation: request.operation.clone(),
                    path: path.clone(),
                    microversion: request.microversion,
                    audience: *audience,
                };
                let (mut old, mut new) =
                    (asks.ask(Side::Old, &asked).await?, asks.ask(Side::New, &asked).await?);
                if seen.pairs < BALANCED {
                    let balanced = asks.ask(Side::AnyOld, &asked).await?;
                    let changed = comparator.compare(&asked, &old, &balanced, &Noise::default()).differences;
                    let places = changed.into_iter().map(|difference| difference.location);
                    seen.kept.balancer.extend(places.filter(|place| place.starts_with("header ")));
                }
                let mut compared = comparator.compare(&asked, &old, &new, &seen.kept.noise);
                // What was made sure of once is not chance the next time.
                let known = |difference| seen.examples.contains_key(&id_of(&asked, difference));
                let rounds = if compared.differences.iter().all(known) { 1 } else { ROUNDS };
                for round in 1..=rounds {
                    if compared.differences.is_empty() {
                        break;
                    }
                    tokio::time::sleep(PAUSE * round).await;
                    let again = asks.ask(Side::Old, &asked).await?;
                    seen.kept.noise.learn(comparator, &asked, &old, &again);
                    // A set of Python's comes in another order in every process.
                    let elsewhere = asks.ask(Side::AnyOld, &asked).await?;
                    seen.kept.noise.learn(comparator, &asked, &old, &elsewhere);
                    (old, new) = (again, asks.ask(Side::New, &asked).await?);
                    let now = comparator.compare(&asked, &old, &new, &seen.kept.noise);
                    compared = compared.standing(now);
                }
                // A few processes may have one order by chance. One whose sets come in the order of the
                // new code's process tells whether it is chance.
                if compared.differences.iter().any(|difference| difference.rule == "order-changed") {
                    let fresh = asks.ask(Side::FreshOld, &asked).await?;
                    seen.kept.noise.learn(comparator, &asked, &old, &fresh);
                    let now = comparator.compare(&asked, &old, &new, &seen.kept.noise);
                    compared = compared.standing(now);
                }
                if let (200, Body::Json(body)) = (old.status, &old.body) {
                    let list = path.split('?').next().unwrap_or_default();
                    objects.entry(*audience).or_default().observe(&request.service, list, body);
                }
                seen.take(comparator, &asked, (old, new), compared, waived);
            }
        }
    }
    Ok(seen)
}

/// Queries are the same for everybody, but those of the site's own clients, who are members; and what a
/// reader may do is the same at each microversion.
fn is_asked_as(request: &Prepared, user: Audience) -> bool {
    let used = request.pins.contains(&Pin::Used) && !request.is_of_named_objects();
    match user {
        Audience::Admin => true,
        Audience::Reader => request.query.is_none() && request.pins.contains(&Pin::Maximum),
        Audience::Member | Audience::Operator if request.pins.contains(&Pin::Used) => used,
        Audience::Member | Audience::Operator => request.query.is_none(),
    }
}

fn is_unasked(request: &Prepared) -> bool {
    UNASKED.iter().any(|(service, end)| request.service == *service && request.path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use volutus_contract::requests::Hole;

    use super::*;

    /// A service of two servers, whose `updated` is another one in every answer.
    struct Pretended {
        answers: AtomicU32,
        /// How the new code spoils the answer to a path.
        spoil: fn(&str, &mut Recorded),
    }

    impl Asks for Pretended {
        fn ask<'a>(&'a self, side: Side, asked: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>> {
            let number = self.answers.fetch_add(1, Ordering::Relaxed);
            let server = |id: &str| json!({"id": id, "name": "x", "status": "ACTIVE", "updated": number});
            let body = match asked.path.as_str() {
                "/servers" => json!({"servers": [server("a"), server("b")]}),
                other => json!({"server": server(other.trim_start_matches("/servers/"))}),
            };
            let mut answer = Recorded { status: 200, headers: BTreeMap::new(), body: Body::Json(body) };
            if side == Side::New {
                (self.spoil)(&asked.path, &mut answer);
            }
            Box::pin(async move { Ok(answer) })
        }
    }

    /// A request that needs no object.
    fn listing(service: &str, path: &str) -> Prepared {
        Prepared {
            service: service.to_owned(),
            operation: format!("GET {path}"),
            path: path.to_owned(),
            query: None,
            microversion: None,
            pins: [Pin::Current].into(),
            holes: Vec::new(),
        }
    }

    async fn seen(waived: &[&str], spoil: fn(&str, &mut Recorded)) -> Seen {
        let request = |path: &str, holes| Prepared {
            service: "nova".to_owned(),
            operation: format!("GET {path}"),
            path: path.to_owned(),
            query: None,
            microversion: None,
            pins: [Pin::Current].into(),
            holes,
        };
        let hole = |name: &str| Hole {
            name: name.to_owned(),
            written: "{id}".to_owned(),
            listed_by: "/servers".to_owned(),
        };
        let requests =
            vec![request("/servers/{id}", vec![hole("server_id")]), request("/servers", Vec::new())];
        let asks = Pretended { answers: AtomicU32::new(0), spoil };
        let comparator = Comparator::new(Vec::new()).unwrap();
        let waived = waived.iter().copied().collect();
        compare(&asks, &comparator, requests, &[Audience::Admin, Audience::Member], &waived).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_varies_by_itself_is_no_difference() {
        let seen = seen(&[], |_, _| {}).await;
        assert_eq!((seen.pairs, seen.operations.len(), seen.differences.len()), (6, 2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_new_code_spoils_is_found_with_both_answers() {
        let seen = seen(&[], |path, answer| {
            if path == "/servers/b" {
                answer.status = 500;
            }
        })
        .await;
        assert_eq!(seen.count(Class::Breaking), 2, "as admin and as member");
        let example = seen.examples.values().next().unwrap();
        assert_eq!((example.old.status, example.new.status), (200, 500));
        assert_eq!((seen.examples.len(), example.difference.rule.as_str()), (1, "server-error"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_breaks_everything_is_not_compared_to_its_end() {
        let asks = Pretended { answers: AtomicU32::new(0), spoil: |_, answer| answer.status = 406 };
        let requests = (0..100).map(|number| listing("cinder", &format!("/things{number}")));
        let comparator = Comparator::new(Vec::new()).unwrap();
        let users = [Audience::Admin];
        let seen = compare(&asks, &comparator, requests.collect(), &users, &BTreeSet::new()).await.unwrap();
        assert!(seen.enough);
        assert_eq!((seen.pairs, seen.told(Class::Breaking).count()), (20, BREAKING_ENOUGH));
    }

    /// A service of one server, whose host is chosen between two answers. The new code has forgotten its status.
    struct Building {
        answers: AtomicU32,
        chosen: u32,
    }

    impl Asks for Building {
        fn ask<'a>(&'a self, side: Side, _: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>> {
            let number = self.answers.fetch_add(1, Ordering::Relaxed);
            let host = if number < self.chosen { "" } else { "0ab9" };
            let mut server = json!({"id": "a", "hostId": host});
            if side != Side::New {
                server["status"] = json!("BUILD");
            }
            let body = Body::Json(json!({"servers": [server]}));
            Box::pin(async move { Ok(Recorded { status: 200, headers: BTreeMap::new(), body }) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_to_an_object_at_any_moment_is_none_of_the_code() {
        let request = listing("nova", "/servers/detail");
        let comparator = Comparator::new(Vec::new()).unwrap();
        let mut chosen = 0;
        loop {
            let asks = Building { answers: AtomicU32::new(0), chosen };
            // The member is answered after what the new code forgot is known: one round is made then.
            let users = [Audience::Admin, Audience::Member];
            let seen =
                compare(&asks, &comparator, vec![request.clone()], &users, &BTreeSet::new()).await.unwrap();
            let told: Vec<_> = seen.examples.values().map(|one| one.difference.location.as_str()).collect();
            assert_eq!(told, ["servers[].status"], "chosen before answer {chosen}");
            assert_eq!(seen.count(Class::Breaking), 2);
            if chosen > asks.answers.into_inner() {
                break;
            }
            chosen += 1;
        }
        assert!(chosen > 2 * ROUNDS, "{chosen} moments");
    }

    /// A service whose list comes in an order of the process.
    struct Sets {
        /// Whether the new code puts the list in an order of its own.
        changed: bool,
        fresh_asked: AtomicU32,
    }

    impl Asks for Sets {
        fn ask<'a>(&'a self, side: Side, _: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>> {
            if side == Side::FreshOld {
                self.fresh_asked.fetch_add(1, Ordering::Relaxed);
            }
            let list = match (side, self.changed) {
                (Side::New, _) | (Side::FreshOld, false) => ["b", "a"],
                (Side::Old | Side::AnyOld | Side::Users | Side::FreshOld, _) => ["a", "b"],
            };
            let body = Body::Json(json!({"zones": list}));
            Box::pin(async move { Ok(Recorded { status: 200, headers: BTreeMap::new(), body }) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_by_chance_is_told_from_one_that_was_changed() {
        for (changed, expected) in [(false, 0), (true, 1)] {
            let sets = Sets { changed, fresh_asked: AtomicU32::new(0) };
            let request = listing("neutron", "/zones");
            let comparator = Comparator::new(Vec::new()).unwrap();
            let found = compare(&sets, &comparator, vec![request], &[Audience::Admin], &BTreeSet::new())
                .await
                .unwrap();
            assert_eq!(found.count(Class::Breaking), expected, "changed: {changed}");
            assert_eq!(sets.fresh_asked.into_inner(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waived_difference_does_not_count_and_another_one_does() {
        fn spoil(_: &str, answer: &mut Recorded) {
            let Body::Json(body) = &mut answer.body else { return };
            if let Some(server) = body.get_mut("server").and_then(Value::as_object_mut) {
                server.remove("status");
            }
        }
        let found = seen(&[], spoil).await;
        let id = found.examples.keys().next().unwrap().clone();
        let other = seen(&[&id], spoil).await;
        assert_eq!((found.waived, found.count(Class::Breaking)), (0, 4));
        assert_eq!((other.waived, other.count(Class::Breaking)), (4, 0));
    }
}

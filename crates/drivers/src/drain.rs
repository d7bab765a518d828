//! Empties a compute host: moves its instances to where the plan wants them, each at most once,
//! and sees that nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use volutus_model::fleet::plan::How;
use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::InstanceMove;
use volutus_openstack::Error;
use volutus_openstack::compute::{Server, ServerFilter};
use volutus_openstack::migration::LiveMigration;

use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::compute::api_outcome;
use crate::lanes::Lane;

/// Between two looks at an instance that moves.
const LOOK: Duration = Duration::from_millis(700);
/// How often a move is asked for: a destination that was busy for a moment may take the instance
/// the second time; one that refuses twice refuses.
const ASKED_MAX: u32 = 2;
/// nova writes a move down some moments after it was asked for; an instance that shows nothing of
/// it for so long is not being moved.
const BEGIN_TIME: Duration = Duration::from_secs(45);

/// nova gives back what a moved instance held on its source some moments after the move; what is still
/// there after so long, nothing being done with it, stays.
const REST_TIME: Duration = Duration::from_secs(45);

/// nova rolls a migration that was broken off back, and from 2025.2 on only then calls the instance, which runs on,
/// `ERROR`: `nova/virt/libvirt/driver.py`, `_live_migration`, raises libvirt's "canceled by client" again
/// (`future.result()`), and `nova/compute/manager.py`, `_do_live_migration`, takes it for a failure too late to roll
/// back. Moments lie between; what is well for so long stays well.
const ROLLED_BACK: Duration = Duration::from_secs(10);
/// nova's number for an instance that runs.
const RUNNING: u8 = 1;

/// nova's word for a live migration whose instance runs at its destination while its memory still comes
/// (`nova/virt/libvirt/migration.py`, `trigger_postcopy_switch`).
const POST_COPY: &str = "running (post-copy)";

/// What became of one instance.
pub(crate) enum Moved {
    /// It is where it was to be, or gone by its owner's doing. `was`: before it was asked for; `on`: the host
    /// that it is on, empty where it is on none.
    Away { detail: String, was: bool, on: String },
    /// It is still on the host; `refused` where another destination may take it.
    Stays { why: String, evidence: Vec<Evidence>, refused: bool },
}

/// Moves instances, some at once. What was moved already is left alone.
pub(crate) async fn move_instances(
    attempt: &Attempt<'_>,
    host: &HostName,
    moves: &[InstanceMove],
    parallel_max: u32,
    all_max: u32,
) -> Attempted {
    let width = usize::try_from(parallel_max.max(1)).unwrap_or(usize::MAX);
    let begun = Instant::now();
    let board = Board::new(attempt, moves.len(), all_max);
    let travels: Vec<_> = moves.iter().map(|wanted| travel(&board, host, wanted)).collect();
    let results: Vec<(&InstanceMove, Result<Moved, Error>)> =
        futures::stream::iter(travels).buffer_unordered(width).collect().await;
    let (mut details, mut unmoved, mut evidence, mut done) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
    let (mut refused_by, mut all_refused) = (BTreeSet::new(), true);
    for (wanted, result) in results {
        match result {
            Ok(Moved::Away { detail, was, .. }) => {
                done += usize::from(!was);
                details.push(detail);
            }
            Ok(Moved::Stays { why, evidence: seen, refused }) => {
                refused_by.extend(refused.then(|| wanted.to.clone()));
                all_refused &= refused;
                unmoved.push(format!("{} to {}: {why}", wanted.instance, wanted.to));
                evidence.extend(seen);
            }
            // An API that does not answer says nothing of the instance; the others have ended.
            Err(error) => return Err(api_outcome(&format!("moving instances off {host}"), &error)),
        }
    }
    if !unmoved.is_empty() {
        let count = unmoved.len();
        evidence.insert(0, state(format!("instances still on {host}"), unmoved.join("\n")));
        let mut outcome = permanent(
            format!(
                "{count} of {} instances could not be moved off {host}, the first {}",
                moves.len(),
                unmoved[0]
            ),
            "they run on, untouched; the others have been moved. See the reasons below: mend the destination \
             and resume, or abort (the host is given back) and plan anew with other destinations",
            evidence,
        );
        if let Outcome::Failed(failure) = &mut outcome
            && all_refused
        {
            failure.refused_by = refused_by;
        }
        return Err(outcome);
    }
    details.sort();
    let took = begun.elapsed().as_secs_f64();
    let detail =
        format!("{done} of {} instances moved off {host} in {took:.0} s: {}", moves.len(), some(&details));
    Ok(if done > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) })
}

/// A journal is read by people: of a large host the first are told.
pub(crate) fn some(details: &[String]) -> String {
    const TOLD_MAX: usize = 20;
    let told = details.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
    if details.len() > TOLD_MAX { format!("{told}; and {} more", details.len() - TOLD_MAX) } else { told }
}

/// What is told of several moves at once: how many are through, and what those under way do.
pub(crate) struct Board<'a> {
    attempt: &'a Attempt<'a>,
    total: usize,
    /// Moves at once in the whole cloud; 0 for no limit.
    all_max: u32,
    told: Mutex<(usize, BTreeMap<String, String>)>,
}

impl<'a> Board<'a> {
    pub(crate) fn new(attempt: &'a Attempt<'a>, total: usize, all_max: u32) -> Self {
        Self { attempt, total, all_max, told: Mutex::default() }
    }

    /// What a move does now; nothing once it is through.
    pub(crate) fn tell(&self, instance: &str, doing: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match doing {
            Some(doing) => drop(told.1.insert(instance.to_owned(), doing)),
            None => {
                told.0 += 1;
                told.1.remove(instance);
            }
        }
        let under_way: Vec<String> =
            told.1.iter().map(|(instance, doing)| format!("{instance} {doing}")).collect();
        let through = told.0;
        drop(told);
        self.attempt.say(format!("{through} of {} are through; {}", self.total, under_way.join("; ")));
    }
}

/// The move of one instance, beside which the instance is named.
fn travel<'a>(
    board: &'a Board<'_>,
    from: &'a HostName,
    wanted: &'a InstanceMove,
) -> BoxFuture<'a, (&'a InstanceMove, Result<Moved, Error>)> {
    async move {
        let moved = move_one(board, from, wanted).await;
        board.tell(&wanted.instance, None);
        (wanted, moved)
    }
    .boxed()
}

/// One instance under way.
struct Travel<'a> {
    attempt: &'a Attempt<'a>,
    board: &'a Board<'a>,
    from: &'a HostName,
    wanted: &'a InstanceMove,
    /// Its place among the moves of the cloud, once it has one.
    lane: Option<Lane<'a>>,
    /// When it was asked for, and how often.
    asked: Option<Instant>,
    times: u32,
    /// Whether anything was seen of the move that was asked for last.
    seen_moving: bool,
    /// When its memory was first seen to be sent.
    running: Option<Instant>,
    /// Whether nova was told to complete it by post-copy, and whatever that means.
    switched: bool,
    forced: bool,
    /// Whether it was seen to run at its destination before all of its memory was there.
    post_copies: bool,
    aborted: bool,
    /// When it was first seen at rest behind that, and whether nova called it `ERROR` for it.
    rolled_back: Option<Instant>,
    mended: bool,
    begun: Instant,
}

/// Moves one instance to the one destination that is wanted; one that is under way already is watched.
///
/// # Errors
/// Where nova does not answer until the attempt's time is up, or not as it should.
pub(crate) async fn move_one(
    board: &Board<'_>,
    from: &HostName,
    wanted: &InstanceMove,
) -> Result<Moved, Error> {
    let attempt = board.attempt;
    let mut travel = Travel {
        attempt,
        board,
        from,
        wanted,
        lane: None,
        asked: None,
        times: 0,
        seen_moving: false,
        running: None,
        switched: false,
        forced: false,
        post_copies: false,
        aborted: false,
        rolled_back: None,
        mended: false,
        begun: Instant::now(),
    };
    loop {
        let server = match attempt.cloud.operator.compute().server(&wanted.instance).await {
            Ok(server) => server,
            // One answer that does not come is no verdict; the time limit is.
            Err(error) if attempt.is_over() => return Err(error),
            Err(error) => {
                board.tell(&wanted.instance, Some(format!("is not seen: {error}")));
                attempt.pause(LOOK).await;
                continue;
            }
        };
        if let Some(moved) = travel.look(server).await? {
            return Ok(moved);
        }
        if attempt.is_over() {
            return Ok(travel.stays("the time of the step is up while it moves").await);
        }
        attempt.pause(LOOK).await;
    }
}

impl Travel<'_> {
    /// Takes the next step for an instance as it was seen.
    async fn look(&mut self, server: Option<Server>) -> Result<Option<Moved>, Error> {
        let wanted = self.wanted;
        let id = &wanted.instance;
        let was = self.times == 0;
        let Some(server) = server else {
            return Ok(Some(Moved::Away {
                detail: format!("{id} was deleted by its owner"),
                was: true,
                on: String::new(),
            }));
        };
        let on = server.host.clone().unwrap_or_default();
        if server.status == "ERROR"
            && self.aborted
            && !self.mended
            && on == self.from.as_str()
            && server.power_state == Some(RUNNING)
        {
            self.board.tell(
                id,
                Some("was broken off and runs; nova calls it ERROR, and is told better".to_owned()),
            );
            self.attempt.cloud.operator.migration().call_active(id).await?;
            self.mended = true;
            return Ok(None);
        }
        if server.status == "ERROR" {
            let fault = server.fault.map(|fault| fault.message).unwrap_or_default();
            return Ok(Some(self.stays(format!("it is in state ERROR on {on}: {fault}")).await));
        }
        if server.status == "UNKNOWN" {
            // nova tells neither host nor state of an instance whose cell is down.
            self.board.tell(id, Some("is not seen: its cell does not answer".to_owned()));
            return Ok(None);
        }
        if server.status == "VERIFY_RESIZE" && wanted.how == How::Cold && on == wanted.to.as_str() {
            unless_over(self.attempt.cloud.operator.migration().confirm(id).await)?;
            return Ok(None);
        }
        if server.task_state.is_none() && on != self.from.as_str() && server.status != "VERIFY_RESIZE" {
            let detail = if on.is_empty() {
                format!("{id} is on no host any more ({})", server.status)
            } else if on == wanted.to.as_str() {
                format!(
                    "{id} is on {on} after {:.1} s{}",
                    self.begun.elapsed().as_secs_f64(),
                    self.by_force()
                )
            } else {
                format!("{id} is on {on}, where somebody else moved it")
            };
            return Ok(Some(Moved::Away { detail, was, on }));
        }
        if server.task_state.is_some() {
            self.seen_moving = true;
            let lanes = &self.attempt.cloud.lanes;
            self.lane.get_or_insert_with(|| lanes.join(&wanted.to));
            self.watch(&server).await?;
            return Ok(None);
        }
        self.ask_or_give_up(&server).await
    }

    /// The instance is at rest on its host: it is asked to move, or has come back from trying.
    async fn ask_or_give_up(&mut self, server: &Server) -> Result<Option<Moved>, Error> {
        let (id, to) = (&self.wanted.instance, self.wanted.to.as_str());
        if let Some(asked) = self.asked {
            if !self.seen_moving && asked.elapsed() < BEGIN_TIME && self.failure().await?.is_none() {
                return Ok(None);
            }
            if self.aborted {
                let rolled_back = self.rolled_back.get_or_insert_with(Instant::now);
                if !self.mended && rolled_back.elapsed() < ROLLED_BACK {
                    return Ok(None);
                }
                let why = format!(
                    "it did not converge within {} s and was broken off; it runs on where it is",
                    self.wanted.timeout_s
                );
                return Ok(Some(self.stays(why).await));
            }
            if self.times >= ASKED_MAX {
                let why = self.failure().await?.unwrap_or_else(|| "nova gives no reason".to_owned());
                return Ok(Some(self.refused(format!("the move failed {} times: {why}", self.times)).await));
            }
        }
        if self.lane.is_none() {
            let lanes = &self.attempt.cloud.lanes;
            self.lane = lanes.take(&self.wanted.to, self.wanted.onto_max, self.board.all_max);
            if self.lane.is_none() {
                self.board.tell(id, Some(format!("waits for a place among the moves to {to}")));
                return Ok(None);
            }
        }
        let calls = self.attempt.cloud.operator.migration();
        let asked = match self.wanted.how {
            How::Live => calls.live(id, to).await,
            How::Cold => calls.cold(id, to).await,
        };
        (self.asked, self.times, self.seen_moving) = (Some(Instant::now()), self.times + 1, false);
        (self.running, self.switched, self.forced) = (None, false, false);
        match asked {
            Ok(()) => {
                self.board.tell(id, Some(format!("moves to {to}")));
                Ok(None)
            }
            // Something else is being done with it: it is looked at again.
            Err(Error::Status { status: 409, .. }) if self.times < ASKED_MAX => Ok(None),
            Err(error @ Error::Status { .. }) => {
                let why = format!("nova refuses it ({}): {error}", server.status);
                Ok(Some(self.refused(why).await))
            }
            Err(error) => Err(error),
        }
    }

    /// How it was completed, where it did not converge by itself.
    fn by_force(&self) -> &'static str {
        match (self.post_copies, self.switched, self.forced) {
            (true, _, _) => ", by post-copy",
            (false, true, _) => ", after nova was told to switch it to post-copy",
            (false, false, true) => ", after nova was told to complete it",
            (false, false, false) => "",
        }
    }

    /// The instance moves: it is told how far it is, and completed or broken off when it takes
    /// too long.
    async fn watch(&mut self, server: &Server) -> Result<(), Error> {
        let (id, to) = (&self.wanted.instance, &self.wanted.to);
        if self.wanted.how == How::Cold {
            let doing = server.task_state.clone().unwrap_or_default();
            self.board.tell(id, Some(format!("moves to {to}: {doing}")));
            return Ok(());
        }
        let calls = self.attempt.cloud.operator.migration();
        let migration = calls.under_way(id).await?;
        // nova does not list as under way what runs at its destination already, which it neither breaks off nor
        // completes any sooner.
        if migration.is_none() && calls.last_live(id).await?.is_some_and(|last| last.status == POST_COPY) {
            self.post_copies = true;
            self.board.tell(
                id,
                Some(format!("runs on {to} already, by post-copy; the rest of its memory follows")),
            );
            return Ok(());
        }
        let far = migration.as_ref().and_then(far);
        let far = far.unwrap_or_else(|| server.task_state.clone().unwrap_or_default());
        self.board.tell(id, Some(format!("moves to {to}: {far}")));
        let Some(migration) = migration.filter(|migration| migration.status == "running") else {
            return Ok(());
        };
        // nova takes one after another; waiting there is not failing to converge. Of a move that an
        // earlier process asked for, the time counts from here.
        let took = self.running.get_or_insert_with(Instant::now).elapsed().as_secs();
        if took >= u64::from(self.wanted.timeout_s) && !self.aborted {
            self.board.tell(id, Some("does not converge and is broken off".to_owned()));
            self.aborted = unless_over(calls.abort(id, migration.id).await)?;
            return Ok(());
        }
        // While disks are copied QEMU refuses to switch ("Postcopy must be started after migration has been
        // started"), and a pause would last until all of them are there. Memory has its turn behind them.
        let can_end = !migration.is_before_memory();
        let is_due = |after: Option<u32>| can_end && after.is_some_and(|after| took >= u64::from(after));
        if is_due(self.wanted.post_copy_after_s) && !self.switched {
            self.board.tell(id, Some("does not converge; nova is told to switch it to post-copy".to_owned()));
            self.switched = unless_over(calls.force_complete(id, migration.id).await)?;
            return Ok(());
        }
        if is_due(self.wanted.force_after_s) && !self.forced {
            self.board.tell(id, Some("does not converge; nova is told to complete it".to_owned()));
            self.forced = unless_over(calls.force_complete(id, migration.id).await)?;
        }
        Ok(())
    }

    /// Why the move that was asked for last failed, where nova has written that down.
    async fn failure(&self) -> Result<Option<String>, Error> {
        let calls = self.attempt.cloud.operator.migration();
        let name = match self.wanted.how {
            How::Live => "live-migration",
            How::Cold => "migrate",
        };
        let actions = calls.actions(&self.wanted.instance).await?;
        let Some(last) = actions.into_iter().find(|action| action.action == name) else {
            return Ok(None);
        };
        if last.message.is_none() {
            return Ok(None);
        }
        calls.failure(&self.wanted.instance, &last.request_id).await
    }

    /// It stays because the destination, or nova for it, did not take it.
    async fn refused(&self, why: impl Into<String>) -> Moved {
        match self.stays(why).await {
            Moved::Stays { why, evidence, .. } => Moved::Stays { why, evidence, refused: true },
            away @ Moved::Away { .. } => away,
        }
    }

    async fn stays(&self, why: impl Into<String>) -> Moved {
        let why = why.into();
        let compute = volutus_model::name::DaemonKind::new("nova-compute").ok();
        let mut evidence = vec![state(format!("instance {}", self.wanted.instance), &why)];
        let unit = |host: &HostName| {
            let inventory = &self.attempt.cloud.inventory;
            let found =
                inventory.daemons().find(|(id, _, _)| id.host == *host && Some(&id.kind) == compute.as_ref());
            found.map(|(_, _, declared)| declared.unit.clone())
        };
        for host in [self.from, &self.wanted.to] {
            if let Some(unit) = unit(host) {
                evidence.push(crate::release::log(self.attempt, host, &unit).await);
            }
        }
        Moved::Stays { why, evidence, refused: false }
    }
}

/// How much of what is sent is left, in words; none where nova has not told it yet.
fn far(migration: &LiveMigration) -> Option<String> {
    let (left, total, what) = if migration.is_before_memory() {
        (
            migration.disk_remaining_bytes?,
            migration.disk_total_bytes.filter(|total| *total > 0)?,
            " of its disks",
        )
    } else {
        (migration.memory_remaining_bytes?, migration.memory_total_bytes?, "")
    };
    Some(format!("{} of {} MiB{what} left", left >> 20, total >> 20))
}

/// Whether a call came in time. A move that ended between the look and the call is looked at again.
fn unless_over(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::Status { status: 400 | 404 | 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sees that nothing is on a host but what may stay: by nova's list, and by placement's.
pub(crate) async fn prove_empty(attempt: &Attempt<'_>, host: &HostName, stays: &[String]) -> Attempted {
    let doing = format!("looking at what is left on {host}");
    let operator = &attempt.cloud.operator;
    // Placement knows hypervisors by their ids; their names may be other ones than nova's hosts have.
    let hypervisors = operator.compute().hypervisors().await.map_err(|error| api_outcome(&doing, &error))?;
    let Some(hypervisor) = hypervisors.into_iter().find(|one| one.service.host == host.as_str()) else {
        return Err(permanent(
            format!("nova knows no hypervisor on {host}, so nobody can say that it is empty"),
            "see `openstack hypervisor list`; the host's name in the cloud description must be its service's",
            vec![],
        ));
    };
    // Since when something has been there at rest.
    let mut resting: Option<Instant> = None;
    loop {
        let filter = ServerFilter { host: Some(host.to_string()), ..ServerFilter::default() };
        let seen = async {
            let servers = operator.compute().servers_of_all(&filter).await?;
            let mut consumers = BTreeSet::new();
            for provider in operator.placement().providers_in_tree(&hypervisor.id).await? {
                consumers.extend(operator.placement().allocations(&provider.uuid).await?.into_keys());
            }
            Ok::<_, Error>((servers, consumers))
        };
        let (servers, consumers) = match seen.await {
            Ok(seen) => seen,
            Err(error) if attempt.is_over() => return Err(api_outcome(&doing, &error)),
            Err(error) => {
                attempt.say(error.to_string());
                attempt.pause(LOOK).await;
                continue;
            }
        };
        let left: BTreeMap<String, String> = servers
            .iter()
            // nova's filter takes part of a name for the name.
            .filter(|server| server.host.as_deref() == Some(host.as_str()) && !stays.contains(&server.id))
            .map(|server| {
                (server.id.clone(), format!("instance {} ({}, {})", server.id, server.name, server.status))
            })
            .collect();
        let here = |server: &&Server| server.host.as_deref() == Some(host.as_str());
        let moving = servers.iter().filter(here).any(|server| server.task_state.is_some());
        let held: Vec<String> = consumers.into_iter().filter(|consumer| !stays.contains(consumer)).collect();
        if left.is_empty() && held.is_empty() {
            let staying = if stays.is_empty() { String::new() } else { format!(", {} stay", stays.len()) };
            return Ok(Outcome::unchanged(format!("nothing is left on {host}{staying}")));
        }
        let listed = if left.is_empty() {
            format!("allocations of {}", held.join(", "))
        } else {
            left.values().cloned().collect::<Vec<_>>().join(", ")
        };
        let rested = if moving { None } else { Some(*resting.get_or_insert_with(Instant::now)) };
        resting = rested;
        if attempt.is_over() || rested.is_some_and(|since| since.elapsed() > REST_TIME) {
            let mut outcome = permanent(
                format!("{host} is not empty: {}", listed.chars().take(300).collect::<String>()),
                "what came meanwhile is not in the plan, and is not touched. Abort (the host is given back) and \
                 plan anew; an allocation without an instance goes with `nova-manage placement heal_allocations` \
                 or `audit`",
                vec![state(format!("left on {host}"), listed)],
            );
            // What the plan moves off is gone by now, so that an instance that is left came; an allocation
            // alone is something else.
            if let Outcome::Failed(failure) = &mut outcome
                && held.iter().all(|consumer| left.contains_key(consumer))
            {
                failure.newcomers = left.into_keys().collect();
            }
            return Err(outcome);
        }
        attempt
            .say(format!("waiting until {host} is empty: {}", listed.chars().take(120).collect::<String>()));
        attempt.pause(LOOK).await;
    }
}

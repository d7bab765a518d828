//! A scripted cloud, and what tests of runs share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use volutus_engine::Command;
use volutus_engine::ports::{Driver, Order, OutcomeFuture, Say};
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::name::{AttemptId, RunId};
use volutus_model::outcome::{Failure, FailureClass, Outcome};
use volutus_model::plan::Plan;
use volutus_model::probe::Sample;
use volutus_model::run::{RunState, RunStatus};
use volutus_runtime::{Error, Reporter, Runtime};
use volutus_store::{Holder, Store};

/// What the scripted cloud does with an attempt.
pub enum Behaviour {
    Outcome(Outcome),
    Panic,
    Hang,
    /// Goes on once the test gives a permit.
    Wait(Arc<Semaphore>),
}

/// Ends a process at the n-th point where it could end.
#[derive(Default)]
pub struct Crash {
    pub passed: AtomicU64,
    pub at: Option<u64>,
    pub reached: Option<Arc<Semaphore>>,
}

impl Crash {
    pub fn is_here(&self) -> bool {
        let here = self.passed.fetch_add(1, Ordering::SeqCst);
        let hit = self.at == Some(here);
        if hit && let Some(reached) = &self.reached {
            reached.add_permits(1);
        }
        hit
    }
}

/// A cloud that remembers what was done to it, and does what a script says.
#[derive(Default)]
pub struct World {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    script: BTreeMap<String, VecDeque<Behaviour>>,
    effects: BTreeMap<String, u32>,
    done: BTreeSet<AttemptId>,
    orders: Vec<String>,
}

fn key(order: &Order) -> String {
    format!("{}: {}", order.step, order.action.summary())
}

impl World {
    /// The next attempt at this action ("step: summary") behaves like this.
    pub fn script(&self, action: &str, behaviour: Behaviour) {
        self.inner.lock().unwrap().script.entry(action.to_owned()).or_default().push_back(behaviour);
    }

    /// How often each action was really done.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        self.inner.lock().unwrap().effects.clone()
    }

    /// Every order in the order of arrival; taken-up ones are marked.
    pub fn orders(&self) -> Vec<String> {
        self.inner.lock().unwrap().orders.clone()
    }

    fn receive(&self, order: &Order) -> Option<Behaviour> {
        let mut inner = self.inner.lock().unwrap();
        let mark = if order.taken_up { " again" } else { "" };
        inner.orders.push(format!("{} {}{mark}", order.attempt, key(order)));
        inner.script.get_mut(&key(order)).and_then(VecDeque::pop_front)
    }

    fn is_done(&self, attempt: &AttemptId) -> bool {
        self.inner.lock().unwrap().done.contains(attempt)
    }

    fn effect(&self, order: &Order) {
        let mut inner = self.inner.lock().unwrap();
        *inner.effects.entry(key(order)).or_default() += 1;
        inner.done.insert(order.attempt.clone());
    }
}

/// One process's way to the world.
pub struct ScriptedDriver {
    pub world: Arc<World>,
    pub crash: Arc<Crash>,
}

impl Driver for ScriptedDriver {
    fn perform<'a>(&'a self, order: &'a Order, say: Say<'a>) -> OutcomeFuture<'a> {
        Box::pin(async move {
            if order.taken_up && self.world.is_done(&order.attempt) {
                return Outcome::unchanged("it was done before");
            }
            match self.world.receive(order) {
                Some(Behaviour::Outcome(outcome)) => return outcome,
                Some(Behaviour::Panic) => panic!("scripted"),
                Some(Behaviour::Hang) => std::future::pending().await,
                Some(Behaviour::Wait(permits)) => {
                    say("waiting".to_owned());
                    permits.acquire().await.unwrap().forget();
                }
                None => {}
            }
            if self.crash.is_here() {
                std::future::pending::<()>().await;
            }
            self.world.effect(order);
            if self.crash.is_here() {
                std::future::pending::<()>().await;
            }
            Outcome::done("done")
        })
    }
}

/// Remembers entries; tells the test when an event of a kind has come; may end the process
/// after any append.
pub struct Recorder {
    pub crash: Arc<Crash>,
    pub seen: mpsc::UnboundedSender<JournalEntry>,
    pub samples: usize,
}

impl Reporter for Recorder {
    fn entry(&mut self, entry: &JournalEntry, _state: &RunState) {
        let _ = self.seen.send(entry.clone());
        assert!(!self.crash.is_here(), "scripted end of the process");
    }
    fn say(&mut self, _attempt: &AttemptId, _text: &str) {}
    fn samples(&mut self, samples: &[Sample]) {
        self.samples += samples.len();
    }
    fn tick(&mut self, _state: &RunState) {}
}

/// A store with one run of a plan, and the world it works on.
pub struct Scene {
    pub store: Store,
    pub world: Arc<World>,
    pub run: RunId,
    pub interrupts: mpsc::Sender<()>,
    receiver: Option<mpsc::Receiver<()>>,
    // Removed with the scene.
    _directory: TempDir,
}

pub fn operator() -> Actor {
    Actor("operator".to_owned())
}

/// A process that has ended already, as far as leases are concerned.
pub fn ended_process() -> Holder {
    Holder { pid: u32::MAX, ..Holder::this_process().unwrap() }
}

impl Scene {
    pub fn new(plan: &Plan) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let run: RunId = "r1".parse().unwrap();
        store.put_plan(plan).unwrap();
        store.approve(&plan.id, &operator(), Timestamp::UNIX_EPOCH, &[]).unwrap();
        store.create_run(&run, &plan.id, &plan.cloud, Timestamp::UNIX_EPOCH).unwrap();
        let (interrupts, receiver) = mpsc::channel(4);
        Self {
            store,
            world: Arc::default(),
            run,
            interrupts,
            receiver: Some(receiver),
            _directory: directory,
        }
    }

    pub fn runtime(&self, holder: Holder, crash: &Arc<Crash>) -> Runtime {
        let driver = ScriptedDriver { world: Arc::clone(&self.world), crash: Arc::clone(crash) };
        Runtime::new(self.store.clone(), Arc::new(driver), holder, operator())
    }

    /// Carries the run out in a process of its own.
    pub fn spawn(
        &mut self,
        holder: Holder,
        crash: Crash,
        probes: Option<volutus_runtime::Probes>,
    ) -> (tokio::task::JoinHandle<Result<RunStatus, Error>>, mpsc::UnboundedReceiver<JournalEntry>) {
        let crash = Arc::new(crash);
        let runtime = self.runtime(holder, &crash);
        let (seen, entries) = mpsc::unbounded_channel();
        let run = self.run.clone();
        let mut interrupts = self.receiver.take().unwrap_or_else(|| mpsc::channel(1).1);
        let mut probes = probes;
        let process = tokio::spawn(async move {
            let mut recorder = Recorder { crash, seen, samples: 0 };
            runtime.execute(&run, probes.as_mut(), &mut interrupts, &mut recorder).await
        });
        (process, entries)
    }

    /// Carries the run out to where it stops.
    pub async fn execute(&mut self) -> Result<RunStatus, Error> {
        let (process, _entries) = self.spawn(Holder::this_process().unwrap(), Crash::default(), None);
        process.await.unwrap()
    }

    pub fn command(&self, command: Command) -> i64 {
        self.store.push_command(&self.run, command, &operator(), Timestamp::UNIX_EPOCH).unwrap()
    }

    pub fn events(&self) -> Vec<Event> {
        self.store.journal(&self.run, 0).unwrap().into_iter().map(|entry| entry.event).collect()
    }
}

/// Waits until an event of this kind is in the journal.
pub async fn until(entries: &mut mpsc::UnboundedReceiver<JournalEntry>, is: impl Fn(&Event) -> bool) {
    while !is(&entries.recv().await.expect("the run went on until the event").event) {}
}

pub fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message: "it broke".to_owned(),
        hint: String::new(),
        evidence: Vec::new(),
        refused_by: std::collections::BTreeSet::new(),
        newcomers: std::collections::BTreeSet::new(),
    })
}

//! Where a run stands, for whoever only looks; and commands to whoever carries it out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use volutus_engine::{Command, Machine, PlanIndex, waiting};
use volutus_model::Plan;
use volutus_model::event::Actor;
use volutus_model::name::RunId;
use volutus_model::run::RunState;
use volutus_store::{RunRecord, Store};

use crate::error::Error;
use crate::session::blocking;

/// How long another process may take to answer a command: it looks twice a second.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How often the answer is looked for.
const ANSWER_POLL: Duration = Duration::from_millis(200);

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its plan.
    pub plan: Plan,
    /// Its state.
    pub state: RunState,
    /// What waits for what, one sentence each.
    pub waiting: Vec<String>,
}

impl Standing {
    /// Folds the journal of a run. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Engine`] where plan and journal do not fit.
    pub fn read(store: &Store, record: &RunRecord) -> Result<Self, Error> {
        let plan = store.plan(&record.plan)?;
        let entries = store.journal(&record.id, 0)?;
        let engine = |source| Error::Engine { run: record.id.clone(), source };
        let index = Arc::new(PlanIndex::new(Arc::new(plan.clone())).map_err(engine)?);
        let machine = Machine::load(record.id.clone(), index, &entries).map_err(engine)?;
        let waiting = waiting(machine.index(), machine.state())
            .into_iter()
            .map(|waiting| format!("stage {} waits {}", waiting.stage, waiting.why))
            .collect();
        Ok(Self { plan, state: machine.into_state(), waiting })
    }
}

/// Leaves a command for the process that carries a run out, and waits for its answer: `Err` within
/// has the reason of a refusal, `None` means that there was no answer within [`ANSWER_LIMIT`]. The
/// command stays then, and is taken up when that process looks.
///
/// # Errors
/// [`Error::Store`].
pub async fn ask(
    store: &Store,
    run: &RunId,
    command: Command,
    actor: &Actor,
    now: Timestamp,
) -> Result<Option<Result<(), String>>, Error> {
    let (run, actor) = (run.clone(), actor.clone());
    let id = blocking(store, move |store| store.push_command(&run, command, &actor, now)).await?;
    let deadline = Instant::now() + ANSWER_LIMIT;
    loop {
        let answer = blocking(store, move |store| store.command_answer(id)).await?;
        if answer.is_some() || Instant::now() > deadline {
            return Ok(answer);
        }
        tokio::time::sleep(ANSWER_POLL).await;
    }
}

//! Plans and their approvals.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};
use volutus_model::event::Actor;
use volutus_model::name::{HostName, PlanId, Series};
use volutus_model::plan::Plan;

use crate::error::Error;
use crate::{Store, records};

/// What a list of plans shows of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRecord {
    /// The plan.
    pub id: PlanId,
    /// The cloud that it is for.
    pub cloud: HostName,
    /// The series that the cloud comes from.
    pub from: Series,
    /// The series that it goes to.
    pub to: Series,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who approved it, where somebody did.
    pub approval: Option<Approval>,
}

/// Somebody's consent to a plan. It is bound to the plan's id, which is the hash of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// Codes of the findings that were consented to with it.
    pub consents: Vec<String>,
}

impl Store {
    /// Keeps a plan. Keeping it again changes nothing.
    ///
    /// # Errors
    /// [`Error::PlanAltered`] where its content is not what its id says.
    pub fn put_plan(&self, plan: &Plan) -> Result<(), Error> {
        verify(plan)?;
        let body = records::encode("a plan", plan)?;
        self.write("keep a plan", |transaction| {
            transaction.execute(
                "INSERT INTO plan (id, cloud, series_from, series_to, created_at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
                params![
                    plan.id.as_str(),
                    plan.cloud.as_str(),
                    plan.from.to_string(),
                    plan.to.to_string(),
                    plan.created_at.to_string(),
                    body
                ],
            )?;
            Ok(())
        })
    }

    /// The plan of that id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::PlanAltered`] where somebody has edited it since.
    pub fn plan(&self, id: &PlanId) -> Result<Plan, Error> {
        let body: Option<String> = self.read("read a plan", |transaction| {
            Ok(transaction
                .query_row("SELECT body FROM plan WHERE id = ?1", [id.as_str()], |row| row.get(0))
                .optional()?)
        })?;
        let Some(body) = body else {
            return Err(Error::NotFound { kind: "plan", sought: id.to_string(), known: Vec::new() });
        };
        let plan: Plan = records::decode(&format!("plan {id}"), &body)?;
        verify(&plan)?;
        if plan.id != *id {
            return Err(Error::PlanAltered { id: id.clone(), actual: plan.id });
        }
        Ok(plan)
    }

    /// The plan whose id begins like this.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the latest plans, [`Error::Ambiguous`], and those of
    /// [`Store::plan`].
    pub fn find_plan(&self, prefix: &str) -> Result<Plan, Error> {
        let ids = self.plans()?.into_iter().map(|plan| plan.id.to_string()).collect();
        let id = records::only_match("plan", prefix, ids)?;
        self.plan(&records::name("plan id", &id)?)
    }

    /// All plans, the latest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn plans(&self) -> Result<Vec<PlanRecord>, Error> {
        self.read("list plans", |transaction| {
            let mut statement = transaction.prepare(
                "SELECT id, cloud, series_from, series_to, created_at FROM plan ORDER BY rowid DESC",
            )?;
            let mut rows = statement.query([])?;
            let mut plans = Vec::new();
            while let Some(row) = rows.next()? {
                let id: PlanId = records::name("plan id", &row.get::<_, String>(0)?)?;
                plans.push(PlanRecord {
                    approval: read_approval(transaction, &id)?,
                    id,
                    cloud: records::name("cloud", &row.get::<_, String>(1)?)?,
                    from: records::name("series", &row.get::<_, String>(2)?)?,
                    to: records::name("series", &row.get::<_, String>(3)?)?,
                    created_at: records::name("time", &row.get::<_, String>(4)?)?,
                });
            }
            Ok(plans)
        })
    }

    /// Approves a plan, with the codes of findings that are consented to. The first approval of
    /// a plan stays; it is what is returned.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::PlanAltered`].
    pub fn approve(
        &self,
        plan: &PlanId,
        actor: &Actor,
        at: Timestamp,
        consents: &[String],
    ) -> Result<Approval, Error> {
        self.plan(plan)?;
        let body = records::encode("consents", &consents)?;
        self.write("approve a plan", |transaction| {
            transaction.execute(
                "INSERT INTO approval (plan, actor, at, consents) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (plan) DO NOTHING",
                params![plan.as_str(), actor.0, at.to_string(), body],
            )?;
            let approval = read_approval(transaction, plan)?;
            approval.ok_or_else(|| Error::NotApproved { plan: plan.clone() })
        })
    }

    /// The approval of a plan, where there is one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn approval(&self, plan: &PlanId) -> Result<Option<Approval>, Error> {
        self.read("read an approval", |transaction| read_approval(transaction, plan))
    }
}

pub(crate) fn read_approval(transaction: &Transaction<'_>, plan: &PlanId) -> Result<Option<Approval>, Error> {
    let row: Option<(String, String, String)> = transaction
        .query_row("SELECT actor, at, consents FROM approval WHERE plan = ?1", [plan.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    row.map(|(actor, at, consents)| {
        Ok(Approval {
            actor: Actor(actor),
            at: records::name("time", &at)?,
            consents: records::decode("consents", &consents)?,
        })
    })
    .transpose()
}

fn verify(plan: &Plan) -> Result<(), Error> {
    let actual = plan.compute_id();
    if actual == plan.id { Ok(()) } else { Err(Error::PlanAltered { id: plan.id.clone(), actual }) }
}

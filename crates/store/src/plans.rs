//! Plans and their approvals.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};
use volutus_model::event::Actor;
use volutus_model::fleet::RebootPlan;
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
    /// What it is for.
    pub subject: Subject,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who approved it, where somebody did.
    pub approval: Option<Approval>,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Going from a series to another.
    Upgrade {
        /// The series that the cloud comes from.
        from: Series,
        /// The series that it goes to.
        to: Series,
    },
    /// Rebooting hosts.
    Reboot,
}

/// What stands for both series of a plan that reboots.
const REBOOT: &str = "reboot";

/// The kind of document that says who made a plan.
const AUTHOR: &str = "plan-author";

/// A plan of any kind, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyPlan {
    /// An upgrade, or the way back from one.
    Upgrade(Box<Plan>),
    /// A reboot of hosts.
    Reboot(Box<RebootPlan>),
}

impl AnyPlan {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &PlanId {
        match self {
            Self::Upgrade(plan) => &plan.id,
            Self::Reboot(plan) => &plan.id,
        }
    }
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
        let series = [plan.from.to_string(), plan.to.to_string()];
        self.put(&plan.id, &plan.cloud, &series, plan.created_at, &body)
    }

    /// Keeps a plan of a reboot. Keeping it again changes nothing.
    ///
    /// # Errors
    /// As [`Store::put_plan`].
    pub fn put_reboot_plan(&self, plan: &RebootPlan) -> Result<(), Error> {
        verify_reboot(plan)?;
        let body = records::encode("a plan", plan)?;
        let series = [REBOOT.to_owned(), REBOOT.to_owned()];
        self.put(&plan.id, &plan.content.cloud, &series, plan.content.created_at, &body)
    }

    fn put(
        &self,
        id: &PlanId,
        cloud: &HostName,
        series: &[String; 2],
        created_at: Timestamp,
        body: &str,
    ) -> Result<(), Error> {
        self.write("keep a plan", |transaction| {
            transaction.execute(
                "INSERT INTO plan (id, cloud, series_from, series_to, created_at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
                params![id.as_str(), cloud.as_str(), series[0], series[1], created_at.to_string(), body],
            )?;
            Ok(())
        })
    }

    /// The plan of that id, which is an upgrade or the way back from one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IsReboot`]; [`Error::PlanAltered`] where somebody has edited it
    /// since.
    pub fn plan(&self, id: &PlanId) -> Result<Plan, Error> {
        match self.any_plan(id)? {
            AnyPlan::Upgrade(plan) => Ok(*plan),
            AnyPlan::Reboot(_) => Err(Error::IsReboot { id: id.clone() }),
        }
    }

    /// The plan of that id, of any kind.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::PlanAltered`] where somebody has edited it since.
    pub fn any_plan(&self, id: &PlanId) -> Result<AnyPlan, Error> {
        let row: Option<(String, String)> = self.read("read a plan", |transaction| {
            Ok(transaction
                .query_row("SELECT series_to, body FROM plan WHERE id = ?1", [id.as_str()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?)
        })?;
        let Some((series, body)) = row else {
            return Err(Error::NotFound { kind: "plan", sought: id.to_string(), known: Vec::new() });
        };
        let what = format!("plan {id}");
        let plan = if series == REBOOT {
            let plan: RebootPlan = records::decode(&what, &body)?;
            verify_reboot(&plan)?;
            AnyPlan::Reboot(Box::new(plan))
        } else {
            let plan: Plan = records::decode(&what, &body)?;
            verify(&plan)?;
            AnyPlan::Upgrade(Box::new(plan))
        };
        if plan.id() != id {
            return Err(Error::PlanAltered { id: id.clone(), actual: plan.id().clone() });
        }
        Ok(plan)
    }

    /// The plan of any kind whose id begins like this.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the latest plans, [`Error::Ambiguous`], and those of
    /// [`Store::any_plan`].
    pub fn find_any_plan(&self, prefix: &str) -> Result<AnyPlan, Error> {
        self.any_plan(&self.find_plan_id(prefix)?)
    }

    fn find_plan_id(&self, prefix: &str) -> Result<PlanId, Error> {
        let ids = self.plans()?.into_iter().map(|plan| plan.id.to_string()).collect();
        records::name("plan id", &records::only_match("plan", prefix, ids)?)
    }

    /// The plan whose id begins like this.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the latest plans, [`Error::Ambiguous`], and those of
    /// [`Store::plan`].
    pub fn find_plan(&self, prefix: &str) -> Result<Plan, Error> {
        self.plan(&self.find_plan_id(prefix)?)
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
                let (from, to): (String, String) = (row.get(2)?, row.get(3)?);
                let subject = if to == REBOOT {
                    Subject::Reboot
                } else {
                    Subject::Upgrade {
                        from: records::name("series", &from)?,
                        to: records::name("series", &to)?,
                    }
                };
                plans.push(PlanRecord {
                    subject,
                    approval: read_approval(transaction, &id)?,
                    id,
                    cloud: records::name("cloud", &row.get::<_, String>(1)?)?,
                    created_at: records::name("time", &row.get::<_, String>(4)?)?,
                });
            }
            Ok(plans)
        })
    }

    /// Records who made a plan; the first one stays.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put_author(&self, plan: &PlanId, author: &Actor, at: Timestamp) -> Result<(), Error> {
        match self.author(plan)? {
            Some(_) => Ok(()),
            None => self.put_documents(AUTHOR, &[(plan.to_string(), author.clone())], at),
        }
    }

    /// Who made a plan, where it is known.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn author(&self, plan: &PlanId) -> Result<Option<Actor>, Error> {
        let authors = self.documents::<Actor>(AUTHOR)?;
        Ok(authors.into_iter().find(|document| document.key == plan.as_str()).map(|document| document.body))
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
        self.any_plan(plan)?;
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

fn verify_reboot(plan: &RebootPlan) -> Result<(), Error> {
    let actual = RebootPlan::compute_id(&plan.content);
    if actual == plan.id { Ok(()) } else { Err(Error::PlanAltered { id: plan.id.clone(), actual }) }
}

fn verify(plan: &Plan) -> Result<(), Error> {
    let actual = plan.compute_id();
    if actual == plan.id { Ok(()) } else { Err(Error::PlanAltered { id: plan.id.clone(), actual }) }
}

//! Where owners answer what happens to their instances: a signed link is all that it takes.
//!
//! To look changes nothing: programs that scan mail follow every link. What is refused says nothing of what there
//! is.

use std::collections::BTreeMap;

use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{Answer, Confirmation, RebootPlan};
use volutus_notices::{
    InstanceFate, Key, Link, Moment, Question, Refusal, fates, question_page, refusal_page,
};
use volutus_store::AnyPlan;

use crate::{Api, Problem};

/// As of every page, and the form may be sent to where it came from.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// Why there is no question to be shown.
enum Stop {
    /// Told by a page.
    Refused(Refusal),
    /// A defect.
    Problem(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<volutus_store::Error> for Stop {
    fn from(error: volutus_store::Error) -> Self {
        Self::Problem(error.into())
    }
}

/// Page, status and headers of a question or a refusal.
fn page(answer: Result<String, Stop>) -> Result<Response, Problem> {
    let (status, page) = match answer {
        Ok(page) => (StatusCode::OK, page),
        Err(Stop::Problem(problem)) => return Err(problem),
        Err(Stop::Refused(why)) => {
            let status = match why {
                Refusal::Foreign => StatusCode::FORBIDDEN,
                Refusal::TooLate => StatusCode::GONE,
                Refusal::Unclear => StatusCode::BAD_REQUEST,
            };
            (status, refusal_page(why))
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address is the secret: it is not told on, and not kept.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((status, headers, page).into_response())
}

/// What happens to which instances of a project, and a form to answer.
#[utoipa::path(get, path = "/confirm/{link}", tag = "public", security(()),
    params(("link" = String, Path, description = "The signed link, from the notice")),
    responses(
        (status = 200, body = String, content_type = "text/html"),
        (status = 403, body = String, content_type = "text/html", description = "Not a link of this cloud"),
        (status = 410, body = String, content_type = "text/html", description = "Too late"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn ask(
    State(api): State<Api>,
    link: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Ok(Path(link)) = link else { return page(Err(Stop::Refused(Refusal::Foreign))) };
    page(told(&api, move |api| Asked::by(api, &link)?.page(api, "")).await)
}

/// An answer to what is announced for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// As announced.
    Agree,
    /// Later, within the same window.
    Later,
    /// Stopped on its host instead, and started again.
    Stop,
}

/// Records answers: of each instance by its id, `all` for those that are not named. The last answer counts, until
/// the run begins.
#[utoipa::path(post, path = "/confirm/{link}", tag = "public", security(()),
    params(("link" = String, Path, description = "The signed link, from the notice")),
    request_body(content = BTreeMap<String, Choice>, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html"),
        (status = 400, body = String, content_type = "text/html", description = "Not an answer"),
        (status = 403, body = String, content_type = "text/html", description = "Not a link or an instance of this project"),
        (status = 410, body = String, content_type = "text/html", description = "Too late"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn answer(
    State(api): State<Api>,
    link: Result<Path<String>, PathRejection>,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Result<Response, Problem> {
    let Ok(Path(link)) = link else { return page(Err(Stop::Refused(Refusal::Foreign))) };
    let answered = told(&api, move |api| {
        let asked = Asked::by(api, &link)?;
        match form {
            Ok(Form(form)) => asked.record(api, &form),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::new(rejection.status(), "malformed-request", rejection.body_text()).into())
            }
            Err(_) => Err(Stop::Refused(Refusal::Unclear)),
        }
    });
    page(answered.await)
}

/// On a thread where waiting harms nobody.
async fn told(
    api: &Api,
    call: impl FnOnce(&Api) -> Result<String, Stop> + Send + 'static,
) -> Result<String, Stop> {
    api.blocking(move |api| Ok(call(api))).await?
}

/// What a link asks about.
struct Asked {
    link: Link,
    plan: RebootPlan,
    instances: Vec<InstanceFate>,
}

impl Asked {
    fn by(api: &Api, token: &str) -> Result<Self, Stop> {
        let state = api.store().path().parent().unwrap_or(std::path::Path::new("."));
        let key = Key::read(state).map_err(|error| {
            tracing::error!(%error, "links");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "store", "links cannot be verified")
                .hint("The server's log tells why.")
        })?;
        let link = key.and_then(|key| key.verify(token)).filter(|link| link.cloud == api.cloud().as_str());
        let link = link.ok_or(Stop::Refused(Refusal::Foreign))?;
        if link.begins <= Api::now() {
            return Err(Stop::Refused(Refusal::TooLate));
        }
        let plan = announced(api, &link.plan)?.ok_or(Stop::Refused(Refusal::TooLate))?;
        let mut instances = fates(&plan, Moment::Before);
        instances.retain(|instance| instance.project == link.project);
        if api.store().has_run_of(api.cloud().as_str(), plan.id.as_str())? {
            return Err(Stop::Refused(Refusal::TooLate));
        }
        Ok(Self { link, plan, instances })
    }

    fn with<T>(&self, api: &Api, note: &str, what: impl FnOnce(&Question<'_>) -> T) -> Result<T, Problem> {
        let all = api.store().confirmations(api.cloud().as_str())?;
        // The store keeps microseconds.
        let begins = Timestamp::from_microsecond(self.link.begins.as_microsecond())
            .map_err(|_| Problem::broken("the time of a link is none"))?;
        let these = |one: &Confirmation| one.plan == self.plan.id.as_str() && one.begins == begins;
        let answers: BTreeMap<String, Answer> =
            all.into_iter().filter(these).map(|one| (one.instance, one.answer)).collect();
        Ok(what(&Question {
            cloud: api.cloud().as_str(),
            begins: self.link.begins,
            instances: &self.instances,
            may_stop: self.plan.content.policy.drain.ladder.contains(&Rung::Stop),
            answers: &answers,
            note,
        }))
    }

    fn page(&self, api: &Api, note: &str) -> Result<String, Stop> {
        Ok(self.with(api, note, question_page)?)
    }

    fn record(&self, api: &Api, form: &[(String, String)]) -> Result<String, Stop> {
        let now = Api::now();
        let given: Result<Vec<Confirmation>, Refusal> = self.with(api, "", |question| {
            let given = question.answered(form)?;
            let confirmation = |(instance, answer): (&InstanceFate, Answer)| Confirmation {
                plan: self.plan.id.to_string(),
                begins: self.link.begins,
                project: instance.project.clone(),
                instance: instance.id.clone(),
                answer,
                announced_stop: instance.is_announced_stop(),
                at: now,
            };
            Ok(given.into_iter().map(confirmation).collect())
        })?;
        let given = given.map_err(Stop::Refused)?;
        if given.is_empty() {
            return self.page(api, "Nothing was chosen, and nothing was recorded.");
        }
        if !api.store().record_confirmations(api.cloud().as_str(), &given)? {
            return Err(Stop::Refused(Refusal::TooLate));
        }
        self.page(api, "Thank you. Your answer was recorded.")
    }
}

/// The plan of the reboot that was announced; `None` where it is gone or is of something else.
fn announced(api: &Api, id: &str) -> Result<Option<RebootPlan>, Problem> {
    let find = |id: &str| -> Result<Option<AnyPlan>, Problem> {
        let Ok(id) = id.parse() else { return Ok(None) };
        match api.store().any_plan(&id) {
            Ok(plan) => Ok(Some(plan)),
            Err(volutus_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let of = match find(id)? {
        Some(AnyPlan::Reboot(plan)) => return Ok(Some(*plan)),
        Some(AnyPlan::Upgrade(plan)) => match plan.reboot_plan() {
            Some(of) => of.clone(),
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    Ok(find(of.as_str())?.and_then(|plan| match plan {
        AnyPlan::Reboot(plan) => Some(*plan),
        AnyPlan::Upgrade(_) => None,
    }))
}

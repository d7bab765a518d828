//! A server that keeps the cloud: while one answers, work is asked of it instead of being carried out by
//! this process.
//!
//! The server leaves a link to its Unix socket in the state directory. What it is asked for, it is asked
//! for over that socket, so that the kernel says who asks, and by the API that everybody has. How things
//! stand is read from the store, as ever.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volutus_engine::Command;
use volutus_model::RunId;
use volutus_model::run::RunStatus;
use volutus_store::{RunRecord, Store};

use crate::commands::control::load;
use crate::commands::plan::store_error;
use crate::commands::run::tell_end;
use crate::commands::serve::firing::Deeds;
use crate::commands::watch;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};

/// Longer than the server takes for any answer: to begin a run it looks at every host, for five minutes
/// at the most.
const ANSWER_LIMIT: Duration = Duration::from_secs(330);

/// How often it is looked whether another run follows one that has ended; as `volutus watch` looks.
const PERIOD: Duration = Duration::from_millis(500);

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Cloud {
    name: String,
}

#[derive(Deserialize)]
struct Begun {
    run: RunId,
}

/// Consent, as the server recorded it.
#[derive(Debug, Deserialize)]
pub struct Approved {
    /// Who.
    pub actor: String,
    /// When.
    pub at: String,
    /// Codes of findings that were consented to.
    pub consents: Vec<String>,
}

/// A problem document.
#[derive(Deserialize)]
struct Refusal {
    status: u16,
    code: String,
    detail: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        let kind = match (refusal.status, refusal.code.as_str()) {
            (_, "blocked") => Kind::Blocked,
            (400..=499, _) => Kind::Refused,
            (502, _) => Kind::Cloud,
            _ => Kind::Internal,
        };
        Self {
            kind,
            // One error ends the process, so that its code may live as long.
            code: String::leak(refusal.code),
            message: refusal.detail,
            causes: refusal.causes,
            hint: refusal.hint,
        }
    }
}

impl Server {
    /// The server of a cloud; `None` where none answers.
    ///
    /// # Errors
    /// `server-closed` where one is there that this user may not ask, and whatever it says of itself
    /// that does not fit.
    pub async fn of(context: &Context) -> Result<Option<Self>> {
        let link = context.server_link();
        // The link's own path may be longer than that of a socket can be.
        let Ok(socket) = std::fs::canonicalize(&link) else { return Ok(None) };
        match UnixStream::connect(&socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let message =
                    format!("a server keeps the cloud, and you may not ask it at {}", socket.display());
                return Err(CliError::refused("server-closed", message)
                    .because(&error)
                    .hint("Members of the group of `volutus serve --group` may."));
            }
            // What a server that was killed left there.
            Err(_) => return Ok(None),
        }
        let client = reqwest::Client::builder().unix_socket(socket.clone()).timeout(ANSWER_LIMIT).build();
        let client = client.map_err(|error| unasked(&socket, &error))?;
        let server = Self { socket, client };
        let clouds: Vec<Cloud> = server.read(server.client.get(server.url(&["clouds"])?)).await?;
        let name = context.inventory.name.as_str();
        if clouds.iter().any(|cloud| cloud.name == name) {
            return Ok(Some(server));
        }
        let message = format!("the server at {} does not keep cloud {name}", server.socket.display());
        Err(CliError::refused("other-cloud", message)
            .hint("Give each cloud a state directory of its own: --state DIR."))
    }

    /// Has an approved plan carried out, and follows it.
    pub async fn run(&self, context: &Context, plan: &str) -> Result<()> {
        self.tell();
        let begun: Begun = self.post(&["runs"], &json!({"plan": plan})).await?;
        anstream::eprintln!("run {}; it goes on if you leave here", begun.run);
        self.follow(context, begun.run).await
    }

    /// Hands a command to a run on, and follows the run where the command sets it going.
    pub async fn command(
        &self,
        context: &Context,
        store: &Store,
        record: &RunRecord,
        command: Command,
    ) -> Result<()> {
        let (word, body) = match command {
            Command::Pause => ("pause", Value::Null),
            Command::Resume => ("resume", Value::Null),
            Command::GoOn => ("go-on", Value::Null),
            Command::Abort => ("abort", Value::Null),
            Command::RollBack => ("rollback", Value::Null),
            Command::Finalize => ("finalize", json!({"cloud": record.cloud})),
        };
        self.tell();
        let idle = !self.works(context, store, &record.cloud)?;
        let _accepted: Value = self.post(&["runs", record.id.as_str(), word], &body).await?;
        anstream::println!("{command}: accepted by the server");
        if idle && command != Command::Pause {
            return self.follow(context, record.id.clone()).await;
        }
        anstream::eprintln!("`volutus watch` follows the run.");
        Ok(())
    }

    /// Consents to a plan.
    pub async fn approve(&self, plan: &str, accept: &[String]) -> Result<Approved> {
        self.tell();
        self.post(&["plans", plan, "approve"], &json!({"accept": accept})).await
    }

    fn tell(&self) {
        anstream::eprintln!("the server at {} carries it out", self.socket.display());
    }

    /// Follows a run, and those that the server lets follow it (a rollback, the rest of a reboot), and
    /// tells how the last one ended as `volutus run` does.
    async fn follow(&self, context: &Context, first: RunId) -> Result<()> {
        let store = context.store()?;
        let mut run = first;
        loop {
            let record = store.run(&run).map_err(store_error)?;
            watch::follow(context, &store, &record, || self.works(context, &store, &record.cloud)).await?;
            let next = loop {
                let latest = store.latest_run(&record.cloud).map_err(store_error)?;
                match latest.filter(|latest| latest.id != run) {
                    Some(latest) if latest.created_at > record.created_at => break Some(latest.id),
                    _ if !self.works(context, &store, &record.cloud)? => break None,
                    _ => tokio::time::sleep(PERIOD).await,
                }
            };
            let Some(next) = next else { break };
            anstream::eprintln!("run {next} follows run {run}");
            run = next;
        }
        let (plan, state, _) = load(&store, &store.run(&run).map_err(store_error)?)?;
        let verdict = match state.status {
            RunStatus::AwaitingFinalize | RunStatus::Succeeded => store.verdict(&run).map_err(store_error)?,
            _ => None,
        };
        tell_end(&store, &run, &plan, &state, verdict.as_ref()).map_err(|error| {
            if error.hint.is_none() { error.hint("The server's log tells more.") } else { error }
        })
    }

    /// Whether somebody works on the cloud, or this server is about to. Who works without a lease, and
    /// whose socket nobody answers at, is gone.
    fn works(&self, context: &Context, store: &Store, cloud: &volutus_model::HostName) -> Result<bool> {
        let held = store.lease(cloud, Context::now()).map_err(store_error)?.is_some();
        Ok(held
            || (Deeds::of(context, store).carried()?.is_some() && UnixStream::connect(&self.socket).is_ok()))
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let malformed = || CliError::refused("not-found", format!("`{}` is no name", path.join("/")));
        let mut url = Url::parse("http://volutus").map_err(|_| malformed())?;
        url.path_segments_mut().map_err(|()| malformed())?.extend(path);
        Ok(url)
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T> {
        let request = self.client.post(self.url(path)?);
        self.read(if body.is_null() { request } else { request.json(body) }).await
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let unasked = |error: reqwest::Error| unasked(&self.socket, &error.without_url());
        let answer: Response = request.send().await.map_err(unasked)?;
        if answer.status().is_success() {
            return answer.json().await.map_err(unasked);
        }
        Err(answer.json::<Refusal>().await.map_err(unasked)?.into())
    }
}

fn unasked(socket: &std::path::Path, error: &dyn std::error::Error) -> CliError {
    let message = format!("the server at {} did not answer as one does", socket.display());
    CliError::new(Kind::Internal, "no-answer", message).because(error).hint(
        "Its log tells why. `volutus status` tells where the run stands. Without the server, or once it has \
               ended, the command line works by itself.",
    )
}

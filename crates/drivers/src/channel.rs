//! A conversation with a host: a small program is sent over ssh to a Python that is there
//! already, and then asked, one line of JSON at a time.
//!
//! Nothing is installed, and nothing stays: the program ends with the connection. Asking again
//! costs no new process, so that waiting for something is cheap on both sides.

use std::sync::Arc;
use std::time::Duration;

use openssh::{Child, ChildStdin, ChildStdout, OwningCommand, Session, Stdio};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use volutus_model::name::HostName;

use crate::snapshot::{COMMON, LOOK};
use crate::ssh::{Error, Hosts, Place, describe};

const SERVE: &str = include_str!("host/serve.py");
const PROCESS: &str = include_str!("host/process.py");
const HOST: &str = include_str!("host/host.py");
const SHADOW: &str = include_str!("host/shadow.py");
const OVN: &str = include_str!("host/ovn.py");
const ANNOUNCE: &str = include_str!("host/announce.py");
const DATABASE: &str = include_str!("host/database.py");

/// Reads the length of a program and the program from its input, and becomes it; the requests
/// follow on the same input.
const BOOT: &str = "import sys;n=int(sys.stdin.buffer.readline());\
                    exec(compile(sys.stdin.buffer.read(n),'volutus','exec'))";

/// Longest answer that is read: the units of a host with hundreds of daemons stay far below, and
/// a host that sends without end cannot fill the memory.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// How long an ordinary question may take: systemd's own answers are bounded by 20 s on the
/// host's side.
pub(crate) const ASK: Duration = Duration::from_secs(45);

/// How long a program may take to say that it runs: starting Python takes a tenth of a second, on
/// a host that is busy beyond reason perhaps some.
const HELLO: Duration = Duration::from_secs(20);

/// A question that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] Error),
    /// The host answered that it cannot.
    #[error("{host}: {why}")]
    Refused {
        /// The host.
        host: HostName,
        /// What it said.
        why: String,
    },
}

impl Trouble {
    /// The outcome of an attempt that met this trouble; see [`Error::outcome`].
    #[must_use]
    pub(crate) fn outcome(&self, begun: bool) -> volutus_model::Outcome {
        match self {
            Self::Connection(error) => error.outcome(begun),
            Self::Refused { host, why } => {
                Error::Host { host: host.clone(), doing: "do what was asked".to_owned(), seen: why.clone() }
                    .outcome(begun)
            }
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    value: Option<Value>,
    error: Option<String>,
}

impl Hosts {
    /// Connects to a host, unless that is done, and sees that it can be worked with.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn reach(self: &Arc<Self>, host: &HostName) -> Result<(), Error> {
        Channel::to_host(self, host).await.map(|_| ())
    }
}

/// One conversation.
pub(crate) struct Channel {
    hosts: Arc<Hosts>,
    host: HostName,
    session: Arc<Session>,
    child: Child<Arc<Session>>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _place: Place,
}

impl Channel {
    /// Opens a conversation with the host itself, by its system's Python.
    pub(crate) async fn to_host(hosts: &Arc<Hosts>, host: &HostName) -> Result<Self, Error> {
        Self::open(hosts, host, "/usr/bin/python3", &[SERVE, PROCESS, OVN, ANNOUNCE, HOST, SHADOW]).await
    }

    /// Opens a conversation with the databases that services on `host` use, by the Python of a
    /// release there.
    pub(crate) async fn to_databases(
        hosts: &Arc<Hosts>,
        host: &HostName,
        python: &str,
    ) -> Result<Self, Error> {
        Self::open(hosts, host, python, &[SERVE, DATABASE]).await
    }

    /// Opens a conversation about the snapshots on a database host.
    pub(crate) async fn to_snapshots(hosts: &Arc<Hosts>, host: &HostName) -> Result<Self, Error> {
        Self::open(hosts, host, "/usr/bin/python3", &[SERVE, COMMON, LOOK]).await
    }

    /// Opens a conversation with a program of these parts, by the Python of a release on `host`. The
    /// parts register their operations, and the last of them begins to serve.
    pub(crate) async fn to_release(
        hosts: &Arc<Hosts>,
        host: &HostName,
        python: &str,
        parts: &[&str],
    ) -> Result<Self, Error> {
        let parts: Vec<&str> = std::iter::once(SERVE).chain(parts.iter().copied()).collect();
        Self::open(hosts, host, python, &parts).await
    }

    async fn open(hosts: &Arc<Hosts>, host: &HostName, python: &str, parts: &[&str]) -> Result<Self, Error> {
        let program = parts.concat();
        // A master that died since it was last used is only noticed by using it, so one failure
        // on a connection that stood before is tried again on a new one.
        let first = Self::try_open(hosts, host, python, &program).await;
        match first {
            Err(Error::Lost { .. }) => Self::try_open(hosts, host, python, &program).await,
            other => other,
        }
    }

    async fn try_open(
        hosts: &Arc<Hosts>,
        host: &HostName,
        python: &str,
        program: &str,
    ) -> Result<Self, Error> {
        let place = hosts.place(host).await?;
        let session = Arc::clone(&place.session);
        let mut command: OwningCommand<Arc<Session>> = if hosts.needs_sudo() {
            let mut command = Arc::clone(&session).arc_command("sudo");
            command.args(["-n", "--", python]);
            command
        } else {
            Arc::clone(&session).arc_command(python)
        };
        command.args(["-I", "-B", "-c", BOOT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| Error::Local(describe(&error)))?;
        let stdin = child.stdin().take().expect("standard input was asked for as a pipe");
        let stdout = child.stdout().take().expect("standard output was asked for as a pipe");
        let mut channel = Self {
            hosts: Arc::clone(hosts),
            host: host.clone(),
            session,
            child,
            stdin,
            stdout: BufReader::new(stdout),
            _place: place,
        };
        let mut opening = format!("{}\n", program.len()).into_bytes();
        opening.extend_from_slice(program.as_bytes());
        if let Err(error) = channel.stdin.write_all(&opening).await {
            return Err(channel.ended("sending a program", &error.to_string()).await);
        }
        // The first question shows whether the program runs at all.
        channel.exchange("hello", json!({}), HELLO).await?;
        Ok(channel)
    }

    /// Asks, and reads the answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &mut self,
        operation: &str,
        arguments: Value,
        timeout: Duration,
    ) -> Result<T, Trouble> {
        let answer = self.exchange(operation, arguments, timeout).await?;
        let refused = |why: String| Trouble::Refused { host: self.host.clone(), why };
        if let Some(why) = answer.error {
            return Err(refused(why));
        }
        serde_json::from_value(answer.value.unwrap_or(Value::Null))
            .map_err(|error| refused(format!("its answer to `{operation}` is not as expected: {error}")))
    }

    async fn exchange(
        &mut self,
        operation: &str,
        mut arguments: Value,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        arguments["operation"] = json!(operation);
        let mut line = arguments.to_string();
        line.push('\n');
        let mut text = String::new();
        let exchange = async {
            self.stdin.write_all(line.as_bytes()).await?;
            self.stdin.flush().await?;
            (&mut self.stdout).take(ANSWER_BYTES_MAX).read_line(&mut text).await
        };
        let seen = match tokio::time::timeout(timeout, exchange).await {
            Err(_) => {
                // Whatever hangs, a new connection is the better one to go on with.
                self.hosts.forget(&self.host, &self.session).await;
                return Err(Error::Lost {
                    host: self.host.clone(),
                    doing: format!("asking `{operation}`"),
                    seen: format!("no answer within {} s", timeout.as_secs()),
                });
            }
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(_)) if text.ends_with('\n') => match serde_json::from_str(&text) {
                Ok(answer) => return Ok(answer),
                Err(error) => format!("an answer that is no JSON ({error})"),
            },
            Ok(Ok(_)) => "its output ended".to_owned(),
        };
        Err(self.ended(operation, &seen).await)
    }

    /// Why the conversation ended: what is on the other side's standard error tells a lost
    /// connection from a host that has no such Python.
    async fn ended(&mut self, doing: &str, seen: &str) -> Error {
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr().take() {
            let mut bytes = Vec::new();
            let mut beginning = stderr.take(8_192);
            let read = beginning.read_to_end(&mut bytes);
            // It has ended, so its last words are here already or will not come.
            if tokio::time::timeout(Duration::from_secs(2), read).await.is_ok() {
                said = String::from_utf8_lossy(&bytes).trim().to_owned();
            }
        }
        let lost = said.is_empty()
            || said.contains("Control socket connect")
            || said.contains("mux_client")
            // Without a master ssh tries to connect to the name that stands in its place.
            || said.contains("hostname none")
            || said.contains("Connection to")
            || said.contains("Connection refused")
            || said.contains("Connection reset");
        let seen = if said.is_empty() { seen.to_owned() } else { format!("{seen}: {said}") };
        let (host, doing) = (self.host.clone(), doing.to_owned());
        if lost {
            self.hosts.forget(&host, &self.session).await;
            Error::Lost { host, doing: format!("asking `{doing}`"), seen }
        } else {
            Error::Host { host, doing: format!("answer `{doing}`"), seen }
        }
    }
}

/// A program that runs as a unit of its own: its request, and then its parts.
pub(crate) fn standalone(request: &Value, parts: &[&str]) -> String {
    // JSON text is written as a JSON string, which is a Python string as well.
    let text = Value::String(request.to_string()).to_string();
    let mut program = format!("import json\nREQUEST = json.loads({text})\n");
    for part in parts {
        program.push_str(part);
    }
    program
}

/// The part of stand-alone programs that reads units and processes.
pub(crate) const PROCESS_PART: &str = PROCESS;

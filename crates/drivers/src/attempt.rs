//! One attempt under way: what is ordered, how long it may take, and how to tell of it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use volutus_engine::ports::{Order, Say};
use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Failure, FailureClass, Outcome, tail_for_evidence};

use crate::CloudDriver;

/// Either way is an outcome; the `Err` side is the one that ends an attempt early.
pub(crate) type Attempted = Result<Outcome, Outcome>;

/// One attempt under way.
pub(crate) struct Attempt<'a> {
    /// The cloud.
    pub cloud: &'a CloudDriver,
    /// What is to be done.
    pub order: &'a Order,
    /// Tells what is waited for.
    pub say: Say<'a>,
    /// When it is given up.
    pub deadline: Instant,
    /// What was told last.
    pub told: Mutex<String>,
}

impl Attempt<'_> {
    /// Time left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether time is up.
    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Tells what is waited for, where that is something new.
    pub(crate) fn say(&self, text: impl Into<String>) {
        let text = text.into();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != text {
            told.clone_from(&text);
            drop(told);
            (self.say)(text);
        }
    }

    /// Lets `pause` go by, or what is left of the time.
    pub(crate) async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause.min(self.left())).await;
    }
}

/// The outcome of an attempt that would fail the same way again.
pub(crate) fn permanent(
    message: impl Into<String>,
    hint: impl Into<String>,
    evidence: Vec<Evidence>,
) -> Outcome {
    failed(FailureClass::Permanent, message, hint, evidence)
}

/// The outcome of an attempt that may be repeated.
pub(crate) fn transient(
    message: impl Into<String>,
    hint: impl Into<String>,
    evidence: Vec<Evidence>,
) -> Outcome {
    failed(FailureClass::Transient, message, hint, evidence)
}

fn failed(
    class: FailureClass,
    message: impl Into<String>,
    hint: impl Into<String>,
    evidence: Vec<Evidence>,
) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message: message.into(),
        hint: hint.into(),
        evidence,
        refused_by: BTreeSet::new(),
        newcomers: BTreeSet::new(),
    })
}

/// Evidence of a state that was read.
pub(crate) fn state(what: impl Into<String>, value: impl AsRef<str>) -> Evidence {
    Evidence::State { what: what.into(), value: tail_for_evidence(value.as_ref()) }
}

/// Evidence of a command that ran on a host.
pub(crate) fn command(host: &HostName, argv: &[String], exit_code: Option<i32>, output: &str) -> Evidence {
    Evidence::Command {
        host: host.to_string(),
        command: argv.join(" "),
        exit_code,
        output: tail_for_evidence(output),
    }
}

/// The last line of an output that says something.
pub(crate) fn last_line(output: &str) -> &str {
    // Frames of tables say nothing.
    let says = |line: &&str| line.contains(char::is_alphanumeric);
    output.lines().rev().map(str::trim).find(says).unwrap_or("")
}

//! Watching the guests of a lab with a real data plane while something is done to it.

use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

/// A watch of a lab's guests that goes on.
#[derive(Debug)]
pub struct GuestWatch(Child);

impl GuestWatch {
    /// Begins it; `command` is `volutus-lab watch-guests`.
    ///
    /// # Errors
    /// Where the command cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.args(["--output", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("could not start the watch of the guests")?))
    }

    /// Ends it: what was seen of every guest.
    ///
    /// # Errors
    /// Where the command printed nothing that can be read.
    pub fn end(mut self) -> anyhow::Result<Vec<Value>> {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("the watch of the guests printed {text:?}"))
    }
}

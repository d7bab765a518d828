//! Showing what the lab is doing: spinners on a terminal, timestamped lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

/// Receives the beginning and the end of every step. Steps may overlap.
pub trait Progress: Sync {
    /// A step begins.
    fn started(&self, step: &str);
    /// A step says what it is at.
    fn detail(&self, step: &str, detail: &str);
    /// A step has ended.
    fn finished(&self, step: &str, elapsed: Duration, failed: bool);
}

/// Runs `work` as a named step and wraps its error with that name.
pub(crate) fn step<T>(progress: &dyn Progress, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    progress.started(name);
    let began = Instant::now();
    let result = work();
    progress.finished(name, began.elapsed(), result.is_err());
    result.map_err(|source| match source {
        // The innermost step tells best where it happened.
        nested @ Error::Step { .. } => nested,
        source => Error::Step { step: name.to_owned(), source: Box::new(source) },
    })
}

/// Shows nothing; for tests and for callers with a display of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _step: &str) {}
    fn detail(&self, _step: &str, _detail: &str) {}
    fn finished(&self, _step: &str, _elapsed: Duration, _failed: bool) {}
}

/// One timestamped line (UTC) for every step that begins or ends, on standard error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lines;

impl Lines {
    fn line(self, text: &str) {
        // Progress is talk: a closed standard error must not end the work.
        drop(writeln!(std::io::stderr().lock(), "{} {text}", clock(SystemTime::now())));
    }
}

impl Progress for Lines {
    fn started(&self, step: &str) {
        self.line(&format!("{step} ..."));
    }
    fn detail(&self, step: &str, detail: &str) {
        self.line(&format!("{step}: {detail}"));
    }
    fn finished(&self, step: &str, elapsed: Duration, failed: bool) {
        let verb = if failed { "FAILED after" } else { "done in" };
        self.line(&format!("{step} {verb} {:.1} s", elapsed.as_secs_f64()));
    }
}

/// A spinner for every running step and a line for every step that has ended.
#[derive(Debug)]
pub struct Terminal {
    bars: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { bars: MultiProgress::new(), running: Mutex::new(BTreeMap::new()) }
    }
}

impl Progress for Terminal {
    fn started(&self, step: &str) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(step.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Ok(mut running) = self.running.lock() {
            running.insert(step.to_owned(), bar);
        }
    }

    fn detail(&self, step: &str, detail: &str) {
        if let Some(bar) = self.running.lock().ok().as_ref().and_then(|bars| bars.get(step)) {
            bar.set_message(detail.to_owned());
        }
    }

    fn finished(&self, step: &str, elapsed: Duration, failed: bool) {
        if let Some(bar) = self.running.lock().ok().and_then(|mut bars| bars.remove(step)) {
            bar.finish_and_clear();
        }
        let mark = if failed { "✗" } else { "✓" };
        let line = format!("  {mark} {step} ({:.1} s)", elapsed.as_secs_f64());
        drop(self.bars.println(line));
    }
}

/// The display that fits standard error: spinners on a terminal, lines elsewhere.
pub fn for_stderr() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Terminal::default()) } else { Box::new(Lines) }
}

/// Time of day in UTC.
fn clock(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_the_time_of_day() {
        assert_eq!(clock(UNIX_EPOCH + Duration::from_secs(86_400 + 3_661)), "01:01:01Z");
    }

    #[test]
    fn the_innermost_failed_step_is_named() {
        let result: Result<()> = step(&Silent, "outer", || {
            step(&Silent, "inner", || Err(Error::refused("no", "do it otherwise")))
        });
        assert_eq!(result.expect_err("inner fails").to_string(), "step \"inner\" failed");
    }
}

//! Running other programs: always with a limit in time, always with what they said at hand.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a running program is asked whether it has ended: short against everything that the
/// lab runs, and of no weight for the processor.
const POLL: Duration = Duration::from_millis(10);

/// Lines of output that an error carries: enough for the end of a Python traceback.
const LINES_IN_ERROR: usize = 25;

/// A program that is about to be run.
#[derive(Debug)]
pub(crate) struct Cmd {
    what: String,
    command: Command,
    line: String,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cmd {
    /// A program with its arguments. `what` says what it is to achieve, for errors.
    pub(crate) fn new(what: impl Into<String>, program: &str) -> Self {
        Self {
            what: what.into(),
            command: Command::new(program),
            line: program.to_owned(),
            stdin: None,
            // Ten seconds is far more than any of the small system tools needs.
            limit: Duration::from_secs(10),
        }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        let arg = arg.into();
        self.line.push(' ');
        self.line.push_str(&arg.to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<I, A>(self, args: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Text for standard input; never shown in errors, so it may hold a secret.
    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program and returns its output whatever its exit status is.
    pub(crate) fn output(mut self) -> Result<Output> {
        self.command
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|source| Error::Spawn {
            what: self.what.clone(),
            command: self.line.clone(),
            source,
        })?;
        let writer = self.stdin.take().zip(child.stdin.take()).map(|(text, mut pipe)| {
            // A program that ends without reading its input closes the pipe; its exit status
            // tells more than the broken pipe would.
            thread::spawn(move || drop(pipe.write_all(&text)))
        });
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let status = self.wait(&mut child);
        if let Some(writer) = writer {
            drop(writer.join());
        }
        let (stdout, stderr) = match &status {
            Ok(_) => (joined(stdout), joined(stderr)),
            // Grandchildren may hold the pipes open, so they are not read to their end.
            Err(_) => (String::new(), String::new()),
        };
        Ok(Output { status: status?, stdout, stderr })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            let ended = child.try_wait().map_err(|source| Error::Spawn {
                what: self.what.clone(),
                command: self.line.clone(),
                source,
            })?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if started.elapsed() > self.limit {
                drop(child.kill());
                drop(child.wait());
                return Err(Error::TimedOut {
                    what: format!("{}: `{}`", self.what, self.line),
                    limit: self.limit,
                    seen: String::new(),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Runs the program and returns what it printed; any exit status but 0 is an error.
    pub(crate) fn run(self) -> Result<String> {
        let (what, line) = (self.what.clone(), self.line.clone());
        let output = self.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failure(what, line, &output))
    }

    /// Whether the program ends with 0.
    pub(crate) fn succeeds(self) -> Result<bool> {
        Ok(self.output()?.status.success())
    }
}

/// The error that tells of an output whose status is not 0.
pub(crate) fn failure(what: String, command: String, output: &Output) -> Error {
    let text = format!("{}\n{}", output.stdout.trim_end(), output.stderr.trim_end());
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let seen = lines[lines.len().saturating_sub(LINES_IN_ERROR)..].join("\n");
    Error::Command { what, command, status: output.status.to_string(), seen }
}

type Reader = thread::JoinHandle<String>;

fn collect(pipe: Option<impl std::io::Read + Send + 'static>) -> Option<Reader> {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing.
            drop(pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    })
}

fn joined(reader: Option<Reader>) -> String {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}

/// Repeats `check` until it returns a value, with `pause` between the attempts.
///
/// `check` returns what it saw instead in the `Err` of the inner result, and that is what the
/// error tells when the limit has passed.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut check: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let seen = match check()? {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if started.elapsed() > limit {
            return Err(Error::TimedOut { what: what.to_owned(), limit, seen });
        }
        thread::sleep(pause);
    }
}

/// Repeats something that depends on the network. `attempts` bounds it; the last error counts.
pub(crate) fn retried<T>(attempts: u32, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut made = 1;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if made >= attempts => return Err(error),
            Err(_) => made += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_returns_standard_output_and_feeds_standard_input() {
        let text = Cmd::new("echoing", "cat").stdin("hello").run().expect("cat runs");
        assert_eq!(text, "hello");
    }

    #[test]
    fn run_fails_with_status_and_last_lines() {
        let error = Cmd::new("failing", "sh").args(["-c", "echo seen >&2; exit 3"]).run();
        let report = error.expect_err("the exit status is 3").report();
        assert!(report.contains("exit status: 3"), "{report}");
        assert!(report.contains("| seen"), "{report}");
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let error = Cmd::new("trying", "volutus-no-such-program").run().expect_err("missing");
        assert_eq!(error.kind(), "command-missing");
    }

    #[test]
    fn a_program_over_its_limit_is_ended() {
        let error = Cmd::new("waiting", "sleep")
            .arg("1000")
            .limit(Duration::from_millis(30))
            .run()
            .expect_err("the limit has passed");
        assert_eq!(error.kind(), "timed-out");
    }

    #[test]
    fn retried_stops_after_the_given_attempts() {
        let mut made = 0;
        let result: Result<()> = retried(3, || {
            made += 1;
            Err(Error::refused("no", "never"))
        });
        assert!(result.is_err());
        assert_eq!(made, 3);
    }
}

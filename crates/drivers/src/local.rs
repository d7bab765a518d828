//! Commands of the operator's on Volutus's own machine: within their time, ended with everything that they
//! started, and their output kept.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use volutus_model::outcome::EVIDENCE_CHARS_MAX;

/// Of what a command says so much is kept in its file: a verbose set of tests has some megabytes.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Of it so much is kept at hand for evidence, at four bytes a character.
const TAIL_BYTES: usize = EVIDENCE_CHARS_MAX * 4;
/// What a command gets to clean up after itself when its time is up, before it is killed.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// What is in the pipes when everything of a command has ended is there at once.
const DRAIN: Duration = Duration::from_secs(2);
/// Rounds of looking for processes of a command: one that is found may just start another.
const ROUNDS: usize = 5;
/// Looks at processes that show no environment, which one that is just being started does.
const LOOKS: usize = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Variables of Volutus's own environment that any program needs.
const PASSED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ"];
/// Names the attempt in the environment of everything that a command starts.
pub(crate) const MARKER: &str = "VOLUTUS_ATTEMPT";

/// One call of a command.
pub(crate) struct Call<'a> {
    /// The command and its arguments.
    pub argv: &'a [String],
    /// Variables of Volutus's own environment that it gets besides those that any program needs.
    pub named: &'a BTreeSet<String>,
    /// Variables that it is given.
    pub environment: Vec<(&'static str, OsString)>,
    /// Where it runs: commands of one run may leave files to each other there.
    pub folder: &'a Path,
    /// Where its output goes.
    pub file: &'a Path,
    /// The value of [`MARKER`] in its environment, unlike that of any other call.
    pub mark: &'a str,
    /// After so long it is ended.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its end.
    pub end: End,
    /// Its last words.
    pub tail: String,
}

/// The end of a command.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, or by somebody's signal.
    Exited(ExitStatus),
    /// It was ended because its time was up.
    TimeUp,
    /// It could not be started.
    NotStarted(io::Error),
}

impl Call<'_> {
    /// Runs it, and sees that nothing of it is left.
    ///
    /// # Errors
    /// Where its output cannot be kept.
    pub(crate) async fn carry_out(self) -> io::Result<Ran> {
        // Outputs may hold what is nobody's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.folder)?;
        let mut sink =
            Sink { file: File::create(self.file).await?, left: OUTPUT_BYTES_MAX, tail: Vec::new() };
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder).env_clear();
        let named = self.named.iter().map(String::as_str);
        for name in PASSED.iter().copied().chain(named) {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that all of it can be ended; and so that an interrupt of the terminal
        // reaches Volutus alone.
        command.process_group(0).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Ran { end: End::NotStarted(error), tail: String::new() }),
        };
        let group = Group { leader: child.id(), mark: self.mark };
        let streams = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = streams.ok_or_else(|| io::Error::other("it has no standard streams"))?;
        let mut collected = false;
        let end = {
            let mut reading = pin!(sink.collect(stdout, stderr));
            let end = {
                let mut waiting = pin!(tokio::time::timeout(self.limit, child.wait()));
                loop {
                    tokio::select! {
                        ended = &mut waiting => break ended,
                        read = &mut reading, if !collected => {
                            read?;
                            collected = true;
                        }
                    }
                }
            };
            let end = match end {
                Ok(status) => End::Exited(status?),
                Err(_) => {
                    group.signal(Signal::TERM);
                    let mut waiting = pin!(tokio::time::timeout(CLEAN_UP, child.wait()));
                    loop {
                        tokio::select! {
                            _ = &mut waiting => break,
                            read = &mut reading, if !collected => {
                                read?;
                                collected = true;
                            }
                        }
                    }
                    End::TimeUp
                }
            };
            drop(group);
            if !collected && let Ok(read) = tokio::time::timeout(DRAIN, reading).await {
                read?;
            }
            end
        };
        sink.file.flush().await?;
        Ok(Ran { end, tail: String::from_utf8_lossy(&sink.tail).into_owned() })
    }
}

/// Everything that a command started; it is ended with this.
struct Group<'a> {
    leader: Option<u32>,
    mark: &'a str,
}

impl Group<'_> {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader.and_then(pid) {
            // It may have ended by itself meanwhile, which is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        end_all(self.mark);
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// Kills every process that carries the mark in its environment, also one that has left the group;
/// how many there were.
pub(crate) fn end_all(mark: &str) -> usize {
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let found = marked(mark);
        if found.is_empty() {
            break;
        }
        ended += found.len();
        for process in found {
            let _ = kill_process(process, Signal::KILL);
        }
    }
    ended
}

/// The processes that carry the mark. The environment of one reads as empty once it has ended, and for a moment
/// while it becomes another program: those that have memory are looked at again, all together. Source: proc(5),
/// `/proc/pid/environ` and `/proc/pid/statm`.
pub(crate) fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARKER}={mark}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Volutus itself may run below a command of another Volutus.
    let own = std::process::id();
    let mut open: Vec<u32> = numbers.filter(|number| *number != own).collect();
    let mut found = Vec::new();
    for look in 0..LOOKS {
        if look > 0 && !open.is_empty() {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        open.retain(|number| {
            let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
                found.extend(pid(*number));
            }
            environment.is_empty() && has_memory(*number)
        });
    }
    found
}

/// A process of the kernel has none, nor has one that has ended.
fn has_memory(number: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{number}/statm")).is_ok_and(|pages| !pages.starts_with("0 "))
}

/// Where output goes.
struct Sink {
    file: File,
    /// Bytes that still go into the file.
    left: u64,
    tail: Vec<u8>,
}

impl Sink {
    /// Reads both streams to their ends, in the order in which they come.
    async fn collect(
        &mut self,
        mut stdout: impl AsyncRead + Unpin,
        mut stderr: impl AsyncRead + Unpin,
    ) -> io::Result<()> {
        let (mut from_out, mut from_err) = ([0; 8_192], [0; 8_192]);
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            let piece = tokio::select! {
                count = stdout.read(&mut from_out), if out_open => {
                    let count = count?;
                    out_open = count > 0;
                    &from_out[..count]
                }
                count = stderr.read(&mut from_err), if err_open => {
                    let count = count?;
                    err_open = count > 0;
                    &from_err[..count]
                }
            };
            self.take(piece).await?;
        }
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.tail.extend_from_slice(piece);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        if self.left == 0 {
            return Ok(());
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        self.file.write_all(&piece[..fits]).await?;
        self.left -= fits as u64;
        if self.left == 0 {
            self.file.write_all(b"\n[the rest was not kept: the limit of an output]\n").await?;
        }
        Ok(())
    }
}

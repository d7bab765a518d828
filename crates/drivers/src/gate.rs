//! Client gates: a command of the operator's on Volutus's own machine, within its time, ended with
//! everything that it started, and its output kept.
//!
//! Nothing of an earlier attempt is waited for: a command that an earlier process of Volutus left
//! running is ended and run again, because nobody reads its output any more.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use volutus_model::gate::{ClientGate, GateFailure, GateSeen};
use volutus_model::outcome::{EVIDENCE_CHARS_MAX, Evidence, Outcome, tail_for_evidence};

use crate::attempt::{Attempt, Attempted, last_line, permanent, transient};
use crate::work::safe;

/// Of what a gate says so much is kept in its file: a verbose set of tests has some megabytes.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Of it so much is kept at hand for evidence, at four bytes a character.
const TAIL_BYTES: usize = EVIDENCE_CHARS_MAX * 4;
/// What a gate gets to clean up after itself when its time is up, before it is killed.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// What is in the pipes when everything of a gate has ended is there at once.
const DRAIN: Duration = Duration::from_secs(2);
/// Rounds of looking for processes of a gate: one that is found may just start another.
const ROUNDS: usize = 5;
/// Variables of Volutus's own environment that any program needs.
const PASSED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ"];
/// Names the attempt in the environment of everything that a gate starts.
const MARKER: &str = "VOLUTUS_ATTEMPT";

/// What gates are given of this cloud.
#[derive(Debug, Clone)]
pub(crate) struct Gates {
    /// The folder of gates' files; one below it per run.
    pub folder: PathBuf,
    /// The clouds.yaml.
    pub clouds_yaml: PathBuf,
    /// The entry of it that a gate gets which names none.
    pub cloud: String,
}

/// Runs a gate.
pub(crate) async fn run(attempt: &Attempt<'_>, gate: &ClientGate) -> Attempted {
    let order = attempt.order;
    let gates = &attempt.cloud.gates;
    let mark = order.attempt.to_string();
    if order.taken_up && end_all(&mark) > 0 {
        attempt.say(format!("ended what an earlier process left of the gate {}", gate.name));
    }
    let folder = gates.folder.join(safe(order.run.as_str()));
    let file = folder.join(format!("{}-{}-{}.log", gate.when, gate.name, safe(&mark)));
    attempt.say(format!("asking the gate {} (at most {} s)", gate.name, gate.timeout_s));
    let started = Instant::now();
    let limit = attempt.left().min(Duration::from_secs(u64::from(gate.timeout_s)));
    let environment = vec![
        ("OS_CLIENT_CONFIG_FILE", gates.clouds_yaml.clone().into_os_string()),
        ("OS_CLOUD", gate.cloud.as_ref().unwrap_or(&gates.cloud).into()),
        ("VOLUTUS_RUN", order.run.as_str().into()),
        ("VOLUTUS_GATE", gate.name.clone().into()),
        ("VOLUTUS_MOMENT", gate.when.to_string().into()),
        (MARKER, mark.clone().into()),
    ];
    let call = Call { gate, environment, folder: &folder, file: &file, mark: &mark, limit };
    let ran = call.carry_out().await.map_err(|error| {
        transient(
            format!("the gate {} could not be run in {}: {error}", gate.name, folder.display()),
            "see that the state directory can be written to, and resume: the gate runs again",
            vec![],
        )
    })?;
    Ok(judged(gate, &ran, &file, started.elapsed()))
}

/// One call of a gate's command.
struct Call<'a> {
    gate: &'a ClientGate,
    environment: Vec<(&'static str, std::ffi::OsString)>,
    /// Where it runs: gates of one run may leave files to each other there.
    folder: &'a Path,
    /// Where its output goes.
    file: &'a Path,
    mark: &'a str,
    limit: Duration,
}

/// How it ended.
#[derive(Debug)]
struct Ran {
    end: End,
    /// Its last words.
    tail: String,
}

#[derive(Debug)]
enum End {
    Exited(ExitStatus),
    TimeUp,
    NotStarted(io::Error),
}

impl Call<'_> {
    async fn carry_out(self) -> io::Result<Ran> {
        // Outputs may hold what is nobody's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.folder)?;
        let mut sink =
            Sink { file: File::create(self.file).await?, left: OUTPUT_BYTES_MAX, tail: Vec::new() };
        let (program, arguments) = self.gate.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder).env_clear();
        let named = self.gate.environment.iter().map(String::as_str);
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

/// Everything that a gate started; it is ended with this.
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
fn end_all(mark: &str) -> usize {
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

/// The processes that carry the mark. Source: proc(5), `/proc/pid/environ`; it is empty once a process
/// has ended.
fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARKER}={mark}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |number: &u32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    // Volutus itself may run below a gate of another Volutus.
    let own = std::process::id();
    numbers.filter(|number| *number != own && carries(number)).filter_map(pid).collect()
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
            self.file.write_all(b"\n[the rest was not kept: the limit of a gate's output]\n").await?;
        }
        Ok(())
    }
}

fn judged(gate: &ClientGate, ran: &Ran, file: &Path, took: Duration) -> Outcome {
    let took = took.as_secs();
    let (exit_code, failure) = match &ran.end {
        End::Exited(status) if status.success() => (Some(0), None),
        End::Exited(status) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with exit code {code} after {took} s"),
                (None, signal) => format!("signal {} ended it after {took} s", signal.unwrap_or_default()),
            };
            (status.code(), Some(how))
        }
        End::TimeUp => (None, Some(format!("it had not ended after {} s, and was killed", gate.timeout_s))),
        End::NotStarted(error) => (None, Some(format!("`{}` could not be started: {error}", gate.argv[0]))),
    };
    let words = last_line(&ran.tail);
    let detail = match &failure {
        None if words.is_empty() => format!("passed after {took} s"),
        None => format!("passed after {took} s: {words}"),
        Some(how) if words.is_empty() => how.clone(),
        Some(how) => format!("{how}: {words}"),
    };
    let started = !matches!(ran.end, End::NotStarted(_));
    let seen = GateSeen {
        gate: gate.name.clone(),
        when: gate.when,
        passed: failure.is_none(),
        on_failure: gate.on_failure,
        exit_code,
        // A line of a program may be of any length.
        detail: detail.chars().take(500).collect(),
        output: if started { file.display().to_string() } else { String::new() },
    };
    let detail = seen.detail.clone();
    let command = Evidence::Command {
        host: "Volutus's own machine".to_owned(),
        command: gate.argv.join(" "),
        exit_code,
        output: tail_for_evidence(&ran.tail),
    };
    let evidence = vec![Evidence::Gate(seen), command];
    match (failure, gate.on_failure) {
        (None, _) => Outcome::Done { detail, evidence },
        (Some(_), GateFailure::Warn) => {
            Outcome::Done { detail: format!("WARNING, the gate {} failed: {detail}", gate.name), evidence }
        }
        (Some(_), GateFailure::Block) => permanent(
            format!("the gate {} ({}) failed: {detail}", gate.name, gate.when),
            format!(
                "its last words are below, all of them in {}. Mend the cause and resume: the gate runs again",
                file.display()
            ),
            evidence,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use volutus_model::gate::Moment;

    use super::*;

    fn gate(script: &str) -> ClientGate {
        ClientGate {
            name: "site".to_owned(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            when: Moment::AfterRoll,
            timeout_s: 30,
            on_failure: GateFailure::Block,
            cloud: None,
            environment: BTreeSet::from(["CARGO_PKG_NAME".to_owned()]),
        }
    }

    struct Kept {
        outcome: Outcome,
        output: String,
    }

    async fn ask(gate: &ClientGate, mark: &str, limit: Duration) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run/site.log");
        let environment = vec![("OS_CLOUD", "member".into()), (MARKER, mark.into())];
        let call = Call { gate, environment, folder: &folder.path().join("run"), file: &file, mark, limit };
        let ran = call.carry_out().await.unwrap();
        let outcome = judged(gate, &ran, &file, Duration::ZERO);
        Kept { outcome, output: std::fs::read_to_string(&file).unwrap_or_default() }
    }

    fn unique(name: &str) -> String {
        format!("{name}-{}", std::process::id())
    }

    #[tokio::test]
    async fn a_gate_that_passes_leaves_its_output() {
        let script = "echo out of $OS_CLOUD; echo to stderr >&2; echo $CARGO_PKG_NAME${CARGO_MANIFEST_DIR}";
        let kept = ask(&gate(script), &unique("passes"), Duration::from_secs(30)).await;
        assert!(kept.outcome.is_success(), "{:?}", kept.outcome);
        assert!(kept.output.contains("out of member") && kept.output.contains("to stderr"));
        // What is named is passed, and nothing else.
        assert!(kept.output.contains("volutus-drivers\n"), "{}", kept.output);
    }

    #[tokio::test]
    async fn a_gate_that_fails_blocks_or_warns() {
        let script = "seq 1 100000; echo broken; exit 3";
        let kept = ask(&gate(script), &unique("fails"), Duration::from_secs(30)).await;
        let Outcome::Failed(failure) = &kept.outcome else { panic!("{:?}", kept.outcome) };
        assert!(failure.message.contains("exit code 3") && failure.message.ends_with("broken"));
        assert!(kept.output.starts_with("1\n2\n") && kept.output.ends_with("broken\n"));
        let Evidence::Command { output, .. } = &failure.evidence[1] else { panic!("no output") };
        assert!(output.len() <= EVIDENCE_CHARS_MAX);
        let warns = ClientGate { on_failure: GateFailure::Warn, ..gate(script) };
        let kept = ask(&warns, &unique("warns"), Duration::from_secs(30)).await;
        let Outcome::Done { detail, evidence } = &kept.outcome else { panic!("{:?}", kept.outcome) };
        assert!(detail.starts_with("WARNING"), "{detail}");
        assert!(matches!(&evidence[0], Evidence::Gate(seen) if !seen.passed));
        let absent = ClientGate { argv: vec!["/nowhere/at/all".to_owned()], ..gate("") };
        let kept = ask(&absent, &unique("absent"), Duration::from_secs(30)).await;
        assert!(
            matches!(&kept.outcome, Outcome::Failed(failure) if failure.message.contains("could not be started"))
        );
    }

    #[tokio::test]
    async fn when_time_is_up_everything_that_a_gate_started_ends() {
        let mark = unique("hangs");
        // One in its group, one that left it; both would hold the output open for ever.
        let script = "sleep 600 & setsid sleep 600 & echo begun; sleep 600";
        let kept = ask(&gate(script), &mark, Duration::from_secs(2)).await;
        assert!(matches!(&kept.outcome, Outcome::Failed(failure) if failure.message.contains("was killed")));
        assert!(kept.output.starts_with("begun"), "{}", kept.output);
        assert_eq!(marked(&mark), vec![]);
    }

    #[tokio::test]
    async fn a_gate_does_not_wait_for_what_it_leaves_behind() {
        let mark = unique("leaves");
        let kept = ask(&gate("setsid sleep 600 & echo done"), &mark, Duration::from_secs(500)).await;
        assert!(kept.outcome.is_success());
        assert_eq!(marked(&mark), vec![]);
    }

    #[tokio::test]
    async fn what_an_earlier_process_left_is_found_and_ended() {
        let mark = unique("left");
        let mut left = Command::new("sleep").arg("600").env(MARKER, &mark).spawn().unwrap();
        assert!(end_all(&mark) >= 1);
        assert_eq!(left.wait().await.unwrap().signal(), Some(9));
        assert_eq!(end_all(&mark), 0);
    }

    #[tokio::test]
    async fn output_is_kept_up_to_its_limit() {
        let kept = ask(&gate("yes | head -c 20000000"), &unique("talks"), Duration::from_secs(120)).await;
        assert!(kept.outcome.is_success(), "it is not stopped for what it says: {:?}", kept.outcome);
        let length = kept.output.len() as u64;
        assert!((OUTPUT_BYTES_MAX..OUTPUT_BYTES_MAX + 100).contains(&length), "{length}");
    }
}

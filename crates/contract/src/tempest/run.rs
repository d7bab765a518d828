//! Runs programs of Tempest's environment within a time, and ends them with all that they started.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Of what a program says on standard error so much is kept.
const WORDS_BYTES_MAX: usize = 16_384;
/// What tests get to remove what they made when their time is up.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub success: bool,
    /// Whether its time was up.
    pub time_up: bool,
    stderr: Vec<u8>,
}

impl Ran {
    /// Its last words on standard error.
    pub fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [] if self.time_up => "its time was up, and it had said nothing".to_owned(),
            [] => "it said nothing".to_owned(),
            lines => lines[lines.len().saturating_sub(5)..].join("; "),
        }
    }
}

/// A process group, which ends with this.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It may have ended meanwhile, which is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs a program to its end, or to the end of its time. `output` takes its standard output; it has
/// none else.
///
/// Its group is its own, so that workers end with it; an interrupt of the terminal, or an order to
/// end, is passed on to it.
pub(crate) async fn ended(mut command: Command, limit: Duration, output: Option<&Path>) -> io::Result<Ran> {
    let stdout = output.map(File::create).transpose()?.map_or_else(Stdio::null, Stdio::from);
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut child = command.spawn()?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let stderr = child.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
    let listening = tokio::spawn(listen(stderr));
    let status = tokio::select! {
        ended = tokio::time::timeout(limit, child.wait()) => ended.ok().transpose()?,
        _ = interrupt.recv() => return Err(interrupted(group, &mut child).await),
        _ = terminate.recv() => return Err(interrupted(group, &mut child).await),
    };
    if status.is_none() {
        clean_up(&group, &mut child).await;
    }
    // Whatever it left would hold its standard error open.
    drop(group);
    let stderr = listening.await.map_err(io::Error::other)??;
    Ok(Ran { success: status.is_some_and(|status| status.success()), time_up: status.is_none(), stderr })
}

async fn clean_up(group: &Group, child: &mut tokio::process::Child) {
    group.signal(Signal::INT);
    let _ = tokio::time::timeout(CLEAN_UP, child.wait()).await;
}

async fn interrupted(group: Group, child: &mut tokio::process::Child) -> io::Error {
    clean_up(&group, child).await;
    io::Error::new(io::ErrorKind::Interrupted, "it was told to end")
}

/// All of it is read, so that the program never waits; only its end is kept.
async fn listen(mut stderr: tokio::process::ChildStderr) -> io::Result<Vec<u8>> {
    let (mut kept, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stderr.read(&mut piece).await?;
        if count == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&piece[..count]);
        let surplus = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_ends_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        let ran = ended(shell("echo out; echo err >&2; exit 4"), Duration::from_secs(60), Some(&file))
            .await
            .unwrap();
        assert!(!ran.success && !ran.time_up);
        assert_eq!(
            (ran.words().as_str(), std::fs::read_to_string(&file).unwrap().as_str()),
            ("err", "out\n")
        );
        // Both would run on, and hold standard error open.
        let ran = ended(shell("sleep 600 & sleep 600"), Duration::from_millis(300), None).await.unwrap();
        assert!(ran.time_up && !ran.success);
        let ran = ended(shell("sleep 600 & true"), Duration::from_secs(60), None).await.unwrap();
        assert!(ran.success);
    }
}

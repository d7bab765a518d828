//! Hooks: the operator's commands for other systems, on Volutus's own machine or on a certain host.
//!
//! On a host they run as units that outlive the connection, as other commands there do. On Volutus's own
//! machine how a command ended is written beside its output before it is reported, so that it does not
//! run again when Volutus is killed in between; one that was still running then is ended and run again,
//! because nobody reads its output any more.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use volutus_model::fleet::hook::{HookCall, HookPlace};
use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Outcome, tail_for_evidence};

use crate::attempt::{Attempt, Attempted, last_line, permanent, transient};
use crate::local::{Call, End, MARKER, end_all};
use crate::work::{Program, perform, safe};

/// Of an output that an earlier process of Volutus left, so many bytes are read: more than evidence has.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// How a command ended, wherever it ran.
struct Ended {
    /// None where a signal ended it.
    exit_code: Option<i32>,
    /// The end of its output.
    output: String,
}

/// Runs one command of a hook.
pub(crate) async fn run(attempt: &Attempt<'_>, call: &HookCall) -> Attempted {
    let ended = match &call.on {
        HookPlace::Host(on) => there(attempt, call, on).await?,
        HookPlace::Volutus => here(attempt, call).await?,
    };
    judged(call, &ended)
}

/// Runs it on a host.
async fn there(attempt: &Attempt<'_>, call: &HookCall, on: &HostName) -> Result<Ended, Outcome> {
    // The unit has systemd's own environment.
    let mut argv = vec!["/usr/bin/env".to_owned()];
    argv.extend(variables(attempt, call).map(|(name, value)| format!("{name}={value}")));
    argv.extend(call.argv.iter().cloned());
    let finished = perform(attempt, on, &name_of(call), &Program::Argv(argv)).await?;
    Ok(Ended { exit_code: Some(finished.exit_code), output: finished.output })
}

/// What every hook is told.
fn variables<'a>(
    attempt: &'a Attempt<'_>,
    call: &'a HookCall,
) -> impl Iterator<Item = (&'static str, String)> {
    [
        ("VOLUTUS_HOST", call.host.to_string()),
        ("VOLUTUS_RUN", attempt.order.run.to_string()),
        ("VOLUTUS_HOOK", call.hook.clone()),
        ("VOLUTUS_MOMENT", call.moment.to_string()),
    ]
    .into_iter()
}

fn name_of(call: &HookCall) -> String {
    format!("hook {} {} {}", call.hook, call.moment, call.host)
}

/// Runs it on Volutus's own machine.
async fn here(attempt: &Attempt<'_>, call: &HookCall) -> Result<Ended, Outcome> {
    let order = attempt.order;
    let given = &attempt.cloud.gates;
    let mark = order.attempt.to_string();
    let folder = given.hooks.join(safe(order.run.as_str()));
    let name = format!("{}-{}-{}-{}", call.host, call.hook, call.moment, safe(&mark));
    let kept = Kept { output: folder.join(format!("{name}.log")), end: folder.join(format!("{name}.exit")) };
    let no_folder = |error: io::Error| {
        transient(
            format!("the {} could not be run in {}: {error}", name_of(call), folder.display()),
            "see that the state directory can be written to, and resume: the command runs again",
            vec![],
        )
    };
    if order.taken_up {
        if let Some(ended) = kept.read().map_err(no_folder)? {
            attempt.say(format!("the {} had ended before Volutus did", name_of(call)));
            return Ok(ended);
        }
        if end_all(&mark) > 0 {
            attempt.say(format!("ended what an earlier process left of the {}", name_of(call)));
        }
    }
    attempt.say(format!("running the {} (at most {} s)", name_of(call), call.limit_s));
    let mut environment: Vec<(&'static str, OsString)> =
        variables(attempt, call).map(|(name, value)| (name, value.into())).collect();
    environment.extend([
        ("OS_CLIENT_CONFIG_FILE", given.clouds_yaml.clone().into_os_string()),
        ("OS_CLOUD", call.cloud.as_ref().unwrap_or(&given.operator).into()),
        (MARKER, mark.clone().into()),
    ]);
    let begun = Instant::now();
    let limit = attempt.left().min(Duration::from_secs(u64::from(call.limit_s)));
    let (argv, named) = (call.argv.as_slice(), &call.environment);
    let local = Call { argv, named, environment, folder: &folder, file: &kept.output, mark: &mark, limit };
    let ran = local.carry_out().await.map_err(no_folder)?;
    match ran.end {
        End::Exited(status) => {
            kept.write(status.code()).map_err(no_folder)?;
            Ok(Ended { exit_code: status.code(), output: ran.tail })
        }
        End::TimeUp => Err(failed(
            call,
            &format!("had not ended after {} s, and was killed", begun.elapsed().as_secs()),
            &Ended { exit_code: None, output: ran.tail },
        )),
        End::NotStarted(error) => Err(failed(
            call,
            &format!("could not be started: {error}"),
            &Ended { exit_code: None, output: String::new() },
        )),
    }
}

/// What is kept of a command on Volutus's own machine.
struct Kept {
    output: PathBuf,
    end: PathBuf,
}

impl Kept {
    /// How it ended, where that was written.
    fn read(&self) -> io::Result<Option<Ended>> {
        let text = match fs::read_to_string(&self.end) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let output = fs::read(&self.output)?;
        let tail = &output[output.len().saturating_sub(TAIL_BYTES_MAX)..];
        let output = String::from_utf8_lossy(tail).into_owned();
        Ok(Some(Ended { exit_code: text.trim().parse().ok(), output }))
    }

    /// Writes how it ended, whole or not at all.
    fn write(&self, exit_code: Option<i32>) -> io::Result<()> {
        let folder = self.end.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", exit_code.map_or("signal".to_owned(), |code| code.to_string()))?;
        file.as_file().sync_all()?;
        file.persist(&self.end).map_err(|error| error.error)?;
        Ok(())
    }
}

fn judged(call: &HookCall, ended: &Ended) -> Attempted {
    let words: String = last_line(&ended.output).chars().take(500).collect();
    match ended.exit_code {
        Some(0) => {
            let detail = format!("{}: {words}", name_of(call));
            Ok(Outcome::Done { detail, evidence: vec![evidence(call, ended)] })
        }
        Some(code) if code == call.unchanged_exit => {
            Ok(Outcome::unchanged(format!("{}: nothing to do (exit {code})", name_of(call))))
        }
        Some(code) => Err(failed(call, &format!("ended with exit code {code}: {words}"), ended)),
        None => Err(failed(call, &format!("was ended by a signal: {words}"), ended)),
    }
}

fn failed(call: &HookCall, how: &str, ended: &Ended) -> Outcome {
    permanent(
        format!("the {} on {} {how}", name_of(call), call.on),
        format!(
            "read its output below. Mend the cause and resume: the command runs again. Or abort: {} is given back",
            call.host
        ),
        vec![evidence(call, ended)],
    )
}

fn evidence(call: &HookCall, ended: &Ended) -> Evidence {
    Evidence::Command {
        host: match &call.on {
            HookPlace::Volutus => "Volutus's own machine".to_owned(),
            HookPlace::Host(on) => on.to_string(),
        },
        command: call.argv.join(" "),
        exit_code: ended.exit_code,
        output: tail_for_evidence(&ended.output),
    }
}

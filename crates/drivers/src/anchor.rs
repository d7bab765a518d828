//! Records at an old version: kept and released by the service's own code, in the Python of a
//! release on a host that carries the service.

use serde::Deserialize;
use serde_json::{Value, json};
use volutus_model::observation::ANCHOR_HOST;
use volutus_model::outcome::Outcome;
use volutus_model::plan::Anchor;

use crate::attempt::{Attempt, Attempted, command, last_line, permanent};
use crate::channel::standalone;
use crate::work::{Finished, Program, perform, safe};

/// What stands in the record for people who list services.
const REASON: &str = "volutus: keeps the way back open until finalize";
const PROGRAM: &str = include_str!("host/anchor.py");

#[derive(Debug, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
enum Report {
    Done { binaries: Vec<String>, count: u32 },
    Unchanged { binaries: Vec<String>, count: u32 },
    Refused { why: String },
    Failed { why: String },
}

/// Sees to it that one record of each binary is kept at the anchor's version.
pub(crate) async fn keep(attempt: &Attempt<'_>, anchor: &Anchor) -> Attempted {
    let (finished, report) = run(attempt, anchor, "keep").await?;
    let kept = |binaries: Vec<String>, count| {
        format!(
            "{count} records at version {} are kept on {ANCHOR_HOST}: {}",
            anchor.version,
            binaries.join(", ")
        )
    };
    match report {
        Report::Done { binaries, count } => Ok(Outcome::done(kept(binaries, count))),
        Report::Unchanged { binaries, count } => Ok(Outcome::unchanged(kept(binaries, count))),
        Report::Refused { why } | Report::Failed { why } => Err(failed(
            anchor,
            &finished,
            format!("no records of {} are kept at version {}: {why}", anchor.service, anchor.version),
            "nothing was replaced on account of it. Mend what the reason says, then resume",
        )),
    }
}

/// Takes the anchor's records away.
pub(crate) async fn release(attempt: &Attempt<'_>, anchor: &Anchor) -> Attempted {
    let (finished, report) = run(attempt, anchor, "release").await?;
    match report {
        Report::Done { count, .. } => {
            Ok(Outcome::done(format!("{count} records of {ANCHOR_HOST} were released")))
        }
        Report::Unchanged { .. } => Ok(Outcome::unchanged(format!("there is no record of {ANCHOR_HOST}"))),
        Report::Refused { why } | Report::Failed { why } => Err(failed(
            anchor,
            &finished,
            format!("the records of {} that were kept could not be released: {why}", anchor.service),
            "what runs is not touched by it. Mend what the reason says, then resume",
        )),
    }
}

/// Takes away the records of another host that is no daemon's, such as a shadow's.
pub(crate) async fn release_of(attempt: &Attempt<'_>, records: &Anchor, host: &str) -> Result<(), Outcome> {
    let (finished, report) = run_for(attempt, records, "release", host).await?;
    match report {
        Report::Done { .. } | Report::Unchanged { .. } => Ok(()),
        Report::Refused { why } | Report::Failed { why } => Err(failed(
            records,
            &finished,
            format!("the records of {} on {host} could not be removed: {why}", records.service),
            "they belong to no daemon and hold nothing back. Mend what the reason says, then resume",
        )),
    }
}

async fn run(attempt: &Attempt<'_>, anchor: &Anchor, what: &str) -> Result<(Finished, Report), Outcome> {
    run_for(attempt, anchor, what, ANCHOR_HOST).await
}

async fn run_for(
    attempt: &Attempt<'_>,
    anchor: &Anchor,
    what: &str,
    host: &str,
) -> Result<(Finished, Report), Outcome> {
    // Two of these at once would race for the same records, so the slot names the service alone.
    let slot = format!("anchor of {}", safe(anchor.service.as_str()));
    let finished =
        perform(attempt, &anchor.host, &slot, &Program::Python(program(anchor, what, host))).await?;
    let report = serde_json::from_str(last_line(&finished.output)).map_err(|error| {
        failed(
            anchor,
            &finished,
            format!("the program that looks after {}'s records broke: {error}", anchor.service),
            "read the output below; the release on that host may be broken, or its configuration. Then resume",
        )
    })?;
    Ok((finished, report))
}

/// A program for the system's Python that becomes one of the release's Python.
fn program(anchor: &Anchor, what: &str, host: &str) -> String {
    let request = json!({
        "do": what, "object": anchor.object, "config_files": anchor.config_files,
        "binaries": anchor.binaries, "host": host, "version": anchor.version, "reason": REASON,
    });
    let inner = Value::String(standalone(&request, &[PROGRAM])).to_string();
    let python = Value::String(anchor.python.clone()).to_string();
    format!("import os\nos.execv({python}, [{python}, '-I', '-B', '-c', {inner}])\n")
}

fn failed(anchor: &Anchor, finished: &Finished, message: String, hint: &str) -> Outcome {
    let argv = [anchor.python.clone(), format!("(records of {})", anchor.object)];
    permanent(message, hint, vec![command(&anchor.host, &argv, Some(finished.exit_code), &finished.output)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text of a program inside a program: quotes, backslashes and line ends survive.
    #[test]
    fn the_inner_program_arrives_whole() {
        let anchor = Anchor {
            service: "nova".parse().unwrap(),
            host: "ctl1".parse().unwrap(),
            python: "/usr/bin/python3".to_owned(),
            config_files: vec!["/etc/n\"o'va\\.conf".to_owned()],
            object: "no.such.Thing".to_owned(),
            binaries: vec!["nova-conductor".to_owned()],
            version: 70,
        };
        let output = std::process::Command::new("/usr/bin/python3")
            .args(["-c", &program(&anchor, "keep", ANCHOR_HOST)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Report = serde_json::from_str(last_line(&text)).unwrap();
        let Report::Failed { why } = report else { panic!("{report:?}") };
        assert!(why.starts_with("ModuleNotFoundError: No module named 'no'"), "{why}");
        assert_eq!(output.status.code(), Some(1));
    }
}

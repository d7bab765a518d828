//! Client gates: a command of the operator's on Volutus's own machine, within its time, ended with
//! everything that it started, and its output kept.
//!
//! Nothing of an earlier attempt is waited for: a command that an earlier process of Volutus left
//! running is ended and run again, because nobody reads its output any more.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use volutus_model::gate::{ClientGate, GateFailure, GateSeen};
use volutus_model::outcome::{Evidence, Outcome, tail_for_evidence};

use crate::attempt::{Attempt, Attempted, last_line, permanent, transient};
use crate::local::{Call, End, MARKER, Ran, end_all};
use crate::work::safe;

/// What gates and hooks are given of this cloud.
#[derive(Debug, Clone)]
pub(crate) struct Gates {
    /// The folder of gates' files; one below it per run.
    pub folder: PathBuf,
    /// The folder of hooks' files; one below it per run.
    pub hooks: PathBuf,
    /// The clouds.yaml.
    pub clouds_yaml: PathBuf,
    /// The entry of it that a gate gets which names none.
    pub cloud: String,
    /// The entry of it that a hook gets which names none.
    pub operator: String,
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
    let (argv, named) = (gate.argv.as_slice(), &gate.environment);
    let call = Call { argv, named, environment, folder: &folder, file: &file, mark: &mark, limit };
    let ran = call.carry_out().await.map_err(|error| {
        transient(
            format!("the gate {} could not be run in {}: {error}", gate.name, folder.display()),
            "see that the state directory can be written to, and resume: the gate runs again",
            vec![],
        )
    })?;
    Ok(judged(gate, &ran, &file, started.elapsed()))
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

    use tokio::process::Command;
    use volutus_model::gate::Moment;
    use volutus_model::outcome::EVIDENCE_CHARS_MAX;

    use super::*;
    use crate::local::{OUTPUT_BYTES_MAX, marked};

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
        let (argv, named) = (gate.argv.as_slice(), &gate.environment);
        let folder = &folder.path().join("run");
        let call = Call { argv, named, environment, folder, file: &file, mark, limit };
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

//! What came of a run of Tempest: one canonical document, and the differences between two.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The format of the documents that this Volutus writes.
const FORMAT: u32 = 1;
/// Of a reason so much is kept: its last line says what was wrong.
const REASON_CHARS_MAX: usize = 600;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Format version; 1.
    pub format: u32,
    /// Tempest's version.
    pub tempest: String,
    /// Which tests: `smoke`, or a regular expression of names.
    pub set: String,
    /// The cloud.
    pub cloud: String,
    /// When it began.
    pub at: Timestamp,
    /// Seconds that it took.
    pub seconds: u64,
    /// Options that decide which tests can run at all, as `group.option`. Secrets are not among them.
    pub settings: BTreeMap<String, String>,
    /// The tests by name, without Tempest's tags.
    pub tests: BTreeMap<String, TestResult>,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestResult {
    /// How it ended.
    pub result: TestEnd,
    /// Why it failed or was skipped; empty where it passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why it had failed before it was run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_first: Option<String>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestEnd {
    /// It passed.
    Passed,
    /// It, or what it needs, failed.
    Failed,
    /// It says itself that it does not fit this cloud.
    Skipped,
    /// It never began, or had not ended when time was up.
    NotRun,
}

impl fmt::Display for TestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        })
    }
}

/// One line of the program that decodes the stream of results.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    id: String,
    status: Option<String>,
    reason: String,
}

/// The name of a test without its tags: `tempest…test_list[id-…,smoke]`.
pub(crate) fn name_of(id: &str) -> &str {
    id.split_once('[').map_or(id, |(name, _)| name)
}

/// Results by name of the tests that were to run. A class that could not be prepared speaks for all
/// of its tests, which are not told of then.
pub(crate) fn fold(listed: &[String], told: &[Told]) -> BTreeMap<String, TestResult> {
    let mut classes: BTreeMap<&str, TestResult> = BTreeMap::new();
    let mut tests: BTreeMap<String, TestResult> = BTreeMap::new();
    // A stream lists its tests before it runs them (status `exists`).
    for each in told.iter().filter(|each| each.status.as_deref() != Some("exists")) {
        let result = result_of(each);
        match each.id.strip_suffix(')').and_then(|id| id.split_once(" (")) {
            Some(("setUpClass", class)) => {
                classes.insert(class, result);
            }
            // What a class leaves behind is a result of its own.
            Some((fixture, class)) => {
                tests.insert(format!("{class}.{fixture}"), result);
            }
            None => {
                tests.insert(name_of(&each.id).to_owned(), result);
            }
        }
    }
    for id in listed {
        let name = name_of(id);
        let class = name.rsplit_once('.').map_or("", |(class, _)| class);
        tests.entry(name.to_owned()).or_insert_with(|| {
            classes.get(class).cloned().unwrap_or_else(|| TestResult {
                result: TestEnd::NotRun,
                reason: "it never began".to_owned(),
                failed_first: None,
            })
        });
    }
    tests
}

/// Source: subunit, "StreamResult" statuses.
fn result_of(told: &Told) -> TestResult {
    let result = match told.status.as_deref() {
        Some("success" | "xfail") => TestEnd::Passed,
        Some("skip") => TestEnd::Skipped,
        Some("fail" | "uxsuccess") => TestEnd::Failed,
        _ => TestEnd::NotRun,
    };
    let last = told.reason.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let reason = match result {
        TestEnd::Passed => String::new(),
        TestEnd::NotRun => "it had not ended".to_owned(),
        TestEnd::Failed => exception(&told.reason).chars().take(REASON_CHARS_MAX).collect(),
        TestEnd::Skipped => last.chars().take(REASON_CHARS_MAX).collect(),
    };
    TestResult { result, reason, failed_first: None }
}

/// The exception of a traceback with its message, which may have several lines.
fn exception(traceback: &str) -> String {
    let lines: Vec<&str> = traceback.lines().filter(|line| !line.trim().is_empty()).collect();
    // Frames are indented; what follows the last of them is the exception.
    let first = lines.iter().rposition(|line| line.starts_with(' ')).map_or(0, |frame| frame + 1);
    let words = lines[first..].join(" ");
    if words.is_empty() { lines.last().map_or(String::new(), |line| line.trim().to_owned()) } else { words }
}

/// How two runs differ, by what it means for those who use the cloud. Each test is named once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Passed before, and now failed or did not run: something is broken.
    pub broken: BTreeSet<String>,
    /// Passed before, and is skipped now: something is no longer there, or no longer asked.
    pub no_longer_asked: BTreeSet<String>,
    /// Failed before, and passes now.
    pub mended: BTreeSet<String>,
    /// Did not pass and was not skipped, before and now.
    pub failing_before_and_now: BTreeSet<String>,
    /// Fails now, and did not run or was skipped before: nobody can tell whether it is new.
    pub failing_unknown_before: BTreeSet<String>,
    /// Passed now, once it was run again.
    pub unsteady: BTreeSet<String>,
}

impl Results {
    /// A document of this format.
    #[must_use]
    pub fn new(set: String, cloud: String, at: Timestamp, tests: BTreeMap<String, TestResult>) -> Self {
        Self {
            format: FORMAT,
            tempest: super::VERSION.to_owned(),
            set,
            cloud,
            at,
            seconds: 0,
            settings: BTreeMap::new(),
            tests,
        }
    }

    /// Reads a document. `what` names it in messages.
    ///
    /// # Errors
    /// [`Error::Malformed`]
    pub fn parse(what: &str, text: &str) -> Result<Self, Error> {
        let malformed = |why: String| Error::Malformed { what: what.to_owned(), why };
        let results: Self = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if results.format != FORMAT {
            return Err(malformed(format!("it has format {}, and {FORMAT} is known", results.format)));
        }
        Ok(results)
    }

    /// The document as text: sorted, indented, with a line end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("names are text, and all else has a form");
        text.push('\n');
        text
    }

    /// How many tests ended so.
    #[must_use]
    pub fn count(&self, end: TestEnd) -> usize {
        self.tests.values().filter(|test| test.result == end).count()
    }

    /// The tests that passed in `before` and do not now; see [`Differences::broken`].
    #[must_use]
    pub fn broken_since(&self, before: &Self) -> BTreeSet<String> {
        self.differences(before).broken
    }

    /// How this run differs from an earlier one.
    #[must_use]
    pub fn differences(&self, before: &Self) -> Differences {
        let mut found = Differences::default();
        let names: BTreeSet<&String> = before.tests.keys().chain(self.tests.keys()).collect();
        for name in names {
            let end = |results: &Self| results.tests.get(name).map(|test| test.result);
            let list = match (end(before), end(self)) {
                (Some(TestEnd::Passed), Some(TestEnd::Failed | TestEnd::NotRun) | None) => &mut found.broken,
                (Some(TestEnd::Passed), Some(TestEnd::Skipped)) => &mut found.no_longer_asked,
                (Some(TestEnd::Failed | TestEnd::NotRun), Some(TestEnd::Passed)) => &mut found.mended,
                (Some(TestEnd::Failed), Some(TestEnd::Failed | TestEnd::NotRun)) => {
                    &mut found.failing_before_and_now
                }
                (_, Some(TestEnd::Failed | TestEnd::NotRun)) => &mut found.failing_unknown_before,
                _ => continue,
            };
            list.insert(name.clone());
        }
        let again = self
            .tests
            .iter()
            .filter(|(_, test)| test.result == TestEnd::Passed && test.failed_first.is_some());
        found.unsteady = again.map(|(name, _)| name.clone()).collect();
        found
    }

    /// Takes the results of tests that were run again.
    pub fn take_again(&mut self, again: BTreeMap<String, TestResult>) {
        for (name, mut test) in again {
            if let Some(first) = self.tests.get(&name) {
                test.failed_first = Some(first.reason.clone());
                self.tests.insert(name, test);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, status: &str, reason: &str) -> Told {
        Told { id: id.to_owned(), status: Some(status.to_owned()), reason: reason.to_owned() }
    }

    fn results(tests: &[(&str, TestEnd)]) -> Results {
        let test = |end: TestEnd| TestResult { result: end, reason: String::new(), failed_first: None };
        let tests = tests.iter().map(|(name, end)| ((*name).to_owned(), test(*end))).collect();
        Results::new("smoke".to_owned(), "lab".to_owned(), Timestamp::UNIX_EPOCH, tests)
    }

    #[test]
    fn a_class_speaks_for_its_tests_and_what_never_began_is_told() {
        let listed =
            ["a.B.test_one[id-1,smoke]", "a.B.test_two[id-2,smoke]", "a.C.test_x[id-3]", "a.D.test_y[id-4]"]
                .map(str::to_owned);
        let traceback = "Traceback (most recent call last):\n  File \"x.py\", line 1, in f\n    raise E\nE: no such\nDetails: {}\n";
        let all = [
            told("setUpClass (a.B)", "skip", "swift is not there"),
            told("a.B.test_one[id-1,smoke]", "exists", ""),
            told("a.D.test_y[id-4]", "exists", ""),
            told("a.C.test_x[id-3]", "fail", traceback),
            told("tearDownClass (a.C)", "fail", "E: left behind"),
        ];
        let tests = fold(&listed, &all);
        let seen = |name: &str| (tests[name].result, tests[name].reason.as_str());
        assert_eq!(seen("a.B.test_one"), (TestEnd::Skipped, "swift is not there"));
        assert_eq!(seen("a.B.test_two"), (TestEnd::Skipped, "swift is not there"));
        assert_eq!(seen("a.C.test_x"), (TestEnd::Failed, "E: no such Details: {}"));
        assert_eq!(seen("a.C.tearDownClass"), (TestEnd::Failed, "E: left behind"));
        assert_eq!(seen("a.D.test_y").0, TestEnd::NotRun);
        assert_eq!(tests.len(), 5);
    }

    #[test]
    fn what_passed_and_no_longer_does_is_broken() {
        use TestEnd::{Failed, NotRun, Passed, Skipped};
        let before = results(&[
            ("fails", Passed),
            ("hangs", Passed),
            ("gone", Passed),
            ("skips", Passed),
            ("mended", Failed),
            ("still", Failed),
            ("same", Passed),
            ("was-skipped", Skipped),
        ]);
        let after = results(&[
            ("fails", Failed),
            ("hangs", NotRun),
            ("skips", Skipped),
            ("mended", Passed),
            ("still", Failed),
            ("same", Passed),
            ("was-skipped", Failed),
            ("new", Passed),
        ]);
        let found = after.differences(&before);
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(found.broken, list(&["fails", "gone", "hangs"]));
        assert_eq!(found.no_longer_asked, list(&["skips"]));
        assert_eq!(found.mended, list(&["mended"]));
        assert_eq!(found.failing_before_and_now, list(&["still"]));
        assert_eq!(found.failing_unknown_before, list(&["was-skipped"]));
        assert_eq!(
            before.differences(&before),
            Differences { failing_before_and_now: list(&["mended", "still"]), ..Differences::default() }
        );
    }

    #[test]
    fn what_passes_when_it_is_run_again_is_unsteady_and_not_broken() {
        let before = results(&[("a", TestEnd::Passed)]);
        let mut after = results(&[("a", TestEnd::Failed)]);
        after.tests.get_mut("a").unwrap().reason = "timed out".to_owned();
        after.take_again(results(&[("a", TestEnd::Passed)]).tests);
        let found = after.differences(&before);
        assert!(found.broken.is_empty() && found.unsteady.contains("a"));
        assert_eq!(after.tests["a"].failed_first.as_deref(), Some("timed out"));
        let again = Results::parse("x", &after.to_text()).unwrap();
        assert_eq!(again, after);
        assert!(Results::parse("x", &after.to_text().replace("\"format\": 1", "\"format\": 2")).is_err());
    }
}

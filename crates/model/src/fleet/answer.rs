//! What owners answer to the notice of a reboot, and what that does to the next plan.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan::{RebootPlan, StayReason};
use super::{Fleet, OwnerChoice};
use crate::finding::{Finding, Severity};

/// How long behind the announced begin an answer counts: what is announced for a window is done within a
/// day, or announced again. Consent to one stop is no consent to all that ever come.
pub const COUNTS_FOR: SignedDuration = SignedDuration::from_hours(24);

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// As it is announced.
    Agree,
    /// As late as the plan allows.
    Later,
    /// Stopped on its host, and started there again, instead of whatever is announced.
    Stop,
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Agree, Self::Later, Self::Stop];

    /// Its name in forms, in the store and in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Later => "later",
            Self::Stop => "stop",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|answer| answer.as_str() == text)
    }
}

/// One answer, and what it was given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// The reboot plan that was announced.
    pub plan: String,
    /// When its begin was announced for.
    pub begins: Timestamp,
    /// The project of the instance.
    pub project: String,
    /// The instance.
    pub instance: String,
    /// The answer.
    pub answer: Answer,
    /// Whether it was announced that the instance is stopped: to agree is consent to that, then.
    pub announced_stop: bool,
    /// When it was given.
    pub at: Timestamp,
}

/// The answers that count at one time: of each instance the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<String, (Answer, Timestamp)>);

impl Answers {
    /// Those of all that were given which count now.
    #[must_use]
    pub fn counting(all: &[Confirmation], now: Timestamp) -> Self {
        let mut last: BTreeMap<String, (Answer, Timestamp)> = BTreeMap::new();
        for one in all {
            let counts = one.begins.checked_add(COUNTS_FOR).is_ok_and(|until| now < until);
            let earlier = last.get(&one.instance).is_none_or(|(_, at)| *at <= one.at);
            if counts && earlier {
                let agreed_to_stop = one.answer == Answer::Agree && one.announced_stop;
                let answer = if agreed_to_stop { Answer::Stop } else { one.answer };
                last.insert(one.instance.clone(), (answer, one.at));
            }
        }
        Self(last)
    }

    /// What a plan is made upon: `stop` is as its owner's choice `volutus:maintenance=stop`, `later` puts
    /// the host behind others.
    pub fn apply(&self, fleet: &mut Fleet) {
        for instance in &mut fleet.instances {
            match self.0.get(&instance.id) {
                Some((Answer::Stop, _)) => instance.choice = Some(OwnerChoice::Stop),
                Some((Answer::Later, _)) => instance.later = true,
                Some((Answer::Agree, _)) | None => {}
            }
        }
    }

    /// What a plan that is made already is judged upon: who answered `stop` consents to the stop that it has,
    /// and an answer that came since does not forbid what was announced.
    pub fn apply_to_judge(&self, plan: &RebootPlan, fleet: &mut Fleet) {
        for instance in &mut fleet.instances {
            let consents = matches!(self.0.get(&instance.id), Some((Answer::Stop, _)));
            if consents && stops(plan, &instance.id) {
                instance.choice = Some(OwnerChoice::Stop);
            }
        }
    }

    /// Answers that came since a plan was made and that it does not contain; `None` where there are none.
    #[must_use]
    pub fn since(&self, plan: &RebootPlan) -> Option<Finding> {
        let mut count: BTreeMap<Answer, usize> = BTreeMap::new();
        for (instance, (answer, at)) in &self.0 {
            let is_new = *at > plan.content.created_at && plan.content.owners.contains_key(instance);
            let is_contained = match answer {
                Answer::Stop => stops(plan, instance),
                Answer::Later => false,
                Answer::Agree => !stops(plan, instance),
            };
            if is_new && !is_contained {
                *count.entry(*answer).or_default() += 1;
            }
        }
        if count.is_empty() {
            return None;
        }
        let what: Vec<String> =
            count.iter().map(|(answer, n)| format!("{n} `{}`", answer.as_str())).collect();
        Some(Finding::new(
            Severity::Warning,
            "answers-since",
            &plan.content.cloud,
            format!(
                "owners have answered since the plan was made, which it does not contain: {}",
                what.join(", ")
            ),
            "Plan again with volutus plan --reboot; `volutus confirmations` lists the answers.",
        ))
    }
}

fn stops(plan: &RebootPlan, instance: &str) -> bool {
    plan.content.stays.iter().any(|stay| stay.instance == instance && stay.why == StayReason::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(answer: Answer, at: &str, announced_stop: bool) -> Confirmation {
        Confirmation {
            plan: "p".to_owned(),
            begins: "2026-12-01T00:00:00Z".parse().unwrap(),
            project: "team".to_owned(),
            instance: "i".to_owned(),
            answer,
            announced_stop,
            at: at.parse().unwrap(),
        }
    }

    #[test]
    fn the_last_answer_counts_until_a_day_behind_the_begin() {
        let all = [
            given(Answer::Stop, "2026-11-20T00:00:00Z", false),
            given(Answer::Agree, "2026-11-21T00:00:00Z", false),
            given(Answer::Later, "2026-11-20T12:00:00Z", false),
        ];
        let answer = |all: &[Confirmation], now: &str| {
            Answers::counting(all, now.parse().unwrap()).0.get("i").map(|(answer, _)| *answer)
        };
        assert_eq!(answer(&all, "2026-12-01T23:59:59Z"), Some(Answer::Agree));
        assert_eq!(answer(&all[..1], "2026-12-01T23:59:59Z"), Some(Answer::Stop));
        assert_eq!(answer(&all, "2026-12-02T00:00:00Z"), None);
        let agreed = [given(Answer::Agree, "2026-11-20T00:00:00Z", true)];
        assert_eq!(answer(&agreed, "2026-11-30T00:00:00Z"), Some(Answer::Stop), "agreed to a stop");
    }
}

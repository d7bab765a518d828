//! The pages of links: what is asked, and why nothing is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use volutus_model::fleet::Answer;

use crate::facts::{Fate, InstanceFate};
use crate::feed::{escaped, head};

/// What the owner of instances is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The cloud.
    pub cloud: &'a str,
    /// When it begins.
    pub begins: Timestamp,
    /// The instances of the project.
    pub instances: &'a [InstanceFate],
    /// Whether the policy of the cloud lets instances be stopped.
    pub may_stop: bool,
    /// The answers so far, by instance.
    pub answers: &'a BTreeMap<String, Answer>,
    /// What to say first.
    pub note: &'a str,
}

/// Why nobody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The link, or what was sent to it, is not one of this cloud.
    Foreign,
    /// It has begun, or is gone.
    TooLate,
    /// What was sent is not an answer.
    Unclear,
}

const fn words(answer: Answer) -> &'static str {
    match answer {
        Answer::Agree => "agree: as announced",
        Answer::Later => "later, within the same window",
        Answer::Stop => "stop it instead, and start it again after its host has restarted",
    }
}

/// A form for all instances of a project: plain HTML, no scripts, nothing from elsewhere. Nothing is chosen
/// beforehand.
#[must_use]
pub fn question_page(question: &Question<'_>) -> String {
    let mut page = head(&format!("Restart of hosts of {}", escaped(question.cloud)));
    if !question.note.is_empty() {
        let _infallible =
            writeln!(page, "<p role=\"status\"><strong>{}</strong></p>", escaped(question.note));
    }
    let begins = question.begins;
    let _infallible = write!(
        page,
        "<p>It begins on <time datetime=\"{begins}\">{}</time>. Until then your last answer counts; we \
         take it into account as far as we can. Without an answer everything is done as announced.</p>\n<form method=\"post\">\n",
        begins.strftime("%Y-%m-%d %H:%M UTC")
    );
    let offered = |answer: &Answer| *answer != Answer::Stop || question.may_stop;
    let choice = |page: &mut String, name: &str| {
        for answer in Answer::ALL.iter().filter(|answer| offered(answer)) {
            let _infallible = writeln!(
                page,
                "<label><input type=\"radio\" name=\"{name}\" value=\"{}\"> {}</label><br>",
                answer.as_str(),
                words(*answer)
            );
        }
    };
    for InstanceFate { id: instance, name, fate, .. } in question.instances {
        let id = escaped(instance);
        let shown = if name.is_empty() { id.clone() } else { format!("{} ({id})", escaped(name)) };
        let _infallible = write!(page, "<fieldset>\n<legend>{shown}</legend>\n<p>It {}.", fate.words());
        if let Some(answer) = question.answers.get(instance) {
            let _infallible = write!(page, " Your answer so far: {}.", answer.as_str());
        }
        page.push_str("</p>\n");
        choice(&mut page, &id);
        page.push_str("</fieldset>\n");
    }
    if question.instances.len() > 1 {
        page.push_str("<fieldset>\n<legend>All others</legend>\n");
        choice(&mut page, ALL);
        page.push_str("</fieldset>\n");
    }
    page.push_str("<p><button>Send</button></p>\n</form>\n</body>\n</html>\n");
    page
}

/// The name in the form that stands for all instances without an answer of their own.
const ALL: &str = "all";

impl Question<'_> {
    /// The answers that a form gives, by instance, with whether it was announced that the instance is stopped.
    ///
    /// # Errors
    /// [`Refusal::Foreign`] where it names what is not asked about; [`Refusal::Unclear`] where an answer is none
    /// that is offered.
    pub fn answered(&self, form: &[(String, String)]) -> Result<Vec<(&InstanceFate, Answer)>, Refusal> {
        let mut given: BTreeMap<&str, Answer> = BTreeMap::new();
        for (name, answer) in form {
            if name != ALL && !self.instances.iter().any(|instance| instance.id == *name) {
                return Err(Refusal::Foreign);
            }
            let answer = Answer::parse(answer).filter(|answer| *answer != Answer::Stop || self.may_stop);
            given.insert(name, answer.ok_or(Refusal::Unclear)?);
        }
        let of =
            |instance: &InstanceFate| given.get(instance.id.as_str()).or_else(|| given.get(ALL)).copied();
        Ok(self.instances.iter().filter_map(|instance| Some((instance, of(instance)?))).collect())
    }
}

/// Why nobody is asked: without details, whoever looks.
#[must_use]
pub fn refusal_page(why: Refusal) -> String {
    let (title, text) = match why {
        Refusal::Foreign => {
            ("Not a link of ours", "This link is not valid. Please use the one of our message.")
        }
        Refusal::TooLate => ("Too late", "This can no longer be answered. Nothing was recorded."),
        Refusal::Unclear => ("Not an answer", "What was sent is no answer. Nothing was recorded."),
    };
    format!("{}<p>{text}</p>\n</body>\n</html>\n", head(title))
}

impl InstanceFate {
    /// Whether it is announced that the instance is stopped, and stays.
    #[must_use]
    pub fn is_announced_stop(&self) -> bool {
        self.fate == Fate::Stops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup_and_only_what_is_offered_is_an_answer() {
        let instances = ["a", "b"].map(|id| InstanceFate {
            id: id.to_owned(),
            name: "<script>".to_owned(),
            project: "team".to_owned(),
            fate: Fate::Undecided,
        });
        let answers = BTreeMap::from([("a".to_owned(), Answer::Later)]);
        let question = |may_stop: bool| Question {
            cloud: "north",
            begins: Timestamp::UNIX_EPOCH,
            instances: &instances,
            may_stop,
            answers: &answers,
            note: "<note>",
        };
        let page = question_page(&question(true));
        assert!(page.contains("&lt;script&gt; (a)") && !page.contains("<script"), "{page}");
        assert!(page.contains("Your answer so far: later") && !page.contains("checked"), "{page}");
        assert_eq!(page.matches("value=\"stop\"").count(), 3);
        assert!(!question_page(&question(false)).contains("value=\"stop\""));

        let pair = |name: &str, answer: &str| (name.to_owned(), answer.to_owned());
        let asked = question(true);
        let form = [pair("all", "agree"), pair("b", "later"), pair("b", "stop")];
        let given: Vec<(&str, Answer)> = asked
            .answered(&form)
            .unwrap()
            .into_iter()
            .map(|(one, answer)| (one.id.as_str(), answer))
            .collect();
        assert_eq!(given, [("a", Answer::Agree), ("b", Answer::Stop)]);
        assert_eq!(asked.answered(&[]).unwrap(), []);
        assert_eq!(asked.answered(&[pair("c", "agree")]), Err(Refusal::Foreign));
        assert_eq!(asked.answered(&[pair("a", "yes")]), Err(Refusal::Unclear));
        assert_eq!(question(false).answered(&[pair("a", "stop")]), Err(Refusal::Unclear));
    }
}

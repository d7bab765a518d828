//! Configuration and words of notices: an answer or an error; what people read is one line where it
//! has to be one, and never markup.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use volutus_model::plan::ImpactLevel;
use volutus_notices::{
    Config, Facts, Fate, InstanceFate, Moment, NewRelease, Occurrence, ServiceImpact, Templates, What, atom,
    messages, status_page,
};
use volutus_store::{NewNotice, Notice, NoticeState};

/// Parts configuration from template.
const PART: &str = "\n%%\n";

fn facts(text: &str, moment: Moment) -> Facts {
    let at: Timestamp = "2026-11-03T01:00:00Z".parse().expect("it is a time");
    let instance = |project: &str| InstanceFate {
        id: format!("id-{project}"),
        name: text.to_owned(),
        project: project.to_owned(),
        fate: Fate::MovesCold,
    };
    Facts {
        cloud: "north".to_owned(),
        moment,
        what: What::Reboot,
        plan: "abc".to_owned(),
        run: (moment != Moment::Before).then(|| "r1".to_owned()),
        from: "2025.2".to_owned(),
        to: "2026.1".to_owned(),
        begins: at,
        ended: Some(at),
        expected_s: text.len() as u64,
        services: vec![ServiceImpact {
            service: "nova".to_owned(),
            level: ImpactLevel::Major,
            why: [text.to_owned()].into(),
        }],
        instances: ["p1", "p2"].map(instance).into(),
        requests: Some((0, 1_000)),
        cause: Some(text.to_owned()),
        schedule: (moment == Moment::Before).then(|| Occurrence { name: text.to_owned(), due: at }),
        release: (moment == Moment::NewRelease).then(|| NewRelease {
            name: text.to_owned(),
            source: text.to_owned(),
            before: Some(text.to_owned()),
        }),
    }
}

fn look_at(made: &[NewNotice]) {
    for one in made {
        assert!(!one.subject.chars().any(char::is_control), "a subject of several lines: {:?}", one.subject);
    }
}

fn published(subject: &str, body: &str) -> [String; 2] {
    let at = Timestamp::UNIX_EPOCH;
    let notice = NewNotice {
        key: format!("r1/start/feed/{subject}"),
        moment: "start".to_owned(),
        channel: volutus_store::FEED.to_owned(),
        recipient: String::new(),
        address: String::new(),
        subject: subject.to_owned(),
        body: body.to_owned(),
    };
    let notice = Notice {
        id: 1,
        notice,
        state: NoticeState::Sent,
        attempts: 0,
        queued_at: at,
        due_at: at,
        changed_at: at,
        error: None,
    };
    [atom("north", at, std::slice::from_ref(&notice)), status_page("north", at, &[notice])]
}

fuzz_target!(|text: &str| {
    let (config, template) = text.split_once(PART).unwrap_or((text, text));
    let builtin = Templates::with(|_| Ok(None)).expect("the built-in texts are right");
    if let Ok(config) = Config::parse(config) {
        for moment in Moment::ALL {
            look_at(
                &messages(&config, &builtin, None, &facts(template, moment))
                    .expect("built-in texts can be made"),
            );
        }
    }
    let everybody = Config::parse("").expect("nothing has to be said");
    let own = Templates::with(|name| Ok((name == "start").then(|| template.to_owned())));
    if let Ok(own) = own
        && let Ok(made) = messages(&everybody, &own, None, &facts("x", Moment::Start))
    {
        look_at(&made);
    }
    for (plain, told) in published("", "").iter().zip(published(config, template)) {
        let tags = |text: &str| text.matches('<').count();
        assert_eq!(tags(plain), tags(&told), "words became markup: {told}");
        let fits =
            |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
        assert!(told.chars().all(fits), "no XML: {told:?}");
    }
});

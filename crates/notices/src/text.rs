//! The words: templates, and the messages made of them.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use volutus_model::plan::ImpactLevel;
use volutus_store::{FEED, NewNotice};

use crate::config::{Config, Moment, Shape};
use crate::facts::{Facts, Fate, NewRelease, What};
use crate::{Error, Key, Link, webhook};

/// The built-in texts: by moment, and the parts that some of them share.
const BUILTIN: [(&str, &str); 10] = [
    ("before", include_str!("templates/before.txt")),
    ("start", include_str!("templates/start.txt")),
    ("end", include_str!("templates/end.txt")),
    ("rolled-back", include_str!("templates/rolled-back.txt")),
    ("halted", include_str!("templates/halted.txt")),
    ("missed", include_str!("templates/missed.txt")),
    ("held", include_str!("templates/held.txt")),
    ("new-release", include_str!("templates/new-release.txt")),
    ("what", include_str!("templates/what.txt")),
    ("measured", include_str!("templates/measured.txt")),
];

/// Steps of the template language that one text may take. The built-in ones take some hundreds and
/// some tens per instance; a loop in a loop by mistake must not hold up the run that it tells of.
const FUEL: u64 = 10_000_000;

/// What the first line of a text begins with.
const SUBJECT: &str = "Subject: ";

/// A message in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its subject: one line.
    pub subject: String,
    /// Its body.
    pub body: String,
}

/// The texts that messages are made of.
#[derive(Debug)]
pub struct Templates(Environment<'static>);

/// What a template can use; docs/operating/notices.md lists it.
#[derive(Serialize)]
struct View<'a> {
    cloud: &'a str,
    doing: String,
    what: What,
    plan: &'a str,
    run: Option<&'a str>,
    from: &'a str,
    to: &'a str,
    begins: String,
    ended: Option<String>,
    time_zone: String,
    duration: String,
    services: Vec<Service<'a>>,
    instances: Vec<Instance<'a>>,
    undecided: bool,
    answers: &'a [Page],
    requests: Option<Requests>,
    cause: Option<&'a str>,
    schedule: Option<&'a str>,
    release: Option<&'a NewRelease>,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    level: ImpactLevel,
    expect: String,
}

#[derive(Serialize)]
struct Instance<'a> {
    id: &'a str,
    name: &'a str,
    what: &'static str,
}

/// Where one project's owners answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Page {
    project: String,
    link: String,
}

#[derive(Serialize)]
struct Requests {
    failed: u64,
    total: u64,
}

impl Templates {
    /// The built-in texts, and in their place those of the operator's folder: `start.txt`, say.
    ///
    /// # Errors
    /// Where one cannot be read, or is wrong.
    pub fn load(config: &Config, base: &Path) -> Result<Self, Error> {
        Self::with(|name| {
            let path = config.templates.as_ref().map(|folder| base.join(folder).join(format!("{name}.txt")));
            let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
            std::fs::read_to_string(&path).map(Some).map_err(|source| Error::Read { path, source })
        })
    }

    /// The built-in texts, and in their place those that `own` has for a name such as `start`.
    ///
    /// # Errors
    /// Those of `own`; [`Error::Template`] where a text is wrong.
    pub fn with(own: impl Fn(&str) -> Result<Option<String>, Error>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // A misspelt name is an error at the preview, and not a hole in what people read.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .build()
                .map_err(|error| Error::Template { moment: Moment::Before, what: format!("{error:#}") })?,
        );
        for (name, builtin) in BUILTIN {
            let text = own(name)?.unwrap_or_else(|| builtin.to_owned());
            let moment = Moment::ALL.into_iter().find(|moment| moment.as_str() == name);
            let moment = moment.unwrap_or(Moment::Before);
            environment
                .add_template_owned(name, text)
                .map_err(|error| Error::Template { moment, what: format!("{error:#}") })?;
        }
        Ok(Self(environment))
    }

    /// The message of a moment, with times in a zone.
    ///
    /// # Errors
    /// [`Error::Template`], with the line.
    pub fn message(&self, facts: &Facts, zone: &TimeZone) -> Result<Message, Error> {
        self.message_with(facts, zone, &[])
    }

    fn message_with(&self, facts: &Facts, zone: &TimeZone, pages: &[Page]) -> Result<Message, Error> {
        let wrong = |what: String| Error::Template { moment: facts.moment, what };
        let text = self
            .0
            .get_template(facts.moment.as_str())
            .and_then(|template| template.render(Serde(view(facts, zone, pages))))
            .map_err(|error| wrong(format!("{error:#}")))?;
        let (first, body) = text.split_once('\n').unwrap_or((text.as_str(), ""));
        let subject = first.strip_prefix(SUBJECT).ok_or_else(|| {
            wrong(format!("its first line is `{first}`, and has to begin with `{SUBJECT}`"))
        })?;
        // Names of instances are their owners' words, and a subject is one line of a header.
        let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Ok(Message { subject: subject.trim().to_owned(), body: tidy(body) })
    }
}

/// Without blank lines at the ends, and with no more than one in a row.
fn tidy(body: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in body.trim().lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_some_and(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.push("");
    lines.join("\n")
}

fn view<'a>(facts: &'a Facts, zone: &TimeZone, pages: &'a [Page]) -> View<'a> {
    let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
    View {
        cloud: &facts.cloud,
        doing: doing(facts),
        what: facts.what,
        plan: &facts.plan,
        run: facts.run.as_deref(),
        from: &facts.from,
        to: &facts.to,
        begins: local(facts.begins),
        ended: facts.ended.map(local),
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        duration: duration(facts.expected_s),
        services: facts
            .services
            .iter()
            .map(|impact| Service {
                name: &impact.service,
                level: impact.level,
                expect: match impact.level {
                    ImpactLevel::None => "nothing".to_owned(),
                    ImpactLevel::Minor => {
                        "answers may be slower for a moment; no request is expected to fail".to_owned()
                    }
                    ImpactLevel::Major => {
                        let why: Vec<&str> = impact.why.iter().map(String::as_str).collect();
                        format!("requests may fail or wait ({})", why.join("; "))
                    }
                },
            })
            .collect(),
        instances: facts
            .instances
            .iter()
            .map(|instance| Instance {
                id: &instance.id,
                name: if instance.name.is_empty() { &instance.id } else { &instance.name },
                what: instance.fate.words(),
            })
            .collect(),
        undecided: facts.instances.iter().any(|instance| instance.fate == Fate::Undecided),
        answers: pages,
        requests: facts.requests.map(|(failed, total)| Requests { failed, total }),
        cause: facts.cause.as_deref(),
        schedule: facts.schedule.as_ref().map(|schedule| schedule.name.as_str()),
        release: facts.release.as_ref(),
    }
}

/// What is done, as a noun.
fn doing(facts: &Facts) -> String {
    match facts.what {
        // A rollback is told of as what it takes back.
        What::Upgrade if facts.to.is_empty() => "the update to the newest packages".to_owned(),
        What::Upgrade => format!("the upgrade to OpenStack {}", facts.to),
        What::Rollback => format!("the upgrade to OpenStack {}", facts.from),
        What::Reboot => "the restart of hosts".to_owned(),
        What::Patch => "a security update".to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60).max(1);
    match (minutes / 60, minutes % 60) {
        (0, 1) => "a minute".to_owned(),
        (0, minutes) => format!("{minutes} minutes"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// Where owners answer what happens to their instances: a page for each of their projects.
fn pages(config: &Config, key: Option<&Key>, own: &Facts) -> Vec<Page> {
    let (Some(key), Some(base)) = (key, &config.confirm_url) else { return Vec::new() };
    if own.moment != Moment::Before {
        return Vec::new();
    }
    let projects: BTreeSet<&String> = own.instances.iter().map(|instance| &instance.project).collect();
    let page = |project: &String| {
        let (cloud, plan, begins) = (own.cloud.clone(), own.plan.clone(), own.begins);
        let token = key.sign(&Link { cloud, plan, project: project.clone(), begins });
        Page { project: project.clone(), link: format!("{}/confirm/{token}", base.trim_end_matches('/')) }
    };
    projects.into_iter().map(page).collect()
}

/// One message for each address that the facts concern, as it is queued. The key of a message is made
/// of what it is about, the moment and the address, so that queueing it again does nothing. With a key and an
/// address in the configuration owners get links to answer by; nobody else does.
///
/// # Errors
/// Where a template is wrong.
pub fn messages(
    config: &Config,
    templates: &Templates,
    key: Option<&Key>,
    facts: &Facts,
) -> Result<Vec<NewNotice>, Error> {
    let about = match (&facts.release, &facts.schedule, &facts.run) {
        (Some(release), ..) => format!("release/{}", release.name),
        // Whatever plan it will be, and whenever its window opens.
        (None, Some(schedule), _) => format!("schedule/{}/{}", schedule.name, schedule.due),
        (None, None, Some(run)) => run.clone(),
        (None, None, None) => format!("{}/{}", facts.plan, facts.begins),
    };
    let moment = facts.moment;
    let notice = |channel: &str, name: &str, to: &str, message: Message| NewNotice {
        key: format!("{about}/{moment}/{channel}/{name}/{to}"),
        moment: moment.to_string(),
        channel: channel.to_owned(),
        recipient: name.to_owned(),
        address: to.to_owned(),
        subject: message.subject,
        body: message.body,
    };
    let mut all = Vec::new();
    for recipient in &config.recipients {
        let Some(own) = facts.for_recipient(recipient) else { continue };
        let pages = pages(config, key, &own);
        let message = templates.message_with(&own, &config.zone_of(Some(recipient))?, &pages)?;
        for address in &recipient.email {
            all.push(notice("email", &recipient.name, address, message.clone()));
        }
    }
    for hook in config.webhooks.iter().filter(|hook| hook.moments.contains(&moment)) {
        // Rooms are for everybody, and whose instance does what is its owner's business.
        let mut own = facts.clone();
        if hook.shape != Shape::Json {
            own.instances.clear();
        }
        let message = templates.message(&own, &config.zone_of(None)?)?;
        let body = webhook::body(hook.shape, &own, &message);
        all.push(notice("webhook", &hook.name, "", Message { subject: message.subject, body }));
    }
    if !moment.is_of_operators() {
        let public = Facts { instances: Vec::new(), ..facts.clone() };
        all.push(notice(FEED, "", "", templates.message(&public, &config.zone_of(None)?)?));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Recipient;
    use crate::facts::{InstanceFate, Occurrence, ServiceImpact};

    fn facts(moment: Moment) -> Facts {
        Facts {
            cloud: "north".to_owned(),
            moment,
            what: What::Reboot,
            plan: "abc".to_owned(),
            run: (moment != Moment::Before).then(|| "r1".to_owned()),
            from: "2025.2".to_owned(),
            to: "2025.2".to_owned(),
            begins: "2026-11-03T01:00:00Z".parse().unwrap(),
            ended: Some("2026-11-03T02:30:00Z".parse().unwrap()),
            expected_s: 5_000,
            services: vec![ServiceImpact {
                service: "nova".to_owned(),
                level: ImpactLevel::Minor,
                why: ["replicas".to_owned()].into(),
            }],
            instances: ["p1", "p2"]
                .map(|project| InstanceFate {
                    id: format!("id-{project}"),
                    name: format!("db-{project}"),
                    project: project.to_owned(),
                    fate: Fate::Moves,
                })
                .to_vec(),
            requests: Some((0, 812)),
            cause: Some("a proof failed".to_owned()),
            schedule: (moment == Moment::Before || moment.is_of_schedule()).then(|| Occurrence {
                name: "monthly".to_owned(),
                due: "2026-11-03T01:00:00Z".parse().unwrap(),
            }),
            release: (moment == Moment::NewRelease).then(|| NewRelease {
                name: "2026.1-0c1d2e3f4a5b".to_owned(),
                source: "index https://index.example.org/simple".to_owned(),
                before: Some("2026.1-9a8b7c6d5e4f".to_owned()),
            }),
        }
    }

    fn config() -> Config {
        Config::parse(
            r#"
            [smtp]
            host = "localhost"
            encryption = "none"
            sender = "ops@example.org"
            [[recipient]]
            name = "a"
            email = ["a@example.org"]
            projects = ["p1"]
            time_zone = "Europe/Berlin"
            [[recipient]]
            name = "other"
            email = ["other@example.org"]
            projects = ["p3"]
            [[recipient]]
            name = "all"
            email = ["all@example.org", "desk@example.org"]
            [[webhook]]
            name = "chat"
            url = "http://localhost/"
            shape = "slack"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn only_those_concerned_are_told_and_of_their_own_instances() {
        let config = config();
        let templates = Templates::load(&config, Path::new(".")).unwrap();
        let made = messages(&config, &templates, None, &facts(Moment::Before)).unwrap();
        let to: Vec<&str> = made.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(to, ["a@example.org", "all@example.org", "desk@example.org", "", ""]);
        assert_eq!((made[3].channel.as_str(), made[4].channel.as_str()), ("webhook", FEED));
        assert!(made[0].body.contains("db-p1 (id-p1) goes to another host"), "{}", made[0].body);
        assert!(made.iter().all(|one| !one.body.contains("db-p2")), "nobody is told of others' instances");
        assert!(made.iter().skip(1).all(|one| !one.body.contains("db-p1")));
        assert_eq!(made[0].subject, "north: the restart of hosts on 2026-11-03 02:00 CET");
        assert!(made[1].subject.ends_with("01:00 UTC"), "{}", made[1].subject);
        assert_eq!(
            made[0].body,
            "On 2026-11-03 02:00 CET we begin the restart of hosts of north. It takes about 1 h 24 min.\n\n\
             What you may notice:\n\
             - nova: answers may be slower for a moment; no request is expected to fail\n\n\
             Your instances:\n\
             - db-p1 (id-p1) goes to another host and runs on meanwhile\n\n\
             You do not have to do anything.\n"
        );
    }

    #[test]
    fn every_moment_has_words_and_users_are_not_told_what_is_the_operators() {
        let config = config();
        let templates = Templates::load(&config, Path::new(".")).unwrap();
        for moment in Moment::ALL {
            let made = messages(&config, &templates, None, &facts(moment)).unwrap();
            assert_eq!(made.len(), if moment.is_of_operators() { 1 } else { 5 }, "{moment}");
            for one in &made {
                assert!(!one.subject.is_empty() && !one.body.contains("{{"), "{moment}: {one:?}");
            }
        }
        let held = &messages(&config, &templates, None, &facts(Moment::Held)).unwrap()[0];
        assert_eq!(held.key, "schedule/monthly/2026-11-03T01:00:00Z/held/webhook/chat/");
        assert!(
            held.body.contains("schedule monthly is held") && held.body.contains("a proof failed"),
            "{held:?}"
        );
        let new = &messages(&config, &templates, None, &facts(Moment::NewRelease)).unwrap()[0];
        assert_eq!(new.key, "release/2026.1-0c1d2e3f4a5b/new-release/webhook/chat/");
        let diff = "`volutus release diff 2026.1-9a8b7c6d5e4f 2026.1-0c1d2e3f4a5b`";
        assert!(
            new.body.contains(diff) && new.body.contains("index https://index.example.org/simple"),
            "{new:?}"
        );
        let desk = config.recipients[2].clone();
        let desk =
            Recipient { moments: [Moment::Missed].into(), services: Some(["nova".into()].into()), ..desk };
        let config_of_desk = Config { recipients: vec![desk], webhooks: Vec::new(), ..config.clone() };
        let missed =
            Facts { services: Vec::new(), what: What::Upgrade, to: String::new(), ..facts(Moment::Missed) };
        let missed = messages(&config_of_desk, &templates, None, &missed).unwrap();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert_eq!(missed[0].subject, "north: the update to the newest packages was due and was not done");
        let end = messages(&config, &templates, None, &facts(Moment::End)).unwrap();
        assert!(end[0].body.contains("0 of 812 requests failed"), "{}", end[0].body);
    }

    #[test]
    fn owners_are_asked_and_nobody_else_is() {
        let state = tempfile::tempdir().unwrap();
        let key = Key::make(state.path()).unwrap();
        let confirm_url = Some("https://cloud.example.org/".to_owned());
        let config = Config { confirm_url, ..config() };
        let templates = Templates::load(&config, Path::new(".")).unwrap();
        let mut facts = facts(Moment::Before);
        facts.instances[0].fate = Fate::Undecided;
        let made = messages(&config, &templates, Some(&key), &facts).unwrap();
        let link = |body: &str| {
            body.lines().find_map(|line| line.split_once("https://")).map(|(_, link)| link.to_owned())
        };
        assert_eq!(made.iter().filter(|one| link(&one.body).is_some()).count(), 1, "{made:?}");
        let (_, token) = made[0].body.split_once("https://cloud.example.org/confirm/").unwrap();
        let token = token.lines().next().unwrap();
        let plan = Link {
            cloud: "north".to_owned(),
            plan: "abc".to_owned(),
            project: "p1".to_owned(),
            begins: facts.begins,
        };
        assert_eq!(key.verify(token), Some(plan));
        assert_eq!(
            made[0].body.replace(token, "TOKEN"),
            "On 2026-11-03 02:00 CET we begin the restart of hosts of north. It takes about 1 h 24 min.\n\n\
             What you may notice:\n\
             - nova: answers may be slower for a moment; no request is expected to fail\n\n\
             Your instances:\n\
             - db-p1 (id-p1) cannot be moved while it runs, and stays untouched unless you let it be stopped\n\n\
             Until it begins you can tell us here whether you agree, want it later within the same window, or want an \
             instance\nstopped instead:\n\
             - https://cloud.example.org/confirm/TOKEN\nWhoever has this link can answer for you.\n"
        );
        facts.moment = Moment::Start;
        let made = messages(&config, &templates, Some(&key), &facts).unwrap();
        assert!(made.iter().all(|one| link(&one.body).is_none()), "{made:?}");
    }

    #[test]
    fn the_operators_own_words_are_used_and_mistakes_in_them_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { templates: Some("own".into()), ..config() };
        std::fs::create_dir(folder.path().join("own")).unwrap();
        let own = folder.path().join("own/start.txt");
        let make = |text: &str| {
            std::fs::write(&own, text).unwrap();
            let templates = Templates::load(&config, folder.path())?;
            messages(&config, &templates, None, &facts(Moment::Start))
        };
        let made = make("Subject: Los geht's in {{ cloud }}\n\nBis bald.\n").unwrap();
        assert_eq!((made[0].subject.as_str(), made[0].body.as_str()), ("Los geht's in north", "Bis bald.\n"));
        for (text, says) in [
            ("Los\n", "has to begin with `Subject: `"),
            ("Subject: {{ clowd }}\n", "undefined"),
            ("Subject: {{ cloud \n", "start:1"),
        ] {
            let error = make(text).unwrap_err().to_string();
            assert!(error.starts_with("the template of start notices") && error.contains(says), "{error}");
        }
    }
}

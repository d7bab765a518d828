//! Real deliveries to servers on loopback that take, put off, refuse or hang up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use volutus_e2e::sink::{Manner, Sink};
use volutus_notices::{Config, Deliverer, Facts, Moment, Settling, Templates, What, deliver_due, messages};
use volutus_store::{NoticeState, Store};

struct Trial {
    _directory: tempfile::TempDir,
    store: Store,
    deliverer: Deliverer,
    mail: Sink,
    web: Sink,
}

fn start() -> Timestamp {
    "2026-11-03T01:00:00Z".parse().unwrap()
}

/// One message by e-mail and one to a webhook, queued.
fn trial(shape: &str) -> Trial {
    let (mail, web) = (Sink::smtp().unwrap(), Sink::http().unwrap());
    let config = Config::parse(&format!(
        "[smtp]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\nsender = \"Cloud <ops@example.org>\"\n\
         [[recipient]]\nname = \"all\"\nemail = [\"a@example.org\"]\n\
         [[webhook]]\nname = \"chat\"\nurl = \"http://127.0.0.1:{}/hook/secret\"\nshape = \"{shape}\"\n",
        mail.port(),
        web.port()
    ))
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let facts = Facts {
        cloud: "north".to_owned(),
        moment: Moment::Start,
        what: What::Upgrade,
        plan: "p".to_owned(),
        run: Some("r1".to_owned()),
        from: "2025.2".to_owned(),
        to: "2026.1".to_owned(),
        begins: start(),
        ended: None,
        expected_s: 600,
        services: Vec::new(),
        instances: Vec::new(),
        requests: None,
        cause: None,
        schedule: None,
        release: None,
    };
    let templates = Templates::load(&config, Path::new(".")).unwrap();
    let made = messages(&config, &templates, None, &facts).unwrap();
    // Whoever comes after a kill queues them again.
    for _ in 0..2 {
        store.queue_notices("north", &made, start()).unwrap();
    }
    let deliverer = Deliverer::new(&config, Path::new(".")).unwrap();
    Trial { _directory: directory, store, deliverer, mail, web }
}

impl Trial {
    async fn deliver(&self, after_s: i64) -> Settling {
        let now = start() + SignedDuration::from_secs(after_s);
        deliver_due(&self.store, "north", &self.deliverer, || now).await.unwrap()
    }

    /// What became of the e-mail and of the webhook, with the reason.
    fn states(&self) -> [(NoticeState, Option<String>); 2] {
        let all = self.store.notices("north", 10).unwrap();
        ["email", "webhook"].map(|channel| {
            let one = all.iter().find(|one| one.notice.channel == channel).unwrap();
            (one.state, one.error.clone())
        })
    }

    fn be(&self, manner: Manner) {
        self.mail.be(manner);
        self.web.be(manner);
    }
}

#[tokio::test]
async fn each_gets_exactly_one() {
    let trial = trial("slack");
    assert_eq!(trial.deliver(0).await, Settling { sent: 2, later: 0, lost: 0 });
    assert_eq!(trial.deliver(100_000).await, Settling::default());
    let (mail, web) = (trial.mail.taken(), trial.web.taken());
    assert_eq!((mail.len(), web.len()), (1, 1));
    for wanted in [
        "From: Cloud <ops@example.org>",
        "To: a@example.org",
        "Subject: north: the upgrade to OpenStack 2026.1 has begun",
        "Auto-Submitted: auto-generated",
        "Message-ID: <volutus-",
    ] {
        assert!(mail[0].contains(wanted), "{wanted} in {}", mail[0]);
    }
    assert!(web[0].starts_with("POST /hook/secret HTTP/1.1"), "{}", web[0]);
    assert!(web[0].to_lowercase().contains("idempotency-key: volutus-"), "{}", web[0]);
    assert!(web[0].contains("{\"text\":\"north: the upgrade to OpenStack 2026.1 has begun"), "{}", web[0]);
}

#[tokio::test]
async fn rooms_of_matrix_get_events_under_one_transaction() {
    let trial = trial("matrix");
    trial.be(Manner::NotNow);
    trial.deliver(0).await;
    trial.be(Manner::Takes);
    trial.deliver(60).await;
    let web = trial.web.taken();
    let first = |text: &String| text.lines().next().unwrap().to_owned();
    assert_eq!(web.len(), 2, "once refused for now, once taken");
    assert_eq!(first(&web[0]), first(&web[1]), "under the same transaction");
    assert!(first(&web[0]).starts_with("PUT /hook/secret/volutus-"), "{}", web[0]);
}

#[tokio::test]
async fn what_is_put_off_is_tried_again_later_and_later_until_it_is_given_up() {
    let trial = trial("json");
    trial.be(Manner::NotNow);
    assert_eq!(trial.deliver(0).await, Settling { sent: 0, later: 2, lost: 0 });
    assert_eq!(trial.deliver(29).await, Settling::default(), "not before its time");
    assert_eq!(trial.deliver(30).await, Settling { sent: 0, later: 2, lost: 0 });
    assert_eq!(trial.deliver(60).await, Settling::default(), "twice as long");
    trial.mail.be(Manner::Takes);
    assert_eq!(trial.deliver(100).await, Settling { sent: 1, later: 1, lost: 0 });
    for hour in 1..20 {
        trial.deliver(hour * 3_600).await;
    }
    let [(mail, _), (web, why)] = trial.states();
    assert_eq!((mail, web), (NoticeState::Sent, NoticeState::Failed));
    assert_eq!(why.as_deref(), Some("it answered 503 Service Unavailable (after 10 tries)"));
    assert_eq!((trial.mail.taken().len(), trial.web.taken().len()), (1, 10));
}

#[tokio::test]
async fn a_refusal_is_final() {
    let trial = trial("json");
    trial.be(Manner::Refuses);
    assert_eq!(trial.deliver(0).await, Settling { sent: 0, later: 0, lost: 2 });
    let [(mail, mail_why), (web, web_why)] = trial.states();
    assert_eq!((mail, web), (NoticeState::Failed, NoticeState::Failed));
    assert!(mail_why.unwrap().contains("no such user"));
    assert_eq!(web_why.as_deref(), Some("it answered 410 Gone"));
}

/// The message may have been taken: sending it again would be sending it twice.
#[tokio::test]
async fn what_may_have_left_is_not_sent_again() {
    let trial = trial("json");
    trial.be(Manner::HangsUp);
    assert_eq!(trial.deliver(0).await, Settling { sent: 0, later: 0, lost: 2 });
    trial.be(Manner::Takes);
    assert_eq!(trial.deliver(100_000).await, Settling::default());
    let [(mail, _), (web, why)] = trial.states();
    assert_eq!((mail, web), (NoticeState::Unsure, NoticeState::Unsure));
    assert!(!why.unwrap().contains("secret"), "an address may be a secret");
    assert_eq!((trial.mail.taken().len(), trial.web.taken().len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let mut trial = trial("json");
    // Nobody listens at a port that was just let go of.
    let (mail, web) = (Sink::smtp().unwrap(), Sink::http().unwrap());
    (trial.mail, trial.web) = (mail, web);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(trial.deliver(0).await, Settling { sent: 0, later: 2, lost: 0 });
}

//! Sending what is queued.
//!
//! Only what has surely not left is tried again: a server that is not reached, or that says no for
//! now. Where the end of a try was not seen, nobody knows, and a person decides.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lettre::message::{Mailbox, MessageBuilder, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use volutus_store::{Notice, Sending, Store};

use crate::Error;
use crate::config::{Config, Encryption, Shape, Smtp, Webhook, secret};

/// What a server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between the first try and the second; twice as long after each.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// No pause is longer.
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Tries, over some three hours.
const ATTEMPTS_MAX: u32 = 10;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Sends notices as a configuration says.
pub struct Deliverer {
    mail: Option<(Transport, Mailbox)>,
    hooks: Vec<(Webhook, String)>,
    http: reqwest::Client,
}

/// What became of the notices that were due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settling {
    /// Taken.
    pub sent: usize,
    /// To be tried again.
    pub later: usize,
    /// Not to be tried again by itself.
    pub lost: usize,
}

impl Deliverer {
    /// Prepares, and reads the secrets that files hold. Nothing is connected yet.
    ///
    /// # Errors
    /// Where a file cannot be read, or no protected connection can be prepared.
    pub fn new(config: &Config, base: &Path) -> Result<Self, Error> {
        let mail = config.smtp.as_ref().map(|smtp| mail(smtp, base)).transpose()?;
        let mut hooks = Vec::new();
        for hook in &config.webhooks {
            let url = match (&hook.url, &hook.url_file) {
                (Some(url), _) => url.clone(),
                (None, Some(file)) => secret(base, file)?,
                (None, None) => continue,
            };
            hooks.push((hook.clone(), url));
        }
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Mail(format!("no client for webhooks: {error}")))?;
        Ok(Self { mail, hooks, http })
    }

    /// Sends one notice.
    pub async fn send(&self, notice: &Notice, now: Timestamp) -> Sending {
        let tried = match notice.notice.channel.as_str() {
            "email" => self.email(notice).await,
            _ => self.webhook(notice).await,
        };
        match tried {
            Ok(()) => Sending::Sent,
            Err(Undelivered::Refused(why)) => Sending::Failed { why },
            Err(Undelivered::Unseen(why)) => Sending::Unsure { why },
            Err(Undelivered::NotYet(why)) if notice.attempts >= ATTEMPTS_MAX => {
                Sending::Failed { why: format!("{why} (after {} tries)", notice.attempts) }
            }
            Err(Undelivered::NotYet(why)) => {
                Sending::Later { at: now.checked_add(pause(notice.attempts)).unwrap_or(Timestamp::MAX), why }
            }
        }
    }

    async fn email(&self, notice: &Notice) -> Result<(), Undelivered> {
        let refused = |error: &dyn std::fmt::Display| Undelivered::Refused(error.to_string());
        let Some((transport, sender)) = &self.mail else {
            return Err(Undelivered::NotYet("no [smtp] is configured any more".to_owned()));
        };
        let to: Mailbox = notice.notice.address.parse().map_err(|error| refused(&error))?;
        let domain = sender.email.domain();
        let message = MessageBuilder::new()
            .from(sender.clone())
            .to(to)
            .subject(&notice.notice.subject)
            // The same for every try, so that mail servers that see it twice can tell.
            .message_id(Some(format!("<{}@{domain}>", stable_id(notice))))
            .header(AutoSubmitted)
            .header(header::ContentType::TEXT_PLAIN)
            .body(notice.notice.body.clone())
            .map_err(|error| refused(&error))?;
        // A server that is not there, or does not let us in, has surely taken nothing.
        match transport.test_connection().await {
            Ok(true) => {}
            Ok(false) => return Err(Undelivered::NotYet("the mail server hung up".to_owned())),
            Err(error) if error.is_permanent() => return Err(refused(&told(&error))),
            Err(error) => return Err(Undelivered::NotYet(told(&error))),
        }
        match transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(refused(&told(&error))),
            Err(error) if error.is_transient() => Err(Undelivered::NotYet(told(&error))),
            Err(error) => Err(Undelivered::Unseen(told(&error))),
        }
    }

    async fn webhook(&self, notice: &Notice) -> Result<(), Undelivered> {
        let name = &notice.notice.recipient;
        let Some((hook, url)) = self.hooks.iter().find(|(hook, _)| hook.name == *name) else {
            return Err(Undelivered::NotYet(format!("no webhook `{name}` is configured any more")));
        };
        let request = match hook.shape {
            // The transaction's id is what keeps a room from getting an event twice.
            Shape::Matrix => {
                let mut address = reqwest::Url::parse(url)
                    .map_err(|error| Undelivered::Refused(format!("its address: {error}")))?;
                let path = format!("{}/{}", address.path().trim_end_matches('/'), stable_id(notice));
                address.set_path(&path);
                self.http.put(address)
            }
            Shape::Json | Shape::Slack => self.http.post(url),
        };
        let answer = request
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", stable_id(notice))
            .body(notice.notice.body.clone())
            .send()
            .await;
        // An address may be a secret: it is never told.
        match answer.map_err(reqwest::Error::without_url) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let why = format!("it answered {status}");
                let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
                Err(if passing { Undelivered::NotYet(why) } else { Undelivered::Refused(why) })
            }
            Err(error) if error.is_connect() => Err(Undelivered::NotYet(told(&error))),
            Err(error) if error.is_builder() => Err(Undelivered::Refused(told(&error))),
            Err(error) => Err(Undelivered::Unseen(told(&error))),
        }
    }
}

/// Why a notice was not taken.
enum Undelivered {
    /// It has surely not left, and may be taken later.
    NotYet(String),
    /// It will never be taken.
    Refused(String),
    /// It may have left.
    Unseen(String),
}

/// RFC 3834: whoever is on holiday does not answer.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// What tells a notice from all others, in letters that fit everywhere.
fn stable_id(notice: &Notice) -> String {
    let queued = notice.queued_at.as_microsecond();
    format!("volutus-{queued}-{}", notice.id)
}

fn pause(attempts: u32) -> SignedDuration {
    let factor = 2_i32.saturating_pow(attempts.saturating_sub(1).min(16));
    FIRST_PAUSE.checked_mul(factor).map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX))
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn mail(smtp: &Smtp, base: &Path) -> Result<(Transport, Mailbox), Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Mail(format!("mail server {}: {error}", smtp.host));
    let builder = match smtp.encryption {
        Encryption::Starttls => Transport::starttls_relay(&smtp.host).map_err(|error| wrong(&error))?,
        Encryption::Tls => Transport::relay(&smtp.host).map_err(|error| wrong(&error))?,
        Encryption::None => Transport::builder_dangerous(&smtp.host),
    };
    let mut builder = builder.timeout(Some(TIMEOUT));
    if let Some(port) = smtp.port {
        builder = builder.port(port);
    }
    if let (Some(user), Some(file)) = (&smtp.user, &smtp.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), secret(base, file)?));
    }
    let sender = smtp.sender.parse().map_err(|error| wrong(&error))?;
    Ok((builder.build(), sender))
}

/// Sends every notice about a cloud that is due.
///
/// # Errors
/// Where the store cannot be used; what could not be sent is no error.
pub async fn deliver_due(
    store: &Store,
    cloud: &str,
    deliverer: &Deliverer,
    now: impl Fn() -> Timestamp,
) -> Result<Settling, volutus_store::Error> {
    let mut settling = Settling::default();
    while let Some(notice) = store.claim_notice(cloud, now())? {
        let how = deliverer.send(&notice, now()).await;
        match &how {
            Sending::Sent => settling.sent += 1,
            Sending::Later { why, .. } => {
                settling.later += 1;
                tracing::info!(notice = notice.id, to = notice.notice.recipient, why, "a notice waits");
            }
            Sending::Failed { why } | Sending::Unsure { why } => {
                settling.lost += 1;
                tracing::warn!(
                    notice = notice.id,
                    to = notice.notice.recipient,
                    why,
                    "a notice was not sent"
                );
            }
        }
        store.settle_notice(notice.id, &how, now())?;
    }
    Ok(settling)
}

//! Asks servers, within limits of time and size.

use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode, Url};

use crate::error::Error;
use crate::registry::{Challenge, challenge, token};

/// How long a connection may take: servers answer in milliseconds, and one that does not is down or
/// behind a wall.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long a page may take: those of the largest packages come to some megabytes.
pub(crate) const PAGE_TIME: Duration = Duration::from_secs(60);

/// How long a file may take: the largest wheels come to hundreds of megabytes, on slow lines.
pub(crate) const FILE_TIME: Duration = Duration::from_secs(600);

/// Redirects that are followed, as many as pip does at the most in practice; more are a circle.
const REDIRECTS_MAX: usize = 10;

/// A user and a password, which are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Of a user and a password.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials of {}", self.user)
    }
}

/// The way to servers.
#[derive(Debug, Clone)]
pub struct Web {
    client: Client,
}

/// What is asked.
pub(crate) struct Ask<'a> {
    /// What for, as errors say it: "looking up nova".
    pub doing: &'a str,
    /// Where.
    pub url: &'a Url,
    /// Which forms are taken.
    pub accept: &'a str,
    /// So many bytes at the most.
    pub bytes_max: usize,
    /// Within which time.
    pub time: Duration,
}

/// What a server said.
pub(crate) struct Answer {
    pub status: StatusCode,
    /// Where it came from in the end.
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header as text; empty where it is absent or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(self) -> Result<String, Error> {
        let place = shown(&self.url);
        String::from_utf8(self.body).map_err(|_| Error::malformed(place, "it is no text"))
    }
}

/// An address without its credentials: as it is told and kept.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail for addresses that cannot have any.
    let _no_user = url.set_username("");
    let _no_password = url.set_password(None);
    // Addresses of stores behind a redirect are signed in their query.
    url.set_query(None);
    url.into()
}

/// An address as it is told and kept: without credentials and query.
///
/// # Errors
/// [`Error::Address`] where it is none of HTTP.
pub fn without_credentials(text: &str) -> Result<String, Error> {
    Ok(shown(&address(text)?))
}

/// Reads an address, which has to be of HTTP.
pub(crate) fn address(text: &str) -> Result<Url, Error> {
    // What cannot be read may have credentials anywhere, so it is not repeated.
    let unread = |why: String| Error::Address { address: "what was given".to_owned(), why };
    let url: Url = text.parse().map_err(|error| unread(format!("{error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let why = format!("{} is not http or https", url.scheme());
        return Err(Error::Address { address: shown(&url), why });
    }
    Ok(url)
}

/// An error with its causes, in one line and without addresses.
fn why(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    if timed_out { format!("no answer in time ({text})") } else { text }
}

impl Web {
    /// A way to servers that keeps to this crate's limits. Proxies are those of the environment.
    ///
    /// # Errors
    /// [`Error::Fetch`] where this machine has no certificates to know servers by.
    pub fn new() -> Result<Self, Error> {
        let policy = reqwest::redirect::Policy::custom(|attempt| {
            let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
            if was_secret && attempt.url().scheme() != "https" {
                attempt.error("it leads from https to an address that anybody could answer at")
            } else if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error(format!("more than {REDIRECTS_MAX} redirects"))
            } else {
                attempt.follow()
            }
        });
        let client = Client::builder()
            .connect_timeout(CONNECT_TIME)
            .redirect(policy)
            .user_agent(concat!("volutus/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Fetch {
                doing: "preparing to ask".to_owned(),
                address: "any server".to_owned(),
                why: why(error),
            })?;
        Ok(Self { client })
    }

    /// Asks, whatever the status of the answer.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Answer, Error> {
        let failed = |why: String| Error::Fetch { doing: ask.doing.to_owned(), address: shown(ask.url), why };
        let mut request = self.client.get(ask.url.clone()).header(ACCEPT, ask.accept).timeout(ask.time);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut answer = request.send().await.map_err(|error| failed(why(error)))?;
        let (status, url, headers) = (answer.status(), answer.url().clone(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(why(error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > ask.bytes_max {
                return Err(failed(format!("it sends more than {} bytes", ask.bytes_max)));
            }
        }
        Ok(Answer { status, url, headers, body })
    }

    /// Asks, and takes nothing but a success.
    pub(crate) async fn get(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let answer = self.ask(ask, None).await?;
        ask.succeeded(answer)
    }

    /// Asks a registry, and answers to what it asks for itself. A token is kept in `kept` for the next question.
    pub(crate) async fn ask_registry(
        &self,
        ask: &Ask<'_>,
        credentials: Option<&Credentials>,
        kept: &mut Option<String>,
    ) -> Result<Answer, Error> {
        let answer = self.ask(ask, kept.as_deref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return ask.succeeded(answer);
        }
        let wanted = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let wanted = wanted.filter_map(|value| challenge(value.to_str().ok()?)).next();
        *kept = match (wanted, credentials) {
            (Some(Challenge::Basic), Some(credentials)) => Some(basic(credentials)),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                let mut url = address(&realm)?;
                // A password goes nowhere that is less guarded than where the registry was asked.
                if ask.url.scheme() == "https" && url.scheme() != "https" {
                    let why = "its tokens come from an address without TLS".to_owned();
                    return Err(Error::Fetch { doing: ask.doing.to_owned(), address: shown(ask.url), why });
                }
                for (name, value) in [("service", service), ("scope", scope)] {
                    if let Some(value) = value {
                        url.query_pairs_mut().append_pair(name, &value);
                    }
                }
                let doing = "asking for a token";
                let inner = Ask { doing, url: &url, accept: "application/json", ..*ask };
                let given = self.ask(&inner, credentials.map(basic).as_deref()).await?;
                let given = inner.succeeded(given)?.text()?;
                let token = token(&given).ok_or_else(|| Error::malformed(shown(&url), "it has no token"))?;
                Some(format!("Bearer {token}"))
            }
            _ => return ask.succeeded(answer),
        };
        let answer = self.ask(ask, kept.as_deref()).await?;
        ask.succeeded(answer)
    }
}

fn basic(credentials: &Credentials) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", credentials.user, credentials.password);
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
}

/// The first words of a refusal are enough to know whose it is.
const REFUSAL_CHARS_MAX: usize = 200;

impl Ask<'_> {
    pub fn succeeded(&self, answer: Answer) -> Result<Answer, Error> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let words: String = String::from_utf8_lossy(&answer.body).chars().take(REFUSAL_CHARS_MAX).collect();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let why = match words.is_empty() {
            true => format!("it answers {}", answer.status),
            false => format!("it answers {}: {words}", answer.status),
        };
        Err(Error::Fetch { doing: self.doing.to_owned(), address: shown(self.url), why })
    }
}

//! Requests to a cloud, with tokens and addresses taken care of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::answer::{Answer, Body};
use crate::catalog::{self, ServiceType};
use crate::config::CloudConfig;
use crate::error::Error;
use crate::token::{self, Token};

/// The largest answer that is read. A page of 1,000 servers with details is about 3 MiB.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A cloud as one user sees it. Cloning is cheap and shares the token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: CloudConfig,
    http: reqwest::Client,
    timeout: Duration,
    /// Held while a new token is asked for, so that many requests that find the token missing
    /// ask for one only.
    token: Mutex<Option<Arc<Token>>>,
}

/// One request to one service.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The service.
    pub service: ServiceType,
    /// Path below the resource root, with its query: `/servers/detail?limit=10`.
    pub path: String,
    /// The microversion, for services that have them.
    pub microversion: Option<&'static str>,
    /// The body.
    pub body: Body,
    /// Whether the client's own token is also the subject, as when it is to be validated. The
    /// client adds the header itself, so that no token is in a request that somebody prints.
    pub own_token_as_subject: bool,
}

impl Request {
    /// A request without body, microversion and further headers.
    pub fn new(method: Method, service: ServiceType, path: impl Into<String>) -> Self {
        Self {
            method,
            service,
            path: path.into(),
            microversion: None,
            body: Body::Empty,
            own_token_as_subject: false,
        }
    }

    /// The same with a microversion.
    #[must_use]
    pub fn microversion(mut self, version: &'static str) -> Self {
        self.microversion = Some(version);
        self
    }

    /// The same with a JSON body.
    #[must_use]
    pub fn json(mut self, body: Value) -> Self {
        self.body = Body::Json(body);
        self
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for one entry of a clouds.yaml. `timeout` bounds every single request, from
    /// connecting to the last byte.
    ///
    /// Every request has a connection of its own. A kept connection saves a client little, and
    /// when a server or load balancer closes it in the moment of use, nobody can tell whether a
    /// request was lost or never sent. Proxies of the environment are not used: the address in
    /// the catalog is what is asked.
    ///
    /// # Errors
    /// [`Error::Config`] where the `cacert` cannot be used.
    pub fn new(config: CloudConfig, timeout: Duration) -> Result<Self, Error> {
        let refuse =
            |why: String| Error::Config { file: config.file.clone(), entry: config.entry.clone(), why };
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_max_idle_per_host(0)
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("volutus/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(!config.verify);
        if let Some(path) = &config.cacert {
            let pem =
                std::fs::read(path).map_err(|error| refuse(format!("cacert {}: {error}", path.display())))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|error| refuse(format!("cacert {}: {error}", path.display())))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| refuse(causes(&error)))?;
        let shared = Shared { config, http, timeout, token: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The entry that this client speaks for.
    #[must_use]
    pub fn config(&self) -> &CloudConfig {
        &self.shared.config
    }

    /// Bound of every single request.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// Adds the client's token to a request that goes somewhere else than to an endpoint of the
    /// catalog: to a single replica behind a load balancer.
    ///
    /// # Errors
    /// As [`Client::token`].
    pub async fn authorize(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::RequestBuilder, Error> {
        let token = self.token().await?;
        Ok(request.header("X-Auth-Token", token_header(&token)?))
    }

    /// The token, a new one where there is none or its end is near.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] where keystone refuses the credentials; otherwise why no token
    /// came.
    pub async fn token(&self) -> Result<Arc<Token>, Error> {
        let mut held = self.shared.token.lock().await;
        if let Some(token) = held.as_ref()
            && !token.is_stale(Timestamp::now())
        {
            return Ok(Arc::clone(token));
        }
        let token = Arc::new(self.read_token(self.authenticate().await?)?);
        *held = Some(Arc::clone(&token));
        Ok(token)
    }

    /// The token that the client holds, stale or not; asks for none.
    pub async fn held_token(&self) -> Option<Arc<Token>> {
        self.shared.token.lock().await.clone()
    }

    /// Asks keystone for a token, once, and hands back its raw answer; neither uses nor changes
    /// the token that the client holds. See [`Token::from_answer`] and [`Client::adopt`].
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Body`] where no whole answer came.
    pub async fn authenticate(&self) -> Result<Answer, Error> {
        let mut url = ServiceType::Identity.resource_root(&self.shared.config.auth_url);
        url.set_path(&format!("{}/auth/tokens", url.path().trim_end_matches('/')));
        let body = Body::Json(token::request_body(&self.shared.config));
        self.exchange(Method::POST, url, HeaderMap::new(), body).await
    }

    /// Uses this token from now on.
    pub async fn adopt(&self, token: Token) {
        *self.shared.token.lock().await = Some(Arc::new(token));
    }

    fn read_token(&self, answer: Answer) -> Result<Token, Error> {
        let config = &self.shared.config;
        if matches!(answer.status, 401 | 403) {
            return Err(Error::Unauthorized {
                entry: config.entry.clone(),
                auth_url: config.auth_url.to_string(),
                who: config.who(),
                status: answer.status,
                message: answer.message(),
            });
        }
        Token::from_answer(answer)
    }

    /// Forgets the token, if it is still the one that was refused.
    async fn forget(&self, refused: &Arc<Token>) {
        let mut held = self.shared.token.lock().await;
        if held.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused)) {
            *held = None;
        }
    }

    /// The resource root of a service, from the token's catalog.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] where the catalog has none; else why there is no token.
    pub async fn endpoint(&self, service: ServiceType) -> Result<Url, Error> {
        let token = self.token().await?;
        Ok(service.resource_root(&self.published(&token, service)?))
    }

    /// The address of a service as the catalog has it.
    pub(crate) fn published(&self, token: &Token, service: ServiceType) -> Result<Url, Error> {
        let config = &self.shared.config;
        let found = catalog::find(&token.catalog, service, &config.interface, config.region.as_deref());
        found.and_then(|url| Url::parse(url).ok()).ok_or_else(|| {
            let mut known: Vec<String> = Vec::new();
            for entry in &token.catalog {
                for endpoint in &entry.endpoints {
                    let region = endpoint.region.as_deref().unwrap_or("no region");
                    known.push(format!("{} ({}, {region})", entry.kind, endpoint.interface));
                }
            }
            Error::NoEndpoint {
                service_type: service.names().join(" or "),
                interface: config.interface.clone(),
                region: config.region.clone(),
                known: if known.is_empty() { vec!["nothing".to_owned()] } else { known },
            }
        })
    }

    /// Makes a request and hands back whatever came. A token that turns out to be no longer
    /// valid (status 401) is replaced, and the request repeated, once.
    ///
    /// # Errors
    /// Only where no whole answer came, or no token; every status is an answer.
    pub async fn request(&self, request: &Request) -> Result<Answer, Error> {
        let answer = self.attempt(request).await?;
        if answer.status == 401 {
            tracing::debug!(request = answer.request, "token refused; asking for a new one");
            return self.attempt(request).await;
        }
        Ok(answer)
    }

    /// Makes a request exactly once. Status 401 makes the client forget its token, so that the
    /// next request asks for a new one.
    ///
    /// # Errors
    /// As for [`Client::request`].
    pub async fn attempt(&self, request: &Request) -> Result<Answer, Error> {
        let token = self.token().await?;
        let root = request.service.resource_root(&self.published(&token, request.service)?);
        let url = join(&root, &request.path);
        let answer =
            self.exchange(request.method.clone(), url, headers(request, &token)?, request.body.clone());
        let answer = answer.await?;
        if answer.status == 401 {
            self.forget(&token).await;
        }
        Ok(answer)
    }

    /// A request to an address of its own, with the token: version documents.
    pub(crate) async fn get_url(&self, url: Url) -> Result<Answer, Error> {
        let token = self.token().await?;
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", token_header(&token)?);
        self.exchange(Method::GET, url, headers, Body::Empty).await
    }

    async fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let name = format!("{method} {url}");
        let unreachable = |error: reqwest::Error| Error::Unreachable {
            request: name.clone(),
            timed_out: error.is_timeout(),
            why: causes(&error),
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let mut builder = self.shared.http.request(method, url).headers(headers);
        builder = match body {
            Body::Empty => builder,
            Body::Json(value) => builder.json(&value),
            Body::Bytes(bytes) => builder.header("content-type", "application/octet-stream").body(bytes),
        };
        let mut response = builder.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Error::Body {
                    request: name,
                    why: format!("the answer is larger than {BODY_BYTES_MAX} bytes"),
                    beginning: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { request: name, status, headers, body, elapsed: started.elapsed() })
    }
}

fn join(root: &Url, path: &str) -> Url {
    let mut url = root.clone();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    url.set_path(&format!("{}{path}", root.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

fn token_header(token: &Token) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.secret.expose_secret()).map_err(|_| Error::Body {
        request: "POST /v3/auth/tokens".to_owned(),
        why: "the token has characters that no header may have".to_owned(),
        beginning: "(left out)".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn headers(request: &Request, token: &Token) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert("x-auth-token", token_header(token)?);
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if request.own_token_as_subject {
        headers.insert("x-subject-token", token_header(token)?);
    }
    if let Some((version, name)) = request.microversion.zip(request.service.microversion_name()) {
        let value = HeaderValue::from_str(&format!("{name} {version}"));
        let value = value.map_err(|_| Error::Body {
            request: format!("{} {}", request.method, request.path),
            why: format!("microversion {version:?} has characters that no header may have"),
            beginning: "(not sent)".to_owned(),
        })?;
        headers.insert("openstack-api-version", value);
    }
    Ok(headers)
}

/// An error with all its causes: the outermost alone says only "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        // Outer messages often repeat the inner ones, and the outermost the address.
        let text = text.split(" for url (").next().unwrap_or(&text).to_owned();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

//! What an API answered, whatever it answered.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// Characters of a body that go into messages: enough for an API's own words, too little to
/// flood a journal.
const BEGINNING_CHARS: usize = 400;

/// The body of a request.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// JSON.
    Json(Value),
    /// Bytes, as `application/octet-stream`.
    Bytes(Vec<u8>),
}

/// An HTTP answer of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Method and address of the request, for messages.
    pub request: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// From the start of the request to the last byte of the answer.
    pub elapsed: Duration,
}

impl Answer {
    /// The body as JSON of the shape `T`.
    ///
    /// # Errors
    /// [`Error::Body`] where it is not.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Body {
            request: self.request.clone(),
            why: format!("the answer (status {}) is not as expected: {error}", self.status),
            beginning: self.beginning(),
        })
    }

    /// The part of a JSON object under `key`, of the shape `T`: OpenStack wraps nearly every
    /// answer in an object with one key.
    ///
    /// # Errors
    /// [`Error::Body`] where it is not there or of another shape.
    pub fn part<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let mut whole: Value = self.json()?;
        let part = whole.get_mut(key).map(Value::take).ok_or_else(|| Error::Body {
            request: self.request.clone(),
            why: format!("the answer has no `{key}`"),
            beginning: self.beginning(),
        })?;
        serde_json::from_value(part).map_err(|error| Error::Body {
            request: self.request.clone(),
            why: format!("`{key}` of the answer is not as expected: {error}"),
            beginning: self.beginning(),
        })
    }

    /// The answer itself where its status is one of these.
    ///
    /// # Errors
    /// [`Error::Status`] where it is not.
    pub fn expect_status(self, expected: &[u16]) -> Result<Self, Error> {
        if expected.contains(&self.status) {
            return Ok(self);
        }
        Err(Error::Status {
            message: self.message(),
            request: self.request,
            status: self.status,
            expected: expected.to_vec(),
        })
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The id that OpenStack gave the request, to find it in logs.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.header("x-openstack-request-id").or_else(|| self.header("x-compute-request-id"))
    }

    /// The beginning of the body, in one line.
    #[must_use]
    pub fn beginning(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        if text.trim().is_empty() {
            return "(empty)".to_owned();
        }
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = line.char_indices().nth(BEGINNING_CHARS) {
            line.truncate(cut);
            line.push_str(" …");
        }
        line
    }

    /// The API's own message where the body has one, else its beginning. Shapes in use:
    /// `{"error": {"message"}}` (keystone), `{"badRequest": {"message"}}` (nova, cinder),
    /// `{"NeutronError": {"message"}}`, `{"errors": [{"detail"}]}` (placement), and
    /// `{"message"}` (glance's middleware).
    #[must_use]
    pub fn message(&self) -> String {
        let found = serde_json::from_slice::<Value>(&self.body).ok().and_then(|body| {
            let direct = body.get("message").and_then(Value::as_str).map(str::to_owned);
            direct.or_else(|| {
                let first = body.as_object()?.values().next()?;
                let inner = first.get(0).unwrap_or(first);
                let text = inner.get("message").or_else(|| inner.get("detail"))?;
                text.as_str().map(str::to_owned)
            })
        });
        let mut message = found.unwrap_or_else(|| self.beginning());
        if let Some(id) = self.request_id() {
            message = format!("{message} ({id})");
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            request: "GET http://198.18.0.10:8774/v2.1/servers".to_owned(),
            status,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn messages_of_every_service_are_found() {
        for (body, message) in [
            (r#"{"error":{"code":401,"message":"no","title":"Unauthorized"}}"#, "no"),
            (r#"{"badRequest":{"code":400,"message":"bad"}}"#, "bad"),
            (r#"{"NeutronError":{"type":"X","message":"gone","detail":""}}"#, "gone"),
            (r#"{"errors":[{"status":404,"detail":"absent"}]}"#, "absent"),
            (r#"{"message":"plain"}"#, "plain"),
            ("<html>\n <b>503</b></html>", "<html> <b>503</b></html>"),
            ("", "(empty)"),
        ] {
            assert_eq!(answer(500, body).message(), message);
        }
    }

    #[test]
    fn a_status_that_is_not_expected_is_an_error_with_request_and_message() {
        let error = answer(503, "Service Unavailable").expect_status(&[200, 204]).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"GET http://198.18.0.10:8774/v2.1/servers: status 503, expected 200 or 204: Service Unavailable"
        );
    }

    #[test]
    fn a_long_body_is_cut_at_a_character() {
        let long = answer(500, &"ü".repeat(1000)).beginning();
        assert_eq!(long.chars().count(), BEGINNING_CHARS + 2);
    }

    #[test]
    fn a_missing_part_is_named() {
        let error = answer(200, "{\"other\": 1}").part::<Vec<u8>>("servers").unwrap_err();
        insta::assert_snapshot!(
            error,
            @r#"GET http://198.18.0.10:8774/v2.1/servers: the answer has no `servers`; the body begins with: {"other": 1}"#
        );
    }
}

//! What is refused, in the form of RFC 9457.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why something was not done: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:volutus:error:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub uri: Box<str>,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// The stable code; the same as the command line's (docs/reference/errors.md).
    pub code: &'static str,
    /// What was attempted, and what was seen.
    pub detail: String,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hint: Option<Box<str>>,
}

impl Problem {
    /// A problem without causes.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            uri: format!("urn:volutus:error:{code}").into(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds causes.
    #[must_use]
    pub fn causes(mut self, causes: Vec<String>) -> Self {
        self.causes = causes;
        self
    }

    /// Something whose thread or process is gone: a defect, or the end of the process.
    #[must_use]
    pub fn broken(what: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "run-broke-off", what)
    }
}

impl From<volutus_store::Error> for Problem {
    fn from(error: volutus_store::Error) -> Self {
        let code = error.code();
        let status = match code {
            "not-found" => StatusCode::NOT_FOUND,
            "store" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        };
        if status.is_server_error() {
            // Paths and the words of SQLite are for the operator of this machine.
            tracing::error!(%error, "the store");
            return Self::new(status, code, "the store could not be used")
                .hint("The server's log tells why.");
        }
        Self::new(status, code, error.to_string())
    }
}

impl From<volutus_runtime::Error> for Problem {
    fn from(error: volutus_runtime::Error) -> Self {
        match error {
            volutus_runtime::Error::Store(error) => error.into(),
            other => {
                tracing::error!(error = %other, "a run");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "journal", other.to_string())
            }
        }
    }
}

/// The code of everything that was not asked as the document says.
const MALFORMED: &str = "malformed-request";

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), MALFORMED, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), MALFORMED, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), MALFORMED, rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

//! What the synthetic user saw: one sample per request.

use serde::{Deserialize, Serialize};

use crate::name::{ServiceName, StepId};

/// In the place of a service: samples of what is reached past all APIs.
pub const DATA_PLANE: &str = "data-plane";

/// One request of the synthetic user, or one thing it waited for (an instance to become ACTIVE).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was due to start, in microseconds since the Unix epoch. Latency is counted from
    /// here, so that a slow cloud cannot hide behind a late prober.
    pub due_us: i64,
    /// Seconds from due to answered, in milliseconds.
    pub latency_ms: f64,
    /// The service asked.
    pub service: ServiceName,
    /// What was asked, for example "create server" or "boot to active".
    pub operation: String,
    /// HTTP status; `None` where no answer came (refused, reset, timed out).
    pub status: Option<u16>,
    /// How it turned out.
    pub result: SampleResult,
    /// The steps that were running when it was due.
    pub steps: Vec<StepId>,
    /// The highest microversion that the answer told, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<String>,
}

/// How a request of the synthetic user turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum SampleResult {
    /// The answer was as it should be.
    Ok,
    /// It was not.
    Failed {
        /// What was seen: the beginning of the body, or the error.
        why: String,
    },
}

impl Sample {
    /// Whether it was a request to an API, and not an attempt to reach the data plane.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.service.as_str() != DATA_PLANE
    }

    /// Whether the request failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.result, SampleResult::Failed { .. })
    }
}

//! What the operator wants kept while Volutus works.

use serde::{Deserialize, Serialize};

/// The limits of a run. Defaults suit a cloud of a few controllers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Replicas of every API that serve at any moment, at the least. A backend with no more
    /// replicas than this cannot be rolled without downtime.
    pub serving_replicas_min: u32,
    /// Whether an API without enough replicas may be upgraded all the same, with downtime.
    pub accept_downtime: bool,
    /// Steps that run at the same time, at the most, over the whole plan.
    pub parallel_steps_max: u32,
    /// Hosts that are staged at the same time.
    pub stage_parallel_max: u32,
    /// Compute daemons that are replaced at the same time, after the canary.
    pub compute_wave: u32,
    /// Seconds of ordinary work that the prober watches before anything is touched: the
    /// baseline that latencies are compared with.
    pub baseline_s: u32,
    /// Seconds that the cloud is watched after the last step of the roll.
    pub soak_s: u32,
    /// Seconds that a server may take to finish its sessions once it is drained.
    pub drain_timeout_s: u32,
    /// Seconds that a daemon may take to prove itself after its start.
    pub prove_timeout_s: u32,
    /// Failed requests of the prober, all services together, from which on the run halts.
    /// 0 means that the first one does.
    pub failed_requests_max: u32,
    /// How often an action that failed transiently is tried in all.
    pub attempts_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            serving_replicas_min: 1,
            accept_downtime: false,
            parallel_steps_max: 3,
            stage_parallel_max: 20,
            compute_wave: 3,
            baseline_s: 30,
            soak_s: 20,
            // HAProxy's own time-outs for clients and servers are commonly 60 to 120 s; a
            // request that is still open after this is evidence of a client that does not end.
            drain_timeout_s: 180,
            prove_timeout_s: 180,
            failed_requests_max: 3,
            attempts_max: 3,
        }
    }
}

impl Policy {
    /// Reads a policy file; absent keys keep their defaults.
    ///
    /// # Errors
    /// A message with line and column where the text is not TOML of this shape, or a sentence
    /// where a limit makes no sense.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if policy.serving_replicas_min == 0 && !policy.accept_downtime {
            return Err("serving_replicas_min = 0 means downtime; set accept_downtime = true as well \
                        if that is meant"
                .to_owned());
        }
        for (name, value) in [
            ("parallel_steps_max", policy.parallel_steps_max),
            ("stage_parallel_max", policy.stage_parallel_max),
            ("compute_wave", policy.compute_wave),
            ("drain_timeout_s", policy.drain_timeout_s),
            ("prove_timeout_s", policy.prove_timeout_s),
            ("attempts_max", policy.attempts_max),
        ] {
            if value == 0 {
                return Err(format!("{name} = 0 would let nothing happen; it must be at least 1"));
            }
        }
        Ok(policy)
    }
}

//! One planning rule per file. Each adds stages to the draft, and says why they wait.

pub(crate) mod advertised;
pub(crate) mod again;
pub(crate) mod anchor;
pub(crate) mod baseline;
pub(crate) mod canary;
pub(crate) mod daemon;
pub(crate) mod drains;
pub(crate) mod expand;
pub(crate) mod finalize;
pub(crate) mod gates;
pub(crate) mod hooks;
pub(crate) mod horizon;
pub(crate) mod links;
pub(crate) mod roll;
mod roll_agents;
pub(crate) mod roll_api;
pub(crate) mod roll_workers;
pub(crate) mod shadow;
pub(crate) mod soak;
pub(crate) mod stage_release;
pub(crate) mod upgrade_check;
pub(crate) mod waves;

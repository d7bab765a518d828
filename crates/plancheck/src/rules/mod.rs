//! One rule per file.

pub(crate) mod advertised;
pub(crate) mod anchor;
pub(crate) mod budget;
pub(crate) mod canary;
pub(crate) mod commands;
pub(crate) mod coverage;
pub(crate) mod drain;
pub(crate) mod emptied;
pub(crate) mod finalize;
pub(crate) mod gates;
pub(crate) mod hooks;
pub(crate) mod identity;
pub(crate) mod mitigation;
pub(crate) mod order;
pub(crate) mod patch;
pub(crate) mod restart;
pub(crate) mod rungs;
pub(crate) mod shadow;
pub(crate) mod shape;
pub(crate) mod skew;
pub(crate) mod way_back;

//! What people are told of a run: whom it concerns, in which words, and how it reaches them.
//!
//! [`Config`] says who is to be told what. [`messages`] makes of the [`Facts`] of a plan or run one
//! message for each of those that it concerns, and of nobody else's instances. Messages are queued in
//! the store before anything is sent, and [`deliver_due`] sends them from there: one that may have
//! left is never sent again by itself, and nothing of it ever holds a run up.

mod config;
mod delivery;
mod facts;
mod feed;
mod link;
mod question;
mod text;
mod webhook;

pub use config::{Config, Encryption, Moment, Recipient, Shape, Smtp, Webhook};
pub use delivery::{Deliverer, Settling, deliver_due};
pub use facts::{
    Facts, Fate, InstanceFate, NewRelease, Occurrence, ServiceImpact, What, expected_impact, fates,
};
pub use feed::{ENTRIES_MAX, atom, status_page};
pub use link::{Key, Link};
pub use question::{Question, Refusal, question_page, refusal_page};
pub use text::{Message, Templates, messages};

/// Why notices could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not as documented.
    #[error("{0}")]
    Config(String),
    /// A template is wrong.
    #[error("the template of {moment} notices: {what}")]
    Template {
        /// Whose.
        moment: Moment,
        /// What is wrong, and where.
        what: String,
    },
    /// A file that the configuration names cannot be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key of links cannot be made.
    #[error("could not make the key of links {path}: {source}")]
    Key {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// E-mail cannot be prepared.
    #[error("{0}")]
    Mail(String),
}

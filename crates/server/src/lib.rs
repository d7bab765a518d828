//! The HTTP API of `volutus serve`.
//!
//! It shows what the store has, takes commands, and hands them on; it decides nothing. What it
//! cannot do itself (start a run, judge a plan, tell what is due) it asks of [`Works`]. Commands
//! reach a run in the way in which the command line's do: through the store.
//!
//! Two ways lead in: a Unix socket, where the kernel says who calls ([`unix`]), and TLS, where
//! keystone does ([`tls`], [`keystone`]). Everything that is refused is a [`Problem`] with the
//! code that the command line would print.

mod access;
mod api;
mod keystone;
mod metrics;
mod people;
mod problem;
mod routes;
mod tls;
mod unix;
mod works;

pub use access::{Access, Caller, Role, Way};
pub use api::{Api, FleetLock, document, router};
pub use axum::http::StatusCode;
pub use keystone::Keystone;
pub use people::{People, PeopleError};
pub use problem::Problem;
pub use tls::Tls;
pub use unix::{Peer, Socket, listen};
pub use works::{Answer, Calendar, LockedAt, Look, Releases, Works};

//! A thin client of OpenStack's APIs.
//!
//! It turns an entry of a clouds.yaml ([`CloudConfig`]) into requests ([`Client`]) and hands
//! back what came ([`Answer`]): status, headers, body, and the time that it took. What it must
//! never do is decide on its own: it follows no redirect, repeats no request (but one, once,
//! when a token turns out to be no longer valid, and only in [`Client::request`]), and keeps no
//! idle connection, so that whoever measures a cloud with it measures the cloud.
//!
//! Start at [`Client`]; the calls that know a service's own words are in [`compute`],
//! [`network`], [`image`], [`volume`], [`identity`] and [`placement`].

pub mod agents;
mod answer;
mod catalog;
mod client;
pub mod compute;
mod config;
mod error;
pub mod identity;
pub mod image;
pub mod migration;
pub mod network;
mod new_server;
pub mod placement;
mod throwaway;
mod token;
mod versions;
pub mod volume;

pub use answer::{Answer, Body};
pub use catalog::ServiceType;
pub use client::{Client, Request};
pub use config::{Auth, CloudConfig, Domain, Scope};
pub use error::Error;
pub use reqwest::{Method, Url};
pub use throwaway::THROWAWAY;
pub use token::Token;
pub use versions::{VersionDocument, highest_of};

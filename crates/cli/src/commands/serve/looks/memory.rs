//! What is remembered of looks for new releases, in the store.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use volutus_model::{HostName, LockName};
use volutus_store::Store;

use crate::commands::plan::store_error;
use crate::error::Result;

/// From a look that failed to the next one; after each further failure it is twice as long, up to the time from
/// look to look.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// The last look at a source for a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// When it ended.
    pub at: Timestamp,
    /// How many failed in a row, this one included.
    pub failures: u32,
    /// Why it failed, or what the source does not have yet.
    pub why: Option<String>,
    /// The locked release of what the source had when it last had all.
    pub release: Option<LockName>,
}

impl Looked {
    /// When the source is asked again, as of now.
    pub fn next(&self, every: SignedDuration, now: Timestamp) -> Timestamp {
        if self.at > now {
            // The clock was put back: nobody knows how long ago it was.
            return now;
        }
        self.at.saturating_add(self.wait(every)).unwrap_or(Timestamp::MAX)
    }

    /// How long is waited until the source is asked again.
    pub fn wait(&self, every: SignedDuration) -> SignedDuration {
        match self.failures {
            0 => every,
            failures => {
                let factor = 2_i32.saturating_pow(failures - 1);
                RETRY.checked_mul(factor).unwrap_or(every).min(every)
            }
        }
    }
}

/// A release that is about to be kept, of which people are to be told. It is noted before, so that a server that
/// ends in between tells of it all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// The release that was the latest before it, of the same series and kind of source.
    pub before: Option<LockName>,
}

/// Where all of it is.
#[derive(Debug, Clone)]
pub struct Memory {
    store: Store,
    looked: String,
    untold: String,
}

impl Memory {
    /// Of a cloud.
    pub fn of(cloud: &HostName, store: &Store) -> Self {
        Self {
            store: store.clone(),
            looked: format!("release-look/{cloud}"),
            untold: format!("release-untold/{cloud}"),
        }
    }

    /// The last looks, by what was looked for and where.
    pub fn looked(&self) -> Result<BTreeMap<String, Looked>> {
        let all = self.store.documents::<Looked>(&self.looked).map_err(store_error)?;
        Ok(all.into_iter().map(|document| (document.key, document.body)).collect())
    }

    /// Keeps a look.
    pub fn keep_looked(&self, key: &str, looked: &Looked) -> Result<()> {
        let document = [(key.to_owned(), looked)];
        self.store.put_documents(&self.looked, &document, looked.at).map_err(store_error)
    }

    /// Releases of which people are to be told, by name.
    pub fn untold(&self) -> Result<BTreeMap<String, Untold>> {
        let all = self.store.documents::<Untold>(&self.untold).map_err(store_error)?;
        Ok(all.into_iter().map(|document| (document.key, document.body)).collect())
    }

    /// Notes that people are to be told of a release.
    pub fn keep_untold(&self, release: &LockName, untold: &Untold, now: Timestamp) -> Result<()> {
        let document = [(release.to_string(), untold)];
        self.store.put_documents(&self.untold, &document, now).map_err(store_error)
    }

    /// They are, or there is nothing to tell.
    pub fn forget_untold(&self, release: &str) -> Result<()> {
        self.store.remove_document(&self.untold, release).map(|_| ()).map_err(store_error)
    }
}

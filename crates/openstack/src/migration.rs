//! Calls to nova that move instances, or stop and start them.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::{MICROVERSION, quote};
use crate::error::Error;

/// A live migration that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LiveMigration {
    /// Its number.
    pub id: u64,
    /// `queued`, `preparing`, `running`, `running (post-copy)`, `completed`, ...
    pub status: String,
    /// The compute host that it goes to; absent until the scheduler has chosen one.
    #[serde(default)]
    pub dest_compute: Option<String>,
    /// Bytes of memory in all; absent until they are known.
    #[serde(default)]
    pub memory_total_bytes: Option<u64>,
    /// Bytes of memory that are still to be sent.
    #[serde(default)]
    pub memory_remaining_bytes: Option<u64>,
    /// Bytes of local disks in all.
    #[serde(default)]
    pub disk_total_bytes: Option<u64>,
    /// Bytes of local disks that are still to be sent.
    #[serde(default)]
    pub disk_remaining_bytes: Option<u64>,
}

impl LiveMigration {
    /// Whether its memory has yet to be sent, because local disks are copied first: nova tells 0 of it until then
    /// (libvirt's `virDomainGetJobStats`, whose fields `memory_*` QEMU's migration has; `disk_*`, which its mirrors
    /// have, are not told by every libvirt).
    #[must_use]
    pub fn is_before_memory(&self) -> bool {
        self.memory_total_bytes == Some(0)
    }
}

/// What has been done to an instance; newest first, as nova lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceAction {
    /// `live-migration`, `migrate`, `create`, ...
    pub action: String,
    /// `Error` where it failed; absent where it went well or has not ended.
    #[serde(default)]
    pub message: Option<String>,
    /// The request that it was.
    pub request_id: String,
    /// When it began, in UTC.
    #[serde(default)]
    pub start_time: String,
}

/// The calls; see [`Client::migration`].
#[derive(Debug, Clone, Copy)]
pub struct Migration<'a>(&'a Client);

impl Client {
    /// Calls to nova that move instances; for administrators.
    #[must_use]
    pub fn migration(&self) -> Migration<'_> {
        Migration(self)
    }
}

impl Migration<'_> {
    fn build(method: Method, path: String) -> Request {
        Request::new(method, ServiceType::Compute, path).microversion(MICROVERSION)
    }

    async fn act(self, id: &str, body: Value) -> Result<(), Error> {
        let path = format!("/servers/{}/action", quote(id));
        let request = Self::build(Method::POST, path).json(body);
        self.0.request(&request).await?.expect_status(&[202, 204])?;
        Ok(())
    }

    /// Asks for a live migration to a host. The scheduler has a say: it refuses a destination
    /// that does not fit (since microversion 2.30). Whether local disks travel is nova's to find
    /// out (`auto`, since 2.25).
    ///
    /// # Errors
    /// See [`Error`]; 409 where the instance is not in a state to be migrated.
    pub async fn live(self, id: &str, host: &str) -> Result<(), Error> {
        self.act(id, json!({"os-migrateLive": {"host": host, "block_migration": "auto"}})).await
    }

    /// Asks for a cold migration to a host (since 2.56); the instance then waits in
    /// `VERIFY_RESIZE` to be confirmed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cold(self, id: &str, host: &str) -> Result<(), Error> {
        self.act(id, json!({"migrate": {"host": host}})).await
    }

    /// Confirms a cold migration: what is left on the source goes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn confirm(self, id: &str) -> Result<(), Error> {
        self.act(id, json!({"confirmResize": null})).await
    }

    /// Asks for an instance to be shut down, as by its power button; nova cuts it off when it has not
    /// gone down by itself in its image's or nova's own time (`shutdown_timeout`, 60 s).
    ///
    /// # Errors
    /// See [`Error`]; 409 where it does not run.
    pub async fn stop(self, id: &str) -> Result<(), Error> {
        self.act(id, json!({"os-stop": null})).await
    }

    /// Asks for an instance that is shut off to be started.
    ///
    /// # Errors
    /// See [`Error`]; 409 where it is not shut off.
    pub async fn start(self, id: &str) -> Result<(), Error> {
        self.act(id, json!({"os-start": null})).await
    }

    /// Puts a tag to an instance (since 2.26), which may have it already.
    ///
    /// # Errors
    /// See [`Error`]; 400 where it has 50 others.
    pub async fn tag(self, id: &str, tag: &str) -> Result<(), Error> {
        let path = format!("/servers/{}/tags/{}", quote(id), quote(tag));
        self.0.request(&Self::build(Method::PUT, path)).await?.expect_status(&[201, 204])?;
        Ok(())
    }

    /// Takes a tag off an instance, which may be without it already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn untag(self, id: &str, tag: &str) -> Result<(), Error> {
        let path = format!("/servers/{}/tags/{}", quote(id), quote(tag));
        self.0.request(&Self::build(Method::DELETE, path)).await?.expect_status(&[204, 404])?;
        Ok(())
    }

    /// The live migration of an instance that is under way: absent also where the instance runs at its
    /// destination by post-copy already, which nova does not list (`nova/db/main/api.py`,
    /// `migration_get_in_progress_by_instance`); see [`Self::last_live`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn under_way(self, id: &str) -> Result<Option<LiveMigration>, Error> {
        let request = Self::build(Method::GET, format!("/servers/{}/migrations", quote(id)));
        let answer = self.0.request(&request).await?.expect_status(&[200, 404])?;
        if answer.status == 404 {
            return Ok(None);
        }
        let migrations: Vec<LiveMigration> = answer.part("migrations")?;
        Ok(migrations.into_iter().next_back())
    }

    /// The newest live migration of an instance, whatever became of it; without the bytes, which nova does
    /// not tell there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn last_live(self, id: &str) -> Result<Option<LiveMigration>, Error> {
        let query = format!("instance_uuid={}&migration_type=live-migration&limit=1", quote(id));
        let request = Self::build(Method::GET, format!("/os-migrations?{query}"));
        let migrations: Vec<LiveMigration> =
            self.0.request(&request).await?.expect_status(&[200])?.part("migrations")?;
        Ok(migrations.into_iter().next())
    }

    /// Has nova complete a live migration that does not converge (since 2.22): the instance is
    /// paused for the rest, or goes on at the destination before all is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn force_complete(self, id: &str, migration: u64) -> Result<(), Error> {
        let path = format!("/servers/{}/migrations/{migration}/action", quote(id));
        let request = Self::build(Method::POST, path).json(json!({"force_complete": null}));
        self.0.request(&request).await?.expect_status(&[202])?;
        Ok(())
    }

    /// Breaks a live migration off (since 2.24): the instance stays where it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn abort(self, id: &str, migration: u64) -> Result<(), Error> {
        let path = format!("/servers/{}/migrations/{migration}", quote(id));
        self.0.request(&Self::build(Method::DELETE, path)).await?.expect_status(&[202])?;
        Ok(())
    }

    /// Has nova call an instance `ACTIVE`, whatever it called it before; nothing else is done to it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call_active(self, id: &str) -> Result<(), Error> {
        self.act(id, json!({"os-resetState": {"state": "active"}})).await
    }

    /// What has been done to an instance, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn actions(self, id: &str) -> Result<Vec<InstanceAction>, Error> {
        let request = Self::build(Method::GET, format!("/servers/{}/os-instance-actions", quote(id)));
        self.0.request(&request).await?.expect_status(&[200])?.part("instanceActions")
    }

    /// Why an action on an instance failed: the first of its events that ended badly, with the
    /// last line of its traceback, which only administrators see.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn failure(self, id: &str, request_id: &str) -> Result<Option<String>, Error> {
        let path = format!("/servers/{}/os-instance-actions/{}", quote(id), quote(request_id));
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        let action: Value = answer.expect_status(&[200])?.part("instanceAction")?;
        let events = action["events"].as_array().cloned().unwrap_or_default();
        let failed = events.iter().find(|event| event["result"] == "Error");
        Ok(failed.map(|event| {
            let traceback = event["traceback"].as_str().unwrap_or_default();
            let last = traceback.lines().rev().map(str::trim).find(|line| !line.is_empty());
            let name = event["event"].as_str().unwrap_or("an event");
            format!("{name}: {}", last.unwrap_or("nova gives no reason"))
        }))
    }
}

//! The hook for Masakari: the host is on maintenance between begin and end, as the real API and client tell.

use anyhow::{Context as _, ensure};
use rusqlite::Connection;
use serde_json::Value;

use super::{Daemon, Hook, Tally, ask, wait_for};
use crate::schemathesis::spare_address;
use crate::setup;

/// In the versions that the command was written for.
const PACKAGES: [&str; 3] =
    ["masakari==22.0.0", "python-openstackclient==10.5.0", "python-masakariclient==8.9.0"];
const HOST: &str = "c07";

pub(super) fn check(tally: &mut Tally) -> anyhow::Result<()> {
    let programs = setup::python("masakari", &PACKAGES)?;
    let program = |name: &str| programs.join(name).display().to_string();
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let address = spare_address()?;
    let database = at.join("masakari.sqlite");
    let paste = programs.join("../etc/masakari/api-paste.ini");
    let file = at.join("masakari.conf").display().to_string();
    std::fs::write(
        &file,
        format!(
            "[DEFAULT]\nauth_strategy = noauth2\ntransport_url = fake:/\nmasakari_api_workers = 1\n\
             masakari_api_listen = {}\nmasakari_api_listen_port = {}\n\
             [wsgi]\napi_paste_config = {}\n[database]\nconnection = sqlite:///{}\n\
             [taskflow]\nconnection = sqlite:///{}\n[oslo_messaging_notifications]\ndriver = noop\n",
            address.ip(),
            address.port(),
            paste.display(),
            database.display(),
            at.join("taskflow.sqlite").display(),
        ),
    )?;
    ask(program("masakari-manage"), &["--config-file", &file, "db", "sync"], &[])?;
    let _daemon = Daemon::start(&[&program("masakari-api"), "--config-file", &file], &[], &at.join("log"))?;

    // The API believes any token; a cloud's client asks keystone for one, as OS_CLOUD says.
    let endpoint = format!("http://{address}/v1");
    let access =
        [("OS_AUTH_TYPE", "admin_token"), ("OS_ENDPOINT", endpoint.as_str()), ("OS_TOKEN", "admin:admin")];
    let client = |words: &[&str]| -> anyhow::Result<Value> {
        let words = [words, &["-f", "json"]].concat();
        Ok(serde_json::from_str(&ask(program("openstack"), &words, &access)?)?)
    };
    tally.check("masakari: it comes up", || {
        wait_for("masakari-api answers", || client(&["segment", "list"]).map(drop))
    })?;
    client(&["segment", "create", "first", "auto", "COMPUTE"])?;
    let segment = client(&["segment", "create", "second", "auto", "COMPUTE"])?;
    let segment = segment["uuid"].as_str().context("a segment without an id")?.to_owned();
    // Through its API Masakari takes only hosts that nova knows.
    Connection::open(&database)?.execute(
        "insert into hosts (created_at, deleted, uuid, name, reserved, type, control_attributes, \
         failover_segment_id, on_maintenance) \
         values (datetime('now'), 0, '11111111-2222-4333-8444-555555555555', ?1, 0, 'COMPUTE', 'SSH', ?2, 0)",
        [HOST, &segment],
    )?;
    let ensure_on_maintenance = |wanted: bool| -> anyhow::Result<()> {
        let shown = client(&["segment", "host", "show", &segment, HOST])?;
        ensure!(shown["on_maintenance"] == wanted, "{shown}");
        Ok(())
    };
    let mut hook = Hook::new("masakari", at);
    hook.environment = access.map(|(name, value)| (name, value.to_owned())).to_vec();
    hook.arguments = ["--openstack".to_owned(), program("openstack")].to_vec();

    tally
        .check("masakari: end without begin has nothing to do", || hook.expect("end", HOST, &[], 70, &[]))?;
    tally.check("masakari: a host of no segment has nothing to do", || {
        hook.expect("begin", "c08", &[], 70, &["in no segment"])
    })?;
    tally.check("masakari: begin sets maintenance, and so it does again", || {
        for _ in 0..2 {
            hook.expect("begin", HOST, &[], 0, &[])?;
            ensure_on_maintenance(true)?;
        }
        Ok(())
    })?;
    tally.check("masakari: end unsets it, and has nothing to do again", || {
        hook.expect("end", HOST, &[], 0, &[])?;
        ensure_on_maintenance(false)?;
        hook.expect("end", HOST, &[], 70, &[])
    })?;
    tally.check("masakari: what others set stays", || {
        client(&["segment", "host", "update", "--on_maintenance", "True", &segment, HOST])?;
        hook.expect("begin", HOST, &["--segment", "second"], 70, &["already"])?;
        hook.expect("end", HOST, &[], 70, &[])?;
        ensure_on_maintenance(true)
    })?;
    tally.check("masakari: a client that is not there is named", || {
        hook.arguments.clear();
        hook.expect(
            "begin",
            HOST,
            &["--openstack", "/nowhere/openstack"],
            1,
            &["/nowhere/openstack", "Install"],
        )
    })
}

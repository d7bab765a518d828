//! The hook for Alertmanager: alerts of the host, and of no other, are silent between begin and end.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{Daemon, Hook, Tally, ask, wait_for};
use crate::schemathesis::spare_address;

const CONFIGURATION: &str = "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n";
const HOST: &str = "c07.example";

pub(super) fn check(tally: &mut Tally) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let file = at.join("alertmanager.yml");
    std::fs::write(&file, CONFIGURATION)?;
    let (address, nobody) = (spare_address()?, spare_address()?);
    let url = format!("http://{address}");
    let options = [
        format!("--config.file={}", file.display()),
        format!("--storage.path={}", at.join("data").display()),
        format!("--web.listen-address={address}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let command: Vec<&str> =
        std::iter::once("prometheus-alertmanager").chain(options.iter().map(String::as_str)).collect();
    let _daemon = Daemon::start(&command, &[], &at.join("log"))?;
    let tool = |words: &[&str]| {
        let url = format!("--alertmanager.url={url}");
        ask("amtool", &[&[url.as_str(), "--output=json"], words].concat(), &[])
    };
    let silences =
        || -> anyhow::Result<Vec<Value>> { Ok(serde_json::from_str(&tool(&["silence", "query"])?)?) };
    // Instances whose alerts are silent.
    let silent = || -> anyhow::Result<Vec<String>> {
        let alerts: Vec<Value> = serde_json::from_str(&tool(&["alert", "query", "--silenced"])?)?;
        let mut found: Vec<String> = alerts
            .iter()
            .filter_map(|alert| alert["labels"]["instance"].as_str().map(str::to_owned))
            .collect();
        found.sort();
        Ok(found)
    };
    tally.check("alertmanager: it comes up", || wait_for("Alertmanager answers", || silences().map(drop)))?;
    for instance in
        ["c07.example:9100", "c07.example", "c070.example:9100", "c07xexample:9100", "c08.example:9100"]
    {
        tool(&["alert", "add", "HostDown", &format!("instance={instance}")])?;
    }
    let mut hook = Hook::new("alertmanager", at);
    // A replica that does not answer is gone around.
    hook.arguments = vec!["--url".to_owned(), format!("http://{nobody}"), "--url".to_owned(), url.clone()];

    tally.check("alertmanager: end without begin has nothing to do", || {
        hook.expect("end", HOST, &[], 70, &[])
    })?;
    tally.check("alertmanager: begin makes one silence with the host's matchers", || {
        hook.expect("begin", HOST, &["--minutes", "5"], 0, &["silenced for 5 min"])?;
        let found = silences()?;
        let [silence] = &found[..] else { bail!("{found:?}") };
        let matcher = &silence["matchers"][0];
        ensure!(silence["status"]["state"] == "active" && silence["createdBy"] == "volutus", "{silence}");
        ensure!(silence["comment"].as_str().is_some_and(|text| text.contains(super::RUN)), "{silence}");
        ensure!(
            matcher["name"] == "instance"
                && matcher["value"] == r"c07\.example([.:].*)?"
                && matcher["isRegex"] == true,
            "{silence}"
        );
        Ok(())
    })?;
    let alerts_of_host = ["c07.example", "c07.example:9100"];
    tally.check("alertmanager: alerts of the host are silent, and of no other", || {
        wait_for("the host's alerts are silent", || {
            ensure!(silent()? == alerts_of_host, "silent: {:?}", silent());
            Ok(())
        })
    })?;
    tally.check("alertmanager: begin again prolongs it", || {
        let before = silences()?;
        hook.expect("begin", HOST, &["--minutes", "50"], 0, &[])?;
        let after = silences()?;
        ensure!(after.len() == 1 && after[0]["id"] == before[0]["id"], "{before:?}\n{after:?}");
        let end = |of: &[Value]| -> anyhow::Result<jiff::Timestamp> {
            Ok(of[0]["endsAt"].as_str().context("a silence without an end")?.parse()?)
        };
        let longer = (end(&after)? - end(&before)?).get_seconds();
        ensure!(longer >= 44 * 60, "{longer} s longer");
        Ok(())
    })?;
    tally.check("alertmanager: matchers of one's own", || {
        let own = ["--matcher", "host={host}", "--matcher", "alertname=~Host.*"];
        hook.expect("begin", "c09", &own, 0, &[])?;
        let made = silences()?.into_iter().find(|one| one["matchers"].to_string().contains("c09"));
        ensure!(
            made.as_ref().is_some_and(|one| one["matchers"].as_array().is_some_and(|all| all.len() == 2)),
            "{made:?}"
        );
        hook.expect("end", "c09", &own, 0, &[])?;
        hook.expect("begin", "c09", &["--matcher", "no matcher"], 1, &["LABEL=VALUE"])
    })?;
    tally.check("alertmanager: end ends it, and alerts are heard again", || {
        hook.expect("end", HOST, &[], 0, &["ended the silence"])?;
        ensure!(silences()?.is_empty(), "{:?}", silences());
        wait_for("the host's alerts are heard", || {
            ensure!(silent()?.is_empty(), "silent: {:?}", silent());
            Ok(())
        })
    })?;
    tally.check("alertmanager: end again has nothing to do", || hook.expect("end", HOST, &[], 70, &[]))?;
    tally.check("alertmanager: one that does not answer is named in time", || {
        hook.arguments = vec!["--url".to_owned(), format!("http://{nobody}")];
        hook.expect("begin", HOST, &["--limit-s", "3"], 1, &[&nobody.to_string(), "within 3 s"])
    })
}

//! What has gone wrong before, on clouds like this one.

use std::collections::BTreeMap;

use volutus_catalog::{Hazard, Look, OptionSeen, Service, options_of};
use volutus_model::{Finding, Severity};

use super::{Subject, some};

pub(crate) fn check_hazards(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let hazards = &subject.catalog.hazards;
    for hazard in hazards.iter().filter(|hazard| hazard.concerns(subject.from, subject.to)) {
        let Some(service) = subject.services.get(&hazard.service) else {
            continue;
        };
        match &hazard.look {
            Look::Always => findings.push(found(hazard, &hazard.service, None)),
            Look::VifType { vif_type } => check_vif(subject, hazard, vif_type, findings),
            Look::OptionNotIn { option, values } => {
                check_option(subject, hazard, service, option, findings, |value| {
                    !values.contains(value.unwrap_or_default())
                });
            }
            Look::OptionContains { option, text } => {
                let text = text.to_lowercase();
                check_option(subject, hazard, service, option, findings, |value| {
                    value.is_some_and(|value| value.to_lowercase().contains(&text))
                });
            }
            Look::EnvironmentNotIn { daemons, variable, values } => {
                let mut hit: Vec<String> = Vec::new();
                for daemon in subject.daemons.iter().filter(|d| daemons.contains(&d.id.kind)) {
                    // A daemon that was not seen has a finding of its own.
                    let fact = subject.observation.daemons.get(&daemon.id);
                    let Some(seen) = fact.and_then(|fact| fact.value()) else {
                        continue;
                    };
                    let value = seen.environment.get(variable).map(String::as_str);
                    if !value.is_some_and(|value| values.contains(&value.to_lowercase())) {
                        hit.push(daemon.id.to_string());
                    }
                }
                if !hit.is_empty() {
                    findings.push(found(hazard, &hazard.service, Some(&some(&hit))));
                }
            }
        }
    }
}

fn found(hazard: &Hazard, subject: impl std::fmt::Display, seen: Option<&str>) -> Finding {
    let seen = seen.map_or(String::new(), |seen| format!(" Seen: {seen}."));
    Finding::new(
        hazard.severity,
        &hazard.code,
        subject,
        format!("{}{seen} (Source: {}.)", hazard.explanation, hazard.source),
        hazard.action.clone(),
    )
}

/// What was not seen is told as not judged, never taken as absent.
fn not_judged(hazard: &Hazard, what: &str, why: &str) -> Finding {
    let severity = hazard.severity.min(Severity::Serious);
    Finding::new(
        severity,
        &hazard.code,
        &hazard.service,
        format!("could not be judged, because {what} was not seen ({why}). {}", hazard.explanation),
        if severity == Severity::Info { String::new() } else { format!("Look yourself. {}", hazard.action) },
    )
}

fn check_vif(subject: &Subject<'_>, hazard: &Hazard, vif_type: &str, findings: &mut Vec<Finding>) {
    let fact = &subject.observation.vif_types;
    match fact.value() {
        None => {
            let why = fact.why().unwrap_or("no reason was given");
            findings.push(not_judged(hazard, "the ports' VIF types", why));
        }
        Some(types) => match types.get(vif_type) {
            Some(count) if *count > 0 => {
                let seen = format!("{count} ports bound as `{vif_type}`");
                findings.push(found(hazard, &hazard.service, Some(&seen)));
            }
            _ => {}
        },
    }
}

fn check_option(
    subject: &Subject<'_>,
    hazard: &Hazard,
    service: &Service,
    option: &str,
    findings: &mut Vec<Finding>,
    is_hit: impl Fn(Option<&str>) -> bool,
) {
    let mut hits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unseen: Vec<String> = Vec::new();
    let mut reason = String::new();
    for (host, value) in options_of(service, subject.inventory, subject.observation, option) {
        match &value {
            OptionSeen::Unseen { why } => {
                unseen.push(host.to_string());
                reason.clone_from(why);
            }
            OptionSeen::Set(text) if is_hit(Some(text)) => {
                hits.entry(format!("{option} = {text}")).or_default().push(host.to_string());
            }
            OptionSeen::Unset if is_hit(None) => {
                hits.entry(format!("{option} is not set")).or_default().push(host.to_string());
            }
            OptionSeen::Set(_) | OptionSeen::Unset => {}
        }
    }
    for (what, hosts) in hits {
        let seen = format!("{what} on {}", some(&hosts));
        findings.push(found(hazard, &hazard.service, Some(&seen)));
    }
    if !unseen.is_empty() {
        let what = format!("{option} on {}", some(&unseen));
        findings.push(not_judged(hazard, &what, &reason));
    }
}

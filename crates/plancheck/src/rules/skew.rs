//! While a run is under way two series run side by side: they must be such as upstream lets meet.

use std::collections::BTreeSet;

use volutus_model::Finding;
use volutus_model::name::Series;

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_skew(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let (plan, catalog) = (context.plan, context.catalog);
    let (older, newer) = context.series();
    if context.is_patch() {
        // One series: nothing can be too far from anything, and which versions there are is the rule's
        // of patches.
        return;
    }
    if (older == plan.from) == context.is_back() {
        findings.push(blocking(
            "plan-direction",
            format!("{} to {}", plan.from, plan.to),
            "an upgrade leads to a newer series, and a rollback to an older one; this is neither",
            PLAN_AGAIN,
        ));
    }
    if catalog.path(older, newer).is_none() {
        findings.push(blocking(
            "path-forbidden",
            format!("{} to {}", plan.from, plan.to),
            "upstream supports no such path: to the next series, or from one SLURP series to the \
             next one",
            "Go over the series in between, one run each.",
        ));
    }
    for (service, version) in &plan.versions {
        let series = catalog.series_of(service, version);
        if series != Some(plan.to) {
            findings.push(blocking(
                "version-of-other-series",
                service,
                format!("{version} is not a version of {}", plan.to),
                PLAN_AGAIN,
            ));
        }
    }
    for (id, member) in &context.members {
        let Some(version) = context.runs(id) else {
            continue;
        };
        let series = catalog.series_of(&member.service.name, version);
        if series != Some(plan.from) && series != Some(plan.to) {
            findings.push(blocking(
                "skew-too-wide",
                id,
                format!(
                    "it runs {version} ({}), which is neither of {} nor of {}: three series would \
                     run side by side",
                    series.map_or("of no known series".to_owned(), |s: Series| s.to_string()),
                    plan.from,
                    plan.to
                ),
                "Finish or take back the run that left it so, then plan again.",
            ));
        }
        if !plan.versions.contains_key(&member.service.name) {
            findings.push(blocking(
                "version-missing",
                &member.service.name,
                "the plan does not say which version the service is to have",
                PLAN_AGAIN,
            ));
        }
    }
    let services: BTreeSet<_> = context.members.values().map(|m| &m.service.name).collect();
    for service in services.into_iter().filter_map(|name| catalog.services.get(name)) {
        let runs = service.record_versions.get(&older);
        let oldest = service.record_versions_oldest.get(&newer);
        if let (Some(runs), Some(oldest)) = (runs, oldest)
            && runs < oldest
        {
            findings.push(blocking(
                "skew-refused",
                &service.name,
                format!(
                    "daemons of {older} write record version {runs}, and code of {newer} refuses to \
                     start beside anything below {oldest}"
                ),
                "Go over the series in between, one run each.",
            ));
        }
    }
}

//! What one plan does differently from another.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use volutus_model::name::{PlanId, StageId, StepId};
use volutus_model::plan::{Plan, Stage, Step};

/// What differs between two plans. Displayed like a unified diff: what only the first has with
/// `-`, what only the second has with `+`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// The first plan.
    pub a: PlanId,
    /// The second plan.
    pub b: PlanId,
    /// Lines about the plan as a whole: way, versions, policy, horizons.
    pub head: Vec<Change>,
    /// Stages that differ.
    pub stages: Vec<StageDiff>,
}

/// One value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is.
    pub what: String,
    /// Its value in the first plan, where it has one.
    pub a: Option<String>,
    /// Its value in the second plan, where it has one.
    pub b: Option<String>,
}

/// One stage that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageDiff {
    /// The stage.
    pub stage: StageId,
    /// Whether both plans have it, or only one of them.
    pub presence: Presence,
    /// What differs in it; for a stage that only one plan has, its steps.
    pub changes: Vec<Change>,
}

/// Which of the plans has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Only the first.
    OnlyA,
    /// Only the second.
    OnlyB,
    /// Both, with differences.
    Both,
}

/// Compares two plans. Ids, times of creation and the observed basis are not counted as
/// differences: they differ between any two plans.
#[must_use]
pub fn diff(a: &Plan, b: &Plan) -> PlanDiff {
    let mut head = Vec::new();
    compare(&mut head, "cloud", &a.cloud, &b.cloud);
    compare(&mut head, "from", a.from, b.from);
    compare(&mut head, "to", a.to, b.to);
    compare_maps(&mut head, "version of", &a.versions, &b.versions);
    compare_policies(&mut head, a, b);
    let horizons = |plan: &Plan| -> BTreeMap<_, _> {
        let until = |until: &Option<StageId>| until.as_ref().map_or("open".into(), StageId::to_string);
        plan.rollback
            .iter()
            .map(|h| (h.service.clone(), format!("{:?} until {}", h.class, until(&h.until))))
            .collect()
    };
    compare_maps(&mut head, "way back of", &horizons(a), &horizons(b));
    let point = |plan: &Plan| plan.point_of_no_return.as_ref().map(ToString::to_string);
    push(&mut head, "point of no return", point(a), point(b));

    let of_b: BTreeMap<&StageId, &Stage> = b.stages.iter().map(|s| (&s.id, s)).collect();
    let of_a: BTreeMap<&StageId, &Stage> = a.stages.iter().map(|s| (&s.id, s)).collect();
    let mut stages = Vec::new();
    for stage in &a.stages {
        match of_b.get(&stage.id) {
            None => stages.push(only(stage, Presence::OnlyA)),
            Some(other) => stages.extend(both(stage, other)),
        }
    }
    let added = b.stages.iter().filter(|stage| !of_a.contains_key(&stage.id));
    stages.extend(added.map(|stage| only(stage, Presence::OnlyB)));
    PlanDiff { a: a.id.clone(), b: b.id.clone(), head, stages }
}

impl PlanDiff {
    /// Whether the plans do the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.stages.is_empty()
    }
}

impl fmt::Display for PlanDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- plan {}\n+++ plan {}", self.a, self.b)?;
        if self.is_empty() {
            return writeln!(f, "The plans do the same.");
        }
        write_changes(f, &self.head)?;
        for stage in &self.stages {
            let word = match stage.presence {
                Presence::OnlyA => "only in the first plan",
                Presence::OnlyB => "only in the second plan",
                Presence::Both => "differs",
            };
            writeln!(f, "@@ stage {} ({word}) @@", stage.stage)?;
            write_changes(f, &stage.changes)?;
        }
        Ok(())
    }
}

fn write_changes(f: &mut fmt::Formatter<'_>, changes: &[Change]) -> fmt::Result {
    for change in changes {
        for (sign, side) in [('-', &change.a), ('+', &change.b)] {
            if let Some(value) = side {
                writeln!(f, "{sign} {}: {value}", change.what)?;
            }
        }
    }
    Ok(())
}

fn push(changes: &mut Vec<Change>, what: &str, a: Option<String>, b: Option<String>) {
    if a != b {
        changes.push(Change { what: what.to_owned(), a, b });
    }
}

fn compare<T: ToString>(changes: &mut Vec<Change>, what: &str, a: T, b: T) {
    push(changes, what, Some(a.to_string()), Some(b.to_string()));
}

fn compare_maps<K: Ord + fmt::Display, V: ToString>(
    changes: &mut Vec<Change>,
    what: &str,
    a: &BTreeMap<K, V>,
    b: &BTreeMap<K, V>,
) {
    for (key, value) in a {
        let other = b.get(key).map(ToString::to_string);
        push(changes, &format!("{what} {key}"), Some(value.to_string()), other);
    }
    for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
        push(changes, &format!("{what} {key}"), None, Some(value.to_string()));
    }
}

fn compare_policies(changes: &mut Vec<Change>, a: &Plan, b: &Plan) {
    compare_maps(changes, "policy", &limits(a), &limits(b));
}

/// The limits of a plan's policy by their names; those of a table within it as `patch.soak_s`. The debug
/// form has one line per limit, so that a limit added later is compared as well.
fn limits(plan: &Plan) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut tables: Vec<String> = Vec::new();
    for line in format!("{:#?}", plan.policy).lines().skip(1) {
        let line = line.trim().trim_end_matches(',');
        let named = line.split_once(": ");
        if line.ends_with(['{', '[', '(']) {
            tables.push(named.map_or_else(|| "item".to_owned(), |(name, _)| name.to_owned()));
        } else if matches!(line, "}" | "]" | ")") {
            tables.pop();
        } else {
            let (name, value) = named.unwrap_or((line, ""));
            let path: String = tables.iter().map(|table| format!("{table}.")).collect();
            found.insert(format!("{path}{name}"), value.to_owned());
        }
    }
    found
}

fn only(stage: &Stage, presence: Presence) -> StageDiff {
    let changes = stage
        .steps
        .iter()
        .map(|step| {
            let text = Some(describe(step));
            let (a, b) = if presence == Presence::OnlyA { (text, None) } else { (None, text) };
            Change { what: step.id.to_string(), a, b }
        })
        .collect();
    StageDiff { stage: stage.id.clone(), presence, changes }
}

fn both(a: &Stage, b: &Stage) -> Option<StageDiff> {
    let mut changes = Vec::new();
    let join = |ids: &[StageId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    compare(&mut changes, "after", join(&a.after), join(&b.after));
    compare(&mut changes, "at a time", a.parallel_max, b.parallel_max);
    compare(&mut changes, "held", a.held, b.held);
    let of_a: BTreeMap<&StepId, &Step> = a.steps.iter().map(|s| (&s.id, s)).collect();
    let of_b: BTreeMap<&StepId, &Step> = b.steps.iter().map(|s| (&s.id, s)).collect();
    for step in &a.steps {
        let other = of_b.get(&step.id).copied();
        if other != Some(step) {
            let what = step.id.to_string();
            let (old, new) = (describe(step), other.map(describe));
            if new.as_ref() == Some(&old) {
                // Only something that the summary leaves out differs.
                let (old, new) = (Some(in_full(step)), other.map(in_full));
                changes.push(Change { what, a: old, b: new });
            } else {
                changes.push(Change { what, a: Some(old), b: new });
            }
        }
    }
    for step in b.steps.iter().filter(|step| !of_a.contains_key(&step.id)) {
        changes.push(Change { what: step.id.to_string(), a: None, b: Some(describe(step)) });
    }
    (!changes.is_empty()).then(|| StageDiff { stage: a.id.clone(), presence: Presence::Both, changes })
}

fn describe(step: &Step) -> String {
    step.actions.iter().map(|action| action.summary()).collect::<Vec<_>>().join("; ")
}

fn in_full(step: &Step) -> String {
    format!(
        "requires {:?}, impact {:?}, {} s expected, {} s at most, {:?}",
        step.requires, step.impact.level, step.expected_s, step.action_timeout_s, step.actions
    )
}

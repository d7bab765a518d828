//! What a plan waits for and why, for people.

use std::fmt;

use serde::Serialize;
use volutus_model::Finding;
use volutus_model::name::{PlanId, StageId};

use crate::estimate::Estimate;

/// Why a plan looks as it does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PlanReport {
    /// The plan that it belongs to.
    pub plan: Option<PlanId>,
    /// What each stage waits for.
    pub waits: Vec<Wait>,
    /// What was decided, and why.
    pub notes: Vec<Note>,
    /// What an operator should look at before approving.
    pub findings: Vec<Finding>,
    /// How long it is expected to take.
    pub estimate: Estimate,
}

/// One stage waits for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The stage that waits.
    pub stage: StageId,
    /// The stage that it waits for.
    pub on: StageId,
    /// Why.
    pub why: String,
}

/// One decision of the planner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about: a stage, a service, a host.
    pub subject: String,
    /// What was decided, and why.
    pub text: String,
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Expected time: {}", self.estimate)?;
        if !self.findings.is_empty() {
            writeln!(f, "\nTo look at:")?;
            for finding in &self.findings {
                writeln!(
                    f,
                    "  {} {} ({}): {}\n    {}",
                    finding.severity, finding.code, finding.subject, finding.explanation, finding.action
                )?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(f, "\nDecisions:")?;
            for note in &self.notes {
                writeln!(f, "  {}: {}", note.subject, note.text)?;
            }
        }
        writeln!(f, "\nWhat waits for what:")?;
        for wait in &self.waits {
            writeln!(f, "  {} waits for {}: {}", wait.stage, wait.on, wait.why)?;
        }
        Ok(())
    }
}

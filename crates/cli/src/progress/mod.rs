//! What an operator sees of a run: a live display on a terminal, one timestamped line per event
//! without one. Both are fed by the same reports.

mod describe;
mod lines;
mod strip;
mod terminal;

use std::io::IsTerminal as _;

use volutus_model::Plan;

pub use describe::Describer;
pub use lines::Lines;
pub use terminal::Terminal;

/// The reporter that suits where the output goes.
pub fn reporter(plan: &Plan, no_progress: bool) -> Box<dyn volutus_runtime::Reporter> {
    if no_progress || !std::io::stderr().is_terminal() {
        Box::new(Lines::new(plan))
    } else {
        Box::new(Terminal::new(plan))
    }
}

//! How things look in a terminal. Everything here turns a value into text; nothing is printed.

pub mod advisories;
pub mod contract;
pub mod findings;
pub mod fleet;
pub mod notice;
pub mod observation;
pub mod plan;
pub mod rehearsal;
pub mod release;
pub mod run;
pub mod schedule;
pub mod snapshot;
pub mod tempest;
pub mod verdict;

use comfy_table::{ContentArrangement, Table, presets};

/// Columns of a table that goes to a file, a pipe or a log, where no terminal tells its width:
/// sentences are wrapped, and tables of short cells fit on a line.
const WIDTH_WITHOUT_TERMINAL: u16 = 140;

/// A table in the project's style: no borders, so that lines can be copied and grepped.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|title| title.to_uppercase()));
    if !table.is_tty() {
        table.set_width(WIDTH_WITHOUT_TERMINAL);
    }
    table
}

/// Seconds as people read them: `42s`, `3m05s`, `2h07m`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// The first digits of an id: enough to name it, short enough to read.
pub fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Names in a sentence: the first ones, and how many more there are.
pub fn some(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 10;
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN_MAX].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_read_well() {
        assert_eq!(super::duration(41.6), "42s");
        assert_eq!(super::duration(185.0), "3m05s");
        assert_eq!(super::duration(7620.0), "2h07m");
    }
}

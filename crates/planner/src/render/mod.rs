//! A plan as text for people and for other programs. The table for terminals is the command
//! line's.

mod dot;
mod markdown;

pub use dot::render_dot;
pub use markdown::render_markdown;

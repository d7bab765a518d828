//! tmp
mod ansible; mod args; mod error; mod show;
fn main() {}

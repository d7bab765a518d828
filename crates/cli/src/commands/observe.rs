//! `volutus observe`

use crate::args::{Format, ObserveArgs};
use crate::commands::{fleet, print_json};
use crate::context::Context;
use crate::error::Result;
use crate::show;

/// Looks at the cloud and prints what was seen.
pub async fn run(context: &Context, args: &ObserveArgs) -> Result<()> {
    if args.fleet {
        let fleet = fleet::observe(context).await?;
        return match args.output {
            Format::Json => print_json(&fleet),
            Format::Table => {
                anstream::print!("{}", show::fleet::render(&fleet));
                Ok(())
            }
        };
    }
    let driver = context.driver()?;
    let observation = context.observe(&driver).await?;
    driver.close().await;
    match args.output {
        Format::Json => print_json(&observation),
        Format::Table => {
            anstream::print!("{}", show::observation::render(&observation));
            Ok(())
        }
    }
}

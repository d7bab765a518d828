//! `volutus policy`: what a policy says, before anything is planned by it.

use crate::args::{Cli, PolicyArgs, PolicyCommand};
use crate::commands::fleet;
use crate::context::{Context, read_policy, read_reboot_policy};
use crate::error::{CliError, Result};
use volutus_model::fleet::Selection;

/// Explains or checks the policy that `--policy` names; the defaults where none is named.
pub async fn run(cli: &Cli, args: &PolicyArgs) -> Result<()> {
    let path = cli.policy.as_deref();
    let policy = read_reboot_policy(path)?;
    path.map(read_policy).transpose()?;
    match &args.command {
        PolicyCommand::Check => {
            let named = path.map_or("the default policy".to_owned(), |path| path.display().to_string());
            anstream::println!("{named} can be kept");
        }
        PolicyCommand::Explain { subject } => {
            let fleet = if fleet::is_elsewhere(subject) {
                fleet::elsewhere(subject)?.0
            } else {
                fleet::observe(&Context::load(cli)?).await?
            };
            fleet.check().map_err(|error| {
                CliError::refused("fleet-malformed", "what was seen of the fleet contradicts itself")
                    .because(&error)
            })?;
            anstream::print!("{}", volutus_fleet::explain(&fleet, &policy, &Selection::default()));
        }
    }
    Ok(())
}

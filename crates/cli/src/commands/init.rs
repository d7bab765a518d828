//! `volutus init`

use std::path::Path;

use crate::ansible::{self, Error};
use crate::args::InitArgs;
use crate::error::{CliError, Kind, Result};

const HEADER: &str = "# Made by `volutus init` from an Ansible inventory. Read every line before using it;\n\
                      # docs/reference/cloud-toml.md explains each key.\n\n";

/// Writes a cloud description to `target`, which must not exist unless `--force` is given.
pub fn run(args: &InitArgs, target: &Path) -> Result<()> {
    let file = args.from_ansible.display();
    let text = std::fs::read_to_string(&args.from_ansible).map_err(|error| {
        CliError::refused("no-inventory", format!("could not read the inventory {file}")).because(&error)
    })?;
    let imported = ansible::import(&text, &args.name).map_err(|error| {
        let code = match &error {
            Error::Syntax { .. } => "malformed-inventory",
            Error::Incomplete(_) => "incomplete-inventory",
        };
        CliError::refused(code, format!("could not make a cloud description from {file}"))
            .because(&error)
            .hint(
                "If Ansible itself reads the inventory, `ansible-inventory --list > inventory.json` gives a \
             form that is always understood.",
            )
    })?;
    if target.exists() && !args.force {
        return Err(CliError::refused("exists", format!("{} exists already", target.display()))
            .hint("Name another file with --cloud, or replace this one with --force."));
    }
    let body = toml::to_string(&imported.inventory).map_err(|error| {
        CliError::new(Kind::Internal, "serialize", "the description could not be written as TOML")
            .because(&error)
    })?;
    // Written beside and renamed, so that an interrupted command leaves the old file whole.
    let temporary = target.with_extension("toml.new");
    std::fs::write(&temporary, format!("{HEADER}{body}"))
        .and_then(|()| std::fs::rename(&temporary, target))
        .map_err(|error| {
            CliError::new(Kind::Internal, "write", format!("could not write {}", target.display()))
                .because(&error)
        })?;
    anstream::println!(
        "{}: {} hosts, {} daemons",
        target.display(),
        imported.inventory.hosts.len(),
        imported.inventory.daemons().count()
    );
    for note in &imported.notes {
        anstream::eprintln!("Note: {note}");
    }
    Ok(())
}

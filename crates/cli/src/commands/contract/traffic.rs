//! `volutus contract traffic`: what the log of a load balancer would have asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use volutus_contract::Document;
use volutus_contract::traffic::{Joined, Traffic};
use volutus_model::Policy;

use crate::args::{TempestFormat, TrafficArgs};
use crate::commands::print_json;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// Prints what would be asked.
pub fn run(context: &Context, args: &TrafficArgs) -> Result<()> {
    let what = args.contract.display().to_string();
    let text = std::fs::read_to_string(&args.contract).map_err(|error| {
        CliError::refused("no-contract", format!("could not read {what}"))
            .because(&error)
            .hint("`volutus contract extract --from-host HOST --output FILE` writes one.")
    })?;
    let document = Document::parse(&what, &text).map_err(|error| super::refused(&error))?;
    let mut traffic = Traffic::new(services(context));
    traffic.read(BufReader::new(open(&args.log)?)).map_err(|error| unreadable(&args.log, &error))?;
    let joined: BTreeMap<String, Joined> = document
        .services
        .keys()
        .map(|service| (service.clone(), traffic.joined(&document, service)))
        .collect();
    match args.output {
        TempestFormat::Json => print_json(&joined),
        TempestFormat::Table => {
            anstream::print!("{}", show::contract::traffic(&traffic.figures, &joined));
            Ok(())
        }
    }
}

/// Refuses a policy whose log cannot be read, before anything is begun with it.
pub fn refuse_unreadable(policy: &Policy) -> Result<()> {
    let Some(path) = &policy.contract.traffic else { return Ok(()) };
    let path = Path::new(path);
    // A folder can be opened, and not read.
    open(path)?.read(&mut [0]).map_err(|error| unreadable(path, &error))?;
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::refused("no-traffic", format!("could not read the log {} of the load balancer", path.display()))
        .because(error)
        .hint(
            "`traffic` in [contract] of the policy names it; whoever runs Volutus has to be able to read it.",
        )
}

/// The service behind each backend of the load balancer.
fn services(context: &Context) -> BTreeMap<String, String> {
    let known = context.catalog.daemons();
    let mut services = BTreeMap::new();
    for (id, _, declared) in context.inventory.daemons() {
        let Some((service, _)) = known.get(&id.kind) else { continue };
        for backend in &declared.backends {
            services.insert(backend.to_string(), service.name.to_string());
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_refused_before_anything_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let mut policy = Policy::default();
        assert!(refuse_unreadable(&policy).is_ok());
        for path in [folder.path().join("none"), folder.path().to_owned()] {
            policy.contract.traffic = Some(path.display().to_string());
            assert!(refuse_unreadable(&policy).is_err());
        }
        let log = folder.path().join("haproxy.log");
        std::fs::write(&log, "").unwrap();
        policy.contract.traffic = Some(log.display().to_string());
        assert!(refuse_unreadable(&policy).is_ok(), "an empty log is none that cannot be read");
    }
}

//! `volutus contract`: API contracts, read and compared.

mod tempest;
mod traffic;

use std::path::Path;
use std::time::Duration;

use volutus_contract::diff::{self, Comparison};
use volutus_contract::extract::{self, Collected};
use volutus_contract::fetch;
use volutus_contract::waivers::Waivers;
use volutus_contract::{Document, Error, report};
use volutus_model::{HostName, ServiceName};
use volutus_openstack::{Client, CloudConfig};

use crate::args::{Cli, ContractCommand, DiffArgs, DiffFormat, ExtractArgs};
use crate::commands::{plan, print_json};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

pub use traffic::refuse_unreadable;

/// Reads or compares contracts. Nothing is changed anywhere.
pub async fn run(cli: &Cli, command: &ContractCommand) -> Result<()> {
    match command {
        ContractCommand::Extract(args) => {
            let document = match (&args.from_installed, &args.from_host) {
                (Some(path), _) => {
                    extract::from_installed(path, Context::now()).await.map_err(|e| refused(&e))?
                }
                (None, Some(host)) => from_host(&Context::load(cli)?, host, args).await?,
                (None, None) => {
                    return Err(CliError::refused(
                        "nothing-to-extract",
                        "neither a path nor a host is given",
                    ));
                }
            };
            write(&document, args.output.as_deref())
        }
        ContractCommand::Fetch(args) => {
            let context = Context::load(cli)?;
            let document = fetch_from(&context).await?;
            write(&document, args.output.as_deref())
        }
        ContractCommand::Diff(args) => compare(args),
        ContractCommand::Traffic(args) => traffic::run(&Context::load(cli)?, args),
        ContractCommand::Tempest(args) => tempest::run(&Context::load(cli)?, args).await,
    }
}

async fn from_host(context: &Context, host: &str, args: &ExtractArgs) -> Result<Document> {
    let host = host.parse::<HostName>().map_err(|error| {
        CliError::refused("unknown-host", format!("`{host}` is no name of a host")).because(&error)
    })?;
    let series = args.series.as_deref().map(|series| plan::series(context, series)).transpose()?;
    let driver = context.driver()?;
    let mut collected = Collected::default();
    for (name, parts) in extract::served_programs() {
        let service = name.parse::<ServiceName>().map_err(|error| {
            CliError::new(Kind::Internal, "service-name", format!("`{name}` is no name of a service"))
                .because(&error)
        })?;
        let python = match driver.release_python(&host, &service, series) {
            Ok(python) => python,
            Err(error) => {
                anstream::eprintln!("left out: {error}");
                continue;
            }
        };
        let answer = driver.ask_release(&host, &python, &parts, "contract", extract::SERVICE_TIMEOUT).await;
        let answer = answer.map_err(|error| {
            let message = format!("could not read the contract of {name} on {host} with {python}");
            CliError::new(Kind::Cloud, "contract-of-host", message).because(&error)
        })?;
        collected.take(name, &python, answer).map_err(|error| refused(&error))?;
    }
    driver.close().await;
    collected.document(host.to_string(), Context::now()).map_err(|error| refused(&error))
}

/// Bound of one reading request. Lists of large clouds take seconds; what is read here is short.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client with the operator's credentials.
fn operator(context: &Context) -> Result<Client> {
    let credentials = &context.inventory.credentials;
    let file = credentials.clouds_yaml.as_ref().map(|name| context.base().join(name));
    let config = CloudConfig::load(file.as_deref(), &credentials.operator);
    config.and_then(|config| Client::new(config, REQUEST_TIMEOUT)).map_err(|error| {
        CliError::new(Kind::Cloud, "credentials", "the operator's credentials cannot be used").because(&error)
    })
}

async fn fetch_from(context: &Context) -> Result<Document> {
    let client = operator(context)?;
    let name = context.inventory.name.to_string();
    fetch::from_cloud(&client, &name, Context::now()).await.map_err(|error| refused(&error))
}

/// Writes a document, and says on standard error what is in it.
fn write(document: &Document, output: Option<&Path>) -> Result<()> {
    let text = document.to_text();
    match output {
        None => anstream::print!("{text}"),
        Some(path) => std::fs::write(path, &text).map_err(|error| {
            CliError::refused("write-contract", format!("could not write the contract to {}", path.display()))
                .because(&error)
        })?,
    }
    for (name, service) in &document.services {
        let version = service.version.as_deref().unwrap_or("live");
        let microversions = service
            .microversions
            .map_or_else(String::new, |range| format!(", {} to {}", range.min, range.max));
        anstream::eprintln!(
            "{name} {version}{microversions}: {} operations, {} schemas, {} extensions, {} policies, {} options",
            service.operations.len(),
            service.schemas.len(),
            service.extensions.len(),
            service.policies.len(),
            service.options.len(),
        );
        for (part, why) in &service.unobserved {
            anstream::eprintln!("  not observed: {part}: {why}");
        }
    }
    anstream::eprintln!("contract {} ({} bytes)", document.hash, text.len());
    Ok(())
}

fn compare(args: &DiffArgs) -> Result<()> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let mut comparison = diff::compare(&old, &new).map_err(|error| refused(&error))?;
    if let Some(path) = &args.waivers {
        waive(&mut comparison, path)?;
    }
    match args.output {
        DiffFormat::Json => print_json(&comparison)?,
        DiffFormat::Markdown => anstream::print!("{}", report::markdown(&comparison)),
        DiffFormat::Html => anstream::print!("{}", report::html(&comparison)),
        DiffFormat::Table => anstream::print!("{}", show::contract::render(&comparison)),
    }
    match comparison.standing().count() {
        0 => Ok(()),
        count => Err(CliError::new(
            Kind::Blocked,
            "contract-broken",
            format!("{count} breaking differences stand between {} and {}", args.old.display(), args.new.display()),
        )
        .hint(
            "Each says what a client would see. One that was reviewed and does no harm here can be waived, with \
             a reason and an end: docs/operating/contract.md.",
        )),
    }
}

fn waive(comparison: &mut Comparison, path: &Path) -> Result<()> {
    let text = text_of(path, "the waivers")?;
    let waivers = Waivers::parse(&path.display().to_string(), &text).map_err(|error| refused(&error))?;
    let today = Context::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let expired = waivers.apply(&mut comparison.differences, today).map_err(|error| refused(&error))?;
    for waiver in expired {
        anstream::eprintln!(
            "expired on {} and does not count: the waiver of {}",
            waiver.expires,
            waiver.difference
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Document> {
    let text = text_of(path, "the contract")?;
    Document::parse(&path.display().to_string(), &text).map_err(|error| refused(&error))
}

fn text_of(path: &Path, what: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-contract", format!("could not read {what} {}", path.display()))
            .because(&error)
            .hint("`volutus contract extract` and `fetch` write contracts.")
    })
}

/// An error of the contract crate on its way to the operator.
fn refused(error: &Error) -> CliError {
    let message = error.to_string();
    match error {
        Error::Malformed { .. } => CliError::refused("malformed-contract", message)
            .hint("`volutus contract extract` and `fetch` write contracts."),
        Error::Altered { .. } => {
            CliError::refused("contract-altered", message).hint("Extract or fetch it anew.")
        }
        Error::Waivers { .. } => CliError::refused("malformed-waivers", message)
            .hint("docs/operating/contract.md shows the file; `volutus contract diff` prints the ids."),
        Error::NoRelease { .. } | Error::NoService { .. } => CliError::refused("no-release", message)
            .hint("Name the virtual environment that holds the services: the folder with `bin` in it."),
        Error::Program { .. } => CliError::new(Kind::Internal, "contract-program", message)
            .hint("Run it with -vv, and report it with the versions of the packages."),
        Error::Tempest { hint, .. } => CliError::new(Kind::Internal, "tempest", message).hint(*hint),
        Error::Cloud { .. } => CliError::new(Kind::Cloud, "contract-of-cloud", message),
        Error::Rules(_) | Error::Local { .. } => CliError::new(Kind::Internal, "contract", message),
    }
    .because(error)
}

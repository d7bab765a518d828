//! `volutus`: keeps an OpenStack cloud current while its users notice nothing.

mod ansible;
mod args;
mod commands;
mod context;
mod error;
mod progress;
mod server;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::commands::{
    advisories, approve, by_hand, check, contract, control, exposure, fleet, hosts, init, journal, news,
    notice, observe, patch, plan, policy, probe, rehearse, release, rollback, run, schedule, serve, snapshot,
    verdict, watch,
};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CliError::new(Kind::Internal, "runtime", "could not start threads").because(&error);
            anstream::eprint!("{error}");
            return ExitCode::from(error.kind.exit_code());
        }
    };
    match runtime.block_on(dispatch(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Data first: what was printed is whole before anything is said about it.
            let _flushed = std::io::stdout().flush();
            anstream::eprint!("{error}");
            ExitCode::from(error.kind.exit_code())
        }
    }
}

async fn dispatch(cli: &Cli) -> Result<()> {
    if let Command::Init(args) = &cli.command {
        return init::run(args, &cli.cloud);
    }
    if let Command::Rehearse(args) = &cli.command {
        return rehearse::run(cli, args).await;
    }
    if let Command::Policy(args) = &cli.command {
        return policy::run(cli, args).await;
    }
    if let Command::News(args) = &cli.command {
        return news::run(args);
    }
    if let Command::Contract(command) = &cli.command {
        return contract::run(cli, command).await;
    }
    if let Command::Plan(args) = &cli.command
        && args.reboot
        && fleet::is_elsewhere(&args.subject)
    {
        return fleet::plan_elsewhere(cli, args);
    }
    let context = Context::load(cli)?;
    match &cli.command {
        Command::Init(_)
        | Command::Rehearse(_)
        | Command::Policy(_)
        | Command::News(_)
        | Command::Contract(_) => Ok(()),
        Command::Hosts(args) => hosts::run(&context, args).await,
        Command::Drain(args) => by_hand::drain(&context, args).await,
        Command::Undrain(args) => by_hand::undrain(&context, args).await,
        Command::Observe(args) => observe::run(&context, args).await,
        Command::Check(args) => check::run(&context, args).await,
        Command::Plan(args) => plan::run(&context, args).await,
        Command::Approve(args) => approve::run(&context, args).await,
        Command::Run(args) => run::run(&context, args).await,
        Command::Watch(args) => watch::run(&context, args).await,
        Command::Status(args) => control::status(&context, args),
        Command::Pause(args) => control::pause(&context, args).await,
        Command::Resume(args) => control::resume(&context, args).await,
        Command::Abort(args) => control::abort(&context, args).await,
        Command::Finalize(args) => control::finalize(&context, args).await,
        Command::Rollback(args) => rollback::run(&context, args).await,
        Command::Snapshot(args) => snapshot::run(&context, args).await,
        Command::Verdict(args) => verdict::run(&context, args),
        Command::Journal(command) => journal::run(&context, command),
        Command::Advisories(args) => advisories::run(&context, args).await,
        Command::Exposure(args) => exposure::run(&context, args).await,
        Command::Schedule(args) => schedule::run(&context, args),
        Command::Calendar(args) => schedule::run_calendar(&context, args),
        Command::Serve(args) => serve::run(context, args).await,
        Command::Notice(command) => notice::run(&context, command).await,
        Command::Confirmations { output } => notice::confirmations(&context, *output),
        Command::Release(args) => release::run(&context, args).await,
        Command::Patch(args) => patch::run(&context, args).await,
        Command::Probe(args) => probe::run(&context, args).await,
    }
}

/// Logs go to stderr; RUST_LOG decides where it is set.
fn log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "volutus=info,warn",
        _ => "volutus=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

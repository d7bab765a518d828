//! The project's own commands: `cargo xtask demo`, `test`, `bench`, `sim`, `fuzz`, `tidy` and others.
//!
//! Each does all its own set-up on a fresh Debian 12 machine, prints its figures on its last
//! line, and exits non-zero where its goal is missed.

mod bench_advisories;
mod bench_contract;
mod bench_fleet;
mod bench_journal;
mod bench_plan;
mod bench_rehearse;
mod bench_upgrade;
mod crash;
mod demo;
mod demo_reboot;
mod faults;
mod fuzz;
mod hooks;
mod lab;
mod process;
mod schemathesis;
mod setup;
mod sim;
mod tempest;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Commands for people who work on Volutus, and for those who want to see it work.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up the lab, upgrade it under load, print the verdict.
    Demo(demo::Options),
    /// Kill Volutus again and again while it upgrades the lab and takes it back.
    Crash(lab::Hop),
    /// Take away from Volutus what it stands on, one thing after another, while it upgrades the lab.
    Faults(lab::Hop),
    /// Empty, restart and give back hosts of the lab while things go wrong: destinations that refuse,
    /// instances that do not converge, hosts that stay away, a Volutus that is killed.
    Drains,
    /// Restart the network nodes of a lab with neutron's own DHCP and L3 agents, while their networks and
    /// routers are asked.
    Agents,
    /// Move real guests of the lab that write their memory faster than is sent, by each of the ways that the
    /// ladder has for them, and print how long each answered nobody.
    Converge,
    /// Upgrade the lab and restart its compute hosts in one pass: each is emptied, upgraded while it is empty,
    /// restarted, and given back.
    UpgradeDrains,
    /// Break the API of the lab's new release in many ways, one after another, and see that each halts
    /// the upgrade before users meet it.
    Mutations,
    /// OpenStack's own smoke tests before and after an upgrade of the lab, as gates of its run.
    Tempest(tempest::Options),
    /// Let a server carry out schedules on the lab under a clock of the test's: an upgrade that is due, and
    /// one that goes badly, with what people are told of each.
    Schedules,
    /// Find a vulnerable keystone in the lab, patch it under load, and prove that it is closed.
    Patch,
    /// Every test: format, lints, unit tests, and the real lab.
    Test(test::Options),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Run simulated upgrades with faults, one per seed, and look whether every rule holds.
    Sim(sim::Options),
    /// See that the simulation notices rules that are wrong on purpose.
    MutantsSim,
    /// Ask a real `volutus serve` everything that its OpenAPI document says can be asked, and more.
    Schemathesis(schemathesis::Options),
    /// Run the hooks for other systems against a real Ceph, Alertmanager and Masakari on this machine.
    Hooks,
    /// Give what reads texts from outside millions of them.
    Fuzz(fuzz::Options),
    /// Check the rules of the repository: layers, file lengths, words.
    Tidy,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Volutus against the plain sequential procedure, on the same lab.
    Upgrade(lab::Hop),
    /// Mutate recorded answers and contracts and count what is caught; compare 10,000 pairs.
    Contract,
    /// Read a journal of a million events back, and append durably.
    Journal,
    /// Read all advisories, judge them against what is expected, and 10,000 daemons against them.
    Advisories,
    /// Plan and check described clouds of 100, 1,000 and 10,000 hosts.
    Plan,
    /// Rehearse an upgrade of a described cloud of 1,000 hosts a thousand times.
    Rehearse,
    /// Plan and check reboots of described fleets of 100 to 5,000 hosts, beside today's ways.
    Fleet,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Crash(hop) => crash::run(&hop),
        Command::Faults(hop) => faults::run(&hop),
        Command::Mutations => test::suite("e2e-mutations"),
        Command::Tempest(options) => tempest::run(&options),
        Command::Agents => test::suite("e2e-agents"),
        Command::Drains => test::suite("e2e-drain"),
        Command::Converge => test::suite("e2e-converge"),
        Command::UpgradeDrains => test::suite("e2e-upgrade-drain"),
        Command::Schedules => test::suite("e2e-schedule"),
        Command::Patch => test::suite("e2e-patch"),
        Command::Test(options) => test::run(&options),
        Command::Bench(Bench::Upgrade(hop)) => bench_upgrade::run(&hop),
        Command::Bench(Bench::Contract) => bench_contract::run(),
        Command::Bench(Bench::Journal) => bench_journal::run(),
        Command::Bench(Bench::Advisories) => bench_advisories::run(),
        Command::Bench(Bench::Plan) => bench_plan::run(),
        Command::Bench(Bench::Rehearse) => bench_rehearse::run(),
        Command::Sim(options) => sim::run(&options),
        Command::MutantsSim => sim::mutants(),
        Command::Bench(Bench::Fleet) => bench_fleet::run(),
        Command::Schemathesis(options) => schemathesis::run(&options),
        Command::Hooks => hooks::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Tidy => tidy::run(),
    }
}

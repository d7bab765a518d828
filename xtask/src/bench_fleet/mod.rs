//! `cargo xtask bench fleet`: plans and checks reboots of described fleets, and sets them beside
//! two ways in which fleets are rebooted today, simulated with the same times.

mod today;

use std::time::Instant;

use anyhow::{Context as _, bail};
use volutus_fleet::described::{Chance, Shape, fleet};
use volutus_fleet::duration;
use volutus_model::fleet::{Fleet, RebootPlan, RebootPolicy, Selection};

use today::Today;

const SIZES: [usize; 4] = [100, 500, 1_000, 5_000];
const FILLS: [f64; 3] = [0.70, 0.80, 0.92];
const ZONES: usize = 3;
/// Of a hundred hosts so many are empty at the start, and one in each zone at the least.
const EMPTY_PERCENT: usize = 2;

const GAP_MAX: f64 = 1.15;
const SECONDS_MAX: f64 = 10.0;
const MIB_MAX: u64 = 2048;

/// The policy of every case: the defaults, but four moves at a time from and to a host, which is
/// what a network of 25 Gbit/s between hosts carries.
fn policy() -> RebootPolicy {
    let mut policy = RebootPolicy::default();
    policy.moves.per_source = 4;
    policy.moves.per_destination = 4;
    policy
}

struct Case {
    hosts: usize,
    fill: f64,
    fleet: Fleet,
}

/// Measures, prints, and judges against the goals.
pub fn run() -> anyhow::Result<()> {
    println!("{}", header());
    let mut missed: Vec<String> = Vec::new();
    let (mut worst_gap, mut worst_moves, mut slowest) = (0.0f64, 0.0f64, 0.0f64);
    let mut largest = 0;
    for hosts in SIZES {
        for fill in FILLS {
            let case = describe(hosts, fill);
            largest = largest.max(case.fleet.instances.len());
            let name = format!("{hosts} hosts, {:.0} % full", fill * 100.0);
            let (plan, seconds) = measure(&case).with_context(|| name.clone())?;
            let figures = &plan.content.figures;
            if !plan.content.left.is_empty() {
                missed.push(format!(
                    "{name}: {} hosts are left: {:?}",
                    plan.content.left.len(),
                    plan.content.left[0]
                ));
            }
            if figures.moves_per_instance() > 1.0 {
                missed.push(format!("{name}: {:.3} moves per instance", figures.moves_per_instance()));
            }
            if figures.gap() > GAP_MAX {
                missed.push(format!("{name}: {:.3} of the bound", figures.gap()));
            }
            worst_gap = worst_gap.max(figures.gap());
            worst_moves = worst_moves.max(figures.moves_per_instance());
            slowest = slowest.max(seconds);
            print_case(&case, &plan, seconds);
        }
    }
    let mib = crate::bench_plan::peak_mib()?;
    if slowest >= SECONDS_MAX || mib >= MIB_MAX {
        missed.push(format!("{slowest:.1} s and {mib} MiB"));
    }
    for missed in &missed {
        println!("missed: {missed}");
    }
    println!(
        "fleet: moves per instance {worst_moves:.2} (goal 1.00) | makespan {worst_gap:.3} of the bound (goal {GAP_MAX}) | \
         5,000 hosts, {largest} instances planned and checked in {slowest:.1} s, peak {mib} MiB (goal {SECONDS_MAX} s, {MIB_MAX} MiB)"
    );
    if !missed.is_empty() {
        bail!("{} goals are missed", missed.len());
    }
    Ok(())
}

fn describe(hosts: usize, fill: f64) -> Case {
    let empty_per_zone = (hosts * EMPTY_PERCENT / 100 / ZONES).max(1);
    let shape = Shape { hosts, zones: ZONES, fill, empty_per_zone, odd: false, seed: 1 };
    Case { hosts, fill, fleet: fleet(&shape) }
}

fn measure(case: &Case) -> anyhow::Result<(RebootPlan, f64)> {
    let policy = policy();
    let start = Instant::now();
    let all = Selection::default();
    let now = "2026-01-01T00:00:00Z".parse()?;
    let plan = volutus_fleet::plan(&case.fleet, &policy, &all, &"bench".parse()?, now)?;
    let findings = volutus_plancheck::check_reboot(&plan, &case.fleet, &policy);
    let seconds = start.elapsed().as_secs_f64();
    if let Some(finding) = findings.first() {
        bail!("the plan has {} findings, the first is {finding:?}", findings.len());
    }
    Ok((plan, seconds))
}

fn header() -> String {
    format!(
        "{:>6} {:>5} {:>9} | {:>6} {:>6} {:>9} {:>9} {:>6} {:>7} | {:>22} | {:>22}",
        "hosts",
        "full",
        "instances",
        "moves",
        "waves",
        "makespan",
        "bound",
        "gap",
        "seconds",
        "one after another",
        "random, as many at once"
    )
}

fn print_case(case: &Case, plan: &RebootPlan, seconds: f64) {
    let policy = policy();
    let figures = &plan.content.figures;
    let mut order: Vec<usize> = (0..case.fleet.hosts.len()).collect();
    let single = Today::new(&case.fleet, &policy).run(&order, 1);
    let mut chance = Chance::new(7);
    for at in (1..order.len()).rev() {
        order.swap(at, chance.below(at as u64 + 1) as usize);
    }
    let at_once = policy.hosts.at_once.of(order.len());
    let random = Today::new(&case.fleet, &policy).run(&order, at_once);
    let today = |result: &today::Result| {
        format!(
            "{:>5.2} {:>9} {:>6}",
            result.moves_per_instance(),
            duration(result.makespan_ms),
            result.given_up
        )
    };
    println!(
        "{:>6} {:>4.0}% {:>9} | {:>6.2} {:>6} {:>9} {:>9} {:>6.3} {:>7.2} | {} | {}",
        case.hosts,
        case.fill * 100.0,
        case.fleet.instances.len(),
        figures.moves_per_instance(),
        figures.waves,
        duration(figures.makespan_ms),
        duration(figures.bounds.greatest_ms()),
        figures.gap(),
        seconds,
        today(&single),
        today(&random)
    );
}

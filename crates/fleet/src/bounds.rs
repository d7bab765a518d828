//! What no schedule can beat, for the hosts that the plan reboots and under the same policy and
//! the same expected times. Each is derived where it is computed.

use volutus_model::fleet::plan::Bounds;

use crate::budgets::ALL;
use crate::index::{Index, Role};
use crate::ladder::Outcome;
use crate::schedule::Schedule;

/// Steps into which the makespan is cut to follow the growth of capacity. Within a step everything
/// counts as early as it could be, so that coarser steps make the bound lower, never wrong.
const STEPS: u64 = 2000;

/// One host as the bounds see it.
struct Occupation {
    host: usize,
    /// From its disabling until it is back, at the least.
    busy_ms: u64,
    /// What has to be moved off it, per class.
    load: Vec<i64>,
    /// What it can take once it is back, per class.
    gain: Vec<i64>,
}

/// The bounds of a schedule.
pub(crate) fn bounds(index: &Index<'_>, done: &Schedule) -> Bounds {
    let makespan = done.drains.iter().map(|drain| drain.back_ms).max().unwrap_or(0);
    let mut bounds = Bounds::default();
    if done.drains.is_empty() {
        return bounds;
    }
    let mut work = 0u64;
    let mut loads = Loads::new(index);
    let mut rebooted = vec![false; index.hosts.len()];
    for phase in 0..index.phases {
        let hosts: Vec<usize> = done
            .drains
            .iter()
            .map(|drain| drain.host as usize)
            .filter(|host| index.hosts[*host].phase == phase)
            .collect();
        if hosts.is_empty() {
            continue;
        }
        let occupations: Vec<Occupation> = hosts.iter().map(|host| loads.one(index, *host)).collect();
        work += hosts.iter().map(|host| loads.work[*host]).sum::<u64>();
        let longest = occupations.iter().map(|one| one.busy_ms).max().unwrap_or(0);
        let at_once = at_once(index, &occupations);
        let growth = growth(index, done, &occupations, &mut loads, &rebooted, makespan);
        let soak = if phase == 0 { u64::from(index.policy.hosts.canary_soak_s) * 1000 } else { 0 };
        // Nothing of a later phase begins before the soak is over; what ends the plan does not wait
        // for a soak.
        let later = done.drains.iter().any(|drain| index.hosts[drain.host as usize].phase > phase);
        let soak = if later { soak } else { 0 };
        bounds.longest_host_ms += longest + soak;
        bounds.hosts_at_once_ms += at_once + soak;
        bounds.growth_ms += growth.max(at_once).max(longest) + soak;
        for host in hosts {
            rebooted[host] = true;
        }
    }
    if let Some(overall) = index.policy.moves_at_once() {
        let act = done.drains.iter().map(|d| index.hosts[d.host as usize].act_ms).min().unwrap_or(0);
        bounds.moves_at_once_ms = settle_ms(index) + work / u64::from(overall) + act;
    }
    bounds
}

fn settle_ms(index: &Index<'_>) -> u64 {
    u64::from(index.policy.hosts.settle_s) * 1000
}

/// Sums over the instances of each host that are to be moved.
struct Loads {
    load: Vec<i64>,
    work: Vec<u64>,
    longest: Vec<u64>,
    /// Per pool and class: the most that a millisecond of moving brings.
    rate: Vec<f64>,
}

impl Loads {
    fn new(index: &Index<'_>) -> Self {
        let k = index.k();
        let mut loads = Loads {
            load: vec![0; index.hosts.len() * k],
            work: vec![0; index.hosts.len()],
            longest: vec![0; index.hosts.len()],
            rate: vec![0.0; index.zones.len().max(1) * k],
        };
        for facts in index.instances.iter().filter(|facts| matches!(facts.outcome, Outcome::Move(_))) {
            let host = facts.host as usize;
            let pool = index.hosts[host].pool as usize;
            loads.work[host] += facts.work_ms;
            loads.longest[host] = loads.longest[host].max(facts.work_ms);
            for (class, amount) in index.shape(facts.shape).iter().enumerate() {
                loads.load[host * k + class] += amount;
                let rate = &mut loads.rate[pool * k + class];
                *rate = rate.max(*amount as f64 / facts.work_ms.max(1) as f64);
            }
        }
        loads
    }

    fn one(&self, index: &Index<'_>, host: usize) -> Occupation {
        let k = index.k();
        let facts = &index.hosts[host];
        let drain = self.work[host].div_ceil(u64::from(facts.per_source)).max(self.longest[host]);
        let load = self.load[host * k..][..k].to_vec();
        let gain = (0..k).map(|class| {
            let left = index.fill[host * k + class] - index.used[host * k + class] + load[class];
            if facts.closed { 0 } else { left.max(0) }
        });
        Occupation { host, busy_ms: settle_ms(index) + drain + facts.act_ms, gain: gain.collect(), load }
    }
}

/// The time that hosts are out of service, shared by as many as may be at once; in the domain in
/// which that is longest.
fn at_once(index: &Index<'_>, occupations: &[Occupation]) -> u64 {
    let mut busy = vec![0u64; index.domains.len()];
    for one in occupations {
        for domain in &index.hosts[one.host].domains {
            busy[*domain as usize] += one.busy_ms;
        }
    }
    let shared = busy.iter().zip(&index.domains).map(|(busy, domain)| busy / u64::from(domain.limit));
    shared.max().unwrap_or(0)
}

/// How many hosts of one pool can be back at a time at the most.
struct Pool {
    /// Ascending: a count of hosts needs at least the sum of as many of the smallest loads, ...
    load_sums: Vec<Vec<i64>>,
    /// ... and gives at most the sum of as many of the largest gains.
    gain_sums: Vec<Vec<i64>>,
    /// Ascending.
    busy: Vec<u64>,
    act_ms: u64,
    into: f64,
    rate: Vec<f64>,
    /// What is free on hosts that are ready at the start, per class, and how many they are.
    first: Vec<i64>,
    first_hosts: f64,
    /// Hosts of which nothing has to be moved.
    idle: usize,
    settle_ms: f64,
    /// Capacity does not bind: instances were put on hosts that were not rebooted yet.
    unbound: bool,
    /// Hosts back by each step, at the most.
    back: Vec<usize>,
    means: Vec<Mean>,
}

/// The growth of one class's capacity, averaged.
///
/// What a host holds leaves it at no more than so much a millisecond, so when it is empty at `e`, all
/// but a part of it that grows with `e - t` has landed by `t`; and what lands on a host that is back
/// at `s` grows no faster either. Summed over all hosts, the mean number of empty hosts over the
/// stretch after `t` needs no more capacity than the mean number of hosts that were back over the
/// stretch before `t` gives. So one generation takes a whole stretch and a whole reboot.
struct Mean {
    class: usize,
    stretch_ms: f64,
    /// By step: hosts that are empty in the mean of the stretch after it, at the most.
    empty: Vec<f64>,
}

fn growth(
    index: &Index<'_>,
    done: &Schedule,
    occupations: &[Occupation],
    loads: &mut Loads,
    rebooted: &[bool],
    makespan: u64,
) -> u64 {
    if makespan == 0 {
        return 0;
    }
    let step = makespan.div_ceil(STEPS).max(1);
    let mut pools: Vec<Pool> = (0..index.zones.len() as u32)
        .filter_map(|pool| Pool::new(index, done, occupations, loads, rebooted, pool))
        .collect();
    let limit = index.domains.get(ALL as usize).map_or(usize::MAX, |all| all.limit as usize);
    let mut busy: Vec<u64> = occupations.iter().map(|one| one.busy_ms).collect();
    busy.sort_unstable();
    let longest = busy.last().copied().unwrap_or(0);
    let mut sums = vec![0u64];
    for time in &busy {
        sums.push(sums.last().copied().unwrap_or(0) + time);
    }
    let shortest = (busy.first().copied().unwrap_or(0) / step) as usize;
    let mut all: Vec<usize> = vec![0];
    for at in 1..=STEPS as usize + 1 {
        let sum: usize = pools.iter_mut().map(|pool| pool.advance(at, step)).sum();
        // Those that come back within the shortest time out of service were all out at its start.
        let by_limit = all[at.saturating_sub(shortest.max(1))].saturating_add(limit);
        let back = sum.min(if at > shortest { by_limit } else { limit });
        all.push(back.min(occupations.len()));
        if all[at] >= occupations.len() {
            // It was not possible one step ago.
            let earlier = (at as u64 - 1) * step;
            let sure = best_before(&all, &sums, limit, step, longest);
            return sure.max(earlier);
        }
    }
    best_before(&all, &sums, limit, step, longest).min(makespan)
}

/// The greatest, over all times, of that time and what is left to do after it at the least.
///
/// Take from each host the last stretch before it is back, as long as it has to be out of service.
/// Hosts that are not back one longest stretch after a time have begun theirs after that time, and
/// no more of these stretches run at once than hosts may be out.
fn best_before(all: &[usize], sums: &[u64], limit: usize, step: u64, longest: u64) -> u64 {
    let hosts = sums.len() - 1;
    let width = limit.min(hosts).max(1) as u64;
    let ahead = longest.div_ceil(step) as usize;
    let bound = |at: usize| {
        let back = all.get(at + ahead).copied().unwrap_or(hosts);
        if back >= hosts { 0 } else { at as u64 * step + sums[hosts - back] / width }
    };
    (0..all.len()).map(bound).max().unwrap_or(0)
}

impl Pool {
    fn new(
        index: &Index<'_>,
        done: &Schedule,
        occupations: &[Occupation],
        loads: &Loads,
        rebooted: &[bool],
        number: u32,
    ) -> Option<Self> {
        let k = index.k();
        let own: Vec<&Occupation> =
            occupations.iter().filter(|one| index.hosts[one.host].pool == number).collect();
        if own.is_empty() {
            return None;
        }
        let sums = |values: &dyn Fn(&Occupation, usize) -> i64, descending: bool| -> Vec<Vec<i64>> {
            (0..k)
                .map(|class| {
                    let mut sorted: Vec<i64> = own.iter().map(|one| values(one, class)).collect();
                    sorted.sort_unstable();
                    if descending {
                        sorted.reverse();
                    }
                    let mut sums = vec![0];
                    sums.extend(sorted.iter().scan(0, |sum, value| {
                        *sum += value;
                        Some(*sum)
                    }));
                    sums
                })
                .collect()
        };
        let mut busy: Vec<u64> = own.iter().map(|one| one.busy_ms).collect();
        busy.sort_unstable();
        let mut first = vec![0i64; k];
        let mut first_hosts = 0.0;
        for (host, facts) in index.hosts.iter().enumerate() {
            let ready = facts.role == Role::Ready || rebooted[host];
            if facts.pool == number && ready && !facts.closed {
                first_hosts += 1.0;
                // What was on hosts that were rebooted before is still on one of all these.
                for (class, first) in first.iter_mut().enumerate() {
                    let at = host * k + class;
                    let left = index.fill[at] - index.used[at];
                    // A host that is filled over the cap takes nothing; it takes nothing away either.
                    let load = if rebooted[host] { loads.load[at] } else { 0 };
                    *first += (left + load).max(0) - load;
                }
            }
        }
        let into = index.hosts.iter().filter(|host| host.pool == number).map(|host| host.per_destination);
        Some(Pool {
            load_sums: sums(&|one, class| one.load[class], false),
            gain_sums: sums(&|one, class| one.gain[class], true),
            act_ms: own.iter().map(|one| index.hosts[one.host].act_ms).min().unwrap_or(0),
            into: f64::from(into.max().unwrap_or(1)),
            rate: loads.rate[number as usize * k..][..k].to_vec(),
            first: first.into_iter().map(|free| free.max(0)).collect(),
            first_hosts,
            unbound: done
                .moves
                .iter()
                .any(|moved| moved.moves_again && index.hosts[moved.from as usize].pool == number),
            means: (0..k).filter_map(|class| Mean::new(index, &own, loads, number, class)).collect(),
            idle: own.iter().filter(|one| one.load.iter().all(|amount| *amount == 0)).count(),
            settle_ms: settle_ms(index) as f64,
            busy,
            back: vec![0],
        })
    }

    /// Hosts back by the end of step `at`, at the most.
    fn advance(&mut self, at: usize, step: u64) -> usize {
        let time = at as u64 * step;
        let before = self.back.last().copied().unwrap_or(0);
        let mut count = self.busy.partition_point(|busy| *busy <= time);
        if !self.unbound {
            // What is to be back now was empty so long ago.
            let empty = time as f64 - self.act_ms as f64;
            for class in 0..self.rate.len() {
                let speed = self.into * self.rate[class];
                let mut landed = (self.first[class] as f64).min(self.first_hosts * speed * empty.max(0.0));
                for batch in 1..self.back.len() {
                    let (old, new) = (self.back[batch - 1], self.back[batch]);
                    if new == old {
                        continue;
                    }
                    let since = empty - ((batch as u64 - 1) * step) as f64;
                    if since <= 0.0 {
                        break;
                    }
                    let gain = (self.gain_sums[class][new] - self.gain_sums[class][old]) as f64;
                    landed += gain.min((new - old) as f64 * speed * since);
                }
                // A hair more, for what floating-point numbers lose.
                let landed = landed * (1.0 + 1e-9) + 1e-6;
                let fits = self.load_sums[class].partition_point(|sum| *sum as f64 <= landed) - 1;
                count = count.min(fits);
            }
            count = count.min(self.advance_means(at, step));
        }
        self.back.push(count.max(before));
        count.max(before)
    }
}

impl Pool {
    /// Hosts back by the end of step `at`, by the means of all classes.
    fn advance_means(&mut self, at: usize, step: u64) -> usize {
        let mut means = std::mem::take(&mut self.means);
        let act = self.act_ms as f64;
        // Before anything is ready nothing can land, and before the first has landed for a stretch
        // only idle hosts are empty.
        let opens = if self.first_hosts > 0.0 { self.settle_ms } else { self.settle_ms + act };
        let mut fits = usize::MAX;
        for mean in &mut means {
            let idle = self.idle as f64;
            let start = |time: f64| {
                idle * ((time + mean.stretch_ms - self.settle_ms) / mean.stretch_ms).clamp(0.0, 1.0)
            };
            for place in mean.empty.len()..=at {
                let time = (place as u64 * step) as f64;
                let value = if time <= opens {
                    start(time)
                } else {
                    let earlier = time - mean.stretch_ms - act;
                    let place = (earlier / step as f64).ceil();
                    let back = if earlier < 0.0 { start(earlier) } else { mean.empty[place as usize] };
                    let room = self.first[mean.class] as f64 + interpolate(&self.gain_sums[mean.class], back);
                    inverse(&self.load_sums[mean.class], room)
                };
                mean.empty.push(value.max(mean.empty.last().copied().unwrap_or(0.0)));
            }
            let empty = (at as u64 * step) as f64 - act;
            if empty < 0.0 {
                fits = 0;
            } else {
                let place = (empty / step as f64).ceil() as usize;
                fits = fits.min((mean.empty[place] + 1e-6) as usize);
            }
        }
        self.means = means;
        fits
    }
}

impl Mean {
    /// `None` where nothing of the class moves, or hosts cannot be compared.
    fn new(index: &Index<'_>, own: &[&Occupation], loads: &Loads, pool: u32, class: usize) -> Option<Self> {
        let rate = loads.rate[pool as usize * index.k() + class];
        let hosts = || index.hosts.iter().filter(|host| host.pool == pool);
        let out = f64::from(hosts().map(|host| host.per_source).max()?);
        let into = f64::from(hosts().map(|host| host.per_destination).max()?);
        let least = |of: &dyn Fn(&Occupation) -> i64| {
            own.iter().map(|one| of(one)).filter(|amount| *amount > 0).min()
        };
        let load = least(&|one| one.load[class])? as f64 / (out * rate);
        let gain = least(&|one| one.gain[class])? as f64 / (into * rate);
        let stretch_ms = load.min(gain);
        (stretch_ms.is_finite() && stretch_ms >= 1.0).then(|| Mean { class, stretch_ms, empty: Vec::new() })
    }
}

/// The value of sums between two whole numbers of hosts.
fn interpolate(sums: &[i64], hosts: f64) -> f64 {
    let hosts = hosts.clamp(0.0, (sums.len() - 1) as f64);
    let low = hosts.floor() as usize;
    let high = (low + 1).min(sums.len() - 1);
    sums[low] as f64 + (sums[high] - sums[low]) as f64 * (hosts - low as f64)
}

/// The number of hosts, whole and a part, whose sum is that much.
fn inverse(sums: &[i64], room: f64) -> f64 {
    let room = room * (1.0 + 1e-9) + 1e-6;
    let low = sums.partition_point(|sum| *sum as f64 <= room).saturating_sub(1);
    match sums.get(low + 1) {
        None => low as f64,
        Some(next) => low as f64 + (room - sums[low] as f64).max(0.0) / ((next - sums[low]).max(1) as f64),
    }
}

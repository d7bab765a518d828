//! When what is due. Pure.

use std::time::Duration;

/// Requests per second that the table below makes in all while the cloud is at rest, polls
/// included (an instance takes some 3 s to boot, a volume 1 s). Measured in the lab.
pub const NOMINAL_RATE_PER_S: f64 = 15.0;

/// Requests per second that the synthetic user makes unless told otherwise. During a roll there
/// are some more of them, because what it creates takes longer and is asked for more often; and
/// in a cloud whose controllers have little to spare, watching must not be what slows it down.
pub const DEFAULT_RATE_PER_S: f64 = 11.0;

/// One thing that the synthetic user begins again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chore {
    /// Asks keystone for a token with the password.
    IssueToken,
    /// The same as the operator, whose token the requests to placement carry.
    IssueOperatorToken,
    /// Has keystone validate the token.
    ValidateToken,
    /// Lists the projects that the user may work in.
    ListProjects,
    /// Lists images.
    ListImages,
    /// Shows one image.
    ShowImage,
    /// Creates, fills and deletes an image.
    ImageLife,
    /// Lists servers.
    ListServers,
    /// Lists flavors.
    ListFlavors,
    /// Boots an instance, watches it become ACTIVE, deletes it, watches it go.
    ServerLife,
    /// Lists networks.
    ListNetworks,
    /// Lists ports.
    ListPorts,
    /// Creates and deletes a port.
    PortLife,
    /// Creates and deletes a network.
    NetworkLife,
    /// Lists volumes.
    ListVolumes,
    /// Creates a volume, watches it become available, deletes it, watches it go.
    VolumeLife,
    /// Asks where an instance could be placed.
    AllocationCandidates,
    /// Lists resource classes.
    ListResourceClasses,
    /// Shows the versions that a service with microversions advertises: one after another.
    ShowVersions,
}

impl Chore {
    /// All of them, with the milliseconds from one beginning to the next at the nominal rate.
    ///
    /// The password of a token request costs keystone tens to hundreds of milliseconds of
    /// processor by design, so it is asked for less often than other things. An instance's
    /// life is begun often enough that every compute in a roll of a few minutes is met.
    pub const ALL: [(Self, u64); 19] = [
        (Self::IssueToken, 1_600),
        (Self::IssueOperatorToken, 20_000),
        (Self::ValidateToken, 1_100),
        (Self::ListProjects, 1_900),
        (Self::ListImages, 1_000),
        (Self::ShowImage, 1_100),
        (Self::ImageLife, 4_000),
        (Self::ListServers, 1_000),
        (Self::ListFlavors, 1_900),
        (Self::ServerLife, 6_000),
        (Self::ListNetworks, 1_100),
        (Self::ListPorts, 1_700),
        (Self::PortLife, 2_500),
        (Self::NetworkLife, 6_000),
        (Self::ListVolumes, 1_000),
        (Self::VolumeLife, 7_000),
        (Self::AllocationCandidates, 1_000),
        (Self::ListResourceClasses, 1_700),
        (Self::ShowVersions, 900),
    ];
}

/// When a chore begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timetable {
    /// The chore.
    pub chore: Chore,
    /// From the prober's start to the first beginning.
    pub offset: Duration,
    /// From one beginning to the next.
    pub period: Duration,
}

impl Timetable {
    /// When the `n`th beginning is due, after the prober's start.
    #[must_use]
    pub fn due(&self, n: u64) -> Duration {
        let period_us = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        self.offset.saturating_add(Duration::from_micros(period_us.saturating_mul(n)))
    }
}

/// The timetables of all chores for a rate in requests per second in all.
///
/// First beginnings are spread over the periods by the golden ratio, so that chores of similar
/// periods do not fall together.
#[must_use]
pub fn timetables(rate_per_s: f64) -> Vec<Timetable> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let stretch = NOMINAL_RATE_PER_S / rate_per_s;
    Chore::ALL
        .iter()
        .enumerate()
        .map(|(index, &(chore, period_ms))| {
            let period = Duration::from_millis(period_ms).mul_f64(stretch);
            let share = ((index as f64) * GOLDEN).fract();
            Timetable { chore, offset: period.mul_f64(share), period }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_at_fixed_times() {
        let table = Timetable {
            chore: Chore::ListServers,
            offset: Duration::from_millis(300),
            period: Duration::from_millis(1_000),
        };
        assert_eq!(table.due(0), Duration::from_millis(300));
        assert_eq!(table.due(7), Duration::from_millis(7_300));
    }

    #[test]
    fn the_rate_scales_every_period() {
        let nominal = timetables(NOMINAL_RATE_PER_S);
        let half = timetables(NOMINAL_RATE_PER_S / 2.0);
        for (a, b) in nominal.iter().zip(&half) {
            assert_eq!(a.period * 2, b.period);
        }
        assert_eq!(nominal.len(), Chore::ALL.len());
    }

    #[test]
    fn no_two_chores_begin_at_the_same_moment() {
        let mut offsets: Vec<Duration> = timetables(15.0).iter().map(|t| t.offset).collect();
        offsets.sort();
        offsets.dedup();
        assert_eq!(offsets.len(), Chore::ALL.len());
    }

    #[test]
    fn single_requests_alone_reach_ten_a_second() {
        // Requests of each chore at rest: the lives of an image, a server, a port, a network
        // and a volume take several.
        let requests = |chore: Chore| match chore {
            Chore::ImageLife => 3.0,
            Chore::ServerLife => 5.0,
            Chore::PortLife | Chore::NetworkLife => 2.0,
            Chore::VolumeLife => 4.0,
            _ => 1.0,
        };
        let rate: f64 = Chore::ALL.iter().map(|&(chore, ms)| requests(chore) * 1000.0 / ms as f64).sum();
        assert!((10.0..20.0).contains(&rate), "{rate}");
    }
}

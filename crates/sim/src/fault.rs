//! What goes wrong, how often, and when.

use serde::Serialize;

use crate::rng::Rng;

/// How likely each thing is to go wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Faults {
    /// An attempt fails in a way that a repetition may mend.
    pub transient: f64,
    /// An attempt fails in a way that it does not.
    pub permanent: f64,
    /// What an attempt did is not heard of.
    pub lost_answer: f64,
    /// An attempt never ends.
    pub hang: f64,
    /// An attempt takes ten times as long.
    pub slow: f64,
    /// The answer of an attempt arrives twice.
    pub duplicate: f64,
    /// A daemon comes up wrong: active and not serving, lying, with other code, silent, or
    /// dying again.
    pub start: f64,
    /// A daemon takes minutes to come up.
    pub slow_start: f64,
    /// A daemon dies some time after it came up, and is started again by its init system.
    pub dies: f64,
    /// A server's sessions do not end.
    pub sessions: f64,
    /// Per hour: a host vanishes and comes back, as it was or different.
    pub hosts_per_hour: f64,
    /// Per hour: somebody takes a server out, or disables a compute.
    pub people_per_hour: f64,
    /// Per hour: Volutus itself is ended.
    pub crashes_per_hour: f64,
}

/// A set of faults with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Nothing goes wrong; durations vary.
    None,
    /// A well kept cloud.
    Mild,
    /// A bad day.
    Harsh,
}

impl Profile {
    /// The profile's faults. The figures are assumptions, chosen so that a plan for a dozen hosts
    /// meets about one fault (mild) or ten (harsh): no cloud's records were at hand to fit them
    /// to. Chances are per attempt or per start, so that a larger cloud meets more of them.
    #[must_use]
    pub fn faults(self) -> Faults {
        match self {
            Self::None => Faults::default(),
            Self::Mild => Faults {
                transient: 0.002,
                permanent: 0.000_05,
                lost_answer: 0.001,
                hang: 0.000_05,
                slow: 0.005,
                duplicate: 0.0,
                start: 0.000_2,
                slow_start: 0.005,
                dies: 0.000_5,
                sessions: 0.001,
                hosts_per_hour: 0.05,
                people_per_hour: 0.05,
                crashes_per_hour: 0.05,
            },
            Self::Harsh => Faults {
                transient: 0.02,
                permanent: 0.000_5,
                lost_answer: 0.01,
                hang: 0.000_5,
                slow: 0.03,
                duplicate: 0.005,
                start: 0.002,
                slow_start: 0.03,
                dies: 0.005,
                sessions: 0.01,
                hosts_per_hour: 0.5,
                people_per_hour: 0.5,
                crashes_per_hour: 0.5,
            },
        }
    }
}

impl Faults {
    /// The same faults in the same proportions, so that a run of that many attempts, starts and
    /// hours meets `wanted` of them on average.
    #[must_use]
    pub fn scaled(self, wanted: f64, attempts: usize, starts: usize, hours: f64) -> Self {
        let (attempts, starts) = (attempts as f64, starts as f64);
        let per_attempt =
            self.transient + self.permanent + self.lost_answer + self.hang + self.slow + self.duplicate;
        let per_start = self.start + self.slow_start + self.dies;
        let per_hour = self.hosts_per_hour + self.people_per_hour + self.crashes_per_hour;
        let expected = per_attempt * attempts + (per_start + self.sessions) * starts + per_hour * hours;
        if expected <= 0.0 {
            return self;
        }
        let by = wanted / expected;
        let chance = |p: f64| (p * by).min(0.5);
        Self {
            transient: chance(self.transient),
            permanent: chance(self.permanent),
            lost_answer: chance(self.lost_answer),
            hang: chance(self.hang),
            slow: chance(self.slow),
            duplicate: chance(self.duplicate),
            start: chance(self.start),
            slow_start: chance(self.slow_start),
            dies: chance(self.dies),
            sessions: chance(self.sessions),
            hosts_per_hour: self.hosts_per_hour * by,
            people_per_hour: self.people_per_hour * by,
            crashes_per_hour: self.crashes_per_hour * by,
        }
    }
}

/// What becomes of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Plain,
    Transient,
    Permanent,
    /// It is done, and nobody hears of it.
    Lost,
    /// It is not even begun, and nobody hears of it.
    LostBefore,
    Hang,
    Slow,
    Duplicate,
}

impl Faults {
    pub(crate) fn fate(&self, rng: &mut Rng) -> Fate {
        let mut draw = (rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
        for (chance, fate) in [
            (self.transient, Fate::Transient),
            (self.permanent, Fate::Permanent),
            (self.lost_answer / 2.0, Fate::Lost),
            (self.lost_answer / 2.0, Fate::LostBefore),
            (self.hang, Fate::Hang),
            (self.slow, Fate::Slow),
            (self.duplicate, Fate::Duplicate),
        ] {
            if draw < chance {
                return fate;
            }
            draw -= chance;
        }
        Fate::Plain
    }
}

/// Something that happens to the cloud or to Volutus at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A host does not answer Volutus for so many milliseconds.
    Partition { host: usize, ms: u64 },
    /// A host is off for so long, and comes back as it was.
    Outage { host: usize, ms: u64 },
    /// A host is off for so long, and comes back with the old release under its daemons.
    Reverted { host: usize, ms: u64 },
    /// Somebody disables a compute.
    PersonDisables { compute: usize },
    /// Somebody takes a server out.
    PersonDrains { backend: usize, seat: usize },
    /// Volutus stands still for so long.
    Stall { ms: u64 },
    /// The clock of the host that Volutus runs on jumps.
    Clock { home: usize, ms: i64 },
    /// A second Volutus wants to work on the cloud.
    Rival,
    /// Volutus is ended.
    Crash,
}

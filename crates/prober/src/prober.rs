//! Starting and stopping the synthetic user.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use volutus_model::inventory::{ProberResources, ReachTarget};
use volutus_model::name::{RunId, StepId};
use volutus_model::probe::Sample;
use volutus_openstack::{Client, CloudConfig, ServiceType};

use crate::chains::{Context, LIVES_MAX, Resources, Stage};
use crate::exchange::Recorder;
use crate::reach::Reach;
use crate::schedule::{self, Chore, Timetable};
use crate::sweep::sweep;

/// Samples that wait for their reader. At the nominal rate over an hour's worth; memory is
/// taken only as they come.
const SAMPLES_WAITING_MAX: usize = 65_536;

/// How long leftovers of earlier probers may hold up the start.
const SWEEP_AT_START: Duration = Duration::from_secs(30);
/// How long leftovers may hold up the end.
const SWEEP_AT_STOP: Duration = Duration::from_secs(45);

/// Why the prober cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rate that makes no sense.
    #[error("a rate of {rate_per_s} requests per second: it must be above 0 and at most 100")]
    Rate {
        /// The rate asked for.
        rate_per_s: f64,
    },
    /// No socket for a target of the data plane.
    #[error(
        "`{target}` cannot be reached for: pings need CAP_NET_RAW, or this user's group in \
         net.ipv4.ping_group_range"
    )]
    Reach {
        /// The target's name.
        target: String,
        /// What was seen.
        #[source]
        source: std::io::Error,
    },
    /// The cloud could not be asked, or lacks something.
    #[error("the synthetic user cannot start: {attempted}")]
    Cloud {
        /// What was attempted.
        attempted: &'static str,
        /// What was seen.
        #[source]
        source: volutus_openstack::Error,
    },
}

/// Everything that a prober needs.
#[derive(Debug, Clone)]
pub struct ProberConfig {
    /// An administrator: asks placement, which answers nobody else.
    pub operator: CloudConfig,
    /// The synthetic user.
    pub prober: CloudConfig,
    /// What it uses.
    pub resources: ProberResources,
    /// What else it reaches for, past the APIs.
    pub reach: Vec<ReachTarget>,
    /// The run; part of the names of what it makes.
    pub run: RunId,
    /// Requests per second in all, at rest; see [`ProberConfig::new`].
    pub rate_per_s: f64,
    /// Bound of one request.
    pub request_timeout: Duration,
    /// Bound of one wait, for an instance to become ACTIVE for example.
    pub wait_max: Duration,
}

impl ProberConfig {
    /// A configuration with the usual rate and bounds: 14 requests per second; 60 s for a
    /// request, after which OpenStack's own clients and load balancers give up; 90 s for a
    /// wait, which is longer than a compute takes to restart gracefully.
    #[must_use]
    pub fn new(operator: CloudConfig, prober: CloudConfig, resources: ProberResources, run: RunId) -> Self {
        Self {
            operator,
            prober,
            resources,
            reach: Vec::new(),
            run,
            rate_per_s: schedule::DEFAULT_RATE_PER_S,
            request_timeout: Duration::from_secs(60),
            wait_max: Duration::from_secs(90),
        }
    }
}

/// The synthetic user.
#[derive(Debug)]
pub struct Prober;

/// A synthetic user at work. Dropping it ends its work without deleting what is under way.
pub struct ProberHandle {
    context: Arc<Context>,
    stage: watch::Sender<Stage>,
    ended: mpsc::Receiver<()>,
    notes: Vec<String>,
    volumes: bool,
}

/// How a prober ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// Requests that were still unanswered at the end of the time allowed; they are in no
    /// sample. 0 where everything that had begun ended by itself.
    pub abandoned: usize,
    /// Objects that its work had left behind and that were then deleted, one line each.
    pub swept: Vec<String>,
    /// What could not be deleted, one line each.
    pub left: Vec<String>,
}

impl Prober {
    /// Resolves names, deletes leftovers of earlier probers, and starts to work. Samples come
    /// out of the receiver, in the order in which they ended.
    ///
    /// # Errors
    /// [`Error::Rate`]; [`Error::Cloud`] where credentials are refused, the cloud does not
    /// answer, or image, flavor or network are not there.
    pub async fn start(config: ProberConfig) -> Result<(ProberHandle, mpsc::Receiver<Sample>), Error> {
        if !(config.rate_per_s > 0.0 && config.rate_per_s <= 100.0) {
            return Err(Error::Rate { rate_per_s: config.rate_per_s });
        }
        let open = |target: &ReachTarget| {
            Reach::open(target).map_err(|source| Error::Reach { target: target.name.to_string(), source })
        };
        let reach = config.reach.iter().map(open).collect::<Result<Vec<Reach>, Error>>()?;
        let cloud = |attempted| move |source| Error::Cloud { attempted, source };
        let user = Client::new(config.prober, config.request_timeout)
            .map_err(cloud("read the synthetic user's cloud entry"))?;
        let operator = Client::new(config.operator, config.request_timeout)
            .map_err(cloud("read the operator's cloud entry"))?;
        user.token().await.map_err(cloud("get a token as the synthetic user"))?;
        operator.token().await.map_err(cloud("get a token as the operator"))?;
        let resources = resolve(&user, &config.resources).await?;
        let mut notes: Vec<String> = Vec::new();
        let absent = absent_services(&user, &operator).await?;
        for service in &absent {
            notes.push(format!(
                "{} is not probed: the service catalog has no endpoint of type {service}",
                service.project()
            ));
        }
        if let Some(max) = user.compute().instances_max().await.map_err(cloud("read the quota"))?
            && max < LIVES_MAX as u64
        {
            notes.push(format!(
                "the synthetic user's project may have {max} instances; while none becomes ACTIVE up \
                 to {LIVES_MAX} are needed, and creations beyond the quota will count as failed"
            ));
        }
        let volumes = !absent.contains(&ServiceType::Volume);
        let (found, left) = sweep(&user, volumes, SWEEP_AT_START).await;
        notes.extend(found.iter().map(|line| format!("deleted, left by an earlier prober: {line}")));
        notes.extend(left.iter().map(|line| format!("still there, left by an earlier prober: {line}")));

        let (samples, receiver) = mpsc::channel(SAMPLES_WAITING_MAX);
        let (stage, stage_now) = watch::channel(Stage::Working);
        let context = Arc::new(Context {
            user,
            operator,
            recorder: Recorder::new(samples),
            resources,
            run: config.run,
            wait_max: config.wait_max,
            servers: Semaphore::new(LIVES_MAX),
            volumes: Semaphore::new(LIVES_MAX),
            stage: stage_now,
        });
        // Nothing is ever sent here: the receiver learns that all work has ended when the last
        // sender is gone.
        let (working, ended) = mpsc::channel::<()>(1);
        let start = Instant::now();
        for table in schedule::timetables(config.rate_per_s) {
            if !absent.contains(&service_of(table.chore)) {
                tokio::spawn(keep(Arc::clone(&context), table, start, working.clone()));
            }
        }
        for reach in reach {
            tokio::spawn(reach.keep(Arc::clone(&context), working.clone()));
        }
        Ok((ProberHandle { context, stage, ended, notes, volumes }, receiver))
    }
}

/// Begins a chore again and again, on time, until it is stopped.
async fn keep(context: Arc<Context>, table: Timetable, start: Instant, working: mpsc::Sender<()>) {
    for number in 0.. {
        let due = start + table.due(number);
        tokio::select! {
            biased;
            () = context.reached(Stage::Ending) => return,
            () = tokio::time::sleep_until(due) => {}
        }
        let (context, working) = (Arc::clone(&context), working.clone());
        tokio::spawn(async move {
            let life = Arc::clone(&context).perform(table.chore, number, due);
            tokio::select! {
                () = life => {}
                () = context.reached(Stage::Abandoned) => {}
            }
            drop(working);
        });
    }
}

async fn resolve(user: &Client, wanted: &ProberResources) -> Result<Resources, Error> {
    let cloud = |attempted| move |source| Error::Cloud { attempted, source };
    Ok(Resources {
        image: user.image().image(&wanted.image).await.map_err(cloud("find its image"))?.id,
        flavor: user.compute().flavor(&wanted.flavor).await.map_err(cloud("find its flavor"))?.id,
        network: user.network().network(&wanted.network).await.map_err(cloud("find its network"))?.id,
        volume_type: wanted.volume_type.clone(),
    })
}

/// The services that the catalog does not have. Only cinder may be absent: the others are what
/// an instance needs.
async fn absent_services(user: &Client, operator: &Client) -> Result<Vec<ServiceType>, Error> {
    let mut absent: Vec<ServiceType> = Vec::new();
    for service in ServiceType::ALL {
        let client = if service == ServiceType::Placement { operator } else { user };
        match client.endpoint(service).await {
            Ok(_) => {}
            Err(volutus_openstack::Error::NoEndpoint { .. }) if service == ServiceType::Volume => {
                absent.push(service);
            }
            Err(source) => {
                return Err(Error::Cloud { attempted: "find the endpoints of all services", source });
            }
        }
    }
    Ok(absent)
}

fn service_of(chore: Chore) -> ServiceType {
    match chore {
        Chore::IssueToken | Chore::IssueOperatorToken | Chore::ValidateToken | Chore::ListProjects => {
            ServiceType::Identity
        }
        Chore::ListImages | Chore::ShowImage | Chore::ImageLife => ServiceType::Image,
        // Versions are asked of several; who probes at all has nova.
        Chore::ListServers | Chore::ListFlavors | Chore::ServerLife | Chore::ShowVersions => {
            ServiceType::Compute
        }
        Chore::ListNetworks | Chore::ListPorts | Chore::PortLife | Chore::NetworkLife => ServiceType::Network,
        Chore::ListVolumes | Chore::VolumeLife => ServiceType::Volume,
        Chore::AllocationCandidates | Chore::ListResourceClasses => ServiceType::Placement,
    }
}

impl ProberHandle {
    /// From now on these steps run; samples due from now on carry them.
    pub async fn set_steps(&self, steps: Vec<StepId>) {
        self.context.recorder.set_steps(steps).await;
    }

    /// What an operator should know of this prober: services left out, a small quota, leftovers.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Requests that are unanswered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.context.recorder.in_flight()
    }

    /// Begins nothing more, waits until what was begun has ended (for at most the bound of a
    /// wait and some requests), and deletes what is left. The receiver of samples ends once all
    /// are out; keep reading it meanwhile.
    pub async fn stop(mut self) -> StopReport {
        self.stage.send_replace(Stage::Ending);
        let bound = self.context.wait_max + self.context.user.timeout() / 2;
        let ended = tokio::time::timeout(bound, self.ended.recv()).await;
        let abandoned = if ended.is_ok() { 0 } else { self.in_flight() };
        self.stage.send_replace(Stage::Abandoned);
        let (swept, left) = sweep(&self.context.user, self.volumes, SWEEP_AT_STOP).await;
        StopReport { abandoned, swept, left }
    }
}

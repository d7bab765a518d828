//! What each chore does: single requests, and lives of objects from creation to deletion.
//!
//! Within a life, the next request is due when the one before was answered, as for a user's
//! script; only beginnings and polls keep to the clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use volutus_model::name::RunId;
use volutus_openstack::compute::{self, Attachment, Destination, NewServer};
use volutus_openstack::{Answer, Body, Client, Method, Request, ServiceType, Token, placement, volume};

use crate::exchange::{Expected, Recorder, Subject};
use crate::naming::object_name;
use crate::operation as op;
use crate::schedule::Chore;

/// From one look at an instance or a volume that is waited for to the next, at first.
const POLL: Duration = Duration::from_millis(1_500);

/// The same once the wait has lasted for [`POLL_OFTEN`]: where many things are waited for in
/// vain, looking at all of them every second would itself be the load that keeps them waiting.
const POLL_LATE: Duration = Duration::from_millis(3_000);

/// For how long it is looked often.
const POLL_OFTEN: Duration = Duration::from_secs(10);

/// Instances, and volumes, that exist at the same time at the most. When no instance becomes
/// ACTIVE any more, one is begun every 4.5 s and each is waited for 90 s, so that 20 come
/// together; more can only come from a rate that was set very high.
pub(crate) const LIVES_MAX: usize = 24;

/// Bytes of an uploaded image: enough to take glance's whole way, little enough not to load it.
const IMAGE_BYTES: usize = 4096;

/// Ids of what the prober uses.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    pub image: String,
    pub flavor: String,
    pub network: String,
    pub volume_type: Option<String>,
}

/// Everything that chores share.
pub(crate) struct Context {
    pub user: Client,
    pub operator: Client,
    pub recorder: Recorder,
    pub resources: Resources,
    pub run: RunId,
    /// Bound of every wait.
    pub wait_max: Duration,
    pub servers: Semaphore,
    pub volumes: Semaphore,
    /// Whether to go on.
    pub stage: watch::Receiver<Stage>,
}

/// How far the prober is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It begins what is due.
    Working,
    /// It begins nothing more, and ends what it has begun.
    Ending,
    /// It drops what it has begun.
    Abandoned,
}

/// How a look at something that is waited for turned out.
enum Look {
    /// It is as it should be.
    There,
    /// Not yet; what was seen.
    NotYet(String),
    /// It will never be; what was seen.
    Never(String),
}

impl Context {
    /// Ends when the prober has reached `stage`, or its handle is gone.
    pub(crate) async fn reached(&self, stage: Stage) {
        let mut receiver = self.stage.clone();
        // An error means that the handle was dropped, which abandons everything.
        let _ = receiver.wait_for(|now| *now >= stage).await;
    }

    /// Carries out one chore whose beginning is due now; `number` counts its beginnings.
    pub(crate) async fn perform(self: Arc<Self>, chore: Chore, number: u64, due: Instant) {
        match chore {
            Chore::IssueToken => self.issue_token(&self.user, op::ISSUE_TOKEN, due).await,
            Chore::IssueOperatorToken => {
                self.issue_token(&self.operator, op::ISSUE_OPERATOR_TOKEN, due).await;
            }
            Chore::ImageLife => self.image_life(number, due).await,
            Chore::ServerLife => self.server_life(number, due).await,
            Chore::PortLife => self.port_life(number, due).await,
            Chore::NetworkLife => self.network_life(number, due).await,
            Chore::VolumeLife => self.volume_life(number, due).await,
            Chore::ShowVersions => self.show_versions(number, due).await,
            Chore::ValidateToken
            | Chore::ListProjects
            | Chore::ListImages
            | Chore::ShowImage
            | Chore::ListServers
            | Chore::ListFlavors
            | Chore::ListNetworks
            | Chore::ListPorts
            | Chore::ListVolumes
            | Chore::AllocationCandidates
            | Chore::ListResourceClasses => self.read(chore, due).await,
        }
    }

    async fn send(
        &self,
        operation: &'static str,
        due: Instant,
        request: &Request,
        expected: Expected,
    ) -> Option<Answer> {
        let client = if request.service == ServiceType::Placement { &self.operator } else { &self.user };
        let subject = Subject { service: request.service, operation, due };
        self.recorder.send(client, subject, request, expected).await
    }

    async fn issue_token(&self, client: &Client, operation: &'static str, due: Instant) {
        let subject = Subject { service: ServiceType::Identity, operation, due };
        let expected = Expected::key(&[201], "token");
        let answer = self.recorder.exchange(subject, client.authenticate(), expected).await;
        // A user's program keeps a token for a while; a prober that took every new one would
        // defeat the caches of the services and measure something else.
        const TOKEN_KEPT_S: i64 = 60;
        let Some(answer) = answer else { return };
        let held = client.held_token().await.map(|token| token.issued_at);
        let old = |at: jiff::Timestamp| jiff::Timestamp::now().as_second() - at.as_second();
        if held.is_none_or(|at| old(at) >= TOKEN_KEPT_S)
            && let Ok(token) = Token::from_answer(answer)
        {
            client.adopt(token).await;
        }
    }

    /// What a client that chooses by version looks at before it asks for anything.
    async fn show_versions(&self, number: u64, due: Instant) {
        const SERVICES: [ServiceType; 3] =
            [ServiceType::Compute, ServiceType::Volume, ServiceType::Placement];
        let service = SERVICES[usize::try_from(number % 3).unwrap_or(0)];
        let client = if service == ServiceType::Placement { &self.operator } else { &self.user };
        // A cloud may be without cinder.
        if let Err(volutus_openstack::Error::NoEndpoint { .. }) = client.endpoint(service).await {
            return;
        }
        let subject = Subject { service, operation: op::SHOW_VERSIONS, due };
        self.recorder.versions(subject, client.version_answer(service)).await;
    }

    async fn read(&self, chore: Chore, due: Instant) {
        let get = |service, path: &str| Request::new(Method::GET, service, path);
        let (operation, request, key) = match chore {
            Chore::ValidateToken => {
                let mut request = get(ServiceType::Identity, "/auth/tokens");
                request.own_token_as_subject = true;
                (op::VALIDATE_TOKEN, request, "token")
            }
            Chore::ListProjects => {
                (op::LIST_PROJECTS, get(ServiceType::Identity, "/auth/projects"), "projects")
            }
            Chore::ListImages => (op::LIST_IMAGES, get(ServiceType::Image, "/images?limit=25"), "images"),
            Chore::ShowImage => {
                let path = format!("/images/{}", self.resources.image);
                (op::SHOW_IMAGE, get(ServiceType::Image, &path), "id")
            }
            Chore::ListServers => {
                let request = get(ServiceType::Compute, "/servers/detail?limit=25");
                (op::LIST_SERVERS, request.microversion(compute::MICROVERSION), "servers")
            }
            Chore::ListFlavors => {
                let request = get(ServiceType::Compute, "/flavors?limit=25");
                (op::LIST_FLAVORS, request.microversion(compute::MICROVERSION), "flavors")
            }
            Chore::ListNetworks => {
                (op::LIST_NETWORKS, get(ServiceType::Network, "/networks?limit=25"), "networks")
            }
            Chore::ListPorts => (op::LIST_PORTS, get(ServiceType::Network, "/ports?limit=25"), "ports"),
            Chore::ListVolumes => {
                let request = get(ServiceType::Volume, "/volumes/detail?limit=25");
                (op::LIST_VOLUMES, request.microversion(volume::MICROVERSION), "volumes")
            }
            Chore::AllocationCandidates => {
                let path = "/allocation_candidates?resources=VCPU:1,MEMORY_MB:64&limit=10";
                let request = get(ServiceType::Placement, path);
                let request = request.microversion(placement::MICROVERSION);
                (op::ALLOCATION_CANDIDATES, request, "allocation_requests")
            }
            Chore::ListResourceClasses => {
                let request = get(ServiceType::Placement, "/resource_classes");
                let request = request.microversion(placement::MICROVERSION);
                (op::LIST_RESOURCE_CLASSES, request, "resource_classes")
            }
            Chore::IssueToken
            | Chore::IssueOperatorToken
            | Chore::ImageLife
            | Chore::ServerLife
            | Chore::PortLife
            | Chore::NetworkLife
            | Chore::VolumeLife
            | Chore::ShowVersions => unreachable!("perform sends these elsewhere"),
        };
        self.send(operation, due, &request, Expected::key(&[200], key)).await;
    }

    async fn image_life(&self, number: u64, due: Instant) {
        let name = object_name(&self.run, "image", number);
        let body = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
        let request = Request::new(Method::POST, ServiceType::Image, "/images").json(body);
        let created = self.send(op::CREATE_IMAGE, due, &request, Expected::key(&[201], "id")).await;
        let Some(id) = created.and_then(|answer| id_in(&answer, None)) else {
            return;
        };
        let path = format!("/images/{id}");
        let mut request = Request::new(Method::PUT, ServiceType::Image, format!("{path}/file"));
        request.body = Body::Bytes(vec![b'v'; IMAGE_BYTES]);
        let expected = Expected::status(&[204]);
        self.send(op::UPLOAD_IMAGE, Instant::now(), &request, expected).await;
        let request = Request::new(Method::DELETE, ServiceType::Image, path);
        self.send(op::DELETE_IMAGE, Instant::now(), &request, expected).await;
    }

    async fn port_life(&self, number: u64, due: Instant) {
        let name = object_name(&self.run, "port", number);
        let body = json!({"port": {"name": name, "network_id": self.resources.network}});
        self.network_object("/ports", "port", [op::CREATE_PORT, op::DELETE_PORT], body, due).await;
    }

    async fn network_life(&self, number: u64, due: Instant) {
        let name = object_name(&self.run, "network", number);
        let body = json!({"network": {"name": name}});
        let operations = [op::CREATE_NETWORK, op::DELETE_NETWORK];
        self.network_object("/networks", "network", operations, body, due).await;
    }

    async fn network_object(
        &self,
        path: &str,
        key: &'static str,
        [create, delete]: [&'static str; 2],
        body: Value,
        due: Instant,
    ) {
        let request = Request::new(Method::POST, ServiceType::Network, path).json(body);
        let created = self.send(create, due, &request, Expected::key(&[201], key)).await;
        let Some(id) = created.and_then(|answer| id_in(&answer, Some(key))) else {
            return;
        };
        let request = Request::new(Method::DELETE, ServiceType::Network, format!("{path}/{id}"));
        self.send(delete, Instant::now(), &request, Expected::status(&[204])).await;
    }

    async fn server_life(self: Arc<Self>, number: u64, due: Instant) {
        let Ok(_life) = self.servers.try_acquire() else {
            self.too_many(ServiceType::Compute, op::CREATE_SERVER, due).await;
            return;
        };
        let server = NewServer {
            name: object_name(&self.run, "server", number),
            image: self.resources.image.clone(),
            flavor: self.resources.flavor.clone(),
            attachments: vec![Attachment::Network(self.resources.network.clone())],
            destination: Destination::Anywhere,
        };
        let request = Request::new(Method::POST, ServiceType::Compute, "/servers")
            .microversion(compute::MICROVERSION)
            .json(server.body());
        let expected = Expected::key(&[202], "server");
        let created = self.send(op::CREATE_SERVER, due, &request, expected).await;
        let Some(id) = created.and_then(|answer| id_in(&answer, Some("server"))) else {
            return;
        };
        let path = format!("/servers/{id}");
        let look = Request::new(Method::GET, ServiceType::Compute, &path).microversion(compute::MICROVERSION);
        self.wait(op::BOOT_TO_ACTIVE, op::SHOW_SERVER, due, &look, |answer| {
            state_in(answer, "server", "ACTIVE")
        })
        .await;
        let deleted = Instant::now();
        let request =
            Request::new(Method::DELETE, ServiceType::Compute, path).microversion(compute::MICROVERSION);
        let expected = Expected::status(&[204]);
        if self.send(op::DELETE_SERVER, deleted, &request, expected).await.is_some() {
            self.wait(op::SERVER_TO_GONE, op::SHOW_DELETED_SERVER, deleted, &look, gone).await;
        }
    }

    async fn volume_life(self: Arc<Self>, number: u64, due: Instant) {
        let Ok(_life) = self.volumes.try_acquire() else {
            self.too_many(ServiceType::Volume, op::CREATE_VOLUME, due).await;
            return;
        };
        let name = object_name(&self.run, "volume", number);
        let kind = &self.resources.volume_type;
        let body = json!({"volume": {"name": name, "size": 1, "volume_type": kind}});
        let request = Request::new(Method::POST, ServiceType::Volume, "/volumes")
            .microversion(volume::MICROVERSION)
            .json(body);
        let expected = Expected::key(&[202], "volume");
        let created = self.send(op::CREATE_VOLUME, due, &request, expected).await;
        let Some(id) = created.and_then(|answer| id_in(&answer, Some("volume"))) else {
            return;
        };
        let path = format!("/volumes/{id}");
        let look = Request::new(Method::GET, ServiceType::Volume, &path).microversion(volume::MICROVERSION);
        self.wait(op::VOLUME_TO_AVAILABLE, op::SHOW_VOLUME, due, &look, |answer| {
            state_in(answer, "volume", "available")
        })
        .await;
        let deleted = Instant::now();
        let request =
            Request::new(Method::DELETE, ServiceType::Volume, path).microversion(volume::MICROVERSION);
        let expected = Expected::status(&[202]);
        if self.send(op::DELETE_VOLUME, deleted, &request, expected).await.is_some() {
            self.wait(op::VOLUME_TO_GONE, op::SHOW_DELETED_VOLUME, deleted, &look, gone).await;
        }
    }

    async fn too_many(&self, service: ServiceType, operation: &'static str, due: Instant) {
        let why = format!("prober saturated: {LIVES_MAX} are waited for already");
        self.recorder.record(Subject { service, operation, due }, None, Some(why)).await;
    }

    /// Looks again and again until `judge` is satisfied or the bound is reached, and records the
    /// wait as a sample of its own that is counted from `since`. Each look is a sample too. As
    /// with a client's `--wait`, the next look goes out when the last one was answered: looks
    /// that pile up before a slow cloud would be load that no user makes. The lives themselves
    /// begin on time whatever the cloud does.
    async fn wait(
        self: &Arc<Self>,
        operation: &'static str,
        poll: &'static str,
        since: Instant,
        request: &Request,
        judge: fn(&Answer) -> Look,
    ) {
        // While something is deleted, both its presence and its absence are proper answers;
        // before, absence is not.
        let statuses: &[u16] = match poll {
            op::SHOW_DELETED_SERVER | op::SHOW_DELETED_VOLUME => &[200, 404],
            _ => &[200],
        };
        let end = since + self.wait_max;
        let (mut status, mut last) = (None, "nothing was seen of it".to_owned());
        let mut due = Instant::now() + POLL / 2;
        let fault = loop {
            if due >= end {
                break Some(format!("not after {} s: {last}", self.wait_max.as_secs()));
            }
            tokio::time::sleep_until(due).await;
            match self.send(poll, due, request, Expected::status(statuses)).await {
                None => "the last look failed".clone_into(&mut last),
                Some(answer) => {
                    status = Some(answer.status);
                    match judge(&answer) {
                        Look::There => break None,
                        Look::NotYet(what) => last = what,
                        Look::Never(what) => break Some(what),
                    }
                }
            }
            due = Instant::now() + if due - since < POLL_OFTEN { POLL } else { POLL_LATE };
        };
        let subject = Subject { service: request.service, operation, due: since };
        self.recorder.record(subject, status, fault).await;
    }
}

fn id_in(answer: &Answer, key: Option<&str>) -> Option<String> {
    let body: Value = answer.json().ok()?;
    let part = match key {
        Some(key) => body.get(key)?,
        None => &body,
    };
    part.get("id")?.as_str().map(str::to_owned)
}

/// Judges by the `status` of the object under `key`.
fn state_in(answer: &Answer, key: &str, wanted: &str) -> Look {
    let body: Value = answer.json().unwrap_or_default();
    let status = body[key]["status"].as_str().unwrap_or("(none)");
    if status == wanted {
        Look::There
    } else if status.to_ascii_lowercase().starts_with("error") {
        let fault = body[key]["fault"]["message"].as_str().unwrap_or("no fault is given");
        Look::Never(format!("status {status}: {fault}"))
    } else {
        Look::NotYet(format!("status {status}"))
    }
}

fn gone(answer: &Answer) -> Look {
    if answer.status == 404 {
        return Look::There;
    }
    let body: Value = answer.json().unwrap_or_default();
    let object = body.get("server").or_else(|| body.get("volume"));
    let status = object.and_then(|object| object["status"].as_str()).unwrap_or("(none)");
    // nova shows an instance for a moment longer, as DELETED; cinder says why it cannot delete.
    match status {
        "DELETED" => Look::There,
        "error_deleting" => Look::Never("status error_deleting".to_owned()),
        _ => Look::NotYet(format!("still there, status {status}")),
    }
}

//! One request, one sample.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::Instant;
use volutus_model::name::{ServiceName, StepId};
use volutus_model::probe::{DATA_PLANE, Sample, SampleResult};
use volutus_openstack::{Answer, Client, Request, ServiceType, highest_of};

/// Requests in flight at the most. At the nominal rate it is what a cloud leaves unanswered
/// within 14 s; a real user's patience and this machine's sockets end somewhere there.
pub(crate) const IN_FLIGHT_MAX: usize = 200;

/// For how long it is remembered which steps ran: longer than any request or wait lasts.
const STEPS_KEPT: Duration = Duration::from_secs(900);

/// Which steps ran from when on, oldest first.
type StepHistory = VecDeque<(Instant, Vec<StepId>)>;

/// What an answer has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// One of these statuses.
    pub statuses: &'static [u16],
    /// A JSON object with this key.
    pub key: Option<&'static str>,
}

impl Expected {
    pub(crate) const fn status(statuses: &'static [u16]) -> Self {
        Self { statuses, key: None }
    }

    pub(crate) const fn key(statuses: &'static [u16], key: &'static str) -> Self {
        Self { statuses, key: Some(key) }
    }

    /// What is wrong with an answer, if anything.
    fn fault(self, answer: &Answer) -> Option<String> {
        if !self.statuses.contains(&answer.status) {
            return Some(answer.message());
        }
        let key = self.key?;
        match answer.json::<Value>() {
            // Bodies of 204 and 404 have no part to look for.
            _ if answer.status >= 300 || answer.status == 204 => None,
            Ok(body) if body.get(key).is_some() => None,
            _ => Some(format!("the answer has no `{key}`: {}", answer.beginning())),
        }
    }
}

/// Where samples go to, and what they are marked with. Cloning shares.
#[derive(Clone)]
pub(crate) struct Recorder {
    samples: mpsc::Sender<Sample>,
    permits: Arc<Semaphore>,
    steps: Arc<Mutex<StepHistory>>,
}

/// What a request was for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub service: ServiceType,
    pub operation: &'static str,
    pub due: Instant,
}

impl Recorder {
    pub(crate) fn new(samples: mpsc::Sender<Sample>) -> Self {
        Self {
            samples,
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            steps: Arc::new(Mutex::new(VecDeque::from([(Instant::now(), Vec::new())]))),
        }
    }

    /// From now on these steps run.
    pub(crate) async fn set_steps(&self, steps: Vec<StepId>) {
        let now = Instant::now();
        let mut history = self.steps.lock().await;
        history.push_back((now, steps));
        // The last entry before the horizon still holds at the horizon, so one is left.
        while history.get(1).is_some_and(|(at, _)| now.duration_since(*at) > STEPS_KEPT) {
            history.pop_front();
        }
    }

    async fn steps_at(&self, due: Instant) -> Vec<StepId> {
        let history = self.steps.lock().await;
        let entry = history.iter().rev().find(|(since, _)| *since <= due);
        entry.map(|(_, steps)| steps.clone()).unwrap_or_default()
    }

    /// Requests in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        IN_FLIGHT_MAX - self.permits.available_permits()
    }

    /// Makes a request once and records it. The answer, where it was as expected.
    pub(crate) async fn send(
        &self,
        client: &Client,
        subject: Subject,
        request: &Request,
        expected: Expected,
    ) -> Option<Answer> {
        self.exchange(subject, client.attempt(request), expected).await
    }

    /// Like [`Recorder::send`], for a request that is a future of its own.
    pub(crate) async fn exchange(
        &self,
        subject: Subject,
        request: impl Future<Output = Result<Answer, volutus_openstack::Error>>,
        expected: Expected,
    ) -> Option<Answer> {
        self.told(subject, request, expected, |_| None).await
    }

    /// Like [`Recorder::exchange`], for a version document: what it advertises is recorded as well.
    pub(crate) async fn versions(
        &self,
        subject: Subject,
        request: impl Future<Output = Result<Answer, volutus_openstack::Error>>,
    ) {
        self.told(subject, request, Expected::status(&[200, 300]), highest_of).await;
    }

    async fn told(
        &self,
        subject: Subject,
        request: impl Future<Output = Result<Answer, volutus_openstack::Error>>,
        expected: Expected,
        advertised: fn(&Answer) -> Option<String>,
    ) -> Option<Answer> {
        let Ok(permit) = self.permits.try_acquire() else {
            let why = format!("prober saturated: {IN_FLIGHT_MAX} requests are unanswered");
            self.record(subject, None, Some(why)).await;
            return None;
        };
        let outcome = request.await;
        // Latency ends here, before anything of the prober's own is waited for.
        let answered = Instant::now();
        drop(permit);
        match outcome {
            Ok(answer) => {
                let fault = expected.fault(&answer);
                let good = fault.is_none();
                self.record_at(subject, answered, Some(answer.status), fault, advertised(&answer)).await;
                good.then_some(answer)
            }
            Err(error) => {
                self.record_at(subject, answered, error.status(), Some(error.to_string()), None).await;
                None
            }
        }
    }

    /// Records something that ended now.
    pub(crate) async fn record(&self, subject: Subject, status: Option<u16>, fault: Option<String>) {
        self.record_at(subject, Instant::now(), status, fault, None).await;
    }

    async fn record_at(
        &self,
        subject: Subject,
        ended: Instant,
        status: Option<u16>,
        fault: Option<String>,
        advertised: Option<String>,
    ) {
        let Subject { service, operation, due } = subject;
        self.put(service_name(service), operation, (due, ended), status, fault, advertised).await;
    }

    /// Records an attempt to reach something of the data plane that ended now.
    pub(crate) async fn record_reach(&self, operation: &str, due: Instant, fault: Option<String>) {
        let service = ServiceName::new(DATA_PLANE).expect("a plain word");
        self.put(service, operation, (due, Instant::now()), None, fault, None).await;
    }

    async fn put(
        &self,
        service: ServiceName,
        operation: &str,
        (due, ended): (Instant, Instant),
        status: Option<u16>,
        fault: Option<String>,
        advertised: Option<String>,
    ) {
        let ago = Instant::now().duration_since(due);
        let due_us = Timestamp::now().as_microsecond() - i64::try_from(ago.as_micros()).unwrap_or(0);
        let sample = Sample {
            due_us,
            latency_ms: ended.duration_since(due).as_secs_f64() * 1000.0,
            service,
            operation: operation.to_owned(),
            status,
            result: match fault {
                None => SampleResult::Ok,
                Some(why) => SampleResult::Failed { why },
            },
            steps: self.steps_at(due).await,
            advertised,
        };
        if self.samples.send(sample).await.is_err() {
            tracing::debug!(operation, "nobody reads samples any more");
        }
    }
}

/// The project's name as a service name.
pub(crate) fn service_name(service: ServiceType) -> ServiceName {
    ServiceName::new(service.project()).expect("names of projects are plain words")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(due: Instant) -> Subject {
        Subject { service: ServiceType::Compute, operation: "list servers", due }
    }

    #[tokio::test(start_paused = true)]
    async fn samples_carry_the_steps_that_ran_when_they_were_due() {
        let (sender, mut samples) = mpsc::channel(10);
        let recorder = Recorder::new(sender);
        let step = StepId::new("roll/nova-api@ctl1").unwrap();
        let before = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        recorder.set_steps(vec![step.clone()]).await;
        tokio::time::advance(Duration::from_millis(10)).await;
        recorder.record(subject(before), Some(200), None).await;
        recorder.record(subject(Instant::now()), Some(200), None).await;
        let (first, second) = (samples.recv().await.unwrap(), samples.recv().await.unwrap());
        assert!(first.steps.is_empty());
        assert!((first.latency_ms - 20.0).abs() < 1e-6, "{}", first.latency_ms);
        assert_eq!(second.steps, vec![step]);
        assert_eq!(second.service.as_str(), "nova");
    }

    #[tokio::test(start_paused = true)]
    async fn a_saturated_prober_records_a_failure() {
        let (sender, mut samples) = mpsc::channel(10);
        let recorder = Recorder::new(sender);
        let _held = recorder.permits.acquire_many(IN_FLIGHT_MAX as u32).await.unwrap();
        let never = std::future::pending();
        let answer = recorder.exchange(subject(Instant::now()), never, Expected::status(&[200])).await;
        assert!(answer.is_none());
        let SampleResult::Failed { why } = samples.recv().await.unwrap().result else {
            panic!("a saturated prober must not say Ok")
        };
        assert!(why.starts_with("prober saturated"), "{why}");
    }
}

//! The canary instance on a host that was just enabled, against APIs of this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;
mod support;

use serde_json::{Value, json};
use volutus_model::outcome::Outcome;

/// A nova that finds no host for its first instances, or builds none.
struct Nova {
    /// So many instances get the fault.
    faults: u32,
    fault: &'static str,
    /// Instances that were made.
    made: u32,
    /// Whether the last one is there.
    there: bool,
}

impl api::Answers for Nova {
    fn answer(&mut self, line: &str, body: &str) -> (u16, Value) {
        match line {
            "GET /compute/v2.1/os-services?binary=nova-compute&host=c1" => {
                let service = json!({"id": "s", "binary": "nova-compute", "host": "c1", "zone": "z", "status": "enabled",
                    "state": "up"});
                (200, json!({"services": [service]}))
            }
            "GET /image/v2/images?name=i&status=active" => {
                (200, json!({"images": [{"id": "i", "status": "active"}]}))
            }
            "GET /compute/v2.1/flavors/detail" => {
                let flavor = json!({"id": "f", "name": "f", "vcpus": 1, "ram": 64, "disk": 0});
                (200, json!({"flavors": [flavor]}))
            }
            "GET /network/v2.0/networks?name=n" => (200, json!({"networks": [{"id": "n", "name": "n"}]})),
            "POST /compute/v2.1/servers" => {
                assert!(!self.there && body.contains(r#""host":"c1""#), "{body}");
                self.made += 1;
                self.there = true;
                (202, json!({"server": {"id": "v"}}))
            }
            "GET /compute/v2.1/servers/v" if !self.there => (404, json!({"itemNotFound": {"message": "v"}})),
            "GET /compute/v2.1/servers/v" => {
                let mut server =
                    json!({"id": "v", "name": "v", "status": "ACTIVE", "OS-EXT-SRV-ATTR:host": "c1"});
                if self.made <= self.faults {
                    server["status"] = json!("ERROR");
                    server["fault"] = json!({"code": 500, "message": self.fault, "created": "now"});
                }
                (200, json!({"server": server}))
            }
            "DELETE /compute/v2.1/servers/v" => {
                self.there = false;
                (204, Value::Null)
            }
            "GET /network/v2.0/ports?device_id=v" => {
                let port = json!({"id": "p", "status": "ACTIVE", "device_id": "v", "network_id": "n",
                    "binding:vif_type": "ovs"});
                (200, json!({"ports": [port]}))
            }
            other => panic!("an API is asked {other}: {body}"),
        }
    }
}

/// Boots one on `c1`: what came of it, and how many instances were made.
async fn boot(faults: u32, fault: &'static str) -> (Outcome, u32) {
    let nova = Nova { faults, fault, made: 0, there: false };
    let (outcome, nova) = api::perform(nova, json!({"action": "boot-canary", "host": "c1"})).await;
    let nova = nova.lock().unwrap();
    assert!(!nova.there, "the instance is left behind");
    (outcome, nova.made)
}

#[tokio::test]
async fn a_host_that_nova_does_not_offer_yet_is_asked_for_again() {
    let (outcome, made) = boot(1, "No valid host was found. ").await;
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(made, 2);
}

#[tokio::test]
async fn a_host_that_does_not_build_it_is_not_asked_again() {
    let (outcome, made) = boot(9, "Exceeded maximum number of retries. Exhausted all hosts").await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert!(failure.message.contains("Exhausted all hosts"), "{}", failure.message);
    assert_eq!(made, 1);
}

//! A network node with neutron's own agents (ML2/OVS) that is emptied and goes away: its networks are served,
//! its routers are carried by others meanwhile, and all is as before once it is back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use volutus_e2e::guests::Guests;
use volutus_openstack::{Method, ServiceType};

use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, Ran, World, run, wait_until};

/// Containers restart in seconds, and nothing is measured here.
const POLICY: &str = "\
baseline_s = 0
soak_s = 0

[reboot.moves]
overhead_s = 15

[reboot.act]
reboot_s = 60
prove_s = 30
";

/// A router that only one agent carries, and its own network.
const LONE: &str = "lone";
/// The network in which DHCP is asked for, and the canary's name space and port there.
const NETWORK: &str = "alpha-net";
const CANARY: &str = "alpha";

struct Scene<'a> {
    world: &'a World,
    lab: &'a Lab<'a>,
    cloud: Guests,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World, lab: &'a Lab<'a>) -> anyhow::Result<Self> {
        std::fs::write(lab.folder().join("agents.toml"), POLICY)?;
        Ok(Self { world, lab, cloud: Guests::of(&lab.cloud())? })
    }

    fn volutus(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        println!("  volutus {}", arguments.join(" "));
        let policy = self.lab.folder().join("agents.toml");
        run(self.world.volutus(&self.lab.cloud()).arg("--policy").arg(policy).args(arguments))
    }

    fn network(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        codes: &[u16],
    ) -> anyhow::Result<Value> {
        self.cloud.ask(method, ServiceType::Network, path, body, codes)
    }

    fn list(&self, path: &str, key: &str) -> anyhow::Result<Vec<Value>> {
        let answer = self.network(Method::GET, path, None, &[200])?;
        answer[key].as_array().cloned().with_context(|| format!("no {key} in the answer to {path}"))
    }

    /// The id of what has a name.
    fn id(&self, what: &str, name: &str) -> anyhow::Result<String> {
        let found = self.list(&format!("/{what}?name={name}"), what)?;
        Ok(text_at(found.first().with_context(|| format!("no {name}"))?, &["id"])?.to_owned())
    }

    /// Hosts whose DHCP agents serve a network.
    fn dhcp_hosts(&self, network: &str) -> anyhow::Result<BTreeSet<String>> {
        hosts(&self.list(&format!("/networks/{network}/dhcp-agents"), "agents")?)
    }

    /// Hosts whose L3 agents carry a router.
    fn l3_hosts(&self, router: &str) -> anyhow::Result<BTreeSet<String>> {
        hosts(&self.list(&format!("/routers/{router}/l3-agents"), "agents")?)
    }

    /// The hosts on which HA routers are active.
    fn active(&self) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
        let mut found = BTreeMap::new();
        for router in self.list("/routers", "routers")?.iter().filter(|router| router["ha"] == true) {
            let agents = self.list(&format!("/routers/{}/l3-agents", text_at(router, &["id"])?), "agents")?;
            let active: Vec<Value> = agents.into_iter().filter(|one| one["ha_state"] == "active").collect();
            found.insert(text_at(router, &["name"])?.to_owned(), hosts(&active)?);
        }
        Ok(found)
    }

    /// Ids and addresses of the DHCP servers of a network.
    fn dhcp_ports(&self, network: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let ports = self.list(&format!("/ports?network_id={network}&device_owner=network:dhcp"), "ports")?;
        ports
            .into_iter()
            .map(|port| Ok((text_at(&port, &["id"])?.to_owned(), port["fixed_ips"].clone())))
            .collect()
    }

    /// Asks for an address by DHCP in a tenant's network, as an instance does.
    fn ask_dhcp(&self) -> anyhow::Result<Ran> {
        // -n: fails rather than go on; -q: ends with a lease; the script sets nothing.
        let ask = format!(
            "ip netns exec canary-{CANARY} udhcpc -i cn-{CANARY} -f -n -q -t 5 -T 2 -s /bin/true 2>&1"
        );
        self.lab.exec("infra1", &ask)?.expect(0, &["obtained"])
    }

    /// All that Volutus left in neutron.
    fn marks(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (path, key) in [("/networks", "networks"), ("/routers", "routers"), ("/agents", "agents")] {
            for one in self.list(path, key)? {
                let text = json!([one["tags"], one["description"]]).to_string();
                if text.contains("volutus:") {
                    found.push(format!("{key} {}: {text}", one["id"]));
                }
            }
        }
        Ok(found)
    }

    /// Every guest answers, from inside and outside.
    fn guests_answer(&self) -> anyhow::Result<()> {
        self.lab.check_guests()
    }

    /// A router that no second agent may carry, with a network of its own.
    fn make_lone(&self) -> anyhow::Result<String> {
        let network = json!({"network": {"name": LONE}});
        let network = self.network(Method::POST, "/networks", Some(network), &[201])?;
        let subnet = json!({"subnet": {
            "network_id": network["network"]["id"], "ip_version": 4, "cidr": "198.51.100.0/24",
        }});
        let subnet = self.network(Method::POST, "/subnets", Some(subnet), &[201])?;
        let gateway = self.id("networks", "outer")?;
        let router = json!({"router": {
            "name": LONE, "ha": false, "external_gateway_info": {"network_id": gateway},
        }});
        let router = self.network(Method::POST, "/routers", Some(router), &[201])?;
        let id = text_at(&router, &["router", "id"])?.to_owned();
        let interface = json!({"subnet_id": subnet["subnet"]["id"]});
        self.network(Method::PUT, &format!("/routers/{id}/add_router_interface"), Some(interface), &[200])?;
        Ok(id)
    }

    /// The address of a router outside.
    fn outer_address(&self, router: &str) -> anyhow::Result<String> {
        let router = self.network(Method::GET, &format!("/routers/{router}"), None, &[200])?;
        let addresses = router["router"]["external_gateway_info"]["external_fixed_ips"].clone();
        Ok(text_at(&addresses[0], &["ip_address"])?.to_owned())
    }

    fn answers(&self, address: &str) -> anyhow::Result<bool> {
        Ok(self.lab.exec("ctl1", &format!("ping -n -q -c 1 -W 1 {address}"))?.code == 0)
    }
}

fn hosts(agents: &[Value]) -> anyhow::Result<BTreeSet<String>> {
    agents.iter().map(|agent| Ok(text_at(agent, &["host"])?.to_owned())).collect()
}

pub fn duties_are_told(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let scene = Scene::new(world, lab)?;
    wait_until("every HA router is active on one host", 300, || {
        Ok(scene.active()?.values().all(|hosts| hosts.len() == 1))
    })?;
    let plan = scene.volutus(&["plan", "--reboot", "--output", "json"])?.expect(0, &[])?.json()?;
    let id = text_at(&plan, &["id"])?;
    let told = scene.volutus(&["plan", "show", id])?.expect(0, &["a second DHCP agent", "HA routers"])?;
    ensure!(!told.stdout.contains("duties-without-another-agent"), "{}", told.stdout);
    Ok(())
}

pub fn away_and_back(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab)?;
    let (network, lone) = (scene.id("networks", NETWORK)?, scene.make_lone()?);
    let address = scene.outer_address(&lone)?;
    wait_until("the router answers", 120, || scene.answers(&address))?;
    // The host that serves the network's addresses; the router is to be there, too.
    let serving = scene.dhcp_hosts(&network)?;
    ensure!(serving.len() == 1, "{NETWORK} is served by {serving:?}");
    let host = serving.first().context("nobody serves")?.clone();
    move_router(&scene, &lone, &host)?;
    wait_until("the router answers from there", 120, || scene.answers(&address))?;
    scene.ask_dhcp()?;
    let ports = scene.dhcp_ports(&network)?;

    scene.volutus(&["drain", &host, "--yes"])?.expect(0, &[])?;
    let others = scene.dhcp_hosts(&network)?;
    ensure!(others.len() == 2 && others.contains(&host), "{NETWORK} is served by {others:?}");
    let carrying = scene.l3_hosts(&lone)?;
    ensure!(carrying.len() == 1 && !carrying.contains(&host), "{LONE} is carried by {carrying:?}");
    let active = scene.active()?;
    ensure!(active.values().all(|on| on.iter().any(|one| *one != host)), "{active:?}");
    scene.guests_answer()?;
    ensure!(scene.answers(&address)?, "the router does not answer from {carrying:?}");
    // What nobody serves any more would be missed now.
    lab.fault(&["power-off", &host])?;
    scene.ask_dhcp().context("no address by DHCP while the host is away")?;
    scene.guests_answer().context("while the host is away")?;
    ensure!(scene.answers(&address)?, "the router does not answer while the host is away");
    lab.fault(&["power-off", "--undo", &host])?;
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;

    ensure!(scene.marks()?.is_empty(), "marks are left: {:?}", scene.marks()?);
    ensure!(scene.dhcp_hosts(&network)? == serving, "{NETWORK}: {:?}", scene.dhcp_hosts(&network)?);
    let after = scene.dhcp_ports(&network)?;
    ensure!(after == ports, "the DHCP server has moved: {ports:?}, now {after:?}");
    ensure!(scene.l3_hosts(&lone)? == serving, "{LONE}: {:?}", scene.l3_hosts(&lone)?);
    wait_until("the router answers from there", 60, || scene.answers(&address))?;
    scene.ask_dhcp()?;
    scene.guests_answer()
}

/// Puts a router onto the L3 agent of a host.
fn move_router(scene: &Scene, router: &str, host: &str) -> anyhow::Result<()> {
    let agents = scene.list(&format!("/routers/{router}/l3-agents"), "agents")?;
    if hosts(&agents)?.contains(host) {
        return Ok(());
    }
    for agent in &agents {
        let path = format!("/agents/{}/l3-routers/{router}", text_at(agent, &["id"])?);
        scene.network(Method::DELETE, &path, None, &[204])?;
    }
    let found = scene.list(&format!("/agents?host={host}&binary=neutron-l3-agent"), "agents")?;
    let id = text_at(found.first().context("the host has no L3 agent")?, &["id"])?;
    let body = json!({"router_id": router});
    scene.network(Method::POST, &format!("/agents/{id}/l3-routers"), Some(body), &[201]).map(drop)
}

pub fn all_restart(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab)?;
    let places = scene.cloud.places()?;
    let moved = scene.cloud.moves(&places)?;
    let networks: Vec<String> = scene
        .list("/networks", "networks")?
        .iter()
        .map(|one| Ok(text_at(one, &["id"])?.to_owned()))
        .collect::<anyhow::Result<_>>()?;
    let ports = || networks.iter().map(|id| scene.dhcp_ports(id)).collect::<anyhow::Result<Vec<_>>>();
    let before = ports()?;
    let plan = scene.volutus(&["plan", "--reboot", "--output", "json"])?.expect(0, &[])?.json()?;
    let id = text_at(&plan, &["id"])?;
    scene.volutus(&["approve", id])?.expect(0, &[])?;
    scene.volutus(&["run", id])?.expect(0, &[])?;
    ensure!(scene.marks()?.is_empty(), "marks are left: {:?}", scene.marks()?);
    let after = ports()?;
    ensure!(after == before, "DHCP servers have moved: {before:?}, now {after:?}");
    for (id, times) in scene.cloud.moves(&places)? {
        ensure!(times <= moved[&id] + 1, "{id} was moved {} times", times - moved[&id]);
    }
    ensure!(scene.cloud.places()?.len() == places.len(), "instances are gone or do not run");
    scene.guests_answer()
}

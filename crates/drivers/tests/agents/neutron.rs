//! A small neutron with agents: what its API keeps, and what its DHCP, L3 and layer 2 agents make of it a
//! moment later. Source of both: neutron, `db/agentschedulers_db.py`, `db/l3_agentschedulers_db.py`,
//! `db/l3_hamode_db.py`, `agent/dhcp/agent.py`, `agent/linux/dhcp.py`, `agent/l3/agent.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// An agent. Its id is its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub kind: &'static str,
    pub host: &'static str,
    pub mode: &'static str,
    pub zone: &'static str,
    pub up: bool,
    pub alive: bool,
    pub description: Value,
    /// Reports, and what was reported last.
    pub reports: u32,
    pub count: usize,
}

/// A network or router.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// Who is to serve it, by ids of agents.
    pub agents: Vec<String>,
    pub tags: BTreeSet<String>,
    pub ha: bool,
    pub distributed: bool,
    pub physical: Option<&'static str>,
    /// Where an HA router is active.
    pub active: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub network: String,
    pub device: String,
    pub owner: &'static str,
    pub status: &'static str,
    pub host: String,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Neutron {
    pub agents: BTreeMap<String, Agent>,
    pub networks: BTreeMap<String, Served>,
    pub routers: BTreeMap<String, Served>,
    pub ports: BTreeMap<String, Port>,
    /// Physical networks by host.
    pub wires: BTreeMap<&'static str, Vec<&'static str>>,
    /// Agents serve although they are disabled (`enable_services_on_agents_with_admin_state_down`).
    pub serves_disabled: bool,
    /// Looks after which agents have done what was asked for, and of these how many are left.
    pub slow: u32,
    pub lag: u32,
    /// How many ports were made.
    pub made: u32,
    pub address: String,
    /// Changes that are carried out before the network goes; the last of them is left unanswered.
    pub left: Option<u32>,
    /// Changes that were asked for.
    pub changes: Vec<String>,
    /// What nobody served at some moment though somebody should have.
    pub lost: BTreeSet<String>,
}

fn dhcp_device(agent: &str, network: &str) -> String {
    format!("dhcp-{agent}-{network}")
}

impl Neutron {
    pub fn agent(&mut self, id: &str, kind: &'static str, host: &'static str, mode: &'static str) {
        let agent = Agent {
            kind,
            host,
            mode,
            zone: "z",
            up: true,
            alive: true,
            description: Value::Null,
            reports: 0,
            count: 0,
        };
        self.agents.insert(id.to_owned(), agent);
    }

    pub fn network(&mut self, id: &str, agents: &[&str]) {
        let agents = agents.iter().map(|id| (*id).to_owned()).collect();
        self.networks.insert(id.to_owned(), Served { agents, ..Served::default() });
    }

    /// A router between `n1` and `outside`.
    pub fn router(&mut self, id: &str, agents: &[&str], ha: bool) {
        let router =
            Served { agents: agents.iter().map(|id| (*id).to_owned()).collect(), ha, ..Served::default() };
        self.routers.insert(id.to_owned(), router);
        for (owner, network) in [("network:router_interface", "n1"), ("network:router_gateway", "outside")] {
            self.add_port(network, id, owner, "", "DOWN");
        }
        for agent in agents.iter().filter(|_| ha) {
            let host = self.agents[*agent].host;
            self.add_port("ha-net", id, "network:router_ha_interface", host, "DOWN");
        }
    }

    fn add_port(
        &mut self,
        network: &str,
        device: &str,
        owner: &'static str,
        host: &str,
        status: &'static str,
    ) {
        self.made += 1;
        let (network, device, host) = (network.to_owned(), device.to_owned(), host.to_owned());
        self.ports.insert(format!("port{:04}", self.made), Port { network, device, owner, status, host });
    }

    fn works(&self, id: &str) -> bool {
        let agent = &self.agents[id];
        agent.alive && (agent.up || self.serves_disabled)
    }

    /// What agents make of what was asked for.
    pub fn settle(&mut self) {
        let ids: Vec<String> = self.agents.keys().cloned().collect();
        for id in &ids {
            let Agent { kind, alive, .. } = self.agents[id];
            match kind {
                "DHCP agent" if alive => self.settle_dhcp(id),
                "L3 agent" if alive => self.settle_l3(id),
                _ => {}
            }
        }
        self.settle_ha();
        self.watch();
    }

    fn settle_dhcp(&mut self, id: &str) {
        let host = self.agents[id].host;
        let mut count = 0;
        // Nobody answers DHCP outside.
        let networks: Vec<String> = self.networks.keys().filter(|id| *id != "outside").cloned().collect();
        for network in networks {
            let device = dhcp_device(id, &network);
            if !self.works(id) || !self.networks[&network].agents.iter().any(|agent| agent == id) {
                self.ports.retain(|_, port| port.device != device);
                continue;
            }
            count += 1;
            let own = self.ports.values_mut().find(|port| port.device == device);
            let reserved = |port: &&mut Port| port.device == "reserved_dhcp_port" && port.network == network;
            match own {
                Some(port) => port.status = "ACTIVE",
                None => match self.ports.values_mut().find(reserved) {
                    Some(port) => {
                        (port.device, port.host, port.status) = (device, host.to_owned(), "ACTIVE");
                    }
                    None => self.add_port(&network, &device, "network:dhcp", host, "ACTIVE"),
                },
            }
        }
        self.agents.get_mut(id).unwrap().count = count;
    }

    fn settle_l3(&mut self, id: &str) {
        let (host, works) = (self.agents[id].host, self.works(id));
        let mut count = 0;
        for (router, served) in &self.routers {
            let here = served.agents.iter().any(|agent| agent == id);
            count += usize::from(here && works);
            for port in self.ports.values_mut().filter(|port| port.device == *router) {
                let there = port.host == host;
                if port.owner == "network:router_ha_interface" && there {
                    port.status = if here && works { "ACTIVE" } else { "DOWN" };
                } else if !served.ha && port.owner != "network:router_ha_interface" {
                    if here && works {
                        (port.host, port.status) = (host.to_owned(), "ACTIVE");
                    } else if there {
                        port.status = "DOWN";
                    }
                }
            }
        }
        self.agents.get_mut(id).unwrap().count = count;
    }

    fn settle_ha(&mut self) {
        let works: BTreeSet<String> = self.agents.keys().filter(|id| self.works(id)).cloned().collect();
        for router in self.routers.values_mut().filter(|router| router.ha) {
            // No preemption: who is active stays so.
            if !router.active.as_ref().is_some_and(|at| works.contains(at) && router.agents.contains(at)) {
                router.active = router.agents.iter().find(|agent| works.contains(*agent)).cloned();
            }
        }
    }

    /// Whether somebody answers and routes, everywhere.
    fn watch(&mut self) {
        for (id, network) in self.networks.iter().filter(|(id, _)| *id != "outside") {
            let served = network.agents.iter().any(|agent| {
                let device = dhcp_device(agent, id);
                self.works(agent)
                    && self.ports.values().any(|port| port.device == device && port.status == "ACTIVE")
            });
            if !served {
                self.lost.insert(format!("network {id}"));
            }
        }
        for (id, router) in &self.routers {
            if router.ha && router.active.is_none() {
                self.lost.insert(format!("router {id}"));
            }
        }
    }

    /// The host goes, for so long that neutron takes its networks away where it may, and comes back.
    pub fn restart(&mut self, host: &str, failover: bool) {
        let here: Vec<String> =
            self.agents.iter().filter(|(_, agent)| agent.host == host).map(|(id, _)| id.clone()).collect();
        for id in &here {
            self.agents.get_mut(id).unwrap().alive = false;
        }
        self.settle_ha();
        self.watch();
        let on_this_host_alone: Vec<String> = self
            .routers
            .iter()
            .filter(|(_, router)| router.agents.iter().all(|agent| here.contains(agent)))
            .map(|(id, _)| format!("router {id}"))
            .collect();
        self.lost.extend(on_this_host_alone);
        let networks: Vec<String> = self.networks.keys().filter(|_| failover).cloned().collect();
        for id in &here {
            for network in &networks {
                self.remove_dhcp(id, network);
            }
        }
        for port in self.ports.values_mut().filter(|port| port.host == host) {
            port.status = "DOWN";
        }
        for id in &here {
            let agent = self.agents.get_mut(id).unwrap();
            (agent.alive, agent.count) = (true, 0);
        }
        self.lag = self.slow;
    }

    fn remove_dhcp(&mut self, agent: &str, network: &str) -> bool {
        let Some(served) = self.networks.get_mut(network) else { return false };
        let before = served.agents.len();
        served.agents.retain(|id| id != agent);
        let device = dhcp_device(agent, network);
        for port in self.ports.values_mut().filter(|port| port.device == device) {
            port.device = "reserved_dhcp_port".to_owned();
        }
        self.networks[network].agents.len() < before
    }

    /// Everything that has to be as before when all is given back.
    pub fn picture(&self) -> String {
        let agents =
            self.agents.iter().map(|(id, agent)| format!("{id} {} {}\n", agent.up, agent.description));
        let served = self.networks.iter().chain(&self.routers).map(|(id, served)| {
            let agents: BTreeSet<&String> = served.agents.iter().collect();
            format!("{id} {agents:?} {:?}\n", served.tags)
        });
        let ports = self.ports.iter().map(|(id, port)| format!("{id} {port:?}\n"));
        agents.chain(served).chain(ports).collect()
    }

    fn answer(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/v3/auth/tokens" {
            let endpoint = json!({"interface": "public", "region": "R", "region_id": "R",
                "url": format!("http://{}/network", self.address)});
            let catalog = json!([{"type": "network", "endpoints": [endpoint]}]);
            let token = json!({"expires_at": "2999-01-01T00:00:00.000000Z", "user": {"id": "u", "name": "n"},
                "project": {"id": "p", "name": "n"}, "catalog": catalog});
            return (201, json!({ "token": token }));
        }
        let Some(path) = path.strip_prefix("/network/v2.0/") else { return (404, json!({})) };
        let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            asked.entry(key.to_owned()).or_default().push(unquote(value));
        }
        if method == "GET" {
            self.lag = self.lag.saturating_sub(1);
            if self.lag == 0 {
                self.settle();
            }
        } else {
            self.changes.push(format!("{method} {path}"));
            self.lag = self.slow;
        }
        let path: Vec<String> = path.split('/').map(unquote).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (method, path.as_slice()) {
            ("GET", ["agents"]) => (200, json!({"agents": self.list_agents(&asked)})),
            ("GET", ["agents", id, "dhcp-networks"]) => (200, json!({"networks": self.networks_of(id)})),
            ("GET", ["agents", id, "l3-routers"]) => (200, json!({"routers": self.routers_of(id)})),
            ("GET", ["networks", id, "dhcp-agents"]) => (200, json!({"agents": self.hosting(id)})),
            ("GET", ["routers", id, "l3-agents"]) => (200, json!({"agents": self.carrying(id)})),
            ("GET", [list]) => (200, json!({(*list): self.list(list, &asked)})),
            ("PUT", ["agents", id]) => self.update_agent(id, &body["agent"]),
            ("PUT" | "DELETE", [list, id, "tags", tag]) => self.tag(method, list, id, tag),
            ("POST", ["agents", id, "dhcp-networks"]) => {
                self.add_dhcp(id, body["network_id"].as_str().unwrap())
            }
            ("POST", ["agents", id, "l3-routers"]) => {
                self.add_router(id, body["router_id"].as_str().unwrap())
            }
            ("DELETE", ["agents", id, "dhcp-networks", network]) => {
                (if self.remove_dhcp(id, network) { 204 } else { 409 }, Value::Null)
            }
            ("DELETE", ["agents", id, "l3-routers", router]) => {
                let router = self.routers.get_mut(*router).unwrap();
                router.agents.retain(|agent| agent != id);
                (204, Value::Null)
            }
            ("DELETE", ["ports", id]) => {
                (if self.ports.remove(*id).is_some() { 204 } else { 404 }, Value::Null)
            }
            _ => panic!("a request that this neutron does not know: {method} {target}"),
        }
    }

    fn list_agents(&mut self, asked: &BTreeMap<String, Vec<String>>) -> Vec<Value> {
        // Agents report every moment.
        for agent in self.agents.values_mut().filter(|agent| agent.alive) {
            agent.reports += 1;
        }
        let wanted = |key: &str, value: &str| {
            asked.get(key).is_none_or(|values| values.iter().any(|one| one == value))
        };
        let found = self.agents.iter();
        let found = found.filter(|(_, agent)| wanted("agent_type", agent.kind) && wanted("host", agent.host));
        found.map(|(id, _)| self.show_agent(id)).collect()
    }

    fn show_agent(&self, id: &str) -> Value {
        let agent = &self.agents[id];
        let wires = self.wires.get(agent.host).cloned().unwrap_or_default();
        let wires: BTreeMap<&str, &str> = wires.into_iter().map(|name| (name, "br")).collect();
        let configurations = match agent.kind {
            "DHCP agent" => json!({"networks": agent.count}),
            "L3 agent" => json!({"routers": agent.count, "agent_mode": agent.mode}),
            _ => json!({"bridge_mappings": wires, "tunnel_types": ["vxlan"]}),
        };
        json!({"id": id, "agent_type": agent.kind, "host": agent.host, "alive": agent.alive,
            "admin_state_up": agent.up, "description": agent.description, "availability_zone": agent.zone,
            "heartbeat_timestamp": agent.reports.to_string(), "configurations": configurations})
    }

    fn show_network(&self, id: &str) -> Value {
        let network = &self.networks[id];
        let kind = if network.physical.is_some() { "vlan" } else { "vxlan" };
        json!({"id": id, "name": id, "admin_state_up": true, "availability_zone_hints": [], "tags": network.tags,
            "provider:network_type": kind, "provider:physical_network": network.physical})
    }

    fn show_router(&self, id: &str) -> Value {
        let router = &self.routers[id];
        json!({"id": id, "name": id, "admin_state_up": true, "availability_zone_hints": [], "ha": router.ha,
            "distributed": router.distributed, "tags": router.tags,
            "external_gateway_info": {"network_id": "outside"}})
    }

    fn networks_of(&self, agent: &str) -> Vec<Value> {
        let here = |served: &Served| served.agents.iter().any(|id| id == agent);
        self.networks.iter().filter(|(_, one)| here(one)).map(|(id, _)| self.show_network(id)).collect()
    }

    fn routers_of(&self, agent: &str) -> Vec<Value> {
        let here = |served: &Served| served.agents.iter().any(|id| id == agent);
        self.routers.iter().filter(|(_, one)| here(one)).map(|(id, _)| self.show_router(id)).collect()
    }

    fn hosting(&self, network: &str) -> Vec<Value> {
        self.networks[network].agents.iter().map(|id| self.show_agent(id)).collect()
    }

    fn carrying(&self, router: &str) -> Vec<Value> {
        let router = &self.routers[router];
        let show = |id: &String| {
            let mut agent = self.show_agent(id);
            // Neutron tells `standby` of agents that are down or disabled, whatever they do.
            let counts = self.agents[id].alive && self.agents[id].up;
            let active = counts && router.active.as_ref() == Some(id);
            let state = if active { "active" } else { "standby" };
            agent["ha_state"] = if router.ha { Value::from(state) } else { Value::Null };
            agent
        };
        router.agents.iter().map(show).collect()
    }

    fn list(&self, what: &str, asked: &BTreeMap<String, Vec<String>>) -> Vec<Value> {
        let all: Vec<Value> = match what {
            "networks" => self.networks.keys().map(|id| self.show_network(id)).collect(),
            "routers" => self.routers.keys().map(|id| self.show_router(id)).collect(),
            "subnets" => {
                let of =
                    |id: &String| json!({"id": format!("sub-{id}"), "network_id": id, "enable_dhcp": "true"});
                self.networks.keys().filter(|id| *id != "outside").map(of).collect()
            }
            "ports" => self
                .ports
                .iter()
                .map(|(id, port)| {
                    json!({"id": id, "network_id": port.network, "device_id": port.device,
                        "device_owner": port.owner, "status": port.status, "binding:host_id": port.host})
                })
                .collect(),
            other => panic!("no list of {other}"),
        };
        let fits = |one: &Value| {
            asked.iter().all(|(key, values)| match key.as_str() {
                "sort_key" | "sort_dir" | "limit" => true,
                "marker" => one["id"].as_str() > values.first().map(String::as_str),
                "tags" => values.iter().all(|tag| one["tags"].as_array().unwrap().contains(&json!(tag))),
                key => values.iter().any(|value| one[key] == json!(value)),
            })
        };
        all.into_iter().filter(fits).collect()
    }

    fn update_agent(&mut self, id: &str, fields: &Value) -> (u16, Value) {
        let agent = self.agents.get_mut(id).unwrap();
        if let Some(up) = fields.get("admin_state_up") {
            agent.up = up.as_bool().unwrap();
        }
        if let Some(description) = fields.get("description") {
            agent.description = description.clone();
        }
        (200, json!({"agent": self.show_agent(id)}))
    }

    fn tag(&mut self, method: &str, list: &str, id: &str, tag: &str) -> (u16, Value) {
        let all = if list == "networks" { &mut self.networks } else { &mut self.routers };
        let Some(served) = all.get_mut(id) else { return (404, Value::Null) };
        if method == "PUT" {
            served.tags.insert(tag.to_owned());
            (201, Value::Null)
        } else {
            (if served.tags.remove(tag) { 204 } else { 404 }, Value::Null)
        }
    }

    fn add_dhcp(&mut self, agent: &str, network: &str) -> (u16, Value) {
        let up = self.agents[agent].up || self.serves_disabled;
        let served = self.networks.get_mut(network).unwrap();
        if !up {
            return (404, json!({"NeutronError": "not a valid DHCP Agent or has been disabled"}));
        }
        if served.agents.iter().any(|id| id == agent) {
            return (409, json!({"NeutronError": "already hosted"}));
        }
        served.agents.push(agent.to_owned());
        (201, Value::Null)
    }

    fn add_router(&mut self, agent: &str, id: &str) -> (u16, Value) {
        let (up, mode) = (self.agents[agent].up || self.serves_disabled, self.agents[agent].mode);
        let router = self.routers.get_mut(id).unwrap();
        if mode == "dvr" || (router.distributed && mode != "dvr_snat") {
            return (409, json!({"NeutronError": "mismatch"}));
        }
        if !up {
            return (404, json!({"NeutronError": "not a L3 Agent or has been disabled"}));
        }
        if router.agents.iter().any(|id| id == agent) {
            return (201, Value::Null);
        }
        if !router.ha && !router.agents.is_empty() {
            return (409, json!({"NeutronError": "has been already hosted"}));
        }
        router.agents.push(agent.to_owned());
        (201, Value::Null)
    }
}

fn unquote(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: Vec<u8> = bytes.by_ref().take(2).collect();
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// The same at a socket. Threads end with the process; each is blocked in `accept` until then.
pub fn listen(mut neutron: Neutron) -> (String, Arc<Mutex<Neutron>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    neutron.address.clone_from(&address);
    neutron.settle();
    neutron.lost.clear();
    let shared = Arc::new(Mutex::new(neutron));
    let held = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that has gone is its own business.
            let _gone = serve(&held, &mut stream.unwrap());
        }
    });
    (address, shared)
}

fn serve(neutron: &Mutex<Neutron>, stream: &mut TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut length, mut header) = (0, String::new());
    while reader.read_line(&mut header)? > 2 {
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut neutron = neutron.lock().unwrap();
    let left = neutron.left;
    if left == Some(0) {
        return Ok(());
    }
    let (status, answer) = neutron.answer(method, target, &body);
    // What is only read leaves nothing behind: whoever is killed between two reads, is killed behind a change.
    if method != "GET" && !target.starts_with("/v3") {
        neutron.left = left.map(|left| left - 1);
    }
    if neutron.left == Some(0) {
        return Ok(());
    }
    drop(neutron);
    let answer = if status == 204 { String::new() } else { answer.to_string() };
    let head = format!(
        "HTTP/1.1 {status} X\r\nX-Subject-Token: t\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.as_bytes())
}

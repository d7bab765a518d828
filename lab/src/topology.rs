//! The shape of a lab: which hosts it has, how they are named and addressed, what runs on them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::daemon::{self, Daemon};
use crate::error::{Error, Result};

/// Most controllers of a lab: their addresses end in 11 to 19.
pub const CONTROLLERS_MAX: u8 = 9;
/// Most computes of a lab: their addresses end in 21 to 60.
pub const COMPUTES_MAX: u8 = 40;

/// What carries the instances of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Virt {
    /// nova's fake driver with a memory: instances without guests, for labs with many hosts.
    #[default]
    Fake,
    /// libvirt and QEMU, with Open vSwitch and OVN: guests that run and answer.
    Qemu,
}

/// What wires the instances of a lab with [`Virt::Qemu`]: neutron's mechanism driver, and with it who
/// serves DHCP and routers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ml2 {
    /// OVN: every compute can be a router's gateway, DHCP is served where the instance is.
    #[default]
    Ovn,
    /// ML2/OVS: neutron's own agents on every compute, for Open vSwitch, DHCP and routers.
    Openvswitch,
}

/// What a lab is to look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Name of the lab; names its cloud too.
    pub name: String,
    /// OpenStack series that it starts with, such as `2025.2`.
    pub series: String,
    /// Number of controllers, 1 to [`CONTROLLERS_MAX`].
    pub controllers: u8,
    /// Number of computes, 1 to [`COMPUTES_MAX`].
    pub computes: u8,
    /// Number of availability zones that the hosts are spread over in turn.
    pub zones: u8,
    /// Instances of the population.
    pub instances: u32,
    /// Computes, the last ones, on which no instance of the population is.
    #[serde(default)]
    pub spare: u8,
    /// Names of the controllers; `{n}` becomes 1, 2, ...
    pub controller_name: String,
    /// Names of the computes; `{n}` becomes 1, 2, ...
    pub compute_name: String,
    /// Name of the infrastructure host.
    pub infra_name: String,
    /// `binding:vif_type` of every port.
    pub vif_type: String,
    /// What carries the instances.
    #[serde(default)]
    pub virt: Virt,
    /// With [`Virt::Qemu`]: what wires the instances.
    #[serde(default)]
    pub ml2: Ml2,
    /// With [`Virt::Qemu`]: how many of the computes, the first ones, run guests; the others have
    /// the fake driver. All do if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu_computes: Option<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "lab".into(),
            series: "2025.2".into(),
            controllers: 3,
            computes: 3,
            zones: 1,
            instances: 20,
            spare: 0,
            controller_name: "ctl{n}".into(),
            compute_name: "cmp{n}".into(),
            infra_name: "infra1".into(),
            vif_type: "ovs".into(),
            virt: Virt::Fake,
            ml2: Ml2::Ovn,
            qemu_computes: None,
        }
    }
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// MariaDB, RabbitMQ, memcached and HAProxy.
    Infra,
    /// APIs and control daemons.
    Controller,
    /// nova-compute.
    Compute,
}

impl Role {
    /// The role's name as cloud descriptions have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infra => "infra",
            Self::Controller => "controller",
            Self::Compute => "compute",
        }
    }

    /// The OpenStack daemons that every host with this role has.
    pub fn daemons(self) -> &'static [Daemon] {
        match self {
            Self::Infra => &[],
            Self::Controller => daemon::CONTROLLER,
            Self::Compute => daemon::COMPUTE,
        }
    }
}

/// One host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Address on the lab's bridge; its last byte is unique in the lab.
    pub address: Ipv4Addr,
    /// What it is for.
    pub role: Role,
    /// Availability zone.
    pub zone: String,
    /// What carries instances here, if it is a compute.
    #[serde(default)]
    pub virt: Virt,
    /// What wires them.
    #[serde(default)]
    pub ml2: Ml2,
}

impl Host {
    /// The number that names what belongs to this host on the machine (interface, name space).
    pub(crate) fn number(&self) -> u8 {
        self.address.octets()[3]
    }

    /// The host's address on the instances' outer network, 198.19.N.0/24: for tunnels between
    /// hosts and for the way from outside to instances.
    pub(crate) fn outer_address(&self) -> Ipv4Addr {
        let [_, _, subnet, last] = self.address.octets();
        Ipv4Addr::new(198, 19, subnet, last)
    }

    /// Whether the host has a virtual switch: computes with guests, and the infrastructure host,
    /// from which the instances' own networks can be looked into.
    pub(crate) fn has_switch(&self) -> bool {
        self.virt == Virt::Qemu && self.role != Role::Controller
    }

    /// neutron's agents that this host has besides the daemons of its role. The infrastructure host has
    /// the one that wires the canaries, and which no cloud description names.
    pub(crate) fn agents(&self) -> &'static [Daemon] {
        match (self.ml2, self.has_switch(), self.role) {
            (Ml2::Openvswitch, true, Role::Infra) => &daemon::AGENTS[..1],
            (Ml2::Openvswitch, true, _) => daemon::AGENTS,
            _ => &[],
        }
    }

    /// All OpenStack daemons of this host.
    pub fn daemons(&self) -> impl Iterator<Item = &'static Daemon> {
        self.role.daemons().iter().chain(self.agents())
    }

    /// Whether guests run here.
    pub(crate) fn runs_guests(&self) -> bool {
        self.virt == Virt::Qemu && self.role == Role::Compute
    }
}

/// The address of the machine itself on the bridge of the lab with this subnet.
pub(crate) fn machine_address(subnet: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, subnet, 1)
}

/// Lays out the hosts of a lab, infrastructure first.
///
/// # Errors
/// Refuses counts out of range and names that are no host names, that are equal, or that a
/// lab could not be told by.
pub fn plan_hosts(options: &Options, subnet: u8) -> Result<Vec<Host>> {
    check_name("the lab", &options.name, 20)?;
    check_count("--controllers", options.controllers, CONTROLLERS_MAX)?;
    check_count("--computes", options.computes, COMPUTES_MAX)?;
    check_count("--zones", options.zones, 26)?;
    if let Some(guests) = options.qemu_computes {
        check_count("--qemu-computes", guests, options.computes)?;
        if options.virt != Virt::Qemu {
            return Err(Error::refused(
                "--qemu-computes needs a lab with a real data plane",
                "give --virt qemu as well, or leave it out",
            ));
        }
    }
    if options.ml2 == Ml2::Openvswitch && (options.virt == Virt::Fake || options.qemu_computes.is_some()) {
        return Err(Error::refused(
            "--ml2 openvswitch needs a lab in which all computes have a switch",
            "give --virt qemu and leave --qemu-computes out, or leave --ml2 out",
        ));
    }
    let zone = |index: u8| format!("az{}", index % options.zones + 1);
    let address = |last: u8| Ipv4Addr::new(198, 18, subnet, last);
    let named = |template: &str, index: u8| template.replace("{n}", &(index + 1).to_string());
    let mut hosts = vec![Host {
        name: named(&options.infra_name, 0),
        address: address(10),
        role: Role::Infra,
        zone: zone(0),
        virt: options.virt,
        ml2: options.ml2,
    }];
    hosts.extend((0..options.controllers).map(|index| Host {
        name: named(&options.controller_name, index),
        address: address(11 + index),
        role: Role::Controller,
        zone: zone(index),
        virt: options.virt,
        ml2: options.ml2,
    }));
    let guests = options.qemu_computes.unwrap_or(options.computes);
    hosts.extend((0..options.computes).map(|index| Host {
        name: named(&options.compute_name, index),
        address: address(21 + index),
        role: Role::Compute,
        zone: zone(index),
        virt: if index < guests { options.virt } else { Virt::Fake },
        ml2: options.ml2,
    }));
    let mut seen = BTreeSet::new();
    for host in &hosts {
        check_name("a host", &host.name, 40)?;
        if host.name == "localhost" || !seen.insert(host.name.as_str()) {
            return Err(Error::refused(
                format!("the name {} would stand for two hosts", host.name),
                "put {n} into --controller-name and --compute-name, and let them differ",
            ));
        }
    }
    Ok(hosts)
}

fn check_count(option: &str, count: u8, most: u8) -> Result<()> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Error::refused(
        format!("{option} {count} is out of range"),
        format!("give a number from 1 to {most}"),
    ))
}

/// Checks that a name can be a host name and a folder name.
pub(crate) fn check_name(of: &str, name: &str, longest: usize) -> Result<()> {
    let fits = name.len() <= longest
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits {
        return Ok(());
    }
    Err(Error::refused(
        format!("\"{name}\" cannot be the name of {of}"),
        format!("use at most {longest} of a-z, 0-9 and -, beginning with a letter"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &Options) -> Vec<String> {
        plan_hosts(options, 7).expect("valid").into_iter().map(|host| host.name).collect()
    }

    #[test]
    fn hosts_are_named_and_addressed_in_order() {
        let options = Options { controllers: 2, computes: 1, zones: 2, ..Options::default() };
        assert_eq!(names(&options), ["infra1", "ctl1", "ctl2", "cmp1"]);
        let hosts = plan_hosts(&options, 7).expect("valid");
        assert_eq!(hosts[2].address, Ipv4Addr::new(198, 18, 7, 12));
        assert_eq!(hosts[2].zone, "az2");
        assert_eq!(hosts[3].number(), 21);
    }

    #[test]
    fn other_names_are_possible() {
        let options = Options {
            controller_name: "control-{n}".into(),
            compute_name: "hv{n}".into(),
            ..Options::default()
        };
        assert_eq!(names(&options)[1], "control-1");
        assert_eq!(names(&options)[6], "hv3");
    }

    #[test]
    fn equal_or_impossible_names_are_refused() {
        let same = Options { compute_name: "host".into(), ..Options::default() };
        assert!(plan_hosts(&same, 1).is_err());
        let bad = Options { controller_name: "Ctl_{n}".into(), ..Options::default() };
        assert!(plan_hosts(&bad, 1).is_err());
        let escape = Options { name: "../x".into(), ..Options::default() };
        assert!(plan_hosts(&escape, 1).is_err());
    }

    #[test]
    fn computes_can_be_mixed_and_the_first_run_guests() {
        let options = Options { virt: Virt::Qemu, qemu_computes: Some(1), ..Options::default() };
        let hosts = plan_hosts(&options, 7).expect("valid");
        let guests: Vec<&str> =
            hosts.iter().filter(|host| host.runs_guests()).map(|host| host.name.as_str()).collect();
        assert_eq!(guests, ["cmp1"]);
        assert!(hosts[0].has_switch() && !hosts[1].has_switch());
        assert_eq!(hosts[0].outer_address(), Ipv4Addr::new(198, 19, 7, 10));
        let alone = Options { qemu_computes: Some(1), ..Options::default() };
        assert_eq!(plan_hosts(&alone, 7).expect_err("without --virt qemu").kind(), "refused");
        let many = Options { virt: Virt::Qemu, qemu_computes: Some(4), ..Options::default() };
        assert!(plan_hosts(&many, 7).is_err());
    }

    #[test]
    fn counts_out_of_range_are_refused() {
        assert!(plan_hosts(&Options { controllers: 0, ..Options::default() }, 1).is_err());
        assert!(plan_hosts(&Options { computes: 41, ..Options::default() }, 1).is_err());
    }
}

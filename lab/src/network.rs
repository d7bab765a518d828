//! The lab's network on the machine: one bridge per lab, one network name space per host.

use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, StateDir};
use crate::record::Record;
use crate::topology::{Host, Virt, machine_address};

/// Subnets are told apart by their third byte: 198.18.N.0/24, from the network that RFC 2544
/// sets aside for benchmarks.
const SUBNETS: std::ops::RangeInclusive<u8> = 1..=250;

/// Where labs write down which subnet is whose. It dies with the machine's run time, exactly as
/// the bridges do, and it is the same for all labs, wherever their state is.
const RESERVATIONS: &str = "/run/volutus-lab";

fn reservation(subnet: u8) -> PathBuf {
    Path::new(RESERVATIONS).join(format!("subnet-{subnet}"))
}

fn owner(state: &StateDir) -> String {
    state.path().to_string_lossy().into_owned()
}

/// Takes a subnet that no other lab has and that the machine itself does not use.
pub(crate) fn reserve_subnet(state: &StateDir) -> Result<u8> {
    paths::create_dir(Path::new(RESERVATIONS))?;
    let routes = ip("listing routes", &["-4", "route", "show", "table", "all"])?;
    let links = ip("listing interfaces", &["-o", "link", "show"])?;
    for subnet in SUBNETS {
        let used =
            routes.contains(&format!("198.18.{subnet}.")) || links.contains(&format!(" {}:", bridge(subnet)));
        let path = reservation(subnet);
        if used || path.exists() {
            continue;
        }
        // A link to a complete file: it either exists with its owner's name or not at all, and
        // of two labs that start together only one can make it.
        let unfinished = Path::new(RESERVATIONS).join(format!(".{}", std::process::id()));
        paths::write(&unfinished, owner(state), 0o644)?;
        let linked = std::fs::hard_link(&unfinished, &path);
        std::fs::remove_file(&unfinished).on("removing", &unfinished)?;
        match linked {
            Ok(()) => return Ok(subnet),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).on("creating", &path),
        }
    }
    Err(Error::refused(
        "all subnets from 198.18.1.0/24 to 198.18.250.0/24 are in use",
        "take labs down that are not needed: `volutus-lab list`",
    ))
}

/// Subnets that are reserved for this lab. More than one only after a crash.
pub(crate) fn reserved_subnets(state: &StateDir) -> Result<Vec<u8>> {
    let mut subnets = Vec::new();
    for subnet in SUBNETS {
        let path = reservation(subnet);
        if path.exists() && paths::read(&path)? == owner(state) {
            subnets.push(subnet);
        }
    }
    Ok(subnets)
}

pub(crate) fn release_subnet(subnet: u8) -> Result<()> {
    let path = reservation(subnet);
    std::fs::remove_file(&path).on("removing", &path)
}

/// Name of a lab's bridge.
pub(crate) fn bridge(subnet: u8) -> String {
    format!("vlab{subnet}")
}

/// Name of a host's network name space, which is also the host's name among all containers of
/// the machine.
pub(crate) fn namespace(subnet: u8, host: &Host) -> String {
    format!("vlab{subnet}-{}", host.number())
}

/// Name of the machine's end of a host's cable.
fn cable(subnet: u8, host: &Host) -> String {
    format!("vl{subnet}-{}", host.number())
}

/// Name of the machine's end of the cable of a host's virtual switch.
fn outer_cable(subnet: u8, host: &Host) -> String {
    format!("{}x", cable(subnet, host))
}

fn ip(what: &str, arguments: &[&str]) -> Result<String> {
    Cmd::new(what, "ip").args(arguments.iter().copied()).run()
}

/// Makes the bridge and, for every host, a name space that is connected to it.
pub(crate) fn make(record: &Record) -> Result<()> {
    let bridge = bridge(record.subnet);
    let machine = machine_address(record.subnet);
    let what = "making the lab's bridge";
    ip(what, &["link", "add", &bridge, "type", "bridge"])?;
    ip(what, &["addr", "add", &format!("{machine}/24"), "dev", &bridge])?;
    ip(what, &["link", "set", &bridge, "up"])?;
    for host in &record.hosts {
        connect(record.subnet, &bridge, host)?;
        if host.virt == Virt::Qemu {
            connect_outer(record.subnet, &bridge, host)?;
        }
    }
    if record.options.virt == Virt::Qemu {
        let outer = format!("198.19.{}.1/24", record.subnet);
        ip(what, &["addr", "add", &outer, "dev", &bridge])?;
        complete_checksums(&["-K", &bridge, "tx", "off"], None)?;
    }
    Ok(())
}

/// Connects a host to the instances' outer network: with a cable of its own for its virtual
/// switch, or, without a switch, with a second address.
fn connect_outer(subnet: u8, bridge: &str, host: &Host) -> Result<()> {
    let space = namespace(subnet, host);
    let what = format!("connecting the host {} to the outer network", host.name);
    complete_checksums(&["-K", "eth0", "tx", "off"], Some(&space))?;
    if !host.has_switch() {
        let address = format!("{}/24", host.outer_address());
        return ip(&what, &["-n", &space, "addr", "add", &address, "dev", "eth0"]).map(drop);
    }
    // Both cables end at one bridge, and a kernel answers by each for all addresses of the host. Who believed the
    // wrong one sends to a MAC at which the switch takes no tunnel's packets.
    let own_only = "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore";
    Cmd::new(&what, "ip").args(["netns", "exec", &space, "sh", "-c", own_only]).run()?;
    let cable = outer_cable(subnet, host);
    let peer = ["type", "veth", "peer", "name", "eth1", "netns", &space];
    ip(&what, &[&["link", "add", cable.as_str()], peer.as_slice()].concat())?;
    ip(&what, &["link", "set", &cable, "master", bridge, "up"])?;
    ip(&what, &["-n", &space, "link", "set", "eth1", "up"]).map(drop)
}

/// Virtual cables leave checksums to be completed by hardware that they do not have. The kernel
/// knows that and does not look; a switch in user space does.
fn complete_checksums(arguments: &[&str], space: Option<&str>) -> Result<()> {
    let what = "having checksums completed";
    let command = match space {
        Some(space) => Cmd::new(what, "ip").args(["netns", "exec", space, "ethtool"]),
        None => Cmd::new(what, "ethtool"),
    };
    command.args(arguments.iter().copied()).run().map(drop)
}

fn connect(subnet: u8, bridge: &str, host: &Host) -> Result<()> {
    let (space, cable) = (namespace(subnet, host), cable(subnet, host));
    let what = format!("connecting the host {}", host.name);
    ip(&what, &["netns", "add", &space])?;
    let peer = ["type", "veth", "peer", "name", "eth0", "netns", &space];
    ip(&what, &[&["link", "add", cable.as_str()], peer.as_slice()].concat())?;
    ip(&what, &["link", "set", &cable, "master", bridge, "up"])?;
    let address = format!("{}/24", host.address);
    ip(&what, &["-n", &space, "addr", "add", &address, "dev", "eth0"])?;
    ip(&what, &["-n", &space, "link", "set", "lo", "up"])?;
    ip(&what, &["-n", &space, "link", "set", "eth0", "up"])?;
    let gateway = machine_address(subnet).to_string();
    ip(&what, &["-n", &space, "route", "add", "default", "via", &gateway]).map(drop)
}

/// Pulls a host's cable or plugs it in again.
pub(crate) fn set_cable(subnet: u8, host: &Host, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    let what = format!("setting the cable of {} {state}", host.name);
    ip(&what, &["link", "set", &cable(subnet, host), state])?;
    if host.has_switch() {
        ip(&what, &["link", "set", &outer_cable(subnet, host), state])?;
    }
    Ok(())
}

/// Removes all that carries this subnet's names. Nothing to remove is fine.
pub(crate) fn remove(subnet: u8) -> Result<()> {
    let prefix = format!("vlab{subnet}-");
    let spaces = ip("listing network name spaces", &["netns", "list"])?;
    for space in spaces.lines().filter_map(|line| line.split_whitespace().next()) {
        if space.starts_with(&prefix) {
            ip("removing a network name space", &["netns", "del", space])?;
        }
    }
    let cable_prefix = format!("vl{subnet}-");
    let links = ip("listing interfaces", &["-o", "link", "show"])?;
    for line in links.lines() {
        // "7: vl3-11@if2: <BROADCAST,..." or "6: vlab3: <BROADCAST,..."
        let name = line.split(": ").nth(1).unwrap_or_default();
        let name = name.split('@').next().unwrap_or_default();
        if name == bridge(subnet) || name.starts_with(&cable_prefix) {
            let gone = Cmd::new("removing an interface", "ip").args(["link", "del", name]);
            // A cable goes together with its name space, maybe between the listing and now.
            let output = gone.output()?;
            if !output.status.success() && !output.stderr.contains("Cannot find device") {
                let line = format!("ip link del {name}");
                return Err(crate::command::failure("removing an interface".into(), line, &output));
            }
        }
    }
    Ok(())
}

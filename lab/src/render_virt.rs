//! The files of a host that belong to its data plane: virtual switch, libvirt, canaries, and the
//! kernel version that the host shows.

use std::path::Path;

use crate::error::Result;
use crate::paths;
use crate::record::Record;
use crate::render::{Rendered, fill};
use crate::topology::{Host, Ml2, Role, Virt};

/// All files of a host that belong to its data plane.
pub(crate) fn files(record: &Record, host: &Host) -> Result<Vec<Rendered>> {
    let mut files = kernel_files()?;
    if host.has_switch() {
        files.extend(switch_files(record, host)?);
    }
    if host.runs_guests() {
        files.push(plain("/etc/libvirt/qemu.conf", include_str!("../templates/qemu.conf")));
        files.push(program("/etc/libvirt/hooks/qemu", include_str!("../templates/qemu-hook.sh").into()));
        files.push(plain("/etc/libvirt/libvirtd.conf", include_str!("../templates/libvirtd.conf")));
        // Without arguments: not to end when nobody has asked for two minutes.
        files.push(plain("/etc/default/libvirtd", "LIBVIRTD_ARGS=\"\"\n"));
    }
    Ok(files)
}

/// Units of the distribution that a host's data plane needs.
pub(crate) fn distribution_units(host: &Host) -> Vec<&'static str> {
    let mut units = Vec::new();
    if host.has_switch() {
        units.push("openvswitch-switch.service");
    }
    if host.has_switch() && host.ml2 == Ml2::Ovn {
        units.push("ovn-host.service");
        if host.role == Role::Infra {
            units.push("ovn-central.service");
        }
    }
    if host.runs_guests() {
        units.extend(["virtlogd.socket", "virtlockd.socket", "libvirtd.socket"]);
        units.extend(["libvirtd-tcp.socket", "libvirtd.service"]);
    }
    units
}

/// Units of the lab's own that a host starts at boot, with the target that wants each.
pub(crate) fn own_units(host: &Host) -> Vec<(&'static str, &'static str)> {
    let mut units = vec![("volutus-lab-kernel.service", "sysinit.target")];
    if host.has_switch() {
        units.push(("volutus-lab-switch.service", "multi-user.target"));
    }
    if host.has_switch() && host.role == Role::Infra {
        if host.ml2 == Ml2::Ovn {
            units.push(("volutus-lab-ovn.service", "multi-user.target"));
        }
        units.push(("volutus-lab-canary.service", "multi-user.target"));
    }
    units
}

fn plain(path: &str, text: &str) -> Rendered {
    Rendered { path: path.into(), text: text.into(), mode: 0o644 }
}

fn program(path: &str, text: String) -> Rendered {
    Rendered { path: path.into(), text, mode: 0o755 }
}

/// The kernel is the machine's, so a host's version is a file, and what shows it follows the file.
fn kernel_files() -> Result<Vec<Rendered>> {
    let release = paths::read(Path::new("/proc/sys/kernel/osrelease"))?;
    Ok(vec![
        plain("/etc/volutus-lab/kernel", &release),
        program("/usr/local/sbin/volutus-lab-kernel", include_str!("../templates/kernel.sh").into()),
        program("/usr/local/bin/uname", include_str!("../templates/uname.sh").into()),
        plain("/etc/systemd/system/volutus-lab-kernel.service", include_str!("../templates/kernel.service")),
    ])
}

fn switch_files(record: &Record, host: &Host) -> Result<Vec<Rendered>> {
    let template = match host.ml2 {
        Ml2::Ovn => include_str!("../templates/switch.sh"),
        Ml2::Openvswitch => include_str!("../templates/switch-agents.sh"),
    };
    let script = fill(
        template,
        &[
            ("HOST", &host.name),
            ("VIP", &record.infra().address.to_string()),
            ("OUTER", &host.outer_address().to_string()),
            // Any host with guests can be the gateway of a router; the infrastructure host has
            // other duties.
            ("CMS", if host.role == Role::Compute { "enable-chassis-as-gw" } else { "no-duties" }),
        ],
    )?;
    let mut files = vec![
        program("/usr/local/sbin/volutus-lab-switch", script),
        plain("/etc/systemd/system/volutus-lab-switch.service", include_str!("../templates/switch.service")),
        plain("/etc/openvswitch/system-id.conf", &format!("{}\n", host.name)),
        // Locking all memory would take it from the machine once per host.
        plain("/etc/default/openvswitch-switch", "OVS_CTL_OPTS=\"--no-mlockall\"\n"),
    ];
    if host.role == Role::Infra {
        files.push(plain(
            "/etc/systemd/system/volutus-lab-ovn.service",
            include_str!("../templates/ovn.service"),
        ));
        files.push(program(
            "/usr/local/sbin/volutus-lab-canary",
            include_str!("../templates/canary.sh").into(),
        ));
        files.push(plain(
            "/etc/systemd/system/volutus-lab-canary.service",
            include_str!("../templates/canary.service"),
        ));
    }
    Ok(files)
}

/// Whether the lab has a data plane at all.
pub(crate) fn real(record: &Record) -> bool {
    record.options.virt == Virt::Qemu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    fn record(virt: Virt) -> Record {
        Record::new(Options { virt, ..Options::default() }, 7, "secret".into()).expect("valid")
    }

    #[test]
    fn only_a_real_data_plane_has_switches_and_guests() {
        for host in &record(Virt::Fake).hosts {
            assert!(distribution_units(host).is_empty());
            assert_eq!(own_units(host).len(), 1);
        }
        let record = record(Virt::Qemu);
        let names = |role: Role| {
            let host = record.hosts_with(role).next().expect("a host");
            distribution_units(host).join(" ")
        };
        assert!(names(Role::Infra).contains("ovn-central.service"));
        assert!(names(Role::Compute).contains("libvirtd-tcp.socket"));
        assert_eq!(names(Role::Controller), "");
    }

    #[test]
    fn every_own_unit_is_written() {
        let record = record(Virt::Qemu);
        for host in &record.hosts {
            let files = files(&record, host).expect("rendered");
            for (unit, _) in own_units(host) {
                let path = format!("/etc/systemd/system/{unit}");
                assert!(files.iter().any(|file| file.path == path), "{unit} on {}", host.name);
            }
        }
    }

    #[test]
    fn switches_know_their_own_addresses() {
        let record = record(Virt::Qemu);
        let compute = record.hosts_with(Role::Compute).next().expect("a compute");
        let files = files(&record, compute).expect("rendered");
        let script = files.iter().find(|file| file.path.ends_with("volutus-lab-switch")).expect("there");
        assert!(script.text.contains("ovn-encap-ip=198.19.7.21"));
        assert!(script.text.contains("enable-chassis-as-gw"));
    }
}

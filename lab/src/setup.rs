//! What the machine itself needs: packages of its own distribution, and root.

use std::time::Duration;

use crate::command::{Cmd, retried};
use crate::error::{Error, Result};
use crate::paths;
use crate::progress::{Progress, step};
use crate::topology::Virt;

/// Debian packages that the lab uses on the machine. The compiler and the headers are for the
/// few Python packages that have no prebuilt wheel.
const PACKAGES: &[&str] = &[
    "build-essential",
    "debian-archive-keyring",
    "debootstrap",
    "iproute2",
    "libffi-dev",
    "libssl-dev",
    "openssh-client",
    "python3",
    "python3-dev",
    "python3-venv",
    "systemd-container",
    "util-linux",
];

/// What a lab with a real data plane needs besides: libvirt's headers for libvirt-python, ethtool
/// for the cables.
const VIRT_PACKAGES: &[&str] = &["ethtool", "libvirt-dev", "pkg-config"];

/// Downloads over a network fail now and then; three attempts separate that from an outage.
pub(crate) const DOWNLOAD_ATTEMPTS: u32 = 3;

/// Checks the machine and installs what is missing.
pub(crate) fn prepare_machine(virt: Virt, progress: &dyn Progress) -> Result<()> {
    require_root()?;
    require_debian_12()?;
    let wanted = match virt {
        Virt::Fake => PACKAGES.to_vec(),
        Virt::Qemu => [PACKAGES, VIRT_PACKAGES].concat(),
    };
    let missing = missing_packages(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    step(progress, "install packages on this machine", || {
        progress.detail("install packages on this machine", &missing.join(" "));
        retried(DOWNLOAD_ATTEMPTS, || {
            apt("updating the package lists", &["update"])?;
            let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
            arguments.extend(&missing);
            apt("installing packages", &arguments)
        })
    })
}

fn apt(what: &str, arguments: &[&str]) -> Result<()> {
    Cmd::new(what, "apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments.iter().copied())
        .env("DEBIAN_FRONTEND", "noninteractive")
        // A slow mirror needs minutes for the compiler.
        .limit(Duration::from_secs(900))
        .run()
        .map(drop)
}

fn missing_packages(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    let listed = Cmd::new("listing installed packages", "dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(wanted.iter().copied())
        .output()?
        .stdout;
    let installed = |name: &str| listed.lines().any(|line| line == format!("{name} installed"));
    Ok(wanted.iter().copied().filter(|name| !installed(name)).collect())
}

/// Whether this process is root.
///
/// # Errors
/// When the system does not tell.
pub fn is_root() -> Result<bool> {
    let status = paths::read(std::path::Path::new("/proc/self/status"))?;
    Ok(status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}

pub(crate) fn require_root() -> Result<()> {
    if is_root()? {
        return Ok(());
    }
    Err(Error::refused("the lab makes containers, which only root can", "run it as root or with sudo"))
}

/// The hosts use the machine's releases, so both must have the same Python.
fn require_debian_12() -> Result<()> {
    let release = paths::read(std::path::Path::new("/etc/os-release"))?;
    if release.lines().any(|line| line == "VERSION_CODENAME=bookworm") {
        return Ok(());
    }
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    Err(Error::refused(
        format!("this machine runs {name}, but the lab needs Debian 12 (bookworm)"),
        "run the lab on Debian 12, for example in a virtual machine",
    ))
}

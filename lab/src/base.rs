//! The root file system that all hosts of all labs share, made once with debootstrap.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, retried};
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, Lock};
use crate::progress::{Progress, step};
use crate::setup::DOWNLOAD_ATTEMPTS;
use crate::topology::Virt;

const SUITE: &str = "bookworm";
const BACKPORTS: &str = "bookworm-backports";

/// Changes to this module that change the file system must change this number, so that an older
/// one in the cache is not taken for the new one.
const RECIPE: u32 = 1;

const PACKAGES: &[&str] = &[
    "curl",
    "dbus",
    "haproxy",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "mariadb-server",
    "memcached",
    // eventlet needs /etc/protocols.
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "qemu-utils",
    "rabbitmq-server",
    "socat",
    "systemd-sysv",
];

/// Services that Debian enables on installation, and that only some hosts are to run or none.
const DISABLED: &[&str] = &[
    "cron.service",
    "e2scrub_reap.service",
    "epmd.service",
    "epmd.socket",
    "haproxy.service",
    "mariadb.service",
    "mariadb.socket",
    "memcached.service",
    "rabbitmq-server.service",
    "remote-fs.target",
    "ssh.socket",
];

/// What a lab with a real data plane needs on its hosts besides.
const VIRT_PACKAGES: &[&str] = &[
    // neutron's DHCP and L3 agents.
    "conntrack",
    "dnsmasq-base",
    "dnsmasq-utils",
    "iptables",
    "iputils-arping",
    "keepalived",
    // A DHCP client, to ask with.
    "udhcpc",
    // And the rest of it.
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "tcpdump",
];

/// The same from Debian's backports. QEMU 7.2 without KVM loses pages that a guest writes while it is live-migrated:
/// some guests had a kernel panic or no network afterwards.
const BACKPORTED: &[&str] = &[
    "libvirt-clients",
    "libvirt-daemon-lock",
    "libvirt-daemon-log",
    "libvirt-daemon-system",
    "qemu-system-x86",
];

/// The same for services as [`DISABLED`]. libvirt-guests would suspend the guests when a host
/// reboots, which nova does not expect.
const VIRT_DISABLED: &[&str] = &[
    "keepalived.service",
    "libvirt-guests.service",
    "libvirtd-admin.socket",
    "libvirtd-ro.socket",
    "libvirtd.service",
    "libvirtd.socket",
    "openvswitch-switch.service",
    "ovn-central.service",
    "ovn-host.service",
    "uuidd.socket",
    "virtlockd-admin.socket",
    "virtlockd.socket",
    "virtlogd-admin.socket",
    "virtlogd.socket",
];

/// Packages and disabled services of the hosts of a lab of this kind.
fn contents(virt: Virt) -> (Vec<&'static str>, Vec<&'static str>) {
    match virt {
        Virt::Fake => (PACKAGES.to_vec(), DISABLED.to_vec()),
        Virt::Qemu => ([PACKAGES, VIRT_PACKAGES].concat(), [DISABLED, VIRT_DISABLED].concat()),
    }
}

/// Packages that hosts of a lab of this kind have from backports.
fn backported(virt: Virt) -> &'static [&'static str] {
    match virt {
        Virt::Fake => &[],
        Virt::Qemu => BACKPORTED,
    }
}

/// Where the file system of this kind of lab lies in the cache. Each kind has its own, so that
/// one never makes the other be built anew.
fn cached(virt: Virt) -> PathBuf {
    let (packages, disabled) = contents(virt);
    let mut recipe = format!("{RECIPE} {SUITE} {packages:?} {disabled:?}");
    if !backported(virt).is_empty() {
        recipe += &format!(" {:?}", backported(virt));
    }
    let key = blake3::hash(recipe.as_bytes());
    paths::cache_root().join(format!("base-{}", &key.to_hex()[..12]))
}

/// Makes the file system unless the cache has it, and returns its path.
pub(crate) fn ensure_base(virt: Virt, progress: &dyn Progress) -> Result<PathBuf> {
    let cache = paths::cache_root();
    let path = cached(virt);
    if path.exists() {
        return Ok(path);
    }
    let name = "build the hosts' file system";
    step(progress, name, || {
        let _lock = Lock::wait(&cache.join("base.lock"), progress, name)?;
        if path.exists() {
            return Ok(path.clone());
        }
        let unfinished = cache.join("base.new");
        let mirror = debian_mirror(Path::new("/etc/apt"))?;
        let (packages, disabled) = contents(virt);
        retried(DOWNLOAD_ATTEMPTS, || {
            paths::remove_tree(&unfinished)?;
            debootstrap(&unfinished, &packages, &mirror)?;
            add_backports(&unfinished, backported(virt), &mirror)
        })?;
        trim(&unfinished, &disabled)?;
        paths::rename(&unfinished, &path)?;
        Ok(path.clone())
    })
}

fn debootstrap(target: &Path, packages: &[&str], mirror: &str) -> Result<()> {
    Cmd::new("building the hosts' file system", "debootstrap")
        .args(["--variant=minbase".to_owned(), format!("--include={}", packages.join(","))])
        .args([SUITE.to_owned(), target.to_string_lossy().into_owned(), mirror.to_owned()])
        // About a minute; a slow mirror needs many.
        .limit(Duration::from_secs(1800))
        .run()
        .map(drop)
}

/// Installs packages from backports, with the machine's own apt, so that they come by the way that all others come.
fn add_backports(target: &Path, packages: &[&str], mirror: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let root = target.to_string_lossy().into_owned();
    let keys = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
    let sources: String =
        [SUITE, BACKPORTS].iter().map(|suite| format!("deb [{keys}] {mirror} {suite} main\n")).collect();
    paths::write(&target.join("etc/apt/sources.list"), sources, 0o644)?;
    let apt = |arguments: &[&str]| {
        Cmd::new("adding packages from backports to the hosts' file system", "apt-get")
            .args(["--quiet".to_owned(), "-o".to_owned(), format!("Dir={root}")])
            .args(["-o".to_owned(), format!("Dir::State::status={root}/var/lib/dpkg/status")])
            .args(["-o".to_owned(), format!("DPkg::Chroot-Directory={root}")])
            .args(["-o", "APT::Sandbox::User=root"])
            .args(arguments.iter().copied())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .limit(Duration::from_secs(900))
            .run()
            .map(drop)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends", "--target-release", BACKPORTS], packages].concat())
}

/// Takes out what must not be shared between hosts or would only cost time in them.
fn trim(base: &Path, disabled: &[&str]) -> Result<()> {
    for entry in list(&base.join("etc/ssh"))? {
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            remove(&entry)?;
        }
    }
    for folder in list(&base.join("etc/systemd/system"))? {
        if !folder.to_string_lossy().ends_with(".wants") {
            continue;
        }
        for link in list(&folder)? {
            let name = link.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let getty = name.starts_with("getty@");
            if name.ends_with(".timer") || getty || disabled.contains(&name.as_str()) {
                remove(&link)?;
            }
        }
    }
    for unit in ["console-getty.service", "systemd-timesyncd.service", "systemd-logind.service"] {
        paths::symlink("/dev/null", &base.join("etc/systemd/system").join(unit))?;
    }
    // What apt knows of a mirror is old tomorrow, and large.
    paths::remove_tree(&base.join("var/lib/apt/lists"))?;
    for link in list(&base.join("var/cache/apt/archives"))? {
        if link.extension().is_some_and(|extension| extension == "deb") {
            remove(&link)?;
        }
    }
    paths::write(
        &base.join("etc/systemd/journald.conf.d/lab.conf"),
        // The journal would otherwise fill the memory that the host's disk is made of.
        "[Journal]\nStorage=volatile\nRuntimeMaxUse=48M\nRateLimitIntervalSec=0\n",
        0o644,
    )?;
    paths::write(
        &base.join("etc/ssh/sshd_config.d/lab.conf"),
        // Without PAM a login needs no logind. The limits let an orchestrator open many
        // connections at once.
        "HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPasswordAuthentication no\n\
         UseDNS no\nMaxStartups 100:30:200\nMaxSessions 100\n",
        0o644,
    )?;
    for folder in ["opt/openstack/current", "srv/releases", "srv/shared"] {
        paths::create_dir(&base.join(folder))?;
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).on("listing", folder)? {
        found.push(entry.on("listing", folder)?.path());
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).on("removing", path)
}

/// The mirror that the machine itself is configured with, from `sources.list` in either format.
fn debian_mirror(apt: &Path) -> Result<String> {
    let mut files = vec![apt.join("sources.list")];
    if apt.join("sources.list.d").is_dir() {
        files.extend(list(&apt.join("sources.list.d"))?);
    }
    for file in files.iter().filter(|file| file.is_file()) {
        let text = paths::read(file)?;
        let found = if file.extension().is_some_and(|extension| extension == "sources") {
            mirror_in_deb822(&text)
        } else {
            mirror_in_list(&text)
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    Err(Error::refused(
        format!("no mirror of Debian {SUITE} is configured in {}", apt.display()),
        format!("add one, such as `deb http://MIRROR/debian {SUITE} main`, to sources.list"),
    ))
}

fn mirror_in_list(text: &str) -> Option<String> {
    text.lines().map(str::trim).filter(|line| line.starts_with("deb ")).find_map(|line| {
        let words = line.split_whitespace().skip(1);
        let mut words = words.skip_while(|word| word.starts_with('[') || word.ends_with(']'));
        let (uri, suite) = (words.next()?, words.next()?);
        let main = words.any(|component| component == "main");
        (suite == SUITE && main && uri.starts_with("http")).then(|| uri.to_owned())
    })
}

fn mirror_in_deb822(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| -> Vec<&str> {
            let value = stanza.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().split_whitespace().collect()
        };
        let fits = field("Types:").contains(&"deb")
            && field("Suites:").contains(&SUITE)
            && field("Components:").contains(&"main")
            && field("Enabled:").first() != Some(&"no");
        let uris = field("URIs:");
        let uri = uris.iter().find(|uri| uri.starts_with("http")).copied();
        uri.filter(|_| fits).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_lab_has_its_own_file_system_and_the_old_one_keeps_its_name() {
        let key = blake3::hash(format!("{RECIPE} {SUITE} {PACKAGES:?} {DISABLED:?}").as_bytes());
        let name = format!("base-{}", &key.to_hex()[..12]);
        assert!(cached(Virt::Fake).ends_with(name));
        assert_ne!(cached(Virt::Fake), cached(Virt::Qemu));
    }

    #[test]
    fn the_mirror_is_found_in_deb822_sources() {
        let text = "Types: deb\n# a comment\nURIs: http://mirror.example/security\n\
                    Suites: bookworm-security\nComponents: main\n\n\
                    Types: deb deb-src\nURIs: http://mirror.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(mirror_in_deb822(text).as_deref(), Some("http://mirror.example/debian"));
    }

    #[test]
    fn the_mirror_is_found_in_one_line_sources() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb [signed-by=/x arch=amd64] http://mirror.example/debian bookworm main\n";
        assert_eq!(mirror_in_list(text).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in_list("deb http://mirror.example/apt stable main\n"), None);
    }
}

//! What a fresh machine lacks. The lab installs what it needs by itself; here is only what the
//! tests need besides.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::target;
use crate::process::{must, privileged};

/// Programs that tests run or are built by, and the Debian packages that hold them. libFuzzer is of C++.
const NEEDED: &[(&str, &str)] =
    &[("/usr/sbin/sshd", "openssh-server"), ("/usr/bin/ssh", "openssh-client"), ("/usr/bin/g++", "g++")];

/// Installs packages, and starts none of their daemons as a service of the machine: they are installed for their
/// programs. Debian asks policy-rc.d whether it may; a machine's own one stays.
const INSTALL: &str = "
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap \"rm -f $policy\" EXIT
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -yq -o DPkg::Lock::Timeout=120 --no-install-recommends \"$@\"
";

/// Installs what the tests need and is missing.
pub fn install_for_tests() -> anyhow::Result<()> {
    install(NEEDED)
}

/// Installs the packages of programs that are missing.
pub fn install(needed: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    must(privileged("sh").args(["-ec", INSTALL, "sh"]).args(&missing))
}

/// The programs of a virtual environment with these packages of Python, which is made where it is not there.
pub fn python(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let place = target().join(name);
    let programs = place.join("bin");
    let marker = place.join("packages");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
    must(Command::new(programs.join("pip")).args(["install", "--quiet"]).args(packages))?;
    // Last, so that what broke off is made anew.
    std::fs::write(marker, wanted)?;
    Ok(programs)
}

//! What a fresh machine lacks. The lab installs what it needs by itself; here is only what the
//! tests need besides.

use std::path::Path;

use crate::process::{must, privileged};

/// Programs that tests run or are built by, and the Debian packages that hold them. libFuzzer is of C++.
const NEEDED: &[(&str, &str)] =
    &[("/usr/sbin/sshd", "openssh-server"), ("/usr/bin/ssh", "openssh-client"), ("/usr/bin/g++", "g++")];

/// Installs what is missing.
pub fn install_for_tests() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    must(privileged("apt-get").args(["update", "-q"]))?;
    // A server that is installed for its binary must not be started as a service of the machine.
    must(
        privileged("env")
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "RUNLEVEL=1",
                "apt-get",
                "install",
                "-yq",
                "--no-install-recommends",
            ])
            .args(&missing),
    )
}

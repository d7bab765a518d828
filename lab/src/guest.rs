//! The guest of a lab with a real data plane: a Debian kernel and a small initial file system
//! that is all it ever has. Made once per machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, retried};
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, Lock};
use crate::progress::{Progress, step};
use crate::setup::DOWNLOAD_ATTEMPTS;

/// Changes to this module that change what is built must change this number.
const RECIPE: u32 = 1;

/// Debian's kernel for virtual machines, which has few drivers and boots in little memory.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Modules that the guest loads; the script has them in the order in which they need each other.
const MODULES: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// Programs of the guest besides busybox.
const SCRIPTS: &[(&str, &str)] = &[
    ("init", include_str!("../templates/guest-init.sh")),
    ("bin/dhcp", include_str!("../templates/guest-dhcp.sh")),
    ("bin/order", include_str!("../templates/guest-order.sh")),
    ("bin/cat-echo", "#!/bin/sh\nexec cat\n"),
];

/// Size of the disk that the guest has because instances must have one.
const DISK_BYTES: usize = 1024 * 1024;

/// Names of the files of a built guest.
pub(crate) const FILES: [&str; 3] = ["vmlinuz", "initrd.gz", "disk.raw"];

fn cached() -> PathBuf {
    let key = blake3::hash(format!("{RECIPE} {KERNEL} {MODULES:?} {SCRIPTS:?}").as_bytes());
    paths::cache_root().join(format!("guest-{}", &key.to_hex()[..12]))
}

/// Makes the guest unless the cache has it, and returns its folder.
pub(crate) fn ensure(progress: &dyn Progress) -> Result<PathBuf> {
    let path = cached();
    if path.exists() {
        return Ok(path);
    }
    let name = "build the guest";
    step(progress, name, || {
        let cache = paths::cache_root();
        let _lock = Lock::wait(&cache.join("guest.lock"), progress, name)?;
        if path.exists() {
            return Ok(path.clone());
        }
        let unfinished = cache.join("guest.new");
        paths::remove_tree(&unfinished)?;
        paths::create_dir(&unfinished)?;
        build(&unfinished)?;
        paths::rename(&unfinished, &path)?;
        Ok(path.clone())
    })
}

fn build(target: &Path) -> Result<()> {
    let work = target.join("work");
    paths::create_dir(&work)?;
    let depends = Cmd::new("looking for Debian's kernel", "apt-cache")
        .args(["depends", KERNEL])
        .limit(Duration::from_secs(120))
        .run()?;
    let kernel = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|version| format!("linux-image-{version}"))
        .ok_or_else(|| {
            Error::refused(format!("apt knows no package {KERNEL}"), "run `apt-get update` and try again")
        })?;
    // apt downloads into the folder in which it runs.
    retried(DOWNLOAD_ATTEMPTS, || {
        Cmd::new("downloading the guest's kernel and busybox", "sh")
            .args(["-ec", "cd \"$1\"; shift; apt-get -q download \"$@\"", "sh"])
            .arg(&work)
            .args([kernel.as_str(), "busybox-static"])
            .limit(Duration::from_secs(600))
            .run()
    })?;
    let root = work.join("root");
    for entry in fs::read_dir(&work).on("listing", &work)? {
        let package = entry.on("listing", &work)?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            Cmd::new("unpacking a package", "dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(&root)
                .limit(Duration::from_secs(120))
                .run()?;
        }
    }
    let version = kernel.trim_start_matches("linux-image-");
    let image = root.join("boot").join(format!("vmlinuz-{version}"));
    fs::copy(&image, target.join("vmlinuz")).on("copying", &image)?;
    let modules = root.join("lib/modules").join(version).join("kernel");
    let ramdisk = work.join("initrd");
    paths::write(&ramdisk, initial_files(&root, &modules)?, 0o644)?;
    Cmd::new("compressing the guest's file system", "gzip")
        .args(["-9", "--no-name"])
        .arg(&ramdisk)
        .limit(Duration::from_secs(60))
        .run()?;
    paths::rename(&work.join("initrd.gz"), &target.join("initrd.gz"))?;
    paths::write(&target.join("disk.raw"), vec![0_u8; DISK_BYTES], 0o644)?;
    paths::remove_tree(&work)
}

/// The guest's initial file system as an archive that the kernel unpacks.
fn initial_files(root: &Path, modules: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "lib", "lib/modules", "dev", "proc", "sys", "tmp", "run"] {
        archive.add(folder, 0o040_755, &[]);
    }
    // busybox lies in /bin, or in /usr/bin where that is the same.
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|name| root.join(name));
    let busybox = busybox.iter().find(|path| path.exists()).unwrap_or(&busybox[0]);
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox).on("reading", busybox)?);
    // The kernel starts /init, which needs a shell by name before busybox has made its links.
    archive.add("bin/sh", 0o120_777, b"busybox");
    for (name, text) in SCRIPTS {
        archive.add(name, 0o100_755, text.as_bytes());
    }
    let found = Cmd::new("looking for kernel modules", "find").arg(modules).args(["-name", "*.ko"]).run()?;
    for module in MODULES {
        let file = format!("{module}.ko");
        let path =
            found.lines().map(Path::new).find(|path| path.file_name().is_some_and(|name| *name == *file));
        let path = path.ok_or_else(|| Error::Damaged {
            path: modules.to_owned(),
            seen: format!("the kernel has no module {module}"),
        })?;
        archive.add(&format!("lib/modules/{file}"), 0o100_644, &fs::read(path).on("reading", path)?);
    }
    Ok(archive.finish())
}

/// A cpio archive in the format `newc`, which the kernel documents in
/// `driver-api/early-userspace/buffer-format`.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device (4 numbers), length of name, checksum
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let header = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_aligned_entries_with_their_sizes() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081ED"));
        assert_eq!(&text[54..62], "00000005");
        assert_eq!(&text[94..102], "00000005");
        assert_eq!(&text[110..114], "init");
        // Header and name take 115 bytes, which are padded to 116; the content to 124.
        assert_eq!(&text[116..121], "hello");
        assert_eq!(&text[124..130], "070701");
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_guest_loads_only_modules_that_it_has() {
        let init = SCRIPTS[0].1;
        for module in MODULES {
            assert!(init.contains(module), "{module}");
        }
    }
}

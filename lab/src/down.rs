//! Taking a lab down: everything that carries its names, nothing else, whatever state it is in.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, wait_for};
use crate::error::{IoContext as _, Result};
use crate::machine::{lab_groups, processes_in};
use crate::network;
use crate::paths::{self, StateDir};

/// Killed processes are gone within milliseconds, a container's name spaces within a second or
/// two; a machine under heavy load needs longer.
const GONE_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Removes all of a lab. Can be repeated, and can follow a crash at any point of `up`.
pub(crate) fn remove_all(state: &StateDir) -> Result<()> {
    let subnets = network::reserved_subnets(state)?;
    for subnet in &subnets {
        remove_from_machine(*subnet)?;
    }
    remove_nspawn_locks(state)?;
    remove_mounts(&state.path())?;
    paths::remove_tree(&state.path())?;
    // A supervisor that a killed `up` had just started joins its control group at last and may
    // have been missed above. Now it finds no folder to start a host from.
    for subnet in subnets {
        remove_from_machine(subnet)?;
        // The reservation goes last: as long as it exists, a repeated `down` looks again.
        network::release_subnet(subnet)?;
    }
    Ok(())
}

fn remove_from_machine(subnet: u8) -> Result<()> {
    remove_processes(subnet)?;
    network::remove(subnet)?;
    remove_groups(subnet)?;
    remove_nspawn_traces(subnet)
}

/// systemd-nspawn that was killed leaves a lock named after device and inode of the host's root.
fn remove_nspawn_locks(state: &StateDir) -> Result<()> {
    let hosts = state.path().join("hosts");
    if !hosts.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&hosts).on("listing", &hosts)? {
        let root = entry.on("listing", &hosts)?.path().join("root");
        let Ok(metadata) = fs::metadata(&root) else { continue };
        let name = format!("inode-{}:{}", metadata.dev(), metadata.ino());
        let lock = Path::new("/run/systemd/nspawn/locks").join(name);
        match fs::remove_file(&lock) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).on("removing", &lock);
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_processes(subnet: u8) -> Result<()> {
    wait_for("ending the lab's processes", GONE_LIMIT, PAUSE, || {
        // Every round anew: a supervisor that was just killed may have started a host before.
        let mut left: Vec<u32> = lab_groups(subnet).iter().flat_map(|group| processes_in(group)).collect();
        left.sort_unstable();
        left.dedup();
        if left.is_empty() {
            return Ok(Ok(()));
        }
        let pids = left.iter().map(u32::to_string);
        // A process that ended by itself meanwhile makes kill fail; the next round tells.
        Cmd::new("ending the lab's processes", "kill").arg("-KILL").args(pids).output()?;
        Ok(Err(format!("{} processes are left: {left:?}", left.len())))
    })
}

fn remove_groups(subnet: u8) -> Result<()> {
    for group in lab_groups(subnet) {
        wait_for("removing the lab's control groups", GONE_LIMIT, PAUSE, || {
            Ok(remove_group(&group).map_err(|error| format!("{}: {error}", group.display())))
        })?;
    }
    Ok(())
}

/// Removes a control group with all below it. Control groups have only folders to remove.
fn remove_group(group: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// systemd-nspawn that was killed leaves empty folders named after its machine.
fn remove_nspawn_traces(subnet: u8) -> Result<()> {
    let prefix = format!("vlab{subnet}-");
    for folder in ["/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export"] {
        let folder = Path::new(folder);
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder).on("listing", folder)? {
            let path = entry.on("listing", folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&prefix) {
                remove_mounts(&path)?;
                paths::remove_tree(&path)?;
            }
        }
    }
    Ok(())
}

/// Unmounts everything below a folder, and the folder itself, the innermost first.
fn remove_mounts(folder: &Path) -> Result<()> {
    wait_for("unmounting", GONE_LIMIT, PAUSE, || {
        let table = paths::read(Path::new("/proc/self/mountinfo"))?;
        let mounts = mounts_below(&table, folder);
        if mounts.is_empty() {
            return Ok(Ok(()));
        }
        let mut seen = String::new();
        for mount in &mounts {
            let output = Cmd::new("unmounting", "umount").arg(mount).output()?;
            seen.push_str(&output.stderr);
        }
        Ok(Err(seen))
    })
}

/// Mount points in a folder of `/proc/self/mountinfo`, the most recent first.
fn mounts_below(table: &str, folder: &Path) -> Vec<PathBuf> {
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel writes blanks in paths as octal numbers.
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(folder))
        .collect();
    mounts.reverse();
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_taken_the_last_first() {
        let table = "1 0 0:1 / / rw - ext4 x rw\n\
                     2 1 0:2 / /var/lib/volutus-lab/a/shared rw - tmpfs tmpfs rw\n\
                     3 1 0:3 / /var/lib/volutus-lab/a/hosts/ctl1/disk rw - tmpfs tmpfs rw\n\
                     4 1 0:4 / /var/lib/volutus-lab/a/hosts/ctl1/root rw - overlay overlay rw\n\
                     5 1 0:5 / /var/lib/volutus-lab/ab/shared rw - tmpfs tmpfs rw\n";
        let mounts = mounts_below(table, Path::new("/var/lib/volutus-lab/a"));
        let names: Vec<_> = mounts.iter().map(|path| path.to_string_lossy()).collect();
        assert_eq!(
            names,
            [
                "/var/lib/volutus-lab/a/hosts/ctl1/root",
                "/var/lib/volutus-lab/a/hosts/ctl1/disk",
                "/var/lib/volutus-lab/a/shared"
            ]
        );
    }

    #[test]
    fn removing_a_group_that_is_not_there_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        remove_group(&folder.path().join("gone")).expect("nothing to do");
    }
}

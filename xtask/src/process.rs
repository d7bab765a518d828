//! Running other programs, visibly.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The workspace's root.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt as _;
        meta.uid() == 0
    })
}

/// A command that runs as root: as it is for root, through sudo for others.
pub fn privileged(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env=VOLUTUS_LAB_CACHE,VOLUTUS_LAB_STATE,PIP_CERT,PIP_INDEX_URL").arg(program);
    command
}

/// Shows a command as it would be typed.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command with the terminal's own input and output, and returns its exit code.
pub fn exit_code(command: &mut Command) -> anyhow::Result<i32> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("could not start `{}`", shown(command)))?;
    Ok(status.code().unwrap_or(-1))
}

/// Runs a command that has to succeed.
pub fn must(command: &mut Command) -> anyhow::Result<()> {
    match exit_code(command)? {
        0 => Ok(()),
        code => bail!("`{}` ended with exit code {code}", shown(command)),
    }
}

/// Runs a command that has to succeed, and returns what it printed.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    eprintln!("$ {}", shown(command));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}:\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// cargo, as this process was started by it.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

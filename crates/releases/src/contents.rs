//! Digests: of bytes, and of what a wheel installs.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use aws_lc_rs::digest::{Context, SHA256};
use volutus_model::lock::Sha256;
use zip::ZipArchive;

/// What all files of a wheel may come to when unpacked: those of nova, the largest service, come to 30 MiB.
/// Without a limit a small archive could unpack for hours.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// The SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    finish(context)
}

fn finish(context: Context) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Sha256::of_bytes(bytes)
}

/// The digest of what a wheel installs into the package directory; see
/// [`volutus_model::lock::LockedPackage::contents`]. The files themselves are hashed: what the wheel's own record says
/// of them, installers do not check.
///
/// # Errors
/// Says why the bytes cannot be read as a wheel.
pub fn contents_of_wheel(bytes: &[u8]) -> Result<Sha256, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    let mut left = UNPACKED_BYTES_MAX;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|error| error.to_string())?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().map_err(|error| error.to_string())?;
        let Some(path) = installed_path(&name).map(str::to_owned) else { continue };
        let mut context = Context::new(&SHA256);
        let mut buffer = [0; 1 << 16];
        loop {
            let count = entry.read(&mut buffer).map_err(|error| format!("{path}: {error}"))?;
            if count == 0 {
                break;
            }
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| format!("its files come to more than {UNPACKED_BYTES_MAX} bytes"))?;
            context.update(&buffer[..count]);
        }
        files.insert(path, finish(context));
    }
    let mut all = Context::new(&SHA256);
    for (path, digest) in &files {
        all.update(format!("{path}\0{digest}\n").as_bytes());
    }
    Ok(finish(all))
}

/// Where a file of a wheel goes below the package directory; nothing for its metadata, for what goes elsewhere
/// (scripts, data, headers), and for compiled modules. Source: the binary distribution format of wheels,
/// "The .data directory".
fn installed_path(name: &str) -> Option<&str> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    let path = if first.ends_with(".data") && !rest.is_empty() {
        rest.strip_prefix("purelib/").or_else(|| rest.strip_prefix("platlib/"))?
    } else {
        name
    };
    let metadata = first.ends_with(".dist-info");
    (!metadata && !path.ends_with(".pyc")).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A wheel of these files.
    fn wheel(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn what_is_installed_counts_and_nothing_else() {
        let one = wheel(&[
            ("nova/__init__.py", ""),
            ("nova/api.py", "x = 1\n"),
            ("nova-33.0.2.data/purelib/extra.py", "y = 2\n"),
            ("nova-33.0.2.data/scripts/nova-api", "#!python\n"),
            ("nova-33.0.2.dist-info/RECORD", "whatever"),
        ]);
        let other = wheel(&[
            ("extra.py", "y = 2\n"),
            ("nova/api.py", "x = 1\n"),
            ("nova/__init__.py", ""),
            ("nova/__pycache__/api.cpython-311.pyc", "compiled"),
        ]);
        let digest = contents_of_wheel(&one).unwrap();
        assert_eq!(contents_of_wheel(&other).unwrap(), digest);
        // The same files, hashed by what runs on hosts (crates/drivers/src/host/host.py), have the same digest.
        assert_eq!(digest.as_str(), "ec297c86b8725948301af8d2eb2d0d163526cb1d73bbed1ea2fe795899c3a742");
        let changed = wheel(&[("extra.py", "y = 2\n"), ("nova/api.py", "x = 2\n"), ("nova/__init__.py", "")]);
        assert_ne!(contents_of_wheel(&changed).unwrap(), digest);
        assert!(contents_of_wheel(b"no archive").is_err());
    }

    #[test]
    fn the_empty_digest_is_the_known_one() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b"").as_str(), known);
    }
}

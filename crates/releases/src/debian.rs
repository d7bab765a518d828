//! Debian repositories: what their files say, and how versions are ordered.
//!
//! Sources: Debian's repository format (`Release`, `Packages`); Debian Policy, 5.6.12 "Version".

use std::cmp::Ordering;

use volutus_model::lock::Sha256;

use crate::error::Error;

/// A binary package that a repository offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    pub package: String,
    pub source: String,
    pub version: String,
    pub file: String,
    pub sha256: Option<Sha256>,
}

/// The hashes of a `Release` file: of a file's path below the suite, its SHA-256.
pub(crate) fn hash_of(release: &str, path: &str) -> Option<Sha256> {
    let lines = release.lines().skip_while(|line| line.trim_end() != "SHA256:").skip(1);
    lines.take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_whitespace();
        let (hash, _size, name) = (words.next()?, words.next()?, words.next()?);
        (name == path).then(|| Sha256::new(hash).ok())?
    })
}

/// Reads a `Packages` file. A paragraph without a name, version or file is refused.
pub(crate) fn read(text: &str, place: &str) -> Result<Vec<Offered>, Error> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let needed = |name: &str| {
            field(name).ok_or_else(|| {
                let first = paragraph.trim_start().lines().next().unwrap_or_default();
                Error::malformed(place, format!("the paragraph of `{first}` has no {name}"))
            })
        };
        let package = needed("Package")?.to_owned();
        // The source's own version stands in parentheses where it is another one.
        let source = field("Source").and_then(|source| source.split_whitespace().next());
        found.push(Offered {
            source: source.map_or_else(|| package.clone(), str::to_owned),
            version: needed("Version")?.to_owned(),
            file: needed("Filename")?.to_owned(),
            sha256: field("SHA256").and_then(|text| Sha256::new(text).ok()),
            package,
        });
    }
    Ok(found)
}

/// Epoch, upstream's version, and Debian's revision.
fn parts(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// The first number of upstream's version, where it is that of a final release: Debian marks what comes before
/// with a tilde.
pub(crate) fn final_major(version: &str) -> Option<u64> {
    let (_, upstream, _) = parts(version);
    let end = upstream.find(|c: char| !c.is_ascii_digit()).unwrap_or(upstream.len());
    (!upstream.contains('~')).then(|| upstream[..end].parse().ok())?
}

/// Debian's order of versions.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    a.0.cmp(&b.0).then_with(|| compare_part(a.1, b.1)).then_with(|| compare_part(a.2, b.2))
}

/// Text and numbers in turn: text by letters before all others, and a tilde before even the end.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => c as i32,
        Some(c) => c as i32 + 256,
    };
    loop {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (mut chars_a, mut chars_b) = (text_a.chars(), text_b.chars());
        loop {
            let (one, other) = (chars_a.next(), chars_b.next());
            match weight(one).cmp(&weight(other)) {
                Ordering::Equal if one.is_none() && other.is_none() => break,
                Ordering::Equal => {}
                order => return order,
            }
        }
        let number = |rest: &str| rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number_a, after_a) = rest_a.split_at(number(rest_a));
        let (number_b, after_b) = rest_b.split_at(number(rest_b));
        // Of any length: without leading zeros, the longer number is the larger.
        let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        if after_a.is_empty() && after_b.is_empty() {
            return Ordering::Equal;
        }
        (a, b) = (after_a, after_b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_debian_does() {
        let ordered = [
            "33.0.0~rc1-1",
            "33.0.0-1~bpo12+1",
            "33.0.0-1",
            "33.0.0-1+b1",
            "33.0.0-2",
            "33.0.0-10",
            "33.0.0a-1",
            "33.0.0+ds-1",
            "33.0.2-1",
            "33.0.10-1",
            "1:1.0-1",
            "2:0.1-1",
        ];
        for pair in ordered.windows(2) {
            assert!(compare(pair[0], pair[1]).is_lt(), "{} is not before {}", pair[0], pair[1]);
        }
        assert!(compare("1.01-1", "1.1-1").is_eq());
        assert!(compare("", "~").is_gt());
    }

    #[test]
    fn the_first_number_is_that_of_a_final_release() {
        for (version, major) in [
            ("2:33.0.2-1~bpo12+1", Some(33)),
            ("33.0.0~rc1-1", None),
            ("33.0.2+ds1-3", Some(33)),
            ("x", None),
        ] {
            assert_eq!(final_major(version), major, "{version}");
        }
    }

    #[test]
    fn files_of_a_repository_are_read() {
        let hash = "a".repeat(64);
        let release =
            format!("Suite: x\nMD5Sum:\n 1 2 main/Packages\nSHA256:\n {hash} 12 main/Packages\nEnd: x\n");
        assert_eq!(hash_of(&release, "main/Packages").unwrap().as_str(), hash);
        assert_eq!(hash_of(&release, "main/Packages.gz"), None);
        let packages = format!(
            "Package: nova-common\nSource: nova (2:33.0.2-1)\nVersion: 2:33.0.2-1+b1\nDescription: it\n Version: 9\n\
             Filename: pool/n/nova-common.deb\nSHA256: {hash}\n\nPackage: nova\nVersion: 1\nFilename: f\n"
        );
        let read = read(&packages, "it").unwrap();
        assert_eq!((read[0].source.as_str(), read[0].version.as_str()), ("nova", "2:33.0.2-1+b1"));
        assert_eq!((read[1].source.as_str(), &read[1].sha256), ("nova", &None));
        assert!(super::read("Package: nova\n", "it").unwrap_err().to_string().contains("no Version"));
    }
}

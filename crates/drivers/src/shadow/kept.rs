//! What the old code answered, kept until everything is replaced: outlines of answers, without values.
//!
//! It is too much for a journal (some megabytes of a small cloud), so that it stands in files of its own
//! in the state directory, which survive the process just as the journal does.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use volutus_contract::answers::{Asked, Noise, Outline};
use volutus_model::name::{RunId, ServiceName};

use crate::work::safe;

/// The form of the files.
const FORMAT: u32 = 1;

/// One request, and what the old code answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub asked: Asked,
    pub answer: Outline,
}

/// What is kept of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub format: u32,
    /// In the order in which they were asked: what lists objects comes before what is about one.
    pub exchanges: Vec<Exchange>,
    /// What varied by itself.
    pub noise: Noise,
    /// Headers that the load balancer changes on their way: the old code was asked beside it, and what
    /// serves users is asked through it.
    pub balancer: BTreeSet<String>,
    /// Differences of the new code that were told, or are waived.
    pub known: BTreeSet<String>,
}

/// The file of a service's answers in a run.
pub(super) fn file_of(folder: &Path, run: &RunId, service: &ServiceName) -> PathBuf {
    folder.join(safe(run.as_str())).join(format!("{}.json", safe(service.as_str())))
}

impl Kept {
    /// Writes it, whole or not at all, and so that it is there after a loss of power.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&mut self, file: &Path) -> io::Result<()> {
        self.format = FORMAT;
        let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Paths in it name objects of users.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let part = file.with_extension("part");
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        let text = serde_json::to_vec(self)?;
        out.write_all(&text)?;
        out.sync_all()?;
        fs::rename(&part, file)?;
        File::open(folder)?.sync_all()
    }

    /// Reads it.
    ///
    /// # Errors
    /// Why there is nothing that can be used, in a sentence.
    pub fn read(file: &Path) -> Result<Self, String> {
        let at = file.display();
        let text = fs::read(file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("what the old code answered is not in {at}: it was not compared, or elsewhere")
            }
            _ => format!("what the old code answered could not be read from {at}: {error}"),
        })?;
        let kept: Self = serde_json::from_slice(&text)
            .map_err(|error| format!("what the old code answered is not as expected in {at}: {error}"))?;
        if kept.format != FORMAT {
            return Err(format!("what the old code answered was kept by another version ({at})"));
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use volutus_contract::answers::{Body, Comparator, Recorded};
    use volutus_contract::diff::Audience;

    use super::*;

    #[test]
    fn what_was_kept_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_of(folder.path(), &"r-1".parse().unwrap(), &"nova".parse().unwrap());
        assert!(Kept::read(&file).unwrap_err().contains("r-1/nova.json"));
        let comparator = Comparator::new(Vec::new()).unwrap();
        let answer = Recorded { status: 200, headers: Default::default(), body: Body::of(b"{\"a\": 1}") };
        let asked = Asked {
            service: "nova".to_owned(),
            operation: "GET /a".to_owned(),
            path: "/a".to_owned(),
            microversion: None,
            audience: Audience::Admin,
        };
        let exchange = Exchange { asked, answer: comparator.outline(&answer) };
        let mut kept = Kept { exchanges: vec![exchange], known: ["x".to_owned()].into(), ..Kept::default() };
        kept.write(&file).unwrap();
        // Again, as an attempt that is taken up does.
        kept.write(&file).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), kept);
        fs::write(&file, "{\"format\": 1").unwrap();
        assert!(Kept::read(&file).unwrap_err().contains("not as expected"));
    }
}

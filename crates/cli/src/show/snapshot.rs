//! Snapshots in a table.

use volutus_drivers::{Copy, Restore, RestorePhase, Snapshot};

use super::{short, table};

/// One line for each copy, and one for each restore that is not at its end or is kept.
pub fn render(snapshots: &[Snapshot], restores: &[Restore]) -> String {
    let mut rows =
        table(&["snapshot", "service", "taken at", "size", "tables", "encrypted", "verified", "run"]);
    for snapshot in snapshots {
        for copy in &snapshot.copies {
            rows.add_row([
                snapshot.id.clone(),
                copy.service.to_string(),
                copy.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
                size(copy.bytes),
                copy.tables.to_string(),
                if copy.encrypted { "yes" } else { "no" }.to_owned(),
                verified(copy),
                short(copy.run.as_str()).to_owned(),
            ]);
        }
    }
    let mut text = format!("{rows}\n");
    for restore in restores {
        text.push_str(&format!(
            "{}: restore from {} {}\n",
            restore.service,
            restore.snapshot,
            stands(restore)
        ));
    }
    text
}

fn verified(copy: &Copy) -> String {
    match copy.verified_at {
        _ if !copy.present => "FILE IS GONE".to_owned(),
        None => "NOT VERIFIED".to_owned(),
        Some(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    }
}

fn stands(restore: &Restore) -> String {
    let names = |kept: &std::collections::BTreeMap<String, String>| {
        kept.values().cloned().collect::<Vec<_>>().join(", ")
    };
    match restore.phase {
        RestorePhase::Load | RestorePhase::Loaded => "is prepared beside the databases in use".to_owned(),
        RestorePhase::Swap | RestorePhase::Undo => {
            "was cut off while tables were exchanged: give the same command again".to_owned()
        }
        RestorePhase::Done => {
            "is in place; daemons were not seen serving on it: give the same command again".to_owned()
        }
        RestorePhase::Kept if restore.undone_at.is_some() => {
            format!("was taken back; what was in use then is kept in {}", names(&restore.undone))
        }
        RestorePhase::Kept => {
            format!("is in place; what was in use before is kept in {}", names(&restore.before))
        }
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use volutus_model::ServiceName;

    use super::*;

    fn copy(verified: bool, present: bool) -> Copy {
        Copy {
            service: ServiceName::new("nova").unwrap(),
            cloud: "c".parse().unwrap(),
            run: "0192a3b4c5d6".parse().unwrap(),
            databases: vec!["nova".to_owned()],
            file: "nova-a.sql.zst".to_owned(),
            bytes: 3 << 20,
            sha256: String::new(),
            encrypted: true,
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            verified_at: verified.then_some(jiff::Timestamp::UNIX_EPOCH),
            server: String::new(),
            tables: 7,
            present,
        }
    }

    #[test]
    fn what_cannot_be_relied_on_stands_out() {
        let copies = vec![copy(true, true), copy(false, true), copy(true, false)];
        let snapshot = Snapshot { id: "c-2026.1-x".to_owned(), host: "db1".parse().unwrap(), copies };
        let text = render(&[snapshot], &[]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines[0].contains("3 MiB") && lines[0].contains("1970-01-01 00:00:00 UTC"), "{text}");
        assert!(lines[1].contains("NOT VERIFIED"), "{text}");
        assert!(lines[2].contains("FILE IS GONE"), "{text}");
    }
}

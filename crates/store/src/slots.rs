//! Slots of hosts that reboot themselves: so many of a group at once.

use jiff::Timestamp;
use rusqlite::params;

use crate::Store;
use crate::error::Error;

/// The kind of document that a slot is, by group.
fn kind(group: &str) -> String {
    format!("reboot-slot/{group}")
}

impl Store {
    /// Takes a slot of a group for a host, where fewer than `slots_max` others have one. Who has one
    /// keeps it. Tells whether the host has one now.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn take_slot(&self, group: &str, host: &str, at: Timestamp, slots_max: u32) -> Result<bool, Error> {
        let kind = kind(group);
        self.write("take a slot", |transaction| {
            let others: u32 = transaction.query_row(
                "SELECT count(*) FROM document WHERE kind = ?1 AND key <> ?2",
                params![kind, host],
                |row| row.get(0),
            )?;
            let held: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM document WHERE kind = ?1 AND key = ?2)",
                params![kind, host],
                |row| row.get(0),
            )?;
            if held {
                return Ok(true);
            }
            if others >= slots_max {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO document (kind, key, at, body) VALUES (?1, ?2, ?3, 'null')",
                params![kind, host, at.to_string()],
            )?;
            Ok(true)
        })
    }

    /// Gives a host's slot back; tells whether it had one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn give_slot_back(&self, group: &str, host: &str) -> Result<bool, Error> {
        self.remove_document(&kind(group), host)
    }

    /// Who has a slot, of any group, and since when.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn slots(&self) -> Result<Vec<(String, String, Timestamp)>, Error> {
        let rows: Vec<(String, String, String)> = self.read("read slots", |transaction| {
            let mut statement = transaction.prepare(
                "SELECT substr(kind, 13), key, at FROM document WHERE kind LIKE 'reboot-slot/%' ORDER BY kind, key",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        rows.into_iter()
            .map(|(group, host, at)| Ok((group, host, crate::records::name("time", &at)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_hosts_have_a_slot_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let at = Timestamp::UNIX_EPOCH;
        assert!(store.take_slot("computes", "c01", at, 2).unwrap());
        assert!(store.take_slot("computes", "c01", at, 2).unwrap(), "who asks twice keeps the slot");
        assert!(store.take_slot("computes", "c02", at, 2).unwrap());
        assert!(!store.take_slot("computes", "c03", at, 2).unwrap());
        assert!(store.take_slot("others", "c03", at, 2).unwrap(), "groups have slots of their own");
        assert!(store.give_slot_back("computes", "c01").unwrap());
        assert!(!store.give_slot_back("computes", "c01").unwrap());
        assert!(store.take_slot("computes", "c03", at, 2).unwrap());
        let held: Vec<_> = store.slots().unwrap().into_iter().map(|(group, host, _)| (group, host)).collect();
        let pair = |group: &str, host: &str| (group.to_owned(), host.to_owned());
        assert_eq!(held, [pair("computes", "c02"), pair("computes", "c03"), pair("others", "c03")]);
    }
}

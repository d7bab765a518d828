//! What HAProxy's runtime API answers. Source: HAProxy's management guide, sections 9.1
//! ("CSV format") and 9.3 ("show servers state").

use std::collections::BTreeMap;

/// Administrative states, as bits of `srv_admin_state`: set by somebody, from the configuration,
/// or inherited from a tracked server; and the three ways of draining likewise.
const FORCED_MAINTENANCE: u32 = 0x01;
const ANY_MAINTENANCE: u32 = FORCED_MAINTENANCE | 0x02 | 0x04 | 0x20 | 0x40;
const ANY_DRAIN: u32 = 0x08 | 0x10;

/// One server of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// Its status as HAProxy words it.
    pub status: String,
    /// Sessions that are open now.
    pub sessions: u64,
    /// Requests that wait for it.
    pub queued: u64,
    /// What the last health check saw.
    pub last_check: String,
    /// `srv_admin_state`; 0 where it was not asked for.
    pub admin: u32,
}

impl Server {
    /// Whether it gets new requests.
    pub(crate) fn serves(&self) -> bool {
        (self.status.starts_with("UP") || self.status == "no check") && !self.is_administratively_out()
    }

    /// Whether it would get requests if it were put in: it is well, whoever took it out.
    pub(crate) fn is_well(&self) -> bool {
        ["UP", "DRAIN", "no check"].iter().any(|word| self.status.starts_with(word))
    }

    /// Whether somebody took it out.
    pub(crate) fn is_administratively_out(&self) -> bool {
        self.admin & (ANY_MAINTENANCE | ANY_DRAIN) != 0
    }

    /// Whether it is out for maintenance, which Volutus never does.
    pub(crate) fn is_in_maintenance(&self) -> bool {
        self.admin & ANY_MAINTENANCE != 0
    }

    /// Its state in a few words.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.status.clone();
        if self.is_in_maintenance() && !text.starts_with("MAINT") {
            text.push_str(", in maintenance");
        } else if self.is_administratively_out() && !text.starts_with("DRAIN") {
            text.push_str(", drained");
        }
        if !self.last_check.is_empty() && !self.status.starts_with("UP") {
            text.push_str(&format!(" ({})", self.last_check));
        }
        text
    }
}

/// Reads the CSV of `show stat` (servers only).
///
/// # Errors
/// Why it is none, in a sentence.
pub(crate) fn parse_stat(text: &str) -> Result<Vec<Server>, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or_else(|| {
        format!(
            "its answer to `show stat` does not begin with a header: {}",
            text.chars().take(120).collect::<String>()
        )
    })?;
    let columns: Vec<&str> = header.split(',').collect();
    let position = |name: &str| {
        columns
            .iter()
            .position(|column| *column == name)
            .ok_or_else(|| format!("`show stat` has no column {name}"))
    };
    let (backend, name, status) = (position("pxname")?, position("svname")?, position("status")?);
    let (sessions, queued, check) = (position("scur")?, position("qcur")?, position("last_chk")?);
    let mut servers = Vec::new();
    for line in lines {
        let fields = fields(line);
        let field = |index: usize| fields.get(index).cloned().unwrap_or_default();
        let number = |index: usize| {
            let text = field(index);
            if text.is_empty() { Ok(0) } else { text.parse() }
                .map_err(|_| format!("`show stat` has `{text}` where a number should be: {line}"))
        };
        servers.push(Server {
            backend: field(backend),
            name: field(name),
            status: field(status),
            sessions: number(sessions)?,
            queued: number(queued)?,
            last_check: field(check),
            admin: 0,
        });
    }
    Ok(servers)
}

/// The fields of one line; those with commas in them stand in double quotes.
fn fields(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => found.push(String::new()),
            other => {
                if let Some(last) = found.last_mut() {
                    last.push(other);
                }
            }
        }
    }
    found
}

/// Reads `srv_admin_state` of each server from `show servers state`.
///
/// # Errors
/// Why it cannot, in a sentence.
pub(crate) fn parse_admin(text: &str) -> Result<BTreeMap<String, u32>, String> {
    let mut columns = None;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(header) = line.strip_prefix("# ") {
            let names: Vec<&str> = header.split(' ').collect();
            let position = |name: &str| names.iter().position(|column| *column == name);
            columns = position("srv_name").zip(position("srv_admin_state"));
            if columns.is_none() {
                return Err("`show servers state` has no columns srv_name and srv_admin_state".to_owned());
            }
        } else if let Some((name, admin)) = columns {
            let fields: Vec<&str> = line.split(' ').collect();
            let state = fields.get(admin).and_then(|text| text.parse().ok());
            match (fields.get(name), state) {
                (Some(name), Some(state)) => found.insert((*name).to_owned(), state),
                _ => return Err(format!("`show servers state` has a line that is not as expected: {line}")),
            };
        } else if line.chars().all(|c| c.is_ascii_digit()) {
            // The first line is the version of the format.
        } else {
            return Err(line.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "# pxname,svname,qcur,qmax,scur,smax,status,weight,last_chk,agent\n\
        nova,ctl1,0,0,3,9,UP,1,\"HTTP status, ok\",\n\
        nova,ctl2,0,0,0,9,DOWN 1/2,1,Connection refused,\n\
        keystone,ctl1,,,,,no check,1,,\n\n";

    #[test]
    fn statistics_are_read_by_their_header() {
        let servers = parse_stat(STAT).unwrap();
        assert_eq!(servers.len(), 3);
        assert_eq!((servers[0].sessions, servers[0].last_check.as_str()), (3, "HTTP status, ok"));
        assert!(servers[0].serves() && !servers[1].serves() && servers[2].serves());
        assert_eq!(servers[1].describe(), "DOWN 1/2 (Connection refused)");
        assert!(parse_stat("Unknown command\n").unwrap_err().contains("does not begin"));
        assert!(parse_stat("# pxname,svname\n").unwrap_err().contains("no column"));
        assert!(parse_stat(&STAT.replace(",3,", ",x,")).unwrap_err().contains("`x`"));
    }

    #[test]
    fn administrative_states_are_bits() {
        let text = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n\
            3 nova 1 ctl1 198.18.0.11 2 0 1\n3 nova 2 ctl2 198.18.0.12 2 8 1\n3 nova 3 ctl3 198.18.0.13 0 1 1\n\n";
        let admin = parse_admin(text).unwrap();
        let server = |name: &str| Server { admin: admin[name], ..parse_stat(STAT).unwrap()[0].clone() };
        assert!(server("ctl1").serves());
        assert!(server("ctl2").is_administratively_out() && !server("ctl2").is_in_maintenance());
        assert_eq!(server("ctl2").describe(), "UP, drained");
        assert!(server("ctl3").is_in_maintenance());
        assert_eq!(parse_admin("Can't find backend.\n").unwrap_err(), "Can't find backend.");
    }
}

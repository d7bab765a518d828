//! What a site's own clients ask: read from the log of its load balancer, and made into requests.
//!
//! HAProxy's HTTP log (`option httplog`, also `httpslog` and what stands behind the request there), and
//! lines of JSON with the same. Only `GET` is looked at, and of it only what is no secret is kept: the
//! operation, the names of query parameters, values that a parameter may have by itself (an enumeration,
//! yes or no, a number), and UUIDs. Anything else is replaced by a value that means nothing
//! ([`STAND_IN`]), so that the same code answers.
//!
//! Source of the log's form: HAProxy's configuration manual, sections 8.2.3, 8.2.5 and 8.8.

mod line;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};

use crate::Microversion;
use crate::document::{Document, Operation, Service};
use crate::forms::{is_id, is_time};
use crate::requests::{Pin, Prepared, below_root, escaped, holes, is_enumerated};
use line::Line;

/// Stands for a value that is not kept.
pub const STAND_IN: &str = "volutus";
/// Stands for a time.
const TIME: &str = "2020-01-01T00:00:00Z";
/// Stands for an address.
const ADDRESS: &str = "192.0.2.1";

/// Lines of a log that are read: some days of a busy cloud.
pub const LINES_MAX: u64 = 20_000_000;
/// The longest line that HAProxy can be made to write.
const LINE_BYTES_MAX: u64 = 65_535;
/// Different requests that are told apart while a log is read; a log has some hundreds. What comes
/// behind so many is counted, and left out.
const DIFFERENT_MAX: usize = 50_000;
/// Requests of one service that are asked for, the most frequent ones: about as many as are made of its
/// contract.
const REQUESTS_MAX: usize = 300;
/// Parameters of one request that are kept; clients send five at the most.
const PARAMETERS_MAX: usize = 12;
/// A page that a client asks for is cut to so many: an answer is compared, not its length.
const PAGE_MAX: u64 = 1_000;

/// Parameters whose values are words of the API's own: columns, states, kinds.
const OF_WORDS: &[&str] = &[
    "status",
    "vm_state",
    "task_state",
    "power_state",
    "sort_key",
    "sort_keys",
    "sort_dir",
    "sort",
    "fields",
    "visibility",
    "container_format",
    "disk_format",
    "member_status",
    "binary",
    "protocol",
    "ethertype",
    "direction",
    "network_type",
    "ip_version",
    "agent_type",
    "type",
    "interface",
    "admin_state_up",
    "policy",
    "resource_class",
    "migration_type",
    "device_owner",
    "provider:network_type",
    "required",
    "with_count",
];
/// Parts of names of parameters that hold what nobody else may see.
const SECRET: &[&str] =
    &["token", "secret", "password", "passwd", "signature", "credential", "auth", "cookie"];

/// What was read so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// By service: what was asked, and how often.
    asked: BTreeMap<String, BTreeMap<Used, First>>,
    /// Backends, and the services behind them.
    services: BTreeMap<String, String>,
    /// What the log has.
    pub figures: Figures,
    different: usize,
}

/// What a log has, in lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// All of them.
    pub lines: u64,
    /// Those that are no record of a request, or of none that was understood by the load balancer.
    pub malformed: u64,
    /// Requests that are no `GET`, and are not asked again.
    pub writing: u64,
    /// Requests of backends that are none of the services.
    pub elsewhere: u64,
    /// Requests that were not let in, or that nothing answered: their answers say nothing of the code.
    pub unanswered: u64,
    /// Requests behind more different ones than are told apart.
    pub too_many: u64,
    /// Requests that are read.
    pub used: u64,
}

/// A request without what only one client or object has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    path: Vec<Part>,
    parameters: Vec<(String, Given)>,
    microversion: Option<Wanted>,
}

/// How often such a request was made, and what it had the first time of what may be kept.
#[derive(Debug, Default)]
struct First {
    count: u64,
    /// The UUIDs of its path.
    ids: Vec<String>,
    /// The values of its parameters, where they are numbers or UUIDs.
    values: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A word: a name of a collection, or of an object.
    Word(String),
    /// A UUID.
    Id,
}

/// What stands behind a parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Given {
    /// A word of the API's own, or perhaps one: whether it is kept is known with the contract.
    Word(String),
    Number,
    Id,
    Time,
    Address,
    Private,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    At(Microversion),
    Latest,
}

/// What of a log is asked of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The requests, the most frequent first, and how often clients made them.
    pub requests: Vec<(Prepared, u64)>,
    /// Requests of the log that the contract has no reading operation for.
    pub unknown: u64,
    /// Requests of the log that are left out, because there are more different ones than are asked.
    pub rare: u64,
}

impl Traffic {
    /// `services` has the service behind each backend of the load balancer.
    #[must_use]
    pub fn new(services: BTreeMap<String, String>) -> Self {
        Self { services, ..Self::default() }
    }

    /// Takes one line in. What is not understood is counted.
    pub fn take(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let figures = &mut self.figures;
        figures.lines += 1;
        let Some(line) = Line::parse(text) else {
            figures.malformed += 1;
            return;
        };
        if line.method != "GET" {
            figures.writing += 1;
            return;
        }
        let Some(service) = self.services.get(&line.backend) else {
            figures.elsewhere += 1;
            return;
        };
        // 401: the answer of the authentication in front of the code.
        if !matches!(line.status, 200..=499) || line.status == 401 {
            figures.unanswered += 1;
            return;
        }
        let (used, first) = Used::of(&line, service);
        let own = self.asked.entry(service.clone()).or_default();
        match own.entry(used) {
            Entry::Occupied(mut known) => known.get_mut().count += 1,
            Entry::Vacant(_) if self.different >= DIFFERENT_MAX => {
                figures.too_many += 1;
                return;
            }
            Entry::Vacant(new) => {
                new.insert(first);
                self.different += 1;
            }
        }
        figures.used += 1;
    }

    /// Takes a whole log in, line by line. What is behind [`LINES_MAX`] lines is not read.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn read(&mut self, mut log: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        for _ in 0..LINES_MAX {
            line.clear();
            // What is longer comes as several lines, which are malformed.
            if log.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.take(&String::from_utf8_lossy(&line));
        }
        Ok(())
    }

    /// The requests that are to be asked of a service with a contract. Objects of a path are filled from
    /// what is seen in the cloud; where a client named them by UUIDs, one path is asked as it was, too.
    #[must_use]
    pub fn joined(&self, document: &Document, name: &str) -> Joined {
        let mut joined = Joined::default();
        let (Some(service), Some(asked)) = (document.services.get(name), self.asked.get(name)) else {
            return joined;
        };
        // What differs in values that do not matter is one request, with the first of them.
        let mut shapes: BTreeMap<(String, Option<Microversion>), (Vec<Prepared>, u64)> = BTreeMap::new();
        for (used, first) in asked {
            let Some((general, of_objects)) = used.prepared(first, name, service) else {
                joined.unknown += first.count;
                continue;
            };
            let shape = (general.operation.clone(), general.microversion);
            let (known, count) = shapes.entry(shape).or_insert_with(|| (vec![general], 0));
            *count += first.count;
            // Of one path with objects that a client named.
            if known.len() == 1 {
                known.extend(of_objects);
            }
        }
        let mut frequent: Vec<(Vec<Prepared>, u64)> = shapes.into_values().collect();
        // Equal counts stay in the order of the operations.
        frequent.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (prepared, count) in frequent {
            if joined.requests.len() + prepared.len() > REQUESTS_MAX {
                joined.rare += count;
                continue;
            }
            joined.requests.extend(prepared.into_iter().map(|one| (one, count)));
        }
        joined
    }
}

impl Used {
    fn of(line: &Line, service: &str) -> (Self, First) {
        let (path, query) = line.path.split_once('?').unwrap_or((&line.path, ""));
        let mut first = First { count: 1, ..First::default() };
        let mut parts = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if is_id(part) {
                first.ids.push(part.to_owned());
                parts.push(Part::Id);
            } else {
                parts.push(Part::Word(part.to_owned()));
            }
        }
        let mut parameters: Vec<(String, Given, String)> = query
            .split('&')
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                parameter(&unescaped(name), &unescaped(value))
            })
            .take(PARAMETERS_MAX)
            .collect();
        parameters.sort();
        let mut named = Vec::new();
        for (name, given, value) in parameters {
            named.push((name, given));
            first.values.push(value);
        }
        let microversion = wanted(&line.captured, service);
        (Self { path: parts, parameters: named, microversion }, first)
    }

    /// The request, with holes for its objects; and where a client named all of them by UUIDs, that of
    /// these.
    fn prepared(&self, first: &First, name: &str, service: &Service) -> Option<(Prepared, Option<Prepared>)> {
        let microversion = match (self.microversion, service.microversions) {
            (Some(Wanted::At(at)), Some(range)) if range.min <= at && at <= range.max => Some(at),
            (Some(Wanted::At(_)), _) => return None,
            (Some(Wanted::Latest), range) => Some(range?.max),
            (None, _) => None,
        };
        let (operation, start) = self.operation(name, service, microversion)?;
        let path = below_root(name, &operation.path)?;
        let schemas = operation.query.iter().filter(|schemed| schemed.span.holds(microversion));
        let schemas: Vec<_> = schemas.filter_map(|schemed| service.schemas.get(&schemed.schema)).collect();
        let (mut query, mut shape) = (Vec::new(), Vec::new());
        for ((parameter, given), value) in self.parameters.iter().zip(&first.values) {
            let known = |word: &str| schemas.iter().any(|schema| is_enumerated(schema, parameter, word));
            let (value, class) = match given {
                Given::Word(word) if known(word) || is_word(parameter, word) => {
                    (word.as_str(), word.as_str())
                }
                Given::Word(_) | Given::Private => (STAND_IN, STAND_IN),
                Given::Number => (value.as_str(), "N"),
                Given::Id => (value.as_str(), "UUID"),
                Given::Time => (TIME, "TIME"),
                Given::Address => (ADDRESS, "ADDRESS"),
            };
            query.push(format!("{}={}", escaped(parameter), escaped(value)));
            shape.push(format!("{parameter}={class}"));
        }
        let asked = if shape.is_empty() { String::new() } else { format!("?{}", shape.join("&")) };
        let general = Prepared {
            service: name.to_owned(),
            operation: format!("GET {}{asked}", operation.path),
            holes: holes(&path),
            path,
            query: (!query.is_empty()).then(|| query.join("&")),
            microversion,
            pins: [Pin::Used].into(),
        };
        let of_objects = self.named(start, &general.path, first).map(|path| Prepared {
            path,
            holes: Vec::new(),
            ..general.clone()
        });
        Some((general, of_objects))
    }

    /// The path with the UUIDs that a client gave, where it has objects and all were given by such.
    fn named(&self, start: usize, path: &str, first: &First) -> Option<String> {
        let before = self.path[..start].iter().filter(|part| **part == Part::Id).count();
        let mut ids = first.ids.iter().skip(before);
        let mut out = String::new();
        let mut any = false;
        for (written, part) in path.split('/').filter(|part| !part.is_empty()).zip(&self.path[start..]) {
            let part = match part {
                _ if !written.starts_with('{') => written,
                Part::Id => {
                    any = true;
                    ids.next()?
                }
                Part::Word(_) => return None,
            };
            out.push('/');
            out.push_str(part);
        }
        any.then_some(out)
    }

    /// The reading operation that this is, and where in the path it begins: before it stand a prefix of
    /// the load balancer's, a version, and in some catalogs a project.
    fn operation<'a>(
        &self,
        name: &str,
        service: &'a Service,
        at: Option<Microversion>,
    ) -> Option<(&'a Operation, usize)> {
        let version = self.path.iter().position(|part| matches!(part, Part::Word(word) if is_version(word)));
        let first = version.unwrap_or(0);
        let starts = (first..self.path.len().min(first + 3)).filter(|start| {
            // Nothing else is passed over: `/v2.1/other/servers` is not `/servers`.
            let passed = &self.path[first..*start];
            match version {
                Some(_) => passed.iter().skip(1).all(|part| *part == Part::Id),
                None => passed.len() <= 1,
            }
        });
        starts.into_iter().find_map(|start| {
            let reading = service
                .operations
                .values()
                .filter(|operation| operation.method == "GET" && !operation.removed && operation.exists(at));
            let found = reading.filter_map(|operation| {
                let objects = objects(&below_root(name, &operation.path)?, &self.path[start..])?;
                Some((objects, operation))
            });
            // `/servers/detail` is no server.
            found.min_by_key(|(objects, _)| *objects).map(|(_, operation)| (operation, start))
        })
    }
}

/// How many objects a path has, where it is that of an operation.
fn objects(operation: &str, parts: &[Part]) -> Option<usize> {
    let written: Vec<&str> = operation.split('/').filter(|part| !part.is_empty()).collect();
    if written.len() != parts.len() {
        return None;
    }
    let mut objects = 0;
    for (written, part) in written.into_iter().zip(parts) {
        match part {
            _ if written.starts_with('{') => objects += 1,
            Part::Word(word) if word == written => {}
            _ => return None,
        }
    }
    Some(objects)
}

/// `v2.1`, `v3`.
fn is_version(word: &str) -> bool {
    word.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// What of a parameter may be kept, and its value where that is a number or a UUID; `None` where not even
/// its name may, or where it has none.
fn parameter(name: &str, value: &str) -> Option<(String, Given, String)> {
    const NAME_MAX: usize = 40;
    let is_name = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b':' | b'.'));
    let lower = name.to_ascii_lowercase();
    if !is_name || SECRET.iter().any(|part| lower.contains(part)) {
        return None;
    }
    // A UUID without hyphens looks like a token of old: only what is named for ids has one.
    let of_ids = ["id", "uuid", "marker"].iter().any(|end| lower.ends_with(end));
    let (given, kept) = match value {
        text if !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit()) => {
            let number: u64 = text.parse().unwrap_or(0);
            (Given::Number, if lower == "limit" { PAGE_MAX.min(number) } else { number }.to_string())
        }
        text if of_ids && is_id(text) => (Given::Id, text.to_owned()),
        text if is_time(text) => (Given::Time, String::new()),
        text if text.parse::<std::net::IpAddr>().is_ok() => (Given::Address, String::new()),
        text if may_be_word(text) => (Given::Word(text.to_owned()), String::new()),
        _ => (Given::Private, String::new()),
    };
    Some((name.to_owned(), given, kept))
}

/// Whether it has the form of a word of an API's: whether it is one is decided by its parameter.
fn may_be_word(text: &str) -> bool {
    const WORD_MAX: usize = 40;
    !text.is_empty()
        && text.len() <= WORD_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b':' | b','))
}

fn is_word(parameter: &str, word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "none")
        || OF_WORDS.contains(&parameter)
}

/// The microversion among the captured headers of a request: `compute 2.79`, or nova's own `2.79`.
fn wanted(captured: &[String], service: &str) -> Option<Wanted> {
    let own = |name: &str| match service {
        "nova" => matches!(name, "compute" | "nova"),
        "cinder" => matches!(name, "volume" | "block-storage"),
        other => name == other,
    };
    let version = |text: &str| match text {
        "latest" => Some(Wanted::Latest),
        text if text.contains('.') => text.parse().ok().map(Wanted::At),
        _ => None,
    };
    let each = captured.iter().flat_map(|field| field.split(',')).map(str::trim);
    let mut legacy = None;
    for field in each {
        match field.split_once(' ') {
            Some((name, at)) if own(name) => {
                if let Some(at) = version(at.trim()) {
                    return Some(at);
                }
            }
            None if service == "nova" => legacy = legacy.or_else(|| version(field)),
            _ => {}
        }
    }
    legacy
}

/// A part of a query as it was meant.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair: Option<[u8; 2]> = rest.next().zip(rest.next()).map(|(a, b)| [a, b]);
                let hex = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok());
                // What is escaped wrongly is nothing that may be kept.
                bytes.push(hex.unwrap_or(0));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::document::{Origin, OriginKind};

    const UUID: &str = "6c8b3ce2-7d2c-4b3c-9d0e-9d7ad5b3c7f1";
    const PROJECT: &str = "0123456789abcdef0123456789abcdef";

    fn document() -> Document {
        let origin = Origin {
            kind: OriginKind::Installed,
            of: String::new(),
            at: Timestamp::UNIX_EPOCH,
            python: None,
        };
        let get = |path: &str| json!({"method": "GET", "path": path, "versions": [{}]});
        let mut detail = get("/servers/detail");
        let keys = json!({"type": "array", "items": {"type": "string", "enum": ["created_at"]}});
        detail["query"] = json!([{"schema": {"properties": {"order": keys}}}]);
        let mut tags = get("/servers/{server_id}/tags");
        tags["versions"] = json!([{"min": "2.26"}]);
        let nova = json!({"microversions": {"min": "2.1", "max": "2.100"}, "operations": {
            "a": get("/servers"), "b": detail, "c": get("/servers/{id}"), "d": tags}});
        let keystone = json!({"operations": {"a": get("/v3/users/{user_id}/projects")}});
        let neutron = json!({"operations": {"a": get("/v2.0/ports")}});
        let services = [("nova", nova), ("keystone", keystone), ("neutron", neutron)];
        let read = |service: Value| Service::from_program(service).unwrap();
        Document::new(origin, services.map(|(name, service)| (name.to_owned(), read(service))).into())
    }

    fn traffic(requests: &[(&str, &str, &str)]) -> Traffic {
        let backends = ["nova", "keystone", "neutron"].map(|name| (format!("{name}-api"), name.to_owned()));
        let mut traffic = Traffic::new(backends.into());
        for (backend, request, captured) in requests {
            traffic.take(&format!(
                "198.51.100.7:1 [26/Nov/2026:08:00:01.004] x {backend}/ctl2 0/0/0/5/5 200 9 - - ---- 1/1/0/0/0 \
                 0/0 {captured} \"{request} HTTP/1.1\""
            ));
        }
        traffic
    }

    /// What is asked: operation, path and query, microversion, how often it was.
    fn asked(requests: &[(&str, &str, &str)], service: &str) -> Vec<String> {
        let joined = traffic(requests).joined(&document(), service);
        let told = joined.requests.into_iter().map(|(one, count)| {
            let version = one.microversion.map_or("-".to_owned(), |at| at.to_string());
            let query = one.query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("{count} {version} {} = {}{query}", one.operation, one.path)
        });
        told.collect()
    }

    #[test]
    fn the_most_frequent_comes_first_and_objects_are_told_apart_by_nothing() {
        let server = format!("GET /v2.1/servers/{UUID}");
        let other = "GET /compute/v2.1/servers/ee8b3ce2-7d2c-4b3c-9d0e-9d7ad5b3c7f1";
        let project = format!("GET /v2.1/{PROJECT}/servers/my-server");
        let requests = [
            ("nova-api", "GET /v2.1/servers", "{|x}"),
            ("nova-api", server.as_str(), ""),
            ("nova-api", other, ""),
            ("nova-api", project.as_str(), ""),
        ];
        assert_eq!(
            asked(&requests, "nova"),
            [
                "3 - GET /servers/{id} = /servers/{id}".to_owned(),
                "3 - GET /servers/{id} = /servers/ee8b3ce2-7d2c-4b3c-9d0e-9d7ad5b3c7f1".to_owned(),
                "1 - GET /servers = /servers".to_owned(),
            ]
        );
        assert_eq!(
            asked(&[("keystone-api", &format!("GET /identity/v3/users/{PROJECT}/projects"), "")], "keystone")
                [1],
            format!("1 - GET /v3/users/{{user_id}}/projects = /users/{PROJECT}/projects")
        );
        assert_eq!(asked(&[("neutron-api", "GET /v2.0/ports", "")], "neutron").len(), 1);
    }

    #[test]
    fn microversions_come_from_captured_headers() {
        let at = |captured: &str| asked(&[("nova-api", "GET /v2.1/servers", captured)], "nova");
        for (captured, expected) in [
            ("{compute 2.79|x}", "2.79"),
            ("{python-novaclient|2.90}", "2.90"),
            ("{volume 3.70, compute 2.80}", "2.80"),
            ("{compute latest}", "2.100"),
            ("{2.79|compute 2.80}", "2.80"),
            ("{volume 3.70} {2.79}", "-"),
            ("{cloud.example}", "-"),
        ] {
            assert_eq!(at(captured), [format!("1 {expected} GET /servers = /servers")], "{captured}");
        }
        let unknown = |request: &str, captured: &str| {
            traffic(&[("nova-api", request, captured)]).joined(&document(), "nova").unknown
        };
        assert_eq!(unknown("GET /v2.1/servers", "{compute 2.200}"), 1, "the old code refuses it");
        let tags = format!("GET /v2.1/servers/{UUID}/tags");
        assert_eq!((unknown(&tags, "{compute 2.25}"), unknown(&tags, "{compute 2.26}")), (1, 0));
        assert_eq!(unknown("GET /v2.1/other/servers", ""), 1);
    }

    #[test]
    fn nothing_private_is_kept() {
        let query = |query: &str| {
            asked(&[("nova-api", &format!("GET /v2.1/servers/detail?{query}"), "")], "nova").remove(0)
        };
        for (given, kept) in [
            ("name=payroll-db", "name=volutus"),
            ("name=payroll", "name=volutus"),
            ("order=created_at", "order=created_at"),
            ("order=hunter", "order=volutus"),
            ("status=ACTIVE&all_tenants=True", "all_tenants=True&status=ACTIVE"),
            ("changes-since=2026-11-25T10:00:00Z", "changes-since=2020-01-01T00:00:00Z"),
            ("ip=198.51.100.7", "ip=192.0.2.1"),
            ("limit=99999", "limit=1000"),
            ("tag=%2e%zz", "tag=volutus"),
        ] {
            assert!(query(given).ends_with(&format!(" = /servers/detail?{kept}")), "{}", query(given));
        }
        let id = format!("marker={UUID}&project_id={PROJECT}&user={PROJECT}");
        let told = query(&id);
        assert!(told.contains(&format!("project_id={PROJECT}&user=volutus")), "{told}");
        assert!(told.contains("?marker=UUID&project_id=UUID&user=volutus "), "{told}");
        for secret in
            ["auth_token=abc", "X-Amz-Signature=ACTIVE", "a%20b=c", "password=true", "abc123=1", "=x"]
        {
            assert!(query(secret).ends_with("GET /servers/detail = /servers/detail"), "{}", query(secret));
        }
    }

    #[test]
    fn shapes_count_and_not_values() {
        let requests = [
            ("nova-api", "GET /v2.1/servers?limit=10&name=a", ""),
            ("nova-api", "GET /v2.1/servers?name=b-1&limit=20", ""),
            ("nova-api", "GET /v2.1/servers?limit=x", ""),
        ];
        let told = asked(&requests, "nova");
        assert_eq!(told[0], "2 - GET /servers?limit=N&name=volutus = /servers?limit=10&name=volutus");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn lines_that_are_of_no_use_are_counted() {
        let mut traffic = traffic(&[
            ("nova-api", "POST /v2.1/servers", ""),
            ("horizon", "GET /dashboard", ""),
            ("nova-api", "GET /v2.1/servers", ""),
        ]);
        traffic.take("Nov 26 08:00:00 lb1 haproxy[7]: Proxy nova-api started.");
        traffic.take("  ");
        let log = "198.51.100.7:1 [26/Nov/2026:08:00:01.004] x nova-api/ctl2 0/0/0/5/5 503 9 - - ---- 1/1/0/0/0 0/0";
        traffic.take(&format!("{log} \"GET /v2.1/servers HTTP/1.1\""));
        let figures =
            Figures { lines: 5, malformed: 1, writing: 1, elsewhere: 1, unanswered: 1, too_many: 0, used: 1 };
        assert_eq!(traffic.figures, figures);
    }
}

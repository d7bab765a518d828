//! One line of a load balancer's log.

use serde_json::Value;

/// What of a line is of use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The method of the request.
    pub method: String,
    /// Its path with its query, and without scheme and host.
    pub path: String,
    /// The backend that the load balancer chose.
    pub backend: String,
    /// The status of the answer.
    pub status: u16,
    /// Headers of the request that the log captures, in its order.
    pub captured: Vec<String>,
}

/// Names that fields have in logs of JSON, whose form each site gives itself.
const REQUEST: &[&str] = &["request", "http_request", "req"];
const METHOD: &[&str] = &["method", "http_method", "request_method"];
const PATH: &[&str] = &["uri", "path", "url", "request_uri", "http_path", "http_uri"];
const QUERY: &[&str] = &["query", "query_string", "http_query"];
const BACKEND: &[&str] = &["backend", "backend_name"];
const STATUS: &[&str] = &["status", "status_code", "http_status"];
const CAPTURED: &[&str] = &["captured_request_headers", "request_headers", "captured"];

impl Line {
    /// Reads a line of HAProxy's HTTP log, with whatever a syslog daemon puts in front, or one of JSON.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end();
        match text.find('{') {
            Some(at) if text[at..].starts_with("{\"") && text.ends_with('}') => Self::of_json(&text[at..]),
            _ => Self::of_http_log(text),
        }
    }

    /// `… CLIENT:PORT [DATE] FRONTEND BACKEND/SERVER TIMERS STATUS BYTES COOKIE COOKIE STATE CONNECTIONS
    /// QUEUES {HEADER|HEADER} {HEADER} "METHOD PATH VERSION" …`
    fn of_http_log(text: &str) -> Option<Self> {
        let mut rest = behind_date(text)?;
        let mut fields = [""; 10];
        for field in &mut fields {
            rest = rest.trim_start();
            let end = rest.find(' ')?;
            (*field, rest) = (&rest[..end], &rest[end..]);
        }
        let [_, server, timers, status, _, _, _, _, connections, queues] = fields;
        let counts = |text: &str, least: usize| {
            text.split('/').count() >= least
                && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'/' | b'-' | b'+'))
        };
        if !counts(timers, 5) || !counts(connections, 5) || !counts(queues, 2) {
            return None;
        }
        let (backend, _) = server.split_once('/')?;
        // The headers of the request stand before those of the answer. Where only one of both is captured,
        // it is taken for the request's: what looks like a microversion is one.
        let mut captured = Vec::new();
        loop {
            rest = rest.trim_start();
            let Some(inside) = rest.strip_prefix('{') else { break };
            let (headers, behind) = inside.split_once('}')?;
            if captured.is_empty() {
                captured = headers.split('|').map(str::to_owned).collect();
            }
            rest = behind;
        }
        // Quotation marks in it are escaped; without the second one the line was cut off.
        let (request, _) = rest.strip_prefix('"')?.split_once('"')?;
        Self::of_request(request, backend, status.parse().ok()?, captured)
    }

    fn of_request(request: &str, backend: &str, status: u16, captured: Vec<String>) -> Option<Self> {
        // `<BADREQ>` has no parts.
        let (method, rest) = request.split_once(' ')?;
        let (path, version) = rest.rsplit_once(' ')?;
        if !version.starts_with("HTTP/")
            || method.is_empty()
            || !method.bytes().all(|b| b.is_ascii_uppercase())
        {
            return None;
        }
        let path = without_host(path)?;
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            backend: backend.to_owned(),
            status,
            captured,
        })
    }

    fn of_json(text: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(text).ok()?;
        let fields = fields.as_object()?;
        let find = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
        let text = |names: &[&str]| find(names).and_then(Value::as_str);
        let status = match find(STATUS)? {
            Value::Number(number) => number.as_u64()?.try_into().ok()?,
            Value::String(text) => text.parse().ok()?,
            _ => return None,
        };
        // `be/server` in one, as in the other form.
        let backend = text(BACKEND)?;
        let backend = backend.split_once('/').map_or(backend, |(backend, _)| backend);
        let mut captured: Vec<String> = Vec::new();
        match find(CAPTURED) {
            Some(Value::Array(list)) => {
                captured.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            Some(Value::String(text)) => {
                captured.extend(text.trim_matches(['{', '}']).split('|').map(str::to_owned));
            }
            _ => {}
        }
        let versions = fields.iter().filter(|(name, _)| {
            let name = name.to_ascii_lowercase().replace('-', "_");
            name.contains("microversion") || name.ends_with("api_version")
        });
        captured.extend(versions.filter_map(|(_, value)| value.as_str()).map(str::to_owned));
        if let Some(request) = text(REQUEST) {
            return Self::of_request(request, backend, status, captured);
        }
        let (method, path) = (text(METHOD)?, text(PATH)?);
        let query = text(QUERY).map(|query| query.trim_start_matches('?')).filter(|query| !query.is_empty());
        let whole = match query {
            Some(query) if !path.contains('?') => format!("{path}?{query}"),
            _ => path.to_owned(),
        };
        Self::of_request(&format!("{method} {whole} HTTP/1.1"), backend, status, captured)
    }
}

/// What stands behind the first date in brackets: `[06/Feb/2009:12:14:14.655] `. A syslog daemon may put
/// brackets of its own in front.
fn behind_date(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let at = rest.find('[')?;
        let inside = &rest[at + 1..];
        let (date, behind) = inside.split_once(']')?;
        let bytes = date.as_bytes();
        let is_date =
            bytes.get(2) == Some(&b'/') && bytes.get(6) == Some(&b'/') && bytes.get(11) == Some(&b':');
        if is_date && behind.starts_with(' ') {
            return Some(behind);
        }
        rest = inside;
    }
}

/// A path, of which HTTP/2 and proxies write scheme and host in front.
fn without_host(path: &str) -> Option<&str> {
    if path.starts_with('/') {
        return Some(path);
    }
    let (scheme, behind) = path.split_once("://")?;
    let at = behind.find('/')?;
    matches!(scheme, "http" | "https").then(|| &behind[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String, String, u16, Vec<String>)> {
        Line::parse(text).map(|l| (l.method, l.path, l.backend, l.status, l.captured))
    }

    fn line(
        method: &str,
        path: &str,
        backend: &str,
        captured: &[&str],
    ) -> Option<(String, String, String, u16, Vec<String>)> {
        let captured = captured.iter().map(|text| (*text).to_owned()).collect();
        Some((method.to_owned(), path.to_owned(), backend.to_owned(), 200, captured))
    }

    #[test]
    fn the_http_log_is_read_with_and_without_captures() {
        for (text, expected) in [
            // As the manual has it.
            (
                r#"Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1""#,
                line("GET", "/index.html", "static", &["1wt.eu"]),
            ),
            // Without syslog, with TLS, HTTP/2, IPv6, and what `httpslog` has behind.
            (
                r#"2001:db8::7:51812 [26/Nov/2026:08:00:01.004] api~ nova-api/ctl1 0/0/1/12/13 200 +512 - - ---- 9/9/0/0/0 0/0 {compute 2.79|python-novaclient} "GET https://cloud.example:8774/v2.1/servers/detail?limit=10 HTTP/2.0" 0/0000000000000000/0/0/0 cloud.example/TLSv1.3/TLS_AES_256_GCM_SHA384"#,
                line(
                    "GET",
                    "/v2.1/servers/detail?limit=10",
                    "nova-api",
                    &["compute 2.79", "python-novaclient"],
                ),
            ),
            // As journald and rsyslog print it, and with a user agent that has spaces.
            (
                r#"2026-11-26T08:00:01.004+00:00 lb1 haproxy[7] [info] 198.51.100.7:1 [26/Nov/2026:08:00:01.004] keystone keystone/ctl2 -1/-1/-1/-1/+5 200 0 - - LR-- 1/1/0/0/+3 0/0 {|curl/8.5 (x86)} "POST /v3/auth/tokens HTTP/1.1""#,
                line("POST", "/v3/auth/tokens", "keystone", &["", "curl/8.5 (x86)"]),
            ),
            (
                r#"198.51.100.7:1 [26/Nov/2026:08:00:01.004] glance glance/ctl2 0/0/0/5/5 200 9 a=b - ---- 1/1/0/0/0 0/0 "GET /v2/images HTTP/1.1""#,
                line("GET", "/v2/images", "glance", &[]),
            ),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_of_json_are_read() {
        for text in [
            r#"lb1 haproxy[7]: {"backend":"nova-api","status":200,"request":"GET /v2.1/flavors?a=b HTTP/1.1","captured_request_headers":"{2.90}"}"#,
            r#"{"backend_name":"nova-api/ctl1","status_code":"200","http_method":"GET","path":"/v2.1/flavors","query":"?a=b","openstack-api-version":"2.90"}"#,
            r#"{"backend":"nova-api","status":200,"method":"GET","uri":"/v2.1/flavors?a=b","request_headers":["2.90"]}"#,
        ] {
            assert_eq!(parsed(text), line("GET", "/v2.1/flavors?a=b", "nova-api", &["2.90"]), "{text}");
        }
    }

    #[test]
    fn what_is_no_record_of_a_request_is_none() {
        for text in [
            "Nov 26 08:00:00 lb1 haproxy[7]: Proxy nova-api started.",
            r#"198.51.100.7:1 [26/Nov/2026:08:00:01.004] api api/<NOSRV> -1/-1/-1/-1/1 400 0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>""#,
            // Cut off.
            r#"198.51.100.7:1 [26/Nov/2026:08:00:01.004] nova nova/ctl2 0/0/0/5/5 200 9 - - ---- 1/1/0/0/0 0/0 "GET /v2.1/serv"#,
            // The TCP log.
            "10.0.1.2:33313 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0",
            r#"{"backend":"nova-api","status":"-","method":"GET","uri":"/"}"#,
            r#"{"backend":"nova-api"#,
            "[",
            "",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}

//! The links of a page of HTML: as much of it as pages of package indexes need.
//!
//! Source: PEP 503. Such a page is a list of `<a href="..." data-...="...">NAME</a>`; everything else on it is
//! passed over.

use std::collections::BTreeMap;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Its attributes, by name in small letters, with their entities read.
    pub attributes: BTreeMap<String, String>,
    /// Its text.
    pub text: String,
}

/// The links of a page in order, and where its addresses are relative to, if it says so (`<base>`).
pub(crate) fn read(page: &str) -> (Vec<Anchor>, Option<String>) {
    let (mut anchors, mut base) = (Vec::new(), None);
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let end = tag_end(rest);
        let (name, attributes) = tag(&rest[1..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        match name.as_str() {
            "a" => {
                let text = rest.split('<').next().unwrap_or_default();
                anchors.push(Anchor { attributes, text: entities(text.trim()) });
            }
            "base" => base = base.or_else(|| attributes.get("href").cloned()),
            _ => {}
        }
    }
    (anchors, base)
}

/// Where a tag ends: at the first `>` that is in no quotes. A tag without one ends with the page.
fn tag_end(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn tag(text: &str) -> (String, BTreeMap<String, String>) {
    let name_end = text.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(text.len());
    // A closing tag has an empty name here, which is none that is looked for.
    let (name, mut rest) = text.split_at(name_end);
    let mut attributes = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            break;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        rest = after.trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| "\"'".contains(*c));
            let (taken, left) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            (value, rest) = (taken, left);
        }
        // The first of several of one name counts, as in every browser.
        attributes.entry(key.to_ascii_lowercase()).or_insert_with(|| entities(value));
    }
    (name.to_ascii_lowercase(), attributes)
}

/// Text with the entities read that such pages have.
fn entities(text: &str) -> String {
    let mut read = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        read.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = rest.find(';').and_then(|end| Some((entity(&rest[1..end])?, end)));
        match known {
            Some((c, end)) => {
                read.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                read.push('&');
                rest = &rest[1..];
            }
        }
    }
    read.push_str(rest);
    read
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_attributes() {
        let page = "<!DOCTYPE html><html><head><base href='../f/'></head><!-- <a href=no>no</a> --><body>
            <h1>Links</h1>
            <A HREF=\"a%2B1.whl#sha256=ab\" data-requires-python=\"&gt;=3.10,&#60;4\" data-yanked>a+1.whl</A><br/>
            <a data-yanked='broken > bad' href=b.tar.gz>b.tar.gz</a>
            <a href=\"cut off";
        let (anchors, base) = read(page);
        assert_eq!(base.as_deref(), Some("../f/"));
        assert_eq!(anchors.len(), 3);
        assert_eq!(anchors[0].text, "a+1.whl");
        let of = |i: usize, name: &str| anchors[i].attributes.get(name).map(String::as_str);
        assert_eq!(of(0, "href"), Some("a%2B1.whl#sha256=ab"));
        assert_eq!(of(0, "data-requires-python"), Some(">=3.10,<4"));
        assert_eq!(of(0, "data-yanked"), Some(""));
        assert_eq!(of(1, "data-yanked"), Some("broken > bad"));
        assert_eq!(of(1, "href"), Some("b.tar.gz"));
    }

    #[test]
    fn whatever_comes_is_read_to_its_end() {
        for page in ["<", "<a", "<a ", "<a =", "<a href", "<a href=", "&#x;&;&", "<!--", "</a>", "<a href='>"]
        {
            let _read = read(page);
        }
        assert_eq!(entities("a &amp; b &unknown; &"), "a & b &unknown; &");
    }
}

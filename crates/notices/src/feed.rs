//! What is read without being sent: an Atom feed and a plain status page.

use std::fmt::Write as _;

use jiff::Timestamp;
use volutus_store::{FEED, Notice};

/// Entries of a feed, and of a page: the latest so many.
pub const ENTRIES_MAX: u32 = 200;

/// The characters that mean something in XML and HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML 1.0 has no place for other control characters, nor for these two.
            c if c.is_control() && !matches!(c, '\n' | '\t') => {}
            '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

fn public(notices: &[Notice]) -> impl Iterator<Item = &Notice> {
    notices.iter().filter(|one| one.notice.channel == FEED)
}

/// An Atom feed (RFC 4287) of what everybody is told, newest first. Each entry has an id of its own for
/// good: readers tell by it what they have seen.
#[must_use]
pub fn atom(cloud: &str, now: Timestamp, notices: &[Notice]) -> String {
    let mut feed = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n");
    let cloud = escaped(cloud);
    let _infallible = write!(
        feed,
        "<feed xmlns=\"http://www.w3.org/2005/Atom\">\n<title>Maintenance of {cloud}</title>\n<id>urn:volutus:{cloud}</id>\n\
         <updated>{}</updated>\n<author><name>Volutus</name></author>\n",
        public(notices).map(|one| one.queued_at).max().unwrap_or(now)
    );
    for one in public(notices) {
        let _infallible = write!(
            feed,
            "<entry>\n<title>{}</title>\n<id>urn:volutus:{cloud}:{}</id>\n<updated>{}</updated>\n\
             <content type=\"text\">{}</content>\n</entry>\n",
            escaped(&one.notice.subject),
            escaped(&one.notice.key.replace([' ', '/'], ":")),
            one.queued_at,
            escaped(&one.notice.body)
        );
    }
    feed.push_str("</feed>\n");
    feed
}

/// Where a page begins; `title` is escaped.
pub(crate) fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark; }}\nbody {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: \
         2rem auto; padding: 0 1rem; }}\narticle {{ border-top: 1px solid #8886; padding: 0.5rem 0; }}\nh2 {{ font-size: \
         1.1rem; margin: 0.5rem 0 0; }}\ntime {{ color: #777; }}\npre {{ font: inherit; white-space: pre-wrap; \
         overflow-wrap: anywhere; }}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// A page that tells everybody how things stand: plain HTML, no scripts, nothing from elsewhere.
#[must_use]
pub fn status_page(cloud: &str, now: Timestamp, notices: &[Notice]) -> String {
    let cloud = escaped(cloud);
    let mut page = head(&format!("Maintenance of {cloud}"));
    if public(notices).next().is_none() {
        page.push_str("<p>No maintenance is announced.</p>\n");
    }
    for Notice { notice, queued_at: at, .. } in public(notices) {
        let _infallible = write!(
            page,
            "<article>\n<h2>{}</h2>\n<time datetime=\"{at}\">{}</time>\n<pre>{}</pre>\n</article>\n",
            escaped(&notice.subject),
            at.strftime("%Y-%m-%d %H:%M UTC"),
            escaped(notice.body.trim_end())
        );
    }
    let _infallible = write!(
        page,
        "<footer><p>As of <time datetime=\"{now}\">{}</time>.</p></footer>\n</body>\n</html>\n",
        now.strftime("%Y-%m-%d %H:%M UTC")
    );
    page
}

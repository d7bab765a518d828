//! News, drawn.

use std::fmt::Write as _;

use pulldown_cmark::{Event, Parser, html};

use crate::ServiceNews;
use crate::note::{Audience, Section};
use crate::rst::markdown;

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Markdown.
    Markdown,
    /// One page of HTML, without scripts and without anything from elsewhere.
    Html,
    /// Plain text.
    Text,
}

/// Draws what is new, for one audience or for both.
#[must_use]
pub fn render(all: &[ServiceNews], audience: Option<Audience>, form: Form) -> String {
    match form {
        Form::Markdown => page(all, audience, &|text| markdown(text)),
        Form::Text => page(all, audience, &|text| text.to_owned()),
        Form::Html => {
            let source = page(all, audience, &|text| markdown(text));
            // What looks like HTML in a note is text.
            let events = Parser::new(&source).map(|event| match event {
                Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
                other => other,
            });
            let mut body = String::new();
            html::push_html(&mut body, events);
            format!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
                 content=\"width=device-width, initial-scale=1\">\n<title>What is new</title>\n<style>\n:root {{ \
                 color-scheme: light dark; }}\nbody {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: \
                 2rem auto; padding: 0 1rem; }}\npre {{ overflow-x: auto; background: #8882; padding: 0.5rem; }}\n\
                 </style>\n</head>\n<body>\n{body}</body>\n</html>\n"
            )
        }
    }
}

fn page(all: &[ServiceNews], audience: Option<Audience>, text: &dyn Fn(&str) -> String) -> String {
    let mut out = String::from("# What is new\n");
    for service in all {
        let _infallible = write!(out, "\n## {} {} → {}\n", service.distribution, service.from, service.to);
        let mut any = false;
        for section in Section::ALL {
            if audience.is_some_and(|wanted| wanted != section.audience()) {
                continue;
            }
            let Some(texts) = service.sections.get(&section).filter(|texts| !texts.is_empty()) else {
                continue;
            };
            any = true;
            let _infallible = write!(out, "\n### {}\n\n", section.title());
            for one in texts {
                let one = text(one);
                if section == Section::Prelude {
                    let _infallible = write!(out, "{one}\n\n");
                } else {
                    let _infallible = writeln!(out, "- {}", indented(&one));
                }
            }
        }
        if !any {
            out.push_str("\nNothing.\n");
        }
    }
    out
}

/// The lines behind the first one, under the text of a list's entry.
fn indented(text: &str) -> String {
    text.lines()
        .enumerate()
        .map(|(at, line)| if at == 0 || line.is_empty() { line.to_owned() } else { format!("  {line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

//! As much of reStructuredText as release notes use, as Markdown. What is not known stays as it is
//! written: a reader can make sense of it.

/// Markdown of a note's text.
pub(crate) fn markdown(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = text.lines().map(str::trim_end).peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let bare = line.trim_start();
        if let Some(directive) = bare.strip_prefix(".. ") {
            if let Some(language) =
                directive.strip_prefix("code-block::").or_else(|| directive.strip_prefix("code::"))
            {
                out.push(String::new());
                fence(&mut out, language.trim(), &block(&mut lines, indent));
            } else if let Some((name, rest)) = directive.split_once("::") {
                out.push(format!("{}**{}:** {}", " ".repeat(indent), capital(name), inline(rest.trim())));
            }
            // Anything else behind two dots is a comment or a target: readers are not shown it.
            continue;
        }
        match bare.strip_suffix("::") {
            // A paragraph that ends so is followed by a literal block.
            Some(before) if lines.peek().is_some_and(|next| next.is_empty()) => {
                if !before.is_empty() {
                    out.push(format!("{}{}:", " ".repeat(indent), inline(before)));
                }
                out.push(String::new());
                fence(&mut out, "", &block(&mut lines, indent));
            }
            _ => out.push(format!("{}{}", " ".repeat(indent), inline(bare))),
        }
    }
    out.join("\n").trim().to_owned()
}

/// The lines that are indented deeper, without their common indentation.
fn block<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, indent: usize) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    while let Some(next) =
        lines.next_if(|next| next.is_empty() || next.len() - next.trim_start().len() > indent)
    {
        found.push(next);
    }
    let common =
        found.iter().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len());
    let common = common.min().unwrap_or(0);
    let mut found: Vec<&str> = found.into_iter().map(|line| line.get(common..).unwrap_or_default()).collect();
    while found.first().is_some_and(|line| line.is_empty()) {
        found.remove(0);
    }
    while found.last().is_some_and(|line| line.is_empty()) {
        found.pop();
    }
    found
}

fn fence(out: &mut Vec<String>, language: &str, lines: &[&str]) {
    if lines.is_empty() {
        return;
    }
    out.push(format!("```{language}"));
    out.extend(lines.iter().map(|line| (*line).to_owned()));
    out.push("```".to_owned());
    out.push(String::new());
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

/// Literals, links and roles of one line.
fn inline(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, tail) = rest.split_at(at);
        if let Some((literal, after)) = tail.strip_prefix("``").and_then(|tail| tail.split_once("``")) {
            out.push_str(before);
            out.push('`');
            out.push_str(literal);
            out.push('`');
            rest = after;
            continue;
        }
        let Some((inside, after)) = tail.get(1..).and_then(|tail| tail.split_once('`')) else { break };
        out.push_str(without_role(before));
        let after = after.strip_prefix("__").or_else(|| after.strip_prefix('_')).unwrap_or(after);
        match inside.rsplit_once('<').and_then(|(text, link)| Some((text.trim(), link.strip_suffix('>')?))) {
            Some((text, link)) if link.starts_with("http") => {
                out.push_str(&format!("[{}]({link})", if text.is_empty() { link } else { text }));
            }
            Some((text, _)) => out.push_str(text),
            None => out.push_str(inside),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A text without the role at its end, such as `:oslo.config:option:`.
fn without_role(before: &str) -> &str {
    let Some(inner) = before.strip_suffix(':') else { return before };
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let start = inner
        .rfind(|c| !letters(c))
        .map_or(0, |at| at + inner[at..].chars().next().map_or(1, char::len_utf8));
    if inner[start..].starts_with(':') { &before[..start] } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_markup_becomes_markdown() {
        for (rst, md) in [
            ("Use ``[DEFAULT] debug`` now.", "Use `[DEFAULT] debug` now."),
            ("See `bug 1 <https://example.org/1>`_ for it.", "See [bug 1](https://example.org/1) for it."),
            ("The :oslo.config:option:`workarounds.x` option.", "The workarounds.x option."),
            ("Read :doc:`the guide </admin/guide>`.", "Read the guide."),
            ("It`s one.", "It`s one."),
            ("See `this`__.", "See this."),
        ] {
            assert_eq!(inline(rst), md);
        }
    }

    #[test]
    fn blocks_become_fences() {
        let text = "Set it so::\n\n  [DEFAULT]\n  a = 1\n\nand restart.\n\n.. note:: Only once.\n\n.. code-block:: console\n\n   $ nova-manage x";
        assert_eq!(
            markdown(text),
            "Set it so:\n\n```\n[DEFAULT]\na = 1\n```\n\nand restart.\n\n**Note:** Only once.\n\n\n```console\n$ nova-manage x\n```"
        );
    }
}

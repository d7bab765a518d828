//! News of small sources, with the mistakes that released ones have.

use volutus_news::{Audience, Form, Section, Source, news, render};

fn source(version: &str, files: &[(&str, &str)]) -> Source {
    Source {
        distribution: "nova".to_owned(),
        version: version.to_owned(),
        files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    }
}

const KNOWN: &str = "fixes:\n  - It was known.\n";

#[test]
fn what_is_in_both_is_no_news_even_when_its_file_was_renamed() {
    let from = source("1.0.0", &[("old-name-0123456789abcdef.yaml", KNOWN), ("by-hand.yaml", KNOWN)]);
    let to = source(
        "2.0.0",
        &[
            ("new-name-0123456789abcdef.yaml", KNOWN),
            ("by-hand.yaml", KNOWN),
            ("new-name-0123456789abcde0.yaml", "features:\n  - It is new.\n"),
        ],
    );
    let found = news(&from, &to);
    assert_eq!(found.notes, 1);
    assert_eq!(found.sections.keys().collect::<Vec<_>>(), [&Section::Features]);
    assert!(found.problems.is_empty());
}

#[test]
fn mistakes_are_told_and_what_can_be_read_is() {
    let to = source(
        "2.0.0",
        &[
            ("a.yaml", "---\nFeatures:\n  - One.\nupgrades:\n  - Two.\n"),
            ("b.yaml", "security: Alone, and no list.\n"),
            ("c.yaml", "fixes:\n  - Fixed bug 1: with a colon\n"),
            ("d.yaml", "novelties:\n  - Nobody knows.\n"),
            ("e.yaml", "fixes: [\n"),
            ("f.yaml", "issues:\n  - 17\n"),
        ],
    );
    let found = news(&source("1.0.0", &[]), &to);
    let texts = |section| found.sections.get(&section).cloned().unwrap_or_default();
    assert_eq!(texts(Section::Features), ["One."]);
    assert_eq!(texts(Section::Upgrade), ["Two."]);
    assert_eq!(texts(Section::Security), ["Alone, and no list."]);
    assert_eq!(texts(Section::Fixes), ["Fixed bug 1: with a colon"]);
    let told: Vec<(&str, bool)> =
        found.problems.iter().map(|problem| (problem.file.as_str(), problem.left_out)).collect();
    assert_eq!(
        told,
        [("a.yaml", false), ("a.yaml", false), ("d.yaml", true), ("e.yaml", true), ("f.yaml", true)]
    );
}

#[test]
fn it_is_drawn_for_those_whom_it_concerns() {
    let to = source(
        "2.0.0",
        &[(
            "a.yaml",
            "prelude: |\n  A <b>big</b> release.\nfeatures:\n  - |\n    Boot with ``--fast``::\n\n      $ boot --fast\n\nupgrade:\n  - Run it twice.\n",
        )],
    );
    let all = [news(&source("1.0.0", &[]), &to)];
    insta::assert_snapshot!(render(&all, Some(Audience::Users), Form::Markdown), @r"
    # What is new

    ## nova 1.0.0 → 2.0.0

    ### In short

    A <b>big</b> release.


    ### New features

    - Boot with `--fast`:

      ```
      $ boot --fast
      ```
    ");
    let operators = render(&all, Some(Audience::Operators), Form::Text);
    assert!(operators.contains("- Run it twice.") && !operators.contains("--fast"), "{operators}");
    let page = render(&all, None, Form::Html);
    assert!(page.contains("A &lt;b&gt;big&lt;/b&gt; release."), "{page}");
    assert!(page.contains("<code>$ boot --fast\n</code>"), "{page}");
}

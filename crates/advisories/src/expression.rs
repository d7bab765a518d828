//! The version expressions of OpenStack's advisories.
//!
//! Source: openstack/ossa, `affected-products[].version` of 183 files. Since 2016 a comma means
//! "or" and a blank means "and": `>=17.0.0 <26.1.7, >=27.0.0 <29.0.6`. What is met besides:
//! a comma within one range (`>=25.0.0, <26.1.0`), "and" for "or", one `=` for two, blanks behind
//! an operator, a bare version, several products in one text divided by semicolons, and, up to
//! 2015, sentences (`2014.2 versions through 2014.2.3, and 2015.1 version`).

use jiff::civil::Date;

use crate::range::{Bound, Range};
use crate::{Products, Version};

/// What an expression says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expression {
    /// The versions that are affected, one range or another.
    pub ranges: Vec<Range>,
    /// Parts that were not understood. They are told, never taken for "nothing".
    pub unread: Vec<String>,
}

/// Code names, with the years' number of their release and that of the next one. Source:
/// openstack/releases, data/series_status.yaml.
const CODE_NAMES: &[(&str, &str, &str)] = &[
    ("diablo", "2011.3", "2012.1"),
    ("essex", "2012.1", "2012.2"),
    ("folsom", "2012.2", "2013.1"),
    ("grizzly", "2013.1", "2013.2"),
    ("havana", "2013.2", "2014.1"),
    ("icehouse", "2014.1", "2014.2"),
    ("juno", "2014.2", "2015.1"),
    ("kilo", "2015.1", "2015.2"),
];

/// Words that say nothing about which versions are meant.
const FILLERS: &[&str] =
    &["all", "versions", "version", "from", "series", "release", "releases", "supported"];

/// Before this day no renumbered product had a version of the new kind: Liberty. Source:
/// openstack/releases, data/series_status.yaml.
const LIBERTY: Date = jiff::civil::date(2015, 10, 15);

/// What an expression is read for.
pub(crate) struct Subject<'a> {
    pub products: &'a Products,
    /// The distribution that the ranges are wanted of.
    pub distribution: &'a str,
    /// When the advisory was published, where that is known.
    pub date: Option<Date>,
}

impl Subject<'_> {
    fn version(&self, text: &str) -> Option<Version> {
        Version::parse(text, self.products.renumbered(self.distribution))
    }

    /// The end of the versions by years, where the advisory can only mean such.
    fn end_of_years(&self) -> Option<Bound> {
        let old = self.date.is_some_and(|date| date < LIBERTY);
        (old && self.products.renumbered(self.distribution))
            .then(|| Bound { version: Version::end_of_years(), inclusive: false })
    }
}

/// Longer texts are no version expressions: the longest of OpenStack has 180 characters.
const LENGTH_MAX: usize = 4_000;

/// Reads an expression.
pub(crate) fn parse(text: &str, subject: &Subject<'_>) -> Expression {
    let mut found = Expression::default();
    if text.len() > LENGTH_MAX {
        found.unread.push(format!("{} characters", text.len()));
        return found;
    }
    for part in text.split(';') {
        let Some(part) = own_part(part, subject) else { continue };
        let part = part
            .to_ascii_lowercase()
            .replace("(and earlier versions)", " earlier")
            .replace(" and later", " later")
            .replace(" and earlier", " earlier")
            .replace(" and ", ", ");
        let mut items: Vec<Item> = Vec::new();
        for item in part.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            items.push(read_item(item, subject));
        }
        join(items, &mut found);
    }
    if found.ranges.is_empty() && found.unread.is_empty() {
        found.unread.push(text.trim().to_owned());
    }
    found
}

/// The part without the name of the product in front; `None` where it names another product.
fn own_part<'t>(part: &'t str, subject: &Subject<'_>) -> Option<&'t str> {
    let part = part.trim();
    let (first, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
    let starts_comparison = rest.trim_start().starts_with(['<', '>', '=']);
    if !starts_comparison || !first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some(part);
    }
    (subject.products.distribution(first) == subject.distribution).then_some(rest)
}

/// A range, or the text that was not understood.
type Item = Result<Range, String>;

/// Puts items together: a lone lower end and a lone upper end behind it are one range that was
/// divided by a comma.
fn join(items: Vec<Item>, found: &mut Expression) {
    let mut open: Option<Range> = None;
    for item in items {
        let range = match item {
            Err(text) => {
                found.unread.push(text);
                continue;
            }
            Ok(range) => range,
        };
        if let Some(lower) = open.take() {
            let joined = Range { lower: lower.lower.clone(), upper: range.upper.clone() };
            if range.lower.is_none() && !joined.is_empty() {
                found.ranges.push(joined);
                continue;
            }
            found.ranges.push(lower);
        }
        match range.lower.is_some() && range.upper.is_none() {
            true => open = Some(range),
            false => found.ranges.push(range),
        }
    }
    found.ranges.extend(open);
}

fn read_item(item: &str, subject: &Subject<'_>) -> Item {
    let read = comparisons(item, subject).or_else(|| sentence(item, subject));
    match read {
        Some(range) if !range.is_empty() => Ok(range),
        _ => Err(item.to_owned()),
    }
}

/// `>=1.15.0<1.15.2`, `<= 2015.1.2`, `==7.0.0`, `1.16.0`.
fn comparisons(item: &str, subject: &Subject<'_>) -> Option<Range> {
    let mut range = Range::default();
    let mut rest = item;
    let mut count = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !"<>=".contains(c))?;
        let operator = &rest[..end];
        // A bare version means itself, and stands alone.
        if operator.is_empty() && count > 0 {
            return None;
        }
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| "<>=".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
        range.narrow(operator, subject.version(&rest[..end])?)?;
        rest = rest[end..].trim_start();
        count += 1;
    }
    (count > 0).then_some(range)
}

/// The sentences of advisories before 2016.
fn sentence(item: &str, subject: &Subject<'_>) -> Option<Range> {
    let words: Vec<&str> = item
        .split(|c: char| c.is_whitespace() || "()".contains(c))
        .filter(|word| !word.is_empty() && !FILLERS.contains(word))
        .collect();
    // "up to" is one word, and of "2013.1 (Grizzly)" the first says it all.
    let text = words.join(" ").replace("up to", "through").replace("prior to", "before");
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let version = |word: &str| subject.version(word);
    let bound = |word: &str, inclusive| version(word).map(|version| Bound { version, inclusive });
    match words.as_slice() {
        // "All versions", "All supported releases", "TODO": whatever there was on that day.
        [] | ["todo"] => Some(Range { lower: None, upper: Some(subject.end_of_years()?) }),
        ["before", name] if code_name(name).is_some() => {
            let (_, first, _) = code_name(name)?;
            Some(Range { lower: None, upper: Some(bound(first, false)?) })
        }
        ["before", to] => Some(Range { lower: None, upper: Some(bound(to, false)?) }),
        ["through", to] => Some(Range { lower: None, upper: Some(bound(to, true)?) }),
        [from, "through" | "to", to] => {
            Some(Range { lower: Some(bound(from, true)?), upper: Some(bound(to, true)?) })
        }
        [one] if version(one).is_some() => Some(Range::exactly(version(one)?)),
        [one, "later"] if version(one).is_some() => {
            Some(Range { lower: Some(bound(one, true)?), upper: Some(subject.end_of_years()?) })
        }
        [number, name] if version(number).is_some() && code_name(name).is_some() => {
            let (_, _, next) = code_name(name)?;
            Some(Range { lower: Some(bound(number, true)?), upper: Some(bound(next, false)?) })
        }
        [number, name, "later"] if version(number).is_some() && code_name(name).is_some() => {
            Some(Range { lower: Some(bound(number, true)?), upper: Some(subject.end_of_years()?) })
        }
        [name, rest @ ..] => {
            let (_, first, next) = code_name(name)?;
            let whole = Range { lower: Some(bound(first, true)?), upper: Some(bound(next, false)?) };
            match rest {
                [] => Some(whole),
                ["later"] => Some(Range { upper: Some(subject.end_of_years()?), ..whole }),
                ["earlier"] => Some(Range { lower: None, ..whole }),
                ["before", to] => Some(Range { upper: Some(bound(to, false)?), ..whole }),
                // A milestone of the cycle, such as folsom-3, is within the series.
                ["before", ..] => Some(whole),
                [number] if version(number).is_some() => Some(whole),
                _ => None,
            }
        }
    }
}

fn code_name(word: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    CODE_NAMES.iter().find(|(name, ..)| *name == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_on(text: &str, distribution: &str, date: Option<Date>) -> (String, Vec<String>) {
        let products = Products::builtin().unwrap();
        let found = parse(text, &Subject { products: &products, distribution, date });
        let ranges: Vec<String> = found.ranges.iter().map(ToString::to_string).collect();
        (ranges.join(", "), found.unread)
    }

    fn read(text: &str, distribution: &str) -> String {
        let (ranges, unread) = read_on(text, distribution, None);
        assert!(unread.is_empty(), "{text}: not understood: {unread:?}");
        ranges
    }

    #[test]
    fn comma_is_or_and_blank_is_and() {
        let text = ">=17.0.0 <26.1.7, >=27.0.0 <29.0.6";
        assert_eq!(read(text, "ironic"), text);
        assert_eq!(read("<5.0.1, ==6.0.0, ==7.0.0", "skyline-console"), "<5.0.1, ==6.0.0, ==7.0.0");
    }

    #[test]
    fn a_comma_within_a_range_is_seen() {
        assert_eq!(
            read("<24.1.3, >=25.0.0 <26.1.1, >=27.0.0, <29.0.1", "ironic"),
            "<24.1.3, >=25.0.0 <26.1.1, >=27.0.0 <29.0.1"
        );
        assert_eq!(read("<=2014.2.3, >=2015.1.0, <=2015.1.1", "nova"), "<=2014.2.3, >=2015.1.0 <=2015.1.1");
        // A lone lower end that nothing closes is open, as where no fix exists.
        assert_eq!(read("<3.0.0, >=4.0.0", "nova"), "<3.0.0, >=4.0.0");
        // What follows is below it, so it does not close it.
        assert_eq!(read(">=4.0.0, <3.0.0", "nova"), ">=4.0.0, <3.0.0");
    }

    #[test]
    fn ways_of_writing() {
        assert_eq!(read("<18.2.4,>=19.0.0<19.1.0", "nova"), "<18.2.4, >=19.0.0 <19.1.0");
        assert_eq!(read(">=1.15.0<1.15.2, 1.16.0", "os-vif"), ">=1.15.0 <1.15.2, ==1.16.0");
        assert_eq!(read("<16.3.3, =18.0.0", "neutron"), "<16.3.3, ==18.0.0");
        assert_eq!(read("<= 2015.1.2, >= 8.0.0 <= 8.0.1", "keystone"), "<=2015.1.2, >=8.0.0 <=8.0.1");
        assert_eq!(read(">=6.0.0 <=6.1.0 and ==7.0.0", "openstack-heat"), ">=6.0.0 <=6.1.0, ==7.0.0");
    }

    #[test]
    fn several_products_in_one_text() {
        let text = "Cinder <19.1.2, ==21.0.0; Glance <23.0.1, ==25.0.0; Nova <24.1.2";
        assert_eq!(read(text, "glance"), "<23.0.1, ==25.0.0");
        assert_eq!(read(text, "nova"), "<24.1.2");
        let (ranges, unread) = read_on(text, "manila", None);
        assert!(ranges.is_empty() && !unread.is_empty());
    }

    #[test]
    fn sentences() {
        let date = Some(jiff::civil::date(2014, 6, 1));
        for (text, distribution, expected) in [
            ("up to 2013.2.3, and 2014.1 versions up to 2014.1.2", "nova", "<=2013.2.3, >=2014.1 <=2014.1.2"),
            ("from 2013.2 to 2013.2.3, and 2014.1", "nova", ">=2013.2 <=2013.2.3, ==2014.1"),
            (
                "2014.2 versions through 2014.2.3 and version 2015.1.0",
                "horizon",
                ">=2014.2 <=2014.2.3, ==2015.1.0",
            ),
            ("Versions 0.2.3 up to 0.2.5", "python-keystoneclient", ">=0.2.3 <=0.2.5"),
            ("1.11.0 to 1.13.1", "swift", ">=1.11.0 <=1.13.1"),
            ("Folsom, Grizzly", "nova", ">=2012.2 <2013.1, >=2013.1 <2013.2"),
            ("Grizzly and later", "nova", ">=2013.1 <0.dev0"),
            ("2013.1 (Grizzly) and later", "cinder", ">=2013.1 <0.dev0"),
            ("Grizzly, Folsom (and earlier versions)", "glance", ">=2013.1 <2013.2, <2013.1"),
            (
                "Essex (prior to 2012.1.2), Folsom (prior to folsom-3 development milestone)",
                "keystone",
                ">=2012.1 <2012.1.2, >=2012.2 <2013.1",
            ),
            ("All versions", "nova", "<0.dev0"),
            ("All supported versions prior to Havana", "nova", "<2013.2"),
            ("TODO", "neutron", "<0.dev0"),
        ] {
            let (ranges, unread) = read_on(text, distribution, date);
            assert!(unread.is_empty(), "{text}: not understood: {unread:?}");
            assert_eq!(ranges, expected, "{text}");
        }
    }

    /// Swift never counted by years, so "all versions" of 2013 says nothing that could be compared.
    #[test]
    fn what_cannot_be_compared_is_said() {
        let date = Some(jiff::civil::date(2013, 8, 7));
        for (text, distribution) in [
            ("All versions", "swift"),
            ("Versions after 0.2.0", "python-keystoneclient"),
            ("see the notes", "nova"),
            ("~=1.0", "nova"),
            (">=2.0 <1.0", "nova"),
            ("", "nova"),
        ] {
            let (ranges, unread) = read_on(text, distribution, date);
            assert!(ranges.is_empty() && unread.len() == 1, "{text}: {ranges} {unread:?}");
        }
        // And after Liberty it says nothing of a renumbered product either.
        let (ranges, unread) = read_on("All versions", "nova", Some(jiff::civil::date(2026, 1, 1)));
        assert!(ranges.is_empty() && unread.len() == 1);
    }
}

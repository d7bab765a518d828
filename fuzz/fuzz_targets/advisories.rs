//! Whatever is published: an answer or an error, and what is kept reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volutus_advisories::{Advisories, Products, Record, Statements, Version, read};

fuzz_target!(|text: &str| {
    let products = Products::builtin().expect("the built-in data loads");
    if let Some(version) = Version::parse(text, false) {
        assert_eq!(Version::parse(&version.to_string(), false), Some(version));
    }
    let _statements = Statements::parse(text, &products);
    let expression = serde_json::json!({"advisories": [
        {"id": "CVE-1-1", "date": "2014-01-01", "affected": [{"product": "nova", "versions": text}]}]});
    for document in [text, &expression.to_string()] {
        let Ok(found) = read(document, "fuzz", &products) else { continue };
        for record in &found.records {
            let kept = serde_json::to_string(record).expect("a record can be written");
            let back: Record = serde_json::from_str(&kept).expect("a record can be read back");
            assert_eq!(&back, record);
        }
        let advisories = Advisories::new(found.records, products.clone());
        for version in ["32.0.0", "2014.1", "28.0.1.dev3", text] {
            advisories.hits("nova", version).for_each(drop);
        }
    }
});

//! One form for what means the same, so that equal contracts have equal hashes.

use serde_json::{Map, Value};

/// Keywords of a JSON schema that say something to people and nothing to a validator.
const ANNOTATIONS: &[&str] = &["description", "title", "$comment", "examples", "example"];
/// Keywords of OpenStack's own, which no validator knows either.
const EXTENSIONS: &[&str] = &["x-openstack"];
/// Keywords whose list has no order.
const UNORDERED: &[&str] = &["enum", "required", "type", "anyOf", "oneOf", "allOf"];
/// Keywords whose value maps names of the data, not keywords, to schemas.
pub(crate) const MAPS: &[&str] =
    &["properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"];
/// Keywords whose value is data, and not a schema.
pub(crate) const DATA: &[&str] = &["enum", "const", "default"];

/// A schema without annotations and with its order-free lists sorted and free of repetition.
#[must_use]
pub fn schema(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let annotation = ANNOTATIONS.contains(&key.as_str()) && !is_schema_like_property(map, key);
                if annotation || EXTENSIONS.contains(&key.as_str()) {
                    continue;
                }
                let value = if MAPS.contains(&key.as_str()) {
                    named(value)
                } else if DATA.contains(&key.as_str()) {
                    value.clone()
                } else {
                    schema(value)
                };
                let value = if UNORDERED.contains(&key.as_str()) { sorted(value) } else { value };
                out.insert(key.clone(), value);
            }
            // `"type": ["string"]` and `"type": "string"` are the same,
            if let Some(Value::Array(types)) = out.get("type")
                && let [one] = types.as_slice()
            {
                let one = one.clone();
                out.insert("type".to_owned(), one);
            }
            // and `"required": []` and a missing `required` are the same.
            if out.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                out.remove("required");
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.iter().map(schema).collect()),
        other => other.clone(),
    }
}

/// glance's collections have properties of the name `name`, `description` and the like only inside
/// `properties`; an annotation whose value is an object is no annotation.
fn is_schema_like_property(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(Value::is_object)
}

fn named(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), schema(value))).collect())
        }
        other => schema(other),
    }
}

/// A list sorted by the text of its elements, each once.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            items.sort_by_cached_key(text);
            items.dedup();
            Value::Array(items)
        }
        other => other,
    }
}

/// A value as text with sorted keys and without spaces: what hashes are made of.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Number(number) if number.is_f64() => {
            out.push_str(&fraction(number.as_f64().unwrap_or_default()));
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A number with a fraction, or one that is too large for an integer, to twelve significant digits:
/// reading and writing such numbers may change the last ones, and must not change a hash.
fn fraction(number: f64) -> String {
    let rounded: f64 = format!("{number:.11e}").parse().unwrap_or(number);
    format!("{rounded:e}")
}

/// The hash of a value, 32 hexadecimal digits.
#[must_use]
pub fn hash(value: &Value) -> String {
    blake3::hash(text(value).as_bytes()).to_hex()[..32].to_owned()
}

/// The types of everything in a value, without the values: what a document of figures promises.
/// Elements of a list are merged, because their number is no promise.
#[must_use]
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => {
            let mut merged: Option<Value> = None;
            for item in items {
                let shape = shape(item);
                merged = Some(match merged {
                    None => shape,
                    Some(other) => merge(other, shape),
                });
            }
            Value::Array(merged.into_iter().collect())
        }
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), shape(value))).collect())
        }
    }
}

fn merge(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, value) in other {
                let merged = match one.remove(&key) {
                    None => value,
                    Some(had) => merge(had, value),
                };
                one.insert(key, merged);
            }
            Value::Object(one)
        }
        (Value::Array(one), Value::Array(other)) => {
            let mut items = one.into_iter().chain(other);
            let first = items.next();
            Value::Array(first.map(|first| items.fold(first, merge)).into_iter().collect())
        }
        (Value::String(null), other) if null == "null" => other,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_and_annotations_do_not_count() {
        let one = json!({"type": ["null", "string"], "enum": ["b", "a"], "description": "x", "required": []});
        let other = json!({"enum": ["a", "b", "a"], "type": ["string", "null"], "title": "y"});
        assert_eq!(schema(&one), schema(&other));
        assert_eq!(hash(&schema(&one)), hash(&schema(&other)));
    }

    #[test]
    fn properties_may_have_the_names_of_annotations() {
        let value = json!({"type": "object", "properties": {"description": {"type": "string"}, "enum": {"type": "array"}}});
        assert_eq!(schema(&value), value);
    }

    #[test]
    fn the_order_of_items_counts() {
        let one = json!({"prefixItems": [{"type": "string"}, {"type": "null"}]});
        let other = json!({"prefixItems": [{"type": "null"}, {"type": "string"}]});
        assert_ne!(hash(&schema(&one)), hash(&schema(&other)));
    }

    #[test]
    fn data_inside_a_schema_keeps_its_order() {
        let value = json!({"default": ["b", "a"], "const": {"required": ["z", "a"]}});
        assert_eq!(schema(&value), value);
    }

    #[test]
    fn large_bounds_keep_their_hash_when_written_and_read() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let value = read(r#"{"maximum": 3.40282e+38, "ratio": 0.1}"#);
        assert_eq!(text(&value), r#"{"maximum":3.40282e38,"ratio":1e-1}"#);
        assert_eq!(hash(&read(&text(&value))), hash(&value));
    }

    #[test]
    fn annotations_of_openstack_are_left_out() {
        assert_eq!(
            schema(&json!({"type": "string", "x-openstack": {"min-ver": 3.2}})),
            json!({"type": "string"})
        );
    }

    #[test]
    fn shapes_have_no_values() {
        let shape = shape(&json!({"limits": {"used": 3}, "rates": [{"a": 1}, {"b": null}], "none": []}));
        assert_eq!(
            shape,
            json!({"limits": {"used": "number"}, "rates": [{"a": "number", "b": "null"}], "none": []})
        );
    }
}

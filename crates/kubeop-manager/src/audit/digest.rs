//! Digests of JSON: the same value has the same digest, however its members are ordered.
//!
//! Invariant: a digest is over the canonical form: members sorted by name, no white space, numbers and texts as `serde_json` writes them.

use aws_lc_rs::digest::{Context, SHA256, digest};
use kubeop_core::{Error, Result, hex};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The digest of a thing, as audit records hold it: `sha256:` and 64 digits.
pub fn of(thing: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(thing).map_err(Error::internal)?;
    Ok(format!("sha256:{}", hex::encode(&sha256(canonical(&value).as_bytes()))))
}

/// Bytes that are handed to the hash at once: each call of it costs as much as some dozen bytes.
const PIECE: usize = 8 << 10;

/// A digest of text that is written piece by piece, so that it need not be in memory as a whole.
pub struct Digest {
    context: Context,
    pending: String,
}

impl Digest {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self { context: Context::new(&SHA256), pending: String::with_capacity(2 * PIECE) }
    }

    /// As audit records hold it.
    pub fn finish(mut self) -> String {
        self.context.update(self.pending.as_bytes());
        format!("sha256:{}", hex::encode(self.context.finish().as_ref()))
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.pending.push_str(text);
        if self.pending.len() >= PIECE {
            self.context.update(self.pending.as_bytes());
            self.pending.clear();
        }
        Ok(())
    }
}

/// The canonical form of a value.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                write_canonical(member, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fmt::Write;

    #[test]
    fn order_and_white_space_do_not_count_and_everything_else_does() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = read(r#"{"b": [1, {"y": null, "x": "a\"b"}], "a": true}"#);
        let same = read(r#"{"a":true,"b":[1,{"x":"a\"b","y":null}]}"#);
        assert_eq!(canonical(&one), r#"{"a":true,"b":[1,{"x":"a\"b","y":null}]}"#);
        assert_eq!(of(&one).unwrap(), of(&same).unwrap());
        for other in [json!({"a": true, "b": [{"x": "a\"b", "y": null}, 1]}), json!({"a": "true"}), json!({})] {
            assert_ne!(of(&one).unwrap(), of(&other).unwrap());
        }
        // From another implementation: printf '{"a":1}' | sha256sum
        assert_eq!(
            of(&json!({"a": 1})).unwrap(),
            "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
        );
    }

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        let (mut digest, mut whole) = (Digest::new(), String::new());
        for n in 0..5000 {
            write!(digest, "{n}\t{}", "a\tb".escape_debug()).unwrap();
            write!(whole, "{n}\t{}", "a\tb".escape_debug()).unwrap();
        }
        assert_eq!(digest.finish(), format!("sha256:{}", hex::encode(&sha256(whole.as_bytes()))));
    }
}

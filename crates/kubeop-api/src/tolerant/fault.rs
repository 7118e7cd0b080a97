//! What is wrong with a value, in terms of JSON: serde's own messages speak of Rust's types.
//!
//! Invariant: a message begins with the path of the field it speaks of.

use super::{folded, unknown};
use kubeop_core::id::shorten;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// What serde found, in terms of JSON.
fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Char(value) => format!("the string {:?}", value.to_string()),
        Unexpected::Str(value) => format!("the string {:?}", shorten(value)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map | Unexpected::NewtypeStruct => "an object".to_owned(),
        _ => "something else".to_owned(),
    }
}

/// What serde expected, in terms of JSON: its visitors name themselves after Rust's types.
fn needed(expected: &dyn Expected) -> String {
    let rust = expected.to_string();
    match rust.as_str() {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "an integer".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "an integer that is not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "a borrowed string" | "str" | "String" => "a string".to_owned(),
        "a boolean" | "bool" => "a boolean".to_owned(),
        "unit" | "unit value" => "null".to_owned(),
        "a map" => "an object".to_owned(),
        "a sequence" => "an array".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other if other.starts_with("enum ") || other.starts_with("variant ") => "a string".to_owned(),
        // A sentence of our own visitors.
        other => other.to_owned(),
    }
}

/// What is wrong, and at which path.
#[derive(Debug)]
pub(super) struct Fault {
    path: String,
    message: String,
}

impl Fault {
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    pub(super) fn at(place: &str, inner: Self) -> Self {
        let joint = if inner.path.is_empty() || inner.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{place}{joint}{}", inner.path), message: inner.message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::plain(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::at(field, Self::plain("is required"))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::plain(format!("{} is needed, not {}", needed(expected), found(&unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let range = match expected.to_string().as_str() {
            "i8" => "-128 to 127",
            "i16" => "-32768 to 32767",
            "i32" => "-2147483648 to 2147483647",
            "i64" => "-9223372036854775808 to 9223372036854775807",
            "u8" => "0 to 255",
            "u16" => "0 to 65535",
            "u32" => "0 to 4294967295",
            "u64" => "0 to 18446744073709551615",
            _ => return Self::plain(format!("{} is needed, not {}", needed(expected), found(&unexpected))),
        };
        Self::plain(format!("{} is not allowed: {range} is", found(&unexpected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::plain(format!("{length} elements are given: {} is needed", needed(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::plain(format!("{:?} is not allowed: {} are", shorten(variant), expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        unknown(field, &folded(field), expected)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::at(field, Self::plain("is given twice"))
    }
}

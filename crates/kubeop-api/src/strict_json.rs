//! JSON without ambiguity: one value, no key twice, nothing behind it, no number whose fraction is lost.
//!
//! Invariant: a text that two parsers could read differently is refused (RFC 8259 §4 leaves duplicate names open, §6 the range and precision of
//! numbers: `1.99999999999999999999` is not 2); no value has more than [`MAX_VALUES`] values and keys in it, which take far more memory than
//! their text.

mod literal;

use kubeop_core::id::shorten;
use kubeop_core::{Error, Result};
use literal::Literals;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Values and keys in one value, itself included. Several times what the largest object that Kubernetes stores has.
pub const MAX_VALUES: usize = 100_000;

/// At most how many values and keys are in a text, before it is read.
pub fn values_at_most(bytes: &[u8]) -> usize {
    let (mut quoted, mut escaped, mut count) = (false, false, 1);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            // Each begins a value or a key, but where there is none (`[]`).
            b',' | b':' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Parses UTF-8 JSON; nesting is bounded to 128 levels by the parser.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid("the body is not UTF-8"))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let (left, literals) = (Cell::new(MAX_VALUES), Literals::of(text));
    Strict { left: &left, literals: &literals }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Error::invalid(format!("the body is not acceptable JSON: {error}")))
}

/// Parses an array of values, or one object, and hands each value over with its index as soon as it is read, so that no more than one of
/// them is in memory.
///
/// # Errors
/// `Invalid` that begins with the index of the value that cannot be read; whatever `take` answers, which ends the reading.
pub fn each(bytes: &[u8], take: &mut dyn FnMut(usize, Value) -> Result<()>) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid("the body is not UTF-8"))?;
    let literals = Literals::of(text);
    let mut state = Each { take, literals: &literals, index: 0, within: false, refused: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_any(&mut state).and_then(|()| deserializer.end());
    match (state.refused, read) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => {
            let refused = Error::invalid(format!("the body is not acceptable JSON: {error}"));
            Err(if state.within { refused.at(format!("[{}]", state.index)) } else { refused })
        }
    }
}

struct Each<'a> {
    take: &'a mut dyn FnMut(usize, Value) -> Result<()>,
    literals: &'a Literals<'a>,
    index: usize,
    within: bool,
    refused: Option<Error>,
}

impl Each<'_> {
    fn hand_over<E: serde::de::Error>(&mut self, value: Value) -> Result<(), E> {
        (self.take)(self.index, value).map_err(|refused| {
            self.refused = Some(refused);
            E::custom("refused")
        })
    }
}

impl<'de> Visitor<'de> for &mut Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array, or one object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.within = true;
        loop {
            let left = Cell::new(MAX_VALUES);
            let one = Strict { left: &left, literals: self.literals };
            let Some(item) = seq.next_element_seed(one)? else { break };
            self.hand_over(item)?;
            self.index += 1;
        }
        self.within = false;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        let one = Strict { left: &Cell::new(MAX_VALUES), literals: self.literals }.visit_map(entries)?;
        self.hand_over(one)
    }
}

/// Reads a value, counting what is in it; of the numbers of the text, it counts each that it meets.
#[derive(Clone, Copy)]
struct Strict<'a> {
    left: &'a Cell<usize>,
    literals: &'a Literals<'a>,
}

impl Strict<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| {
            E::custom(format_args!("more than {MAX_VALUES} values and keys, which is how many are allowed"))
        })?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        self.literals.met();
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.literals.met();
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.literals.met();
        if value.fract() == 0.0 {
            // A whole number, or one that became it when it was rounded.
            let literal = self.literals.last_met().ok_or_else(|| E::custom("a number is not where it was read"))?;
            if !literal::is_whole(literal) {
                let shown = shorten(literal);
                return Err(E::custom(format_args!(
                    "the number {shown} has a fraction too small to be kept: it would be read as {value}"
                )));
            }
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        if value.contains('\0') { Err(E::custom("a text contains NUL")) } else { Ok(Value::String(value)) }
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count()?;
            if key.contains('\0') {
                return Err(serde::de::Error::custom("a key contains NUL"));
            }
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("key {key:?} is given twice")));
            }
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(text: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        each(text.as_bytes(), &mut |index, value| {
            assert_eq!(index, found.len());
            if value == 9 {
                return Err(Error::invalid("nine"));
            }
            found.push(value);
            Ok(())
        })
        .map(|()| found)
    }

    #[test]
    fn values_are_handed_over_one_by_one_and_the_bad_one_is_named() {
        assert_eq!(collect("[]").unwrap(), Vec::<Value>::new());
        assert_eq!(collect(" [1, [2]] ").unwrap(), [Value::from(1), serde_json::json!([2])]);
        assert_eq!(collect(r#"{"a":1}"#).unwrap(), [serde_json::json!({"a": 1})]);
        let message = |text: &str| collect(text).unwrap_err().message().to_owned();
        assert_eq!(message("[1,9,2"), "nine");
        assert!(message(r#"[1,{"a":1,"a":2}]"#).starts_with("[1]: "), "{}", message(r#"[1,{"a":1,"a":2}]"#));
        assert!(message("[1,2").starts_with("[2]: "));
        for bad in ["", "1", "null", "[1] 2", r#"{"a":1,"a":2}"#, r#"{"a":1},{"a":2}"#] {
            assert!(collect(bad).is_err(), "{bad}");
        }
    }

    /// Numbers were told whole or not after they were rounded.
    #[test]
    fn a_fraction_that_would_be_rounded_away_is_refused() {
        for (literal, read) in [
            ("1.99999999999999999999", "2"),
            ("-1.00000000000000000001", "-1"),
            ("1e-400", "0"),
            ("0.1e-999999999999999999999", "0"),
        ] {
            let message =
                format!("the number {literal} has a fraction too small to be kept: it would be read as {read}");
            for text in [
                format!(r#"{{"a":[1,-2,"3.0e1\\",2.0,0.5,null,{literal}],"b":1}}"#),
                format!(r#"[ {{ "1\"" : {literal} }}, 7]"#),
                literal.to_owned(),
            ] {
                let refused = parse(text.as_bytes()).unwrap_err();
                assert!(refused.message().contains(&message), "{text}: {refused}");
            }
            let refused = collect(&format!(r#"[1.0,{{"a":{literal}}}]"#)).unwrap_err();
            assert!(refused.message().starts_with("[1]: ") && refused.message().contains(&message), "{refused}");
        }
        for text in
            ["2.0", "20.0e-1", "1e3", "-0.0", "-0", "0e-400", "1.5", "0.1", "123456789012345678901234567890", "1e300"]
        {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn many_small_values_that_would_fill_the_memory_are_refused() {
        let list = |n: usize, item: &str| format!("[{}]", vec![item; n].join(","));
        assert!(parse(list(99_999, "0").as_bytes()).is_ok());
        let keys: Vec<String> = (0..60_000).map(|n| format!("\"{n}\":0")).collect();
        for text in [list(100_000, "0"), list(50_000, "[0]"), format!("{{{}}}", keys.join(","))] {
            let message = parse(text.as_bytes()).unwrap_err().message().to_owned();
            assert!(message.contains("more than 100000 values and keys"), "{message}");
        }
        // In a batch each is counted on its own.
        assert_eq!(collect(&list(120_000, "1")).unwrap().len(), 120_000);
        assert!(collect(&format!("[1,{}]", list(100_000, "0"))).unwrap_err().message().starts_with("[1]: "));
    }

    #[test]
    fn values_are_never_underestimated() {
        fn count(value: &Value) -> usize {
            1 + match value {
                Value::Array(items) => items.iter().map(count).sum(),
                Value::Object(map) => map.values().map(|value| 1 + count(value)).sum(),
                _ => 0,
            }
        }
        for text in ["0", "[]", "[[0],[0]]", r#"{"a":{"b":[1,2,{"c":null}]},"d":"x"}"#, r#"["a,b:[{","\"","\\"]"#] {
            let exact = count(&parse(text.as_bytes()).unwrap());
            let most = values_at_most(text.as_bytes());
            assert!((exact..=2 * exact).contains(&most), "{text}: {exact} {most}");
        }
        assert_eq!(values_at_most(br#"["a,b:[{","\"","\\"]"#), 4);
    }

    #[test]
    fn ambiguous_texts_are_refused() {
        for bad in ["", "{", "{} {}", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, r#"{"a":"\u0000"}"#, "[1,]", "nul"]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\xff\xfe").is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(parse(br#" {"a":[1,-2,0.5,null,"x"]} "#).unwrap()["a"][1], -2);
    }
}

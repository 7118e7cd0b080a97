//! Reading requests with tolerance for the spelling of our field names: `clusterID` = `cluster_id` = `ClusterID`.
//!
//! Invariant: which names are known comes from the type itself (serde hands a struct's fields to the deserializer), so no list can drift;
//! maps are data and keep their keys. Messages speak of JSON, never of Rust types. A number without a fraction is an integer however it is
//! written (`2.0`, `1e3`), as in JSON Schema, below 10^15, where it is read without rounding.

mod fault;

use fault::Fault;
use kubeop_core::id::shorten;
use kubeop_core::{Error, Result};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The server's own fields, accepted in any request body and ignored, so that an answer can be sent back.
const READ_ONLY: [&str; 8] =
    ["status", "version", "created_at", "updated_at", "finalizers", "granted", "server", "clusters"];

/// Reads a value; messages begin with the path of the field they speak of.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(Tolerant { value, top: true }).map_err(|fault| Error::invalid(fault.to_string()))
}

/// Reads the parameters of a query, of which none is the server's own: nobody sends an answer back in it.
pub fn from_query<T: DeserializeOwned>(parameters: Map<String, Value>) -> Result<T> {
    let value = Value::Object(parameters);
    T::deserialize(Tolerant { value, top: false }).map_err(|fault| Error::invalid(fault.to_string()))
}

/// The names of `T`'s fields, in order; empty if `T` is no struct.
pub fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The probe always fails after noting the names: the error is the expected outcome.
    drop(T::deserialize(Probe(&mut fields)));
    fields
}

/// Replaces the top-level keys of an object by the field names they mean, without reading the values (for merge patches).
pub fn canonical_keys<T: DeserializeOwned>(value: Value) -> Result<Value> {
    match value {
        Value::Object(map) => canonicalise(map, fields_of::<T>(), true)
            .map(|entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
            .map_err(|fault| Error::invalid(fault.to_string())),
        other => Err(Error::invalid(format!("an object is needed, not {}", kind_of(&other)))),
    }
}

/// A name as it is compared: without case, `_` and `-`.
pub fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether two names are one as they are compared: [`folded`] of both is equal.
pub fn same_name(a: &str, b: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
    }
    a == b || letters(a).eq(letters(b))
}

fn canonicalise(
    map: Map<String, Value>,
    fields: &'static [&'static str],
    top: bool,
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let mut entries: Vec<(&'static str, Value)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        let Some(field) = fields.iter().copied().find(|field| same_name(field, &key)) else {
            if top && READ_ONLY.iter().any(|name| same_name(name, &key)) {
                continue;
            }
            return Err(unknown(&key, &folded(&key), fields));
        };
        if entries.iter().any(|(name, _)| *name == field) {
            return Err(Fault::at(&key, Fault::plain(format!("means {field:?}, which is given twice"))));
        }
        entries.push((field, value));
    }
    Ok(entries)
}

fn unknown(key: &str, fold: &str, fields: &[&str]) -> Fault {
    let nearest = fields.iter().map(|field| (distance(fold, &folded(field)), *field)).min();
    let hint = match nearest {
        Some((steps, field)) if steps <= 3 => format!("unknown field; did you mean {field:?}"),
        _ => format!("unknown field; known are {}", fields.join(", ")),
    };
    Fault::at(&shorten(key), Fault::plain(hint))
}

/// The edit distance of two short texts (Levenshtein), on at most 40 characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(40).enumerate() {
        let mut previous = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let next = (previous + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            previous = std::mem::replace(cell, next);
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Below it (10^15) doubles lie so close that the parser's error of a unit in the last place makes a fraction, never another integer.
const EXACT: f64 = 1e15;

/// A number without a fraction, as the integer it is. (One whose fraction was lost when it was read is none of ours: `strict_json` refuses it.)
fn integer(number: &Number) -> Option<i64> {
    if let Some(value) = number.as_i64() {
        return Some(value);
    }
    let value = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < EXACT)?;
    // Exact: it has no fraction and fits.
    format!("{value:.0}").parse().ok()
}

struct Tolerant {
    value: Value,
    top: bool,
}

impl Tolerant {
    fn inner(value: Value) -> Self {
        Self { value, top: false }
    }
}

impl IntoDeserializer<'_, Fault> for Tolerant {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                Value::Number(number) if number.is_f64() => match integer(number) {
                    Some(value) => Self { value: value.into(), ..self }.deserialize_any(visitor),
                    None => self.deserialize_any(visitor),
                },
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => {
                if let Some(value) = number.as_u64() {
                    visitor.visit_u64(value)
                } else if let Some(value) = number.as_i64() {
                    visitor.visit_i64(value)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            Value::String(value) => visitor.visit_string(value),
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Value::Object(map) => visitor.visit_map(Data { entries: map.into_iter(), next: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::Object(map) => {
                let entries = canonicalise(map, fields, self.top)?;
                visitor.visit_map(Fields { entries: entries.into_iter(), next: None })
            }
            other => Err(Fault::plain(format!("an object is needed, not {}", kind_of(&other)))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(IntoDeserializer::<Fault>::into_deserializer(variant)),
            Value::Object(_) => self
                .value
                .deserialize_enum(name, variants, visitor)
                .map_err(|_| Fault::plain(format!("an object with one of {} is needed", variants.join(", ")))),
            other => Err(Fault::plain(format!("a string is needed, not {}", kind_of(&other)))),
        }
    }

    integers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }

    serde::forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Tolerant::inner(value)).map(Some).map_err(|fault| Fault::at(&format!("[{index}]"), fault))
    }
}

struct Fields {
    entries: std::vec::IntoIter<(&'static str, Value)>,
    next: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        match &self.next {
            Some((name, _)) => seed.deserialize((*name).into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (name, value) = self.next.take().ok_or_else(|| Fault::plain("a value without a key"))?;
        seed.deserialize(Tolerant::inner(value)).map_err(|fault| Fault::at(name, fault))
    }
}

struct Data {
    entries: serde_json::map::IntoIter,
    next: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Data {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        match &self.next {
            Some((key, _)) => seed.deserialize(key.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self.next.take().ok_or_else(|| Fault::plain("a value without a key"))?;
        seed.deserialize(Tolerant::inner(value)).map_err(|fault| Fault::at(&shorten(&key), fault))
    }
}

/// Notes the field names of the first struct it meets and gives up.
struct Probe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::plain("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        *self.0 = fields;
        Err(Fault::plain("noted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;

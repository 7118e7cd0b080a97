//! Batches of usage samples: an array, one object, or one sample a line.
//!
//! Invariant: read straight into samples is only what the strict and tolerant reading reads the same; all else is left to those, so that there is one set of
//! rules and of messages.

use crate::billing::UsageSample;
use crate::{strict_json, tolerant};
use kubeop_core::Result;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Reads an array of samples, or one.
///
/// # Errors
/// `Invalid` that begins with the index of the sample and the field.
pub fn from_json(bytes: &[u8]) -> Result<Vec<UsageSample>> {
    if let Ok(PlainBatch(samples)) = serde_json::from_slice(bytes) {
        return Ok(samples);
    }
    let mut samples = Vec::new();
    strict_json::each(bytes, &mut |index, value| {
        samples.push(tolerant::from_value(value).map_err(|e| e.at(format!("[{index}]")))?);
        Ok(())
    })?;
    Ok(samples)
}

/// Reads a sample a line; empty lines do not count.
///
/// # Errors
/// As [`from_json`].
pub fn from_lines(bytes: &[u8]) -> Result<Vec<UsageSample>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.enumerate().map(|(index, line)| from_line(line).map_err(|e| e.at(format!("[{index}]")))).collect()
}

fn from_line(line: &[u8]) -> Result<UsageSample> {
    if let Ok(Plain(sample)) = serde_json::from_slice(line) {
        return Ok(sample);
    }
    tolerant::from_value(strict_json::parse(line)?)
}

/// A field of a sample.
#[derive(Clone, Copy)]
enum Field {
    Ts,
    Tenant,
    Project,
    Source,
    Cpu,
    Mem,
}

/// Those of [`UsageSample`], as a test makes sure.
const FIELDS: [(&str, Field); 6] = [
    ("ts", Field::Ts),
    ("tenant_id", Field::Tenant),
    ("project_id", Field::Project),
    ("source", Field::Source),
    ("cpu_milli", Field::Cpu),
    ("mem_mib", Field::Mem),
];

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

struct FieldVisitor;

impl Visitor<'_> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field of a sample")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Field, E> {
        let known = FIELDS.iter().find(|(name, _)| tolerant::same_name(name, key));
        known.map(|(_, field)| *field).ok_or_else(|| E::custom("another field"))
    }
}

/// A text without NUL.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('\0') { Err(D::Error::custom("a text contains NUL")) } else { Ok(Self(text)) }
    }
}

/// A sample of known fields only, each once and of its own type.
struct Plain(UsageSample);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Plain, A::Error> {
        let (mut ts, mut tenant_id, mut project_id, mut source) = (None, None, None, None);
        let (mut cpu_milli, mut mem_mib) = (None, None);
        while let Some(field) = entries.next_key()? {
            match field {
                Field::Ts => once(&mut ts, entries.next_value()?)?,
                Field::Tenant => once(&mut tenant_id, entries.next_value()?)?,
                Field::Project => once(&mut project_id, entries.next_value::<Option<Text>>()?)?,
                Field::Source => once(&mut source, entries.next_value::<Option<Text>>()?)?,
                Field::Cpu => once(&mut cpu_milli, entries.next_value()?)?,
                Field::Mem => once(&mut mem_mib, entries.next_value()?)?,
            }
        }
        let (Some(Text(ts)), Some(Text(tenant_id)), Some(cpu_milli), Some(mem_mib)) =
            (ts, tenant_id, cpu_milli, mem_mib)
        else {
            return Err(A::Error::custom("a field is missing"));
        };
        Ok(Plain(UsageSample {
            ts,
            tenant_id,
            project_id: project_id.flatten().map(|text| text.0),
            source: source.flatten().map(|text| text.0),
            cpu_milli,
            mem_mib,
        }))
    }
}

fn once<T, E: serde::de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::custom("a field is given twice")) } else { Ok(()) }
}

struct PlainBatch(Vec<UsageSample>);

impl<'de> Deserialize<'de> for PlainBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainBatchVisitor)
    }
}

struct PlainBatchVisitor;

impl<'de> Visitor<'de> for PlainBatchVisitor {
    type Value = PlainBatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array, or one object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PlainBatch, A::Error> {
        let mut samples = Vec::new();
        while let Some(Plain(sample)) = seq.next_element()? {
            samples.push(sample);
        }
        Ok(PlainBatch(samples))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<PlainBatch, A::Error> {
        PlainVisitor.visit_map(entries).map(|Plain(one)| PlainBatch(vec![one]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "0195a6f0-7f00-7000-8000-000000000001";

    fn is_plain(line: &str) -> bool {
        serde_json::from_str::<Plain>(line).is_ok()
    }

    fn slowly(line: &str) -> Result<UsageSample> {
        tolerant::from_value(strict_json::parse(line.as_bytes())?)
    }

    #[test]
    fn the_fields_are_those_of_the_type() {
        assert_eq!(FIELDS.map(|(name, _)| name), tolerant::fields_of::<UsageSample>());
    }

    #[test]
    fn every_spelling_is_plain_and_read_the_same() {
        for line in [
            format!(r#"{{"ts":"t","tenant_id":"{TENANT}","cpu_milli":250,"mem_mib":512}}"#),
            format!(r#"{{"TS":"t","tenantID":"{TENANT}","source":"m","cpuMilli":-1,"MEM-MIB":0}}"#),
            format!(
                r#" {{ "t-s" : "a\"\u00e9", "TenantId":"{TENANT}","project_id":null,"Source":null,"cpu_milli":1,"mem_mib":2 }} "#
            ),
            format!(
                r#"{{"t\u0073":"t","tenant-id":"{TENANT}","projectID":"p","cpu_milli":0,"mem_mib":9223372036854775807}}"#
            ),
        ] {
            assert!(is_plain(&line), "{line}");
            assert_eq!(from_line(line.as_bytes()).unwrap(), slowly(&line).unwrap(), "{line}");
        }
    }

    #[test]
    fn what_is_not_plain_is_read_or_refused_as_before() {
        for rest in [
            r#""cpu_milli":2.0"#,
            r#""cpu_milli":1e3"#,
            r#""cpu_milli":-0"#,
            r#""cpu_milli":1.5"#,
            r#""cpu_milli":"1""#,
            r#""cpu_milli":null"#,
            r#""cpu_milli":9223372036854775808"#,
            r#""source":1"#,
            r#""source":"a\u0000""#,
            r#""status":{"a":1},"createdAt":"x""#,
            r#""status":{"a":1,"a":2}"#,
            r#""colour":"red""#,
            r#""tenant":"x""#,
            r#""ts":"u""#,
            r#""TS":"u""#,
            r#""cpu_milli":1,"cpuMilli":1"#,
            r#""cpu_milli":1,"#,
        ] {
            let figures = if rest.contains("cpu") { r#""mem_mib":2,"# } else { r#""cpu_milli":1,"mem_mib":2,"# };
            let line = format!(r#"{{"ts":"t","tenant_id":"{TENANT}",{figures}{rest}}}"#);
            assert!(!is_plain(&line), "{line}");
            match (from_line(line.as_bytes()), slowly(&line)) {
                (Ok(one), Ok(other)) => assert_eq!(one, other),
                (Err(one), Err(other)) => assert_eq!(one.message(), other.message()),
                (one, other) => panic!("{line}: {one:?} {other:?}"),
            }
        }
        for line in [
            "{}",
            "[]",
            "null",
            "7",
            "\"a\"",
            "",
            "{",
            r#"{"ts":"t"}"#,
            r#"{"ts":"t","tenant_id":"x","cpu_milli":1}"#,
            r#"["t","x",null,null,1,2]"#,
            "{} {}",
        ] {
            assert!(!is_plain(line) && from_line(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn both_forms_name_the_bad_one_by_its_index_and_field() {
        let good = format!(r#"{{"ts":"t","tenant_id":"{TENANT}","cpu_milli":1,"mem_mib":2}}"#);
        let odd = good.replace("\"ts\"", "\"version\":1,\"ts\"");
        assert!(from_json(b" [] ").unwrap().is_empty());
        assert_eq!(from_json(good.as_bytes()).unwrap().len(), 1);
        assert_eq!(from_json(format!("[{good},{odd}]").as_bytes()).unwrap().len(), 2);
        assert_eq!(from_lines(format!("\n{good}\r\n \n{odd}").as_bytes()).unwrap().len(), 2);
        for (bad, message) in [
            (r#"{"ts":"t","tenant_i":"x"}"#, "[1]: tenant_i: unknown field; did you mean \"tenant_id\""),
            (r#"{"ts":"t","TS":"t"}"#, "[1]: TS: means \"ts\", which is given twice"),
            (r#"{"ts":"t","ts":"t"}"#, "[1]: the body is not acceptable JSON: key \"ts\" is given twice"),
            (r#"{"ts":"t"}"#, "[1]: tenant_id: is required"),
            (r#"{"ts":"t","tenant_id":"x","mem_mib":1}"#, "[1]: cpu_milli: is required"),
            (r#"{"ts":"t","tenant_id":"x","cpu_milli":1}"#, "[1]: mem_mib: is required"),
            (r#"["t","x"]"#, "[1]: an object is needed, not an array"),
        ] {
            let array = from_json(format!("[{good},{bad},{good}]").as_bytes()).unwrap_err();
            let lines = from_lines(format!("{good}\n{bad}\n{good}").as_bytes()).unwrap_err();
            assert!(array.message().starts_with(message), "{array}");
            assert!(lines.message().starts_with(message), "{lines}");
        }
        for bad in [&b"[1] 2"[..], b"\xff", b"[\"\xff\"]", b"null"] {
            assert!(from_json(bad).is_err());
        }
    }
}

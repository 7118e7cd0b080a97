//! Reading with tolerance, and what is said about what cannot be read.

use super::*;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, PartialEq)]
struct Inner {
    #[serde(rename = "requestsCPU")]
    requests_cpu: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer {
    cluster_id: String,
    ttl_minutes: Option<i64>,
    inner: Option<Inner>,
    labels: Option<BTreeMap<String, String>>,
    list: Option<Vec<Inner>>,
    choice: Option<Choice>,
    share: Option<f64>,
    count: Option<u32>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Choice {
    A,
    B,
}

fn read(value: Value) -> Result<Outer> {
    from_value(value)
}

#[test]
fn every_spelling_of_the_seeds_is_read() {
    for key in ["clusterID", "cluster_id", "ClusterID", "cluster-id", "CLUSTERID"] {
        assert_eq!(read(json!({ key: "x", "TTLMinutes": 60 })).unwrap().ttl_minutes, Some(60), "{key}");
    }
    let nested = read(json!({"clusterid": "x", "inner": {"requests_cpu": "4"}})).unwrap();
    assert_eq!(nested.inner.unwrap().requests_cpu.as_deref(), Some("4"));
}

#[test]
fn data_keys_are_left_alone() {
    let labels = read(json!({"cluster_id": "x", "labels": {"Team_A": "1", "team-a": "2"}})).unwrap().labels.unwrap();
    assert_eq!(labels.len(), 2);
}

#[test]
fn messages_name_the_path() {
    for (body, message) in [
        (json!({"cluster_id": "x", "clusterID": "y"}), "means \"cluster_id\", which is given twice"),
        (json!({"cluster_id": "x", "ttl_minute": 1}), "ttl_minute: unknown field; did you mean \"ttl_minutes\""),
        (json!({"cluster_id": "x", "zzzzzzzzzzzz": 1}), "zzzzzzzzzzzz: unknown field; known are cluster_id,"),
        (json!({}), "cluster_id: is required"),
        (json!({"cluster_id": 1}), "cluster_id: a string is needed, not the number 1"),
        (json!({"cluster_id": "x", "list": [{}, {"a": 1}]}), "list[1].a: unknown field"),
        (json!([]), "an object is needed, not an array"),
    ] {
        let error = read(body).unwrap_err();
        assert!(error.message().contains(message), "{error}");
    }
}

#[test]
fn read_only_fields_are_ignored_at_the_top_only() {
    assert!(read(json!({"cluster_id": "x", "status": {"phase": "Ready"}, "createdAt": "z"})).is_ok());
    assert!(read(json!({"cluster_id": "x", "inner": {"status": 1}})).is_err());
}

#[test]
fn patches_get_canonical_keys() {
    assert_eq!(canonical_keys::<Outer>(json!({"TTLMinutes": null})).unwrap(), json!({"ttl_minutes": null}));
    assert_eq!(fields_of::<Outer>().len(), 8);
}

#[test]
fn messages_speak_of_json() {
    let base = json!({"cluster_id": "x"});
    for (field, value, message) in [
        ("ttl_minutes", json!(1.5), "ttl_minutes: an integer is needed, not the number 1.5"),
        ("ttl_minutes", json!("60"), "ttl_minutes: an integer is needed, not the string \"60\""),
        ("ttl_minutes", json!(true), "ttl_minutes: an integer is needed, not the boolean true"),
        ("ttl_minutes", json!([]), "ttl_minutes: an integer is needed, not an array"),
        (
            "ttl_minutes",
            json!(u64::MAX),
            "ttl_minutes: the number 18446744073709551615 is not allowed: -9223372036854775808 to 9223372036854775807 is",
        ),
        ("ttl_minutes", json!(1e300), "ttl_minutes: an integer is needed, not the number 1"),
        ("cluster_id", json!(null), "cluster_id: a string is needed, not null"),
        ("cluster_id", json!({}), "cluster_id: a string is needed, not an object"),
        ("labels", json!({"a": null}), "labels.a: a string is needed, not null"),
        ("labels", json!({"a": 1}), "labels.a: a string is needed, not the number 1"),
        ("labels", json!("a"), "labels: an object is needed, not the string \"a\""),
        ("list", json!({}), "list: an array is needed, not an object"),
        ("list", json!([null]), "list[0]: an object is needed, not null"),
        ("choice", json!("c"), "choice: \"c\" is not allowed: a, b are"),
        ("choice", json!(1), "choice: a string is needed, not a number"),
        ("share", json!("x"), "share: a number is needed, not the string \"x\""),
        ("count", json!(-1), "count: the number -1 is not allowed: 0 to 4294967295 is"),
    ] {
        let mut body = base.clone();
        body[field] = value;
        let error = read(body).unwrap_err().message().to_owned();
        assert!(error.starts_with(message), "{error}");
        for rust in ["i64", "u32", "f64", "struct", "unit", "expected", "`", "sequence", "map", "Option"] {
            assert!(!error.contains(rust), "{error}");
        }
    }
}

#[test]
fn a_number_without_a_fraction_is_an_integer() {
    let minutes = |text: &str| {
        let body = format!(r#"{{"cluster_id": "x", "ttl_minutes": {text}}}"#);
        read(crate::strict_json::parse(body.as_bytes()).unwrap()).map(|read| read.ttl_minutes.unwrap())
    };
    for (text, value) in [
        ("2.0", 2),
        ("1e3", 1000),
        ("-4.0", -4),
        ("-0.0", 0),
        ("1.5e1", 15),
        ("999999999999999.0", 999_999_999_999_999),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(minutes(text).unwrap(), value, "{text}");
    }
    for text in ["2.5", "1e-1", "1000000000000000.0", "1e18", "9223372036854775808"] {
        assert!(minutes(text).is_err(), "{text}");
    }
}

#[test]
fn names_are_compared_as_they_are_folded() {
    let names = [
        "",
        "_",
        "ts",
        "TS",
        "t-s",
        "tsx",
        "tenant_id",
        "tenantID",
        "Tenant-Id",
        "tenant_i",
        "\u{e9}",
        "\u{c9}",
        "\u{212a}",
        "k",
    ];
    for a in names {
        for b in names {
            assert_eq!(same_name(a, b), folded(a) == folded(b), "{a:?} {b:?}");
        }
    }
}

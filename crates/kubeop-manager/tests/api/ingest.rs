//! Batches of usage: all or nothing, however large, in either form.
//!
//! Invariant: what is refused leaves no row behind.

use crate::fixture::{Answer, Fixture};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::Role;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::fmt::Write;

async fn send(fixture: &Fixture, kind: &str, body: String) -> Answer {
    let request = Request::post("/v1/usage/ingest")
        .header("authorization", format!("Bearer {}", fixture.token(Role::Admin)))
        .header("content-type", kind)
        .body(Body::from(body))
        .unwrap();
    fixture.send(request).await
}

async fn used(fixture: &Fixture, tenant: &str) -> i64 {
    let token = fixture.token(Role::Admin);
    let mut sum = 0;
    for month in ["2025-12", "2026-01", "2026-02"] {
        let path = format!("/v1/usage/snapshot?tenant_id={tenant}&month={month}");
        let answer = fixture.call("GET", &path, Some(&token), None).await;
        sum += answer.body["totals"]["cpu_milli"].as_i64().unwrap();
    }
    sum
}

fn hour(n: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(n)
}

/// 100,000 rows of sources with short names, under the body's limit.
fn rows(tenant: &str) -> Vec<String> {
    (0..100_000)
        .map(|n| {
            format!(
                r#"{{"ts":"{}","tenant_id":"{tenant}","source":"{}","cpu_milli":{},"mem_mib":0}}"#,
                hour(n % 700),
                n / 700,
                n % 10
            )
        })
        .collect()
}

#[tokio::test]
async fn a_hundred_thousand_rows_are_one_batch_in_either_form_and_one_bad_row_refuses_all() {
    let fixture = Fixture::new().await;
    let tenant = fixture.tenant("acme").await;
    let mut all = rows(&tenant);
    let good = all[99_999].clone();
    all[99_999] = good.replace("\"cpu_milli\":9,", "\"cpu_milli\":-9,");
    for (kind, text) in [("application/json", format!("[{}]", all.join(","))), ("application/x-ndjson", all.join("\n"))]
    {
        assert!(text.len() < 16 << 20, "{}", text.len());
        let refused = send(&fixture, kind, text).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.error(), "[99999]: cpu_milli: -9 is not allowed: 0 to 1000000000000");
        assert_eq!(used(&fixture, &tenant).await, 0);
    }
    all[99_999] = good;
    let counts = |answer: &Answer| {
        ["accepted", "created", "updated", "unchanged"].map(|name| answer.body[name].as_i64().unwrap())
    };
    let first = send(&fixture, "application/json", format!("[{}]", all.join(","))).await;
    assert_eq!(counts(&first), [100_000, 100_000, 0, 0], "{}", first.body);
    all.reverse();
    let again = send(&fixture, "application/x-ndjson", all.join("\r\n") + "\n\n").await;
    assert_eq!(counts(&again), [100_000, 0, 0, 100_000], "{}", again.body);
    assert_eq!(used(&fixture, &tenant).await, 450_000);
}

#[tokio::test]
async fn the_bad_element_is_named_by_index_and_field() {
    let fixture = Fixture::new().await;
    let tenant = fixture.tenant("acme").await;
    let good = json!({"ts": "2026-01-01T00:00:00Z", "tenant_id": tenant, "cpu_milli": 1, "mem_mib": 0});
    let with = |name: &str, value: Value| {
        let mut bad = good.clone();
        bad[name] = value;
        format!("[{good},{bad}]")
    };
    for (body, sentence) in [
        (with("cpu_milli", json!("1")), "[1]: cpu_milli: "),
        (with("mem_mib", json!(1.5)), "[1]: mem_mib: "),
        (with("mem_mib", json!(1_000_000_000_001_i64)), "[1]: mem_mib: 1000000000001 is not allowed"),
        (with("ts", json!("1999-12-31T23:00:00Z")), "[1]: ts: 1999-12-31T23:00:00Z lies before the year 2000"),
        (
            with("ts", json!("2999-01-01T00:00:00Z")),
            "[1]: ts: 2999-01-01T00:00:00Z lies more than 5 minutes in the future",
        ),
        (with("project_id", json!("x")), "[1]: project_id: \"x\" is not a project id"),
        (with("source", json!("a b")), "[1]: source: "),
        (
            format!(r#"[{good},{{"ts":"2026-01-01T00:00:00Z","tenant_id":"{tenant}","mem_mib":1}}]"#),
            "[1]: cpu_milli: is required",
        ),
        (
            format!(r#"[{good},{{"ts":"2026-01-01T00:00:00Z","tenant_id":"{tenant}","cpu_milli":1}}]"#),
            "[1]: mem_mib: is required",
        ),
        (with("colour", json!("red")), "[1]: colour: unknown field"),
        (with("cpu_milli", json!(2)), "[1]: has the same hour, tenant, project and source as [0] but other figures"),
        (format!(r#"[{good},{{"ts":1,"ts":2}}]"#), "[1]: the body is not acceptable JSON"),
        (format!("[{good},7]"), "[1]: "),
        (format!("[{good}"), "[1]: the body is not acceptable JSON"),
    ] {
        let refused = send(&fixture, "application/json", body.clone()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(refused.error().starts_with(sentence), "{body}: {}", refused.body);
    }
    assert_eq!(used(&fixture, &tenant).await, 0);
    // The same sample twice is no contradiction.
    let twice = send(&fixture, "application/json", format!("[{good},{good}]")).await;
    assert_eq!(twice.body, json!({"accepted": 2, "created": 1, "updated": 0, "unchanged": 1}));
    let one = send(&fixture, "application/json", good.to_string()).await;
    assert_eq!(one.body, json!({"accepted": 1, "created": 0, "updated": 0, "unchanged": 1}));
}

/// However the samples are cut into batches, repeated, ordered and spelt: the totals are those of the samples.
#[tokio::test]
async fn totals_never_depend_on_order_repetition_or_batches() {
    let fixture = Fixture::new().await;
    let sample = (0i64..1400, 0u8..3, 0i64..1_000);
    let plan = proptest::collection::vec((proptest::collection::vec(sample, 1..20), 1usize..4, any::<bool>()), 1..6);
    let mut runner = TestRunner::deterministic();
    for case in 0..12 {
        let tenant = fixture.tenant(&format!("acme-{case}")).await;
        let plan = plan.new_tree(&mut runner).unwrap().current();
        // One figure for each key over all batches, as an honest meter has.
        let mut figures = std::collections::BTreeMap::new();
        let mut batches = Vec::new();
        for (batch, times, lines) in plan {
            let body: Vec<String> = batch
                .iter()
                .map(|(n, source, cpu)| {
                    let cpu = *figures.entry((*n, *source)).or_insert(*cpu);
                    let ts = hour(*n) + SignedDuration::from_mins((n * 7 + cpu) % 60);
                    format!(r#"{{"TS":"{ts}","tenantID":"{tenant}","source":"m{source}","cpuMilli":{cpu},"memMib":0}}"#)
                })
                .collect();
            batches.extend(std::iter::repeat_n((body, lines), times));
        }
        // An order of its own for each case.
        let turn = case % batches.len();
        batches.rotate_left(turn);
        for (mut body, lines) in batches {
            if lines {
                body.reverse();
            }
            let (kind, text) = if lines {
                (
                    "application/x-ndjson",
                    body.iter().fold(String::new(), |mut text, line| {
                        writeln!(text, "{line}").unwrap();
                        text
                    }),
                )
            } else {
                ("application/json", format!("[{}]", body.join(",")))
            };
            let answer = send(&fixture, kind, text).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        }
        assert_eq!(used(&fixture, &tenant).await, figures.values().sum::<i64>());
    }
}

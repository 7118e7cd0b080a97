//! What may be sent of which hour, tenant and project, and on which invoices late usage is shown.
//!
//! Invariant: a correction is on the one invoice that will be closed with it; nobody's usage is taken for another's.

use crate::fixture::Fixture;
use jiff::SignedDuration;
use kubeop_core::clock::Clock;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::month::Month;
use kubeop_store::project;
use serde_json::{Value, json};

const INGEST: &str = "/v1/usage/ingest";

fn sample(ts: &str, tenant: &str, cpu: i64) -> Value {
    json!({"ts": ts, "tenant_id": tenant, "cpu_milli": cpu, "mem_mib": 0})
}

async fn refused(fixture: &Fixture, body: &Value, message: &str) {
    let answer = fixture.admin("POST", INGEST, body, 400).await;
    assert!(answer["error"].as_str().unwrap().starts_with(message), "{answer}");
}

async fn month_is(fixture: &Fixture, tenant: &str, month: &str, status: u16) -> Value {
    fixture.admin("GET", &format!("/v1/invoices/{tenant}?month={month}"), &Value::Null, status).await
}

both! {
    /// The months between a tenant's end and the invoice that late usage is billed on were shown with its corrections, each of them.
    async fn corrections_are_on_the_one_invoice_that_is_closed_with_them(fixture) {
        fixture.clock.set("2026-03-10T00:00:00Z".parse().unwrap());
        let acme = fixture.tenant("acme").await;
        fixture.clock.set("2026-05-15T00:00:00Z".parse().unwrap());
        fixture.admin("DELETE", &format!("/v1/tenants/{acme}"), &Value::Null, 204).await;
        fixture.clock.set("2026-11-10T00:00:00Z".parse().unwrap());
        assert_eq!(month_is(&fixture, &acme, "2026-05", 200).await["status"], "closed");
        let late = json!([sample("2026-05-02T10:00:00Z", &acme, 3_000_000)]);
        assert_eq!(fixture.admin("POST", INGEST, &late, 200).await["created"], 1);
        for month in ["2026-06", "2026-07", "2026-08", "2026-09", "2026-10"] {
            let answer = month_is(&fixture, &acme, month, 400).await;
            assert_eq!(answer["error"], format!("month {month} is after the tenant existed: it was deleted in 2026-05"));
        }
        month_is(&fixture, &acme, "2026-02", 400).await;
        let open = month_is(&fixture, &acme, "2026-11", 200).await;
        assert_eq!((&open["status"], &open["total"]), (&json!("open"), &json!("3.00")));
        fixture.clock.set("2026-12-10T00:00:00Z".parse().unwrap());
        let closed = month_is(&fixture, &acme, "2026-11", 200).await;
        assert_eq!((&closed["status"], &closed["total"]), (&json!("closed"), &json!("3.00")));
        month_is(&fixture, &acme, "2026-12", 400).await;
    }

    /// A month before the tenant was made, after one that usage was sent of.
    async fn a_month_of_before_the_tenant_shows_no_corrections_of_earlier_ones(fixture) {
        fixture.clock.set("2026-06-10T00:00:00Z".parse().unwrap());
        let acme = fixture.tenant("acme").await;
        for cpu in [1_000_000, 4_000_000] {
            fixture.admin("POST", INGEST, &json!([sample("2026-01-02T10:00:00Z", &acme, cpu)]), 200).await;
            assert_eq!(month_is(&fixture, &acme, "2026-01", 200).await["total"], "1.00");
        }
        for month in ["2025-12", "2026-02", "2026-05"] {
            let answer = month_is(&fixture, &acme, month, 400).await;
            assert_eq!(answer["error"], format!("month {month} is before the tenant existed: it was created in 2026-06"));
        }
        assert_eq!(month_is(&fixture, &acme, "2026-06", 200).await["adjustments"], "3.00");
    }

    /// It was taken in as usage that names no project, in whichever order the two were sent.
    async fn usage_of_the_nil_project_is_refused(fixture) {
        let acme = fixture.tenant("acme").await;
        let hour = fixture.clock.now().to_string();
        let mut nil = sample(&hour, &acme, 1);
        nil["project_id"] = json!("00000000-0000-0000-0000-000000000000");
        let none = sample(&hour, &acme, 2);
        refused(&fixture, &json!([none, nil]), "[1]: project_id: ").await;
        refused(&fixture, &json!([nil, none]), "[0]: project_id: ").await;
    }

    async fn a_time_that_is_not_rfc_3339_is_refused(fixture) {
        let acme = fixture.tenant("acme").await;
        for ts in ["20261106T100000Z", "2026-11-06T10Z", "+002026-11-06T10:00:00Z", "2026-11-06T10:00:00+25:59", "2026-11-06T10:00:00Z[Foo/Bar]"] {
            refused(&fixture, &json!([sample(ts, &acme, 1)]), &format!("[0]: ts: {ts:?} is not an RFC 3339 time")).await;
            let price = json!({"meter": "cpu_milli", "rate": "1", "effective_from": ts});
            let answer = fixture.admin("POST", "/v1/platform/prices", &price, 400).await;
            assert!(answer["error"].as_str().unwrap().starts_with("effective_from: "), "{answer}");
        }
        fixture.admin("POST", INGEST, &json!([sample("2025-11-06t10:00:00.5+23:59", &acme, 1)]), 200).await;
    }

    /// As long as the project was there it was refused; and taken in once it was deleted.
    async fn usage_of_another_tenant_s_project_is_refused_also_when_that_is_gone(fixture) {
        let (mine, theirs) = (fixture.tenant("mine").await, fixture.tenant("theirs").await);
        let made = fixture.admin("POST", "/v1/projects", &json!({"tenantID": mine, "name": "shop"}), 201).await;
        let id = made["id"].as_str().unwrap().to_owned();
        let hour = fixture.clock.now().checked_sub(SignedDuration::from_hours(1)).unwrap().to_string();
        let of = |tenant: &str, project: &str| {
            let mut one = sample(&hour, tenant, 1);
            one["project_id"] = json!(project);
            json!([one])
        };
        let message = format!("[0].project_id: project {id} is not of tenant {theirs}");
        refused(&fixture, &of(&theirs, &id), &message).await;
        let mut tx = fixture.manager.store.begin().await.unwrap();
        let (tenant, gone) = (TenantId::parse(&mine).unwrap(), ProjectId::parse(&id).unwrap());
        assert!(project::remove(&mut tx.conn(), tenant, gone).await.unwrap());
        tx.commit().await.unwrap();
        refused(&fixture, &of(&theirs, &id), &message).await;
        fixture.admin("POST", INGEST, &of(&mine, &id), 200).await;
        // One that kubeOP never had is the meter's own.
        fixture.admin("POST", INGEST, &of(&theirs, "0195a6f0-7f00-7000-8000-000000000009"), 200).await;
    }

    async fn a_fraction_is_no_integer_however_small(fixture) {
        let acme = fixture.tenant("acme").await;
        let hour = fixture.clock.now();
        for (literal, taken) in [("1.99999999999999999999", false), ("1e-400", false), ("2.0", true), ("0e-400", true)] {
            let one = format!(r#"{{"ts":"{hour}","tenant_id":"{acme}","source":"{literal}","mem_mib":0,"cpu_milli":{literal}}}"#);
            for body in [format!("[{one}]"), one] {
                let admin = fixture.token(kubeop_core::authz::Role::Admin);
                let answer = fixture.call("POST", INGEST, Some(&admin), Some(&body)).await;
                assert_eq!(answer.status.is_success(), taken, "{body}: {}", answer.body);
                assert!(taken || answer.error().contains(literal), "{body}: {}", answer.body);
            }
        }
        let month = Month::of(hour);
        let used = fixture.admin("GET", &format!("/v1/usage/snapshot?month={month}"), &Value::Null, 200).await;
        assert_eq!(used["totals"]["cpu_milli"], 2);
    }
}

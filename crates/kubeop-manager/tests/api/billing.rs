//! Months from open to closed, seen through the API; the worked example of the documentation.
//!
//! Invariant: time is set by hand; figures that the documentation shows are read from it and compared.

use crate::fixture::{Answer, Fixture, config};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::Role;
use kubeop_core::clock::{Clock, SystemIds};
use kubeop_core::id::TenantId;
use kubeop_core::price::parse_rate;
use kubeop_manager::config::Config;
use kubeop_manager::events::Events;
use kubeop_manager::jobs::{first_start, invoices};
use kubeop_store::{price, tenant};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct World {
    fixture: Fixture,
}

impl World {
    async fn at(now: &str) -> Self {
        Self { fixture: Fixture::at(now.parse().unwrap()).await }
    }

    fn set(&self, now: &str) {
        self.fixture.clock.set(now.parse().unwrap());
    }

    async fn get(&self, path: &str) -> Answer {
        self.fixture.call("GET", path, Some(&self.fixture.token(Role::Admin)), None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.fixture.call("POST", path, Some(&self.fixture.token(Role::Admin)), Some(&body.to_string())).await
    }

    /// Sends a sample for each hour from `from` on.
    async fn send(&self, tenant: &str, from: &str, hours: i64, figures: (i64, i64)) {
        let from: Timestamp = from.parse().unwrap();
        let batch: Vec<Value> = (0..hours)
            .map(|n| {
                let ts = from + SignedDuration::from_hours(n);
                json!({"ts": ts.to_string(), "tenant_id": tenant, "cpu_milli": figures.0, "mem_mib": figures.1})
            })
            .collect();
        let answer = self.post("/v1/usage/ingest", &Value::Array(batch)).await;
        assert_eq!((answer.status, &answer.body["accepted"]), (StatusCode::OK, &json!(hours)), "{}", answer.body);
    }

    async fn invoice(&self, tenant: &str, month: &str) -> Value {
        let answer = self.get(&format!("/v1/invoices/{tenant}?month={month}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    async fn accepting(&self, path: &str, accept: &str) -> Answer {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {}", self.fixture.token(Role::Admin)))
            .header("accept", accept)
            .body(Body::empty())
            .unwrap();
        self.fixture.send(request).await
    }

    async fn csv(&self, tenant: &str, month: &str) -> String {
        let answer = self.accepting(&format!("/v1/invoices/{tenant}?month={month}"), "text/csv").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
        let name = answer.headers["content-disposition"].to_str().unwrap();
        assert_eq!(name, format!("attachment; filename=\"invoice-acme-{month}.csv\""));
        answer.body.as_str().unwrap().to_owned()
    }

    async fn round(&self) {
        invoices::round(&self.fixture.manager, &CancellationToken::new()).await.unwrap();
    }
}

/// The fenced blocks of a kind in the documentation.
fn blocks(kind: &str) -> Vec<String> {
    let text = include_str!("../../../../docs/billing.md");
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// docs/billing.md, "A worked example": every figure there is what comes out here.
#[tokio::test]
async fn the_documentation_s_example_is_what_comes_out() {
    let world = World::at("2026-03-01T00:00:00Z").await;
    let acme = world.fixture.tenant("acme").await;
    world.set("2026-03-10T09:30:00Z");
    let requests = blocks("json");
    let price: Value = serde_json::from_str(&requests[0]).unwrap();
    let added = world.post("/v1/platform/prices", &price).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
    world.set("2026-04-01T00:00:00Z");
    world.send(&acme, "2026-03-01T00:00:00Z", 744, (500, 1024)).await;
    assert_eq!(world.invoice(&acme, "2026-03").await["status"], "grace");
    world.set("2026-04-04T00:00:00Z");
    let documented = blocks("csv");
    assert_eq!(documented.len(), 2);
    let shown = |csv: String| csv.replace(&acme, "TENANT").replace("\r\n", "\n");
    assert_eq!(shown(world.csv(&acme, "2026-03").await), documented[0]);

    world.set("2026-04-06T12:00:00Z");
    world.send(&acme, "2026-03-20T00:00:00Z", 24, (10_500, 1024)).await;
    world.send(&acme, "2026-03-02T00:00:00Z", 24, (0, 1024)).await;
    world.set("2026-05-01T00:00:00Z");
    world.send(&acme, "2026-04-01T00:00:00Z", 720, (500, 1024)).await;
    world.set("2026-05-04T00:00:00Z");
    assert_eq!(shown(world.csv(&acme, "2026-04").await), documented[1]);
    assert_eq!(shown(world.csv(&acme, "2026-03").await), documented[0]);
    let april = world.invoice(&acme, "2026-04").await;
    let sums: Value = serde_json::from_str(&requests[1]).unwrap();
    for (name, value) in sums.as_object().unwrap() {
        assert_eq!(&april[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_month_goes_from_open_to_grace_to_closed_and_stays_as_it_was() {
    let world = World::at("2026-03-20T00:00:00Z").await;
    let acme = world.fixture.tenant("acme").await;
    world.send(&acme, "2026-03-19T22:00:00Z", 2, (1_000_000, 0)).await;
    let open = world.invoice(&acme, "2026-03").await;
    assert_eq!((&open["status"], &open["total"], &open["number"]), (&json!("open"), &json!("2.00"), &Value::Null));
    assert_eq!(world.get(&format!("/v1/invoices/{acme}")).await.body["month"], "2026-03");
    world.set("2026-04-03T23:59:59Z");
    assert_eq!(world.invoice(&acme, "2026-03").await["status"], "grace");
    world.set("2026-04-04T00:00:00Z");
    let closed = world.invoice(&acme, "2026-03").await;
    assert_eq!((&closed["status"], &closed["total"], &closed["number"]), (&json!("closed"), &json!("2.00"), &json!(1)));
    assert_eq!(closed["generated_at"], "2026-04-04T00:00:00Z");

    // Late usage, a new price, the end of the tenant, another with its name: the answer is the same, byte for byte.
    world.send(&acme, "2026-03-19T22:00:00Z", 1, (0, 0)).await;
    let price = json!({"meter": "cpu_milli", "rate": "9"});
    assert_eq!(world.post("/v1/platform/prices", &price).await.status, StatusCode::CREATED);
    let admin = world.fixture.token(Role::Admin);
    let deleted = world.fixture.call("DELETE", &format!("/v1/tenants/{acme}"), Some(&admin), None).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.body);
    world.fixture.tenant("acme").await;
    world.set("2027-01-01T00:00:00Z");
    assert_eq!(world.invoice(&acme, "2026-03").await.to_string(), closed.to_string());

    // The month in which it was deleted closes too, with the credit; then there are no more.
    let last = world.invoice(&acme, "2026-04").await;
    assert_eq!(
        (&last["status"], &last["adjustments"], &last["total"]),
        (&json!("closed"), &json!("-1.00"), &json!("-1.00"))
    );
    let line = &last["lines"][0];
    assert_eq!(
        (&line["corrects"], &line["quantity"], &line["rate"]),
        (&json!("2026-03"), &json!("-1000000"), &json!("0.000001"))
    );
    let after = world.get(&format!("/v1/invoices/{acme}?month=2026-05")).await;
    assert_eq!(after.status, StatusCode::BAD_REQUEST);
    assert!(after.error().contains("it was deleted in 2026-04"), "{}", after.body);
    for (month, part) in [("2026-02", "before the tenant existed"), ("2027-02", "in the future"), ("x", "YYYY-MM")] {
        let refused = world.get(&format!("/v1/invoices/{acme}?month={month}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.error().contains(part), "{}", refused.body);
    }
}

#[tokio::test]
async fn the_job_closes_what_is_due_and_the_list_shows_it_in_order() {
    let world = World::at("2026-03-20T00:00:00Z").await;
    let (acme, other) = (world.fixture.tenant("acme").await, world.fixture.tenant("other").await);
    world.set("2026-05-10T00:00:00Z");
    assert_eq!(world.get("/v1/invoices").await.body, json!([]));
    world.round().await;
    world.round().await;
    let all = world.get("/v1/invoices").await.body;
    let shown: Vec<_> =
        all.as_array().unwrap().iter().map(|one| (one["number"].as_i64().unwrap(), one["month"].clone())).collect();
    let months = ["2026-03", "2026-03", "2026-04", "2026-04"].map(Value::from);
    assert_eq!(shown, (1..=4).zip(months).collect::<Vec<_>>());
    let log = world.get("/v1/audit?action=close").await.body;
    assert_eq!(log.as_array().unwrap().len(), 4, "{log}");
    let page = world.get(&format!("/v1/invoices?tenant_id={acme}&limit=1")).await;
    assert_eq!(page.body.as_array().unwrap().len(), 1);
    let next = page.headers["link"].to_str().unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    let rest = world.get(&next).await;
    assert_eq!((rest.body[0]["month"].as_str(), rest.headers.get("link")), (Some("2026-04"), None));

    // A tenant sees its own.
    let token = world.fixture.token(Role::Tenant(TenantId::parse(&acme).unwrap()));
    let own = world.fixture.call("GET", "/v1/invoices", Some(&token), None).await;
    assert_eq!(own.body.as_array().unwrap().len(), 2);
    assert!(own.body.as_array().unwrap().iter().all(|one| one["tenant_id"] == acme.as_str()));
    let foreign = world.fixture.call("GET", &format!("/v1/invoices?tenant_id={other}"), Some(&token), None).await;
    assert_eq!(foreign.body, json!([]));
    let foreign = world.fixture.call("GET", &format!("/v1/invoices/{other}?month=2026-03"), Some(&token), None).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let mine = world.fixture.call("GET", &format!("/v1/invoices/{acme}?month=2026-03"), Some(&token), None).await;
    assert_eq!(mine.body["status"], "closed");
}

/// Usage of months long over, for a tenant that is new: each is billed on an invoice of its own, closed as soon as it is asked for.
#[tokio::test]
async fn usage_of_before_the_tenant_is_billed_and_closed() {
    let world = World::at("2026-06-15T00:00:00Z").await;
    let acme = world.fixture.tenant("acme").await;
    world.send(&acme, "2026-05-31T23:00:00Z", 2, (1_000_000, 0)).await;
    let may = world.invoice(&acme, "2026-05").await;
    assert_eq!((&may["status"], &may["total"]), (&json!("closed"), &json!("1.00")));
    world.send(&acme, "2026-05-31T23:00:00Z", 1, (3_000_000, 0)).await;
    let june = world.invoice(&acme, "2026-06").await;
    let sums = (&june["subtotal"], &june["adjustments"], &june["total"]);
    assert_eq!(sums, (&json!("1.00"), &json!("2.00"), &json!("3.00")));
    assert_eq!(world.invoice(&acme, "2026-05").await, may);
}

#[tokio::test]
async fn an_invoice_is_served_as_what_the_caller_accepts() {
    let world = World::at("2026-03-20T00:00:00Z").await;
    let path = format!("/v1/invoices/{}", world.fixture.tenant("acme").await);
    for accept in ["application/json", "*/*", "text/csv;q=0.5, application/json"] {
        let answer = world.accepting(&path, accept).await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (StatusCode::OK, &"application/json".parse().unwrap())
        );
        assert_eq!(answer.headers["vary"], "accept");
    }
    let empty = world.accepting(&path, "text/csv").await.body;
    assert_eq!(empty.as_str().unwrap().lines().count(), 1, "the header alone: {empty}");
    let refused = world.accepting(&path, "text/html").await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    assert!(refused.error().contains("application/json or text/csv"));
}

#[tokio::test]
async fn the_snapshot_and_the_invoice_come_from_the_same_rows() {
    let world = World::at("2026-03-20T00:00:00Z").await;
    let acme = world.fixture.tenant("acme").await;
    world.send(&acme, "2026-03-01T00:00:00Z", 40, (333, 777)).await;
    let price = json!({"meter": "cpu_milli", "rate": "0.5", "effective_from": "2026-03-21T00:00:00Z"});
    assert_eq!(world.post("/v1/platform/prices", &price).await.status, StatusCode::CREATED);
    world.set("2026-03-25T00:00:00Z");
    world.send(&acme, "2026-03-21T00:00:00Z", 3, (7, 9)).await;
    let quantity = |invoice: &Value, meter: &str| -> i64 {
        let lines = invoice["lines"].as_array().unwrap().iter().filter(|line| line["meter"] == meter);
        lines.map(|line| line["quantity"].as_str().unwrap().parse::<i64>().unwrap()).sum()
    };
    let compare = async || {
        let snapshot = world.get("/v1/usage/snapshot?month=2026-03").await.body;
        let invoice = world.invoice(&acme, "2026-03").await;
        for meter in ["cpu_milli", "mem_mib"] {
            assert_eq!(snapshot["totals"][meter], quantity(&invoice, meter));
            assert_eq!(snapshot["tenants"][0]["used"][meter], quantity(&invoice, meter));
        }
        invoice
    };
    let open = compare().await;
    assert_eq!((quantity(&open, "cpu_milli"), open["lines"].as_array().unwrap().len()), (333 * 40 + 21, 3));
    world.set("2026-04-10T00:00:00Z");
    assert_eq!(compare().await["status"], "closed");
}

#[tokio::test]
async fn prices_hold_for_hours_to_come_only() {
    let world = World::at("2026-03-20T10:30:00Z").await;
    let add = async |body: Value| world.post("/v1/platform/prices", &body).await;
    for (body, part) in [
        (json!({"meter": "gpu", "rate": "1"}), "meter: \"gpu\" is not known: cpu_milli or mem_mib"),
        (json!({"meter": "mem_mib", "rate": "-1"}), "rate: "),
        (json!({"meter": "mem_mib", "rate": 0.1}), "rate"),
        (json!({"meter": "mem_mib", "rate": "1", "effective_from": "tomorrow"}), "effective_from: \"tomorrow\""),
        (json!({"meter": "mem_mib", "rate": "1", "effective_from": "2026-04-01T00:30:00Z"}), "not a whole hour"),
        (
            json!({"meter": "mem_mib", "rate": "1", "effective_from": "2026-03-20T10:00:00Z"}),
            "2026-03-20T11:00:00Z at the earliest",
        ),
        (json!({"meter": "mem_mib"}), "rate: is required"),
    ] {
        let refused = add(body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        assert!(refused.error().contains(part), "{}", refused.body);
    }
    let added = add(json!({"meter": "mem_mib", "rate": "0.50"})).await;
    let entry = json!({
        "meter": "mem_mib", "rate": "0.5", "currency": "USD", "effective_from": "2026-03-20T11:00:00Z", "origin": "api"
    });
    assert_eq!((added.status, &added.body), (StatusCode::CREATED, &entry));
    assert_eq!(add(json!({"meter": "mem_mib", "rate": "7"})).await.status, StatusCode::CONFLICT);
    let book = world.get("/v1/platform/prices").await.body;
    assert_eq!(book.as_array().unwrap().len(), 3);
    assert_eq!((&book[0]["effective_from"], &book[2]), (&json!("1970-01-01T00:00:00Z"), &entry));
}

/// A changed variable holds from the next free hour on; an unchanged one never undoes what was set through the API.
#[tokio::test]
async fn restarts_follow_the_configuration_and_undo_nothing() {
    let world = World::at("2026-03-20T10:30:00Z").await;
    let start = async |cpu: &str| {
        let config = Config { rate_cpu_milli: parse_rate(cpu).unwrap(), ..config() };
        let events = Events::new(&config).unwrap();
        first_start::prices(&world.fixture.manager.store, &config, &*world.fixture.clock, &SystemIds, &events).await
    };
    let book = async || -> Vec<String> {
        let mut read = world.fixture.manager.store.read().await.unwrap();
        let rows = price::list(&mut read.conn()).await.unwrap();
        rows.iter()
            .filter(|row| row.meter == "cpu_milli")
            .map(|row| format!("{} {}", row.effective_from, row.rate))
            .collect()
    };
    let first = "1970-01-01T00:00:00Z 0.000001";
    let set = world.post("/v1/platform/prices", &json!({"meter": "cpu_milli", "rate": "3"})).await;
    assert_eq!(set.status, StatusCode::CREATED);
    start("0.000001").await.unwrap();
    assert_eq!(book().await, [first, "2026-03-20T11:00:00Z 3"]);
    // The hour is taken: the one after. Changed twice within the hour, the later one holds in the end.
    start("4").await.unwrap();
    start("4").await.unwrap();
    start("5").await.unwrap();
    let all = [first, "2026-03-20T11:00:00Z 3", "2026-03-20T12:00:00Z 4", "2026-03-20T13:00:00Z 5"];
    assert_eq!(book().await, all);
    // What a new installation begins with is no change; each of the others is on record, the API's as its caller's.
    let record = world.get("/v1/audit?action=create&subject=kubeop").await.body;
    let objects: Vec<_> = record.as_array().unwrap().iter().map(|entry| &entry["object_id"]).collect();
    assert_eq!(objects, ["cpu_milli@2026-03-20T12:00:00Z", "cpu_milli@2026-03-20T13:00:00Z"]);
    assert_eq!((&record[0]["object_kind"], &record[0]["detail"]), (&json!("price"), &json!("4 USD, as configured")));
    let other = Config { currency: kubeop_core::price::Currency::parse("EUR").unwrap(), ..config() };
    let events = Events::new(&other).unwrap();
    let clock = &*world.fixture.clock;
    let refused =
        first_start::prices(&world.fixture.manager.store, &other, clock, &SystemIds, &events).await.unwrap_err();
    assert!(refused.message().contains("KUBEOP_CURRENCY is EUR, the price book is in USD"), "{refused}");
}

/// A month that cannot be closed keeps no other from being closed.
#[tokio::test]
async fn one_month_that_fails_does_not_stop_the_others() {
    let world = World::at("2026-03-20T00:00:00Z").await;
    let acme = world.fixture.tenant("acme").await;
    let nobody = TenantId(uuid::Uuid::nil());
    let mut tx = world.fixture.manager.store.begin().await.unwrap();
    let month = kubeop_core::month::Month::parse("2026-03").unwrap();
    kubeop_store::invoice::open(&mut tx.conn(), nobody, month).await.unwrap();
    let scope = kubeop_core::authz::system_scope();
    assert_eq!(tenant::get_any(&mut tx.conn(), scope, nobody).await.unwrap(), None);
    tx.commit().await.unwrap();
    world.set("2026-04-10T00:00:00Z");
    world.round().await;
    assert_eq!(world.get("/v1/invoices").await.body[0]["tenant_id"], acme.as_str());
}

both! {
    /// Somebody with the database's password can change the rows of an invoice, not what the sealed record of its closing says.
    async fn an_invoice_that_was_altered_is_not_given_out_and_raises_an_alarm(fixture) {
        let acme = fixture.tenant("acme").await;
        let now = fixture.clock.now();
        let hour = kubeop_core::usage::hour_of(now);
        let sample = json!([{"ts": hour.to_string(), "tenant_id": acme, "cpu_milli": 1_000_000, "mem_mib": 5_000_000}]);
        fixture.admin("POST", "/v1/usage/ingest", &sample, 200).await;
        fixture.clock.set(now + SignedDuration::from_hours(24 * 60));
        let path = format!("/v1/invoices/{acme}?month={}", kubeop_core::month::Month::of(hour));
        let closed = fixture.admin("GET", &path, &Value::Null, 200).await;
        assert_eq!((&closed["status"], closed["lines"].as_array().unwrap().len()), (&json!("closed"), 2), "{closed}");
        let altered = &fixture.manager.metrics.invoices_altered;
        for (n, (change, back)) in [
            ("UPDATE invoice SET total = '0.01'", format!("UPDATE invoice SET total = '{}'", closed["total"].as_str().unwrap())),
            ("UPDATE invoice_line SET unit = 'x' WHERE position = 1", "UPDATE invoice_line SET unit = 'millicore-hours' WHERE position = 1".to_owned()),
        ].into_iter().enumerate() {
            assert_eq!(fixture.admin("GET", &path, &Value::Null, 200).await, closed);
            assert_eq!(crate::database::behind_the_back(&fixture.manager.store, change).await, 1);
            assert_eq!(fixture.admin("GET", &path, &Value::Null, 500).await, json!({"error": "internal error"}));
            assert_eq!(altered.get(), u64::try_from(n).unwrap() + 1);
            crate::database::behind_the_back(&fixture.manager.store, &back).await;
        }
    }
}

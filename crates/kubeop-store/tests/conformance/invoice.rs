//! Closing months: numbers, what is frozen, late usage, and being cut off.

use crate::fixture::{add_seed, all, as_tenant, at, cluster, hour, sealed, tenant};
use jiff::Timestamp;
use kubeop_core::clock::{IdSource, SystemIds};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::month::Month;
use kubeop_store::invoice::{self, Due, Invoice};
use kubeop_store::price::{self, Price};
use kubeop_store::tenant::Tenant;
use kubeop_store::usage::{self, Counts, Sample};
use kubeop_store::{Conn, Filter, Inserted, Page, Store};
use rust_decimal::Decimal;
use sqlx::Executor;
use std::time::Duration;
use uuid::Uuid;

pub(crate) fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Tenants of March 2026 and prices that make cents easy to read: 0.01 a millicore-hour, 0.02 from the 16th on; memory is free.
pub(crate) async fn add_tenants(store: &Store, count: u128) -> Vec<Tenant> {
    let mut tx = store.begin().await.unwrap();
    let c = &mut tx.conn();
    add_seed(c).await;
    let home = cluster(1);
    assert_eq!(kubeop_store::cluster::insert(c, &home, &sealed()).await.unwrap(), Inserted::Yes);
    let mut some = Vec::new();
    for n in 1..=count {
        let one = tenant(&home, n);
        assert_eq!(kubeop_store::tenant::insert(c, &one).await.unwrap(), Inserted::Yes);
        invoice::open(c, one.id, Month::of(one.created_at)).await.unwrap();
        some.push(one);
    }
    for (meter, from, rate) in [
        ("cpu_milli", "1970-01-01T00:00:00Z", "0.01"),
        ("cpu_milli", "2026-03-16T00:00:00Z", "0.02"),
        ("mem_mib", "1970-01-01T00:00:00Z", "0"),
    ] {
        let row = Price {
            meter: meter.into(),
            effective_from: time(from),
            rate: Decimal::from_str_exact(rate).unwrap(),
            currency: "USD".into(),
            origin: price::API.into(),
        };
        assert_eq!(price::insert(c, &row).await.unwrap(), Inserted::Yes);
    }
    tx.commit().await.unwrap();
    some
}

pub(crate) fn used(tenant_id: TenantId, bucket: Timestamp, cpu_milli: i64) -> Sample {
    Sample { bucket, tenant_id, project_id: None, source: String::new(), cpu_milli, mem_mib: 0 }
}

pub(crate) async fn send(store: &Store, batch: &[Sample], now: Timestamp) -> Counts {
    let mut tx = store.begin().await.unwrap();
    let counts = usage::put(&mut tx, batch, now).await.unwrap();
    tx.commit().await.unwrap();
    counts
}

pub(crate) async fn close(store: &Store, tenant_id: TenantId, of: &str, now: Timestamp) -> Option<Invoice> {
    let mut tx = store.begin().await.unwrap();
    let due = Due { tenant_id, month: month(of) };
    let closed = invoice::close(&mut tx, due, SystemIds.next(), now).await.unwrap();
    tx.commit().await.unwrap();
    closed
}

pub(crate) async fn frozen(store: &Store, tenant_id: TenantId, of: &str) -> Option<Invoice> {
    invoice::get(&mut store.read().await.unwrap().conn(), all(), tenant_id, month(of)).await.unwrap()
}

pub(crate) async fn draft(store: &Store, of: &Tenant, in_month: &str, now: Timestamp) -> Invoice {
    invoice::draft(&mut store.read().await.unwrap().conn(), of, month(in_month), now).await.unwrap()
}

async fn last_number(store: &Store) -> i64 {
    let mut read = store.read().await.unwrap();
    let text = "SELECT last FROM invoice_counter";
    match read.conn() {
        Conn::Sqlite(c) => sqlx::query_scalar(text).fetch_one(c).await.unwrap(),
        Conn::Pg(c) => sqlx::query_scalar(text).fetch_one(c).await.unwrap(),
    }
}

/// The numbers of all invoices, in order.
async fn numbers(store: &Store) -> Vec<i64> {
    let mut read = store.read().await.unwrap();
    let all = invoice::list(&mut read.conn(), all(), &Filter::default(), &Page::first(1000)).await.unwrap();
    let mut numbers: Vec<i64> = all.iter().map(|invoice| invoice.number.unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn shown(invoice: &Invoice) -> Vec<String> {
    let line = |line: &invoice::Line| {
        let corrects = line.corrects.map(|month| format!(" of {month}")).unwrap_or_default();
        format!("{} x {} = {}{corrects}", line.quantity, line.rate, line.amount)
    };
    invoice.lines.iter().map(line).collect()
}

both! {
    async fn a_closed_month_is_what_it_came_to_and_stays_so(store) {
        let one = &add_tenants(&store, 1).await[0];
        send(&store, &[used(one.id, hour(1), 30), used(one.id, time("2026-03-20T00:00:00Z"), 5)], hour(2)).await;
        let then = time("2026-04-04T00:00:00Z");
        let open = draft(&store, one, "2026-03", then).await;
        assert_eq!(shown(&open), ["30 x 0.01 = 0.30", "5 x 0.02 = 0.10"]);
        let closed = close(&store, one.id, "2026-03", then).await.unwrap();
        assert_eq!(closed, Invoice { number: Some(1), id: closed.id, ..open });
        assert_eq!(frozen(&store, one.id, "2026-03").await.unwrap(), closed);
        // Neither usage, nor prices, nor the end of the tenant change it.
        send(&store, &[used(one.id, hour(1), 31)], then).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let later = Price {
            meter: "cpu_milli".into(),
            effective_from: time("2026-04-05T00:00:00Z"),
            rate: Decimal::ONE,
            currency: "USD".into(),
            origin: price::API.into(),
        };
        assert_eq!(price::insert(c, &later).await.unwrap(), Inserted::Yes);
        assert!(kubeop_store::tenant::mark_deleted(c, one.id, then).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(frozen(&store, one.id, "2026-03").await.unwrap(), closed);
        assert_eq!(close(&store, one.id, "2026-03", then).await, None);
        assert_eq!(numbers(&store).await, [1]);
    }

    async fn late_usage_is_corrected_once_by_the_next_invoice(store) {
        let one = &add_tenants(&store, 1).await[0];
        send(&store, &[used(one.id, hour(1), 30)], hour(2)).await;
        let april = time("2026-04-04T00:00:00Z");
        close(&store, one.id, "2026-03", april).await.unwrap();
        // A new hour, and one changed; sent three times.
        let late = [used(one.id, hour(1), 10), used(one.id, time("2026-03-16T00:00:00Z"), 7)];
        assert_eq!(send(&store, &late, april).await, Counts { created: 1, updated: 1, unchanged: 0 });
        for _ in 0..2 {
            assert_eq!(send(&store, &late, april).await, Counts { created: 0, updated: 0, unchanged: 2 });
        }
        send(&store, &[used(one.id, time("2026-04-01T00:00:00Z"), 100)], april).await;
        let lines = ["100 x 0.02 = 2.00", "-20 x 0.01 = -0.20 of 2026-03", "7 x 0.02 = 0.14 of 2026-03"];
        let open = draft(&store, one, "2026-04", april).await;
        assert_eq!(shown(&open), lines);
        let sums = [open.subtotal, open.adjustments, open.total].map(|sum| sum.to_string());
        assert_eq!(sums, ["2.00", "-0.06", "1.94"]);
        let closed = close(&store, one.id, "2026-04", time("2026-05-04T00:00:00Z")).await.unwrap();
        assert_eq!((shown(&closed), closed.number), (lines.map(String::from).to_vec(), Some(2)));
        // Never again; only what changes from there on, by its difference.
        assert!(draft(&store, one, "2026-05", april).await.lines.is_empty());
        send(&store, &[used(one.id, hour(1), 12)], time("2026-05-05T00:00:00Z")).await;
        assert_eq!(shown(&draft(&store, one, "2026-05", april).await), ["2 x 0.01 = 0.02 of 2026-03"]);
        assert_eq!(shown(&frozen(&store, one.id, "2026-04").await.unwrap()), lines);
    }

    /// March is closed, April in its grace, May runs: what is late for March is on April's invoice only.
    async fn a_correction_is_on_one_open_invoice(store) {
        let one = &add_tenants(&store, 1).await[0];
        close(&store, one.id, "2026-03", time("2026-04-04T00:00:00Z")).await.unwrap();
        let may = time("2026-05-02T00:00:00Z");
        send(&store, &[used(one.id, hour(1), 50), used(one.id, time("2026-05-01T00:00:00Z"), 1)], may).await;
        assert_eq!(shown(&draft(&store, one, "2026-04", may).await), ["50 x 0.01 = 0.50 of 2026-03"]);
        assert_eq!(shown(&draft(&store, one, "2026-05", may).await), ["1 x 0.02 = 0.02"]);
    }

    /// Its months go on until it is gone; what comes late after the last is billed in the month it comes.
    async fn a_deleted_tenant_s_months_close_as_well(store) {
        let one = &add_tenants(&store, 1).await[0];
        let mut tx = store.begin().await.unwrap();
        assert!(kubeop_store::tenant::mark_deleted(&mut tx.conn(), one.id, time("2026-04-10T00:00:00Z")).await.unwrap());
        tx.commit().await.unwrap();
        let june = time("2026-06-10T00:00:00Z");
        let due = async |store: &Store| {
            let mut read = store.read().await.unwrap();
            invoice::due_of(&mut read.conn(), one.id, month("2026-06")).await.unwrap().map(|due| due.month.to_string())
        };
        for of in ["2026-03", "2026-04"] {
            assert_eq!(due(&store).await.as_deref(), Some(of));
            close(&store, one.id, of, june).await.unwrap();
        }
        assert_eq!(due(&store).await, None);
        // A replay of nothing opens no month; usage that changes something does.
        send(&store, &[used(one.id, hour(1), 5)], june).await;
        let mut read = store.read().await.unwrap();
        let open = invoice::due(&mut read.conn(), month("2026-07"), None, 10).await.unwrap();
        assert_eq!(open, vec![Due { tenant_id: one.id, month: month("2026-06") }]);
        drop(read);
        let last = close(&store, one.id, "2026-06", time("2026-07-10T00:00:00Z")).await.unwrap();
        assert_eq!(shown(&last), ["5 x 0.01 = 0.05 of 2026-03"]);
        send(&store, &[used(one.id, hour(1), 5)], time("2026-08-10T00:00:00Z")).await;
        let mut read = store.read().await.unwrap();
        assert!(invoice::due(&mut read.conn(), month("2027-01"), None, 10).await.unwrap().is_empty());
    }

    async fn usage_of_before_the_tenant_has_an_invoice_of_its_own(store) {
        let one = &add_tenants(&store, 1).await[0];
        let now = hour(1);
        send(&store, &[used(one.id, time("2026-01-31T23:00:00Z"), 5)], now).await;
        let mut read = store.read().await.unwrap();
        let due = invoice::due(&mut read.conn(), Month::of(now), None, 10).await.unwrap();
        assert_eq!(due, vec![Due { tenant_id: one.id, month: month("2026-01") }]);
        drop(read);
        assert_eq!(shown(&close(&store, one.id, "2026-01", now).await.unwrap()), ["5 x 0.01 = 0.05"]);
        let mut read = store.read().await.unwrap();
        assert_eq!(invoice::due(&mut read.conn(), Month::of(now), None, 10).await.unwrap(), vec![]);
    }

    async fn lines_are_by_project(store) {
        let one = &add_tenants(&store, 1).await[0];
        let project = Some(ProjectId(Uuid::from_u128(9)));
        let of = |n: i64, project_id| Sample { project_id, ..used(one.id, hour(n), 10) };
        send(&store, &[of(1, None), of(1, project), of(2, project)], hour(3)).await;
        let closed = close(&store, one.id, "2026-03", time("2026-04-04T00:00:00Z")).await.unwrap();
        let lines: Vec<_> = closed.lines.iter().map(|line| (line.project_id, line.amount.to_string())).collect();
        assert_eq!(lines, [(None, "0.10".to_owned()), (project, "0.20".to_owned())]);
        assert_eq!(frozen(&store, one.id, "2026-03").await.unwrap(), closed);
    }

    async fn invoices_are_read_within_a_scope(store) {
        let some = add_tenants(&store, 2).await;
        for one in &some {
            close(&store, one.id, "2026-03", time("2026-04-04T00:00:00Z")).await.unwrap();
        }
        let mut read = store.read().await.unwrap();
        let c = &mut read.conn();
        let mine = as_tenant(some[0].id);
        assert!(invoice::get(c, mine, some[0].id, month("2026-03")).await.unwrap().is_some());
        assert!(invoice::get(c, mine, some[1].id, month("2026-03")).await.unwrap().is_none());
        let listed = invoice::list(c, mine, &Filter::default(), &Page::first(10)).await.unwrap();
        assert_eq!(listed.iter().map(|invoice| invoice.tenant_id).collect::<Vec<_>>(), [some[0].id]);
        let first = invoice::list(c, all(), &Filter::default(), &Page::first(1)).await.unwrap();
        let after = Some((first[0].generated_at, first[0].id));
        let second = invoice::list(c, all(), &Filter::default(), &Page { after, limit: 10 }).await.unwrap();
        assert_eq!((first[0].number, second.len(), second[0].number), (Some(1), 1, Some(2)));
    }

    /// Several at once on the same months, some of them cut off in the middle: each month closed once, numbers without a gap.
    async fn closings_at_once_and_cut_off_leave_no_gap_and_no_double(store) {
        let some = add_tenants(&store, 12).await;
        let now = time("2026-05-10T00:00:00Z");
        for one in &some {
            send(&store, &[used(one.id, hour(1), 7)], hour(2)).await;
        }
        for round in 0..6_u64 {
            let tasks: Vec<_> = (0..3_u64)
                .map(|task| {
                    let (store, some) = (store.clone(), some.clone());
                    let work = tokio::spawn(async move {
                        for one in &some {
                            for of in ["2026-03", "2026-04"] {
                                close(&store, one.id, of, now).await;
                            }
                        }
                    });
                    (task, work)
                })
                .collect();
            for (task, work) in tasks {
                if round < 5 {
                    tokio::time::sleep(Duration::from_millis(3 + 2 * round + task)).await;
                    work.abort();
                    let _ = work.await;
                } else {
                    work.await.unwrap();
                }
            }
        }
        let expected: Vec<i64> = (1..=24).collect();
        assert_eq!(numbers(&store).await, expected);
        assert_eq!(last_number(&store).await, 24);
        for one in &some {
            assert_eq!(shown(&frozen(&store, one.id, "2026-03").await.unwrap()), ["7 x 0.01 = 0.07"]);
            assert!(frozen(&store, one.id, "2026-04").await.unwrap().lines.is_empty());
        }
    }

    /// Usage of a month is sent while it is closed: each sample is on its invoice or corrected by the next, never on none, never on both.
    async fn usage_sent_while_its_month_is_closed_is_billed_once(store) {
        let some = add_tenants(&store, 8).await;
        let now = time("2026-04-04T00:00:00Z");
        let sender = {
            let (store, some) = (store.clone(), some.clone());
            tokio::spawn(async move {
                for n in 0..40 {
                    let batch: Vec<Sample> = some.iter().map(|one| used(one.id, hour(n), 1)).collect();
                    send(&store, &batch, now).await;
                }
            })
        };
        for one in &some {
            tokio::time::sleep(Duration::from_millis(5)).await;
            close(&store, one.id, "2026-03", now).await.unwrap();
        }
        sender.await.unwrap();
        for one in &some {
            let quantity = |invoice: Invoice| invoice.lines.iter().map(|line| line.quantity).sum::<Decimal>();
            let first = quantity(frozen(&store, one.id, "2026-03").await.unwrap());
            let next = quantity(draft(&store, one, "2026-04", now).await);
            assert_eq!(first + next, Decimal::from(40), "{first} and {next}");
        }
    }

    async fn due_months_are_read_in_pages(store) {
        let some = add_tenants(&store, 3).await;
        let mut read = store.read().await.unwrap();
        let due = invoice::due(&mut read.conn(), month("2026-04"), None, 2).await.unwrap();
        assert_eq!(due, some[..2].iter().map(|one| Due { tenant_id: one.id, month: month("2026-03") }).collect::<Vec<_>>());
        let rest = invoice::due(&mut read.conn(), month("2026-04"), due.last().copied(), 2).await.unwrap();
        assert_eq!(rest, vec![Due { tenant_id: some[2].id, month: month("2026-03") }]);
        assert!(invoice::due(&mut read.conn(), month("2026-03"), None, 2).await.unwrap().is_empty());
    }

    /// Tenants of before there were invoices: the migration opens the month each was made in.
    async fn tenants_of_before_have_their_first_month_opened(store) {
        let one = &add_tenants(&store, 1).await[0];
        let text = include_str!("../../migrations/0002_invoices.sql");
        let backfill = text.lines().find(|line| line.starts_with("INSERT INTO billing_month")).unwrap();
        let mut tx = store.begin().await.unwrap();
        match tx.conn() {
            Conn::Sqlite(c) => {
                let month = "CAST(strftime('%s', created_at / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000";
                c.execute("DELETE FROM billing_month").await.unwrap();
                c.execute(sqlx::AssertSqlSafe(backfill.replace("{{created_month}}", month))).await.unwrap();
            }
            Conn::Pg(c) => {
                // Whatever the session's time zone is.
                c.execute("SET LOCAL TIME ZONE 'Pacific/Kiritimati'").await.unwrap();
                c.execute("DELETE FROM billing_month").await.unwrap();
                let month = "date_trunc('month', created_at, 'UTC')";
                c.execute(sqlx::AssertSqlSafe(backfill.replace("{{created_month}}", month))).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        let mut read = store.read().await.unwrap();
        let due = invoice::due(&mut read.conn(), month("2026-04"), None, 10).await.unwrap();
        assert_eq!(due, vec![Due { tenant_id: one.id, month: Month::of(at(0)) }]);
    }
}

/// The backend is ended by the server in the middle of a closing, as when the manager is killed there.
#[tokio::test]
async fn a_closing_whose_connection_is_killed_never_was() {
    crate::harness::postgres(|store| async move {
        let one = add_tenants(&store, 1).await.remove(0);
        let now = time("2026-04-04T00:00:00Z");
        let due = Due { tenant_id: one.id, month: month("2026-03") };
        let mut tx = store.begin().await.unwrap();
        invoice::close(&mut tx, due, SystemIds.next(), now).await.unwrap().unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(c).await.unwrap();
        let mut killer = store.read().await.unwrap();
        let Conn::Pg(c) = killer.conn() else { unreachable!() };
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(c).await.unwrap();
        assert!(tx.commit().await.is_err());
        assert_eq!(frozen(&store, one.id, "2026-03").await, None);
        assert_eq!(close(&store, one.id, "2026-03", now).await.unwrap().number, Some(1));
    })
    .await;
}

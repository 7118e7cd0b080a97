//! The chain: sealing under concurrency and crashes, and finding what was tampered with.
//!
//! Invariant: tampering is done as somebody with the database's password would do it.

use crate::database::{behind_the_back, bytes};
use crate::fixture::Fixture;
use jiff::Timestamp;
use kubeop_core::clock::{IdSource, SystemIds};
use kubeop_core::id::TenantId;
use kubeop_manager::audit::sealer::{seal_all, seal_batch};
use kubeop_manager::audit::verify::{Finding, Head, Summary, heads, verify};
use kubeop_store::Store;
use kubeop_store::audit::{self, AuditRecord};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

fn tenant(n: u64) -> Option<TenantId> {
    (n != 0).then(|| TenantId(Uuid::from_u128(n.into())))
}

fn record(n: u64, chain: u64) -> AuditRecord {
    AuditRecord {
        id: SystemIds.next(),
        at: "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap()
            + jiff::SignedDuration::from_secs(n.try_into().unwrap()),
        subject: format!("s{n}"),
        role: "admin".into(),
        tenant_id: tenant(chain),
        action: "update".into(),
        object_kind: "app".into(),
        object_id: format!("o{n}"),
        outcome: "done".into(),
        request_id: format!("r{n}"),
        before_digest: n.is_multiple_of(2).then(|| "sha256:aa".into()),
        after_digest: Some("sha256:bb".into()),
        detail: "\"quoted\" and ünusual".into(),
        seal: None,
    }
}

async fn append(store: &Store, n: u64, chain: u64) {
    let mut tx = store.begin().await.unwrap();
    audit::append(&mut tx.conn(), &record(n, chain)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn verified(fixture: &Fixture, noted: &[Head]) -> (Summary, Vec<String>) {
    let mut findings = Vec::new();
    let now = fixture.manager.clock.now();
    let keyring = Some(fixture.manager.clusters.keyring());
    let tell = |finding: Finding| findings.push(finding.to_string());
    let summary = verify(&fixture.manager.store, keyring, noted, now, tell).await.unwrap();
    assert_eq!(summary.findings, u64::try_from(findings.len()).unwrap());
    (summary, findings)
}

async fn seal(fixture: &Fixture) -> usize {
    seal_all(&fixture.manager.store, fixture.manager.clusters.keyring(), fixture.manager.clock.now()).await.unwrap()
}

async fn noted(fixture: &Fixture) -> Vec<Head> {
    let mut all = Vec::new();
    heads(&fixture.manager.store, |head| all.push(head)).await.unwrap();
    all
}

/// A log of ten records of the platform and ten of each of two tenants, sealed.
async fn log(fixture: &Fixture) -> Vec<Head> {
    for n in 0..30 {
        append(&fixture.manager.store, n, n % 3).await;
    }
    assert_eq!(seal(fixture).await, 30);
    let (summary, findings) = verified(fixture, &[]).await;
    assert_eq!((summary.chains, summary.records, summary.waiting), (3, 30, 0), "{findings:?}");
    assert!(findings.is_empty(), "{findings:?}");
    noted(fixture).await
}

/// The condition that finds the records of tenant 1.
fn of_one(fixture: &Fixture) -> &'static str {
    if fixture.manager.store.is_shared() {
        "tenant_id = '00000000-0000-0000-0000-000000000001'"
    } else {
        "tenant_id = x'00000000000000000000000000000001'"
    }
}

both! {
    async fn records_that_are_forged_outside_of_every_chain_are_found(fixture) {
        let heads = log(&fixture).await;
        let store = &fixture.manager.store;
        // Sealed records of a tenant that has no chain, and at places that the way through a chain never sees.
        append(store, 100, 9).await;
        append(store, 101, 1).await;
        append(store, 102, 0).await;
        let forge = async |subject: &str, seq: i64| {
            let sql = format!("UPDATE audit_record SET seq = {seq}, hash = {} WHERE subject = '{subject}'", bytes(store, &[1; 32]));
            assert_eq!(behind_the_back(store, &sql).await, 1);
        };
        forge("s100", 1).await;
        forge("s101", 0).await;
        forge("s102", -7).await;
        let (_, findings) = verified(&fixture, &heads).await;
        let nine = tenant(9).unwrap();
        let one = tenant(1).unwrap();
        assert_eq!(findings, [
            "chain platform: 1 records are sealed at places before the first: they were added".to_owned(),
            format!("chain {one}: 1 records are sealed at places before the first: they were added"),
            format!("chain {nine}: has sealed records and no end: they were added, or it was removed"),
        ]);
    }

    async fn sealers_that_are_killed_and_writers_that_commit_late_leave_one_whole_chain(fixture) {
        let fixture = Arc::new(fixture);
        let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = Vec::new();
        for writer in 0..6_u64 {
            let (fixture, written) = (Arc::clone(&fixture), Arc::clone(&written));
            writers.push(tokio::spawn(async move {
                for n in 0..40_u64 {
                    let mut tx = fixture.manager.store.begin().await.unwrap();
                    audit::append(&mut tx.conn(), &record(writer * 1000 + n, n % 4)).await.unwrap();
                    // Ids and times are drawn; some commit long after those that drew theirs later.
                    tokio::time::sleep(Duration::from_millis((writer * 7 + n * 13) % 11)).await;
                    if n % 10 == 9 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        let mut sealers = Vec::new();
        for sealer in 0..3_u64 {
            let (fixture, over) = (Arc::clone(&fixture), Arc::clone(&over));
            sealers.push(tokio::spawn(async move {
                let mut turn = 0;
                while !over.load(Ordering::Relaxed) {
                    turn += 1;
                    let manager = &fixture.manager;
                    let sealing = seal_batch(&manager.store, manager.clusters.keyring(), manager.clock.now());
                    // Killed at some point in the middle, or left to end.
                    match tokio::time::timeout(Duration::from_millis((turn * 3 + sealer) % 17), sealing).await {
                        Ok(sealed) => { sealed.unwrap(); }
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for sealer in sealers {
            sealer.await.unwrap();
        }
        seal(&fixture).await;
        let (summary, findings) = verified(&fixture, &[]).await;
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!((summary.records, summary.chains, summary.waiting), (written.load(Ordering::Relaxed), 4, 0));
    }

    async fn a_record_that_is_committed_after_later_ones_were_sealed_is_sealed_too(fixture) {
        // On SQLite writers take turns: there the late one simply has the earlier id.
        let store = &fixture.manager.store;
        let early = record(1, 0);
        if store.is_shared() {
            let mut open = store.begin().await.unwrap();
            audit::append(&mut open.conn(), &early).await.unwrap();
            append(store, 2, 0).await;
            assert_eq!(seal(&fixture).await, 1);
            open.commit().await.unwrap();
        } else {
            append(store, 2, 0).await;
            assert_eq!(seal(&fixture).await, 1);
            let mut late = store.begin().await.unwrap();
            audit::append(&mut late.conn(), &early).await.unwrap();
            late.commit().await.unwrap();
        }
        assert_eq!(seal(&fixture).await, 1);
        let (summary, findings) = verified(&fixture, &[]).await;
        assert_eq!((summary.records, findings.len()), (2, 0));
    }

    async fn a_changed_record_is_named(fixture) {
        log(&fixture).await;
        let one = of_one(&fixture);
        let fields = ["subject = 'x'", "role = 'x'", "action = 'x'", "object_kind = 'x'", "object_id = 'x'", "outcome = 'x'",
            "request_id = 'x'", "before_digest = 'x'", "after_digest = NULL", "detail = ''"];
        for (seq, change) in (1..).zip(fields) {
            let sql = format!("UPDATE audit_record SET {change} WHERE {one} AND seq = {seq}");
            assert_eq!(behind_the_back(&fixture.manager.store, &sql).await, 1);
            let (_, findings) = verified(&fixture, &[]).await;
            assert_eq!(findings.len(), seq, "{findings:?}");
            assert!(findings[seq - 1].contains(&format!("chain 00000000-0000-0000-0000-000000000001: {seq}, record")), "{findings:?}");
        }
    }

    async fn a_removed_record_is_named_wherever_it_was(fixture) {
        let noted = log(&fixture).await;
        let one = of_one(&fixture);
        let delete = |condition: &str| format!("DELETE FROM audit_record WHERE {one} AND seq {condition}");
        behind_the_back(&fixture.manager.store, &delete("= 4")).await;
        let (_, findings) = verified(&fixture, &[]).await;
        assert!(findings.len() == 1 && findings[0].contains("4 was removed"), "{findings:?}");
        behind_the_back(&fixture.manager.store, &delete("= 1")).await;
        behind_the_back(&fixture.manager.store, &delete("> 8")).await;
        let (_, findings) = verified(&fixture, &[]).await;
        assert!(findings.iter().any(|what| what.contains("1 was removed")), "{findings:?}");
        assert!(findings.iter().any(|what| what.contains("9 to 10 were removed at the end")), "{findings:?}");
        let (_, findings) = verified(&fixture, &noted).await;
        assert!(findings.iter().any(|what| what.contains("10 was noted")) || findings.len() >= 3, "{findings:?}");
    }

    async fn a_cut_chain_with_its_old_end_is_found_by_a_noted_head_alone(fixture) {
        log(&fixture).await;
        let one = of_one(&fixture);
        behind_the_back(&fixture.manager.store, &format!("CREATE TABLE old_end AS SELECT * FROM audit_chain WHERE {one}")).await;
        append(&fixture.manager.store, 100, 1).await;
        seal(&fixture).await;
        let noted = noted(&fixture).await;
        behind_the_back(&fixture.manager.store, &format!("DELETE FROM audit_record WHERE {one} AND seq = 11")).await;
        behind_the_back(&fixture.manager.store, &format!("DELETE FROM audit_chain WHERE {one}")).await;
        behind_the_back(&fixture.manager.store, "INSERT INTO audit_chain SELECT * FROM old_end").await;
        assert!(verified(&fixture, &[]).await.1.is_empty(), "an end that was once written here is authentic");
        let (_, findings) = verified(&fixture, &noted).await;
        assert!(findings.len() == 1 && findings[0].contains("11 was noted and is not there"), "{findings:?}");
    }

    async fn reordered_added_and_hidden_records_are_found(fixture) {
        log(&fixture).await;
        let (store, one) = (&fixture.manager.store, of_one(&fixture));
        let set = |to: &str, from: i64| format!("UPDATE audit_record SET seq = {to} WHERE {one} AND seq = {from}");
        for (to, from) in [("99", 3), ("3", 5), ("5", 99)] {
            behind_the_back(store, &set(to, from)).await;
        }
        let (_, findings) = verified(&fixture, &[]).await;
        assert!(findings.iter().any(|what| what.contains(": 3, record")), "{findings:?}");
        assert!(findings.iter().any(|what| what.contains(": 5, record")), "{findings:?}");
        for (to, from) in [("99", 3), ("3", 5), ("5", 99)] {
            behind_the_back(store, &set(to, from)).await;
        }
        assert!(verified(&fixture, &[]).await.1.is_empty());
        // Taken out of its place so that it is sealed anew at the end.
        behind_the_back(store, &set("NULL", 7)).await;
        assert_eq!(seal(&fixture).await, 1);
        let (_, findings) = verified(&fixture, &[]).await;
        assert!(findings.iter().any(|what| what.contains("7 was removed")), "{findings:?}");
    }

    async fn a_chain_that_is_rebuilt_without_the_key_or_removed_whole_is_found(fixture) {
        let noted = log(&fixture).await;
        let (store, one) = (&fixture.manager.store, of_one(&fixture));
        // The hash of a record that was changed is made right again, and so are those after it.
        behind_the_back(store, &format!("UPDATE audit_record SET subject = 'innocent' WHERE {one} AND seq = 10")).await;
        let tenant = tenant(1);
        let rows = audit::sealed(&mut store.read().await.unwrap().conn(), tenant, 8, 2).await.unwrap();
        let before = rows[0].seal.clone().unwrap().1;
        let hash = kubeop_manager::audit::chain::hash(&before, &rows[1], 10).unwrap();
        let hash = kubeop_core::hex::encode(&hash);
        let literal = if store.is_shared() { format!("'\\x{hash}'") } else { format!("x'{hash}'") };
        behind_the_back(store, &format!("UPDATE audit_record SET hash = {literal} WHERE {one} AND seq = 10")).await;
        behind_the_back(store, &format!("UPDATE audit_chain SET hash = {literal} WHERE {one}")).await;
        let (_, findings) = verified(&fixture, &[]).await;
        assert!(findings.len() == 1 && findings[0].contains("not written by this installation's key"), "{findings:?}");
        let (_, findings) = verified(&fixture, &noted).await;
        assert!(findings.iter().any(|what| what.contains("10 has another hash than was noted")), "{findings:?}");

        behind_the_back(store, &format!("DELETE FROM audit_record WHERE {one}")).await;
        behind_the_back(store, &format!("DELETE FROM audit_chain WHERE {one}")).await;
        let (_, findings) = verified(&fixture, &[]).await;
        assert_eq!(findings, ["chain platform: tells of 3 chains, 2 are there: one was removed or added"]);
        let (_, findings) = verified(&fixture, &noted).await;
        assert!(findings.iter().any(|what| what.contains("the chain was removed")), "{findings:?}");
    }

    async fn the_api_shows_place_and_hash(fixture) {
        log(&fixture).await;
        let admin = fixture.token(kubeop_core::authz::Role::Admin);
        let path = "/v1/audit?tenant_id=00000000-0000-0000-0000-000000000001";
        let shown = fixture.call("GET", path, Some(&admin), None).await.body;
        let head = noted(&fixture).await.into_iter().find(|head| head.tenant_id == tenant(1)).unwrap();
        assert_eq!((&shown[9]["seq"], shown[9]["hash"].as_str().unwrap()), (&10.into(), head.hash.as_str()));
    }
}

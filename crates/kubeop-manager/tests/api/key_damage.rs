//! Stored secrets that were damaged or put elsewhere: they fail alone, with an alarm, and everything else goes on.
//!
//! Invariant: what is done here is what somebody with the database's password, or a disk, could do.

use crate::database::{behind_the_back, bytes, id};
use crate::fixture::{Answer, Fixture};
use crate::world::{World, add_cluster};
use axum::body::Body;
use axum::http::{Request, header};
use kubeop_core::authz::Role;
use kubeop_core::clock::{Clock, SystemClock, SystemIds};
use kubeop_core::id::{ClusterId, TenantId};
use kubeop_manager::audit::{sealer, verify};
use kubeop_manager::keys::rotate::{Pace, rotate};
use kubeop_manager::keys::{MasterKeys, check, keyring};
use kubeop_store::{Store, audit, cluster, encryption_seed, idempotency};
use secrecy::SecretSlice;
use serde_json::json;
use uuid::Uuid;

async fn post(fixture: &Fixture, key: &str, project: &str) -> Answer {
    let request = Request::post("/v1/jwt/project")
        .header(header::AUTHORIZATION, format!("Bearer {}", fixture.token(Role::Admin)))
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(json!({"ProjectID": project}).to_string()))
        .unwrap();
    fixture.send(request).await
}

async fn alarms(fixture: &Fixture, table: &str) -> u64 {
    let text = fixture.call("GET", "/metrics", None, None).await.body;
    let wanted = format!("kubeop_manager_secrets_unreadable_total{{table=\"{table}\"}} ");
    text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

async fn opens(fixture: &Fixture, id: ClusterId) -> bool {
    let manager = &fixture.manager;
    let row = cluster::get(&mut manager.store.read().await.unwrap().conn(), id).await.unwrap().unwrap();
    manager.clusters.forget(id);
    let outcome = manager.clusters.get(&manager.store, &row).await.map(|_| ());
    if let Err(error) = &outcome {
        assert_eq!(error.message(), "internal error", "nothing of it is for callers");
        assert!(error.chain().contains(&id.to_string()) && !error.chain().contains("secret: "), "{}", error.chain());
    }
    outcome.is_ok()
}

async fn seed(store: &Store) -> Uuid {
    encryption_seed::newest(&mut store.begin().await.unwrap().conn()).await.unwrap().unwrap()
}

async fn put_kubeconfig(store: &Store, cluster: ClusterId, sealed: &[u8]) {
    let sql = format!("UPDATE cluster SET kubeconfig = {} WHERE id = {}", bytes(store, sealed), id(store, cluster.0));
    assert_eq!(behind_the_back(store, &sql).await, 1);
}

async fn put_answer(store: &Store, digest: &[u8], sealed: &[u8]) {
    let sql =
        format!("UPDATE idempotency_key SET answer = {} WHERE digest = {}", bytes(store, sealed), bytes(store, digest));
    assert_eq!(behind_the_back(store, &sql).await, 1);
}

both! {
    async fn a_flipped_bit_a_swapped_row_or_column_fails_alone(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let (one, two, three) = (add_cluster(&fixture, "a").await.id, add_cluster(&fixture, "b").await.id, add_cluster(&fixture, "c").await.id);
        let mut tokens = Vec::new();
        for key in ["a", "b", "c"] {
            tokens.push((key, post(&fixture, key, &world.mine.project).await.body["token"].clone()));
        }
        let seed = seed(&store).await;
        let mut read = store.read().await.unwrap();
        let kubeconfigs = cluster::sealed_with(&mut read.conn(), seed, Uuid::nil(), 10).await.unwrap();
        let of = |id: ClusterId| kubeconfigs.iter().find(|(known, _)| *known == id).unwrap().1.clone();
        let answers = idempotency::sealed_with(&mut read.conn(), seed, &[], 10).await.unwrap();
        drop(read);
        assert_eq!(answers.len(), 3);

        let whole = of(one);
        let flipped = |at: usize| {
            let mut other = whole.clone();
            other[at] ^= 0x10;
            other
        };
        let wrong = [
            flipped(0), flipped(1), flipped(40), flipped(whole.len() / 2), flipped(whole.len() - 1),
            whole[..whole.len() - 1].to_vec(), whole[..20].to_vec(), vec![], of(two), answers[0].1.clone(),
        ];
        for (n, bad) in wrong.iter().enumerate() {
            put_kubeconfig(&store, one, bad).await;
            assert!(!opens(&fixture, one).await, "kubeconfig {n}");
            assert_eq!(alarms(&fixture, "cluster").await, u64::try_from(n).unwrap() + 1);
            assert!(opens(&fixture, two).await && opens(&fixture, three).await);
        }
        assert_eq!(alarms(&fixture, "idempotency_key").await, 0);
        // The API goes on; the cluster's row is served, and another kubeconfig can still be taken in.
        for path in ["/v1/clusters".to_owned(), format!("/v1/clusters/{one}"), "/v1/projects".to_owned(), "/v1/apps".to_owned()] {
            assert_eq!(fixture.call("GET", &path, Some(&fixture.token(Role::Admin)), None).await.status, 200, "{path}");
        }
        fixture.admin("POST", "/v1/tenants", &json!({"name": "new", "clusterID": one}), 201).await;
        put_kubeconfig(&store, one, &whole).await;
        assert!(opens(&fixture, one).await);

        let (digest, whole) = &answers[0];
        let mut flipped = whole.clone();
        flipped[50] ^= 1;
        let project = &world.mine.project;
        for (n, bad) in [flipped, answers[1].1.clone(), of(two), vec![1]].iter().enumerate() {
            put_answer(&store, digest, bad).await;
            let mut failed = 0;
            for (key, token) in &tokens {
                let again = post(&fixture, key, project).await;
                if again.status == 500 {
                    failed += 1;
                    assert_eq!(again.error(), "internal error");
                } else {
                    assert_eq!(&again.body["token"], token, "{key} shows its own answer, never another's");
                }
            }
            assert_eq!((failed, alarms(&fixture, "idempotency_key").await), (1, u64::try_from(n).unwrap() + 1));
        }
        // The whole of another row but for its key: owner, request and answer.
        let from = bytes(&store, &answers[1].0);
        let columns = "owner = (SELECT owner FROM idempotency_key WHERE digest = FROM), answer = (SELECT answer FROM idempotency_key WHERE digest = FROM)";
        let sql = format!("UPDATE idempotency_key SET {} WHERE digest = {}", columns.replace("FROM)", &format!("{from})")).replace("= FROM", &format!("= {from}")), bytes(&store, digest));
        assert_eq!(behind_the_back(&store, &sql).await, 1);
        let mut failed = 0;
        for (key, token) in &tokens {
            let again = post(&fixture, key, project).await;
            failed += usize::from(again.status == 500);
            assert!(again.status == 500 || &again.body["token"] == token);
        }
        assert_eq!(failed, 1);
        assert!(post(&fixture, "another", project).await.status == 200);
    }

    async fn what_is_damaged_does_not_hold_up_a_rotation_and_is_not_made_good_by_it(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let (one, two) = (add_cluster(&fixture, "a").await.id, add_cluster(&fixture, "b").await.id);
        post(&fixture, "k", &world.mine.project).await;
        let manager = &fixture.manager;
        sealer::seal_all(&store, manager.clusters.keyring(), manager.clock.now()).await.unwrap();
        put_kubeconfig(&store, one, &[1; 90]).await;
        // Somebody writes another end for a chain, without the key.
        let tenant = Uuid::parse_str(&world.theirs.tenant).unwrap();
        let sql = format!("UPDATE audit_chain SET seq = seq - 1 WHERE tenant_id = {}", id(&store, tenant));
        assert_eq!(behind_the_back(&store, &sql).await, 1);

        let key = |byte| SecretSlice::from(vec![byte; 32]);
        let masters = || MasterKeys::new(key(8), Some(key(7))).unwrap();
        let ring = keyring::open_existing(&store, masters()).await.unwrap();
        let report = rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| ())).await.unwrap();
        assert_eq!((report.unreadable, report.seeds_removed, report.seeds_rewrapped), (2, 0, 1), "{report:?}");
        assert!(report.damaged_seeds.is_empty());
        // The old key is not needed; what was wrong still is, and is named.
        let alone = MasterKeys::new(key(8), None).unwrap();
        let found = check::check(&store, &alone).await.unwrap();
        assert!(found.iter().all(|one| one.current && one.opens));
        let named: Vec<&String> = found.iter().flat_map(|one| &one.unreadable).collect();
        assert_eq!(named, [&format!("cluster.kubeconfig of {one}"), &format!("audit_chain.mac of {tenant}")]);
        let replica = Fixture::with_keys(store.clone(), 8, None).await;
        assert!(!opens(&replica, one).await && opens(&replica, two).await);
        let mut findings = Vec::new();
        let keyring = Some(replica.manager.clusters.keyring());
        verify::verify(&store, keyring, &[], replica.clock.now(), |finding| findings.push(finding)).await.unwrap();
        assert!(findings.iter().any(|one| one.what.contains("was not written by this installation's key")), "{findings:?}");
        // Again: nothing new is made, the same is named.
        let ring = keyring::open_existing(&store, masters()).await.unwrap();
        let again = rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| ())).await.unwrap();
        assert_eq!((again.seed_made, again.unreadable, again.seeds_rewrapped, again.answers), (false, 2, 0, 0), "{again:?}");
    }

    /// Whoever removed the last records used to need no key: the next seal made the shortened chain authentic.
    async fn an_end_that_somebody_else_wrote_is_not_made_good_by_the_next_seal(fixture) {
        let world = World::new(&fixture).await;
        let (store, manager) = (fixture.manager.store.clone(), &fixture.manager);
        let keyring = manager.clusters.keyring();
        sealer::seal_all(&store, keyring, manager.clock.now()).await.unwrap();
        let tenant = TenantId::parse(&world.theirs.tenant).unwrap();
        let end = audit::chain(&mut store.read().await.unwrap().conn(), Some(tenant)).await.unwrap().unwrap();
        let owner = id(&store, tenant.0);
        let last = format!("DELETE FROM audit_record WHERE tenant_id = {owner} AND seq = {}", end.seq);
        assert_eq!(behind_the_back(&store, &last).await, 1);
        let shorter = format!(
            "UPDATE audit_chain SET seq = {0}, hash = (SELECT hash FROM audit_record WHERE tenant_id = {owner} AND seq = {0}) WHERE tenant_id = {owner}",
            end.seq - 1
        );
        assert_eq!(behind_the_back(&store, &shorter).await, 1);
        fixture.admin("POST", "/v1/jwt/tenant", &json!({"TenantID": world.theirs.tenant}), 200).await;
        sealer::seal_all(&store, keyring, manager.clock.now()).await.unwrap();
        let mut findings = Vec::new();
        let tell = |finding: verify::Finding| findings.push(finding.to_string());
        verify::verify(&store, Some(keyring), &[], manager.clock.now(), tell).await.unwrap();
        assert_eq!(findings, [format!("chain {tenant}: {} was removed", end.seq)]);
    }

    async fn a_damaged_seed_of_before_is_told_and_a_damaged_newest_one_refuses_the_start(fixture) {
        let store = fixture.manager.store.clone();
        let (one, two) = (add_cluster(&fixture, "a").await.id, add_cluster(&fixture, "b").await.id);
        let old = seed(&store).await;
        let key = |byte| SecretSlice::from(vec![byte; 32]);
        let both = || MasterKeys::new(key(8), Some(key(7))).unwrap();
        let wrapped = encryption_seed::get(&mut store.read().await.unwrap().conn(), old).await.unwrap().unwrap().wrapped;
        let damage = |byte: u8| {
            let mut other = wrapped.clone();
            other[60] ^= byte;
            format!("UPDATE encryption_seed SET wrapped = {} WHERE id = {}", bytes(&store, &other), id(&store, old))
        };
        behind_the_back(&store, &damage(1)).await;
        let error = keyring::open_existing(&store, both()).await.err().unwrap();
        assert!(error.message().contains("is damaged"), "{}", error.message());
        behind_the_back(&store, &damage(0)).await;
        // A rotation stops after its first step; then the old seed is damaged.
        let ring = keyring::open_existing(&store, both()).await.unwrap();
        let stopped = tokio::spawn({
            let store = store.clone();
            async move { rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| panic!("killed"))).await }
        });
        assert!(stopped.await.is_err());
        behind_the_back(&store, &damage(1)).await;
        let replica = Fixture::with_keys(store.clone(), 8, Some(7)).await;
        assert_eq!(alarms(&replica, "encryption_seed").await, 1);
        let three = add_cluster(&replica, "c").await.id;
        assert!(!opens(&replica, one).await && !opens(&replica, two).await && opens(&replica, three).await);
        let ring = keyring::open_existing(&store, both()).await.unwrap();
        let report = rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| ())).await.unwrap();
        assert_eq!(report.damaged_seeds, [old], "the key before is still needed once it is restored");
        behind_the_back(&store, &damage(0)).await;
        let ring = keyring::open_existing(&store, both()).await.unwrap();
        let report = rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| ())).await.unwrap();
        assert_eq!((report.kubeconfigs, report.seeds_removed, report.damaged_seeds.len()), (2, 1, 0), "{report:?}");
        let replica = Fixture::with_keys(store, 8, None).await;
        assert!(opens(&replica, one).await && opens(&replica, two).await && opens(&replica, three).await);
    }
}

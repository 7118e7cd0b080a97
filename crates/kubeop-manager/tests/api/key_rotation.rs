//! Rotating the master key: beside replicas that read and write, killed anywhere, twice at once, and refused where keys are missing.
//!
//! Invariant: whatever was answered or registered before, during or after a rotation is there afterwards, with the new key alone.

use crate::database::dump;
use crate::fixture::{Answer, Fixture, config};
use crate::world::{World, add_cluster};
use axum::body::Body;
use axum::http::{Request, header};
use kubeop_core::authz::Role;
use kubeop_core::clock::{Clock, SystemClock, SystemIds};
use kubeop_manager::audit::{sealer, verify};
use kubeop_manager::config::Config;
use kubeop_manager::keys::rotate::{Pace, Report, rotate};
use kubeop_manager::keys::{Keyring, MasterKeys, check, keyring};
use kubeop_manager::{Deps, run};
use kubeop_store::{Store, cluster, encryption_seed};
use secrecy::SecretSlice;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn masters(current: u8, previous: Option<u8>) -> MasterKeys {
    let key = |byte| SecretSlice::from(vec![byte; 32]);
    MasterKeys::new(key(current), previous.map(key)).unwrap()
}

async fn ring(store: &Store, current: u8, previous: Option<u8>) -> Keyring {
    keyring::open_existing(store, masters(current, previous)).await.unwrap()
}

/// Rotates to `current` as a process of its own would.
async fn rotated(store: &Store, current: u8, previous: u8) -> Report {
    let ring = ring(store, current, Some(previous)).await;
    rotate(store, &ring, &SystemClock, &SystemIds, Pace::usual(|_| ())).await.unwrap()
}

async fn post(fixture: &Fixture, key: &str, project: &str) -> Answer {
    let request = Request::post("/v1/jwt/project")
        .header(header::AUTHORIZATION, format!("Bearer {}", fixture.token(Role::Admin)))
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(json!({"ProjectID": project}).to_string()))
        .unwrap();
    let answer = fixture.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

async fn replays(fixture: &Fixture, key: &str, project: &str, token: &serde_json::Value) {
    let answer = post(fixture, key, project).await;
    assert!(answer.headers.contains_key("idempotency-replayed"), "{key}");
    assert_eq!(&answer.body["token"], token, "{key}");
}

/// Opens everything with this key alone; how many values.
async fn all_open(store: &Store, key: u8) -> (u64, u64, u64) {
    let all = check::check(store, &masters(key, None)).await.unwrap();
    assert!(all.iter().all(|one| one.current && one.opens && one.unreadable.is_empty()), "{all:?}");
    let sum = |of: fn(&check::Found) -> u64| all.iter().map(of).sum();
    (sum(|one| one.kubeconfigs), sum(|one| one.answers), sum(|one| one.chain_ends))
}

async fn seal(fixture: &Fixture) {
    let manager = &fixture.manager;
    sealer::seal_all(&manager.store, manager.clusters.keyring(), manager.clock.now()).await.unwrap();
}

async fn open_every_cluster(fixture: &Fixture) {
    let manager = &fixture.manager;
    for id in cluster::ids(&mut manager.store.read().await.unwrap().conn()).await.unwrap() {
        let row = cluster::get(&mut manager.store.read().await.unwrap().conn(), id).await.unwrap().unwrap();
        manager.clusters.forget(id);
        manager.clusters.get(&manager.store, &row).await.unwrap();
    }
}

both! {
    async fn replicas_read_and_write_all_the_while_and_two_rotations_do_the_work_of_one(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let mut tokens = Vec::new();
        for n in 0..230 {
            tokens.push(post(&fixture, &format!("before-{n}"), &world.mine.project).await.body["token"].clone());
        }
        for n in 0..3 {
            add_cluster(&fixture, &format!("c{n}")).await;
        }
        seal(&fixture).await;
        // Replicas are restarted with both keys, one after the other; the first is still there.
        let two = Arc::new(Fixture::with_keys(store.clone(), 8, Some(7)).await);
        let three = Arc::new(Fixture::with_keys(store.clone(), 8, Some(7)).await);
        post(&fixture, "last-of-the-old", &world.mine.project).await;
        drop(fixture);

        let over = Arc::new(AtomicBool::new(false));
        let writing: Vec<_> = [Arc::clone(&two), Arc::clone(&three)]
            .into_iter()
            .enumerate()
            .map(|(replica, fixture)| {
                let (over, project) = (Arc::clone(&over), world.mine.project.clone());
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    let mut n = 0;
                    // Goes on for a while after the end: what comes then is under the new key.
                    let mut extra = 5;
                    while extra > 0 {
                        extra -= usize::from(over.load(Ordering::Relaxed));
                        let key = format!("during-{replica}-{n}");
                        made.push((key.clone(), post(&fixture, &key, &project).await.body["token"].clone()));
                        if n % 5 == 0 {
                            add_cluster(&fixture, &format!("d{replica}-{n}")).await;
                            seal(&fixture).await;
                        }
                        n += 1;
                    }
                    made
                })
            })
            .collect();
        let (one, other) = tokio::join!(rotated(&store, 8, 7), rotated(&store, 8, 7));
        over.store(true, Ordering::Relaxed);
        assert!(one.seed_made ^ other.seed_made, "{one:?} {other:?}");
        assert_eq!((one.seeds_removed + other.seeds_removed, one.unreadable + other.unreadable), (1, 0), "{one:?} {other:?}");
        assert!(one.answers + other.answers >= 231, "{one:?} {other:?}");
        for (n, token) in tokens.iter().enumerate() {
            let reader = if n % 2 == 0 { &two } else { &three };
            replays(reader, &format!("before-{n}"), &world.mine.project, token).await;
        }
        for made in writing {
            for (key, token) in made.await.unwrap() {
                replays(&two, &key, &world.mine.project, &token).await;
                replays(&three, &key, &world.mine.project, &token).await;
            }
        }
        open_every_cluster(&two).await;
        // The key before is not needed any more, by nothing.
        let (kubeconfigs, answers, chain_ends) = all_open(&store, 8).await;
        assert!(kubeconfigs >= 6 && answers >= 231 && chain_ends >= 3, "{kubeconfigs} {answers} {chain_ends}");
        let alone = Fixture::with_keys(store.clone(), 8, None).await;
        open_every_cluster(&alone).await;
        replays(&alone, "before-0", &world.mine.project, &tokens[0]).await;
        seal(&alone).await;
        let keyring = Some(alone.manager.clusters.keyring());
        let summary = verify::verify(&store, keyring, &[], alone.clock.now(), |finding| panic!("{finding}")).await.unwrap();
        assert_eq!(summary.findings, 0);
        assert_eq!(rotated(&store, 8, 7).await, Report::default(), "and once more changes nothing");
        // The old key alone does not start, and says why.
        let error = keyring::open_existing(&store, masters(7, None)).await.err().unwrap();
        assert!(error.message().contains("is not the key this database was encrypted with"), "{}", error.message());
    }

    async fn killed_after_any_of_its_steps_it_goes_on_where_it_was(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let mut tokens = Vec::new();
        for n in 0..120 {
            tokens.push(post(&fixture, &format!("k{n}"), &world.mine.project).await.body["token"].clone());
        }
        seal(&fixture).await;
        let whole = all_open(&store, 7).await;
        let mut key = 7;
        let mut finished_at = None;
        for point in 1.. {
            let next = key + 1;
            let seen = Arc::new(AtomicUsize::new(0));
            let crashing = {
                let (store, seen) = (store.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let ring = ring(&store, next, Some(key)).await;
                    let tell = |_: &Report| assert!(seen.fetch_add(1, Ordering::Relaxed) + 1 < point, "killed");
                    rotate(&store, &ring, &SystemClock, &SystemIds, Pace::usual(tell)).await.unwrap()
                })
            };
            let killed = crashing.await.is_err();
            // Both keys open everything in between.
            let replica = Fixture::with_keys(store.clone(), next, Some(key)).await;
            open_every_cluster(&replica).await;
            for n in [0, 60, 119] {
                replays(&replica, &format!("k{n}"), &world.mine.project, &tokens[n]).await;
            }
            if !killed {
                finished_at = Some(point);
                assert_eq!(all_open(&store, next).await, whole);
                break;
            }
            if seen.load(Ordering::Relaxed) > 1 {
                // With one of the two alone it does not start while the other is needed, and nothing is written.
                let before = dump(&store).await;
                let error = keyring::open_existing(&store, masters(next, None)).await.err();
                if let Some(error) = error {
                    assert!(error.message().contains("is not finished: give the key"), "{}", error.message());
                }
                assert_eq!(dump(&store).await, before);
            }
            let again = rotated(&store, next, key).await;
            assert!(!again.seed_made, "the seed of the first attempt is used: {again:?}");
            assert_eq!(all_open(&store, next).await, whole, "killed at step {point}");
            assert_eq!(encryption_seed::list(&mut store.read().await.unwrap().conn()).await.unwrap().len(), 1);
            key = next;
        }
        assert!(finished_at.is_some_and(|steps| steps >= 5), "{finished_at:?}");
    }

    async fn it_is_refused_without_the_key_before_and_towards_two_keys_at_once(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let token = post(&fixture, "k", &world.mine.project).await.body["token"].clone();
        let before = dump(&store).await;
        for (current, previous) in [(8, None), (8, Some(9))] {
            let error = keyring::open_existing(&store, masters(current, previous)).await.err().unwrap();
            assert!(error.message().contains("KUBEOP_KMS_MASTER_KEY is not the key"), "{}", error.message());
        }
        assert_eq!(dump(&store).await, before);
        // Both were started while the old seed was the newest; of the two keys one wins.
        let (one, other) = (ring(&store, 8, Some(7)).await, ring(&store, 9, Some(7)).await);
        let (one, other) = tokio::join!(
            rotate(&store, &one, &SystemClock, &SystemIds, Pace::usual(|_| ())),
            rotate(&store, &other, &SystemClock, &SystemIds, Pace::usual(|_| ()))
        );
        let (won, refused) = if one.is_ok() { (8, other) } else { (9, one) };
        let refused = refused.err().unwrap();
        assert!(refused.message().contains("KUBEOP_KMS_MASTER_KEY"), "{}", refused.message());
        all_open(&store, won).await;
        replays(&Fixture::with_keys(store, won, None).await, "k", &world.mine.project, &token).await;
    }

    /// A replica that was forgotten cannot write, loses nothing, and says what it lacks.
    async fn a_replica_without_the_new_key_refuses_instead_of_guessing(fixture) {
        let world = World::new(&fixture).await;
        let store = fixture.manager.store.clone();
        let token = post(&fixture, "k", &world.mine.project).await.body["token"].clone();
        rotated(&store, 8, 7).await;
        let request = Request::post("/v1/jwt/project")
            .header(header::AUTHORIZATION, format!("Bearer {}", fixture.token(Role::Admin)))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", "new")
            .body(Body::from(json!({"ProjectID": world.mine.project}).to_string()))
            .unwrap();
        let answer = fixture.send(request).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.error().contains("the master key was rotated"), "{}", answer.body);
        replays(&Fixture::with_keys(store, 8, None).await, "k", &world.mine.project, &token).await;
    }

    async fn a_start_with_another_key_is_refused_before_anything_is_written(fixture) {
        let world = World::new(&fixture).await;
        post(&fixture, "k", &world.mine.project).await;
        let store = fixture.manager.store.clone();
        let before = dump(&store).await;
        for (current, previous) in [(vec![8; 32], None), (vec![7; 31], None), (vec![], None), (vec![8; 32], Some(vec![9; 32])), (vec![7; 32], Some(vec![7; 5]))] {
            let keys = format!("{} {:?}", current.len(), previous.as_ref().map(Vec::len));
            let given = Config {
                master_key: SecretSlice::from(current),
                master_key_previous: previous.map(SecretSlice::from),
                // What a start would write otherwise.
                rate_cpu_milli: "0.5".parse().unwrap(),
                ..config()
            };
            let deps = Deps {
                store: store.clone(),
                clock: Arc::new(SystemClock),
                ids: Arc::new(SystemIds),
                registry: Arc::default(),
                host: None,
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            };
            let error = run(given, deps, CancellationToken::new()).await.unwrap_err();
            assert!(error.message().contains("KUBEOP_KMS_MASTER_KEY"), "{keys}: {}", error.message());
            assert_eq!(dump(&store).await, before, "{keys}");
        }
    }
}

//! The outbox: order, claims, settling, dead letters.

use crate::fixture::at;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::system_scope;
use kubeop_core::id::TenantId;
use kubeop_store::event_delivery::{self as events, DeadFilter, EventDelivery, Failure, Figures, Settled};
use kubeop_store::{Conn, Page, Store};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

const FAILURE: Failure<'_> = Failure { status: Some(503), error: "it answered 503" };

fn event(number: u128, hook: &str, subject: &str) -> EventDelivery {
    EventDelivery {
        seq: 0,
        id: Uuid::from_u128(number),
        hook: hook.to_owned(),
        event_id: Uuid::from_u128(1000 + number),
        event_type: "io.kubeop.app.updated".to_owned(),
        subject: subject.to_owned(),
        tenant_id: Some(TenantId(Uuid::from_u128(7))),
        data: json!({"b": 1, "a": "ü\u{1F980}"}),
        occurred_at: at(10),
        give_up_at: at(1000),
        next_at: at(10),
        claimed_by: None,
        attempts: 0,
        last_status: None,
        last_error: None,
        dead_at: None,
    }
}

async fn put(store: &Store, row: &EventDelivery) {
    let mut tx = store.begin().await.unwrap();
    events::put(&mut tx.conn(), row).await.unwrap();
    tx.commit().await.unwrap();
}

async fn claim(store: &Store, hook: &str, owner: u128, now: Timestamp, rows: u32) -> Vec<EventDelivery> {
    let until = now + SignedDuration::from_secs(60);
    let mut tx = store.begin().await.unwrap();
    let rows = events::claim(&mut tx.conn(), hook, Uuid::from_u128(owner), now, until, rows).await.unwrap();
    tx.commit().await.unwrap();
    rows
}

fn ids(rows: &[EventDelivery]) -> Vec<u128> {
    rows.iter().map(|row| row.id.as_u128()).collect()
}

fn attempt(row: &EventDelivery) -> Settled {
    Settled { seq: row.seq, owner: row.claimed_by.unwrap(), attempts: row.attempts }
}

async fn delivered(store: &Store, row: &EventDelivery) -> bool {
    let mut tx = store.begin().await.unwrap();
    let ours = events::delivered(&mut tx.conn(), attempt(row)).await.unwrap();
    tx.commit().await.unwrap();
    ours
}

both! {
    async fn events_of_one_subject_go_one_after_the_other_and_others_do_not_wait(store) {
        for (number, hook, subject) in
            [(1, "events", "app/a"), (2, "events", "app/a"), (3, "events", "app/b"), (4, "ready", "app/a"), (5, "events", "app/a")]
        {
            put(&store, &event(number, hook, subject)).await;
        }
        let first = claim(&store, "events", 1, at(10), 10).await;
        assert_eq!(ids(&first), [1, 3]);
        let expected = event(1, "events", "app/a");
        assert_eq!(first[0].data, expected.data);
        assert_eq!((first[0].attempts, first[0].claimed_by, first[0].next_at), (1, Some(Uuid::from_u128(1)), at(70)));
        assert!(claim(&store, "events", 2, at(69), 10).await.is_empty(), "what is claimed holds back its subject");
        assert_eq!(ids(&claim(&store, "ready", 1, at(10), 10).await), [4]);
        assert!(delivered(&store, &first[0]).await);
        assert!(!delivered(&store, &first[0]).await);
        let second = claim(&store, "events", 1, at(11), 10).await;
        assert_eq!(ids(&second), [2]);

        // One that fails holds back its subject until it is due again, or dead.
        let mut tx = store.begin().await.unwrap();
        assert!(events::postpone(&mut tx.conn(), attempt(&second[0]), at(20), FAILURE).await.unwrap());
        assert!(!events::postpone(&mut tx.conn(), attempt(&second[0]), at(20), FAILURE).await.unwrap());
        tx.commit().await.unwrap();
        assert!(claim(&store, "events", 1, at(19), 10).await.is_empty());
        let again = claim(&store, "events", 1, at(20), 10).await;
        assert_eq!((ids(&again), again[0].attempts, again[0].last_status), (vec![2], 2, Some(503)));
        let mut tx = store.begin().await.unwrap();
        assert!(events::give_up(&mut tx.conn(), attempt(&again[0]), at(21), FAILURE).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(ids(&claim(&store, "events", 1, at(21), 10).await), [5]);
    }

    async fn followers_are_not_looked_at_until_what_is_before_them_is_settled(store) {
        for number in 1..=4 {
            put(&store, &event(number, "events", "app/a")).await;
        }
        let waiting = async || {
            let mut tx = store.begin().await.unwrap();
            let q = "SELECT COUNT(*) FROM event_delivery WHERE waits AND dead_at IS NULL";
            let n: i64 = match tx.conn() {
                Conn::Sqlite(c) => sqlx::query_scalar(q).fetch_one(c).await.unwrap(),
                Conn::Pg(c) => sqlx::query_scalar(q).fetch_one(c).await.unwrap(),
            };
            n
        };
        let is_due = async || events::is_due(&mut store.read().await.unwrap().conn(), "events", at(10)).await.unwrap();
        assert_eq!((waiting().await, is_due().await), (3, true));
        let first = claim(&store, "events", 1, at(10), 9).await;
        assert_eq!(ids(&first), [1]);
        assert!(!is_due().await, "nothing is due, though three wait");
        assert!(delivered(&store, &first[0]).await);
        assert_eq!((waiting().await, is_due().await), (2, true));
        let second = claim(&store, "events", 1, at(10), 9).await;
        let mut tx = store.begin().await.unwrap();
        assert!(events::give_up(&mut tx.conn(), attempt(&second[0]), at(11), FAILURE).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!((waiting().await, is_due().await), (1, true));
        // A dead letter that comes back is before the rest again.
        let mut tx = store.begin().await.unwrap();
        events::replay(&mut tx.conn(), Uuid::from_u128(2), at(10), at(2000)).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let again = claim(&store, "events", 1, at(10), 9).await;
        assert_eq!(ids(&again), [2]);
        assert!(delivered(&store, &again[0]).await);
        assert_eq!(ids(&claim(&store, "events", 1, at(10), 9).await), [3]);
        let mut tx = store.begin().await.unwrap();
        assert_eq!(events::expire(&mut tx.conn(), at(1000), "too late", 1).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(waiting().await, 0);
        assert_eq!(ids(&claim(&store, "events", 1, at(1000), 9).await), [4]);
    }

    async fn what_a_process_of_an_earlier_version_left_waiting_goes_on(store) {
        for (number, subject) in [(1, "app/a"), (2, "app/a"), (3, "app/b"), (4, "app/b")] {
            put(&store, &event(number, "events", subject)).await;
        }
        let mut tx = store.begin().await.unwrap();
        let gone = "DELETE FROM event_delivery WHERE seq = (SELECT MIN(seq) FROM event_delivery)";
        match tx.conn() {
            Conn::Sqlite(c) => c.execute(gone).await.map(|_| ()).unwrap(),
            Conn::Pg(c) => c.execute(gone).await.map(|_| ()).unwrap(),
        }
        assert_eq!(ids(&events::claim(&mut tx.conn(), "events", Uuid::nil(), at(10), at(70), 9).await.unwrap()), [3]);
        let lines = events::stranded(&mut tx.conn(), 9).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.subject.as_str()).collect::<Vec<_>>(), ["app/a"]);
        events::next_of(&mut tx.conn(), &lines[0]).await.unwrap();
        assert_eq!(ids(&events::claim(&mut tx.conn(), "events", Uuid::nil(), at(10), at(70), 9).await.unwrap()), [2]);
    }

    async fn writers_and_settlers_of_one_subject_at_once_strand_nothing(store) {
        let writers = (0..4_u128).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..40 {
                    put(&store, &event(1 + writer * 100 + n, "events", "app/a")).await;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let (mut count, mut idle) = (0, 0);
        while count < 160 {
            let rows = claim(&store, "events", 1, at(10), 4).await;
            idle = if rows.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 2000, "stranded after {count}");
            for row in rows {
                assert!(delivered(&store, &row).await);
                count += 1;
            }
            tokio::task::yield_now().await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
    }

    async fn what_a_process_left_is_taken_over_and_it_settles_nothing_any_more(store) {
        put(&store, &event(1, "events", "app/a")).await;
        let old = claim(&store, "events", 1, at(10), 10).await;
        let new = claim(&store, "events", 2, at(70), 10).await;
        assert_eq!((ids(&new), new[0].attempts), (vec![1], 2));
        assert!(!delivered(&store, &old[0]).await, "the first one's claim ran out");
        let mut tx = store.begin().await.unwrap();
        assert_eq!(events::release(&mut tx.conn(), Uuid::from_u128(1), at(71)).await.unwrap(), 0);
        assert_eq!(events::release(&mut tx.conn(), Uuid::from_u128(2), at(71)).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(ids(&claim(&store, "events", 3, at(71), 10).await), [1]);
        let mut tx = store.begin().await.unwrap();
        assert_eq!(events::release_all(&mut tx.conn(), at(72)).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let last = claim(&store, "events", 3, at(72), 10).await;
        assert!(delivered(&store, &last[0]).await);
        // A place is never given twice, though the table is empty.
        put(&store, &event(2, "events", "app/a")).await;
        assert!(claim(&store, "events", 3, at(72), 10).await[0].seq > last[0].seq);
    }

    async fn many_claimers_at_once_never_get_the_same(store) {
        for number in 1..=60 {
            put(&store, &event(number, "events", &format!("app/{}", number % 30))).await;
        }
        let claimers = (1..=8).map(|owner| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let rows = claim(&store, "events", owner, at(10), 4).await;
                    if rows.is_empty() && mine.len() >= 2 {
                        return mine;
                    }
                    for row in rows {
                        assert!(delivered(&store, &row).await);
                        mine.push((row.subject, row.seq));
                    }
                    let figures = events::figures(&mut store.read().await.unwrap().conn()).await.unwrap();
                    if figures.pending == 0 {
                        return mine;
                    }
                }
            })
        });
        let mut all = Vec::new();
        for claimer in claimers.collect::<Vec<_>>() {
            all.extend(claimer.await.unwrap());
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 60);
    }

    async fn dead_letters_are_listed_replayed_and_forgotten(store) {
        for number in 1..=5 {
            let tenant_id = (number != 2).then_some(TenantId(Uuid::from_u128(7)));
            let hook = if number == 3 { "ready" } else { "events" };
            let give_up_at = at(100 + i64::try_from(number).unwrap());
            put(&store, &EventDelivery { tenant_id, give_up_at, ..event(number, hook, "app/a") }).await;
        }
        let mut read = store.read().await.unwrap();
        let figures = events::figures(&mut read.conn()).await.unwrap();
        assert_eq!(figures, Figures { pending: 5, first_given_up_at: Some(at(101)) });
        // What is being tried is not given up under the hands of who tries it.
        let tried = claim(&store, "events", 1, at(60), 1).await;
        assert_eq!(ids(&tried), [1]);
        let mut tx = store.begin().await.unwrap();
        assert_eq!(events::expire(&mut tx.conn(), at(104), "too late", 2).await.unwrap(), 2);
        assert_eq!(events::expire(&mut tx.conn(), at(104), "too late", 2).await.unwrap(), 1);
        assert!(events::give_up(&mut tx.conn(), attempt(&tried[0]), at(110), FAILURE).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(events::count_dead(&mut read.conn()).await.unwrap(), 4);

        let list = async |filter: DeadFilter<'static>, page: Page| {
            let mut read = store.read().await.unwrap();
            events::list_dead(&mut read.conn(), system_scope(), &filter, &page).await.unwrap()
        };
        let all = list(DeadFilter::default(), Page::first(3)).await;
        assert_eq!(ids(&all), [2, 3, 4]);
        assert_eq!(all[0].last_error.as_deref(), Some("too late"));
        let rest = list(DeadFilter::default(), Page { after: Some((at(104), all[2].id)), limit: 3 }).await;
        assert_eq!((ids(&rest), rest[0].last_status), (vec![1], Some(503)));
        let tenant_id = Some(TenantId(Uuid::from_u128(7)));
        assert_eq!(ids(&list(DeadFilter { tenant_id, ..DeadFilter::default() }, Page::first(9)).await), [3, 4, 1]);
        assert_eq!(ids(&list(DeadFilter { hook: Some("ready"), ..DeadFilter::default() }, Page::first(9)).await), [3]);
        assert!(list(DeadFilter { event_type: Some("x"), ..DeadFilter::default() }, Page::first(9)).await.is_empty());

        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert!(events::get_dead(c, Uuid::from_u128(5)).await.unwrap().is_none(), "it is alive");
        assert!(events::replay(c, Uuid::from_u128(5), at(200), at(300)).await.unwrap().is_none());
        let back = events::replay(c, Uuid::from_u128(2), at(200), at(300)).await.unwrap().unwrap();
        assert_eq!((back.attempts, back.dead_at, back.next_at, back.give_up_at), (0, None, at(200), at(300)));
        assert!(events::replay(c, Uuid::from_u128(2), at(200), at(300)).await.unwrap().is_none(), "only once");
        tx.commit().await.unwrap();
        assert_eq!(ids(&claim(&store, "events", 1, at(200), 9).await), [2], "before what came after it");

        let mut tx = store.begin().await.unwrap();
        assert_eq!(events::remove_dead(&mut tx.conn(), at(110), 1).await.unwrap(), 1);
        assert_eq!(events::remove_dead(&mut tx.conn(), at(110), 9).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(ids(&list(DeadFilter::default(), Page::first(9)).await), [1]);
    }
}

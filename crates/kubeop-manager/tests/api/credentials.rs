//! Collecting credentials that ended, without a cluster that answers.
//!
//! Invariant: what one cluster does not let go of holds up no other's.

use crate::world::{World, add_cluster, add_kubeconfig};
use jiff::SignedDuration;
use kubeop_core::authz::system_scope;
use kubeop_core::clock::Clock;
use kubeop_core::id::{ClusterId, KubeconfigId, ProjectId};
use kubeop_manager::jobs::credentials;
use kubeop_store::issued_token::{self, IssuedToken};
use kubeop_store::{cluster, issued_kubeconfig};
use serde_json::json;
use uuid::Uuid;

both! {
    async fn a_cluster_that_does_not_answer_holds_up_no_other(fixture) {
        let world = World::new(&fixture).await;
        let manager = &fixture.manager;
        // More than are looked at together, and longer due than the others.
        for _ in 0..220 {
            add_kubeconfig(&fixture, &world.cluster, &world.mine.tenant, &world.mine.project).await;
        }
        let mut gone = add_cluster(&fixture, "gone").await;
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_mins(1));
        let home = gone.id.to_string();
        for _ in 0..450 {
            add_kubeconfig(&fixture, &home, &world.mine.tenant, &world.mine.sibling).await;
        }
        let mut tx = manager.store.begin().await.unwrap();
        assert!(cluster::mark_deleted(&mut tx.conn(), &mut gone, manager.clock.now()).await.unwrap());
        tx.commit().await.unwrap();
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_hours(2));
        credentials::round(manager).await.unwrap();
        let left = async |home: ClusterId| {
            let now = manager.clock.now() + SignedDuration::from_hours(1);
            let mut read = manager.store.read().await.unwrap();
            issued_kubeconfig::due_for_collection(&mut read.conn(), home, now, 1000).await.unwrap().len()
        };
        assert_eq!(left(gone.id).await, 0, "all of it in one round");
        assert_eq!(left(ClusterId::parse(&world.cluster).unwrap()).await, 222, "their Secrets are still there");
    }

    async fn many_expired_tokens_are_forgotten_in_one_round(fixture) {
        let manager = &fixture.manager;
        let now = manager.clock.now();
        let mut tx = manager.store.begin().await.unwrap();
        for n in 0..1200_u128 {
            let row = IssuedToken {
                jti: Uuid::from_u128(n).to_string(),
                role: "admin".to_owned(),
                tenant_id: None,
                project_id: None,
                subject: "s".to_owned(),
                created_at: now,
                expires_at: now + SignedDuration::from_mins(if n < 1100 { 1 } else { 600 }),
                revoked_at: Some(now),
                parent_jti: None,
            };
            let _ = issued_token::insert(&mut tx.conn(), &row).await.unwrap();
        }
        tx.commit().await.unwrap();
        fixture.clock.set(now + SignedDuration::from_hours(2));
        credentials::round(manager).await.unwrap();
        let mut read = manager.store.read().await.unwrap();
        let left = issued_token::list_revoked(&mut read.conn(), now, None, 2000).await.unwrap();
        assert_eq!(left.len(), 100);
    }

    async fn the_kubeconfigs_of_a_project_that_is_forced_away_are_revoked(fixture) {
        let world = World::new(&fixture).await;
        let (project, manager) = (&world.mine.sibling, &fixture.manager);
        let id = add_kubeconfig(&fixture, &world.cluster, &world.mine.tenant, project).await;
        fixture.admin("DELETE", &format!("/v1/projects/{project}?force=true"), &json!(null), 204).await;
        let id = KubeconfigId::parse(&id).unwrap();
        let mut read = manager.store.read().await.unwrap();
        let row = issued_kubeconfig::get(&mut read.conn(), system_scope(), id).await.unwrap().unwrap();
        assert_eq!((row.project_id, row.revoked_at), (ProjectId::parse(project).unwrap(), Some(manager.clock.now())));
        let home = ClusterId::parse(&world.cluster).unwrap();
        let due = issued_kubeconfig::due_for_collection(&mut read.conn(), home, manager.clock.now(), 9).await.unwrap();
        assert_eq!(due.iter().map(|row| row.id).collect::<Vec<_>>(), [id], "at once, not when it would have expired");
    }
}

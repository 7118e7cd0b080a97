//! Issued kubeconfigs and tokens.

use crate::fixture::{add_tree, all, as_project, as_tenant, at, cluster};
use kubeop_core::id::KubeconfigId;
use kubeop_store::issued_kubeconfig::{self as kubeconfig, AccessRole, IssuedKubeconfig};
use kubeop_store::issued_token::{self as token, IssuedToken};
use kubeop_store::{Filter, Inserted, Page, Taken, project::Project};
use uuid::Uuid;

fn issued(project: &Project, n: u128, expires: i64) -> IssuedKubeconfig {
    IssuedKubeconfig {
        tenant_id: project.tenant_id,
        id: KubeconfigId(Uuid::from_u128(n)),
        project_id: project.id,
        cluster_id: cluster(1).id,
        role: AccessRole::Developer,
        secret_name: format!("secret-{n}"),
        secret_uid: format!("uid-{n}"),
        service_account: "a.b.developer".into(),
        subject: "alice".into(),
        created_at: at(1),
        expires_at: at(expires),
        revoked_at: None,
    }
}

fn made(jti: &str, project: Option<&Project>, expires: i64) -> IssuedToken {
    IssuedToken {
        jti: jti.into(),
        role: "project".into(),
        tenant_id: project.map(|project| project.tenant_id),
        project_id: project.map(|project| project.id),
        subject: "alice".into(),
        created_at: at(1),
        expires_at: at(expires),
        revoked_at: None,
        parent_jti: None,
    }
}

both! {
    async fn live_kubeconfigs_are_counted(store) {
        let (_, _, projects) = add_tree(&store, 1, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for (n, expires) in [(1, 100), (2, 200), (3, 300)] {
            kubeconfig::insert(c, &issued(&projects[0], n, expires)).await.unwrap();
        }
        kubeconfig::insert(c, &issued(&projects[1], 4, 300)).await.unwrap();
        assert_eq!(kubeconfig::count_live(c, projects[0].id, at(99)).await.unwrap(), 3);
        assert_eq!(kubeconfig::count_live(c, projects[0].id, at(100)).await.unwrap(), 2);
        let id = KubeconfigId(Uuid::from_u128(2));
        assert_eq!(kubeconfig::revoke(c, all(), id, at(50)).await.unwrap().unwrap().revoked_at, Some(at(50)));
        assert_eq!(kubeconfig::revoke(c, all(), id, at(60)).await.unwrap().unwrap().revoked_at, Some(at(50)));
        assert_eq!(kubeconfig::count_live(c, projects[0].id, at(99)).await.unwrap(), 2);
        let row = kubeconfig::get(c, all(), id).await.unwrap().unwrap();
        assert_eq!(row, IssuedKubeconfig { revoked_at: Some(at(50)), ..issued(&projects[0], 2, 200) });
    }

    async fn a_scope_shows_and_revokes_its_own_kubeconfigs_only(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for (n, project) in projects.iter().enumerate() {
            kubeconfig::insert(c, &issued(project, n as u128 + 1, 100)).await.unwrap();
        }
        let theirs = KubeconfigId(Uuid::from_u128(3));
        for (scope, count) in [(as_tenant(tenants[0].id), 2), (as_project(projects[0].id), 1), (all(), 4)] {
            let list = kubeconfig::list(c, scope, &Filter::default(), &Page::first(9)).await.unwrap();
            assert_eq!(list.len(), count);
            if count < 4 {
                assert_eq!(kubeconfig::get(c, scope, theirs).await.unwrap(), None);
                assert_eq!(kubeconfig::revoke(c, scope, theirs, at(9)).await.unwrap(), None);
            }
        }
        let of_project = Filter { project_id: Some(projects[2].id), ..Filter::default() };
        assert_eq!(kubeconfig::list(c, all(), &of_project, &Page::first(9)).await.unwrap().len(), 1);
        let of_cluster = Filter { cluster_id: Some(cluster(1).id), ..Filter::default() };
        assert_eq!(kubeconfig::list(c, all(), &of_cluster, &Page::first(9)).await.unwrap().len(), 4);
        assert!(kubeconfig::list(c, as_tenant(tenants[0].id), &of_project, &Page::first(9)).await.unwrap().is_empty());
    }

    async fn what_expired_or_was_revoked_is_collected(store) {
        let (_, _, projects) = add_tree(&store, 1, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for (n, project, expires) in [(1, 0, 100), (2, 0, 900), (3, 1, 900), (4, 1, 50)] {
            kubeconfig::insert(c, &issued(&projects[project], n, expires)).await.unwrap();
        }
        let ids = |rows: Vec<IssuedKubeconfig>| rows.iter().map(|row| row.id.0.as_u128()).collect::<Vec<_>>();
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(99), 9).await.unwrap()), vec![4]);
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(100), 9).await.unwrap()), vec![4, 1]);
        assert_eq!(kubeconfig::revoke_project(c, projects[1].id, at(20)).await.unwrap(), 2);
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(30), 9).await.unwrap()), vec![3, 4]);
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(150), 2).await.unwrap()), vec![3, 4], "revoked first");
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(150), 9).await.unwrap()), vec![3, 4, 1]);
        assert!(kubeconfig::due_for_collection(c, cluster(2).id, at(999), 9).await.unwrap().is_empty());
        assert_eq!(kubeconfig::next_home(c, None).await.unwrap(), Some(cluster(1).id));
        assert_eq!(kubeconfig::next_home(c, Some(cluster(1).id)).await.unwrap(), None);
        kubeconfig::postpone(c, &[KubeconfigId(Uuid::from_u128(3))], at(60)).await.unwrap();
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(30), 9).await.unwrap()), vec![4]);
        // Revoking again does not bring a postponed collection forward.
        kubeconfig::revoke(c, all(), KubeconfigId(Uuid::from_u128(3)), at(31)).await.unwrap();
        assert_eq!(ids(kubeconfig::due_for_collection(c, cluster(1).id, at(31), 9).await.unwrap()), vec![4]);
        let gone = [4, 4, 77].map(|n| KubeconfigId(Uuid::from_u128(n)));
        assert_eq!(kubeconfig::remove(c, &gone).await.unwrap(), 1);
        assert_eq!(kubeconfig::remove(c, &[]).await.unwrap(), 0);
        assert!(kubeconfig::due_for_collection(c, cluster(1).id, at(31), 9).await.unwrap().is_empty());
    }

    async fn what_a_token_issued_is_revoked_with_it(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let by = |jti: &str, parent: &str| IssuedToken { parent_jti: Some(parent.into()), ..made(jti, None, 100) };
        // The first one was made elsewhere.
        for row in [by("child", "root"), by("grandchild", "child"), by("sibling", "other"), by("late", "root")] {
            assert_eq!(token::insert(c, &row).await.unwrap(), Inserted::Yes);
        }
        assert!(token::hold(c, "root").await.unwrap() && token::hold(c, "child").await.unwrap());
        assert_eq!(token::revoke_issued_by(c, "root", at(10)).await.unwrap(), 3);
        assert_eq!(token::revoke_issued_by(c, "root", at(10)).await.unwrap(), 0);
        for (jti, revoked) in [("root", false), ("child", true), ("grandchild", true), ("late", true), ("sibling", false)] {
            assert_eq!(token::is_revoked(c, jti).await.unwrap(), revoked, "{jti}");
        }
        // One that was issued while its parent was revoked.
        assert_eq!(token::insert(c, &IssuedToken { revoked_at: Some(at(11)), ..made("other", None, 100) }).await.unwrap(), Inserted::Yes);
        assert!(token::is_revoked(c, "sibling").await.unwrap());
        assert!(!token::hold(c, "other").await.unwrap() && !token::hold(c, "child").await.unwrap());
    }

    async fn a_token_is_revoked_by_its_jti(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 1).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(token::insert(c, &made("j1", Some(&projects[0]), 100)).await.unwrap(), Inserted::Yes);
        assert_eq!(token::insert(c, &made("j1", None, 100)).await.unwrap(), Inserted::Taken(Taken::Id));
        assert_eq!(token::insert(c, &made("j2", None, 300)).await.unwrap(), Inserted::Yes);
        assert_eq!(token::insert(c, &made("j3", Some(&projects[0]), 200)).await.unwrap(), Inserted::Yes);
        assert!(!token::is_revoked(c, "j1").await.unwrap());
        assert!(!token::is_revoked(c, "made elsewhere\0").await.unwrap());
        for stranger in [as_tenant(tenants[1].id), as_project(projects[1].id)] {
            assert_eq!(token::revoke(c, stranger, "j1", at(10)).await.unwrap(), None);
            assert_eq!(token::revoke(c, stranger, "j2", at(10)).await.unwrap(), None);
        }
        let mine = as_tenant(tenants[0].id);
        let revoked = token::revoke(c, mine, "j1", at(10)).await.unwrap().unwrap();
        assert_eq!(revoked, IssuedToken { revoked_at: Some(at(10)), ..made("j1", Some(&projects[0]), 100) });
        assert_eq!(token::revoke(c, all(), "j1", at(11)).await.unwrap().unwrap().revoked_at, Some(at(10)));
        assert!(token::is_revoked(c, "j1").await.unwrap());
        token::revoke(c, all(), "j2", at(12)).await.unwrap().unwrap();
        let jtis = |rows: Vec<IssuedToken>| rows.into_iter().map(|row| row.jti).collect::<Vec<_>>();
        let first = token::list_revoked(c, at(20), None, 1).await.unwrap();
        let after = (first[0].expires_at, first[0].jti.clone());
        assert_eq!(jtis(first), vec!["j1"]);
        let rest = token::list_revoked(c, at(20), Some((after.0, &after.1)), 9).await.unwrap();
        assert_eq!(jtis(rest), vec!["j2"]);
        assert_eq!(jtis(token::list_revoked(c, at(100), None, 9).await.unwrap()), vec!["j2"]);
        assert_eq!(token::remove_expired(c, at(250), 1).await.unwrap(), 1);
        assert_eq!(token::remove_expired(c, at(250), 9).await.unwrap(), 1);
        assert!(!token::is_revoked(c, "j1").await.unwrap());
        assert!(token::is_revoked(c, "j2").await.unwrap());
    }
}

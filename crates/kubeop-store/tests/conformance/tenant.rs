//! Tenants.

use crate::fixture::{add_tree, all, as_project, as_tenant, at, map, project, tenant as one};
use kubeop_core::id::{ClusterId, TenantId};
use kubeop_store::tenant::{self, Period, Tenant};
use kubeop_store::{Filter, Inserted, Page, StoreError, Taken};
use uuid::Uuid;

both! {
    async fn what_is_written_reads_back_equal(store) {
        let (on, tenants, _) = add_tree(&store, 1, 0).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        assert_eq!(tenant::get(c, all(), tenants[0].id).await.unwrap().as_ref(), Some(&tenants[0]));
        assert_eq!(tenant::by_name(c, all(), "tenant-1").await.unwrap().as_ref(), Some(&tenants[0]));
        assert_eq!(tenant::count(c).await.unwrap(), 1);
        assert_eq!(tenant::count_in_cluster(c, on.id).await.unwrap(), 1);
        assert_eq!(tenant::count_in_cluster(c, ClusterId(Uuid::nil())).await.unwrap(), 0);
    }

    async fn a_scope_shows_its_own_tenant_only(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 1).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let (mine, other) = (&tenants[0], &tenants[1]);
        let scope = as_tenant(mine.id);
        assert!(tenant::get(c, scope, mine.id).await.unwrap().is_some());
        assert_eq!(tenant::get(c, scope, other.id).await.unwrap(), None);
        assert_eq!(tenant::get_any(c, scope, other.id).await.unwrap(), None);
        assert_eq!(tenant::by_name(c, scope, other.name.as_str()).await.unwrap(), None);
        let list = tenant::list(c, scope, &Filter::default(), &Page::first(9)).await.unwrap();
        assert_eq!(list.iter().map(|row| row.id).collect::<Vec<_>>(), vec![mine.id]);
        let theirs = Filter { tenant_id: Some(other.id), ..Filter::default() };
        assert!(tenant::list(c, scope, &theirs, &Page::first(9)).await.unwrap().is_empty());
        let named = Filter { name: Some(other.name.as_str()), ..Filter::default() };
        assert!(tenant::list(c, scope, &named, &Page::first(9)).await.unwrap().is_empty());
        let narrow = as_project(projects[0].id);
        assert_eq!(tenant::get(c, narrow, mine.id).await.unwrap(), None);
        assert!(tenant::list(c, narrow, &Filter::default(), &Page::first(9)).await.unwrap().is_empty());
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tenant::lock(&mut tx.conn(), scope, other.id).await.unwrap(), None);
    }

    async fn filters_narrow_the_list(store) {
        let (on, tenants, _) = add_tree(&store, 3, 0).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let mut ask = async |filter: Filter<'_>| tenant::list(c, all(), &filter, &Page::first(9)).await.unwrap().len();
        assert_eq!(ask(Filter { cluster_id: Some(on.id), ..Filter::default() }).await, 3);
        assert_eq!(ask(Filter { cluster_id: Some(ClusterId(Uuid::nil())), ..Filter::default() }).await, 0);
        assert_eq!(ask(Filter { name: Some("tenant-2"), ..Filter::default() }).await, 1);
        let nowhere = Some(ClusterId(Uuid::nil()));
        assert_eq!(ask(Filter { name: Some("tenant-2"), cluster_id: nowhere, ..Filter::default() }).await, 0);
        let second = Some(tenants[1].id);
        assert_eq!(ask(Filter { tenant_id: second, name: Some("tenant-2"), ..Filter::default() }).await, 1);
        assert_eq!(ask(Filter { tenant_id: second, name: Some("tenant-3"), ..Filter::default() }).await, 0);
    }

    async fn a_name_is_free_again_when_the_tenant_is_gone(store) {
        let (on, tenants, _) = add_tree(&store, 1, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let mut row = tenants[0].clone();
        let successor = Tenant { id: TenantId(Uuid::from_u128(5)), ..one(&on, 1) };
        assert!(tenant::mark_deleting(c, &mut row, at(60)).await.unwrap());
        assert!(!tenant::mark_deleting(c, &mut row, at(61)).await.unwrap());
        assert!(!tenant::update(c, &mut row, at(61)).await.unwrap());
        assert_eq!(tenant::insert(c, &successor).await.unwrap(), Inserted::Taken(Taken::Name));
        assert!(tenant::by_name(c, all(), "tenant-1").await.unwrap().unwrap().deleting_at.is_some());
        assert!(tenant::mark_deleted(c, row.id, at(70)).await.unwrap());
        assert!(!tenant::mark_deleted(c, row.id, at(71)).await.unwrap());
        assert_eq!(tenant::insert(c, &successor).await.unwrap(), Inserted::Yes);
        assert_eq!(tenant::get(c, all(), row.id).await.unwrap(), None);
        let gone = tenant::get_any(c, all(), row.id).await.unwrap().unwrap();
        assert_eq!((gone.deleting_at, gone.deleted_at), (Some(at(60)), Some(at(70))));
        let mut periods = tenant::periods(c, &[row.id, successor.id, TenantId(Uuid::from_u128(77))]).await.unwrap();
        periods.sort_by_key(|period| period.id);
        let period = |row: &Tenant, deleted_at| Period { id: row.id, created_at: row.created_at, deleted_at };
        assert_eq!(periods, vec![period(&successor, None), period(&row, Some(at(70)))]);
    }

    async fn a_tenant_with_projects_is_not_gone(store) {
        let (_, tenants, _) = add_tree(&store, 1, 1).await;
        let mut tx = store.begin().await.unwrap();
        assert!(!tenant::mark_deleted(&mut tx.conn(), tenants[0].id, at(70)).await.unwrap());
    }

    async fn a_change_needs_the_version_it_was_made_from(store) {
        let (_, tenants, _) = add_tree(&store, 1, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let (mut mine, mut theirs) = (tenants[0].clone(), tenants[0].clone());
        mine.quotas = map(&[("cpu", "16")]);
        assert!(tenant::update(c, &mut mine, at(80)).await.unwrap());
        assert!(!tenant::update(c, &mut theirs, at(81)).await.unwrap());
        assert_eq!(tenant::get(c, all(), mine.id).await.unwrap(), Some(mine));
    }

    async fn a_tenant_needs_its_cluster(store) {
        let (on, ..) = add_tree(&store, 1, 0).await;
        let mut tx = store.begin().await.unwrap();
        let stray = Tenant { cluster_id: ClusterId(Uuid::nil()), ..one(&on, 9) };
        assert!(matches!(tenant::insert(&mut tx.conn(), &stray).await, Err(StoreError::Conflict(_))));
    }

    /// Each adds a project if the tenant has none yet. Without the lock, PostgreSQL would let several see none.
    async fn who_holds_the_lock_decides_alone(store) {
        let (_, tenants, _) = add_tree(&store, 1, 0).await;
        let add = |n: u128| {
            let (store, tenant) = (store.clone(), tenants[0].clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let c = &mut tx.conn();
                let locked = tenant::lock(c, all(), tenant.id).await.unwrap().unwrap();
                assert_eq!(locked, tenant);
                let free = kubeop_store::project::grants(c, tenant.id).await.unwrap().is_empty();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                if free {
                    assert_eq!(kubeop_store::project::insert(c, &project(&tenant, n)).await.unwrap(), Inserted::Yes);
                }
                tx.commit().await.unwrap();
                free
            })
        };
        let tasks: Vec<_> = (1..=8).map(add).collect();
        let mut first = 0;
        for task in tasks {
            first += i32::from(task.await.unwrap());
        }
        assert_eq!(first, 1);
    }
}

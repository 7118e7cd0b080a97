//! Projects and the namespaces they hold.

use crate::fixture::{add_tree, all, app, as_project, as_tenant, at, map, project as one};
use kubeop_store::namespace_claim::{self, Holder};
use kubeop_store::project::{self, Namespace, Owner, Project};
use kubeop_store::{Filter, Inserted, Page, StoreError, Taken};

both! {
    async fn what_is_written_reads_back_equal(store) {
        let (_, tenants, projects) = add_tree(&store, 1, 1).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(project::get(c, all(), projects[0].id).await.unwrap().as_ref(), Some(&projects[0]));
        let asked = Project { quotas: Some(map(&[("cpu", "1")])), ..one(&tenants[0], 2) };
        assert_eq!(project::insert(c, &asked).await.unwrap(), Inserted::Yes);
        assert_eq!(project::by_name(c, all(), tenants[0].id, "project-2").await.unwrap(), Some(asked));
        assert_eq!(project::by_name(c, all(), tenants[0].id, "project-3").await.unwrap(), None);
        assert_eq!(project::count(c).await.unwrap(), 2);
    }

    async fn a_name_is_unique_within_its_tenant(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 1).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(projects[0].name, projects[1].name);
        let again = Project { name: projects[0].name.clone(), ..one(&tenants[0], 9) };
        assert_eq!(project::insert(c, &again).await.unwrap(), Inserted::Taken(Taken::Name));
        let same_id = Project { id: projects[0].id, ..one(&tenants[0], 9) };
        assert_eq!(project::insert(c, &same_id).await.unwrap(), Inserted::Taken(Taken::Id));
    }

    async fn a_scope_shows_its_own_projects_only(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 2).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let theirs = &projects[2];
        for scope in [as_tenant(tenants[0].id), as_project(projects[0].id)] {
            assert_eq!(project::get(c, scope, theirs.id).await.unwrap(), None);
            assert_eq!(project::by_name(c, scope, theirs.tenant_id, theirs.name.as_str()).await.unwrap(), None);
            for filter in [
                Filter { tenant_id: Some(theirs.tenant_id), ..Filter::default() },
                Filter { project_id: Some(theirs.id), ..Filter::default() },
            ] {
                assert!(project::list(c, scope, &filter, &Page::first(9)).await.unwrap().is_empty());
            }
            let named = Filter { name: Some(theirs.name.as_str()), ..Filter::default() };
            for row in project::list(c, scope, &named, &Page::first(9)).await.unwrap() {
                assert_eq!(row.tenant_id, tenants[0].id);
            }
        }
        let mut count = async |scope| project::list(c, scope, &Filter::default(), &Page::first(9)).await.unwrap().len();
        assert_eq!(count(all()).await, 4);
        assert_eq!(count(as_tenant(tenants[0].id)).await, 2);
        assert_eq!(count(as_project(projects[0].id)).await, 1);
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(project::lock(c, as_tenant(tenants[0].id), theirs.id).await.unwrap(), None);
        assert_eq!(project::lock(c, as_tenant(theirs.tenant_id), theirs.id).await.unwrap().as_ref(), Some(theirs));
    }

    async fn filters_narrow_the_list(store) {
        let (on, tenants, projects) = add_tree(&store, 2, 3).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let mut ask = async |filter: Filter<'_>| project::list(c, all(), &filter, &Page::first(9)).await.unwrap().len();
        let none = Filter::default();
        let (cluster_id, tenant_id) = (Some(on.id), Some(tenants[0].id));
        let (project_id, name) = (Some(projects[0].id), Some("project-2"));
        assert_eq!(ask(Filter { cluster_id, ..none }).await, 6);
        assert_eq!(ask(Filter { tenant_id, ..none }).await, 3);
        assert_eq!(ask(Filter { name, ..none }).await, 2);
        assert_eq!(ask(Filter { name, cluster_id, ..none }).await, 2);
        assert_eq!(ask(Filter { tenant_id, name, ..none }).await, 1);
        assert_eq!(ask(Filter { project_id, ..none }).await, 1);
        assert_eq!(ask(Filter { project_id, name, ..none }).await, 0);
        assert_eq!(ask(Filter { project_id, tenant_id: Some(tenants[1].id), ..none }).await, 0);
        let nowhere = Some(kubeop_core::id::ClusterId(uuid::Uuid::nil()));
        for filter in [Filter { project_id, ..none }, Filter { tenant_id, ..none }, Filter { name, ..none }] {
            assert_eq!(ask(Filter { cluster_id: nowhere, ..filter }).await, 0);
        }
    }

    async fn a_change_needs_the_version_it_was_made_from(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let (mut mine, mut theirs) = (projects[0].clone(), projects[0].clone());
        mine.quotas = Some(map(&[("memory", "1Gi")]));
        mine.granted = map(&[("memory", "1Gi")]);
        mine.pod_security = "restricted".into();
        assert!(project::update(c, &mut mine, at(80)).await.unwrap());
        assert!(!project::update(c, &mut theirs, at(81)).await.unwrap());
        assert!(!project::mark_deleting(c, &mut theirs, at(81)).await.unwrap());
        assert_eq!(project::get(c, all(), mine.id).await.unwrap().as_ref(), Some(&mine));
        assert!(project::mark_deleting(c, &mut mine, at(82)).await.unwrap());
        assert!(!project::update(c, &mut mine, at(83)).await.unwrap());
    }

    async fn a_project_that_is_being_deleted_holds_its_grant_until_it_is_gone(store) {
        let (_, tenants, projects) = add_tree(&store, 1, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let mut row = projects[0].clone();
        assert!(project::mark_deleting(c, &mut row, at(90)).await.unwrap());
        assert_eq!(project::count_in_tenant(c, tenants[0].id).await.unwrap(), 1);
        let grants = project::grants(c, tenants[0].id).await.unwrap();
        assert_eq!(grants.len(), 2);
        assert_eq!((grants[0].deleting_at, &grants[0].granted, &grants[0].quotas), (Some(at(90)), &row.granted, &None));
        assert!(project::remove(c, row.tenant_id, row.id).await.unwrap());
        assert!(!project::remove(c, row.tenant_id, row.id).await.unwrap());
        assert_eq!(project::grants(c, tenants[0].id).await.unwrap().len(), 1);
    }

    async fn a_project_with_apps_is_not_removed(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        let mut tx = store.begin().await.unwrap();
        let _ = kubeop_store::app::insert(&mut tx.conn(), &app(&projects[0], 1)).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let error = project::remove(&mut tx.conn(), projects[0].tenant_id, projects[0].id).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        drop(tx);
        let c = &mut store.read().await.unwrap();
        assert!(project::get(&mut c.conn(), all(), projects[0].id).await.unwrap().is_some());
    }

    async fn figures_of_many_tenants_come_in_one_query(store) {
        let (_, tenants, projects) = add_tree(&store, 3, 2).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let two = [tenants[2].id, tenants[0].id];
        let counts = project::count_by_tenant(c, &two).await.unwrap();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), vec![(tenants[0].id, 2), (tenants[2].id, 2)]);
        let spaces = project::namespaces(c, &two).await.unwrap();
        let space = |row: &Project| Namespace {
            tenant_id: row.tenant_id,
            project_id: row.id,
            namespace: row.namespace.clone(),
        };
        assert_eq!(spaces, [0, 1, 4, 5].map(|n: usize| space(&projects[n])).to_vec());
        assert_eq!(project::namespaces_of(c, &[projects[4].id]).await.unwrap(), vec![space(&projects[4])]);
        let owners = project::owners(c, &[projects[3].id]).await.unwrap();
        assert_eq!(owners, vec![Owner { project_id: projects[3].id, tenant_id: tenants[1].id }]);
        assert!(project::owners(c, &[]).await.unwrap().is_empty());
    }

    async fn a_namespace_has_one_holder(store) {
        let (on, tenants, projects) = add_tree(&store, 2, 1).await;
        let holder = |n: usize| Holder { tenant_id: tenants[n].id, project_id: projects[n].id };
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(namespace_claim::claim(c, on.id, "ns", holder(0)).await.unwrap(), Inserted::Yes);
        let taken = Inserted::Taken(Taken::Namespace);
        assert_eq!(namespace_claim::claim(c, on.id, "ns", holder(1)).await.unwrap(), taken);
        assert_eq!(namespace_claim::holder(c, on.id, "ns").await.unwrap(), Some(holder(0)));
        assert!(project::remove(c, tenants[0].id, projects[0].id).await.unwrap());
        assert_eq!(namespace_claim::claim(c, on.id, "ns", holder(1)).await.unwrap(), Inserted::Yes);
    }
}

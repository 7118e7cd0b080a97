//! Apps and the hosts they hold.

use crate::fixture::{add_tree, all, app as one, as_project, as_tenant, at};
use kubeop_core::name::Host;
use kubeop_store::app::{self, App};
use kubeop_store::host_claim::{self, HostClaim};
use kubeop_store::{Filter, Inserted, Page, Store, StoreError, Taken, project::Project};
use serde_json::json;

async fn add(store: &Store, rows: &[App]) {
    let mut tx = store.begin().await.unwrap();
    for row in rows {
        assert_eq!(app::insert(&mut tx.conn(), row).await.unwrap(), Inserted::Yes);
    }
    tx.commit().await.unwrap();
}

fn claim(row: &App, host: &str) -> HostClaim {
    let host = Host::parse(host).unwrap();
    HostClaim { host, tenant_id: row.tenant_id, project_id: row.project_id, app_id: row.id }
}

both! {
    async fn what_is_written_reads_back_equal(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        let spec = json!({"z": 1, "a": [null, true, 1.5, "ü\"\\"], "n": {"m": -9_007_199_254_740_993_i64}});
        let row = App { spec, ..one(&projects[0], 1) };
        add(&store, std::slice::from_ref(&row)).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        assert_eq!(app::get(c, all(), row.id).await.unwrap().as_ref(), Some(&row));
        assert_eq!(app::by_name(c, all(), row.project_id, "app-1").await.unwrap().as_ref(), Some(&row));
        assert_eq!(app::by_name(c, all(), row.project_id, "app-2").await.unwrap(), None);
    }

    async fn a_name_is_unique_within_its_project(store) {
        let (_, _, projects) = add_tree(&store, 1, 2).await;
        add(&store, &[one(&projects[0], 1), one(&projects[1], 1)]).await;
        let mut tx = store.begin().await.unwrap();
        let again = App { name: one(&projects[0], 1).name, ..one(&projects[0], 2) };
        assert_eq!(app::insert(&mut tx.conn(), &again).await.unwrap(), Inserted::Taken(Taken::Name));
        let same_id = App { id: one(&projects[0], 1).id, ..one(&projects[0], 2) };
        assert_eq!(app::insert(&mut tx.conn(), &same_id).await.unwrap(), Inserted::Taken(Taken::Id));
    }

    async fn an_app_needs_a_project_of_its_tenant(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 1).await;
        let mut tx = store.begin().await.unwrap();
        let stray = App { tenant_id: tenants[1].id, ..one(&projects[0], 1) };
        assert!(matches!(app::insert(&mut tx.conn(), &stray).await, Err(StoreError::Conflict(_))));
    }

    async fn a_scope_shows_its_own_apps_only(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 2).await;
        let rows: Vec<App> = projects.iter().flat_map(|under| [one(under, 1), one(under, 2)]).collect();
        add(&store, &rows).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let theirs = &rows[4];
        for (scope, mine) in [(as_tenant(tenants[0].id), 4), (as_project(projects[0].id), 2)] {
            assert_eq!(app::get(c, scope, theirs.id).await.unwrap(), None);
            assert_eq!(app::by_name(c, scope, theirs.project_id, theirs.name.as_str()).await.unwrap(), None);
            assert_eq!(app::list(c, scope, &Filter::default(), &Page::first(99)).await.unwrap().len(), mine);
            for filter in [
                Filter { tenant_id: Some(theirs.tenant_id), ..Filter::default() },
                Filter { project_id: Some(theirs.project_id), ..Filter::default() },
                Filter { project_id: Some(theirs.project_id), name: Some("app-1"), ..Filter::default() },
            ] {
                assert!(app::list(c, scope, &filter, &Page::first(99)).await.unwrap().is_empty(), "{filter:?}");
            }
            let named = Filter { name: Some("app-1"), ..Filter::default() };
            assert_eq!(app::list(c, scope, &named, &Page::first(99)).await.unwrap().len(), mine / 2);
        }
        // A project's caller that names another tenant sees nothing of either.
        let filter = Filter { tenant_id: Some(tenants[1].id), ..Filter::default() };
        assert!(app::list(c, as_project(projects[0].id), &filter, &Page::first(9)).await.unwrap().is_empty());
    }

    async fn filters_narrow_the_list(store) {
        let (on, tenants, projects) = add_tree(&store, 2, 2).await;
        let rows: Vec<App> = projects.iter().flat_map(|under| [one(under, 1), one(under, 2)]).collect();
        add(&store, &rows).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let mut ask = async |filter: Filter<'_>| app::list(c, all(), &filter, &Page::first(99)).await.unwrap().len();
        let none = Filter::default();
        let (cluster_id, tenant_id) = (Some(on.id), Some(tenants[0].id));
        let (project_id, name) = (Some(projects[0].id), Some("app-2"));
        let nowhere = Some(kubeop_core::id::ClusterId(uuid::Uuid::nil()));
        for (filter, found) in [
            (none, 8),
            (Filter { cluster_id, ..none }, 8),
            (Filter { tenant_id, ..none }, 4),
            (Filter { project_id, ..none }, 2),
            (Filter { name, ..none }, 4),
            (Filter { name, cluster_id, ..none }, 4),
            (Filter { name, tenant_id, ..none }, 2),
            (Filter { name, project_id, ..none }, 1),
            (Filter { cluster_id, tenant_id, project_id, name }, 1),
            (Filter { project_id, tenant_id: Some(tenants[1].id), ..none }, 0),
        ] {
            assert_eq!(ask(filter).await, found, "{filter:?}");
            assert_eq!(ask(Filter { cluster_id: nowhere, ..filter }).await, 0, "{filter:?}");
        }
    }

    /// All created at the same instant, so that the id decides; and rows added meanwhile do not disturb.
    async fn pages_follow_each_other_without_gap_or_repeat(store) {
        let (_, tenants, projects) = add_tree(&store, 1, 2).await;
        let same = |under: &Project, n: u128| App { created_at: at(500), ..one(under, n) };
        let mut rows: Vec<App> = (1..=25).map(|n| same(&projects[usize::from(n % 2 == 0)], n)).collect();
        add(&store, &rows).await;
        rows.sort_by_key(|row| (row.created_at, row.id));
        let mut seen: Vec<App> = Vec::new();
        let mut page = Page::first(4);
        loop {
            let mut read = store.read().await.unwrap();
            let filter = Filter { tenant_id: Some(tenants[0].id), ..Filter::default() };
            let found = app::list(&mut read.conn(), all(), &filter, &page).await.unwrap();
            drop(read);
            let Some(last) = found.last() else { break };
            page.after = Some((last.created_at, last.id.0));
            seen.extend(found);
            let earlier = App { created_at: at(400), ..one(&projects[0], 100 + seen.len() as u128) };
            add(&store, &[earlier]).await;
        }
        assert_eq!(seen, rows);
    }

    async fn a_page_of_large_apps_ends_early_and_the_next_goes_on(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        let large = |n| App { spec: json!({"delivery": {"text": "x".repeat(1 << 20)}}), ..one(&projects[0], n) };
        let rows: Vec<App> = (1..=9).map(large).collect();
        add(&store, &rows).await;
        let (mut seen, mut pages, mut page) = (Vec::new(), 0, Page::first(100));
        loop {
            let mut read = store.read().await.unwrap();
            let found = app::list_page(&mut read.conn(), all(), &Filter::default(), &page).await.unwrap();
            page.after = found.rows.last().map(|last| (last.created_at, last.id.0));
            pages += 1;
            seen.extend(found.rows);
            if !found.is_cut {
                break;
            }
        }
        assert_eq!(pages, 3, "four of a megabyte each, and the rest");
        assert_eq!(seen.len(), rows.len());
        assert!(seen.iter().zip(&rows).all(|(one, other)| one.id == other.id), "in order, none twice");
    }

    async fn a_change_needs_the_version_it_was_made_from(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        add(&store, &[one(&projects[0], 1)]).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let (mut mine, mut theirs) = (one(&projects[0], 1), one(&projects[0], 1));
        mine.spec = json!({"delivery": {}});
        assert!(app::update(c, &mut mine, at(80)).await.unwrap());
        assert!(!app::update(c, &mut theirs, at(81)).await.unwrap());
        assert!(!app::mark_deleting(c, &mut theirs, at(81)).await.unwrap());
        assert_eq!(app::get(c, all(), mine.id).await.unwrap().as_ref(), Some(&mine));
        assert_eq!(app::count_in_project(c, mine.tenant_id, mine.project_id).await.unwrap(), 1);
        assert!(app::mark_deleting(c, &mut mine, at(82)).await.unwrap());
        assert!(!app::update(c, &mut mine, at(83)).await.unwrap());
        assert_eq!(app::count_in_project(c, mine.tenant_id, mine.project_id).await.unwrap(), 0);
        assert_eq!(app::count(c).await.unwrap(), 1);
        assert!(app::remove(c, mine.tenant_id, mine.id).await.unwrap());
        assert!(!app::remove(c, mine.tenant_id, mine.id).await.unwrap());
    }

    /// Figures over a thousand apps of a few hundred KiB each took most of a GiB.
    async fn what_apps_deliver_is_scanned_in_order_of_the_key_without_their_specs(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 1).await;
        let mut rows: Vec<App> = projects.iter().flat_map(|under| (1..=3).map(|n| one(under, n))).collect();
        let wanted = [
            (json!({"kind": "Image", "image": "nginx:1"}), Some("Image"), Some("nginx:1")),
            (json!({"kind": "Image", "image": {"ref": "a/b:2", "replicas": 3}}), Some("Image"), Some("a/b:2")),
            (json!({"kind": "Git", "git": {"url": "x"}}), Some("Git"), None),
            (json!({"image": {"replicas": 3}}), None, None),
            (json!({}), None, None),
            (json!(null), None, None),
        ];
        for (row, (delivery, ..)) in rows.iter_mut().zip(&wanted) {
            row.spec = json!({"delivery": delivery});
        }
        add(&store, &rows).await;
        let c = &mut store.read().await.unwrap();
        let c = &mut c.conn();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let found = app::deliveries(c, after, 4).await.unwrap();
            let Some(last) = found.last() else { break };
            after = Some((last.tenant_id, last.id));
            seen.extend(found.into_iter().map(|row| (row.id, row.kind, row.image)));
        }
        let wanted = wanted.iter().map(|(_, kind, image)| (kind.map(ToOwned::to_owned), image.map(ToOwned::to_owned)));
        assert_eq!(seen, rows.iter().zip(wanted).map(|(row, (kind, image))| (row.id, kind, image)).collect::<Vec<_>>());
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let homes = app::projects_of(c, &ids).await.unwrap();
        assert_eq!(homes, rows.iter().map(|row| (row.id, row.project_id)).collect());
        let counts = app::count_by_tenant(c, &[tenants[1].id]).await.unwrap();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), vec![(tenants[1].id, 3)]);
    }

    async fn a_host_has_one_holder(store) {
        let (_, _, projects) = add_tree(&store, 2, 1).await;
        let (mine, theirs) = (one(&projects[0], 1), one(&projects[1], 1));
        add(&store, &[mine.clone(), theirs.clone()]).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(host_claim::claim(c, &claim(&mine, "web.local")).await.unwrap(), Inserted::Yes);
        assert_eq!(host_claim::claim(c, &claim(&mine, "WEB.local.")).await.unwrap(), Inserted::Yes);
        assert_eq!(host_claim::claim(c, &claim(&theirs, "web.local")).await.unwrap(), Inserted::Taken(Taken::Host));
        assert_eq!(host_claim::get(c, "web.local").await.unwrap(), Some(claim(&mine, "web.local")));
        assert_eq!(host_claim::claim(c, &claim(&mine, "two.local")).await.unwrap(), Inserted::Yes);
        assert_eq!(host_claim::of_app(c, mine.id).await.unwrap().len(), 2);
        assert!(!host_claim::release(c, theirs.id, "web.local").await.unwrap());
        assert!(host_claim::release(c, mine.id, "web.local").await.unwrap());
        assert_eq!(host_claim::claim(c, &claim(&theirs, "web.local")).await.unwrap(), Inserted::Yes);
        assert!(app::remove(c, mine.tenant_id, mine.id).await.unwrap());
        assert_eq!(host_claim::get(c, "two.local").await.unwrap(), None);
        assert!(host_claim::get(c, "web.local").await.unwrap().is_some());
    }
}

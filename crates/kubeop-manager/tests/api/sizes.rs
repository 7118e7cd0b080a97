//! How much one tenant may put on a cluster: the size of an app, the number of apps; and hosts that change hands.

use crate::fixture::Fixture;
use kubeop_core::authz::{Role, system_scope};
use kubeop_core::id::{AppId, ProjectId};
use kubeop_core::name::Label;
use kubeop_store::app::{self, App};
use kubeop_store::project;
use serde_json::{Value, json};

async fn project(fixture: &Fixture, tenant: &str, name: &str) -> String {
    let made = fixture.admin("POST", "/v1/projects", &json!({"tenantID": tenant, "name": name}), 201).await;
    made["id"].as_str().unwrap().to_owned()
}

fn large(bytes: usize) -> Value {
    json!({"delivery": {"image": {"ref": "nginx:1", "env": [{"name": "A", "value": "x".repeat(bytes)}]}}})
}

both! {
    /// A spec of 3 MB was answered 201, and no cluster could ever store it; a hundred of 1.4 MB stopped the sync of every tenant of a cluster.
    async fn an_app_that_is_too_large_is_refused_with_its_size(fixture) {
        let tenant = fixture.tenant("acme").await;
        let project = project(&fixture, &tenant, "web").await;
        let input = |spec: Value| json!({"projectID": project, "name": "shop", "spec": spec});
        let told = fixture.admin("POST", "/v1/apps", &input(large(2_900_000)), 400).await;
        let message = told["error"].as_str().unwrap();
        assert!(message.contains("spec: has 29") && message.ends_with("at most 262144 are allowed"), "{message}");
        let made = fixture.admin("POST", "/v1/apps", &input(large(200_000)), 201).await;
        let path = format!("/v1/apps/{}", made["id"].as_str().unwrap());
        fixture.admin("PATCH", &path, &json!({"spec": large(300_000)}), 400).await;
        // One of before the limit can be read, and made smaller.
        let mut tx = fixture.manager.store.begin().await.unwrap();
        let id = AppId::parse(made["id"].as_str().unwrap()).unwrap();
        let mut row = app::get(&mut tx.conn(), system_scope(), id).await.unwrap().unwrap();
        row.spec = large(1_400_000);
        assert!(app::update(&mut tx.conn(), &mut row, fixture.manager.clock.now()).await.unwrap());
        tx.commit().await.unwrap();
        let read = fixture.admin("GET", &path, &json!({}), 200).await;
        assert_eq!(read["spec"], large(1_400_000));
        fixture.admin("PATCH", &path, &json!({"spec": large(100_000)}), 200).await;
    }

    async fn a_project_has_a_bounded_number_of_apps(fixture) {
        let tenant = fixture.tenant("acme").await;
        let id = project(&fixture, &tenant, "web").await;
        let input = |name: &str| json!({"projectID": id, "name": name, "image": "nginx:1"});
        let mut tx = fixture.manager.store.begin().await.unwrap();
        let c = &mut tx.conn();
        let under = project::get(c, system_scope(), ProjectId::parse(&id).unwrap()).await.unwrap().unwrap();
        let now = fixture.manager.clock.now();
        for n in 0..499 {
            let row = App {
                tenant_id: under.tenant_id,
                id: AppId(fixture.manager.ids.next()),
                project_id: under.id,
                cluster_id: under.cluster_id,
                name: Label::parse(&format!("app-{n}")).unwrap(),
                spec: json!({}),
                labels: kubeop_store::TextMap::new(),
                version: 1,
                created_at: now,
                updated_at: now,
                deleting_at: None,
            };
            let _ = app::insert(c, &row).await.unwrap();
        }
        tx.commit().await.unwrap();
        fixture.admin("POST", "/v1/apps", &input("last"), 201).await;
        let told = fixture.admin("POST", "/v1/apps", &input("more"), 409).await;
        assert_eq!(told["error"], "project \"web\" has 500 apps: at most 500 are allowed");
    }

    /// Each took the hosts in its caller's order, and the database ended one of the two that waited for each other: a 503.
    async fn apps_that_want_the_same_hosts_in_another_order_do_not_wait_for_each_other(fixture) {
        let tenant = fixture.tenant("acme").await;
        let names: Vec<String> = (0..30).map(|n| format!("h{n:02}.example.com")).collect();
        let backwards: Vec<String> = names.iter().rev().cloned().collect();
        let mut apps = Vec::new();
        for name in ["one", "two"] {
            let id = project(&fixture, &tenant, name).await;
            let app = json!({"projectID": id, "name": "shop", "image": "nginx:1"});
            apps.push(fixture.admin("POST", "/v1/apps", &app, 201).await["id"].as_str().unwrap().to_owned());
        }
        let admin = fixture.token(Role::Admin);
        let set = async |app: &str, hosts: &[String]| {
            let body = json!({"spec": {"hosts": hosts}}).to_string();
            fixture.call("PATCH", &format!("/v1/apps/{app}"), Some(&admin), Some(&body)).await.status.as_u16()
        };
        for _ in 0..5 {
            let (one, two) = tokio::join!(set(&apps[0], &names), set(&apps[1], &backwards));
            assert!([(200, 409), (409, 200)].contains(&(one, two)), "{one} {two}");
            for app in &apps {
                assert_eq!(set(app, &[]).await, 200);
            }
        }
    }
}

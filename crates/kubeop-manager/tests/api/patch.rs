//! PATCH is a JSON merge patch (RFC 7386) on every resource.
//!
//! Invariant: null deletes, absent keeps, whatever the resource.

use crate::fixture::Fixture;
use crate::world::World;
use serde_json::{Value, json};

async fn own_labels(fixture: &Fixture, path: &str, change: Value) -> Value {
    let item = fixture.admin("PATCH", path, &change, 200).await;
    let labels = item["labels"].as_object().unwrap().iter();
    labels.filter(|(key, _)| !key.starts_with("app.kubeop.io/")).map(|(k, v)| (k.clone(), v.clone())).collect()
}

both! {
    async fn labels_are_merged(fixture) {
        let world = World::new(&fixture).await;
        for (kind, id) in [
            ("clusters", &world.cluster),
            ("tenants", &world.mine.tenant),
            ("projects", &world.mine.project),
            ("apps", &world.mine.app),
        ] {
            let path = format!("/v1/{kind}/{id}");
            let put = json!({"labels": {"env": "test", "team": "a"}, "image": "nginx:1"});
            let put = if kind == "apps" { put } else { json!({"labels": put["labels"]}) };
            fixture.admin("PUT", &path, &put, 200).await;
            let change = json!({"labels": {"team": null, "tier": "1", "never": null}});
            assert_eq!(own_labels(&fixture, &path, change).await, json!({"env": "test", "tier": "1"}), "{kind}");
            assert_eq!(own_labels(&fixture, &path, json!({})).await, json!({"env": "test", "tier": "1"}), "{kind}");
            let change = json!({"id": id, "LABELS": {"env": "prod"}});
            let collection = format!("/v1/{kind}");
            assert_eq!(own_labels(&fixture, &collection, change).await, json!({"env": "prod", "tier": "1"}), "{kind}");
            let identity = json!({"labels": {"app.kubeop.io/cluster-id": null}});
            assert_eq!(own_labels(&fixture, &path, identity).await, json!({"env": "prod", "tier": "1"}), "{kind}");
            let bad = fixture.admin("PATCH", &path, &json!({"labels": {"env": 1}}), 400).await;
            assert_eq!(bad["error"], "labels.env: a string is needed, not the number 1");
            assert_eq!(own_labels(&fixture, &path, json!({"labels": null})).await, json!({}), "{kind}");
        }
    }

    async fn a_clusters_other_fields_are_kept_or_cleared(fixture) {
        let world = World::new(&fixture).await;
        let path = format!("/v1/clusters/{}", world.cluster);
        let shown = |item: Value| (item["public_server"].clone(), item["install_admission"].clone());
        let change = json!({"publicServer": "https://api.example.com:6443", "installAdmission": true});
        let item = fixture.admin("PATCH", &path, &change, 200).await;
        assert_eq!(shown(item), (json!("https://api.example.com:6443"), json!(true)));
        let item = fixture.admin("PATCH", &path, &json!({"labels": {"a": "b"}}), 200).await;
        assert_eq!(shown(item), (json!("https://api.example.com:6443"), json!(true)));
        let item = fixture.admin("PATCH", &path, &json!({"public_server": null}), 200).await;
        assert_eq!(shown(item), (json!(null), json!(true)));
        for (change, message) in [
            (json!({"name": "other"}), "name: cannot be changed"),
            (json!({"kubeconfig": "x.conf"}), "kubeconfig"),
            (json!([]), "an object is needed, not an array"),
        ] {
            let error = fixture.admin("PATCH", &path, &change, 400).await["error"].as_str().unwrap().to_owned();
            assert!(error.contains(message), "{error}");
        }
    }
}

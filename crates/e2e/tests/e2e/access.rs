//! Credentials: what a kubeconfig and a token open, how long, and how they end.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use e2e::api::Api;
use e2e::scenario::{self, unique};
use e2e::wait::{Seen, until};
use e2e::world::World;
use serde_json::{Value, json};
use std::time::Duration;

/// The claims of a JWT.
fn claims(token: &str) -> Result<Value> {
    let part = token.split('.').nth(1).context("no JWT")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part)?)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubeconfig_opens_its_namespace_alone_and_ends() -> Result<()> {
    let world = World::shared().await?;
    let api = world.admin()?;
    let (home, other) = tokio::try_join!(
        scenario::home(&api, &world.cluster, "access"),
        scenario::home(&api, &world.cluster, "other")
    )?;
    let file = world.kubeop().file(&unique("kubeconfig"));
    let (answer, tenant) = scenario::kubeconfig(&api, &home.project, "?ttlMinutes=10", &file).await?;
    ensure!(answer.header("cache-control") == Some("no-store"), "a kubeconfig may be cached: {:?}", answer.headers);

    // The token's own expiry is what the answer says.
    let view = tenant.json("config view --raw").await?;
    let token = view["users"][0]["user"]["token"].as_str().context("the kubeconfig has no token")?;
    let claims = claims(token)?;
    let (issued, expires) = (claims["iat"].as_i64().context("iat")?, claims["exp"].as_i64().context("exp")?);
    ensure!(expires - issued == 600, "asked for 10 minutes, the token lives {} s", expires - issued);
    let told = answer.text_at("/expires_at")?;
    let command = tokio::process::Command::new("date").args(["-u", "-d", &told, "+%s"]).output().await?;
    ensure!(
        String::from_utf8_lossy(&command.stdout).trim() == expires.to_string(),
        "{told} is not the token's {expires}"
    );
    ensure!(view["contexts"][0]["context"]["namespace"] == home.namespace.as_str(), "{view}");

    tenant.stdout("create configmap mine --from-literal=a=b").await?;
    tenant.stdout("create secret generic mine --from-literal=a=b").await?;
    tenant.stdout("create deployment web --image=docker.io/library/nginx:1.25").await?;
    tenant.stdout("create service clusterip web --tcp=80:80").await?;
    tenant.stdout("get pods,deployments,services,configmaps,secrets,ingresses,networkpolicies,apps").await?;
    for words in [
        format!("-n {} get pods", other.namespace),
        format!("-n {} get configmaps", other.namespace),
        "-n default get pods".to_owned(),
        "-n kubeop-system get configmaps".to_owned(),
        "-n kubeop-access get serviceaccounts".to_owned(),
        "get pods -A".to_owned(),
        "get namespaces".to_owned(),
        format!("get namespace {}", home.namespace),
        format!("label namespace {} a=b", home.namespace),
        "get nodes".to_owned(),
        "get projects".to_owned(),
        "get tenants".to_owned(),
        "get clusterroles".to_owned(),
        "create role r --verb=get --resource=pods".to_owned(),
        "create rolebinding b --clusterrole=admin --user=me".to_owned(),
        "create token default".to_owned(),
        "create quota q --hard=pods=1".to_owned(),
        "delete resourcequota --all".to_owned(),
        "delete limitrange --all".to_owned(),
    ] {
        tenant.expect_forbidden(&words).await?;
    }
    // Viewer reads, and does not write; nor does it read Secrets.
    let file = world.kubeop().file(&unique("kubeconfig"));
    let (_, viewer) = scenario::kubeconfig(&api, &home.project, "?role=viewer", &file).await?;
    viewer.stdout("get deployments,configmaps").await?;
    viewer.expect_forbidden("create configmap no --from-literal=a=b").await?;
    viewer.expect_forbidden("get secrets").await?;

    // Revoked: this one ends (the API server remembers a token for 10 s), its sibling goes on.
    let id = answer.id()?;
    let listed = api.get(&format!("/v1/kubeconfigs?projectID={}", home.project)).await?.expect(200)?;
    ensure!(listed.json.as_array().is_some_and(|all| all.len() == 2), "two kubeconfigs are live: {}", listed.text);
    ensure!(!listed.text.contains(token), "the list shows a token");
    api.delete(&format!("/v1/kubeconfigs/{id}")).await?.expect(204)?;
    until("a revoked kubeconfig is refused", Duration::from_secs(30), async || {
        let ran = tenant.run("get configmaps").await?;
        Ok(Seen::when(
            !ran.ok && (ran.stderr.contains("nauthorized") || ran.stderr.contains("logged in")),
            (),
            format!("{} {}", ran.stdout, ran.stderr),
        ))
    })
    .await?;
    viewer.stdout("get configmaps").await?;
    api.delete("/v1/kubeconfigs/00000000-0000-7000-8000-000000000000").await?.expect_error(404, &[])?;
    for query in ["?ttlMinutes=9", "?ttlMinutes=1441", "?ttlMinutes=x", "?role=root", "?color=red"] {
        api.get(&format!("/v1/kubeconfigs/project/{}{query}", home.project)).await?.expect_error(400, &[])?;
    }
    Ok(())
}

async fn issued(api: &Api, kind: &str, body: &Value) -> Result<(String, String)> {
    let answer = api.post(&format!("/v1/jwt/{kind}"), body).await?.expect(200)?;
    Ok((answer.text_at("/token")?, answer.text_at("/jti")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_open_their_own_and_nothing_else_is_told_to_exist() -> Result<()> {
    let world = World::shared().await?;
    let admin = world.admin()?;
    let (home, foreign) = tokio::try_join!(
        scenario::home(&admin, &world.cluster, "own"),
        scenario::home(&admin, &world.cluster, "foreign")
    )?;
    let second = scenario::project(&admin, &home.tenant, "second").await?.id()?;
    let app = scenario::app(&admin, &home.project, "app", &format!("{}.local", unique("a"))).await?;
    let foreign_app = scenario::app(&admin, &foreign.project, "app", &format!("{}.local", unique("b"))).await?;
    let absent = "00000000-0000-7000-8000-000000000000";

    let (token, _) = issued(&admin, "tenant", &json!({"TenantID": home.tenant})).await?;
    let tenant = admin.with_token(&token);
    let (token, jti) = issued(&admin, "project", &json!({"ProjectID": home.project, "TTLMinutes": 60})).await?;
    let project = admin.with_token(&token);
    let claims = claims(&token)?;
    ensure!(claims["role"] == "project" && claims["iss"] == "kubeop", "{claims}");
    ensure!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).is_some_and(|(e, i)| e - i == 3600), "{claims}");

    // Own.
    for path in [
        format!("/v1/tenants/{}", home.tenant),
        format!("/v1/projects/{}", home.project),
        format!("/v1/projects/{second}"),
        format!("/v1/apps/{app}"),
        format!("/v1/invoices/{}", home.tenant),
        "/v1/usage/snapshot".to_owned(),
        "/v1/platform/policy".to_owned(),
    ] {
        tenant.get(&path).await?.expect(200)?;
    }
    project.get(&format!("/v1/projects/{}", home.project)).await?.expect(200)?;
    project.get(&format!("/v1/apps/{app}")).await?.expect(200)?;
    project.get(&format!("/v1/kubeconfigs/project/{}", home.project)).await?.expect(200)?;
    let listed = tenant.get("/v1/projects").await?.expect(200)?;
    ensure!(
        listed.json.as_array().is_some_and(|all| all.len() == 2),
        "a tenant lists its own projects: {}",
        listed.text
    );
    let listed = project.get("/v1/projects").await?.expect(200)?;
    ensure!(listed.json.as_array().is_some_and(|all| all.len() == 1), "a project lists itself: {}", listed.text);

    // Foreign and absent: the same answer.
    for (caller, foreign_path, absent_path) in [
        (&tenant, format!("/v1/tenants/{}", foreign.tenant), format!("/v1/tenants/{absent}")),
        (&tenant, format!("/v1/projects/{}", foreign.project), format!("/v1/projects/{absent}")),
        (&tenant, format!("/v1/apps/{foreign_app}"), format!("/v1/apps/{absent}")),
        (&tenant, format!("/v1/invoices/{}", foreign.tenant), format!("/v1/invoices/{absent}")),
        (&tenant, format!("/v1/kubeconfigs/project/{}", foreign.project), format!("/v1/kubeconfigs/project/{absent}")),
        (&project, format!("/v1/projects/{second}"), format!("/v1/projects/{absent}")),
        (&project, format!("/v1/apps/{foreign_app}"), format!("/v1/apps/{absent}")),
        (&project, format!("/v1/kubeconfigs/project/{second}"), format!("/v1/kubeconfigs/project/{absent}")),
    ] {
        let told = caller.get(&foreign_path).await?.expect_error(404, &[])?.text_at("/error")?;
        let nothing = caller.get(&absent_path).await?.expect_error(404, &[])?.text_at("/error")?;
        let id = foreign_path.rsplit('/').next().unwrap_or_default();
        ensure!(
            told.replace(id, absent) == nothing,
            "{foreign_path} is told from an absent one: {told:?} and {nothing:?}"
        );
    }
    for (caller, path) in
        [(&tenant, format!("/v1/projects/{}", foreign.project)), (&tenant, format!("/v1/apps/{foreign_app}"))]
    {
        caller.delete(&path).await?.expect_error(404, &[])?;
    }

    // Closed operations: 403 before anything of the request is looked at.
    let garbage = |api: &Api, method: &str, path: &str| -> Result<_> {
        Ok(api.request(method, path)?.header("Content-Type", "application/json").body("{nonsense"))
    };
    for (caller, method, path) in [
        (&tenant, "POST", "/v1/clusters"),
        (&tenant, "GET", "/v1/clusters/nonsense"),
        (&tenant, "POST", "/v1/tenants"),
        (&tenant, "PUT", "/v1/platform/policy"),
        (&tenant, "POST", "/v1/usage/ingest"),
        (&tenant, "POST", "/v1/jwt/tenant"),
        (&tenant, "GET", "/v1/audit"),
        (&tenant, "GET", "/v1/analytics/summary"),
        (&project, "POST", "/v1/projects"),
        (&project, "DELETE", "/v1/projects/nonsense"),
        (&project, "POST", "/v1/jwt/project"),
        (&project, "GET", "/v1/tenants/nonsense"),
        (&project, "GET", "/v1/invoices/nonsense"),
        (&project, "POST", "/v1/platform/bootstrap"),
    ] {
        caller.send(garbage(caller, method, path)?).await?.expect_error(403, &[])?;
    }

    // 401: none, nonsense, foreign key, revoked.
    let answer = admin.without_token().get("/v1/clusters").await?.expect_error(401, &[])?;
    ensure!(answer.header("www-authenticate") == Some("Bearer"), "{:?}", answer.headers);
    admin.with_token("nonsense").get("/v1/clusters").await?.expect_error(401, &[])?;
    let tampered = format!("{}x", world.admin_token());
    admin.with_token(&tampered).get("/v1/clusters").await?.expect_error(401, &[])?;
    admin.delete(&format!("/v1/jwt/{jti}")).await?.expect(204)?;
    project.get(&format!("/v1/projects/{}", home.project)).await?.expect_error(401, &[])?;
    Ok(())
}

/// The API took such a name, and the app was never delivered: the name is held by an App that the tenant made by kubectl.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_an_app_that_a_tenant_made_itself_was_taken_in() -> Result<()> {
    let world = World::shared().await?;
    let api = world.admin()?;
    let home = scenario::home(&api, &world.cluster, "own").await?;
    let file = world.kubeop().file(&unique("kubeconfig"));
    let (_, tenant) = scenario::kubeconfig(&api, &home.project, "", &file).await?;
    let own = json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App", "metadata": {"name": "own"},
        "spec": {"delivery": {"image": "docker.io/library/nginx:1.25"}},
    });
    ensure!(tenant.create(&own).await?.ok, "the tenant's App was not taken");
    let body = |name: &str| json!({"project_id": home.project, "name": name, "image": "docker.io/library/nginx:1.25"});
    let refused = api.post("/v1/apps", &body("own")).await?.expect(409)?;
    ensure!(refused.text.contains("was not made here"), "{}", refused.text);
    let made = api.post("/v1/apps", &body("other")).await?.expect(201)?.id()?;
    until("the app on the cluster", scenario::PATIENCE, async || {
        Ok(Seen::when(tenant.exists("app other").await?, (), made.clone()))
    })
    .await?;
    // Our own App of that name is no reason: that is the other 409.
    let again = api.post("/v1/apps", &body("other")).await?.expect(409)?;
    ensure!(again.text.contains("exists already"), "{}", again.text);
    Ok(())
}

//! Secrets stay where they belong: a product that logs everything is led through what handles secrets, well and badly, and then searched.
//!
//! Invariant: a secret may be in the one answer that issues it, and nowhere else: no log, error, metric, audit record, column or file.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use e2e::api::{Answer, Api};
use e2e::control_plane::ControlPlane;
use e2e::environment;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::scenario;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use std::fs;

/// Secrets by what they are, in every spelling in which they could slip out.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<String>)>);

impl Canaries {
    fn add(&mut self, what: &str, secret: &[u8]) {
        let text = String::from_utf8_lossy(secret).into_owned();
        let hex = kubeop_core::hex::encode(secret);
        // Without the end, which depends on what follows.
        let cut = |text: String| text.get(..text.len() - text.len() % 4 - 4).unwrap_or(&text).to_owned();
        let mut forms = vec![
            hex.to_uppercase(),
            hex,
            cut(BASE64_STANDARD.encode(secret)),
            cut(BASE64_URL_SAFE_NO_PAD.encode(secret)),
        ];
        if !text.contains('\u{fffd}') {
            forms.push(text);
        }
        self.0.push((what.to_owned(), forms));
    }

    /// Fails if a secret is in `text`.
    fn absent(&self, place: &str, text: &str) -> Result<()> {
        for (what, forms) in &self.0 {
            for form in forms.iter().filter(|form| form.len() >= 8) {
                if let Some(at) = text.find(form.as_str()) {
                    let line = text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
                    let end: String = line.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
                    anyhow::bail!("{place} holds {what}, after: {end}");
                }
            }
        }
        Ok(())
    }
}

/// Calls whose answers must not tell anything.
struct Witness<'a> {
    api: &'a Api,
    told: Vec<String>,
}

impl Witness<'_> {
    async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let answer = self.api.call(method, path, Some(body)).await?;
        self.told.push(format!("{method} {path} {}: {}", answer.status, answer.text));
        Ok(answer)
    }

    async fn refused(&mut self, method: &str, path: &str, body: &Value) -> Result<()> {
        let answer = self.call(method, path, body).await?;
        ensure!((400..500).contains(&answer.status), "{method} {path} {}: {}", answer.status, answer.text);
        Ok(())
    }
}

fn field<'a>(kubeconfig: &'a str, name: &str) -> Result<&'a str> {
    let found = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    found.with_context(|| format!("the kubeconfig has no {name}"))
}

/// The administrator's kubeconfig with this in place of its credential.
fn with_user(kubeconfig: &str, user: &str) -> String {
    let kept: Vec<&str> = kubeconfig.lines().filter(|line| !line.trim_start().starts_with("client-")).collect();
    (kept.join("\n") + "\n").replace("  user:\n", &format!("  user:\n{user}\n"))
}

async fn search(setup: Setup, database: Option<&Database>) -> Result<()> {
    let plane = ControlPlane::start().await?;
    let mut canaries = Canaries::default();
    let (signing, master) = ([0xC5; 40], [0xA7; 32]);
    canaries.add("the signing key", &signing);
    canaries.add("the master key", &master);
    if let Some(password) =
        database.and_then(|database| database.url.split_once("://")?.1.split_once('@')?.0.split_once(':'))
    {
        canaries.add("the database's password", password.1.as_bytes());
    }
    let kubeop = setup
        .with_auth()
        .with("KUBEOP_LOG", "trace")
        .with("KUBEOP_JWT_SIGNING_KEY", &BASE64_STANDARD.encode(signing))
        .with("KUBEOP_KMS_MASTER_KEY", &BASE64_STANDARD.encode(master))
        .start()
        .await?;
    let admin = token(&signing)?;
    canaries.add("the admin's token", admin.as_bytes());
    let api = kubeop.api(Some(&admin))?;
    let mut seen = Witness { api: &api, told: Vec::new() };

    // A client certificate, then a token, both real.
    let certificate = plane.kubeconfig_text()?;
    let key = field(&certificate, "client-key-data")?.to_owned();
    let pem = String::from_utf8(BASE64_STANDARD.decode(&key)?)?;
    canaries.add("the registered key", key.as_bytes());
    for line in pem.lines().filter(|line| !line.starts_with("-----")).take(2) {
        canaries.add("a line of the registered key", line.as_bytes());
    }
    let kubectl = plane.kubectl()?;
    kubectl.stdout("-n default create serviceaccount canary").await?;
    kubectl
        .stdout("create clusterrolebinding canary --clusterrole=cluster-admin --serviceaccount=default:canary")
        .await?;
    let real = kubectl.stdout("-n default create token canary --duration=1h").await?.trim().to_owned();
    canaries.add("the registered token", real.as_bytes());
    canaries.add("the signature of the registered token", real.rsplit('.').next().unwrap_or_default().as_bytes());

    let number = 1..;
    let mut fresh = number.map(|n| format!("canary-{n}-8f3b1c77d2a94e60"));
    let mut canary = || fresh.next().unwrap_or_default();
    bad_kubeconfigs(&mut seen, &mut canaries, &certificate, &mut canary, "POST", "/v1/clusters").await?;

    let body = json!({"name": "canary", "kubeconfig": certificate, "autoBootstrap": true, "installAdmission": true});
    let request = api.request("POST", "/v1/clusters")?.header("Idempotency-Key", "register").json(&body);
    let registered = api.send(request).await?.expect(201)?;
    seen.told.push(registered.text.clone());
    let cluster = registered.id()?;
    let item = format!("/v1/clusters/{cluster}");
    bad_kubeconfigs(&mut seen, &mut canaries, &certificate, &mut canary, "PATCH", &item).await?;
    let token_kubeconfig = with_user(&certificate, &format!("    token: {real}"));
    let rotated = seen.call("PATCH", &item, &json!({"kubeconfig": token_kubeconfig})).await?.expect(200)?;
    ensure!(rotated.json["kubeconfig"].is_null(), "{}", rotated.text);
    let put = json!({"name": "canary", "kubeconfig": BASE64_STANDARD.encode(&token_kubeconfig), "labels": {"a": "b"}});
    seen.call("PUT", &item, &put).await?.expect(200)?;
    scenario::cluster_ready(&api, &cluster).await?;

    let home = scenario::home(&api, &cluster, "canary").await?;
    // Issued credentials: once in their answers, and again for their Idempotency-Key.
    for (path, body) in
        [("/v1/jwt/project", json!({"ProjectID": home.project})), ("/v1/jwt/tenant", json!({"TenantID": home.tenant}))]
    {
        let once = || anyhow::Ok(api.request("POST", path)?.header("Idempotency-Key", "issue").json(&body));
        let first = api.send(once()?).await?.expect(200)?;
        let again = api.send(once()?).await?.expect(200)?;
        ensure!(first.text == again.text && again.header("idempotency-replayed") == Some("true"), "{}", again.text);
        let (issued, jti) = (first.text_at("/token")?, first.text_at("/jti")?);
        canaries.add(&format!("a token of {path}"), issued.as_bytes());
        canaries.add(
            &format!("the signature of a token of {path}"),
            issued.rsplit('.').next().unwrap_or_default().as_bytes(),
        );
        let theirs = kubeop.api(Some(&issued))?;
        seen.told.push(theirs.get("/v1/projects").await?.expect(200)?.text);
        seen.told.push(theirs.get("/v1/clusters").await?.expect(403)?.text);
        let cut = kubeop.api(issued.get(..issued.len() - 2))?;
        seen.told.push(cut.get("/v1/projects").await?.expect(401)?.text);
        seen.told.push(theirs.post("/v1/jwt/tenant", &json!({"TenantID": issued})).await?.text);
        api.delete(&format!("/v1/jwt/{jti}")).await?.expect(204)?;
        seen.told.push(theirs.get("/v1/projects").await?.expect(401)?.text);
        // Where an id belongs, somebody pastes a token.
        seen.refused("DELETE", &format!("/v1/jwt/{}", canary()), &json!({})).await?;
    }
    let issued = api.get(&format!("/v1/kubeconfigs/project/{}", home.project)).await?.expect(200)?;
    let text = issued.text_at("/kubeconfig")?;
    let theirs = field(&text, "token")?.trim_matches('"').to_owned();
    canaries.add("the token of an issued kubeconfig", theirs.as_bytes());
    canaries.add("its signature", theirs.rsplit('.').next().unwrap_or_default().as_bytes());
    let (_, tenant) = scenario::kubeconfig(&api, &home.project, "", &kubeop.file("theirs")).await?;
    tenant.stdout("get pods").await?;
    let id = issued.id()?;
    seen.told.push(api.get("/v1/kubeconfigs").await?.expect(200)?.text);
    api.delete(&format!("/v1/kubeconfigs/{id}")).await?;

    bad_headers(&kubeop, &mut seen, &mut canaries, &mut canary).await?;
    // A cluster whose credential ends: the sync and every operation fail, and say why.
    kubectl.stdout("delete clusterrolebinding canary").await?;
    kubectl.stdout("-n default delete serviceaccount canary").await?;
    for path in
        [format!("/v1/platform/bootstrap?clusterID={cluster}"), format!("/v1/platform/autoscale?clusterID={cluster}")]
    {
        let body = if path.contains("autoscale") {
            json!({"Enabled": true, "Min": 1, "Max": 2, "TargetCPU": 50})
        } else {
            json!({})
        };
        seen.call("POST", &path, &body).await?;
    }
    for path in [format!("{item}/status"), format!("{item}/ready"), item.clone(), "/v1/clusters".into()] {
        seen.told.push(api.get(&path).await?.text);
    }

    for (what, forms) in &canaries.0 {
        for form in forms.iter().filter(|form| form.len() >= 8) {
            ensure!(
                canaries.absent("this", &format!("a line\nand {form} in it")).is_err(),
                "{what} would not be found"
            );
        }
    }
    ensure!(canaries.absent("an issued kubeconfig", &text).is_err(), "its token would not be found");
    for told in &seen.told {
        canaries.absent("an answer", told)?;
    }
    for path in
        ["/metrics", "/v1/audit?limit=1000", "/openapi.json", "/readyz", "/version", "/v1/tenants", "/v1/projects"]
    {
        canaries.absent(path, &api.get(path).await?.text)?;
    }
    let log = kubeop.log();
    for complete in [r#""level":"TRACE""#, r#""level":"DEBUG""#, "kubeop_manager", "request refused"] {
        ensure!(log.contains(complete), "the log is not complete: no {complete}");
    }
    println!("{} secrets, {} answers, {} MB of log", canaries.0.len(), seen.told.len(), log.len() / 1_000_000);
    canaries.absent("the log", &log)?;
    everything_stored(&kubeop, database, &canaries).await
}

/// What to send, of a good kubeconfig and a secret.
type Shape = fn(&str, &str) -> Value;

/// What the seeds and users' own files could hold, each with a secret of its own, each refused.
async fn bad_kubeconfigs(
    seen: &mut Witness<'_>,
    canaries: &mut Canaries,
    good: &str,
    canary: &mut impl FnMut() -> String,
    method: &str,
    path: &str,
) -> Result<()> {
    let shapes: [(&str, Shape); 16] = [
        ("a token that is not valid", |good, c| json!(with_user(good, &format!("    token: {c}")))),
        ("basic", |good, c| json!(with_user(good, &format!("    username: a\n    password: {c}")))),
        ("exec", |good, c| {
            json!(with_user(good, &format!("    exec: {{command: sh, args: [{c}], env: [{{name: A, value: {c}}}]}}")))
        }),
        ("auth-provider", |good, c| {
            json!(with_user(good, &format!("    auth-provider: {{name: oidc, config: {{id-token: {c}}}}}")))
        }),
        ("an unknown key", |good, c| json!(with_user(good, &format!("    tokken: {c}")))),
        ("a token with a space", |good, c| json!(with_user(good, &format!("    token: \"{c} {c}\"")))),
        ("a token twice", |good, c| json!(with_user(good, &format!("    token: {c}\n    token: {c}x")))),
        ("a token as a list", |good, c| json!(with_user(good, &format!("    token: [{c}]")))),
        ("a broken end", |good, c| json!(with_user(good, &format!("    token: \"{c}")))),
        ("a key that is none", |good, c| {
            let data = BASE64_STANDARD.encode(format!("-----BEGIN PRIVATE KEY-----\n{c}\n-----END PRIVATE KEY-----\n"));
            json!(with_user(good, &format!("    client-certificate-data: {data}\n    client-key-data: {data}")))
        }),
        ("no base64", |good, c| {
            json!(with_user(good, &format!("    client-certificate-data: '{c}!'\n    client-key-data: '{c}!'")))
        }),
        ("base64 of what is none", |_, c| json!(BASE64_STANDARD.encode(format!("token {c}")))),
        ("the token alone", |_, c| json!(c)),
        ("user information in the server", |good, c| json!(good.replace("https://", &format!("https://u:{c}@")))),
        ("a mapping", |_, c| json!({"users": [{"user": {"token": c}}]})),
        ("a list", |_, c| json!([c])),
    ];
    for (what, shape) in shapes {
        let secret = canary();
        canaries.add(&format!("{what} ({method})"), secret.as_bytes());
        let name = if method == "POST" { json!({"name": "bad"}) } else { json!({}) };
        let mut body = name;
        body["kubeconfig"] = shape(good, &secret);
        seen.refused(method, path, &body).await.with_context(|| what.to_owned())?;
    }
    // The right field, and a body that is none.
    let secret = canary();
    canaries.add("a body that is no JSON", secret.as_bytes());
    let broken = format!("{{\"name\":\"bad\",\"kubeconfig\":\"token: {secret}");
    let request = seen.api.request(method, path)?.header("Content-Type", "application/json").body(broken);
    let answer = seen.api.send(request).await?;
    seen.told.push(answer.text);
    Ok(())
}

async fn bad_headers(
    kubeop: &Kubeop,
    seen: &mut Witness<'_>,
    canaries: &mut Canaries,
    canary: &mut impl FnMut() -> String,
) -> Result<()> {
    let open = kubeop.api(None)?;
    for shape in ["Bearer {}", "Basic {}", "Bearer a.{}.b", "Token {}", "{}"] {
        let secret = canary();
        canaries.add(&format!("a header {shape}"), secret.as_bytes());
        let value = shape.replace("{}", &secret);
        let answer =
            open.send(open.request("GET", "/v1/clusters")?.header("Authorization", value)).await?.expect(401)?;
        seen.told.push(answer.text);
    }
    Ok(())
}

fn token(signing: &[u8]) -> Result<String> {
    let mut command = std::process::Command::new(environment::kubeop()?);
    command
        .args(["token", "--role", "admin"])
        .env_clear()
        .env("KUBEOP_JWT_SIGNING_KEY", BASE64_STANDARD.encode(signing));
    let output = command.output().context("cannot start kubeop token")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Every column of every table, and every file of the data directory.
async fn everything_stored(kubeop: &Kubeop, database: Option<&Database>, canaries: &Canaries) -> Result<()> {
    let mut files = 0;
    for entry in fs::read_dir(kubeop.data()).into_iter().flatten() {
        let path = entry?.path();
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        canaries.absent(&path.display().to_string(), &String::from_utf8_lossy(&bytes))?;
        files += 1;
    }
    let Some(database) = database else {
        ensure!(files >= 2, "{files} files of SQLite were searched");
        return Ok(());
    };
    let mut connection = database.connect().await?;
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await?;
    ensure!(tables.len() > 20, "{tables:?}");
    for table in tables {
        let rows = AssertSqlSafe(format!("SELECT t::text FROM {table} AS t"));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut connection).await?;
        canaries.absent(&format!("table {table}"), &rows.join("\n"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_anywhere_else_over_sqlite() -> Result<()> {
    search(Setup::dev(), None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_anywhere_else_over_postgres() -> Result<()> {
    let database = Database::create().await?;
    search(Setup::dev().with("KUBEOP_DB_URL", &database.url), Some(&database)).await?;
    database.drop_it().await
}

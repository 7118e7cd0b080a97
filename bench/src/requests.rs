//! Creating and reading apps through the API, against the same statements on the bare database.

use crate::figures::line;
use crate::home::{Home, fresh, now, scope};
use crate::load::{self, Load};
use anyhow::{Context, Result};
use kubeop_core::id::AppId;
use kubeop_core::name::Label;
use kubeop_store::app::{self, App};
use kubeop_store::audit::{self, AuditRecord};
use kubeop_store::cluster_object::{self, Key, Mark, ObjectKind};
use kubeop_store::project::{self, Project};
use kubeop_store::{Conn, Store, TextMap, cluster, host_claim, issued_token, platform_policy};
use serde_json::json;

const AT_ONCE: [usize; 2] = [1, 8];

pub(crate) async fn measure(home: &mut Home, count: usize) -> Result<()> {
    let store = home.take().await?;
    let mut bare = Vec::new();
    for at_once in AT_ONCE {
        let projects = &home.projects;
        let created = load::run(count, at_once, |n| {
            let store = &store;
            let project = projects.get(n % projects.len());
            async move { create(store, project.context("a project")?, &format!("bare-{at_once}-{n}")).await }
        })
        .await?;
        let ids = sample(&store, count).await?;
        let read = load::run(count, at_once, |n| {
            let (store, id) = (&store, ids.get(n % ids.len()).copied());
            async move { read(store, id.context("an app")?).await }
        })
        .await?;
        bare.push((created, read));
    }
    let ids = sample(&store, count).await?;
    home.give_back(store).await?;
    let api = home.api()?;
    for (at_once, (created, read)) in AT_ONCE.into_iter().zip(bare) {
        let projects = &home.projects;
        let through = load::run(count, at_once, |n| {
            let (api, project) = (&api, projects.get(n % projects.len()));
            async move {
                let project = project.context("a project")?.id;
                let body = json!({"projectID": project, "name": format!("http-{at_once}-{n}"), "image": "nginx:1.25"});
                api.post("/v1/apps", &body).await?.expect(201).map(|_| ())
            }
        })
        .await?;
        compare(&format!("create an app, {at_once} at once"), &through, &created);
        let through = load::run(count, at_once, |n| {
            let (api, id) = (&api, ids.get(n % ids.len()).copied());
            async move { api.get(&format!("/v1/apps/{}", id.context("an app")?)).await?.expect(200).map(|_| ()) }
        })
        .await?;
        compare(&format!("read an app, {at_once} at once"), &through, &read);
    }
    Ok(())
}

fn compare(what: &str, through: &Load, bare: &Load) {
    let share = through.rate() / bare.rate() * 100.0;
    line(what, format!("{share:.0} % of the bare database: {:.0}/s against {:.0}/s", through.rate(), bare.rate()));
    line("", format!("through the API {}; bare {}", through.each, bare.each));
}

/// Ids of some apps.
async fn sample(store: &Store, count: usize) -> Result<Vec<AppId>> {
    let rows = u32::try_from(count.min(1000)).unwrap_or(1000);
    let mut read = store.read().await?;
    Ok(app::deliveries(&mut read.conn(), None, rows).await?.into_iter().map(|row| row.id).collect())
}

/// The statements of `GET /v1/apps/{id}`, in their order.
async fn read(store: &Store, id: AppId) -> Result<()> {
    let mut read = store.read().await?;
    issued_token::is_revoked(&mut read.conn(), "bench").await?;
    drop(read);
    let mut read = store.read().await?;
    let row = app::get(&mut read.conn(), scope(), id).await?.context("the app is gone")?;
    show(&mut read.conn(), &row).await
}

/// What an answer is put together from.
async fn show(conn: &mut Conn<'_>, row: &App) -> Result<()> {
    cluster_object::list_for_entities(conn, ObjectKind::App, &[row.id.0]).await?;
    cluster::reach(conn, &[row.cluster_id]).await?;
    project::namespaces_of(conn, &[row.project_id]).await?;
    Ok(())
}

/// The statements of `POST /v1/apps`, in their order: the app, its mark for the sync and its audit record are one transaction.
async fn create(store: &Store, project: &Project, name: &str) -> Result<()> {
    let mut read = store.read().await?;
    issued_token::is_revoked(&mut read.conn(), "bench").await?;
    drop(read);
    let mut read = store.read().await?;
    project::get(&mut read.conn(), scope(), project.id).await?;
    cluster::reach(&mut read.conn(), &[project.cluster_id]).await?;
    cluster::get(&mut read.conn(), project.cluster_id).await?;
    drop(read);
    let now = now();
    let id = fresh();
    let row = App {
        tenant_id: project.tenant_id,
        id: AppId(id),
        project_id: project.id,
        cluster_id: project.cluster_id,
        name: Label::parse(name)?,
        spec: json!({"delivery": {"image": {"ref": "docker.io/library/nginx:1.25"}}}),
        labels: TextMap::new(),
        version: 1,
        created_at: now,
        updated_at: now,
        deleting_at: None,
    };
    let mut tx = store.begin().await?;
    let conn = &mut tx.conn();
    project::lock(conn, scope(), project.id).await?;
    app::by_name(conn, scope(), project.id, name).await?;
    app::count_in_project(conn, project.tenant_id, project.id).await?;
    platform_policy::get(conn).await?;
    let _ = app::insert(conn, &row).await?;
    host_claim::of_app(conn, row.id).await?;
    let key = Key { cluster_id: row.cluster_id, kind: ObjectKind::App, entity_id: id };
    let mark = Mark { key, name: name.to_owned(), namespace: Some(project.namespace.to_string()) };
    cluster_object::mark(conn, &mark, now).await?;
    show(conn, &row).await?;
    let record = AuditRecord {
        id: fresh(),
        at: now,
        subject: "bench".to_owned(),
        role: "admin".to_owned(),
        tenant_id: Some(row.tenant_id),
        action: "create".to_owned(),
        object_kind: "app".to_owned(),
        object_id: id.to_string(),
        outcome: "done".to_owned(),
        request_id: id.to_string(),
        before_digest: None,
        after_digest: Some(format!("sha256:{}", "0".repeat(64))),
        detail: String::new(),
        seal: None,
    };
    audit::append(conn, &record).await?;
    Ok(tx.commit().await?)
}

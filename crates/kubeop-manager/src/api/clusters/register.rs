//! `POST /v1/clusters`: take in a kubeconfig, look at the cluster, keep it encrypted, and set the platform up if that is asked for.
//!
//! Invariant: nothing is stored unless the cluster answered and its credential suffices; a failing bootstrap never loses the cluster.

use super::{KIND, answer_one, check_public_server, own_labels};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::bootstrap;
use crate::events;
use crate::http::answer::Created;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::{ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::cluster::{Cluster as Answer, ClusterInput};
use kubeop_api::resource::ItemQuery;
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_cluster::probe;
use kubeop_core::id::ClusterId;
use kubeop_core::name::Label;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::{Conn, Inserted, Taken};

/// Registers a cluster.
pub async fn handle(
    caller: Caller<ManageClusters>,
    Query(query): Query<ItemQuery>,
    Body(input): Body<ClusterInput>,
) -> ApiResult<Created<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let required = |field: &str| Error::invalid(format!("{field}: is required"));
    let name = Label::parse(input.name.as_deref().ok_or_else(|| required("name"))?).map_err(|e| e.at("name"))?;
    let text = input.kubeconfig.as_deref().ok_or_else(|| required("kubeconfig"))?;
    let labels = own_labels(input.labels)?;
    let public_server = check_public_server(input.public_server.as_deref())?;
    let kubeconfig = Kubeconfig::parse(text, Intake { insecure: manager.config.insecure })?;

    let (_, client) = manager.clusters.connect(&kubeconfig).await?;
    let probe = probe::probe(&client).await.map_err(|e| e.at("kubeconfig"))?;
    kubeop_cluster::bootstrap::foreign_instance(&client, manager.instance).await?;

    let id = ClusterId(manager.ids.next());
    let now = manager.clock.now();
    let auto_bootstrap = input.auto_bootstrap.unwrap_or(false);
    let row = Cluster {
        id,
        name,
        labels,
        server: kubeconfig.server().to_string().trim_end_matches('/').to_owned(),
        cluster_uid: probe.cluster_uid,
        public_server,
        auto_bootstrap,
        install_admission: input.install_admission.unwrap_or(false),
        with_mocks: input.with_mocks.unwrap_or(false),
        version: 1,
        bootstrap_state: if auto_bootstrap { BootstrapState::Pending } else { BootstrapState::None },
        bootstrap_message: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let mut tx = caller.change().await?;
    let sealed = manager.clusters.seal(&mut tx.conn(), id, &kubeconfig).await?;
    let inserted = cluster::insert(&mut tx.conn(), &row, &sealed).await?;
    taken(&mut tx.conn(), &row, inserted).await?;
    cluster::set_seen(&mut tx.conn(), id, now).await?;
    objects::mark_policy(&mut tx.conn(), id, now).await?;
    let deed = Deed {
        verb: "create",
        kind: KIND,
        id: id.to_string(),
        after: Some(digest::of(&row)?),
        detail: row.server.clone(),
        about: events::of_cluster(&row),
        ..Deed::default()
    };
    let item = answer_one(&mut tx.conn(), row.clone()).await?;
    let created = Created { item, version: row.version, location: format!("/v1/clusters/{id}") };
    caller.commit_answered(tx, deed, &created).await?;

    if auto_bootstrap {
        bootstrap::run(manager, &row).await;
    }
    if auto_bootstrap || !wait.is_zero() {
        let (location, committed) = (created.location.clone(), created);
        let looking = async {
            settle::wait_cluster(manager, id, wait).await?;
            let mut read = caller.read().await?;
            let row = cluster::get(&mut read.conn(), id).await?.unwrap_or(row);
            Ok(Created { version: row.version, item: answer_one(&mut read.conn(), row).await?, location })
        };
        return Ok(settle::or_committed(looking.await, committed));
    }
    Ok(created)
}

async fn taken(conn: &mut Conn<'_>, row: &Cluster, inserted: Inserted) -> Result<()> {
    match inserted {
        Inserted::Yes => Ok(()),
        Inserted::Taken(Taken::ClusterUid) => {
            let existing = cluster::by_uid(conn, &row.cluster_uid).await?;
            let name =
                existing.map_or_else(|| "another name".to_owned(), |cluster| format!("{:?}", cluster.name.as_str()));
            Err(Error::conflict(format!("this API server is already registered as {name}")))
        }
        Inserted::Taken(_) => Err(Error::conflict(format!("a cluster named {:?} exists already", row.name.as_str()))),
    }
}

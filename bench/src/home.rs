//! A manager on a database of its own, that can be taken from it and given back: SQLite has one process at a time.

use anyhow::{Context, Result};
use e2e::api::Api;
use e2e::folder::Folder;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use jiff::Timestamp;
use kubeop_core::authz::{Scope, system_scope};
use kubeop_core::clock::{Clock, IdSource, SystemClock, SystemIds};
use kubeop_core::id::{ClusterId, ProjectId, TenantId};
use kubeop_core::name::Label;
use kubeop_store::cluster::{self, BootstrapState, Cluster, Sealed};
use kubeop_store::project::{self, Project};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::{Options, Store, TextMap, encryption_seed};
use std::time::Duration;
use uuid::Uuid;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The manager, its database, and what is in it.
pub(crate) struct Home {
    pub(crate) kubeop: Kubeop,
    url: String,
    database: Option<Database>,
    _folder: Folder,
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) projects: Vec<Project>,
}

impl Home {
    /// A new one with this many tenants, each with a project, on a cluster that nothing is brought to.
    pub(crate) async fn new(kind: Kind, tenants: usize) -> Result<Self> {
        let folder = Folder::new("bench")?;
        let (url, database) = match kind {
            Kind::Sqlite => (format!("sqlite://{}", folder.file("kubeop.db").display()), None),
            Kind::Postgres => {
                let database = Database::create().await?;
                (database.url.clone(), Some(database))
            }
        };
        let setup = Setup::new("manager").with_auth().with("KUBEOP_DB_URL", &url).with("RUST_LOG", "warn,kubeop=info");
        let kubeop = setup.start().await?;
        let mut home = Self { kubeop, url, database, _folder: folder, tenants: Vec::new(), projects: Vec::new() };
        let store = home.take().await?;
        home.fill(&store, tenants).await?;
        home.give_back(store).await?;
        Ok(home)
    }

    /// Ends the manager and opens its database.
    pub(crate) async fn take(&mut self) -> Result<Store> {
        self.kubeop.process().signal("TERM")?;
        self.kubeop.process().end(Duration::from_mins(1)).await?;
        let options = Options { acquire_timeout: Duration::from_mins(1), ..Options::default() };
        Store::open(&self.url, options).await.context("the manager's database")
    }

    /// Closes the database and starts the manager on it again.
    pub(crate) async fn give_back(&mut self, store: Store) -> Result<()> {
        store.close().await;
        self.kubeop.restart().await
    }

    /// The API as administrator.
    pub(crate) fn api(&self) -> Result<Api> {
        self.kubeop.api(Some(&self.kubeop.token("admin", None)?))
    }

    /// Drops its database.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.kubeop.kill();
        match self.database {
            Some(database) => database.drop_it().await,
            None => Ok(()),
        }
    }

    async fn fill(&mut self, store: &Store, tenants: usize) -> Result<()> {
        let now = now();
        let mut tx = store.begin().await?;
        let seed = encryption_seed::list(&mut tx.conn()).await?.pop().context("the manager made no seed")?;
        let on = Cluster {
            id: ClusterId(Uuid::from_u128(1)),
            name: Label::parse("bench")?,
            labels: TextMap::new(),
            server: "https://127.0.0.1:1".to_owned(),
            cluster_uid: "bench".to_owned(),
            public_server: None,
            auto_bootstrap: false,
            install_admission: false,
            with_mocks: false,
            version: 1,
            bootstrap_state: BootstrapState::None,
            bootstrap_message: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let _ = cluster::insert(&mut tx.conn(), &on, &Sealed { seed_id: seed.id, bytes: vec![0] }).await?;
        for n in 0..tenants {
            let row = Tenant {
                id: TenantId(Uuid::from_u128(0x1_0000_0000 + n as u128)),
                cluster_id: on.id,
                name: Label::parse(&format!("tenant-{n}"))?,
                quotas: TextMap::new(),
                labels: TextMap::new(),
                version: 1,
                created_at: now,
                updated_at: now,
                deleting_at: None,
                deleted_at: None,
            };
            let _ = tenant::insert(&mut tx.conn(), &row).await?;
            let under = Project {
                tenant_id: row.id,
                id: ProjectId(Uuid::from_u128(0x2_0000_0000_0000 + n as u128)),
                cluster_id: on.id,
                name: Label::parse("web")?,
                namespace: Label::parse(&format!("tenant-{n}-web"))?,
                quotas: None,
                granted: TextMap::new(),
                pod_security: "baseline".to_owned(),
                labels: TextMap::new(),
                version: 1,
                created_at: now,
                updated_at: now,
                deleting_at: None,
            };
            let _ = project::insert(&mut tx.conn(), &under).await?;
            self.projects.push(under);
            self.tenants.push(row.id);
        }
        Ok(tx.commit().await?)
    }
}

/// Everything.
pub(crate) fn scope() -> Scope {
    system_scope()
}

/// The time.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// A fresh id.
pub(crate) fn fresh() -> Uuid {
    SystemIds.next()
}

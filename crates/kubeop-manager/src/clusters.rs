//! Connections to clusters: the registered credential in the clear, for as long as it is needed, and the clients made from it.
//!
//! Invariant: a connection belongs to one version of a cluster's row; a changed kubeconfig makes a new one.

use crate::vault::{Place, Seed};
use kube::Client;
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::client::{ServiceAccountName, as_service_account, connect};
use kubeop_cluster::gateway;
use kubeop_cluster::kubeconfig::Kubeconfig;
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::Store;
use kubeop_store::cluster::{self, Cluster, Sealed};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The open seeds: the newest encrypts, each decrypts what it encrypted.
pub struct Keyring {
    seeds: Vec<Seed>,
}

impl Keyring {
    /// A keyring of these seeds, newest last.
    pub fn new(seeds: Vec<Seed>) -> Self {
        Self { seeds }
    }

    /// Encrypts a kubeconfig for its row.
    pub fn seal(&self, cluster: ClusterId, kubeconfig: &Kubeconfig) -> Result<Sealed> {
        let (seed_id, bytes) = self.seal_for(&place(cluster), &kubeconfig.to_bytes())?;
        Ok(Sealed { bytes, seed_id })
    }

    /// Encrypts a value for its place; with the id of the seed that opens it.
    pub fn seal_for(&self, place: &Place<'_>, plain: &[u8]) -> Result<(Uuid, Vec<u8>)> {
        let seed = self.newest()?;
        Ok((seed.id, seed.seal(place, plain)?))
    }

    /// Decrypts a value of its place.
    pub fn open_from(&self, place: &Place<'_>, seed: Uuid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.seed(seed)?.open(place, sealed)
    }

    /// The seed that encrypts.
    pub fn newest(&self) -> Result<&Seed> {
        self.seeds.last().ok_or_else(|| Error::internal("no encryption seed"))
    }

    /// The seed of this id.
    pub fn seed(&self, id: Uuid) -> Result<&Seed> {
        let known = self.seeds.iter().find(|known| known.id == id);
        known.ok_or_else(|| Error::internal(format!("encryption seed {id} is not known")))
    }

    fn open(&self, cluster: ClusterId, sealed: &Sealed) -> Result<Kubeconfig> {
        Kubeconfig::from_bytes(&self.open_from(&place(cluster), sealed.seed_id, &sealed.bytes)?)
    }
}

fn place(cluster: ClusterId) -> Place<'static> {
    Place { table: "cluster", column: "kubeconfig", row: cluster.0 }
}

/// What is needed to talk to one cluster.
pub struct Connection {
    version: i64,
    /// The registered kubeconfig, perhaps by way of the gateway.
    pub kubeconfig: Kubeconfig,
    /// A client with the registered credential: for registration, bootstrap and uninstalling only.
    pub registered: Client,
    manager: OnceCell<Client>,
}

impl Connection {
    /// A client as ServiceAccount `kubeop-manager`, which bootstrap makes: for all but registration and bootstrap.
    pub async fn manager(&self) -> Result<Client> {
        let policy = AddressPolicy::default();
        let make =
            || as_service_account(&self.kubeconfig, &policy, self.registered.clone(), ServiceAccountName::Manager);
        self.manager.get_or_try_init(make).await.cloned()
    }
}

/// All connections, by cluster.
pub struct Clusters {
    keyring: Keyring,
    gateway: Option<String>,
    open: Mutex<HashMap<ClusterId, Arc<Connection>>>,
}

impl Clusters {
    /// No connections yet. `gateway`: where loopback servers are looked for if loopback does not answer.
    pub fn new(keyring: Keyring, gateway: Option<String>) -> Self {
        Self { keyring, gateway, open: Mutex::new(HashMap::new()) }
    }

    /// The keyring.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The kubeconfig to connect with from here; what is stored is the registered one, since the next process may run elsewhere.
    pub async fn route(&self, kubeconfig: Kubeconfig) -> Result<Kubeconfig> {
        gateway::route(kubeconfig, self.gateway.as_deref()).await
    }

    /// The connection to a cluster as its row describes it. Does not talk to it yet.
    pub async fn get(&self, store: &Store, row: &Cluster) -> Result<Arc<Connection>> {
        if let Some(connection) = self.lock().get(&row.id).filter(|open| open.version == row.version) {
            return Ok(Arc::clone(connection));
        }
        let sealed = cluster::kubeconfig(&mut store.read().await?.conn(), row.id).await?;
        let sealed = sealed.ok_or_else(|| Error::not_found("the cluster is not registered any more"))?;
        let kubeconfig = self.route(self.keyring.open(row.id, &sealed)?).await?;
        let registered = connect(&kubeconfig, &AddressPolicy::default())?;
        let connection =
            Arc::new(Connection { version: row.version, kubeconfig, registered, manager: OnceCell::new() });
        self.lock().insert(row.id, Arc::clone(&connection));
        Ok(connection)
    }

    /// Forgets the connection to a cluster.
    pub fn forget(&self, id: ClusterId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

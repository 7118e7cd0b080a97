//! Connections to clusters: the registered credential in the clear, for as long as it is needed, and the clients made from it.
//!
//! Invariant: a connection belongs to one version of a cluster's row; a changed kubeconfig makes a new one.

use crate::keys::{Keyring, sealed};
use kube::Client;
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::client::{ServiceAccountName, as_service_account, connect};
use kubeop_cluster::gateway;
use kubeop_cluster::kubeconfig::Kubeconfig;
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, Cluster, Sealed};
use kubeop_store::{Conn, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, OwnedMutexGuard};

/// What is needed to talk to one cluster.
pub struct Connection {
    version: i64,
    policy: AddressPolicy,
    /// The registered kubeconfig, perhaps by way of the gateway.
    pub kubeconfig: Kubeconfig,
    /// A client with the registered credential: for registration, bootstrap and uninstalling only.
    pub registered: Client,
    manager: OnceCell<Client>,
}

impl Connection {
    /// A client as ServiceAccount `kubeop-manager`, which bootstrap makes: for all but registration and bootstrap.
    pub async fn manager(&self) -> Result<Client> {
        let registered = || self.registered.clone();
        let make = || as_service_account(&self.kubeconfig, &self.policy, registered(), ServiceAccountName::Manager);
        self.manager.get_or_try_init(make).await.cloned()
    }
}

/// All connections, by cluster.
pub struct Clusters {
    keyring: Keyring,
    policy: AddressPolicy,
    gateway: Option<String>,
    open: Mutex<HashMap<ClusterId, Arc<Connection>>>,
    installing: Mutex<HashMap<ClusterId, Arc<Alone>>>,
}

/// Who installs on a cluster, or removes from it.
type Alone = tokio::sync::Mutex<()>;

impl Clusters {
    /// No connections yet. `policy`: the addresses servers may have; `gateway`: where loopback servers are looked for if loopback does not answer.
    pub fn new(keyring: Keyring, policy: AddressPolicy, gateway: Option<String>) -> Self {
        Self { keyring, policy, gateway, open: Mutex::default(), installing: Mutex::default() }
    }

    /// The keyring.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Encrypts a kubeconfig for its row; to be written in the same transaction.
    pub async fn seal(&self, c: &mut Conn<'_>, cluster: ClusterId, kubeconfig: &Kubeconfig) -> Result<Sealed> {
        let place = sealed::kubeconfig(&cluster);
        let (seed_id, bytes) = self.keyring.seal(c, &place, &kubeconfig.to_bytes()).await?;
        Ok(Sealed { bytes, seed_id })
    }

    /// A client for a kubeconfig, and the kubeconfig as it leads there from here: what is stored is the given one, since the next process may
    /// run elsewhere. Refuses addresses that the policy does not allow before anything is connected to.
    pub async fn connect(&self, kubeconfig: &Kubeconfig) -> Result<(Kubeconfig, Client)> {
        let kubeconfig = gateway::local(kubeconfig, self.gateway.as_deref())?;
        kubeconfig.check_address(&self.policy)?;
        let routed = gateway::route(kubeconfig, self.gateway.as_deref()).await?;
        let client = connect(&routed, &self.policy)?;
        Ok((routed, client))
    }

    /// The connection to a cluster as its row describes it. Does not talk to it yet.
    pub async fn get(&self, store: &Store, row: &Cluster) -> Result<Arc<Connection>> {
        if let Some(connection) = self.lock().get(&row.id).filter(|open| open.version == row.version) {
            return Ok(Arc::clone(connection));
        }
        let registered = self.registered(store, row.id).await?;
        let (kubeconfig, registered) = self.connect(&registered).await?;
        let (version, policy) = (row.version, self.policy.clone());
        let connection = Arc::new(Connection { version, policy, kubeconfig, registered, manager: OnceCell::new() });
        self.lock().insert(row.id, Arc::clone(&connection));
        Ok(connection)
    }

    async fn registered(&self, store: &Store, id: ClusterId) -> Result<Kubeconfig> {
        let mut read = store.read().await?;
        let sealed = cluster::kubeconfig(&mut read.conn(), id).await?;
        let sealed = sealed.ok_or_else(|| Error::not_found("the cluster is not registered any more"))?;
        let place = sealed::kubeconfig(&id);
        let plain = self.keyring.open(&mut read.conn(), &place, sealed.seed_id, &sealed.bytes).await?;
        Kubeconfig::from_bytes(&plain)
    }

    /// Forgets the connection to a cluster.
    pub fn forget(&self, id: ClusterId) {
        self.lock().remove(&id);
        self.installing.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Waits until nobody in this process installs on a cluster or removes from it; nobody else does until the guard is dropped.
    pub async fn alone(&self, id: ClusterId) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.installing.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default());
        turn.lock_owned().await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The harness of the end-to-end tests: real control planes, real `kubeop` processes, stock kubectl and curl.
//!
//! Invariant: whatever a test starts ends with the test process, however that ends; every wait is bounded and says what it saw last.

pub mod api;
pub mod api_server;
pub mod control_plane;
pub mod dump;
pub mod environment;
pub mod faults;
pub mod folder;
pub mod forest;
pub mod gate;
pub mod go;
pub mod helm;
pub mod inventory;
pub mod kubectl;
pub mod kubeop;
pub mod leftovers;
pub mod node;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod reviews;
pub mod scenario;
pub mod script;
pub mod supervised;
pub mod wait;
pub mod world;

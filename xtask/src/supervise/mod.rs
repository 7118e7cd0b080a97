//! Programs that never outlive whoever started them, also when that one is killed with SIGKILL.
//!
//! Three nets, each of which holds alone:
//! 1. A supervisor process (`xtask cluster run`, `postgres run`, `supervise`) reads a pipe whose other end only its parent holds; end of file means the
//!    parent is gone, and the supervisor ends its programs and removes its directory ([`lifeline`], [`children`], [`workdir`]).
//! 2. On Linux each program asks the kernel to be killed with the supervisor ([`tied`]).
//! 3. Whatever is left by a supervisor that was itself killed is swept by the next start ([`workdir::sweep`]), also what it made outside of its
//!    directory ([`leftovers`]).

pub(crate) mod children;
pub(crate) mod guard;
pub(crate) mod held;
pub(crate) mod leftovers;
pub(crate) mod lifeline;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod tied;
pub(crate) mod workdir;

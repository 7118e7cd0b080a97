//! The kubeOP executable.
fn main() {}

//! Version `v1alpha1`, one file a kind.
//!
//! Invariant: a field is optional in Rust wherever the schema lets it be absent.

#![expect(unreachable_pub, reason = "kube's KubeSchema derive makes `pub` structs inside function bodies")]
#![expect(
    clippy::duplicated_attributes,
    reason = "the columns of a kind repeat `type_` and `priority`; clippy reads them as one attribute"
)]
#![expect(clippy::doc_markdown, reason = "the comments are the descriptions that `kubectl explain` shows")]
#![expect(clippy::struct_field_names, reason = "the fields are named by the contract")]

pub mod app;
pub mod certificate;
pub mod dns_record;
pub mod owner;
pub mod policy;
pub mod project;
pub mod tenant;

pub use app::{App, AppSpec, AppStatus};
pub use certificate::{Certificate, CertificateSpec, CertificateStatus};
pub use dns_record::{DnsRecord, DnsRecordSpec, DnsRecordStatus};
pub use owner::Owner;
pub use policy::{Policy, PolicySpec, PolicyStatus};
pub use project::{PodSecurity, Project, ProjectSpec, ProjectStatus};
pub use tenant::{Tenant, TenantSpec, TenantStatus};

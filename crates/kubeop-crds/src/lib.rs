//! The custom resources of kubeOP, group `platform.kubeop.io`, with their conditions, reasons, labels and annotations.
//!
//! Invariant: whatever the API server admits by these schemas deserializes into these types, so that one odd object never stops a watch.

pub mod amount;
pub mod conditions;
pub mod labels;
mod strict;
pub mod v1alpha1;

pub use amount::{Amount, amounts};
pub use v1alpha1::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind.
pub const GROUP: &str = "platform.kubeop.io";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every kind.
pub const API_VERSION: &str = "platform.kubeop.io/v1alpha1";

/// The definitions of all kinds, always in this order: parents before children.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![Tenant::crd(), Project::crd(), App::crd(), Policy::crd(), DnsRecord::crd(), Certificate::crd()];
    for crd in &mut crds {
        let names = crd.metadata.labels.get_or_insert_default();
        names.insert(labels::PART_OF.to_owned(), labels::PART_OF_KUBEOP.to_owned());
    }
    crds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_status_columns_short_name_category_and_descriptions() {
        for crd in all() {
            let names = &crd.spec.names;
            assert_eq!(names.categories.as_deref(), Some(&["kubeop".to_owned()][..]), "{}", names.kind);
            assert!(names.short_names.as_ref().is_some_and(|short| !short.is_empty()), "{}", names.kind);
            let [version] = crd.spec.versions.as_slice() else { panic!("one version is served") };
            assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()), "{}", names.kind);
            let columns = version.additional_printer_columns.as_ref().unwrap();
            for wanted in ["Ready", "Reason", "Age"] {
                assert!(columns.iter().any(|column| column.name == wanted), "{} lacks {wanted}", names.kind);
            }
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let mut undescribed = Vec::new();
            undocumented(&names.kind, schema, &mut undescribed);
            assert!(undescribed.is_empty(), "no description: {undescribed:?}");
        }
    }

    fn undocumented(
        path: &str,
        schema: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
        into: &mut Vec<String>,
    ) {
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if property.description.is_none() && !matches!(name.as_str(), "spec" | "status" | "metadata") {
                into.push(path.clone());
            }
            undocumented(&path, property, into);
        }
    }
}

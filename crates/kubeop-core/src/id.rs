//! Identifiers of the entities, one type each, so that a project's id cannot be passed where a tenant's is meant.
//!
//! Invariant: an id is a UUID in its hyphenated lower-case form; kubeOP makes version 7. The nil UUID is nobody's: where the database keeps "none", it
//! keeps it.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            #[doc = concat!("Parses the id of a ", $noun, ", which is not nil; 400 that names the value otherwise.")]
            pub fn parse(text: &str) -> Result<Self> {
                match Uuid::try_parse(text) {
                    Ok(id) if id.is_nil() => Err(Error::invalid(format!(
                        concat!("{:?} is not a ", $noun, " id: the nil UUID stands for none"),
                        shorten(text)
                    ))),
                    Ok(id) => Ok(Self(id)),
                    Err(_) => {
                        Err(Error::invalid(format!(concat!("{:?} is not a ", $noun, " id: a UUID is needed"), shorten(text))))
                    }
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A registered cluster.
    ClusterId = "cluster";
    /// A tenant.
    TenantId = "tenant";
    /// A project.
    ProjectId = "project";
    /// An app.
    AppId = "app";
    /// An issued kubeconfig.
    KubeconfigId = "kubeconfig";
    /// This installation of the manager (one per database).
    InstanceId = "instance";
}

/// At most 80 characters of a caller's text, for messages.
pub fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the ledger of usage it would be a sample that names no project.
    #[test]
    fn the_nil_uuid_is_no_id_of_anything() {
        let nil = Uuid::nil();
        for text in [nil.to_string(), nil.simple().to_string(), nil.urn().to_string()] {
            let refused = ProjectId::parse(&text).unwrap_err();
            assert_eq!(refused.message(), format!("{text:?} is not a project id: the nil UUID stands for none"));
            assert!(
                TenantId::parse(&text).is_err() && ClusterId::parse(&text).is_err() && AppId::parse(&text).is_err()
            );
        }
        assert!(ProjectId::parse("00000000-0000-0000-0000-000000000001").is_ok());
    }
}

//! Reads an object of a watch so that one that cannot be understood spoils no other.
//!
//! A list or watch fails as a whole when one of its objects has a field of the wrong type. This
//! reads such an object as its metadata and the name of the field, so that its owner can be told.
//! (kube has `DeserializeGuard` for this, which does not know the field.)

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or why it is none.
#[derive(Clone, Debug)]
pub(super) struct Lenient<K>(pub(super) Result<K, Unreadable>);

/// An object that has a field of the wrong type.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    /// Its metadata, as far as it could be read.
    pub(super) metadata: ObjectMeta,
    /// Path of the field, such as `spec.rules[0].host`.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) message: String,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    /// Errors only when the object has no readable name: then nobody could be told.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Self(Ok(object)));
        }
        match serde_path_to_error::deserialize::<_, K>(&value) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => Ok(Self(Err(Unreadable {
                metadata: named(&value).map_err(D::Error::custom)?,
                field: error.path().to_string(),
                message: error.inner().to_string(),
            }))),
        }
    }
}

/// The metadata of an object, or as much of it as names the object.
fn named(value: &Value) -> Result<ObjectMeta, serde_json::Error> {
    let metadata = &value["metadata"];
    ObjectMeta::deserialize(metadata).or_else(|error| {
        let text = |key| metadata[key].as_str().map(str::to_owned);
        if text("name").is_none() {
            return Err(error);
        }
        Ok(ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        })
    })
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::Ingress;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_broken_object_of_a_list_spoils_no_other() {
        let list = json!({
            "metadata": {},
            "items": [
                { "metadata": { "name": "good", "namespace": "shop" } },
                { "metadata": { "name": "bad", "namespace": "shop" },
                  "spec": { "rules": [{ "host": 7 }] } },
                { "metadata": { "name": "odd", "namespace": "shop", "labels": 3 } },
                { "metadata": { "name": "fine", "namespace": "shop" } },
            ],
        });
        let list: ObjectList<Lenient<Ingress>> = serde_json::from_value(list).unwrap();
        let names: Vec<_> = (list.items.iter())
            .map(|item| (item.meta().name.as_deref().unwrap(), item.0.is_ok()))
            .collect();
        assert_eq!(
            names,
            [
                ("good", true),
                ("bad", false),
                ("odd", false),
                ("fine", true)
            ]
        );
        let unreadable = list.items[1].0.as_ref().unwrap_err();
        assert_eq!(unreadable.field, "spec.rules[0].host");
        assert!(
            unreadable.message.contains("string"),
            "{}",
            unreadable.message
        );
        assert_eq!(unreadable.metadata.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn missing_fields_are_empty_ones() {
        let ingress = json!({
            "metadata": { "name": "thin" },
            "spec": { "rules": [{ "http": { "paths": [{ "path": "/" }] } }] },
        });
        let read: Lenient<Ingress> = serde_json::from_value(ingress).unwrap();
        assert!(
            read.0.is_ok(),
            "the API's types have defaults for all of their fields"
        );
    }
}

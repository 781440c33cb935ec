//! The state that nodes share, as the leader has it: read once, written with each change.

use std::sync::Arc;

use anyhow::Result;
use ingress_core::acme::{STATE_KEY, State};
use ingress_core::ir::ObjectRef;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Mutex;
use tracing::warn;

use super::store::Store;

/// The Secret of challenges, failures and recent orders.
pub(super) struct Board {
    store: Arc<Store>,
    place: ObjectRef,
    /// `None` unless this node leads and has read it.
    current: Mutex<Option<Current>>,
}

struct Current {
    state: State,
    secret: Secret,
}

impl Board {
    pub(super) fn new(store: Arc<Store>, place: ObjectRef) -> Self {
        Self {
            store,
            place,
            current: Mutex::default(),
        }
    }

    /// The state; it is read if it is not there yet.
    pub(super) async fn state(&self) -> Result<State> {
        let mut current = self.current.lock().await;
        Ok(self.loaded(&mut current).await?.state.clone())
    }

    async fn loaded<'a>(&self, current: &'a mut Option<Current>) -> Result<&'a mut Current> {
        if let Some(current) = current {
            return Ok(current);
        }
        let ObjectRef {
            namespace, name, ..
        } = &self.place;
        let found = self.store.get(namespace, name).await?;
        let secret = found.unwrap_or_else(|| secret_of(&self.place, OPAQUE));
        let has_data = secret.data.is_some();
        let state = State::read(&secret).unwrap_or_else(|error| {
            if has_data {
                warn!(secret = %self.place, %error, "orders start without a history");
            }
            State::default()
        });
        Ok(current.insert(Current { state, secret }))
    }

    /// Changes the state and writes it.
    ///
    /// # Errors
    ///
    /// An error if it cannot be written, or if another writer changed it meanwhile. The next call reads it
    /// again.
    pub(super) async fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut guard = self.current.lock().await;
        let current = self.loaded(&mut guard).await?;
        let mut state = current.state.clone();
        let result = change(&mut state);
        if state == current.state {
            return Ok(result);
        }
        let mut secret = current.secret.clone();
        let value = ByteString(state.write());
        secret.data = Some([(STATE_KEY.to_owned(), value)].into());
        match self.store.put(secret).await {
            Ok(secret) => {
                *current = Current { state, secret };
                Ok(result)
            }
            Err(error) => {
                *guard = None;
                Err(error)
            }
        }
    }

    /// Forgets the state that was read, because another node leads.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }
}

/// A Secret that Sluice makes, without contents.
pub(super) fn secret_of(place: &ObjectRef, kind: &str) -> Secret {
    let label = ("app.kubernetes.io/managed-by", "sluice");
    let label = [label].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Secret {
        metadata: ObjectMeta {
            namespace: Some(place.namespace.to_string()),
            name: Some(place.name.to_string()),
            labels: Some(label.into()),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        ..Secret::default()
    }
}

/// The type of Secrets for the daemon's own use.
pub(super) const OPAQUE: &str = "Opaque";

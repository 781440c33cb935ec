//! The account at an issuer: made once, its key kept in a Secret of the daemon's namespace.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ingress_core::ir::ObjectRef;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;
use tracing::info;

use super::board::{OPAQUE, secret_of};
use super::http::Http;
use super::issuer::Issuer;
use super::store::Store;

/// The accounts at all issuers.
pub(super) struct Accounts {
    store: Arc<Store>,
    place: ObjectRef,
    /// Those that were opened. Of two orders, one makes the account.
    open: Mutex<HashMap<Arc<str>, Account>>,
}

/// An account in the Secret.
#[derive(Serialize, Deserialize)]
struct Stored {
    directory: String,
    contacts: Vec<String>,
    credentials: Value,
}

impl Accounts {
    pub(super) fn new(store: Arc<Store>, place: ObjectRef) -> Self {
        Self {
            store,
            place,
            open: Mutex::default(),
        }
    }

    /// The account at an issuer. Creates it if the Secret has none for this directory.
    pub(super) async fn open(&self, issuer: &Issuer, http: &Http) -> Result<Account> {
        let mut open = self.open.lock().await;
        if let Some(account) = open.get(&issuer.name) {
            return Ok(account.clone());
        }
        let account = self.load_or_make(issuer, http).await?;
        open.insert(Arc::clone(&issuer.name), account.clone());
        Ok(account)
    }

    async fn load_or_make(&self, issuer: &Issuer, http: &Http) -> Result<Account> {
        let ObjectRef {
            namespace, name, ..
        } = &self.place;
        let found = self.store.get(namespace, name).await?;
        let mut secret = found.unwrap_or_else(|| secret_of(&self.place, OPAQUE));
        let key = format!("{}.json", issuer.name);
        let data = secret.data.get_or_insert_default();
        let stored = data.get(&key).map(|value| serde_json::from_slice(&value.0));
        let stored: Option<Stored> = stored
            .transpose()
            .with_context(|| format!("`{key}` of {} cannot be read", self.place))?;
        let stored = stored.filter(|stored| stored.directory == issuer.directory);
        let (account, stored) = match stored {
            Some(stored) => {
                let credentials = AccountCredentials::deserialize(&stored.credentials)?;
                let builder = Account::builder_with_http(Box::new(http.clone()));
                let account = builder.from_credentials(credentials).await?;
                if stored.contacts == issuer.contacts {
                    return Ok(account);
                }
                account.update_contacts(&contacts(issuer)).await?;
                let contacts = issuer.contacts.clone();
                (account, Stored { contacts, ..stored })
            }
            None => create(issuer, http).await?,
        };
        data.insert(key, ByteString(serde_json::to_vec(&stored)?));
        self.store.put(secret).await?;
        Ok(account)
    }

    /// Forgets an account that its issuer does not know any more.
    pub(super) async fn forget(&self, issuer: &Issuer) -> Result<()> {
        let mut open = self.open.lock().await;
        let Some(account) = open.remove(&issuer.name) else {
            return Ok(());
        };
        let ObjectRef {
            namespace, name, ..
        } = &self.place;
        let Some(mut secret) = self.store.get(namespace, name).await? else {
            return Ok(());
        };
        let key = format!("{}.json", issuer.name);
        let data = secret.data.get_or_insert_default();
        let stored = data.get(&key);
        let stored = stored.and_then(|value| serde_json::from_slice::<Stored>(&value.0).ok());
        // Another node may have made a new one already.
        if stored.is_some_and(|stored| stored.credentials["id"] == account.id()) {
            data.remove(&key);
            self.store.put(secret).await?;
        }
        Ok(())
    }
}

async fn create(issuer: &Issuer, http: &Http) -> Result<(Account, Stored)> {
    let external = issuer.external_account.as_ref();
    let external = external.map(|(id, file)| {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("failed to read `{name}`"))?;
        let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
        let key = key.with_context(|| format!("`{name}` has no key in base64url"))?;
        anyhow::Ok(ExternalAccountKey::new(id.clone(), &key))
    });
    let external = external.transpose()?;
    let contacts = contacts(issuer);
    let account = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let directory = issuer.directory.clone();
    let made = builder.create(&account, directory, external.as_ref()).await;
    let (account, credentials) = made.context("failed to make an account")?;
    info!(issuer = %issuer.name, account = account.id(), "made an ACME account");
    let stored = Stored {
        directory: issuer.directory.clone(),
        contacts: issuer.contacts.clone(),
        credentials: serde_json::to_value(&credentials)?,
    };
    Ok((account, stored))
}

fn contacts(issuer: &Issuer) -> Vec<&str> {
    issuer.contacts.iter().map(String::as_str).collect()
}

/// Whether an error says that the issuer does not know the account.
pub(super) fn is_unknown_account(error: &anyhow::Error) -> bool {
    problem_type(error) == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// The type of the problem that an issuer answered with (RFC 8555 §6.7).
pub(super) fn problem_type(error: &anyhow::Error) -> Option<&str> {
    let mut causes = error.chain();
    let error = causes.find_map(|error| error.downcast_ref::<Error>())?;
    let Error::Api(problem) = error else {
        return None;
    };
    problem.r#type.as_deref()
}

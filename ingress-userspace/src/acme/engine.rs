//! The leader's loop: finds the orders that are due, makes a few at a time, and records their outcomes.
//!
//! Failed orders postpone themselves alone. An issuer's limits postpone its orders; renewals and
//! namespaces with few orders come first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ingress_core::acme::{
    ISSUER_MARK, Limits, RENEWAL_MARK, State, Step, Wanted, decide, mark, time_text,
};
use ingress_core::ir::ObjectRef;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::account::{Accounts, is_unknown_account};
use super::ari::{self, Suggestion};
use super::board::{Board, secret_of};
use super::held::{self, Certificate};
use super::http::Http;
use super::issuer::Issuer;
use super::order::{Issued, Terms};
use super::store::Store;
use super::{ACCOUNTS, Input, Settings, now};

/// Orders certificates while this node leads.
pub(super) struct Engine {
    desk: Arc<Desk>,
    input: watch::Receiver<Option<Input>>,
    leading: watch::Receiver<bool>,
    /// Orders under way.
    orders: JoinSet<Option<Certificate>>,
    /// The wanted certificate of each.
    ordered: HashMap<Id, Wanted>,
    /// The request for renewal information that is under way; it returns the key of its Secret.
    question: JoinSet<(String, Suggestion)>,
    suggestions: HashMap<String, Suggestion>,
    /// Certificates just issued, and when, until they are seen in their Secrets.
    fresh: HashMap<String, (Certificate, i64)>,
    /// Certificates that were read, by the key of their Secret.
    read: HashMap<String, (Arc<Secret>, Option<Certificate>)>,
}

/// The parts that all orders share.
struct Desk {
    issuers: BTreeMap<Arc<str>, (Issuer, Http)>,
    store: Arc<Store>,
    accounts: Accounts,
    board: Board,
    limits: Limits,
    input: watch::Receiver<Option<Input>>,
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        store: Arc<Store>,
        input: watch::Receiver<Option<Input>>,
        leading: watch::Receiver<bool>,
    ) -> Result<Self> {
        let Settings {
            issuers,
            state,
            limits,
        } = settings;
        let accounts = ObjectRef {
            name: ACCOUNTS.into(),
            ..state.clone()
        };
        let client = |issuer: Issuer| {
            let http = Http::new(issuer.ca_file.as_deref())
                .with_context(|| format!("ACME issuer `{}` cannot be used", issuer.name))?;
            Ok((Arc::clone(&issuer.name), (issuer, http)))
        };
        Ok(Self {
            desk: Arc::new(Desk {
                issuers: issuers.into_iter().map(client).collect::<Result<_>>()?,
                accounts: Accounts::new(Arc::clone(&store), accounts),
                board: Board::new(Arc::clone(&store), state),
                store,
                limits,
                input: input.clone(),
            }),
            input,
            leading,
            orders: JoinSet::new(),
            ordered: HashMap::new(),
            question: JoinSet::new(),
            suggestions: HashMap::new(),
            fresh: HashMap::new(),
            read: HashMap::new(),
        })
    }

    /// Runs until the daemon ends.
    pub(super) async fn run(mut self) {
        loop {
            let pause = if *self.leading.borrow_and_update() {
                self.turn_or_log().await
            } else {
                self.stand_down().await;
                TURN_MAX
            };
            tokio::select! {
                changed = self.input.changed() => if changed.is_err() { return },
                changed = self.leading.changed() => if changed.is_err() { return },
                Some(ended) = self.orders.join_next_with_id() => self.note_end(ended).await,
                Some(answer) = self.question.join_next() => {
                    if let Ok((key, suggestion)) = answer {
                        self.suggestions.insert(key, suggestion);
                    }
                }
                () = sleep(pause) => {}
            }
        }
    }

    async fn turn_or_log(&mut self) -> Duration {
        match self.turn().await {
            Ok(next) => {
                let seconds = next.saturating_sub(now()).max(0);
                let seconds = u64::try_from(seconds).unwrap_or(0);
                Duration::from_secs(seconds).clamp(TURN_MIN, TURN_MAX)
            }
            Err(error) => {
                let error = format!("{error:#}");
                warn!(
                    error,
                    "the state of ACME orders can't be read or written; trying again"
                );
                ERROR_PAUSE
            }
        }
    }

    /// Starts the orders that are due. Returns the time of the next look, in seconds since 1970.
    async fn turn(&mut self) -> Result<i64> {
        let input = self.input.borrow_and_update().clone();
        // Before the first observation nothing is known to be wanted, nor not to be.
        let Some(Input {
            wanted, secrets, ..
        }) = input
        else {
            return Ok(i64::MAX);
        };
        let now = now();
        let mut state = self.desk.board.state().await?;
        self.desk
            .board
            .change(|state| state.tidy(&wanted, now))
            .await?;
        let by_key: HashMap<String, &Arc<Secret>> =
            secrets.iter().map(|one| (key(one), one)).collect();
        let running: HashSet<String> = self.ordered.values().map(Wanted::key).collect();
        let keys: HashSet<String> = wanted.iter().map(Wanted::key).collect();
        self.read.retain(|key, _| keys.contains(key));
        self.suggestions.retain(|key, _| keys.contains(key));
        self.fresh.retain(|key, _| keys.contains(key));
        let mut next = i64::MAX;
        let mut due = Vec::new();
        let mut asked = None;
        for wanted in &*wanted {
            let key = wanted.key();
            let secret = by_key.get(&key).copied();
            let is_foreign = secret.is_some_and(|one| mark(one, ISSUER_MARK).is_none());
            if is_foreign || running.contains(&key) {
                continue;
            }
            let certificate = secret.and_then(|secret| self.certificate(&key, secret));
            let certificate = self.newest(&key, certificate, now);
            let held = certificate.as_ref().map(|certificate| &certificate.held);
            match decide(wanted, held, state.failure(wanted), now) {
                Step::Order => due.push((wanted, certificate)),
                Step::Wait(at) => {
                    next = next.min(at);
                    let is_good = state.failure(wanted).is_none();
                    if let Some(certificate) = certificate.filter(|_| is_good && asked.is_none())
                        && self.is_question_due(&key, &certificate, now)
                    {
                        asked = Some((wanted.clone(), certificate));
                    }
                }
            }
        }
        if let Some((wanted, certificate)) = asked.filter(|_| self.question.is_empty()) {
            self.ask(wanted, certificate);
        }
        let rank = |state: &State, (wanted, certificate): &(&Wanted, Option<Certificate>)| {
            let failures = state.failure(wanted).map_or(0, |failure| failure.attempts);
            (certificate.is_none(), failures, state.recent_orders(wanted))
        };
        while self.ordered.len() < ORDERS_MAX {
            let allowed = due.iter().enumerate().filter(|(_, (wanted, _))| {
                let at = self.desk.next_order(&state, wanted, now);
                next = next.min(at.max(now + 1));
                at <= now
            });
            let first = allowed.min_by_key(|(_, one)| rank(&state, one));
            let Some((index, _)) = first else { break };
            let (wanted, certificate) = due.swap_remove(index);
            let board = &self.desk.board;
            board.change(|state| state.ordered(wanted, now)).await?;
            state = board.state().await?;
            self.start(wanted.clone(), certificate);
        }
        Ok(next)
    }

    fn start(&mut self, wanted: Wanted, certificate: Option<Certificate>) {
        let hosts: Vec<_> = wanted.hosts.iter().map(ToString::to_string).collect();
        info!(
            issuer = %wanted.issuer, secret = %wanted.secret, hosts = hosts.join(","),
            renews = certificate.is_some(), "ordering a certificate"
        );
        let desk = Arc::clone(&self.desk);
        let ordered = wanted.clone();
        let task = self.orders.spawn(async move {
            let mut tokens = Vec::new();
            let outcome = desk.order(&ordered, certificate, &mut tokens).await;
            desk.close(&ordered, outcome, &tokens).await
        });
        self.ordered.insert(task.id(), wanted);
    }

    fn ask(&mut self, wanted: Wanted, certificate: Certificate) {
        let Some(identifier) = certificate.identifier.clone() else {
            return;
        };
        let desk = Arc::clone(&self.desk);
        self.question.spawn(async move {
            let asking = desk.suggestion(&wanted, &certificate, &identifier);
            let next = match asking.await {
                Ok(patience) => now().saturating_add(patience),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::debug!(secret = %wanted.secret, error, "no renewal information");
                    ari::after_error()
                }
            };
            (wanted.key(), Suggestion { identifier, next })
        });
    }

    fn is_question_due(&self, key: &str, certificate: &Certificate, now: i64) -> bool {
        let known = self.suggestions.get(key);
        let known =
            known.filter(|known| Some(&known.identifier) == certificate.identifier.as_ref());
        certificate.identifier.is_some() && known.is_none_or(|known| known.next <= now)
    }

    /// The certificate in a Secret, read once for each version.
    fn certificate(&mut self, key: &str, secret: &Arc<Secret>) -> Option<Certificate> {
        if let Some((known, certificate)) = self.read.get(key)
            && Arc::ptr_eq(known, secret)
        {
            return certificate.clone();
        }
        let certificate = held::read(secret);
        let entry = (Arc::clone(secret), certificate.clone());
        self.read.insert(key.to_owned(), entry);
        certificate
    }

    /// The certificate in the Secret, or the one just issued for it: the watch takes a while to show that.
    fn newest(&mut self, key: &str, seen: Option<Certificate>, now: i64) -> Option<Certificate> {
        let Some((fresh, since)) = self.fresh.get(key) else {
            return seen;
        };
        let is_seen = seen.as_ref().is_some_and(|seen| seen.is_same(fresh));
        if is_seen || *since < now.saturating_sub(FRESH_MAX) {
            self.fresh.remove(key);
            return seen;
        }
        Some(fresh.clone())
    }

    async fn note_end(&mut self, ended: Result<(Id, Option<Certificate>), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(wanted) = self.ordered.remove(&id) else {
            return;
        };
        match ended {
            Ok((_, Some(certificate))) => {
                self.fresh.insert(wanted.key(), (certificate, now()));
            }
            // An order that panicked has noted nothing of itself.
            Err(error) if error.is_panic() => {
                let failure = Err(anyhow!("internal error"));
                self.desk.close(&wanted, failure, &[]).await;
            }
            Ok((_, None)) | Err(_) => {}
        }
    }

    /// Another node orders.
    async fn stand_down(&mut self) {
        self.orders.abort_all();
        self.question.abort_all();
        while self.orders.join_next().await.is_some() {}
        while self.question.join_next().await.is_some() {}
        self.ordered.clear();
        self.suggestions.clear();
        self.fresh.clear();
        self.desk.board.forget().await;
    }
}

impl Desk {
    fn next_order(&self, state: &State, wanted: &Wanted, now: i64) -> i64 {
        let issuer = self.issuers.get(&wanted.issuer);
        let patience = issuer.map_or(i64::MAX, |(_, http)| http.not_before());
        state.next_order(wanted, self.limits, now).max(patience)
    }

    async fn order(
        &self,
        wanted: &Wanted,
        certificate: Option<Certificate>,
        tokens: &mut Vec<String>,
    ) -> Result<Certificate> {
        let (issuer, http) = self.issuer(wanted)?;
        let ordering = async {
            let account = self.accounts.open(issuer, http).await?;
            let terms = Terms {
                account: &account,
                challenge: issuer.challenge,
                key: issuer.key,
                replaced: certificate
                    .filter(|certificate| *certificate.held.issuer == *wanted.issuer)
                    .and_then(|certificate| certificate.identifier),
                board: &self.board,
                input: self.input.clone(),
            };
            let obtained = terms.obtain(wanted, tokens).await?;
            self.keep(wanted, obtained).await
        };
        let ordered = timeout(ORDER_TIME_MAX, ordering).await;
        let ordered = ordered.unwrap_or_else(|_| Err(anyhow!("order took too long")));
        if let Err(error) = &ordered
            && is_unknown_account(error)
        {
            self.accounts.forget(issuer).await?;
        }
        ordered
    }

    /// Writes a certificate to its Secret, unless the Secret lacks the mark of Sluice.
    async fn keep(&self, wanted: &Wanted, issued: Issued) -> Result<Certificate> {
        let Issued {
            chain,
            key,
            certificate,
        } = issued;
        let (namespace, name) = (&wanted.secret.namespace, &wanted.secret.name);
        let found = self.store.get(namespace, name).await?;
        let mut secret = match found {
            Some(secret) if mark(&secret, ISSUER_MARK).is_some() => secret,
            Some(_) => bail!("{} was made by somebody else meanwhile", wanted.secret),
            None => secret_of(&wanted.secret, "kubernetes.io/tls"),
        };
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(ISSUER_MARK.to_owned(), wanted.issuer.to_string());
        annotations.insert(
            RENEWAL_MARK.to_owned(),
            time_text(certificate.held.renews_at),
        );
        let data = secret.data.get_or_insert_default();
        data.insert("tls.crt".to_owned(), ByteString(chain.into_bytes()));
        data.insert("tls.key".to_owned(), ByteString(key.into_bytes()));
        self.store.put(secret).await?;
        Ok(certificate)
    }

    /// Records the outcome of an order and removes its challenges. Returns the certificate.
    async fn close(
        &self,
        wanted: &Wanted,
        outcome: Result<Certificate>,
        tokens: &[String],
    ) -> Option<Certificate> {
        let (issuer, secret) = (&wanted.issuer, &wanted.secret);
        let now = now();
        let (certificate, error) = match outcome {
            Ok(certificate) => (Some(certificate), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        match &error {
            None => info!(%issuer, %secret, "got a certificate"),
            Some(error) => info!(%issuer, %secret, error, "got no certificate"),
        }
        let until = self.issuer(wanted).map_or(0, |(_, http)| http.not_before());
        let seed = wanted.fingerprint() ^ now.unsigned_abs();
        let note = |state: &mut State| {
            state.remove_challenges(tokens);
            state.postpone(issuer, until);
            match &error {
                None => state.succeed(wanted),
                Some(error) => state.fail(wanted, error, self.limits, seed, now),
            }
        };
        // Without this record, the next attempt would not wait. A conflict of writers passes soon.
        for pause in NOTE_PAUSES {
            match self.board.change(note).await {
                Ok(()) => break,
                Err(error) => {
                    let error = format!("{error:#}");
                    warn!(%secret, error, "the outcome of an order can't be noted; trying again");
                }
            }
            sleep(pause).await;
        }
        certificate
    }

    async fn suggestion(
        &self,
        wanted: &Wanted,
        certificate: &Certificate,
        identifier: &instant_acme::CertificateIdentifier<'static>,
    ) -> Result<i64> {
        let (issuer, http) = self.issuer(wanted)?;
        let account = self.accounts.open(issuer, http).await?;
        ari::follow(&account, &self.store, wanted, certificate, identifier).await
    }

    fn issuer(&self, wanted: &Wanted) -> Result<&(Issuer, Http)> {
        let issuer = self.issuers.get(&wanted.issuer);
        issuer.with_context(|| format!("issuer `{}` is not known", wanted.issuer))
    }
}

/// As [`Wanted::key`]; an object without a namespace is one of `default`.
fn key(secret: &Arc<Secret>) -> String {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or("default");
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    format!("{namespace}/{name}")
}

/// Orders at one time.
const ORDERS_MAX: usize = 4;
/// How long one order may take; challenges are forgotten after a longer time.
const ORDER_TIME_MAX: Duration = Duration::from_mins(5);
/// How long after it was issued, in seconds, a certificate is to be seen in its Secret.
const FRESH_MAX: i64 = 60;
/// Bounds of the pause between two looks at the orders that are due.
const TURN_MAX: Duration = Duration::from_mins(1);
const TURN_MIN: Duration = Duration::from_millis(200);
/// Pauses after each failure to record the outcome of an order.
const NOTE_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
const ERROR_PAUSE: Duration = Duration::from_secs(10);

//! One order from its request to the certificate (RFC 8555 §7.4).

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ingress_core::acme::Wanted;
use ingress_core::ir::{Challenge, ChallengeKind, Host};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::board::Board;
use super::held::Certificate;
use super::issuer::KeyType;
use super::{Input, held, now};

/// A certificate and its key, in PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
    /// The certificate as parsed from the chain.
    pub(super) certificate: Certificate,
}

/// How an order is made.
pub(super) struct Terms<'a> {
    pub(super) account: &'a Account,
    pub(super) challenge: ChallengeKind,
    pub(super) key: KeyType,
    /// The certificate that the new one replaces.
    pub(super) replaced: Option<CertificateIdentifier<'static>>,
    pub(super) board: &'a Board,
    pub(super) input: watch::Receiver<Option<Input>>,
}

impl Terms<'_> {
    /// Gets a certificate. `tokens` has the challenges that were put up, also after an error.
    pub(super) async fn obtain(
        mut self,
        wanted: &Wanted,
        tokens: &mut Vec<String>,
    ) -> Result<Issued> {
        let mut order = self.place(wanted).await?;
        let challenges = self.challenges(&mut order).await?;
        if !challenges.is_empty() {
            self.publish(&challenges, tokens).await?;
            set_ready(&mut order, self.challenge).await?;
        }
        self.wait_until_ready(&mut order).await?;
        let (request, key) = signing_request(wanted, self.key)?;
        order.finalize_csr(&request).await?;
        let chain = order.poll_certificate(&patience()).await?;
        let certificate = held::read_chain(chain.as_bytes(), &wanted.issuer);
        let certificate = certificate.context("issuer sent a certificate that cannot be read")?;
        let is_covered = |host: &Host| {
            certificate
                .held
                .names
                .iter()
                .any(|one| one == host.as_str())
        };
        ensure!(
            wanted.hosts.iter().all(is_covered) && certificate.not_after > now(),
            "issuer sent a certificate that is expired or is for other hosts"
        );
        Ok(Issued {
            chain,
            key,
            certificate,
        })
    }

    async fn place(&mut self, wanted: &Wanted) -> Result<Order> {
        let hosts = wanted.hosts.iter();
        let identifiers: Vec<_> = hosts
            .map(|host| Identifier::Dns(host.to_string()))
            .collect();
        let plain = NewOrder::new(&identifiers);
        if let Some(replaced) = self.replaced.take() {
            match self
                .account
                .new_order(&NewOrder::new(&identifiers).replaces(replaced))
                .await
            {
                Ok(order) => return Ok(order),
                // Issuers refuse to replace a certificate that they do not know, or have replaced already
                // (RFC 9773 §5); the certificate is due all the same.
                Err(Error::Unsupported(_) | Error::Other(_)) => {}
                Err(Error::Api(problem)) if may_concern_replacement(&problem) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.account.new_order(&plain).await?)
    }

    /// The challenges to answer; none for hosts that were validated lately.
    async fn challenges(&self, order: &mut Order) -> Result<Vec<Challenge>> {
        let mut challenges = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let name = authorization.identifier().to_string();
            let status = authorization.status;
            if status == AuthorizationStatus::Valid {
                continue;
            }
            ensure!(
                status == AuthorizationStatus::Pending,
                "authorization of `{name}` is {status:?}"
            );
            let challenge = authorization.challenge(type_of(self.challenge));
            let challenge = challenge.with_context(|| {
                let kind = self.challenge.as_str();
                format!("issuer does not offer {kind} for `{name}`")
            })?;
            challenges.push(Challenge {
                host: Host::parse(&name).with_context(|| format!("`{name}` is not a host"))?,
                kind: self.challenge,
                token: challenge.token.as_str().into(),
                key_authorization: challenge.key_authorization().as_str().into(),
            });
        }
        Ok(challenges)
    }

    /// Puts challenges up and waits until this node answers them, and a little longer for others.
    async fn publish(&mut self, challenges: &[Challenge], tokens: &mut Vec<String>) -> Result<()> {
        tokens.extend(challenges.iter().map(|one| one.token.to_string()));
        let now = now();
        let add = |state: &mut ingress_core::acme::State| {
            challenges.iter().all(|one| state.add_challenge(one, now))
        };
        let are_added = self.board.change(add).await?;
        ensure!(
            are_added,
            "issuer's challenge is malformed, or too many are under way"
        );
        let are_published = |input: &Option<Input>| {
            let input = input.as_ref();
            let published = input.and_then(|input| input.published.as_ref());
            published.is_some_and(|acme| challenges.iter().all(|one| acme.challenges.contains(one)))
        };
        let waiting = self.input.wait_for(are_published);
        let waited = timeout(PUBLICATION_TIME_MAX, waiting).await;
        waited.map_err(|_| anyhow!("challenge was not published in time"))??;
        sleep(PROPAGATION).await;
        Ok(())
    }

    async fn wait_until_ready(&self, order: &mut Order) -> Result<()> {
        match order.poll_ready(&patience()).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) | Err(Error::Api(_)) => {
                let known = order.state().error.as_ref().map(ToString::to_string);
                let reason = reason(order, self.challenge).await.or(known);
                let reason = reason.unwrap_or_else(|| "the order became invalid".to_owned());
                bail!("{reason}")
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn set_ready(order: &mut Order, kind: ChallengeKind) -> Result<()> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(type_of(kind))
        {
            challenge.set_ready().await?;
        }
    }
    Ok(())
}

/// Why validation failed, in the issuer's words.
async fn reason(order: &mut Order, kind: ChallengeKind) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let name = authorization.identifier().to_string();
        let state = authorization.refresh().await.ok()?;
        let mut challenges = state.challenges.iter();
        let failed = challenges.find_map(|one| one.error.as_ref());
        if let Some(problem) = failed {
            let detail = problem
                .detail
                .clone()
                .unwrap_or_else(|| problem.to_string());
            return Some(format!("{} of `{name}` failed: {detail}", kind.as_str()));
        }
    }
    None
}

/// Whether a refusal may be about the certificate to replace rather than the order itself.
fn may_concern_replacement(problem: &instant_acme::Problem) -> bool {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.ends_with(":alreadyReplaced")
        || kind.ends_with(":malformed")
        || kind.ends_with(":serverInternal")
}

/// A request (RFC 2986, in DER) for a certificate, and its new key in PEM.
fn signing_request(wanted: &Wanted, kind: KeyType) -> Result<(Vec<u8>, String)> {
    let key = match kind {
        KeyType::EcdsaP256 => KeyPair::generate()?,
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    };
    let names: Vec<_> = wanted.hosts.iter().map(Host::to_string).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    let request = parameters.serialize_request(&key)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

fn type_of(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn patience() -> RetryPolicy {
    RetryPolicy::new().timeout(ORDER_STEP_TIME_MAX)
}

/// How long the issuer may validate, and then issue.
const ORDER_STEP_TIME_MAX: Duration = Duration::from_secs(90);
/// How long this node's own watch may take to see the challenge.
const PUBLICATION_TIME_MAX: Duration = Duration::from_secs(20);
/// For the watches of other nodes, which see it at the same time.
const PROPAGATION: Duration = Duration::from_millis(500);

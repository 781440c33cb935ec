//! Asks the Kubernetes API server who a token belongs to, and what its user may see.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::sessions::Rights;

/// Reviews users by `TokenReview` and `SubjectAccessReview`.
pub(super) struct Reviewer(Client);

impl Reviewer {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// The rights of the user of a token; `None` for an unknown token, or a user who may not look.
    ///
    /// # Errors
    ///
    /// An error if the API server cannot be asked.
    pub(super) async fn review(&self, token: &str) -> Result<Option<Rights>> {
        timeout(REVIEW_TIME_MAX, self.judge(token))
            .await
            .context("the API server did not answer in time")?
    }

    async fn judge(&self, token: &str) -> Result<Option<Rights>> {
        // The API server refuses to review an empty token, which is no failure of its own.
        if token.is_empty() {
            return Ok(None);
        }
        let Some(user) = self.user(token).await? else {
            return Ok(None);
        };
        if !self.may_get(&user, LOOKING).await? {
            return Ok(None);
        }
        let tail = self.may_get(&user, FOLLOWING).await?;
        Ok(Some(Rights { tail }))
    }

    async fn user(&self, token: &str) -> Result<Option<UserInfo>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.0.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        let status = reviewed.context("failed to create a TokenReview")?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user))
    }

    async fn may_get(&self, user: &UserInfo, path: &str) -> Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some("get".to_owned()),
                }),
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.0.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        let status = reviewed
            .context("failed to create a SubjectAccessReview")?
            .status;
        Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// The non-resource URL that users of the dashboard may get.
const LOOKING: &str = "/sluice/dashboard";
/// The path whose readers may follow requests and see addresses of clients.
const FOLLOWING: &str = "/sluice/tail";
const REVIEW_TIME_MAX: Duration = Duration::from_secs(10);

//! The policy of the routes of one Ingress: what its annotations say beside where they lead.

use std::sync::Arc;

use super::Reader;
use crate::annotation;
use crate::ir::{
    Authentication, BasicAuth, ErrorPages, Filter, PathPattern, Rewrite, RoutePolicy, Template,
};

impl Reader {
    /// The filters that rules with this path have in common, in the order in which nginx applies
    /// them: a redirect of the Ingress comes before everything that restricts access.
    pub(super) fn policy(&self, path: &str) -> Arc<RoutePolicy> {
        let settings = &self.settings;
        let mut filters: Vec<Filter> = settings.block().map(Filter::Block).into_iter().collect();
        if let Some(root) = &settings.app_root {
            filters.push(Filter::AppRoot(Arc::clone(root)));
        }
        filters.extend(settings.cors().map(Filter::Cors));
        let (answers, others): (Vec<&Filter>, Vec<&Filter>) = settings
            .snippets()
            .iter()
            .partition(|filter| matches!(filter, Filter::Respond(_)));
        filters.extend(answers.into_iter().cloned());
        if settings.redirect().is_none() {
            let name = format!("{}/{}", self.ingress.namespace, self.ingress.name);
            filters.extend(settings.rate_limit(&name).map(Filter::RateLimit));
            filters.extend(self.access(path));
        }
        if let Some(host) = &settings.upstream_vhost {
            filters.push(Filter::UpstreamHost(Arc::clone(host)));
        }
        if !settings.request_fields.is_empty() {
            let fields = Arc::clone(&settings.request_fields);
            filters.push(Filter::RequestHeaders(fields));
        }
        if !settings.hidden_headers.is_empty() {
            let hidden = Arc::clone(&settings.hidden_headers);
            filters.push(Filter::HideHeaders(hidden));
        }
        filters.extend(settings.response_rewrite().map(Filter::ResponseRewrite));
        if !settings.response_fields.is_empty() {
            let fields = Arc::clone(&settings.response_fields);
            filters.push(Filter::ResponseHeaders(fields));
        }
        filters.extend(others.into_iter().cloned());
        Arc::new(RoutePolicy {
            filters: filters.into(),
            error_pages: self.error_pages(),
            ..settings.policy()
        })
    }

    /// The filter that restricts access, except by client certificates.
    fn access(&self, path: &str) -> Option<Filter> {
        let settings = &self.settings;
        let sources = (settings.access.restricts()).then(|| settings.access.clone());
        let is_exempt = settings.external_auth.is_exempt(path);
        let basic = settings.basic_auth.is_on && !is_exempt;
        let basic = basic.then(|| BasicAuth {
            realm: settings.basic_auth.realm.clone().unwrap_or_default(),
            // Empty until the Secret is read: no password passes.
            users: Arc::default(),
        });
        let external = settings.external_auth.service(path);
        let jwt = settings.jwt.auth().filter(|_| !is_exempt);
        let oidc = settings.oidc.auth().filter(|_| !is_exempt);
        if basic.is_none() && jwt.is_none() && oidc.is_none() && external.is_none() {
            return sources.map(Filter::Access);
        }
        Some(Filter::Authenticate(Arc::new(Authentication {
            satisfy: settings.basic_auth.satisfy,
            sources,
            basic,
            jwt,
            oidc,
            external,
        })))
    }

    fn error_pages(&self) -> Option<Arc<ErrorPages>> {
        let pages = &self.settings.error_pages;
        pages.is_on().then(|| {
            Arc::new(ErrorPages {
                statuses: pages.statuses().into(),
                replaces_unavailable: false,
                backend: None,
            })
        })
    }

    /// The policy of one rule: with its new path, if it gets one.
    pub(super) fn policy_of(&self, pattern: &PathPattern, path: &str) -> Arc<RoutePolicy> {
        let settings = &self.settings;
        let policy = if settings.external_auth.is_exempt(path) {
            self.policy(path)
        } else {
            Arc::clone(&self.policy)
        };
        let (Some(target), PathPattern::Regex(regex)) = (&settings.rewrite_target, pattern) else {
            return policy;
        };
        let Ok(template) = annotation::rewrite_template(target) else {
            return policy;
        };
        if **target == *regex.as_str() {
            return policy;
        }
        let mut filters = policy.filters.to_vec();
        filters.push(Filter::Rewrite(Rewrite {
            pattern: Arc::clone(regex),
            template,
        }));
        if let Some(prefix) = &settings.forwarded_prefix {
            let field = ("x-forwarded-prefix".into(), Template::text(prefix));
            filters.push(Filter::RequestHeaders([field].into()));
        }
        Arc::new(RoutePolicy {
            filters: filters.into(),
            ..(*policy).clone()
        })
    }
}

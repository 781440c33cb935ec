//! The policy of the routes of one Ingress: what its annotations say beside where they lead.

use std::sync::Arc;

use super::Reader;
use crate::annotation;
use crate::ir::{AccessList, Filter, PathPattern, Rewrite, RoutePolicy};

impl Reader {
    /// The filters that all rules have in common, in the order in which nginx applies them.
    pub(super) fn policy(&self) -> Arc<RoutePolicy> {
        let settings = &self.settings;
        let mut filters = Vec::new();
        if let Some(root) = &settings.app_root {
            filters.push(Filter::AppRoot(Arc::clone(root)));
        }
        if settings.access != AccessList::default() {
            filters.push(Filter::Access(settings.access.clone()));
        }
        if let Some(host) = &settings.upstream_vhost {
            filters.push(Filter::UpstreamHost(Arc::clone(host)));
        }
        Arc::new(RoutePolicy {
            filters: filters.into(),
            ..settings.policy()
        })
    }

    /// The policy of one rule: with its new path, if it gets one.
    pub(super) fn policy_of(&self, pattern: &PathPattern) -> Arc<RoutePolicy> {
        let settings = &self.settings;
        let (Some(target), PathPattern::Regex(regex)) = (&settings.rewrite_target, pattern) else {
            return Arc::clone(&self.policy);
        };
        let Ok(template) = annotation::rewrite_template(target) else {
            return Arc::clone(&self.policy);
        };
        if **target == *regex.as_str() {
            return Arc::clone(&self.policy);
        }
        let mut filters = self.policy.filters.to_vec();
        filters.push(Filter::Rewrite(Rewrite {
            pattern: Arc::clone(regex),
            template,
        }));
        if let Some(prefix) = &settings.forwarded_prefix {
            let field = ("x-forwarded-prefix".into(), (&**prefix).into());
            filters.push(Filter::RequestHeaders([field].into()));
        }
        Arc::new(RoutePolicy {
            filters: filters.into(),
            ..(*self.policy).clone()
        })
    }
}

//! What the annotations of one Ingress say, and what is wrong with them.

use std::collections::BTreeSet;

use super::Reader;
use crate::annotation::{self, MistakeKind};
use crate::diagnostic::Reason;
use crate::object::Ingress;

impl Reader {
    pub(super) fn annotations(&mut self, ingress: &Ingress, ignored: &BTreeSet<String>) {
        let (settings, mistakes) =
            annotation::of_ingress(&ingress.annotations, self.settings.clone(), ignored);
        self.settings = settings;
        for mistake in mistakes {
            let field = format!("metadata.annotations[{}]", mistake.key);
            let reason = match mistake.kind {
                MistakeKind::InvalidValue => Reason::InvalidAnnotation,
                MistakeKind::UnknownKey => Reason::UnknownAnnotation,
                MistakeKind::Unsupported => Reason::UnsupportedAnnotation,
                MistakeKind::Restriction => Reason::RestrictionNotHonoured,
            };
            self.report(field, reason, mistake.message);
        }
        self.report_incomplete();
    }

    /// Closes the rules where keys that restrict access are there in part.
    fn report_incomplete(&mut self) {
        let settings = &self.settings;
        let mut faults = Vec::new();
        if settings.basic_auth.is_on && settings.basic_auth.secret.is_none() {
            faults.push(("auth-type", "there is no `auth-secret` with users"));
        }
        if settings.jwt.lacks_keys() {
            faults.push((
                "auth-jwt-jwks-url",
                "there is no `auth-jwt-jwks-url`, `auth-jwt-jwks-secret` or \
                 `auth-jwt-jwks-config-map` with the keys of tokens",
            ));
        }
        // Of an invalid key the user knows already.
        faults.extend(settings.oidc.fault().filter(|_| !settings.is_closed));
        for (key, message) in faults {
            self.settings.is_closed = true;
            self.report(
                format!("metadata.annotations[{key}]"),
                Reason::RestrictionNotHonoured,
                format!("{message}; its rules answer 503"),
            );
        }
    }
}

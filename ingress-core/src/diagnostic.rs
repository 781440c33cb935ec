//! What is wrong with whose object, in words fit for a Kubernetes Event.
//!
//! A mistake in an object is no error of ours: `translate` never fails, it serves what can be
//! served and says here what cannot. Each diagnostic points at the field that its owner has to
//! change.

use std::fmt;

use crate::ir::ObjectRef;

/// One finding about one field of one object. `Ord` groups by object, then field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// Whose owner can mend it.
    pub object: ObjectRef,
    /// Path of the field, such as `spec.rules[0].http.paths[1].backend.service.port`.
    pub field: String,
    /// What kind of mistake it is.
    pub reason: Reason,
    /// What was found and what follows from it: lower case, no full stop, values in backticks.
    pub message: String,
}

impl Diagnostic {
    /// How bad it is; a property of the reason.
    pub fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            reason,
            message,
        } = self;
        write!(
            f,
            "{}: {object}: {field}: {message} ({reason})",
            self.severity()
        )
    }
}

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that the object asks for is not served.
    Error,
    /// Everything is served, though maybe not as its owner meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What kind of mistake a diagnostic is about; its name is the reason of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A host is no DNS name, exact or with one leading wildcard label.
    InvalidHost,
    /// A path is missing, relative, or one that no normalised request has.
    InvalidPath,
    /// A path type is none of those that exist.
    InvalidPathType,
    /// A backend names neither a Service nor a resource, or both, or no usable port.
    InvalidBackend,
    /// A backend is an object reference, which is not supported.
    ResourceBackendUnsupported,
    /// An older rule has the same host and path.
    PathConflict,
    /// An older Ingress sets the default backend of the same hosts.
    DefaultBackendConflict,
    /// An older Ingress sets another certificate for the same host.
    CertificateConflict,
    /// An older Ingress asks for other client certificates on the same host.
    ClientAuthConflict,
    /// The Service does not exist.
    ServiceNotFound,
    /// The Service has no TCP port of this number or name.
    ServicePortNotFound,
    /// The port was found by the Service's `targetPort` only.
    ServicePortByTargetPort,
    /// Services of type `ExternalName` are switched off.
    ServiceTypeUnsupported,
    /// The external name of a Service is no DNS name, or has no usable address.
    InvalidExternalName,
    /// The external name of a Service leads back to this ingress.
    ExternalNameLoop,
    /// The endpoints of a slice are no IP addresses.
    AddressTypeUnsupported,
    /// An endpoint's address or port is unusable.
    InvalidEndpoint,
    /// The Secret of a TLS section does not exist.
    SecretNotFound,
    /// The Secret of a TLS section has the wrong type or lacks a key.
    InvalidSecret,
    /// More than one IngressClass is marked as the default.
    DefaultClassConflict,
    /// The class that an Ingress names does not exist.
    UnknownClass,
    /// The parameters of an IngressClass are of an unknown kind, or do not exist.
    InvalidParameters,
    /// An annotation, or a key of a class's parameters, has a value that means nothing.
    InvalidAnnotation,
    /// An annotation that is not known has a prefix of ours or ingress-nginx's.
    UnknownAnnotation,
    /// An annotation of ingress-nginx that this controller does not have.
    UnsupportedAnnotation,
    /// An annotation or parameter restricts access and cannot be honoured, so routes are closed.
    RestrictionNotHonoured,
    /// A ConfigMap of fields for responses does not exist or has an entry that is not allowed.
    InvalidHeaders,
    /// The host belongs to an older Ingress, which decides about the host as a whole.
    HostConflict,
    /// A canary has no rule that it could share requests of.
    CanaryIgnored,
    /// A key of a class's parameters that is not known.
    UnknownParameter,
    /// A key of a ConfigMap of services is no port.
    InvalidPort,
    /// The port of a service belongs to another one, or to the daemon itself.
    PortConflict,
    /// The port of a service can't be listened on at this node.
    PortUnavailable,
    /// A ConfigMap that a flag names does not exist.
    ConfigMapNotFound,
    /// A field of the object has a type that it must not have.
    Unreadable,
    /// An Ingress names an ACME issuer that the operator has not configured.
    UnknownIssuer,
    /// No certificate is ordered for a host or Secret.
    CertificateNotOrdered,
    /// An ACME issuer issued no certificate.
    CertificateOrderFailed,
    /// An address of an adopted Service does not become a frontend.
    AddressNotAdopted,
    /// A port of an adopted Service is not one that is served here.
    PortNotServed,
}

impl Reason {
    /// The name in an Event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidHost => "InvalidHost",
            Self::InvalidPath => "InvalidPath",
            Self::InvalidPathType => "InvalidPathType",
            Self::InvalidBackend => "InvalidBackend",
            Self::ResourceBackendUnsupported => "ResourceBackendUnsupported",
            Self::PathConflict => "PathConflict",
            Self::DefaultBackendConflict => "DefaultBackendConflict",
            Self::CertificateConflict => "CertificateConflict",
            Self::ClientAuthConflict => "ClientAuthConflict",
            Self::ServiceNotFound => "ServiceNotFound",
            Self::ServicePortNotFound => "ServicePortNotFound",
            Self::ServicePortByTargetPort => "ServicePortByTargetPort",
            Self::ServiceTypeUnsupported => "ServiceTypeUnsupported",
            Self::AddressTypeUnsupported => "AddressTypeUnsupported",
            Self::InvalidEndpoint => "InvalidEndpoint",
            Self::SecretNotFound => "SecretNotFound",
            Self::InvalidSecret => "InvalidSecret",
            Self::InvalidExternalName => "InvalidExternalName",
            Self::ExternalNameLoop => "ExternalNameLoop",
            Self::DefaultClassConflict => "DefaultClassConflict",
            Self::UnknownClass => "UnknownClass",
            Self::InvalidParameters => "InvalidParameters",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::UnknownAnnotation => "UnknownAnnotation",
            Self::UnsupportedAnnotation => "UnsupportedAnnotation",
            Self::RestrictionNotHonoured => "RestrictionNotHonoured",
            Self::InvalidHeaders => "InvalidHeaders",
            Self::HostConflict => "HostConflict",
            Self::CanaryIgnored => "CanaryIgnored",
            Self::UnknownParameter => "UnknownParameter",
            Self::InvalidPort => "InvalidPort",
            Self::PortConflict => "PortConflict",
            Self::PortUnavailable => "PortUnavailable",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::Unreadable => "Unreadable",
            Self::UnknownIssuer => "UnknownIssuer",
            Self::CertificateNotOrdered => "CertificateNotOrdered",
            Self::CertificateOrderFailed => "CertificateOrderFailed",
            Self::AddressNotAdopted => "AddressNotAdopted",
            Self::PortNotServed => "PortNotServed",
        }
    }

    /// Errors are what makes a part of the object unserved.
    pub fn severity(self) -> Severity {
        match self {
            Self::CertificateConflict
            | Self::CertificateNotOrdered
            | Self::CertificateOrderFailed
            | Self::UnknownIssuer
            | Self::ClientAuthConflict
            | Self::CanaryIgnored
            | Self::DefaultClassConflict
            | Self::UnknownClass
            | Self::InvalidParameters
            | Self::InvalidAnnotation
            | Self::UnknownAnnotation
            | Self::UnsupportedAnnotation
            | Self::UnknownParameter
            | Self::ConfigMapNotFound
            | Self::AddressNotAdopted
            | Self::PortNotServed
            | Self::ServicePortByTargetPort => Severity::Warning,
            Self::InvalidHost
            | Self::InvalidPath
            | Self::InvalidPathType
            | Self::InvalidBackend
            | Self::ResourceBackendUnsupported
            | Self::PathConflict
            | Self::RestrictionNotHonoured
            | Self::InvalidHeaders
            | Self::HostConflict
            | Self::DefaultBackendConflict
            | Self::ServiceNotFound
            | Self::ServicePortNotFound
            | Self::ServiceTypeUnsupported
            | Self::InvalidExternalName
            | Self::ExternalNameLoop
            | Self::InvalidPort
            | Self::PortConflict
            | Self::PortUnavailable
            | Self::Unreadable
            | Self::AddressTypeUnsupported
            | Self::InvalidEndpoint
            | Self::SecretNotFound
            | Self::InvalidSecret => Severity::Error,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_line_that_names_object_field_and_reason() {
        let diagnostic = Diagnostic {
            object: ObjectRef {
                kind: "Ingress",
                namespace: "shop".into(),
                name: "web".into(),
            },
            field: "spec.rules[0].host".to_owned(),
            reason: Reason::InvalidHost,
            message: "host is empty".to_owned(),
        };
        assert_eq!(
            diagnostic.to_string(),
            "error: Ingress shop/web: spec.rules[0].host: host is empty (InvalidHost)"
        );
    }
}

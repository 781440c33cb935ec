//! Step 1: which Ingresses are ours.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Options, Unclassed, name};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::ObjectRef;

/// The IngressClasses of a snapshot, ready for many questions.
pub(super) struct Classes<'a> {
    options: &'a Options,
    by_name: HashMap<&'a str, Owner>,
    default: Option<Owner>,
}

impl<'a> Classes<'a> {
    /// Reads the classes. Of several default classes the newest counts, then the smaller name,
    /// as in the admission plug-in `DefaultIngressClass`.
    pub(super) fn new(
        classes: &'a [Arc<IngressClass>],
        options: &'a Options,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let owner = |class: &IngressClass| {
            let controller = class
                .spec
                .as_ref()
                .and_then(|spec| spec.controller.as_deref());
            if controller == Some(&*options.controller_class) {
                Owner::Us
            } else {
                Owner::Other
            }
        };
        let by_name = classes
            .iter()
            .map(|class| (name(&class.metadata), owner(class)))
            .collect();

        let mut defaults: Vec<_> = classes.iter().filter(|class| is_default(class)).collect();
        defaults.sort_unstable_by_key(|class| {
            (
                Reverse(&class.metadata.creation_timestamp),
                name(&class.metadata),
            )
        });
        let mut defaults = defaults.into_iter();
        let default = defaults.next();
        if let Some(default) = default {
            diagnostics.extend(defaults.map(|loser| second_default(loser, default)));
        }
        Self {
            options,
            by_name,
            default: default.map(|class| owner(class)),
        }
    }

    /// Whether an Ingress is ours to serve.
    pub(super) fn accepts(&self, ingress: &Ingress) -> bool {
        let class_name = ingress
            .spec
            .as_ref()
            .and_then(|spec| spec.ingress_class_name.as_deref());
        if let Some(class_name) = class_name {
            return match self.by_name.get(class_name) {
                Some(owner) => *owner == Owner::Us,
                None => class_name == self.options.ingress_class,
            };
        }
        if let Some(value) = annotation(&ingress.metadata, CLASS_ANNOTATION) {
            return value == self.options.ingress_class;
        }
        match self.default {
            Some(owner) => owner == Owner::Us,
            None => self.options.unclassed == Unclassed::Accept,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Us,
    Other,
}

fn is_default(class: &IngressClass) -> bool {
    annotation(&class.metadata, DEFAULT_CLASS_ANNOTATION) == Some("true")
}

fn second_default(loser: &IngressClass, winner: &IngressClass) -> Diagnostic {
    Diagnostic {
        object: ObjectRef {
            kind: "IngressClass",
            namespace: "".into(),
            name: name(&loser.metadata).into(),
        },
        field: format!("metadata.annotations[{DEFAULT_CLASS_ANNOTATION}]"),
        reason: Reason::DefaultClassConflict,
        message: format!(
            "IngressClass `{}` is a default as well and is used, being newer or first by name",
            name(&winner.metadata),
        ),
    }
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

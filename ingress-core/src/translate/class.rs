//! Step 1: which Ingresses are ours, and what their class says of all of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::{
    IngressClass, IngressClassParametersReference as Parameters,
};

use super::{Options, Unclassed, name, namespace};
use crate::annotation::{self, CLASS_ANNOTATION, HeadersError, MistakeKind, Settings};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{ObjectRef, ProcessSettings};
use crate::list::List;
use crate::object::Ingress;

/// The IngressClasses of a snapshot, ready for many questions.
pub(super) struct Classes<'a> {
    options: &'a Options,
    by_name: HashMap<&'a str, &'a IngressClass>,
    default: Option<&'a IngressClass>,
}

/// The class of an Ingress that is ours.
#[derive(Clone, Copy)]
pub(super) enum Class<'a> {
    /// An IngressClass object.
    Object(&'a IngressClass),
    /// A name, or none, that no object stands behind.
    Nominal,
}

impl<'a> Classes<'a> {
    /// Reads the classes. Of several default classes the newest counts, then the smaller name,
    /// as in the admission plug-in `DefaultIngressClass`.
    pub(super) fn new(
        classes: &'a List<IngressClass>,
        options: &'a Options,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let by_name = classes
            .iter()
            .map(|class| (name(&class.metadata), &**class))
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
            default: default.map(|class| &**class),
        }
    }

    /// The class of an Ingress; `None` when it is not ours to serve.
    pub(super) fn of(&self, ingress: &Ingress) -> Option<Class<'a>> {
        let nominal = |is_ours: bool| is_ours.then_some(Class::Nominal);
        let ours = |class: &'a IngressClass| self.is_ours(class).then_some(Class::Object(class));
        if let Some(class_name) = ingress.class.as_deref() {
            return match self.by_name.get(class_name) {
                Some(class) => ours(class),
                None => nominal(class_name == self.options.ingress_class),
            };
        }
        if let Some(value) = ingress.annotations.get(CLASS_ANNOTATION) {
            // The annotation is a plain value; where an object of ours has this name, it counts.
            let class = self.by_name.get(&**value).and_then(|class| ours(class));
            return nominal(*value == self.options.ingress_class)
                .map(|nominal| class.unwrap_or(nominal));
        }
        match self.default {
            Some(class) => ours(class),
            None => nominal(self.options.unclassed == Unclassed::Accept),
        }
    }

    /// That an Ingress names a class which does not exist: nobody serves it.
    pub(super) fn complaint(&self, ingress: &Ingress) -> Option<Diagnostic> {
        let name = ingress.class.as_deref()?;
        let is_known = self.by_name.contains_key(name) || name == self.options.ingress_class;
        (!is_known).then(|| Diagnostic {
            object: ingress.meta.reference("Ingress"),
            field: "spec.ingressClassName".to_owned(),
            reason: Reason::UnknownClass,
            message: format!(
                "IngressClass `{name}` does not exist; not served (with --ingress-class {name} it \
                 is)"
            ),
        })
    }

    /// The ConfigMaps that our classes name as their parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = ObjectRef> {
        let ours = self.by_name.values().filter(|class| self.is_ours(class));
        ours.filter_map(|class| config_map(parameters(class)?).ok())
    }

    fn is_ours(&self, class: &IngressClass) -> bool {
        let spec = class.spec.as_ref();
        let controller = spec.and_then(|spec| spec.controller.as_deref());
        controller == Some(&*self.options.controller_class)
    }
}

/// What each class that is ours says of its Ingresses.
pub(super) struct ClassSettings<'a> {
    by_name: HashMap<&'a str, Arc<Settings>>,
    /// Of classes that say nothing.
    common: Arc<Settings>,
}

impl<'a> ClassSettings<'a> {
    /// Reads the parameters of all classes that are ours.
    pub(super) fn read(
        classes: &Classes<'a>,
        config_maps: &List<ConfigMap>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let find = |wanted: &ObjectRef| {
            config_maps.iter().find(|object| {
                namespace(&object.metadata) == &*wanted.namespace
                    && name(&object.metadata) == &*wanted.name
            })
        };
        let common = common(classes.options, config_maps, diagnostics);
        let mut settings = HashMap::new();
        let ours = classes
            .by_name
            .values()
            .filter(|class| classes.is_ours(class));
        for class in ours {
            let Some(parameters) = parameters(class) else {
                continue;
            };
            let mut report = |message| {
                diagnostics.push(Diagnostic {
                    object: class_reference(class),
                    field: "spec.parameters".to_owned(),
                    reason: Reason::InvalidParameters,
                    message,
                });
            };
            match config_map(parameters).map(|wanted| (find(&wanted), wanted)) {
                Err(message) => report(message),
                Ok((None, wanted)) => {
                    report(format!(
                        "{wanted} does not exist; its class has no defaults"
                    ));
                }
                Ok((Some(object), wanted)) => {
                    let empty = std::collections::BTreeMap::new();
                    let (read, mistakes) = annotation::of_class(
                        common.clone(),
                        object.data.as_ref().unwrap_or(&empty),
                        &classes.options.ignored_annotations,
                    );
                    let read = with_fields(read, config_maps, &wanted, diagnostics);
                    settings.insert(name(&class.metadata), Arc::new(read));
                    report_mistakes(&wanted, mistakes, diagnostics);
                }
            }
        }
        Self {
            by_name: settings,
            common: Arc::new(common),
        }
    }

    /// What the operator says about the process.
    pub(super) fn process(&self) -> &Arc<ProcessSettings> {
        &self.common.process
    }

    /// What a class says.
    pub(super) fn of(&self, class: Class<'_>) -> &Arc<Settings> {
        let settings = match class {
            Class::Object(class) => self.by_name.get(name(&class.metadata)),
            Class::Nominal => None,
        };
        settings.unwrap_or(&self.common)
    }
}

/// The settings of all classes, from the ConfigMap that the operator names.
fn common(
    options: &Options,
    config_maps: &List<ConfigMap>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Settings {
    let none = Settings::with_https_port(options.https_port);
    let Some(wanted) = &options.config_map else {
        return none;
    };
    let mut all = config_maps.iter();
    let found = all.find(|object| {
        namespace(&object.metadata) == &*wanted.namespace && name(&object.metadata) == &*wanted.name
    });
    let Some(object) = found else {
        diagnostics.push(Diagnostic {
            object: wanted.clone(),
            field: "data".to_owned(),
            reason: Reason::ConfigMapNotFound,
            message: "does not exist, though --configmap names it".to_owned(),
        });
        return none;
    };
    let empty = std::collections::BTreeMap::new();
    let (read, mistakes) = annotation::of_controller(
        none,
        object.data.as_ref().unwrap_or(&empty),
        &options.ignored_annotations,
    );
    report_mistakes(wanted, mistakes, diagnostics);
    report_distrust(&read.process, options, wanted, diagnostics);
    with_fields(read, config_maps, wanted, diagnostics)
}

/// Says of a key that believes trusted peers that there is none: ingress-nginx would believe everybody.
fn report_distrust(
    process: &ProcessSettings,
    options: &Options,
    config_map: &ObjectRef,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if process.trusted.is_some() || options.trusts_peers {
        return;
    }
    for (key, value) in [
        ("use-forwarded-headers", process.use_forwarded_headers),
        ("use-proxy-protocol", process.use_proxy_protocol),
    ] {
        if value == Some(true) {
            diagnostics.push(Diagnostic {
                object: config_map.clone(),
                field: format!("data[{key}]"),
                reason: Reason::InvalidAnnotation,
                message: "has no effect: neither the key `proxy-real-ip-cidr` nor the flag names \
                          peers that are believed"
                    .to_owned(),
            });
        }
    }
}

fn report_mistakes(
    config_map: &ObjectRef,
    mistakes: Vec<annotation::Mistake>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    diagnostics.extend(mistakes.into_iter().map(|mistake| Diagnostic {
        object: config_map.clone(),
        field: format!("data[{}]", mistake.key),
        reason: match mistake.kind {
            MistakeKind::UnknownKey | MistakeKind::Unsupported => Reason::UnknownParameter,
            MistakeKind::InvalidValue => Reason::InvalidAnnotation,
            MistakeKind::Restriction => Reason::RestrictionNotHonoured,
        },
        message: mistake.message,
    }));
}

/// The ConfigMaps that parameters of our classes name.
pub(super) fn referenced(
    classes: &Classes<'_>,
    config_maps: &List<ConfigMap>,
) -> impl Iterator<Item = ObjectRef> {
    let settings = ClassSettings::read(classes, config_maps, &mut Vec::new());
    let mut named = Vec::new();
    for settings in settings.by_name.values().chain([&settings.common]) {
        for value in [&settings.add_headers, &settings.set_headers]
            .into_iter()
            .flatten()
        {
            named.extend(object_ref(value));
        }
    }
    named.into_iter()
}

fn object_ref(value: &str) -> Option<ObjectRef> {
    let (namespace, name) = value.split_once('/')?;
    Some(ObjectRef {
        kind: "ConfigMap",
        namespace: namespace.into(),
        name: name.into(),
    })
}

/// The settings with the fields that the ConfigMaps of `add-headers` and `proxy-set-headers` hold.
fn with_fields(
    mut settings: Settings,
    config_maps: &List<ConfigMap>,
    parameters: &ObjectRef,
    diagnostics: &mut Vec<Diagnostic>,
) -> Settings {
    let mut report = |key: &str, message: String| {
        diagnostics.push(Diagnostic {
            object: parameters.clone(),
            field: format!("data[{key}]"),
            reason: Reason::InvalidHeaders,
            message: format!("{message}; ignored"),
        });
    };
    if let Some(wanted) = &settings.add_headers {
        match fields(wanted, config_maps, annotation::header_fields) {
            Ok(fields) => settings.response_fields = fields,
            Err(message) => report("add-headers", message),
        }
    }
    if let Some(wanted) = &settings.set_headers {
        match fields(wanted, config_maps, annotation::template_fields) {
            Ok(fields) => settings.request_fields = fields,
            Err(message) => report("proxy-set-headers", message),
        }
    }
    settings
}

fn fields<T>(
    wanted: &str,
    config_maps: &List<ConfigMap>,
    read: fn(&std::collections::BTreeMap<String, String>) -> Result<T, HeadersError>,
) -> Result<T, String> {
    let found = object_ref(wanted).ok_or_else(|| format!("`{wanted}` is not `namespace/name`"))?;
    let mut all = config_maps.iter();
    let object = all.find(|object| {
        namespace(&object.metadata) == &*found.namespace && name(&object.metadata) == &*found.name
    });
    let object = object.ok_or_else(|| format!("ConfigMap `{wanted}` does not exist"))?;
    let empty = std::collections::BTreeMap::new();
    let data = object.data.as_ref().unwrap_or(&empty);
    read(data).map_err(|error| format!("ConfigMap `{wanted}`: {error}"))
}

fn parameters(class: &IngressClass) -> Option<&Parameters> {
    class.spec.as_ref()?.parameters.as_ref()
}

/// The ConfigMap that parameters name, or why they name none.
fn config_map(parameters: &Parameters) -> Result<ObjectRef, String> {
    let group = parameters.api_group.as_deref().unwrap_or_default();
    if !group.is_empty() || parameters.kind != "ConfigMap" {
        let kind = &parameters.kind;
        return Err(format!(
            "`{kind}` is not known, a ConfigMap is expected; its class has no defaults"
        ));
    }
    let namespace = parameters
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty());
    let Some(namespace) = namespace else {
        return Err(
            "a ConfigMap needs `scope: Namespace` and a `namespace`; its class has no defaults"
                .to_owned(),
        );
    };
    Ok(ObjectRef {
        kind: "ConfigMap",
        namespace: namespace.into(),
        name: parameters.name.as_str().into(),
    })
}

fn class_reference(class: &IngressClass) -> ObjectRef {
    ObjectRef {
        kind: "IngressClass",
        namespace: "".into(),
        name: name(&class.metadata).into(),
    }
}

fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(DEFAULT_CLASS_ANNOTATION));
    value.is_some_and(|value| value == "true")
}

fn second_default(loser: &IngressClass, winner: &IngressClass) -> Diagnostic {
    Diagnostic {
        object: class_reference(loser),
        field: format!("metadata.annotations[{DEFAULT_CLASS_ANNOTATION}]"),
        reason: Reason::DefaultClassConflict,
        message: format!(
            "IngressClass `{}` is a default as well and is used, being newer or first by name",
            name(&winner.metadata),
        ),
    }
}

const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

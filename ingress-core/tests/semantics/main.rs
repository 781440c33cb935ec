//! What Ingress objects mean, from the objects to the route of a request.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod acme;
mod annotation_properties;
mod any_annotations;
mod any_login;
mod backends;
mod certificates;
mod classes;
mod client_auth;
mod conflicts;
mod conformance;
mod defaults;
mod documentation;
mod drop_in;
mod endpoints;
mod explain;
mod external_names;
mod fixture;
mod hosts;
mod invalid;
mod logins;
mod routing_properties;
mod services;
mod slices;
mod tokens;
mod translation_properties;

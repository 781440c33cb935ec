//! What `deploy/` holds, applied to a real API server, and Sluice run as it says.

mod deploy {
    mod alerts;
    mod audit;
    mod image;
    mod manifests;
    mod rights;
    mod webhook;
}

//! Terminates downstream connections and carries requests to endpoints.

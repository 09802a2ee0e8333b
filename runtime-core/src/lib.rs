//! OCI containers from bundles.

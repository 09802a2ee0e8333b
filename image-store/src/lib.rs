//! Pulls, keeps and unpacks OCI images. Nothing of it exists yet.

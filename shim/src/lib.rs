//! One process a pod. Nothing of it exists yet.

//! The CRI server. Nothing of it exists yet.

//! PID 1 for containers. Nothing of it exists yet.

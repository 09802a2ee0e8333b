//! What whole-program tests stand on: bundles, guards, the runtime under test.

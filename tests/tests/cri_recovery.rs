//! To come.
mod cri;
ocirun_tests::suite! {}

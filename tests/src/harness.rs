//! The list of tests of one file, run by libtest-mimic: the command line and output of the usual harness, and a
//! test that cannot run here is reported as ignored with the reason.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

use crate::bundle::remove_probe_copy;
use crate::cgroup::remove_suite_directory;
use crate::need::Need;

/// The tests of one file.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
    sequential: bool,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.trials.iter().map(Trial::name))
            .finish()
    }
}

impl Suite {
    /// No tests yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a test, which fails by panicking. It runs only if all its needs are met.
    #[must_use]
    pub fn test(mut self, name: &str, needs: &'static [Need], body: fn()) -> Self {
        self.trials.push(Trial::ignorable_test(name, move || {
            let absent: Vec<String> = needs.iter().filter_map(|need| need.absent()).collect();
            if !absent.is_empty() {
                return Ok(Completion::ignored_with(absent.join(", ")));
            }
            body();
            Ok(Completion::Completed)
        }));
        self
    }

    /// Runs one test after the other: for tests that look at what belongs to the whole process.
    #[must_use]
    pub fn sequential(mut self) -> Self {
        self.sequential = true;
        self
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        if self.sequential {
            arguments.test_threads = Some(1);
        }
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        remove_suite_directory();
        remove_probe_copy();
        conclusion.exit_code()
    }
}

/// Writes `main` for a file of tests: a list of needs for each list of functions.
///
/// ```ignore
/// suite! {
///     &[Need::Root] => [starts, stops],
///     &[Need::Root, Need::CgroupV1("memory")] => [limits_memory],
/// }
/// ```
#[macro_export]
macro_rules! suite {
    ($($needs:expr => [$($test:ident),* $(,)?]),* $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::Suite::new()$($(.test(stringify!($test), $needs, $test))*)*.run()
        }
    };
}

//! `cargo machine`: whole-program tests in a virtual machine of their own.
//!
//! Builds a small Debian disk (once) and our programs, boots the disk in qemu, runs test files there and brings their
//! output and exit code back. `cargo machine help` tells the rest.
#![forbid(unsafe_code)]

mod image;
mod modules;
mod qemu;
mod ramdisk;
mod report;
mod scratch;
mod share;
mod variant;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ocirun_tests::machine::{Job, Message, Task};

use image::Image;
use qemu::{Accelerator, Event, Machine};
use report::{Counts, Outcome, Row, table};
use scratch::Scratch;
use share::{Built, Programs};
use variant::{MATRIX, Variant};

const HELP: &str = "\
cargo machine [VARIANT] [TEST-FILE...] [-- ARGUMENT...]   run test files in a machine
cargo machine [VARIANT] sh COMMAND                        run a shell command there
cargo machine [VARIANT] bench [ARGUMENT...]               measure starts beside the machine's own runtimes
cargo machine matrix [TEST-FILE...] [-- ARGUMENT...]      run test files in every variant
cargo machine list                                        print the variants of the matrix
cargo machine image                                       make the disk image, if it is not there
cargo machine check                                       say why no machine can run here, and fail; or succeed

A variant is v2 (without a name), hybrid or v1, with what differs appended: -plain (no systemd), -user (an ordinary user
with a delegated cgroup), -6.12 (Debian's newer kernel). Without a TEST-FILE all that test the runtime are run, with
\"all\" those of ocirun-image and ocirun-cri as well. ARGUMENTs are the harness'. More than one file ends with a table.

RUNTIME, INIT, IMAGE_PROGRAM, SHIM and CRI choose the programs under test: a path is shared in, a name is one of its
own (RUNTIME=runc, RUNTIME=crun). OCIRUN_MACHINE_CACHE is where images are kept. OCIRUN_MACHINE_LIMIT is how many seconds
one test file may take (900). OCIRUN_MACHINE_KERNEL is appended to the kernel's command line. OCIRUN_MACHINE_PROGRAMS
is a `deps` directory with built tests, in place of building them.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(words) => {
            eprintln!("ocirun-machine: {words}");
            ExitCode::from(2)
        }
    }
}

/// Whether all that was asked for went well.
fn command(arguments: &[String]) -> Result<bool, String> {
    let first = arguments.first().map(String::as_str);
    match first {
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(true)
        }
        Some("list") => {
            MATRIX.iter().for_each(|name| println!("{name}"));
            Ok(true)
        }
        Some("image") => {
            println!("{}", Image::get()?.disk().display());
            Ok(true)
        }
        Some("check") => match qemu::absent().or_else(Image::absent) {
            Some(reason) => Err(reason),
            None => Ok(true),
        },
        Some("matrix") => matrix(&arguments[1..]),
        _ => one(arguments),
    }
}

fn one(arguments: &[String]) -> Result<bool, String> {
    let named = arguments.first().map(|name| Variant::parse(name));
    let (variant, rest) = match named {
        Some(Ok(variant)) => (variant, &arguments[1..]),
        Some(Err(words)) if arguments[0].starts_with('v') => return Err(words),
        _ => (variant::DEFAULT, arguments),
    };
    let work = Work::prepare(rest)?;
    let outcomes = work.run(variant)?;
    if outcomes.len() > 1 {
        print!(
            "\n{}",
            table(&[(variant.to_string(), Ok(outcomes.clone()))])
        );
    }
    Ok(outcomes.iter().all(|outcome| outcome.code == Some(0)))
}

fn matrix(arguments: &[String]) -> Result<bool, String> {
    let work = Work::prepare(arguments)?;
    let mut rows: Vec<Row> = Vec::new();
    for name in MATRIX {
        let row = work.run(Variant::parse(name)?);
        if let Err(words) = &row {
            eprintln!("ocirun-machine: {name}: {words}");
        }
        rows.push(((*name).to_owned(), row));
    }
    print!("\n{}", table(&rows));
    Ok(rows.iter().all(|(_, row)| {
        row.as_ref()
            .is_ok_and(|outcomes| outcomes.iter().all(|outcome| outcome.code == Some(0)))
    }))
}

/// All that is the same for every variant.
struct Work {
    image: Image,
    built: Built,
    programs: Programs,
    tasks: Vec<Task>,
    limit: u64,
}

impl Work {
    fn prepare(arguments: &[String]) -> Result<Self, String> {
        if let Some(reason) = qemu::absent() {
            return Err(reason);
        }
        let image = Image::get()?;
        let built = Built::get()?;
        let mut programs = None;
        let (names, tasks) = match arguments {
            [bench, rest @ ..] if bench == "bench" => {
                programs = Some(Programs::bench());
                (Vec::new(), vec![share::bench_task(rest)])
            }
            [sh, script] if sh == "sh" => {
                let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
                let name = "sh".to_owned();
                (Vec::new(), vec![Task { name, command }])
            }
            _ => {
                let mut halves = arguments.splitn(2, |argument| argument == "--");
                let names = built.choose(halves.next().unwrap_or_default())?;
                let rest = halves.next().unwrap_or_default();
                let tasks = names.iter().map(|name| Built::task(name, rest)).collect();
                (names, tasks)
            }
        };
        Ok(Self {
            image,
            built,
            programs: match programs {
                Some(programs) => programs,
                None => Programs::choose(&names)?,
            },
            tasks,
            limit: time_limit()?,
        })
    }

    /// Boots the variant, prints what its tasks print, and tells how each ended.
    fn run(&self, variant: Variant) -> Result<Vec<Outcome>, String> {
        let begin = Instant::now();
        let words = |error: io::Error| format!("prepare the machine: {error}");
        let scratch = Scratch::new(self.image.cache()).map_err(words)?;
        let ramdisk = scratch.path().join("ramdisk");
        ramdisk::write(
            &ramdisk,
            self.built.guest(),
            &self.image.modules(variant.kernel),
        )
        .map_err(words)?;
        let job = Job {
            manager: variant.manager,
            caller: variant.caller,
            environment: self.programs.environment.clone(),
            tasks: self.tasks.clone(),
            limit: self.limit,
        };
        let machine = Machine {
            kernel: self.image.kernel(variant.kernel),
            arguments: variant.kernel_arguments() + " " + &more_for_the_kernel(),
            ramdisk,
            disk: self.image.disk(),
            share: share::write(scratch.path(), &self.built, &self.programs, &job)?,
            console: scratch.path().join("console"),
            task_limit: Duration::from_secs(self.limit),
        };
        let mut listener = Listener {
            variant,
            begin,
            counts: None,
            outcomes: Vec::new(),
        };
        let result = machine.run(|event| listener.hear(event));
        match result {
            Err(words) if listener.outcomes.is_empty() => Err(words),
            Err(words) => {
                eprintln!("ocirun-machine: {variant}: {words}");
                Ok(listener.all_of(&self.tasks))
            }
            Ok(()) => Ok(listener.outcomes),
        }
    }
}

fn time_limit() -> Result<u64, String> {
    match std::env::var("OCIRUN_MACHINE_LIMIT") {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|error| format!("OCIRUN_MACHINE_LIMIT={text}: {error}")),
        _ => Ok(900),
    }
}

fn more_for_the_kernel() -> String {
    std::env::var("OCIRUN_MACHINE_KERNEL").unwrap_or_default()
}

/// Prints a machine's output as it comes, and keeps what the table needs.
struct Listener {
    variant: Variant,
    begin: Instant,
    counts: Option<Counts>,
    outcomes: Vec<Outcome>,
}

impl Listener {
    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Output(line) => {
                self.counts = Counts::parse(line).or(self.counts);
                let mut out = io::stdout().lock();
                let _nobody_reads = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
            Event::Message(accelerator, message) => self.note(accelerator, message),
        }
    }

    fn note(&mut self, accelerator: Accelerator, message: Message) {
        let seconds = self.begin.elapsed().as_secs();
        let variant = self.variant;
        match message {
            Message::Booted => {
                let how = match accelerator {
                    Accelerator::Kvm => "with KVM",
                    Accelerator::Emulation => "emulated",
                };
                eprintln!(
                    "[{variant}, {seconds} s] kernel {} runs, {how}",
                    variant.kernel.name()
                );
            }
            Message::Started(name) => {
                self.counts = None;
                eprintln!("[{variant}, {seconds} s] {name}");
            }
            Message::Ended(name, code) => {
                eprintln!("[{variant}, {seconds} s] {name}: exit code {code}");
                self.outcomes.push(Outcome {
                    name,
                    code: Some(code),
                    counts: self.counts,
                });
            }
            Message::Finished | Message::Broken(_) => {}
        }
    }

    /// The outcomes, with those tasks that the machine did not come to.
    fn all_of(self, tasks: &[Task]) -> Vec<Outcome> {
        let mut outcomes = self.outcomes;
        for task in &tasks[outcomes.len()..] {
            outcomes.push(Outcome {
                name: task.name.clone(),
                code: None,
                counts: None,
            });
        }
        outcomes
    }
}

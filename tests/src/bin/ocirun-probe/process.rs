//! Steps about the process itself: waiting, children, memory.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::{Outcome, Refusal, say};

/// Copies standard input to standard output until its end.
pub fn cat() -> Outcome {
    let bytes = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
    Ok(json!({"bytes": bytes}))
}

/// Sleeps some seconds, which may be a fraction.
pub fn sleep(seconds: &str) -> Outcome {
    let seconds: f64 = seconds
        .parse()
        .map_err(|_| Refusal::Usage(format!("seconds {seconds}")))?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(Value::Null)
}

/// Sleeps for ever, after having said so. As PID 1 it thereby ignores every signal without a handler.
pub fn pause() -> Outcome {
    say(&Value::from("ready"));
    loop {
        std::thread::park();
    }
}

/// Listens at a unix socket, and never answers who connects.
pub fn listen(path: &str) -> Outcome {
    let _listener = std::os::unix::net::UnixListener::bind(path)?;
    loop {
        std::thread::park();
    }
}

fn sleepers(count: usize) -> std::io::Result<Vec<Child>> {
    let program = std::env::current_exe()?;
    (0..count)
        .map(|_| Command::new(&program).arg("sleep").arg("3600").spawn())
        .collect()
}

/// Starts children that sleep for ever, prints their ids, and waits for all of them.
pub fn fork(count: usize) -> Outcome {
    let children = sleepers(count)?;
    say(&json!({"children": children.iter().map(Child::id).collect::<Vec<u32>>()}));
    let mut codes = Vec::new();
    for mut child in children {
        codes.push(child.wait()?.code());
    }
    Ok(json!({"codes": codes}))
}

/// Starts children that sleep for ever, and leaves them.
pub fn orphans(count: usize) -> Outcome {
    let children = sleepers(count)?;
    Ok(json!({"children": children.iter().map(Child::id).collect::<Vec<u32>>()}))
}

/// Tells the supervisor, as sd_notify(3) does.
pub fn notify(text: &str) -> Outcome {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    socket.send_to(text.as_bytes(), path)?;
    Ok(Value::Null)
}

/// Takes memory and writes to every page of it.
pub fn allocate(mebibytes: usize) -> Outcome {
    let mut held = vec![0_u8; mebibytes << 20];
    for page in held.chunks_mut(4096) {
        page[0] = 1;
    }
    Ok(json!({"mebibytes": std::hint::black_box(held).len() >> 20}))
}

/// Becomes another program that inherits some descriptors from 3 on; each leads to a file that holds its number.
/// It runs on the host: a careless caller of the runtime. It returns only what went wrong.
pub fn become_with_descriptors(count: &str, program: &str, arguments: &[String]) -> std::io::Error {
    let held = (|| {
        let count: u32 = count.parse().map_err(std::io::Error::other)?;
        (3..3 + count)
            .map(inheritable)
            .collect::<std::io::Result<Vec<File>>>()
    })();
    match held {
        Ok(_held) => {
            let own_id = std::process::id().to_string();
            Command::new(program)
                .args(arguments)
                .env("LISTEN_PID", own_id)
                .exec()
        }
        Err(error) => error,
    }
}

fn inheritable(number: u32) -> std::io::Result<File> {
    let path =
        std::env::temp_dir().join(format!("ocirun-probe-fd.{}.{number}", std::process::id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    write!(file, "{number}")?;
    std::io::Seek::rewind(&mut file)?;
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

/// Prints numbered lines of 100 bytes, as fast as they are taken.
pub(crate) fn lines(from: u64, count: u64) -> Outcome {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for number in from..from + count {
        writeln!(out, "{number:012} {:-<86}", "")?;
    }
    out.flush()?;
    Ok(Value::Null)
}

//! The programs in images of critest, by the name that this one is called by: a web server, what tells its effective user,
//! and those that busybox may lack.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    let done = match name.to_str().unwrap_or_default() {
        "nginx" => serve(&args.next().unwrap_or_default()),
        "nnp" => {
            println!("Effective uid: {}", nix::unistd::geteuid());
            Ok(())
        }
        "ipcs" => segments(),
        "sh" => Err(shell(&args.collect::<Vec<_>>())),
        "pgrep" => return find(&args.next().unwrap_or_default()),
        other => Err(std::io::Error::other(format!("no program {other:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers every request at a port, and leaves its pid where nginx does.
fn serve(port: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(format!("[::]:{port}"))
        .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}")))?;
    std::fs::create_dir_all("/var/run")?;
    std::fs::write("/var/run/nginx.pid", std::process::id().to_string())?;
    println!("in the place of nginx and httpd");
    for mut stream in listener.incoming().flatten() {
        let mut request = [0; 4096];
        let answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nok\n";
        // A client that is gone has its answer.
        let _ = stream
            .read(&mut request)
            .and_then(|_| stream.write_all(answer));
    }
    Ok(())
}

/// Becomes a program that is named alone, found in PATH; otherwise busybox' shell, which may have a program of that name
/// in itself and never look.
fn shell(args: &[String]) -> std::io::Error {
    let is_word = |text: &String| text.chars().all(|c| c.is_ascii_alphanumeric());
    if let [flag, word] = args
        && flag == "-c"
        && is_word(word)
    {
        let error = Command::new(word).exec();
        let text = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "Permission denied",
            _ => "not found",
        };
        return std::io::Error::other(format!("/bin/sh: {word}: {text}"));
    }
    Command::new("/bin/busybox").arg("sh").args(args).exec()
}

/// Prints the ids of the segments of shared memory.
fn segments() -> std::io::Result<()> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm")?;
    for id in table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
    {
        println!("{id}");
    }
    Ok(())
}

/// Prints the pids of processes of this name.
fn find(name: &str) -> ExitCode {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = ExitCode::FAILURE;
    for entry in entries {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            println!("{}", entry.file_name().display());
            found = ExitCode::SUCCESS;
        }
    }
    found
}

//! Programs run in the containers of a pod: what is captured, limits, and who ends with whom.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_shim::wire::{Code, ExecRequest, ResizePtyRequest, Status};
use ocirun_tests::pod::{Pod, decode, exec_request};
use ocirun_tests::{Bundle, Need, PROBE, eventually, suite};

fn pausing() -> Bundle {
    Bundle::new().probe(&["pause"])
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code, code as i32, "{}", status.message);
    assert!(status.message.contains(words), "{}", status.message);
    assert!(!status.message.contains('\n'), "{}", status.message);
}

fn an_exec_is_captured() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let words = [
        PROBE, "print", "out", ",", "stderr", "err", ",", "exit", "5",
    ];
    let output = client.exec(&exec_request("c", &words)).unwrap();
    assert_eq!(output.stdout, b"\"out\"\nnull\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.exit.unwrap().code, 5);
    let answer = client.exec(&exec_request("c", &["/bin/missing"]));
    refused(answer, Code::Unknown, "no such file or directory");
    let mut terminal = exec_request("c", &words);
    terminal.process = br#"{"args": ["x"], "cwd": "/", "terminal": true}"#.to_vec();
    refused(client.exec(&terminal), Code::InvalidArgument, "process: ");
    let log = pod.log("c");
    assert!(!log.contains("\"out\"") && !log.contains("err\n"), "{log}");
}

fn an_exec_keeps_as_much_as_it_is_told() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let request = ExecRequest {
        output_limit: 1000,
        ..exec_request("c", &[PROBE, "lines", "0", "1000"])
    };
    let output = client.exec(&request).unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (1000, true));
    // Without a word, 16 MiB of the 20 MB there are.
    let all = exec_request("c", &[PROBE, "lines", "0", "200000"]);
    let output = client.exec(&all).unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (16 << 20, true));
    assert_eq!(output.exit.unwrap().code, 0);
}

fn an_exec_that_takes_too_long_ends_with_all_it_started() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let before = bundle.cgroup().processes();
    let request = ExecRequest {
        timeout_ms: 300,
        ..exec_request("c", &[PROBE, "fork", "3"])
    };
    refused(client.exec(&request), Code::DeadlineExceeded, "time");
    assert_eq!(bundle.cgroup().processes(), before);
    // Its own process ends in time: what it left is not waited for.
    let request = exec_request("c", &[PROBE, "orphans", "1"]);
    let output = client.exec(&request).unwrap();
    assert_eq!(output.exit.unwrap().code, 0);
    client.stop("c", 0, 0).unwrap();
    client.delete("c").unwrap();
}

fn an_exec_ends_with_its_caller() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let before = bundle.cgroup().processes();
    let mut other = pod.client();
    other.send("Exec", &exec_request("c", &[PROBE, "fork", "2"]));
    eventually("it runs", || {
        bundle.cgroup().processes().len() == before.len() + 3
    });
    drop(other);
    eventually("it has ended", || bundle.cgroup().processes() == before);
}

/// 40 MB to a client that does not read: the shim takes no more than it can send.
fn a_slow_client_holds_only_its_own_exec() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let mut slow = pod.client();
    let request = ExecRequest {
        output_limit: 1 << 40,
        ..exec_request("c", &[PROBE, "lines", "0", "400000"])
    };
    let stream = slow.send("Exec", &request);
    let words = [PROBE, "print", "quick"];
    let quick = client.exec(&exec_request("c", &words)).unwrap();
    assert_eq!(quick.stdout, b"\"quick\"\n");
    let mut length = 0;
    loop {
        let frame = slow.frame(|frame| frame.stream == stream);
        if frame.kind == ocirun_shim::wire::Kind::Response {
            break;
        }
        length += decode::<ocirun_shim::wire::ExecOutput>(&frame.payload)
            .stdout
            .len();
    }
    assert_eq!(length, 40_000_000 + "null\n".len());
}

fn a_terminal_is_one_stream_and_has_a_size() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new()
        .set("/process/terminal", true)
        .probe(&["winch"]);
    client.run(&pod.request("c", &bundle));
    eventually("it listens", || pod.log("c").contains("columns"));
    let request = ResizePtyRequest {
        id: "c".to_owned(),
        width: 123,
        height: 45,
    };
    client.call("ResizePty", &request).unwrap();
    eventually("it knows", || {
        let log = pod.log("c");
        log.contains("123") && log.contains("45")
    });
    assert!(!pod.log("c").contains(" stderr "));
    let none = pausing();
    client.run(&pod.request("d", &none));
    let request = ResizePtyRequest {
        id: "d".to_owned(),
        ..request
    };
    refused(
        client.call("ResizePty", &request),
        Code::FailedPrecondition,
        "no terminal",
    );
}

suite! {
    &[Need::Root] => [
        an_exec_is_captured,
        an_exec_keeps_as_much_as_it_is_told,
        an_exec_that_takes_too_long_ends_with_all_it_started,
        an_exec_ends_with_its_caller,
        a_slow_client_holds_only_its_own_exec,
        a_terminal_is_one_stream_and_has_a_size,
    ],
}

//! Containers of a pod, from their creation to their end, through the shim.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use nix::unistd::Pid;
use ocirun_shim::wire::{
    Code, ContainerStatus, CreateRequest, DeleteRequest, Empty, EventKind, KillRequest, Request,
    Rootfs, SERVICE, StatsRequest, StatsResponse, Status, StopPodRequest, UpdateRequest,
};
use ocirun_tests::pod::{Client, Pod, decode, exec_request, is_alive};
use ocirun_tests::{Bundle, Need, PROBE, eventually, suite};
use prost::Message;
use serde_json::{Value, json};

fn pausing() -> Bundle {
    Bundle::new().probe(&["pause"])
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code, code as i32, "{}", status.message);
    assert!(status.message.contains(words), "{}", status.message);
    assert!(!status.message.contains('\n'), "{}", status.message);
}

fn delete_by_force(client: &mut Client, id: &str) -> Result<Vec<u8>, Status> {
    let request = DeleteRequest {
        id: id.to_owned(),
        force: true,
    };
    client.call("Delete", &request)
}

fn a_container_runs_and_its_end_is_told() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["print", "hello", ",", "stderr", "oops", ",", "exit", "7"]);
    let request = pod.request("c", &bundle);
    let created = client.create(&request).unwrap();
    let state = client.container("c").unwrap();
    assert_eq!(state.status(), ContainerStatus::Created);
    assert_eq!(state.pid, created.pid);
    assert_eq!(state.started_at, 0);
    assert!(fs::exists(pod.log_path("c")).unwrap(), "the log is there");
    client.start("c").unwrap();
    let exit = client.wait("c");
    assert_eq!((exit.code, exit.signal, exit.oom), (7, 0, false));
    let state = client.container("c").unwrap();
    assert_eq!(state.status(), ContainerStatus::Exited);
    assert!(state.created_at <= state.started_at && state.started_at <= exit.exited_at);
    let log = pod.log("c");
    assert!(log.contains(" stdout F \"hello\"\n"), "{log}");
    assert!(log.contains(" stderr F oops\n"), "{log}");
    assert_eq!(client.delete("c").unwrap().code, 7);
    assert_eq!(client.container("c"), None);
    assert!(!pod.directory.container("c").exists());
}

fn events_come_in_order_after_the_record_is_on_disk() {
    let pod = Pod::new();
    let mut client = pod.client();
    let mut listener = pod.client();
    let stream = listener.send("Events", &Empty {});
    listener.state();
    let bundle = Bundle::new().probe(&["exit", "3"]);
    client.run(&pod.request("c", &bundle));
    let mut kinds = Vec::new();
    for sequence in 1..=3 {
        let event = listener.event(stream);
        assert_eq!((event.sequence, event.id.as_str()), (sequence, "c"));
        kinds.push(event.kind());
        if event.kind() == EventKind::Exited {
            let exit = event.container.unwrap().exit.unwrap();
            assert_eq!(exit.code, 3);
            let record = fs::read(pod.directory.exit_file("c")).unwrap();
            let record: Value = serde_json::from_slice(&record).unwrap();
            assert_eq!(record["code"], 3);
            assert_eq!(record["exitedAt"], exit.exited_at);
        }
    }
    client.delete("c").unwrap();
    kinds.push(listener.event(stream).kind());
    let all = [
        EventKind::Created,
        EventKind::Started,
        EventKind::Exited,
        EventKind::Deleted,
    ];
    assert_eq!(kinds, all);
}

fn a_stop_waits_for_the_end() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["trap"]);
    client.run(&pod.request("c", &bundle));
    eventually("it listens", || pod.log("c").contains("ready"));
    let exit = client.stop("c", 0, 60_000).unwrap();
    assert_eq!((exit.code, exit.signal, exit.unknown), (0, 0, false));
    assert!(pod.log("c").contains(" stdout F \"end\"\n"));
    assert_eq!(client.stop("c", 0, 0).unwrap(), exit, "again");
}

fn what_takes_no_notice_is_killed_when_the_time_is_over() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let exit = client.stop("c", nix::libc::SIGTERM, 50).unwrap();
    assert_eq!((exit.code, exit.signal), (137, nix::libc::SIGKILL));
}

/// What shares its PID namespace with others does not end with its first process.
fn a_stop_ends_the_whole_tree() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new()
        .without_namespace("pid")
        .probe(&["orphans", "2"]);
    client.run(&pod.request("c", &bundle));
    let exit = client.wait("c");
    assert_eq!(exit.code, 0);
    assert_eq!(bundle.cgroup().processes(), Vec::<Pid>::new());
    let bundle = Bundle::new().without_namespace("pid").probe(&["fork", "3"]);
    client.run(&pod.request("d", &bundle));
    eventually("it has children", || bundle.cgroup().processes().len() == 4);
    client.stop("d", 0, 0).unwrap();
    assert_eq!(bundle.cgroup().processes(), Vec::<Pid>::new());
}

fn verbs_are_refused_in_the_wrong_state() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    let request = pod.request("c", &bundle);
    client.create(&request).unwrap();
    let wrong = Code::FailedPrecondition;
    refused(
        client.create(&request),
        Code::AlreadyExists,
        "\"c\" exists already",
    );
    refused(
        client.exec(&exec_request("c", &[PROBE, "exit", "0"])),
        wrong,
        "not running",
    );
    client.start("c").unwrap();
    refused(
        client.start("c"),
        wrong,
        "cannot start an already running container",
    );
    refused(client.delete("c"), wrong, "not stopped");
    client.stop("c", 0, 0).unwrap();
    refused(
        client.start("c"),
        wrong,
        "cannot start a container that has stopped",
    );
    let kill = KillRequest {
        id: "c".to_owned(),
        signal: 9,
        all: false,
    };
    refused(client.call("Kill", &kill), wrong, "container not running");
    client.delete("c").unwrap();
    refused(client.delete("c"), Code::NotFound, "does not exist");
}

fn what_was_never_started_is_stopped_and_removed() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.create(&pod.request("c", &bundle)).unwrap();
    let exit = client.stop("c", 0, 60_000).unwrap();
    assert_eq!(exit.code, 137);
    assert_eq!(client.container("c").unwrap().started_at, 0);
    client.delete("c").unwrap();
    client.create(&pod.request("c", &bundle)).unwrap();
    client.delete("c").unwrap();
    client.run(&pod.request("c", &bundle));
    delete_by_force(&mut client, "c").unwrap();
    assert!(client.state().containers.is_empty());
}

fn requests_that_cannot_be_are_refused_and_leave_nothing() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    let good = pod.request("c", &bundle);
    let with = |change: &dyn Fn(&mut CreateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let argument = Code::InvalidArgument;
    let cases = [
        (with(&|r| r.id = "../c".to_owned()), argument, "id: "),
        (with(&|r| r.id = String::new()), argument, "id: "),
        (with(&|r| r.bundle = "b".to_owned()), argument, "bundle: "),
        (
            with(&|r| r.bundle = "/nowhere".to_owned()),
            Code::Internal,
            "/nowhere",
        ),
        (
            with(&|r| r.log_path = "l".to_owned()),
            argument,
            "log_path: ",
        ),
        (
            with(&|r| r.log_path = "/nowhere/l".to_owned()),
            Code::Internal,
            "log_path: open(\"/nowhere/l\"",
        ),
        (
            with(&|r| r.log_line_limit = u32::MAX),
            argument,
            "log_line_limit: ",
        ),
        (
            with(&|r| r.rootfs = Some(Rootfs::Descriptor(true))),
            argument,
            "no descriptor came",
        ),
        (
            with(&|r| r.rootfs = Some(Rootfs::Path("/nowhere".to_owned()))),
            Code::Internal,
            "/nowhere",
        ),
    ];
    for (request, code, words) in cases {
        refused(client.create(&request), code, words);
    }
    let missing = Bundle::new().args(&["/bin/missing"]);
    let answer = client.create(&pod.request("m", &missing));
    refused(answer, Code::Unknown, "no such file or directory");
    let wrong = Bundle::new().set("/process/cwd", "relative");
    let answer = client.create(&pod.request("w", &wrong));
    refused(answer, argument, "/process/cwd: ");
    assert!(client.state().containers.is_empty());
    let left: Vec<_> = fs::read_dir(pod.directory.containers()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    client.run(&good);
}

fn what_is_no_call_is_refused() {
    let pod = Pod::new();
    let mut client = pod.client();
    let request = |service: &str, method: &str, payload: &[u8]| Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_vec(),
        ..Request::default()
    };
    for (request, code) in [
        (request("other", "State", b""), Code::Unimplemented),
        (request(SERVICE, "Nothing", b""), Code::Unimplemented),
        (request(SERVICE, "Start", b"\xff"), Code::InvalidArgument),
    ] {
        let stream = client.send_request(&request, &[]);
        refused(client.answer(stream), code, "");
    }
    for bytes in [&[0xff; 16][..], &[0, 0, 0, 0, 0, 0, 0, 1, 9, 0]] {
        let mut other = pod.client();
        other.send_bytes(bytes).unwrap();
        assert!(!other.receive(), "the connection is closed");
    }
    client.state();
}

fn a_container_is_updated_and_measured() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let mut update = |resources: Value| {
        let request = UpdateRequest {
            id: "c".to_owned(),
            resources: resources.to_string().into_bytes(),
        };
        client.call("Update", &request)
    };
    update(json!({"pids": {"limit": 77}})).unwrap();
    refused(
        update(json!({"pids": "many"})),
        Code::InvalidArgument,
        "resources: ",
    );
    let answer = client.call("Stats", &StatsRequest::default()).unwrap();
    let stats: StatsResponse = decode(&answer);
    assert_eq!(stats.containers.len(), 1);
    let numbers: Value = serde_json::from_slice(&stats.containers[0].stats).unwrap();
    assert_eq!(numbers["pids"]["limit"], 77, "{numbers}");
    assert!(numbers["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
}

fn a_lack_of_memory_is_told() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new()
        .set("/linux/resources/memory/limit", 32 << 20)
        .probe(&["allocate", "64"]);
    client.run(&pod.request("c", &bundle));
    let exit = client.wait("c");
    assert_eq!((exit.code, exit.oom), (137, true));
}

fn a_detached_root_is_seen_by_nobody_else() {
    let pod = Pod::new();
    let mut client = pod.client();
    let source = pausing();
    let root = source.inside("/");
    let root = std::ffi::CString::new(root.to_str().unwrap()).unwrap();
    let tree = rustix::mount::open_tree(
        rustix::fs::CWD,
        &root,
        rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
            | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .unwrap();
    let bundle = pausing();
    fs::remove_dir_all(bundle.inside("/")).unwrap();
    fs::create_dir(bundle.inside("/")).unwrap();
    let request = CreateRequest {
        rootfs: Some(Rootfs::Descriptor(true)),
        ..pod.request("c", &bundle)
    };
    let stream = client.send_with("Create", &request, &[std::os::fd::AsFd::as_fd(&tree)]);
    client.answer(stream).unwrap();
    drop(tree);
    client.start("c").unwrap();
    let words = [PROBE, "print", "here"];
    let output = client.exec(&exec_request("c", &words)).unwrap();
    assert_eq!(output.exit.unwrap().code, 0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(bundle.path().to_str().unwrap()), "{table}");
    let other = pausing();
    let path = CreateRequest {
        rootfs: Some(Rootfs::Path(source.inside("/").display().to_string())),
        ..pod.request("d", &other)
    };
    client.run(&path);
}

fn a_caller_that_gives_up_finds_it_done() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let request = Request {
        service: SERVICE.to_owned(),
        method: "Stop".to_owned(),
        payload: ocirun_shim::wire::StopRequest {
            id: "c".to_owned(),
            signal: nix::libc::SIGTERM,
            deadline_ms: 600,
        }
        .encode_to_vec(),
        timeout_nano: 50_000_000,
        ..Request::default()
    };
    let stream = client.send_request(&request, &[]);
    refused(client.answer(stream), Code::DeadlineExceeded, "goes on");
    assert_eq!(client.wait("c").code, 137);
}

fn many_at_once_are_created_once() {
    let pod = Pod::new();
    let bundle = pausing();
    let request = pod.request("c", &bundle);
    let mut clients: Vec<Client> = (0..32).map(|_| pod.client()).collect();
    let calls: Vec<u32> = clients
        .iter_mut()
        .map(|client| client.send("Create", &request))
        .collect();
    let mut pids = Vec::new();
    for (client, stream) in clients.iter_mut().zip(calls) {
        match client.answer(stream) {
            Ok(answer) => {
                pids.push(decode::<ocirun_shim::wire::CreateResponse>(&answer).pid);
            }
            // It was there already.
            Err(status) => assert_eq!(status.code, Code::AlreadyExists as i32),
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 1);
    assert_eq!(bundle.cgroup().processes().len(), 1);
}

/// The hook reads a FIFO that nobody writes to.
fn a_hook_that_hangs_holds_only_its_own_container() {
    let pod = Pod::new();
    let mut client = pod.client();
    let fifo = pod.scratch().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let cat = ocirun_tests::program_in_path("cat").unwrap();
    let hanging = pausing().set(
        "/hooks/createRuntime",
        json!([{"path": cat, "args": ["cat", fifo]}]),
    );
    let call = client.send("Create", &pod.request("slow", &hanging));
    let quick = Bundle::new().probe(&["exit", "0"]);
    client.run(&pod.request("quick", &quick));
    assert_eq!(client.wait("quick").code, 0);
    let state = client.container("slow").unwrap();
    assert_eq!(state.status(), ContainerStatus::Unspecified);
    refused(
        client.start("slow"),
        Code::FailedPrecondition,
        "being created",
    );
    refused(
        client.delete("slow"),
        Code::FailedPrecondition,
        "not stopped",
    );
    delete_by_force(&mut client, "slow").unwrap();
    assert!(client.answer(call).is_err());
    assert_eq!(client.container("slow"), None);
    assert!(hanging.cgroup().processes().is_empty());
    assert_eq!(
        hanging.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
    // Once more, and now it goes on.
    let call = client.send("Create", &pod.request("slow", &hanging));
    fs::write(&fifo, "").unwrap();
    client.answer(call).unwrap();
    client.start("slow").unwrap();
}

fn an_input_is_empty_or_stays_open() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundles = [0, 1].map(|_| Bundle::new().probe(&["cat"]));
    client.run(&pod.request("none", &bundles[0]));
    assert_eq!(client.wait("none").code, 0);
    let request = CreateRequest {
        stdin: true,
        ..pod.request("open", &bundles[1])
    };
    client.run(&request);
    let fifo = pod.directory.container("open").join("stdin");
    fs::write(&fifo, "heard\n").unwrap();
    eventually("it is heard", || pod.log("open").contains("heard"));
    // Another writer has come and gone.
    assert!(client.container("open").unwrap().exit.is_none());
}

fn a_stopped_pod_takes_nothing_new() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundles = [pausing(), pausing(), pausing()];
    let created = pod.request("a", &bundles[0]);
    let running = pod.request("b", &bundles[1]);
    client.create(&created).unwrap();
    let pid = client.run(&running).pid;
    client.call("StopPod", &StopPodRequest {}).unwrap();
    assert!(!is_alive(Pid::from_raw(pid)));
    let state = client.state();
    assert!(state.pod.unwrap().stopped);
    let exited = ContainerStatus::Exited;
    assert!(state.containers.iter().all(|one| one.status() == exited));
    let wrong = Code::FailedPrecondition;
    let answer = client.create(&pod.request("c", &bundles[2]));
    refused(answer, wrong, "the pod was stopped");
}

suite! {
    &[Need::Root] => [
        a_container_runs_and_its_end_is_told,
        events_come_in_order_after_the_record_is_on_disk,
        a_stop_waits_for_the_end,
        what_takes_no_notice_is_killed_when_the_time_is_over,
        a_stop_ends_the_whole_tree,
        verbs_are_refused_in_the_wrong_state,
        what_was_never_started_is_stopped_and_removed,
        requests_that_cannot_be_are_refused_and_leave_nothing,
        what_is_no_call_is_refused,
        a_detached_root_is_seen_by_nobody_else,
        a_caller_that_gives_up_finds_it_done,
        many_at_once_are_created_once,
        a_hook_that_hangs_holds_only_its_own_container,
        an_input_is_empty_or_stays_open,
        a_stopped_pod_takes_nothing_new,
    ],
    &[Need::Root, Need::Cgroup("pids")] => [
        a_container_is_updated_and_measured,
    ],
    &[Need::Root, Need::Cgroup("memory")] => [
        a_lack_of_memory_is_told,
    ],
}

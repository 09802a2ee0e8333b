use super::*;

#[test]
fn ids() {
    for id in ["a", "A_b+c-d.9", "..a"] {
        assert!(check_id(id).is_ok(), "{id}");
    }
    for (id, text) in [
        ("", "container id cannot be empty"),
        (".", "invalid container ID format"),
        ("..", "invalid container ID format"),
        ("a/b", "invalid container ID format"),
        ("é", "invalid container ID format"),
    ] {
        assert!(check_id(id).unwrap_err().to_string().contains(text), "{id}");
    }
}

#[test]
fn stat_of_hostile_names() {
    let stat = b"7 (a) Z 1 (x) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 2";
    let stat = Stat::parse(stat).unwrap();
    assert_eq!(
        (stat.state, stat.flags, stat.start_time),
        (b'S', 0x0040_0000, 4242)
    );
    assert!(Stat::parse(b"").is_none() && Stat::parse(b"7 (a)").is_none());
}

#[test]
fn a_zombie_tells_how_it_ended() {
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "read gone; exit 7"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let identity = Identity::of(pid).unwrap();
    assert_eq!(identity.zombie(), None);
    drop(child.stdin.take());
    let pidfd = crate::kernel::pidfd::open(pid).unwrap();
    let ended = crate::kernel::pidfd::wait_end(
        std::os::fd::AsFd::as_fd(&pidfd),
        nix::poll::PollTimeout::NONE,
    );
    assert_eq!(ended, Ok(true));
    assert!(identity.exists() && !identity.is_alive());
    assert_eq!(identity.zombie(), Some(7 << 8));
    child.wait().unwrap();
    assert!(!identity.exists());
    assert_eq!(identity.zombie(), None);
}

#[test]
fn this_process_is_alive() {
    let own = Identity::of(Pid::this()).unwrap();
    assert!(own.is_alive());
    assert!(
        !Identity {
            start_time: own.start_time + 1,
            ..own
        }
        .is_alive()
    );
}

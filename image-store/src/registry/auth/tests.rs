use super::*;

#[test]
fn challenges() {
    let (scheme, parameters) = parse_challenge(
        r#"Bearer realm="https://a/token",service="a b",scope="repository:x:pull,push",n=1"#,
    )
    .unwrap();
    assert_eq!(scheme, "bearer");
    assert_eq!(parameters["realm"], "https://a/token");
    assert_eq!(parameters["scope"], "repository:x:pull,push");
    assert_eq!(parameters["n"], "1");
    assert_eq!(parse_challenge("Basic").unwrap().0, "basic");
    assert!(parse_challenge("Bearer realm=\"x").is_none());
}

#[test]
fn credentials_by_the_nearest_key() {
    let config = json!({"auths": {
        "q.io": {"auth": STANDARD.encode("a:b:c")},
        "q.io/team": {"username": "t", "password": "p"},
        "https://index.docker.io/v1/": {"identitytoken": "i"},
    }});
    let of = |host: &str, path: &str| from_config(&config, &keys(host, path)).unwrap();
    assert_eq!(
        of("q.io", "x"),
        Some(Credentials::Basic("a".into(), "b:c".into()))
    );
    assert_eq!(
        of("q.io", "team/y"),
        Some(Credentials::Basic("t".into(), "p".into()))
    );
    assert_eq!(
        of("registry-1.docker.io", "library/x"),
        Some(Credentials::Identity("i".into()))
    );
    assert_eq!(of("r.io", "x"), None);
}

#[test]
fn helpers_are_plain_names() {
    for bad in ["", "../x", "a/b", "a b"] {
        assert!(run_helper(bad, "get", b"x").is_err());
    }
}

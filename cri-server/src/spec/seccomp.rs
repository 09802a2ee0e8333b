//! Seccomp profiles: which one a request means, and a profile in the form that container engines share, made into
//! `linux.seccomp` for the capabilities of one container.

use crate::api::SecurityProfile;
use crate::api::security_profile::ProfileType;
use crate::error::{Error, Kind, Result, invalid};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// The profile for `RuntimeDefault`.
pub const DEFAULT: &str = include_str!("seccomp.json");

/// Largest profile that is read, in bytes.
pub const MAX_PROFILE: u64 = 1 << 20;

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// No filter.
    Unconfined,
    /// The default profile.
    Default,
    /// The profile in this file, or of this name.
    Local(PathBuf),
}

/// Which profile is meant. The newer field wins over the deprecated text; with neither there is none.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn wanted(profile: Option<&SecurityProfile>, old: &str, field: &str) -> Result<Wanted> {
    let Some(profile) = profile else {
        return match old {
            "" | "unconfined" => Ok(Wanted::Unconfined),
            "runtime/default" | "docker/default" => Ok(Wanted::Default),
            other => match other.strip_prefix("localhost/") {
                Some(path) if !path.is_empty() => Ok(Wanted::Local(path.into())),
                _ => Err(invalid(field, format!("{other:?} is not a profile"))),
            },
        };
    };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Wanted::Default),
        Ok(ProfileType::Unconfined) => Ok(Wanted::Unconfined),
        Ok(ProfileType::Localhost) => {
            let name = &profile.localhost_ref;
            let name = name.strip_prefix("localhost/").unwrap_or(name);
            if name.is_empty() {
                return Err(invalid(format!("{field}.localhost_ref"), "is empty"));
            }
            Ok(Wanted::Local(name.into()))
        }
        Err(_) => {
            let text = format!("{} is not a type of profile", profile.profile_type);
            Err(invalid(format!("{field}.profile_type"), text))
        }
    }
}

/// `linux.seccomp` of a profile for a container with these capabilities.
///
/// # Errors
/// `Invalid` for what is no profile.
pub fn resolve(profile: &str, capabilities: &[String]) -> Result<Value> {
    let bad = |text: String| Error::new(Kind::Invalid, format!("seccomp profile: {text}"));
    let profile: Map<String, Value> =
        serde_json::from_str(profile).map_err(|error| bad(error.to_string()))?;
    let mut result = Map::new();
    for key in [
        "defaultAction",
        "defaultErrnoRet",
        "flags",
        "listenerPath",
        "listenerMetadata",
    ] {
        if let Some(value) = profile.get(key).filter(|v| !v.is_null()) {
            result.insert(key.to_owned(), value.clone());
        }
    }
    let architectures = match profile.get("archMap").and_then(Value::as_array) {
        Some(map) => of_this_machine(map),
        None => profile.get("architectures").cloned().unwrap_or(Value::Null),
    };
    if !architectures.is_null() {
        result.insert("architectures".to_owned(), architectures);
    }
    let rules = match profile.get("syscalls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(rules)) => rules.clone(),
        Some(_) => return Err(bad("syscalls is not a list".to_owned())),
    };
    let rules = rules
        .into_iter()
        .filter_map(|rule| fitting(rule, capabilities));
    result.insert("syscalls".to_owned(), rules.collect());
    Ok(Value::Object(result))
}

/// A rule without its conditions, if they hold.
fn fitting(rule: Value, capabilities: &[String]) -> Option<Value> {
    let Value::Object(mut rule) = rule else {
        // Not a rule: whoever reads the result says so, with its place.
        return Some(rule);
    };
    let includes = rule.remove("includes").unwrap_or_default();
    let excludes = rule.remove("excludes").unwrap_or_default();
    let list = |conditions: &Value, key: &str| -> Vec<String> {
        let items = conditions.get(key).and_then(Value::as_array);
        let texts = items.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let has = |capability: &String| capabilities.contains(capability);
    let is_here = |name: &String| name == arch();
    let arches = list(&includes, "arches");
    let is_included = list(&includes, "caps").iter().all(has)
        && (arches.is_empty() || arches.iter().any(is_here));
    let is_excluded =
        list(&excludes, "caps").iter().any(has) || list(&excludes, "arches").iter().any(is_here);
    if !is_included || is_excluded {
        return None;
    }
    // An older form has one name a rule.
    if let Some(name) = rule.remove("name")
        && !rule.contains_key("names")
    {
        rule.insert("names".to_owned(), json!([name]));
    }
    rule.remove("comment");
    rule.retain(|_, value| !value.is_null());
    Some(Value::Object(rule))
}

/// The native architecture as such profiles call it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn of_this_machine(map: &[Value]) -> Value {
    let native = match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        "powerpc64" => "SCMP_ARCH_PPC64LE",
        "s390x" => "SCMP_ARCH_S390X",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => return Value::Null,
    };
    let Some(entry) = map.iter().find(|entry| entry["architecture"] == native) else {
        return Value::Null;
    };
    let mut all = vec![json!(native)];
    all.extend(
        entry["subArchitectures"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned(),
    );
    Value::Array(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(value: &Value, name: &str) -> Vec<Value> {
        let rules = value["syscalls"].as_array().unwrap().iter();
        let has = |rule: &&Value| rule["names"].as_array().unwrap().contains(&json!(name));
        rules.filter(has).cloned().collect()
    }

    #[test]
    fn the_default_follows_capabilities() {
        let plain = resolve(DEFAULT, &[]).unwrap();
        assert_eq!(plain["defaultAction"], "SCMP_ACT_ERRNO");
        assert!(rules(&plain, "mount").is_empty());
        assert!(rules(&plain, "keyctl").is_empty());
        assert_eq!(rules(&plain, "clone").len(), 1);
        assert_eq!(rules(&plain, "clone3")[0]["errnoRet"], 38);
        assert_eq!(rules(&plain, "read")[0]["action"], "SCMP_ACT_ALLOW");
        let admin = resolve(DEFAULT, &["CAP_SYS_ADMIN".to_owned()]).unwrap();
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert_eq!(rules(&admin, "clone3")[0]["action"], "SCMP_ACT_ALLOW");
        assert_eq!(
            rules(&admin, "clone"),
            [json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW"})]
        );
    }

    #[test]
    fn both_forms_of_profiles() {
        let oci = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        let expected: Value = serde_json::from_str(oci).unwrap();
        assert_eq!(resolve(oci, &[]).unwrap(), expected);
        let old = r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO", "args": null, "comment": "x"}]}"#;
        assert_eq!(
            resolve(old, &[]).unwrap()["syscalls"],
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}])
        );
        for bad in ["", "[]", "{\"syscalls\": 3}"] {
            assert!(resolve(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn which_profile_is_meant() {
        let profile = |kind: i32, name: &str| SecurityProfile {
            profile_type: kind,
            localhost_ref: name.to_owned(),
        };
        let (default, unconfined) = (Ok(Wanted::Default), Ok(Wanted::Unconfined));
        let local = |path: &str| Ok(Wanted::Local(path.into()));
        for (new, old, expected) in [
            (None, "", unconfined.clone()),
            (None, "runtime/default", default.clone()),
            (None, "localhost//p/x.json", local("/p/x.json")),
            (Some(profile(0, "")), "unconfined", default),
            (Some(profile(1, "")), "runtime/default", unconfined),
            (Some(profile(2, "/p")), "", local("/p")),
            (Some(profile(2, "localhost/name")), "", local("name")),
            (Some(profile(2, "")), "", Err("f.localhost_ref: is empty")),
            (Some(profile(7, "")), "", Err("f.profile_type: 7 is not")),
            (None, "something", Err("f: \"something\" is not")),
            (None, "localhost/", Err("f: \"localhost/\" is not")),
        ] {
            match (wanted(new.as_ref(), old, "f"), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().starts_with(words), "{error}");
                }
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
    }
}

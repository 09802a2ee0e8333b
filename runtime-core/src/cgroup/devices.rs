//! Which devices a container may use: rules resolved, in the words of version 1, and as a BPF program for version 2.
//!
//! For each right that is asked (read, write, make a node) the last rule that speaks of it decides. See
//! config-linux.md "Allowed Device list", the kernel's cgroup-v1/devices.rst, and `bpf_cgroup_dev_ctx` of linux/bpf.h.

use super::setting::{Missing, POINTER, Setting};
use crate::error::{Error, Result};
use crate::kernel::bpf::{Cond, Instruction, Register};
use crate::spec::DeviceRule;

/// Rights as `bpf_cgroup_dev_ctx.access_type` has them.
const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MAKE | READ | WRITE;

/// A kind of device as `bpf_cgroup_dev_ctx.access_type` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block = 1,
    Char = 2,
}

impl Kind {
    /// As rules name it.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Block => 'b',
            Self::Char => 'c',
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) devices: Devices,
    access: u8,
    pointer: String,
}

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    /// All there are.
    All,
    /// Those of one kind; any number where none is given.
    Some {
        kind: Kind,
        major: Option<u32>,
        minor: Option<u32>,
    },
}

impl Rule {
    /// The rights as rules name them.
    pub(super) fn rights(&self) -> String {
        [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
            .into_iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect()
    }

    /// In the words of version 1.
    fn words(&self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        match self.devices {
            // `a` is all devices there, whatever stands behind it.
            Devices::All => "a".to_owned(),
            Devices::Some { kind, major, minor } => format!(
                "{} {}:{} {}",
                kind.letter(),
                number(major),
                number(minor),
                self.rights()
            ),
        }
    }

    /// Whether it is about every right to every device, so that no rule before it counts.
    pub(super) fn is_whole(&self) -> bool {
        self.devices == Devices::All && self.access == ALL
    }
}

/// What every container may use: its default devices, terminals, tun, and nodes of any device, which it may make but
/// not open.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Char, None, None, MAKE),
    (Kind::Block, None, None, MAKE),
    (Kind::Char, Some(1), Some(3), ALL),
    (Kind::Char, Some(1), Some(8), ALL),
    (Kind::Char, Some(1), Some(7), ALL),
    (Kind::Char, Some(5), Some(0), ALL),
    (Kind::Char, Some(1), Some(5), ALL),
    (Kind::Char, Some(1), Some(9), ALL),
    (Kind::Char, Some(136), None, ALL),
    (Kind::Char, Some(5), Some(2), ALL),
    (Kind::Char, Some(10), Some(200), ALL),
];

/// Resolves rules: nothing is allowed at first, then they follow in their order, then the defaults.
pub(super) fn compile(written: &[DeviceRule]) -> Result<Vec<Rule>> {
    let list = format!("{POINTER}/devices");
    let mut rules = vec![Rule {
        allow: false,
        devices: Devices::All,
        access: ALL,
        pointer: list.clone(),
    }];
    for (index, rule) in written.iter().enumerate() {
        let pointer = format!("{list}/{index}");
        let resolved = resolve(rule, &pointer)?;
        // That is how the list begins.
        if index == 0 && !rule.allow && resolved.iter().all(Rule::is_whole) {
            continue;
        }
        rules.extend(resolved);
    }
    rules.extend(DEFAULTS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        devices: Devices::Some { kind, major, minor },
        access,
        pointer: list.clone(),
    }));
    Ok(rules)
}

/// One rule as written: two where it is about both kinds, but not about all devices.
fn resolve(rule: &DeviceRule, pointer: &str) -> Result<Vec<Rule>> {
    let invalid =
        |field: &str, text: &str| Error::invalid_spec(&format!("{pointer}/{field}"), text);
    let number = |value: Option<i64>, field: &str| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| invalid(field, "is not a device number")),
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => {
                let text = format!("{:?} is not made of r, w, m", rule.access.as_deref());
                return Err(invalid("access", &text));
            }
        };
    }
    if access == 0 {
        access = ALL;
    }
    let (major, minor) = (number(rule.major, "major")?, number(rule.minor, "minor")?);
    let of = |devices| Rule {
        allow: rule.allow,
        devices,
        access,
        pointer: pointer.to_owned(),
    };
    let some = |kind| of(Devices::Some { kind, major, minor });
    Ok(match rule.kind.as_deref().unwrap_or("a") {
        "a" | "" if (major, minor, access) == (None, None, ALL) => vec![of(Devices::All)],
        "a" | "" => vec![some(Kind::Block), some(Kind::Char)],
        "b" => vec![some(Kind::Block)],
        "c" => vec![some(Kind::Char)],
        other => return Err(invalid("type", &format!("{other:?} is none of a, b, c"))),
    })
}

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// The rules as writes to the files of version 1.
pub(super) fn v1_settings(rules: &[Rule]) -> impl Iterator<Item = Setting> {
    rules.iter().map(|rule| Setting {
        controller: "devices",
        file: if rule.allow { ALLOW } else { DENY }.to_owned(),
        value: rule.words(),
        missing: Missing::Refuse,
        pointer: rule.pointer.clone(),
    })
}

/// What to write to the files of version 1, file and value, to go from `list`, what `devices.list` says, to `rules`.
///
/// Where both name single devices only the differences are written, so that no device is away for a moment.
pub(super) fn v1_changes(list: &str, rules: &[Rule]) -> Vec<(&'static str, String)> {
    let start = rules.iter().rposition(Rule::is_whole).unwrap_or_default();
    let behind = rules.get(start + 1..).unwrap_or_default();
    let is_list = rules.get(start).is_some_and(|rule| !rule.allow)
        && behind.iter().all(|rule| rule.allow)
        && !list.starts_with('a');
    if !is_list {
        return v1_settings(rules)
            .map(|setting| {
                let file = if setting.file == ALLOW { ALLOW } else { DENY };
                (file, setting.value)
            })
            .collect();
    }
    let wanted: Vec<String> = behind.iter().map(Rule::words).collect();
    let now: Vec<&str> = list.lines().collect();
    let new = wanted
        .iter()
        .filter(|rule| !now.contains(&rule.as_str()))
        .map(|rule| (ALLOW, rule.clone()));
    let old = now
        .iter()
        .filter(|rule| !wanted.iter().any(|wanted| wanted == *rule))
        .map(|rule| (DENY, (*rule).to_owned()));
    // What is taken away last may be a part of what was just allowed: that is said again.
    let again = wanted.iter().map(|rule| (ALLOW, rule.clone()));
    let old: Vec<_> = old.collect();
    let again: Vec<_> = if old.is_empty() {
        Vec::new()
    } else {
        again.collect()
    };
    new.chain(old).chain(again).collect()
}

/// The rules as one program of type `BPF_PROG_TYPE_CGROUP_DEVICE`: it gives 1 to allow and 0 to deny.
///
/// It goes through the rules from the last to the first, and takes off the rights asked for what each one allows.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    const CONTEXT: Register = Register::R1;
    const KIND: Register = Register::R2;
    const ASKED: Register = Register::R3;
    const MAJOR: Register = Register::R4;
    const MINOR: Register = Register::R5;
    const DENIED: Register = Register::R6;
    let mut code = vec![
        Instruction::load32(KIND, CONTEXT, 0),
        Instruction::mov(ASKED, KIND),
        Instruction::and(KIND, 0xffff),
        Instruction::shift_right(ASKED, 16),
        Instruction::load32(MAJOR, CONTEXT, 4),
        Instruction::load32(MINOR, CONTEXT, 8),
    ];
    for rule in rules.iter().rev() {
        let verdict = verdict(i32::from(rule.allow));
        let mut body = Vec::new();
        match (rule.allow, rule.access) {
            (_, ALL) => body.extend(verdict),
            (true, access) => {
                body.push(Instruction::and(ASKED, i32::from(ALL & !access)));
                body.push(Instruction::jump(Cond::NotEqual, ASKED, 0, 2));
                body.extend(verdict);
            }
            (false, access) => {
                body.push(Instruction::mov(DENIED, ASKED));
                body.push(Instruction::and(DENIED, i32::from(access)));
                body.push(Instruction::jump(Cond::Equal, DENIED, 0, 2));
                body.extend(verdict);
            }
        }
        if let Devices::Some { kind, major, minor } = rule.devices {
            let tests = [
                Some((KIND, kind as u32)),
                major.map(|major| (MAJOR, major)),
                minor.map(|minor| (MINOR, minor)),
            ];
            // Each test that fails jumps over those behind it and over the body. Put before it from the last.
            for (register, value) in tests.into_iter().flatten().rev() {
                let over = i16::try_from(body.len()).unwrap_or(i16::MAX);
                let jump = Instruction::jump(Cond::NotEqual, register, value.cast_signed(), over);
                body.insert(0, jump);
            }
        }
        code.extend(body);
        if rule.is_whole() {
            return code;
        }
    }
    code.extend(verdict(0));
    code
}

fn verdict(value: i32) -> [Instruction; 2] {
    [Instruction::load(Register::R0, value), Instruction::exit()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::run;

    fn rules(json: &str) -> Vec<Rule> {
        let written: Vec<DeviceRule> = serde_json::from_str(json).unwrap();
        compile(&written).unwrap()
    }

    #[test]
    fn words_of_version_1() {
        let rules = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"major":7},{"allow":true}]"#,
        );
        let found: Vec<_> = v1_settings(&rules)
            .take(5)
            .map(|setting| format!("{} {}", setting.file, setting.value))
            .collect();
        let expected = [
            "devices.deny a",
            "devices.allow c 10:229 rw",
            "devices.allow b 7:* rwm",
            "devices.allow c 7:* rwm",
            "devices.allow a",
        ];
        assert_eq!(found, expected);
        assert_eq!(rules.len(), 5 + DEFAULTS.len());
    }

    #[test]
    fn changes_of_version_1() {
        let list: Vec<String> = rules("[]").iter().skip(1).map(Rule::words).collect();
        let now = format!("{}\nc 10:7 rw\n", list.join("\n"));
        let fuse = r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
        let changes = v1_changes(&now, &rules(fuse));
        let first: Vec<_> = changes
            .iter()
            .take(2)
            .map(|(file, value)| format!("{file} {value}"))
            .collect();
        assert_eq!(
            first,
            ["devices.allow c 10:229 rw", "devices.deny c 10:7 rw"]
        );
        assert!(v1_changes(&list.join("\n"), &rules("[]")).is_empty());
        // From all devices, and to all of them, there is no way by differences.
        assert_eq!(
            v1_changes("a *:* rwm\n", &rules("[]"))[0],
            (DENY, "a".to_owned())
        );
        let all = v1_changes(&now, &rules(r#"[{"allow":true}]"#));
        assert_eq!(all[1], (ALLOW, "a".to_owned()));
    }

    #[test]
    fn refused() {
        for (json, pointer) in [
            (
                r#"[{"allow":true,"type":"x"}]"#,
                "/linux/resources/devices/0/type",
            ),
            (
                r#"[{"allow":true,"access":"rx"}]"#,
                "/linux/resources/devices/0/access",
            ),
            (
                r#"[{"allow":true},{"allow":true,"major":-2}]"#,
                "/linux/resources/devices/1/major",
            ),
        ] {
            let written: Vec<DeviceRule> = serde_json::from_str(json).unwrap();
            assert_eq!(compile(&written).unwrap_err().pointer(), Some(pointer));
        }
    }

    /// What the program says of `access` to a device.
    fn asks(rules: &[Rule], kind: Kind, device: (u32, u32), access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, device.0, device.1];
        run(&program(rules), &context) == 1
    }

    #[test]
    fn verdicts() {
        const SOME: &str = r#"[{"allow":true,"type":"c","major":10,"access":"r"},
            {"allow":true,"type":"c","major":10,"minor":229,"access":"w"},
            {"allow":false,"type":"c","major":10,"minor":7,"access":"r"}]"#;
        let cases = [
            ("[]", Kind::Char, (1, 3), READ | WRITE, true),
            ("[]", Kind::Block, (1, 3), READ, false),
            ("[]", Kind::Block, (8, 1), MAKE, true),
            ("[]", Kind::Block, (8, 1), MAKE | READ, false),
            ("[]", Kind::Char, (136, 77), READ | WRITE, true),
            (r#"[{"allow":true}]"#, Kind::Block, (8, 1), ALL, true),
            (
                r#"[{"allow":true},{"allow":false}]"#,
                Kind::Block,
                (8, 1),
                READ,
                false,
            ),
            (SOME, Kind::Char, (10, 1), READ, true),
            (SOME, Kind::Char, (10, 1), WRITE, false),
            // Each right by a rule of its own.
            (SOME, Kind::Char, (10, 229), READ | WRITE, true),
            (SOME, Kind::Char, (10, 229), ALL, true),
            (SOME, Kind::Char, (10, 7), READ, false),
            (SOME, Kind::Block, (10, 229), READ, false),
        ];
        for (json, kind, device, access, expected) in cases {
            assert_eq!(
                asks(&rules(json), kind, device, access),
                expected,
                "{json} {kind:?} {device:?} {access}"
            );
        }
    }
}

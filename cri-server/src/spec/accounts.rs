//! Who a container's process is: what the request says, in terms of the image's own account files.

use crate::api::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use crate::error::{Result, invalid};

/// The account files of an image, empty where there is none.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

/// Ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the first of which is `gid`: who is taken out of a group by another primary one keeps what
    /// is denied to that group (CVE-2022-2989).
    pub groups: Vec<u32>,
}

const CONTEXT: &str = "config.linux.security_context";

/// Resolves the user of a request, or of the image where the request names none.
///
/// # Errors
/// `Invalid` with the field's name: a number out of range, a group without a user, a name that the image does not know.
pub fn resolve(
    context: &LinuxContainerSecurityContext,
    image: &str,
    accounts: &Accounts,
) -> Result<User> {
    let field = |name: &str| format!("{CONTEXT}.{name}");
    let run_as = context
        .run_as_user
        .map(|user| id(user.value, &field("run_as_user")))
        .transpose()?;
    let group = context
        .run_as_group
        .map(|group| id(group.value, &field("run_as_group")))
        .transpose()?;
    let (wanted, named) = match run_as {
        Some(uid) => (uid.to_string(), field("run_as_user")),
        None if !context.run_as_username.is_empty() => {
            (context.run_as_username.clone(), field("run_as_username"))
        }
        None if group.is_some() => {
            let text = "needs run_as_user or run_as_username beside it";
            return Err(invalid(field("run_as_group"), text));
        }
        None => (image.to_owned(), "user of the image".to_owned()),
    };
    let (name, image_group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (wanted.as_str(), None),
    };
    let entry = find(accounts, name);
    let (uid, own_gid, login) = match (&entry, name.parse::<u32>()) {
        (Some(entry), _) => (entry.uid, entry.gid, Some(entry.name.clone())),
        (None, Ok(uid)) if uid <= MAX_ID => (uid, 0, None),
        (None, Ok(_)) => return Err(invalid(named, format!("{name} is too large"))),
        (None, Err(_)) if name.is_empty() => (0, 0, Some("root".to_owned())),
        (None, Err(_)) => {
            let text = format!("no user {name:?} in the image");
            return Err(invalid(named, text));
        }
    };
    let gid = match (group, image_group) {
        (Some(gid), _) => gid,
        (None, Some(group)) => group_id(accounts, group, &named)?,
        (None, None) => own_gid,
    };
    let mut groups = vec![gid];
    let mut add = |gid: u32| {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    };
    for (index, gid) in context.supplemental_groups.iter().enumerate() {
        add(id(*gid, &field(&format!("supplemental_groups[{index}]")))?);
    }
    let policy = context.supplemental_groups_policy;
    match SupplementalGroupsPolicy::try_from(policy) {
        Ok(SupplementalGroupsPolicy::Strict) => {}
        Ok(SupplementalGroupsPolicy::Merge) => {
            for gid in memberships(accounts, login.as_deref()) {
                add(gid);
            }
        }
        Err(_) => {
            let text = format!("{policy} is not a policy");
            return Err(invalid(field("supplemental_groups_policy"), text));
        }
    }
    Ok(User { uid, gid, groups })
}

/// The largest id: the next ones are no user to many programs.
const MAX_ID: u32 = i32::MAX.cast_unsigned();

fn id(value: i64, field: &str) -> Result<u32> {
    let id = u32::try_from(value).ok().filter(|id| *id <= MAX_ID);
    id.ok_or_else(|| invalid(field, format!("{value} is not between 0 and {MAX_ID}")))
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

/// The entry of a user: of this name, or of this number where there is no such name.
fn find(accounts: &Accounts, wanted: &str) -> Option<Entry> {
    let entries = || rows(&accounts.passwd).filter_map(|row| parse_user(&row));
    let number = wanted.parse::<u32>().ok();
    entries()
        .find(|entry| !wanted.is_empty() && entry.name == wanted)
        .or_else(|| entries().find(|entry| Some(entry.uid) == number))
}

fn parse_user(row: &[&str]) -> Option<Entry> {
    Some(Entry {
        name: (*row.first()?).to_owned(),
        uid: row.get(2)?.parse().ok().filter(|id| *id <= MAX_ID)?,
        gid: row.get(3)?.parse().ok().filter(|id| *id <= MAX_ID)?,
    })
}

fn group_id(accounts: &Accounts, group: &str, field: &str) -> Result<u32> {
    let by_name = rows(&accounts.group)
        .find(|row| row.first() == Some(&group))
        .and_then(|row| row.get(2)?.parse::<u32>().ok());
    match (by_name, group.parse::<u32>()) {
        (Some(gid), _) | (None, Ok(gid)) if gid <= MAX_ID => Ok(gid),
        _ => Err(invalid(field, format!("no group {group:?} in the image"))),
    }
}

/// Groups that the image says the user is in.
fn memberships(accounts: &Accounts, login: Option<&str>) -> Vec<u32> {
    let Some(login) = login else {
        return Vec::new();
    };
    let is_member = |row: &Vec<&str>| {
        let members = row.get(3).copied().unwrap_or_default();
        members.split(',').any(|member| member == login)
    };
    rows(&accounts.group)
        .filter(is_member)
        .filter_map(|row| row.get(2)?.parse().ok().filter(|id| *id <= MAX_ID))
        .collect()
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(':'))
        .map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Int64Value;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/:\napp:x:12:34::/:\n1000:x:7:8::/:\nbad:x:99999999999:0::/:\n"
                .into(),
            group:
                "root:x:0:root\napp:x:34:\nextra:x:56:app,other\nmore:x:57:app\nwheel:x:10:root\n"
                    .into(),
        }
    }

    fn context(
        change: impl FnOnce(&mut LinuxContainerSecurityContext),
    ) -> LinuxContainerSecurityContext {
        let mut context = LinuxContainerSecurityContext::default();
        change(&mut context);
        context
    }

    #[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
    fn value(value: i64) -> Option<Int64Value> {
        Some(Int64Value { value })
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> User {
        let groups = groups.to_vec();
        User { uid, gid, groups }
    }

    #[test]
    fn users_of_requests_and_images() {
        let strict = SupplementalGroupsPolicy::Strict.into();
        for (context, image, expected) in [
            (context(|_| {}), "", user(0, 0, &[0, 10])),
            (context(|_| {}), "app", user(12, 34, &[34, 56, 57])),
            (context(|_| {}), "12", user(12, 34, &[34, 56, 57])),
            (context(|_| {}), "77", user(77, 0, &[0])),
            (context(|_| {}), "77:88", user(77, 88, &[88])),
            (context(|_| {}), "app:extra", user(12, 56, &[56, 57])),
            (context(|_| {}), "1000", user(7, 8, &[8])),
            (
                context(|c| c.run_as_user = value(77)),
                "app",
                user(77, 0, &[0]),
            ),
            (
                context(|c| c.run_as_user = value(12)),
                "root",
                user(12, 34, &[34, 56, 57]),
            ),
            (
                context(|c| {
                    c.run_as_user = value(12);
                    c.run_as_group = value(99);
                }),
                "",
                user(12, 99, &[99, 56, 57]),
            ),
            (
                context(|c| {
                    c.run_as_username = "app".into();
                    c.supplemental_groups = vec![1234, 34];
                }),
                "",
                user(12, 34, &[34, 1234, 56, 57]),
            ),
            (
                context(|c| {
                    c.run_as_username = "app".into();
                    c.supplemental_groups = vec![1234];
                    c.supplemental_groups_policy = strict;
                }),
                "",
                user(12, 34, &[34, 1234]),
            ),
        ] {
            let found = resolve(&context, image, &accounts()).unwrap();
            assert_eq!(found, expected, "{context:?} {image:?}");
        }
    }

    #[test]
    fn users_that_cannot_be() {
        for (context, image, words) in [
            (
                context(|c| c.run_as_user = value(-1)),
                "",
                "run_as_user: -1",
            ),
            (
                context(|c| c.run_as_user = value(1 << 31)),
                "",
                "run_as_user: 2147483648",
            ),
            (
                context(|c| c.run_as_group = value(1)),
                "",
                "run_as_group: needs",
            ),
            (
                context(|c| c.run_as_username = "nobody".into()),
                "",
                "run_as_username: no user \"nobody\"",
            ),
            (
                context(|c| c.supplemental_groups = vec![1, -2]),
                "",
                "supplemental_groups[1]: -2",
            ),
            (
                context(|c| c.supplemental_groups_policy = 9),
                "",
                "supplemental_groups_policy: 9",
            ),
            (context(|_| {}), "ghost", "user of the image: no user"),
            (context(|_| {}), "bad", "user of the image: no user"),
            (context(|_| {}), "4294967295", "too large"),
            (context(|_| {}), "app:ghost", "no group \"ghost\""),
        ] {
            let error = resolve(&context, image, &accounts()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

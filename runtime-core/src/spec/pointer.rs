//! From a position in a JSON text to the JSON pointer (RFC 6901) of the element that is there.

/// Returns the pointer of the innermost element that begins at or before `line` and `column` (both from 1, the column
/// in bytes) and is not closed before it. The empty pointer is the whole document.
///
/// The parser stops at the end of what displeases it, so an element that ends exactly at the position is the one meant.
pub(super) fn at(json: &[u8], line: usize, column: usize) -> String {
    let start_of_line = match line {
        0 | 1 => 0,
        _ => json
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 2)
            .map_or(json.len(), |(at, _)| at + 1),
    };
    let end = (start_of_line + column).min(json.len());
    let mut scan = Scan::default();
    let mut at = 0;
    while at < end {
        at = scan.step(json, at, end);
    }
    scan.pointer()
}

#[derive(Default)]
struct Scan {
    levels: Vec<Level>,
}

enum Level {
    /// The key whose value is being read, or none between two members.
    Object {
        key: Option<Vec<u8>>,
        value: bool,
    },
    Array {
        index: usize,
    },
}

impl Scan {
    /// Reads one token at `at` and returns where the next begins.
    fn step(&mut self, json: &[u8], at: usize, end: usize) -> usize {
        match json[at] {
            b'{' => self.levels.push(Level::Object {
                key: None,
                value: false,
            }),
            b'[' => self.levels.push(Level::Array { index: 0 }),
            // The closing bracket where the parser stopped belongs to the element that it found wanting.
            b'}' | b']' if at + 1 < end => {
                self.levels.pop();
            }
            b'}' => self.forget_key(),
            b',' => match self.levels.last_mut() {
                Some(Level::Array { index }) => *index += 1,
                Some(Level::Object { .. }) => self.forget_key(),
                None => {}
            },
            b':' => {
                if let Some(Level::Object { value, .. }) = self.levels.last_mut() {
                    *value = true;
                }
            }
            b'"' => return self.string(json, at, end),
            _ => {}
        }
        at + 1
    }

    fn forget_key(&mut self) {
        if let Some(Level::Object { key, value }) = self.levels.last_mut() {
            (*key, *value) = (None, false);
        }
    }

    fn string(&mut self, json: &[u8], at: usize, end: usize) -> usize {
        let mut close = at + 1;
        while close < json.len() && json[close] != b'"' {
            close += if json[close] == b'\\' { 2 } else { 1 };
        }
        if let Some(Level::Object { key, value: false }) = self.levels.last_mut() {
            *key = Some(json[at + 1..close.min(json.len())].to_vec());
        }
        (close + 1).min(end.max(at + 1))
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for level in &self.levels {
            match level {
                Level::Array { index } => pointer += &format!("/{index}"),
                Level::Object { key: Some(key), .. } => {
                    pointer.push('/');
                    pointer += &String::from_utf8_lossy(key)
                        .replace('~', "~0")
                        .replace('/', "~1");
                }
                Level::Object { key: None, .. } => {}
            }
        }
        pointer
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::Spec;

    #[test]
    fn names_the_element() {
        let cases = [
            (r#"{"ociVersion": 1}"#, "/ociVersion"),
            (r#"{}"#, ""),
            (
                r#"{"ociVersion":"1.0.0","root":{"readonly":true}}"#,
                "/root",
            ),
            (
                r#"{"ociVersion":"1.0.0","root":{"path":"r","readonly":"yes"}}"#,
                "/root/readonly",
            ),
            (
                r#"{"ociVersion":"1.0.0","mounts":[{"destination":"/a"},{"destination":7}]}"#,
                "/mounts/1/destination",
            ),
            (
                r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"pid"},{"type":"nets"}]}}"#,
                "/linux/namespaces/1/type",
            ),
            (
                "{\"ociVersion\":\"1.0.0\",\n\"process\":{\n\"args\":[\"a\",\n5]}}",
                "/process/args/1",
            ),
            (
                r#"{"ociVersion":"1.0.0","annotations":{"a/b~c":{}}}"#,
                "/annotations/a~1b~0c",
            ),
            (
                r#"{"ociVersion":"1.0.0","hostname":"x\"y","process":{"cwd":[]}}"#,
                "/process/cwd",
            ),
        ];
        for (json, pointer) in cases {
            let error = Spec::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer), "{json}: {error}");
        }
    }

    #[test]
    fn survives_any_cut() {
        let json =
            br#"{"ociVersion":"1.0.0","mounts":[{"destination":"/a","options":["x","\"y\\"]}]}"#;
        for end in 0..json.len() {
            let error = Spec::from_json(&json[..end]).unwrap_err();
            assert!(error.pointer().is_some(), "{error}");
        }
    }
}

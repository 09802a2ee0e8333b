//! Variables of the environment whose values are no text: JSON cannot have them in `process.env`, so an annotation does,
//! an object of names with values in hexadecimal digits. They are the container's, for all programs run in it.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::error::{Error, Result};

const ANNOTATION: &str = "org.ocirun.env";

/// `NAME=value` of each.
///
/// # Errors
/// `InvalidSpec` for what is no such object, a name that cannot be one, and a value with a NUL byte.
pub(crate) fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<Vec<CString>> {
    let Some(text) = annotations.and_then(|all| all.get(ANNOTATION)) else {
        return Ok(Vec::new());
    };
    let wrong = |text: &str| Error::invalid_spec(&format!("/annotations/{ANNOTATION}"), text);
    let written: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
    let pair = |(name, digits): (&String, &String)| {
        if name.is_empty() || name.contains('=') {
            return Err(wrong(&format!("{name:?} is not a name of a variable")));
        }
        let not_hex = || {
            wrong(&format!(
                "the value of {name:?} is not in hexadecimal digits"
            ))
        };
        let value = bytes(digits).ok_or_else(not_hex)?;
        let pair = [name.as_bytes(), b"=", &value].concat();
        CString::new(pair).map_err(|_| wrong(&format!("{name:?} or its value has a NUL byte")))
    };
    written.iter().map(pair).collect()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
        let text = str::from_utf8(pair).ok().filter(|_| is_hex)?;
        u8::from_str_radix(text, 16).ok()
    };
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<CString>> {
        let annotations = [(ANNOTATION.to_owned(), text.to_owned())];
        of(Some(&annotations.into()))
    }

    #[test]
    fn values_of_any_bytes() {
        assert_eq!(of(None).unwrap(), Vec::<CString>::new());
        let found = read(r#"{"B": "ff00ff", "A": "fF01"}"#);
        assert!(found.unwrap_err().to_string().contains("NUL"));
        let found = read(r#"{"B": "", "A": "fF01"}"#).unwrap();
        assert_eq!(found, [c"A=\xff\x01".to_owned(), c"B=".to_owned()]);
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "[]",
            r#"{"": "00"}"#,
            r#"{"a=b": "01"}"#,
            r#"{"a": "0"}"#,
            r#"{"a": "+1"}"#,
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains("/annotations/org.ocirun.env"),
                "{text}: {error}"
            );
        }
    }
}

//! How a session ended, as clients are told.

use crate::error::Error;
use serde_json::json;

/// How a session ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Well, or with the program's exit code.
    Exited(i32),
    /// It could not be begun or finished.
    Failed(Error),
}

impl Outcome {
    /// What is sent on the stream of errors. Versions before the fourth of the protocol know a text or nothing.
    #[must_use]
    pub fn told(&self, version: u8) -> Vec<u8> {
        let status = match self {
            Self::Exited(0) if version < 4 => return Vec::new(),
            Self::Exited(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exited(code) => {
                let text = format!("command terminated with exit code {code}");
                if version < 4 {
                    return text.into_bytes();
                }
                let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
                json!({
                    "metadata": {},
                    "status": "Failure",
                    "message": text,
                    "reason": "NonZeroExitCode",
                    "details": {"causes": causes},
                })
            }
            Self::Failed(error) if version < 4 => return error.to_string().into_bytes(),
            Self::Failed(error) => json!({
                "metadata": {},
                "status": "Failure",
                "message": error.to_string(),
                "reason": "InternalError",
                "details": {"causes": [{"message": error.to_string()}]},
                "code": 500,
            }),
        };
        status.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::Value;

    #[test]
    fn told_by_version() {
        let failed = Outcome::Failed(Error::new(Kind::Failed, "no"));
        assert_eq!(Outcome::Exited(0).told(3), b"");
        assert_eq!(failed.told(1), b"no");
        let json = |outcome: &Outcome| serde_json::from_slice::<Value>(&outcome.told(4)).unwrap();
        assert_eq!(json(&Outcome::Exited(0))["status"], "Success");
        let status = json(&Outcome::Exited(3));
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        assert_eq!(json(&failed)["message"], "no");
    }
}

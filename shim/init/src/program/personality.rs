//! Which program's command line we speak: decided by the name we are called by.

/// Whose flags, messages and exit codes apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Personality {
    /// Our own: tini's command line, and pause if there is no argument.
    Own,
    /// tini, also as docker-init.
    Tini,
    /// dumb-init.
    DumbInit,
    /// catatonit, also as podman-init.
    Catatonit,
    /// The pause program of Kubernetes.
    Pause,
}

impl Personality {
    /// Decides by the last component of `argv[0]`.
    pub fn of(name: &[u8]) -> Self {
        let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        match base {
            b"tini" | b"tini-static" | b"docker-init" => Self::Tini,
            b"dumb-init" => Self::DumbInit,
            b"catatonit" | b"podman-init" => Self::Catatonit,
            b"pause" => Self::Pause,
            _ => Self::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Personality;

    #[test]
    fn the_name_decides() {
        for (name, wanted) in [
            ("/sbin/tini", Personality::Tini),
            ("docker-init", Personality::Tini),
            ("/usr/bin/dumb-init", Personality::DumbInit),
            ("/run/podman-init", Personality::Catatonit),
            ("/pause", Personality::Pause),
            ("ocirun-init", Personality::Own),
            ("", Personality::Own),
        ] {
            assert_eq!(Personality::of(name.as_bytes()), wanted, "{name}");
        }
    }
}

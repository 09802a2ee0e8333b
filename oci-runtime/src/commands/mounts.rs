//! `mounts add` and `mounts remove`.

use std::fs::File;
use std::io::Read;

use runtime_core::Container;
use runtime_core::spec::{self, mounts_from_json};

use super::{Failure, Invocation, Outcome, done};

/// Changes the mounts of a container that runs, as a file with a list of them says.
pub(super) fn mounts(invocation: &Invocation<'_>) -> Outcome {
    let [what, id, file] = invocation.arguments else {
        return Err(Failure::Argument(
            "mounts: add or remove, an id and a file".to_owned(),
        ));
    };
    let list = read(file)?;
    let container = Container::open_exclusive(&invocation.root()?, id)?;
    match what.as_str() {
        "add" => {
            for warning in container.add_mounts(&list)? {
                invocation.log.warning(&warning);
            }
            Ok(0)
        }
        "remove" => done(container.remove_mounts(&list)),
        other => Err(Failure::Argument(format!(
            "{other:?}: neither add nor remove"
        ))),
    }
}

fn read(path: &str) -> Result<Vec<spec::Mount>, Failure> {
    let mut json = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(spec::MAX_CONFIG_BYTES).read_to_end(&mut json));
    read.map_err(|error| Failure::File(format!("{path}: {}", crate::format::io(&error))))?;
    Ok(mounts_from_json(&json)?)
}

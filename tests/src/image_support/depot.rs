//! A registry that keeps what is pushed to it, as the distribution specification wants it, and refuses a manifest whose
//! blobs it does not have.

use super::{Answer, FakeRegistry, Request, digest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What it has; shared with the registry's threads.
#[derive(Debug, Clone, Default)]
pub struct Depot {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `repository:tag` and `repository:digest`.
    manifests: BTreeMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
}

impl Depot {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves it.
    pub fn serve(&self) -> FakeRegistry {
        let depot = self.clone();
        FakeRegistry::start(move |request| depot.answer(request))
    }

    /// Digests of its manifests.
    pub fn manifests(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        kept.manifests.values().map(|data| digest(data)).collect()
    }

    /// Whether a blob is there.
    pub fn has(&self, blob: &str) -> bool {
        self.kept.lock().unwrap().blobs.contains_key(blob)
    }

    /// The answer to one request.
    pub fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let path = path.trim_start_matches("/v2/");
        let mut kept = self.kept.lock().unwrap();
        if let Some((repository, upload)) = path.split_once("/blobs/uploads/") {
            return kept.upload(request, repository, upload, query);
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            let name = format!("{repository}:{name}");
            return match &request.method[..] {
                "PUT" => kept.take_manifest(name, &request.body),
                _ => found(kept.manifests.get(&name)),
            };
        }
        match path.split_once("/blobs/") {
            Some((_, blob)) => found(kept.blobs.get(blob)),
            None => status(200),
        }
    }
}

fn status(code: u16) -> Answer {
    Answer::Whole(code, Vec::new(), Vec::new())
}

fn found(data: Option<&Vec<u8>>) -> Answer {
    let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
    data.map_or_else(
        || status(404),
        |data| Answer::Whole(200, vec![("content-type".to_owned(), kind)], data.clone()),
    )
}

impl Kept {
    fn upload(&mut self, request: &Request, repository: &str, upload: &str, query: &str) -> Answer {
        if request.method == "POST" {
            self.uploads.push(Vec::new());
            return self.at(202, repository, self.uploads.len() - 1);
        }
        let number = upload.parse::<usize>().ok();
        let Some(number) = number.filter(|number| *number < self.uploads.len()) else {
            return status(404);
        };
        match &request.method[..] {
            "PATCH" => {
                let range = request.headers.get("content-range").unwrap();
                let from: usize = range.split('-').next().unwrap().parse().unwrap();
                if from != self.uploads[number].len() {
                    return self.at(416, repository, number);
                }
                self.uploads[number].extend_from_slice(&request.body);
                self.at(202, repository, number)
            }
            "GET" => self.at(204, repository, number),
            "PUT" => {
                let wanted = query.strip_prefix("digest=").unwrap_or_default();
                let data = std::mem::take(&mut self.uploads[number]);
                if digest(&data) != wanted {
                    return status(400);
                }
                self.blobs.insert(wanted.to_owned(), data);
                status(201)
            }
            _ => status(202),
        }
    }

    fn at(&self, code: u16, repository: &str, number: usize) -> Answer {
        let place = format!("/v2/{repository}/blobs/uploads/{number}");
        let last = self.uploads[number].len().saturating_sub(1);
        let headers = vec![
            ("location".to_owned(), place),
            ("range".to_owned(), format!("0-{last}")),
        ];
        Answer::Whole(code, headers, Vec::new())
    }

    fn take_manifest(&mut self, name: String, data: &[u8]) -> Answer {
        let manifest: Value = serde_json::from_slice(data).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        let mut parts = layers.chain([&manifest["config"]]);
        if !parts.all(|part| self.blobs.contains_key(part["digest"].as_str().unwrap())) {
            return status(400);
        }
        self.manifests.insert(name, data.to_vec());
        status(201)
    }
}

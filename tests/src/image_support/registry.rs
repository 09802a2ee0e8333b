//! A registry that does what it is told.

use super::Image;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a registry answers to one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Status, further headers, body.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// A 200 whose body breaks off after so many bytes.
    Cut(Vec<u8>, usize),
    /// A 200 that sends one byte a second.
    Slow(Vec<u8>),
    /// A 200 that never ends.
    Endless,
}

/// One request: method, path with query, headers in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As long as `content-length` says.
    pub body: Vec<u8>,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A registry on loopback over plain HTTP that answers as it was told, and remembers what it was asked.
#[derive(Debug)]
pub struct FakeRegistry {
    /// `127.0.0.1:port`.
    pub host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    /// Starts it; its threads end with the test's process.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler): (_, Arc<Handler>) = (requests.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, handler) = (seen.clone(), handler.clone());
                std::thread::spawn(move || serve(stream, &seen, &*handler));
            }
        });
        Self { host, requests }
    }

    /// One that serves an image as it should, except where `change` has another answer.
    pub fn serving(
        image: &Image,
        change: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let image = image.clone();
        Self::start(move |request| change(request).unwrap_or_else(|| honest(&image, request)))
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The answer that the specification wants, for pulls.
pub fn honest(image: &Image, request: &Request) -> Answer {
    let last = request
        .path
        .split('?')
        .next()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    if request.path == "/v2/" {
        return Answer::Whole(200, Vec::new(), b"{}".to_vec());
    }
    if request.path.contains("/manifests/") {
        let kind = (
            "content-type".to_owned(),
            "application/vnd.oci.image.manifest.v1+json".to_owned(),
        );
        return Answer::Whole(200, vec![kind], image.blobs[&image.manifest].clone());
    }
    let Some(blob) = image.blobs.get(&last) else {
        return Answer::Whole(404, Vec::new(), Vec::new());
    };
    match request.headers.get("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    }) {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            Answer::Whole(
                206,
                vec![("content-range".to_owned(), range)],
                blob[from..].to_vec(),
            )
        }
        None => Answer::Whole(200, Vec::new(), blob.clone()),
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut data = Vec::new();
    loop {
        while !data.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => data.extend_from_slice(&buffer[..read]),
            }
            // A TLS greeting: this registry speaks plain HTTP only.
            if data[0] == 0x16 {
                return;
            }
        }
        let end = data.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&data[..end]).into_owned();
        data.drain(..end + 4);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut request = Request {
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(|l| l.split_once(": "))
                .map(|(k, v)| (k.to_lowercase(), v.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        let length = request.headers.get("content-length");
        let length = length.map_or(0, |text| text.parse().unwrap());
        while data.len() < length {
            let mut buffer = [0; 65536];
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => data.extend_from_slice(&buffer[..read]),
            }
        }
        request.body = data.drain(..length).collect();
        seen.lock().unwrap().push(Request {
            body: Vec::new(),
            ..request.clone()
        });
        if !answer(&mut stream, &request, handler(&request)) {
            return;
        }
    }
}

/// Whether the connection can be used on.
fn answer(stream: &mut TcpStream, request: &Request, answer: Answer) -> bool {
    let head = |status: u16, extra: &str, length: Option<usize>| {
        let length = length
            .map(|l| format!("content-length: {l}\r\n"))
            .unwrap_or_default();
        format!("HTTP/1.1 {status} X\r\n{extra}{length}\r\n")
    };
    match answer {
        Answer::Whole(status, headers, body) => {
            let extra = headers
                .iter()
                .map(|(k, v)| format!("{k}: {v}\r\n"))
                .collect::<String>();
            let body = if request.method == "HEAD" {
                Vec::new()
            } else {
                body
            };
            let sent = stream.write_all(head(status, &extra, Some(body.len())).as_bytes());
            sent.and_then(|()| stream.write_all(&body)).is_ok()
        }
        Answer::Cut(body, length) => {
            drop(
                stream
                    .write_all(head(200, "", Some(body.len())).as_bytes())
                    .and_then(|()| stream.write_all(&body[..length])),
            );
            false
        }
        Answer::Slow(body) => {
            drop(stream.write_all(head(200, "", Some(body.len())).as_bytes()));
            for byte in body {
                if stream.write_all(&[byte]).is_err() {
                    return false;
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            false
        }
        Answer::Endless => {
            drop(stream.write_all(head(200, "connection: close\r\n", None).as_bytes()));
            while stream.write_all(&[7; 65536]).is_ok() {}
            false
        }
    }
}

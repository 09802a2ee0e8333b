//! A client of the interface itself, on a server that knows no call.

use super::conversation;
use tonic::service::Routes;
use tonic::transport::Server;

pub async fn check(bytes: &[u8]) {
    let answer = conversation(bytes, |io| {
        let one = tokio_stream::once(Ok::<_, std::io::Error>(io));
        Server::builder()
            .add_routes(Routes::default())
            .serve_with_incoming(one)
    });
    // Frames, of which the first tells of settings; or nothing.
    let answer = answer.await;
    assert!(answer.is_empty() || answer.get(3) == Some(&4), "{answer:?}");
}

//! What happens to containers, for whoever listens.

use crate::api::ContainerEventResponse;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events that a slow listener may be behind; then it is told that it missed some, and asks anew.
const BEHIND: usize = 1024;

/// The channel of events.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Arc<ContainerEventResponse>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
}

impl Events {
    /// Tells all listeners.
    pub fn send(&self, event: ContainerEventResponse) {
        // Without a listener there is nobody to tell.
        drop(self.0.send(Arc::new(event)));
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<ContainerEventResponse>> {
        self.0.subscribe()
    }
}

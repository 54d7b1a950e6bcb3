//! The listeners beside the capture, with one place to open and close them.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Open listeners. Closing lets requests in flight end, then lets the span writer empty its queue.
#[derive(Debug)]
pub struct SideDoors {
    closing: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Default for SideDoors {
    fn default() -> Self {
        Self {
            closing: watch::Sender::new(false),
            listeners: Vec::new(),
            writer: None,
        }
    }
}

impl SideDoors {
    /// Starts serving at an address.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn open(&mut self, address: SocketAddr, app: Router) -> anyhow::Result<()> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("while listening on {address}; is another collector running?")
        })?;
        let mut closing = self.closing.subscribe();
        let until = async move {
            // An error means that the sender has gone, which is a reason to close as well.
            drop(closing.wait_for(|closing| *closing).await);
        };
        self.listeners.push(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app)
                .with_graceful_shutdown(until)
                .await
            {
                tracing::error!(%address, %error, "a listener ended");
            }
        }));
        Ok(())
    }

    /// The task that ends by itself once every listener has dropped its queue's sender.
    pub fn writer(&mut self, writer: JoinHandle<()>) {
        self.writer = Some(writer);
    }

    /// Closes all, waiting a bounded time for each.
    pub async fn close(self) {
        self.closing.send_replace(true);
        let patience = std::time::Duration::from_secs(5);
        for task in self.listeners.into_iter().chain(self.writer) {
            let abort = task.abort_handle();
            if tokio::time::timeout(patience, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

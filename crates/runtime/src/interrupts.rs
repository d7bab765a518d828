//! The operator's interrupts: ctrl-c, and the signal with which systemd ends a unit.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Delivers one message per SIGINT or SIGTERM from now on, instead of the process's end.
///
/// # Errors
/// Where the system does not let the process handle signals.
pub fn interrupts() -> std::io::Result<mpsc::Receiver<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let more = tokio::select! {
                more = interrupt.recv() => more,
                more = terminate.recv() => more,
            };
            if more.is_none() || sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

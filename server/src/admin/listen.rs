//! The socket itself: conversations of lines, each carried to its end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Ask, LINE_TIMEOUT, LOCAL, Told, recorded};
use crate::error::ServerError;
use crate::serve::Shared;

/// Bytes of one question: a receipt, with its quotes escaped.
const LINE_LEN_MAX: u64 = 256 * 1024;

/// Opens the socket; a stale one of a server that died is replaced.
///
/// # Errors
/// A server answers there already, or the path cannot be used.
pub fn listen(path: &Path) -> Result<UnixListener, ServerError> {
    let fault = |source| ServerError::Listen {
        address: path.display().to_string(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(fault(std::io::ErrorKind::AddrInUse.into()));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(fault)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fault)?;
    Ok(listener)
}

/// Answers questions until `draining` says that it is enough.
pub async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    mut draining: watch::Receiver<bool>,
) {
    let mut conversations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = draining.wait_for(|draining| *draining) => break,
            _ = conversations.join_next(), if !conversations.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (shared, draining) = (shared.clone(), draining.clone());
                conversations.spawn(async move {
                    let _ = converse(stream, &shared, draining).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    // What was begun is carried out, written down and answered.
    let ending = async { while conversations.join_next().await.is_some() {} };
    let _ = timeout(shared.config.limits.drain, ending).await;
    conversations.shutdown().await;
}

async fn converse(
    stream: UnixStream,
    shared: &Shared,
    mut draining: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut bounded = (&mut reader).take(LINE_LEN_MAX);
        let read = tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return Ok(()),
            read = timeout(LINE_TIMEOUT, bounded.read_line(&mut line)) => read??,
        };
        if read == 0 {
            return Ok(());
        }
        let told = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => recorded(shared, &ask, LOCAL).await,
            Err(error) => Told::Failed {
                what: format!("not a question: {error}"),
            },
        };
        let mut text = serde_json::to_vec(&told)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
    }
}

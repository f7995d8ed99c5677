//! Work that does not end with the connection of whoever asked for it.
//!
//! hyper drops the future of a request when its client hangs up. What is in the store by then would
//! be told to nobody: a receipt that no rollout hears of, an offer that is taken back and still served,
//! an act without its second record in the audit log. So what may change something runs in a task of
//! its own, and the request waits for that.

use std::future::{Future, pending};
use std::panic::resume_unwind;

/// What `work` gives; it goes on where nobody waits for that any more.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends, and whoever waits with it.
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it() {
        let (go_on, going) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = async move {
            going.await.unwrap();
            done.send(7).unwrap();
        };
        let waiting = timeout(Duration::from_millis(1), to_its_end(work));
        assert!(waiting.await.is_err(), "nobody waits any more");
        go_on.send(()).unwrap();
        assert_eq!(is_done.await, Ok(7));
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn who_waits_is_told_of_a_panic() {
        to_its_end(async { panic!("as it was") }).await;
    }
}

//! Work that may take long: on threads of its own, so that it never holds up a short look at a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, oneshot};
use tonic::Status;

use super::memory::settle_later;

/// Such pieces of work at once; more wait.
const AT_ONCE: usize = 4;
/// Stack of such a thread: it walks trees by recursion.
const STACK: usize = 2 << 20;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Tells work whether anybody still waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone(Arc<AtomicBool>);

impl Gone {
    /// Whether nobody waits any more.
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says so.
    pub(crate) fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// `CANCELLED` when nobody waits any more.
    ///
    /// # Errors
    /// That one.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.is_so() { Err(Status::cancelled("the caller went away")) } else { Ok(()) }
    }
}

/// Says that nobody waits, when dropped.
struct SayOnDrop(Gone);

impl Drop for SayOnDrop {
    fn drop(&mut self) {
        self.0.say();
    }
}

/// Does work on a thread of its own. When the future is dropped, [`Gone`] tells the work so.
///
/// # Errors
/// Those of the work; `RESOURCE_EXHAUSTED` when there can be no more threads.
///
/// # Cancel safety
/// Dropping it ends the work at its next look at [`Gone`].
pub(crate) async fn long<T, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce(&Gone) -> Result<T, Status> + Send + 'static,
{
    let gone = Gone::default();
    let _guard = SayOnDrop(gone.clone());
    let place = PLACES.acquire().await.map_err(|_| Status::unavailable("the bridge is stopping"))?;
    let (tell, told) = oneshot::channel();
    thread("tree", move || {
        let _place = place;
        // Whoever waited may have gone.
        let _ = tell.send(work(&gone));
        settle_later();
    })?;
    told.await.map_err(|_| Status::internal("the file operation was lost"))?
}

/// Starts a thread.
///
/// # Errors
/// `RESOURCE_EXHAUSTED`.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Status> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).map_err(|error| {
        Status::resource_exhausted(format!("cannot start a thread: {}", super::errors::reason(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_told_when_nobody_waits() {
        assert_eq!(long(|gone| Ok(!gone.is_so())).await.ok(), Some(true));
        let (tell, told) = oneshot::channel();
        let mut call = Box::pin(long(move |gone| {
            while !gone.is_so() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let _ = tell.send(gone.check().unwrap_err().code());
            Ok(())
        }));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(30), &mut call).await.is_err());
        drop(call);
        assert_eq!(told.await.unwrap(), tonic::Code::Cancelled);
    }
}

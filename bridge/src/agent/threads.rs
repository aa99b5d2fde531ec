//! Threads for system calls that may wait, so that the one that serves everybody never does.

use tokio::sync::Semaphore;
use tonic::Status;

/// Calls on files under way at once; more wait.
const FILES: usize = 4;
/// Programs being started at once; more wait. Each waits until its file is read, however slow the disk.
const STARTS: usize = 8;
/// Threads that both take together: calls that hang on files leave room for programs, and the other way round.
pub(crate) const MOST: usize = FILES + STARTS;

static FILE_PLACES: Semaphore = Semaphore::const_new(FILES);
static START_PLACES: Semaphore = Semaphore::const_new(STARTS);

/// Makes calls on files.
///
/// # Errors
/// Those of the work.
///
/// # Cancel safety
/// Work that has begun goes on to its end when the future is dropped, and what it returns is dropped then; work that waits
/// for a place is never begun.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Status> + Send + 'static,
{
    run(&FILE_PLACES, work).await
}

/// Starts a program: looks up its user and directories, forks, and waits for the kernel to have taken its file.
///
/// # Errors
/// Those of the work.
///
/// # Cancel safety
/// As [`blocking`]: whatever is to follow a start must be part of the work.
pub(crate) async fn starting<T, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Status> + Send + 'static,
{
    run(&START_PLACES, work).await
}

async fn run<T, F>(places: &'static Semaphore, work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Status> + Send + 'static,
{
    let place = places.acquire().await.map_err(|_| Status::unavailable("the bridge is stopping"))?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    done.await.unwrap_or_else(|error| Err(Status::internal(format!("the work was lost: {error}"))))
}

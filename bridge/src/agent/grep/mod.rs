//! Searching the text of files.
//!
//! | file | what |
//! |---|---|
//! | `query` | what is searched for, and where |
//! | `search` | one file |
//! | `turn` | several files at once, told in the order of their paths |
//! | `told` | what goes to the caller, within its limits |
//!
//! One thread walks the tree, a few search what it finds; all end with the search. What is found waits in memory only
//! as long as something before it is under way, and only up to a bound.

mod query;
mod search;
mod told;
mod turn;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tonic::Status;

use super::long::long;
use super::threads::blocking;
use crate::v1::{GrepRequest, GrepResponse};
use query::Query;
use search::Searching;
use told::{Stop, Told};
use turn::Turns;

/// Messages that wait for the caller.
const QUEUE: usize = 2;
/// How long the caller hears nothing at most.
const BEAT: Duration = Duration::from_secs(1);
/// Files that a searching thread takes at a time.
const BATCH: usize = 32;
/// Most threads that search.
const MAX_THREADS: usize = 4;

type Batch = (usize, Vec<PathBuf>);

/// Begins a search; it ends when the stream is dropped.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad pattern or limit, `NOT_FOUND`, `FAILED_PRECONDITION` when the path is neither a directory
/// nor a regular file.
pub(crate) async fn begin(
    root: PathBuf,
    request: GrepRequest,
) -> Result<impl Stream<Item = Result<GrepResponse, Status>> + Send + 'static, Status> {
    let query = Arc::new(blocking(move || Query::new(root, request)).await?);
    let (out, told) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let failed = out.clone();
        let searched = long(move |_| run(&query, out)).await;
        if let Err(status) = searched {
            // The caller may have gone.
            let _ = failed.send(Err(status)).await;
        }
    });
    Ok(stream::unfold(told, |mut told| async {
        let next = tokio::time::timeout(BEAT, told.recv()).await;
        let message = next.unwrap_or_else(|_| Some(Ok(GrepResponse::default())));
        message.map(|message| (message, told))
    }))
}

/// Searches to the end, on this thread and those it starts.
fn run(query: &Arc<Query>, out: mpsc::Sender<Result<GrepResponse, Status>>) -> Result<(), Status> {
    let stop = Stop::new(out);
    let told = Mutex::new(Told::new(stop.clone(), query.max_matches));
    if query.is_file() {
        let found = Searching::new(query, &stop).file(&query.root);
        lock(&told).tell(found);
        lock(&told).end();
        return Ok(());
    }
    let turns = Turns::new(stop.clone());
    let (batches, taken) = sync_channel::<Batch>(MAX_THREADS);
    let taken = Mutex::new(taken);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    std::thread::scope(|scope| {
        let mut started = Err(Status::resource_exhausted("cannot start a thread to search with"));
        for _ in 0..threads {
            let work = || search_batches(&mut Searching::new(query, &stop), &turns, &taken, &told);
            let thread = std::thread::Builder::new().name("grep".to_owned());
            if thread.spawn_scoped(scope, work).is_ok() {
                started = Ok(());
            }
        }
        started?;
        let (mut number, mut batch) = (0, Vec::with_capacity(BATCH));
        for file in query.files(|problem| lock(&told).problem(problem)) {
            if stop.is_so() {
                break;
            }
            batch.push(file);
            if batch.len() == BATCH {
                // The threads take until the sending end is dropped.
                let _ = batches.send((number, std::mem::replace(&mut batch, Vec::with_capacity(BATCH))));
                number += 1;
            }
        }
        let _ = batches.send((number, batch));
        drop(batches);
        Ok::<(), Status>(())
    })?;
    lock(&told).end();
    Ok(())
}

/// Searches batch after batch; each is told when its turn has come, and while it is its turn.
fn search_batches(
    searching: &mut Searching<'_>,
    turns: &Turns,
    taken: &Mutex<Receiver<Batch>>,
    told: &Mutex<Told>,
) {
    loop {
        let Ok((number, files)) = lock(taken).recv() else { return };
        let mut held = turns.hold(number);
        for file in files {
            if !held.wait_for_room() {
                break;
            }
            let found = searching.file(&file);
            if held.is_turn() {
                let before = held.take();
                let mut told = lock(told);
                before.into_iter().chain([found]).for_each(|found| told.tell(found));
            } else {
                held.push(found);
            }
        }
        let rest = held.wait_for_turn();
        let mut told = lock(told);
        rest.into_iter().for_each(|found| told.tell(found));
        drop(told);
        held.done();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

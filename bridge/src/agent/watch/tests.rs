use super::*;
use futures::StreamExt;
use std::pin::Pin;
use tonic::Code;

type Told = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

struct Watched {
    dir: tempfile::TempDir,
    told: Told,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Watched {
    async fn new(recursive: bool, exclude: &[&str], prepare: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir(&top).unwrap();
        prepare(&top);
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let request = WatchRequest { recursive, exclude, ..Default::default() };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let told = Box::pin(begin(top, request, stopped).await.unwrap());
        Self { dir, told, stop: Some(stop) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("top").join(name)
    }

    /// What is told until nothing more comes, as `kind path`.
    async fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let quiet = Duration::from_millis(300);
        while let Ok(Some(message)) = tokio::time::timeout(quiet, self.told.next()).await {
            for event in message.unwrap().events {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let kind = event.kind().as_str_name().trim_start_matches("WATCH_KIND_").to_lowercase();
                let from = if event.from.is_empty() {
                    String::new()
                } else {
                    format!(" from {}", text(&event.from))
                };
                let slash = if event.is_dir { "/" } else { "" };
                all.push(format!("{kind} {}{slash}{from}", text(&event.path)));
            }
        }
        all
    }
}

#[tokio::test]
async fn what_happens_in_a_directory_is_told_once() {
    let mut watched = Watched::new(false, &["*.log"], |top| {
        std::fs::create_dir(top.join("sub")).unwrap();
        std::fs::write(top.join("old"), "").unwrap();
    })
    .await;
    std::fs::write(watched.path("new"), "text").unwrap();
    std::fs::write(watched.path("sub/below"), "").unwrap();
    std::fs::write(watched.path("x.log"), "").unwrap();
    std::fs::write(watched.path("old"), "changed").unwrap();
    std::fs::write(watched.path("old"), "changed again").unwrap();
    assert_eq!(watched.told().await, ["created new", "changed old"]);
    std::fs::rename(watched.path("new"), watched.path("newer")).unwrap();
    std::fs::rename(watched.path("newer"), watched.dir.path().join("outside")).unwrap();
    std::fs::remove_file(watched.path("old")).unwrap();
    std::fs::write(watched.path("old"), "").unwrap();
    let told = watched.told().await;
    assert_eq!(told, ["renamed newer from new", "removed old", "created old", "removed newer"]);
}

#[tokio::test]
async fn new_directories_are_followed_and_their_content_told() {
    let mut watched = Watched::new(true, &["skip"], |top| {
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::create_dir_all(top.join("skip/x")).unwrap();
    })
    .await;
    std::fs::write(watched.path("a/b/f"), "").unwrap();
    std::fs::write(watched.path("skip/x/f"), "").unwrap();
    assert_eq!(watched.told().await, ["created a/b/f"]);
    std::fs::create_dir_all(watched.path("new/deep/er")).unwrap();
    std::fs::write(watched.path("new/deep/er/f"), "").unwrap();
    let mut told = watched.told().await;
    told.sort();
    told.dedup();
    assert_eq!(told, ["created new/", "created new/deep/", "created new/deep/er/", "created new/deep/er/f"]);
    // A directory that is moved takes along what is below it.
    std::fs::rename(watched.path("a"), watched.path("new/a")).unwrap();
    assert_eq!(watched.told().await, ["renamed new/a/ from a"]);
    std::fs::write(watched.path("new/a/b/g"), "").unwrap();
    assert_eq!(watched.told().await, ["created new/a/b/g"]);
    // One that leaves is watched no more, and one that comes is.
    std::fs::rename(watched.path("new/a"), watched.dir.path().join("out")).unwrap();
    assert_eq!(watched.told().await, ["removed new/a/"]);
    std::fs::write(watched.dir.path().join("out/b/h"), "").unwrap();
    assert_eq!(watched.told().await, [""; 0]);
    std::fs::rename(watched.dir.path().join("out"), watched.path("in")).unwrap();
    let mut told = watched.told().await;
    told.sort();
    assert_eq!(told, ["created in/", "created in/b/", "created in/b/f", "created in/b/g", "created in/b/h"]);
    std::fs::write(watched.path("in/b/f"), "more").unwrap();
    assert_eq!(watched.told().await, ["changed in/b/f"]);
}

#[tokio::test]
async fn what_the_agent_makes_is_told_when_it_is_in_its_place() {
    use super::super::{atomic::Replacement, copy, long::Gone, revision::Expected};
    let mut watched = Watched::new(true, &[], |_| {}).await;
    let write =
        |path: PathBuf| Replacement::begin(&path, None, Expected::default()).unwrap().commit().unwrap();
    write(watched.path("f"));
    assert_eq!(watched.told().await, ["created f"]);
    write(watched.path("f"));
    assert_eq!(watched.told().await, ["changed f"]);
    let source = watched.dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("x"), "").unwrap();
    copy::copy(&source, &watched.path("copy"), false, &Gone::default()).unwrap();
    assert_eq!(watched.told().await, ["created copy/", "created copy/x"]);
}

#[tokio::test]
async fn it_ends_with_its_directory_and_with_the_agent() {
    let mut watched = Watched::new(true, &[], |top| std::fs::write(top.join("f"), "").unwrap()).await;
    std::fs::remove_dir_all(watched.path("")).unwrap();
    let told = watched.told().await;
    assert_eq!(told.last().map(String::as_str), Some("removed /"), "{told:?}");
    assert!(watched.told.next().await.is_none());
    let mut watched = Watched::new(false, &[], |_| {}).await;
    drop(watched.stop.take());
    let last = watched.told.next().await.unwrap().unwrap_err();
    assert_eq!(last.code(), Code::Unavailable);
    assert!(watched.told.next().await.is_none());
}

#[tokio::test]
async fn a_slow_caller_hears_of_what_it_missed() {
    let names = ["a", "b"];
    let prepare = |top: &Path| names.iter().for_each(|name| std::fs::write(top.join(name), "").unwrap());
    let mut watched = Watched::new(false, &[], prepare).await;
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // More than the kernel keeps; the runtime of this test has one thread, so that nothing is read meanwhile.
    for n in 0..limit + 1000 {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(if n % 4 < 2 { 0o600 } else { 0o644 });
        std::fs::set_permissions(watched.path(names[n % 2]), mode).unwrap();
    }
    let told = watched.told().await;
    assert_eq!(told.iter().filter(|event| event.starts_with("overflow")).count(), 1, "{}", told.len());
    std::fs::write(watched.path("after"), "").unwrap();
    assert_eq!(watched.told().await, ["created after"]);
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let refused = async |path: &str, exclude: Vec<String>| {
        let request = WatchRequest { exclude, ..Default::default() };
        begin(dir.path().join(path), request, std::future::pending()).await.err().unwrap().code()
    };
    assert_eq!(refused("none", vec![]).await, Code::NotFound);
    assert_eq!(refused("file", vec![]).await, Code::FailedPrecondition);
    assert_eq!(refused("", vec!["[".into()]).await, Code::InvalidArgument);
}

//! Before the agent serves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Agent, Options, command, run};

#[tokio::test]
async fn first_boot_fills_the_data_directory_and_later_ones_leave_it() {
    let prepare = |dir: &Path| {
        std::fs::create_dir_all(dir.join("runtime/templates/sub")).unwrap();
        std::fs::write(dir.join("runtime/templates/a"), "template").unwrap();
        std::fs::write(dir.join("runtime/templates/sub/b"), "template").unwrap();
        std::fs::create_dir(dir.join("data")).unwrap();
        std::fs::write(dir.join("data/a"), "mine").unwrap();
    };
    let mut agent = Agent::with(Options { prepare: Some(prepare), ..Options::default() });
    assert_eq!(std::fs::read(agent.data("a")).unwrap(), b"mine");
    assert_eq!(std::fs::read(agent.data("sub/b")).unwrap(), b"template");
    std::fs::remove_file(agent.data("sub/b")).unwrap();
    agent.signal("TERM");
    assert_eq!(agent.wait(), Some(0));
    let dir = std::mem::replace(&mut agent.dir, tempfile::tempdir().unwrap());
    let agent = Agent::in_dir(dir, Options::default());
    assert!(!agent.data("sub/b").exists(), "a deleted template came back");
}

#[tokio::test]
async fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let prepare = |dir: &Path| {
        std::fs::create_dir(dir.join("run")).unwrap();
        std::os::unix::fs::chown(dir.join("run"), Some(4242), Some(4343)).unwrap();
        // Bound and left, as by an agent that was killed.
        drop(std::os::unix::net::UnixListener::bind(dir.join("run/bridge.sock")).unwrap());
    };
    let agent = Agent::with(Options { prepare: Some(prepare), ..Options::default() });
    for name in ["bridge.sock", "bridge-fd.sock"] {
        let found = agent.dir.path().join("run").join(name).symlink_metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
        assert_eq!((found.uid(), found.gid()), (4242, 4343), "it belongs to the directory's owner");
    }
    assert_eq!(run(&mut agent.client().await, command("echo hi")).await.out(), "hi\n");
}

#[tokio::test]
async fn others_may_not_connect_even_when_the_socket_is_opened_up() {
    let agent = Agent::start();
    let socket = agent.socket();
    for path in [agent.dir.path(), socket.parent().unwrap()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
    // Credentials belong to threads, so that this one can be someone else.
    let greeting_as = |uid: u32| {
        let socket = socket.clone();
        let connect = move || {
            let uid = rustix::fs::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let mut connection = std::os::unix::net::UnixStream::connect(socket)?;
            connection.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
            // The server speaks first; a peer it does not like gets nothing.
            std::io::Read::read(&mut connection, &mut [0; 64])
        };
        std::thread::spawn(connect).join().unwrap().unwrap_or(0)
    };
    assert!(greeting_as(0) > 0);
    assert_eq!(greeting_as(4242), 0);
}

#[tokio::test]
async fn it_is_small_when_idle() {
    let agent = Agent::first();
    let mut client = agent.client().await;
    run(&mut client, command("true")).await;
    // A debug build is bigger than what ships, and still small.
    assert!(agent.rss() < 12 * 1024, "{} KiB", agent.rss());
}

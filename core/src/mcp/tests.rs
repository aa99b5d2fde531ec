//! Against servers that the real agent runs.

use super::McpTable;
use crate::bridge::BridgeClient;
use crate::bridge::tests::Fixture;
use crate::error::{Error, ErrorKind};
use crate::names::WorkspaceId;
use crate::types::{McpConnectOptions, McpConnection, McpSendOptions};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// A server in a few lines of shell: answers what it is asked, in its own time.
const SERVER: &str = r#"
say() { printf '%s\n' "$1"; }
echo started >&2
while read -r line; do
    id=$(printf %s "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case $line in
    *'"initialize"'*)
        say "not a message"
        say '{"jsonrpc":"2.0","id":"ask-1","method":"ping"}'
        say '{"jsonrpc":"2.0","id":2,"method":"roots/list"}'
        say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"shell\",\"version\":\"7\"},\"instructions\":\"be brief\"}}" ;;
    *'"cursor":"two"'*) say "[{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"tools\":[{\"name\":\"b\",\"own\":[1]}]}}]" ;;
    *'"tools/list"'*) say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"tools\":[{\"name\":\"a\"}],\"nextCursor\":\"two\"}}" ;;
    *'"slow"'*) (sleep 0.3; say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":\"slow\"}") & ;;
    *'"never"'*) ;;
    *'"progress"'*)
        token=$(printf %s "$line" | sed -n 's/.*"progressToken":\([0-9]*\).*/\1/p')
        say "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":$token,\"progress\":1}}"
        say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{}}" ;;
    *'"deaf"'*) exec sleep 60 ;;
    *'"quit"'*) echo "going" >&2; exit 3 ;;
    *'"id":'*'"method"'*) say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":\"quick\"}" ;;
    *) echo "heard $line" >&2 ;;
    esac
done
"#;

struct Bench {
    fixture: Fixture,
    client: BridgeClient,
    table: McpTable,
    workspace: WorkspaceId,
}

impl Bench {
    async fn new() -> Self {
        let fixture = Fixture::start().await;
        std::fs::write(fixture.data().join("server.sh"), SERVER).unwrap();
        let client = fixture.client();
        Self { fixture, client, table: McpTable::default(), workspace: WorkspaceId::new("w").unwrap() }
    }

    async fn try_connect(&self, options: McpConnectOptions) -> Result<McpConnection, Error> {
        self.table.connect(&self.client, &self.workspace, &options).await
    }

    async fn connect(&self) -> McpConnection {
        let args = vec!["server.sh".to_owned(), "it's".to_owned()];
        self.try_connect(McpConnectOptions::default().command("/bin/sh").args(args)).await.unwrap()
    }

    async fn send(&self, id: &str, caller: &str, message: Value, ms: u64) -> Result<Option<Value>, Error> {
        let message =
            message.as_object().unwrap().clone().into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let options =
            McpSendOptions::default().connection_id(id).message(message).caller(caller).timeout_ms(ms);
        let reply = self.table.send(&self.workspace, options).await?;
        Ok(reply.message.map(|message| Value::Object(message.into_iter().collect())))
    }

    fn described(&self, id: &str) -> McpConnection {
        let list = self.table.list(&self.workspace).connections;
        list.into_iter().find(|one| one.connection_id == id).unwrap()
    }

    async fn until(&self, id: &str, look: impl Fn(&McpConnection) -> bool) -> McpConnection {
        for _ in 0..200 {
            let now = self.described(id);
            if look(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{:?}", self.described(id));
    }
}

#[tokio::test]
async fn a_session_begins_with_all_the_server_tells() {
    let bench = Bench::new().await;
    let connection = bench.connect().await;
    assert_eq!((connection.name.as_str(), connection.server_name.as_str()), ("sh", "shell"));
    assert_eq!(
        (connection.server_version.as_str(), connection.protocol_version.as_str()),
        ("7", "2025-06-18")
    );
    assert_eq!(connection.instructions.as_deref(), Some("be brief"));
    let tools: Vec<Value> = connection.tools.iter().map(|tool| json!(tool)).collect();
    assert_eq!(tools, [json!({ "name": "a" }), json!({ "name": "b", "own": [1] })]);
    // What it asked was answered, and what was no message is where people look for it.
    let now = bench.until(&connection.connection_id, |one| one.stderr.contains("-32601")).await;
    assert!(now.stderr.contains("started\n") && now.stderr.contains("not a message\n"), "{}", now.stderr);
    assert!(now.stderr.contains(r#""id":"ask-1","jsonrpc":"2.0","result":{}"#), "{}", now.stderr);
    // A caller's own beginning is answered as the session began.
    let begun =
        bench.send(&connection.connection_id, "", json!({ "id": 5, "method": "initialize" }), 5000).await;
    assert_eq!(begun.unwrap().unwrap()["result"]["serverInfo"]["name"], "shell");
}

#[tokio::test]
async fn callers_never_get_each_others_answers() {
    let bench = Bench::new().await;
    let id = bench.connect().await.connection_id;
    let ask = |caller: &'static str, method: &'static str| {
        let (bench, id) = (&bench, &id);
        async move {
            bench.send(id, caller, json!({ "id": "same", "method": method }), 10_000).await.unwrap().unwrap()
        }
    };
    let answers = tokio::join!(ask("a", "slow"), ask("a", "quick"), ask("b", "quick"), ask("b", "slow"));
    let wanted = |result: &str| json!({ "jsonrpc": "2.0", "id": "same", "result": result });
    assert_eq!(answers, (wanted("slow"), wanted("quick"), wanted("quick"), wanted("slow")));
    assert_eq!(bench.send(&id, "", json!({ "method": "notifications/x" }), 0).await.unwrap(), None);
    for bad in [
        json!({}),
        json!({ "id": 1 }),
        json!({ "id": 1, "result": {} }),
        json!({ "id": null, "method": "x" }),
        json!({ "id": 1, "method": "x", "params": [] }),
        json!({ "method": "notifications/cancelled" }),
    ] {
        let error = bench.send(&id, "", bad.clone(), 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn what_is_given_up_is_cancelled_on_the_other_side() {
    let bench = Bench::new().await;
    let id = bench.connect().await.connection_id;
    let late = bench.send(&id, "", json!({ "id": 1, "method": "never" }), 100).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    bench.until(&id, |one| one.stderr.contains(r#""reason":"the caller has gone""#)).await;
    // A caller's own cancellation names its own request, and nobody else's.
    let never = bench.send(&id, "a", json!({ "id": "x", "method": "never" }), 60_000);
    let cancel = async {
        bench.until(&id, |one| one.pending == 1).await;
        let cancelled =
            json!({ "method": "notifications/cancelled", "params": { "requestId": "x", "reason": "mine" } });
        bench.send(&id, "b", cancelled.clone(), 0).await.unwrap();
        bench.send(&id, "a", cancelled, 0).await.unwrap();
        bench.until(&id, |one| one.stderr.contains(r#""reason":"mine""#)).await
    };
    tokio::select! {
        _ = never => panic!("it is never answered"),
        now = cancel => assert_eq!(now.stderr.matches(r#""reason":"mine""#).count(), 1, "{}", now.stderr),
    }
    bench.until(&id, |one| one.pending == 0).await;
}

#[tokio::test]
async fn notifications_are_kept_and_told_until_the_end() {
    let bench = Bench::new().await;
    let id = bench.connect().await.connection_id;
    let request =
        json!({ "id": 1, "method": "progress", "params": { "_meta": { "progressToken": "mine" } } });
    bench.send(&id, "a", request.clone(), 5000).await.unwrap();
    let mut heard = bench.table.notifications(&bench.workspace, &id).unwrap();
    let first = heard.next().await.unwrap().unwrap();
    assert_eq!((first.method.as_str(), first.caller.as_deref()), ("notifications/progress", Some("a")));
    assert_eq!(json!(first.params), json!({ "progressToken": "mine", "progress": 1 }));
    bench.send(&id, "b", request, 5000).await.unwrap();
    assert_eq!(heard.next().await.unwrap().unwrap().caller.as_deref(), Some("b"));
    bench.table.close(&bench.workspace, &id).await.unwrap();
    assert!(heard.next().await.is_none());
}

#[tokio::test]
async fn an_end_is_told_to_all_who_wait_and_stays_to_be_seen() {
    let bench = Bench::new().await;
    let id = bench.connect().await.connection_id;
    let waiting = bench.send(&id, "", json!({ "id": 1, "method": "never" }), 0);
    let quit = async {
        bench.until(&id, |one| one.pending == 1).await;
        bench.send(&id, "", json!({ "id": 2, "method": "quit" }), 0).await
    };
    let (waiting, quit) = tokio::join!(waiting, quit);
    for error in [waiting.unwrap_err(), quit.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let now = bench.described(&id);
    assert!(!now.running && now.stderr.ends_with("going\n"), "{now:?}");
    assert_eq!(now.exit.map(|exit| exit.exit_code), Some(3));
    assert_eq!(now.ended_because.as_deref(), Some("its process has exited"));
    let error = bench.send(&id, "", json!({ "id": 1, "method": "x" }), 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let other = WorkspaceId::new("other").unwrap();
    assert_eq!(bench.table.close(&other, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
    bench.table.close(&bench.workspace, &id).await.unwrap();
    assert_eq!(bench.table.close(&bench.workspace, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_server_that_reads_no_more_is_closed_all_the_same() {
    let bench = Bench::new().await;
    let id = bench.connect().await.connection_id;
    bench.send(&id, "", json!({ "method": "deaf" }), 0).await.unwrap();
    // More than all that lies between here and there holds.
    let long = json!({ "method": "notifications/x", "params": { "long": "x".repeat(1 << 20) } });
    let flood = async {
        loop {
            bench.send(&id, "", long.clone(), 0).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), flood).await.is_err(), "it still reads");
    let closing = bench.table.close(&bench.workspace, &id);
    let closed = tokio::time::timeout(Duration::from_secs(20), closing).await.unwrap().unwrap();
    assert_eq!(closed.ended_because.as_deref(), Some("it was closed"));
}

#[tokio::test]
async fn a_server_that_does_not_begin_is_told_with_its_last_words() {
    let bench = Bench::new().await;
    let shell = |script: &str| {
        McpConnectOptions::default()
            .command("sh")
            .args(vec!["-c".to_owned(), script.to_owned()])
            .timeout_ms(2000u64)
    };
    let refused = r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"not today"}}'; sleep 60"#;
    for (options, kind, text) in [
        (McpConnectOptions::default(), ErrorKind::InvalidArgument, "command"),
        (McpConnectOptions::default().command("no-such-program"), ErrorKind::NotFound, "no-such-program"),
        (shell("echo broken >&2; exit 4"), ErrorKind::FailedPrecondition, "broken"),
        (shell(refused), ErrorKind::FailedPrecondition, "not today"),
        (
            shell(r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; sleep 60"#),
            ErrorKind::FailedPrecondition,
            "initialize",
        ),
        (shell("echo still >&2; sleep 60"), ErrorKind::Timeout, "still"),
    ] {
        let error = bench.try_connect(options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(format!("{error:#}").contains(text) || error.to_string().contains(text), "{text}: {error}");
    }
    assert!(bench.table.list(&bench.workspace).connections.is_empty());
    // None of them is left.
    let alone = || {
        let found = std::process::Command::new("pgrep").args(["-f", "still >&2; sleep 60"]).output().unwrap();
        found.stdout.is_empty()
    };
    for _ in 0..100 {
        if alone() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(alone());
    drop(bench.fixture);
}

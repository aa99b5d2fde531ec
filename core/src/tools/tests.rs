//! Against the real agent.

use super::{call, check, list};
use crate::bridge::BridgeClient;
use crate::bridge::tests::Fixture;
use crate::error::ErrorKind;
use crate::types::{ToolCallOptions, ToolResult};
use serde_json::{Value, json};

fn options(name: &str, arguments: Value) -> ToolCallOptions {
    let fields = arguments.as_object().unwrap().clone();
    ToolCallOptions::default()
        .name(name)
        .arguments(fields.into_iter().collect::<std::collections::BTreeMap<_, _>>())
}

async fn run(client: &BridgeClient, name: &str, arguments: Value) -> ToolResult {
    call(client, &options(name, arguments)).await.unwrap()
}

async fn ok(client: &BridgeClient, name: &str, arguments: Value) -> ToolResult {
    let result = run(client, name, arguments).await;
    assert!(!result.is_error, "{result:?}");
    result
}

#[test]
fn schemas_stand_alone_and_say_what_is_needed() {
    let tools = list().tools;
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["read", "write", "list", "edit", "exec"]);
    for tool in &tools {
        let schema = &tool.input_schema;
        assert_eq!(schema["type"], "object", "{}", tool.name);
        assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
        assert!(!schema.contains_key("$defs") && !schema.contains_key("$schema"), "{schema:?}");
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(
                property["description"].is_string() && property["type"].is_string(),
                "{}.{name}",
                tool.name
            );
        }
    }
    assert_eq!(tools[3].input_schema["required"], json!(["path", "old_text", "new_text"]));
    assert_eq!(tools[0].input_schema["properties"]["n_lines"]["default"], 200);
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    for (name, arguments) in [
        ("reed", json!({})),
        ("read", json!({})),
        ("read", json!({ "path": 1 })),
        ("read", json!({ "path": "a", "colour": "red" })),
        ("exec", json!({ "command": "true", "timeout": -1 })),
    ] {
        let error = check(&options(name, arguments.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name} {arguments}");
    }
    check(&options("list", json!({}))).unwrap();
}

#[tokio::test]
async fn files_are_written_read_and_listed() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let text: String = (1..=450).map(|n| format!("line {n}\n")).collect();
    let written = ok(&client, "write", json!({ "path": "d/file", "content": text })).await;
    assert_eq!(written.structured["bytes_written"], text.len());
    let first = ok(&client, "read", json!({ "path": "d/file" })).await;
    assert!(
        first.text.ends_with("line 200\n[450 lines in all; go on with line_offset 201]"),
        "{}",
        first.text
    );
    let last = ok(&client, "read", json!({ "path": "d/file", "line_offset": 401 })).await;
    assert!(last.text.starts_with("line 401") && last.text.trim_end().ends_with("line 450"), "{}", last.text);
    std::fs::write(fixture.data().join("d/binary"), [0, 1, 2]).unwrap();
    assert_eq!(ok(&client, "read", json!({ "path": "d/binary" })).await.structured["binary"], true);
    let listed = ok(&client, "list", json!({ "recursive": true })).await;
    let names: Vec<&str> = listed.text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(names, ["d/", "d/binary", "d/file"], "{}", listed.text);
    for n in 0..510 {
        std::fs::write(fixture.data().join(format!("n{n}")), "").unwrap();
    }
    let many = ok(&client, "list", json!({})).await;
    assert!(many.text.ends_with("[11 more left out; list a directory below]\n"), "{}", many.text);
    let missing = run(&client, "read", json!({ "path": "nowhere" })).await;
    assert!(missing.is_error && missing.structured["code"] == "NOT_FOUND", "{missing:?}");
}

#[tokio::test]
async fn an_edit_changes_the_match_alone() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let path = fixture.data().join("file");
    let edit = |old: &str, new: &str| json!({ "path": "file", "old_text": old, "new_text": new });
    std::fs::write(&path, "\u{feff}say “hi”\r\nand — bye  \r\n\r\nend").unwrap();
    let done = ok(&client, "edit", edit("say \"hi\"\nand - bye\n", "say\nnothing\n")).await;
    assert_eq!((&done.structured["how"], &done.structured["line"]), (&json!("similar"), &json!(1)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "\u{feff}say\r\nnothing\r\n\r\nend");
    let exact = ok(&client, "edit", edit("end", "END")).await;
    assert_eq!((&exact.structured["how"], &exact.structured["line"]), (&json!("exact"), &json!(4)));
    let before = std::fs::read(&path).unwrap();
    for (old, code) in
        [("n", "FAILED_PRECONDITION"), ("absent", "FAILED_PRECONDITION"), ("", "INVALID_ARGUMENT")]
    {
        let refused = run(&client, "edit", edit(old, "x")).await;
        assert!(refused.is_error && refused.structured["code"] == code, "{old}: {refused:?}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn commands_tell_what_came_of_them() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let done = ok(&client, "exec", json!({ "command": "echo out; echo err >&2; exit 3" })).await;
    assert_eq!(done.text, "out\n[stderr]\nerr\n[exit code 3]\n");
    assert_eq!(done.structured["exit_code"], 3);
    let long = ok(&client, "exec", json!({ "command": "seq 100000" })).await;
    assert!(long.text.starts_with("1\n2\n") && long.text.ends_with("99999\n100000\n"), "{}", long.text);
    assert!(long.text.contains(" bytes left out ...]") && long.text.len() < 6000);
    let late = ok(&client, "exec", json!({ "command": "echo begun; sleep 60", "timeout": 1 })).await;
    assert!(
        late.structured["timed_out"] == true && late.text.starts_with("begun\n[killed after 1 s]"),
        "{late:?}"
    );
    std::fs::create_dir(fixture.data().join("sub")).unwrap();
    let place = ok(&client, "exec", json!({ "command": "pwd", "work_dir": "sub" })).await;
    assert!(place.text.ends_with("/sub\n"), "{}", place.text);
}

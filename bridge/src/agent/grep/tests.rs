use super::*;
use futures::StreamExt;
use std::path::Path;
use tonic::Code;

fn request(pattern: &str) -> GrepRequest {
    GrepRequest {
        pattern: pattern.to_owned(),
        respect_ignore: true,
        max_matches: 1000,
        max_line_bytes: 2000,
        ..Default::default()
    }
}

/// All that a search tells, put together.
async fn search(root: &Path, request: GrepRequest) -> Result<GrepResponse, Status> {
    let stream = begin(root.to_owned(), request).await?;
    let mut stream = std::pin::pin!(stream);
    let mut all = GrepResponse::default();
    while let Some(message) = stream.next().await {
        let message = message?;
        assert!(!all.truncated, "something after the end");
        all.matches.extend(message.matches);
        all.problems.extend(message.problems);
        all.files_searched += message.files_searched;
        all.files_matched += message.files_matched;
        all.truncated = message.truncated;
    }
    Ok(all)
}

/// `path:line:column:text` of each match.
fn lines(found: &GrepResponse) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let matches = found.matches.iter();
    matches
        .map(|m| {
            format!("{}:{}:{}:{}", text(&m.path), m.line, m.column, text(&m.text.as_ref().unwrap().text))
        })
        .collect()
}

fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

#[tokio::test]
async fn matches_come_in_order_with_line_and_column() {
    let dir = tree(&[
        ("b.txt", b"no\nhere a Word\r\n\xc3\xa9 word"),
        ("a/z.rs", b"sword\nword word\n"),
        ("bin", b"word\0word"),
        (".hid/x", b"word"),
        (".gitignore", b"skipped\n"),
        ("skipped/x", b"word"),
    ]);
    let found = search(dir.path(), request("word")).await.unwrap();
    let expected = ["a/z.rs:1:2:sword", "a/z.rs:2:1:word word", "b.txt:3:4:\u{e9} word"];
    assert_eq!(lines(&found), expected);
    assert_eq!((found.files_searched, found.files_matched, found.truncated), (3, 2, false));
    let found =
        search(dir.path(), GrepRequest { ignore_case: true, word: true, ..request("word") }).await.unwrap();
    assert_eq!(lines(&found), ["a/z.rs:2:1:word word", "b.txt:2:8:here a Word", "b.txt:3:4:\u{e9} word"]);
    let all = GrepRequest { hidden: true, respect_ignore: false, ..request("word$") };
    let found = search(dir.path(), all).await.unwrap();
    assert_eq!(lines(&found).len(), 5);
    let some = GrepRequest { include: vec!["*.rs".into()], exclude: vec!["b*".into()], ..request("w.r") };
    assert_eq!(lines(&search(dir.path(), some).await.unwrap()).len(), 2);
    let fixed = GrepRequest { fixed_strings: true, ..request("w.r") };
    assert_eq!(lines(&search(dir.path(), fixed).await.unwrap()).len(), 0);
    let one = search(&dir.path().join("b.txt"), request("a W")).await.unwrap();
    assert_eq!((lines(&one), one.matches[0].path.len()), (vec![":2:6:here a Word".to_owned()], 0));
}

#[tokio::test]
async fn each_match_has_its_own_context() {
    let dir = tree(&[("f", b"1\n2\nx3\n4\nx5\nx6\n7\n8\n9\n")]);
    let with = GrepRequest { context_before: 2, context_after: 1, ..request("x") };
    let found = search(dir.path(), with).await.unwrap();
    let text = |lines: &[crate::v1::GrepLine]| {
        lines.iter().map(|l| String::from_utf8_lossy(&l.text).into_owned()).collect::<Vec<_>>().join(" ")
    };
    let seen: Vec<_> = found.matches.iter().map(|m| (m.line, text(&m.before), text(&m.after))).collect();
    let expected = [(3, "1 2", "4"), (5, "x3 4", "x6"), (6, "4 x5", "7")];
    assert_eq!(seen, expected.map(|(line, before, after)| (line, before.to_owned(), after.to_owned())));
}

#[tokio::test]
async fn limits_hold_and_are_told() {
    let files: Vec<(String, Vec<u8>)> =
        (0..500).map(|n| (format!("{:03}/f", n), b"m\nm\nm\n".to_vec())).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_slice())).collect();
    let dir = tree(&files);
    let found = search(dir.path(), GrepRequest { max_matches: 10, ..request("m") }).await.unwrap();
    assert_eq!((found.matches.len(), found.truncated), (10, true));
    assert_eq!(lines(&found)[9], "003/f:1:1:m");
    let found = search(dir.path(), GrepRequest { max_matches_per_file: 1, ..request("m") }).await.unwrap();
    assert_eq!((found.matches.len(), found.files_matched, found.truncated), (500, 500, false));
    assert!(found.matches.is_sorted_by(|a, b| a.path < b.path));
    let found = search(dir.path(), GrepRequest { max_matches: 1500, ..request("m") }).await.unwrap();
    assert_eq!((found.matches.len(), found.truncated, found.files_searched), (1500, false, 500));
}

#[tokio::test]
async fn long_lines_are_cut_and_endless_ones_told() {
    let mut long = "\u{e9}".repeat(3000).into_bytes();
    long.extend_from_slice(b" end\n");
    let endless = vec![b'x'; 5 << 20];
    let dir = tree(&[("long", &long), ("endless", &endless)]);
    let found = search(dir.path(), GrepRequest { max_line_bytes: 101, ..request("end") }).await.unwrap();
    let line = found.matches[0].text.as_ref().unwrap();
    assert_eq!((line.text.len(), line.truncated, found.matches[0].column), (100, true, 6002));
    assert_eq!((found.problems.len(), found.problems[0].path.as_ref()), (1, &b"endless"[..]));
}

#[tokio::test]
async fn much_that_is_found_takes_bounded_memory_and_ends_the_search() {
    let line = format!("{}\n", "m".repeat(1000)).repeat(900);
    let files: Vec<String> = (0..200).map(|n| format!("f{n:03}")).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (path.as_str(), line.as_bytes())).collect();
    let dir = tree(&files);
    let found = search(dir.path(), GrepRequest { max_matches: 10_000, context_after: 2, ..request("m") })
        .await
        .unwrap();
    assert!(found.truncated);
    assert!(found.matches.is_sorted_by(|a, b| (&a.path, a.line) < (&b.path, b.line)));
}

#[tokio::test]
async fn what_cannot_be_searched_is_refused() {
    let dir = tree(&[("f", b"x")]);
    let bad = [
        request(""),
        request("a["),
        request("a\nb"),
        GrepRequest { max_matches: 0, ..request("x") },
        GrepRequest { context_after: 51, ..request("x") },
        GrepRequest { include: vec!["[".into()], ..request("x") },
    ];
    for request in bad {
        let refused = search(dir.path(), request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let missing = search(&dir.path().join("none"), request("x")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let odd = search(Path::new("/dev/null"), request("x")).await.unwrap_err();
    assert_eq!(odd.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_search_ends_when_nobody_listens() {
    let line = b"match\n".repeat(100_000);
    let files: Vec<String> = (0..50).map(|n| format!("f{n:03}")).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (path.as_str(), line.as_slice())).collect();
    let dir = tree(&files);
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|task| {
                let name = task.as_ref().unwrap().path().join("comm");
                std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "grep")
            })
            .count()
    };
    for _ in 0..3 {
        let stream = begin(dir.path().to_owned(), GrepRequest { max_matches: 10_000, ..request("match") })
            .await
            .unwrap();
        let mut stream = Box::pin(stream);
        stream.next().await;
        drop(stream);
    }
    for _ in 0..200 {
        if threads() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("threads still search");
}

//! Terminals, driven by the programs that people have in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::LazyLock;
use std::time::Duration;

use common::terminal::Terminal;
use common::{Rig, fails, remove, running, said, sh, until};
use dunnage::types::{ExecOptions, ReadOptions};
use dunnage::{Engine, ErrorKind, Workspace};

/// What is pasted at once: far more than fits anywhere on the way.
const PASTE: usize = 10 << 20;

/// One for all tests, since the image is the largest part of each.
static RIG: LazyLock<Rig> = LazyLock::new(Rig::start);

/// A workspace with editors and tmux.
async fn desk(id: &str) -> (Engine, Workspace) {
    let engine = RIG.engine().await;
    let image = RIG.pulled(&engine, "terminal").await;
    let workspace = running(&engine, id, &image).await;
    (engine, workspace)
}

fn command(command: &str) -> ExecOptions {
    ExecOptions::default().command(command)
}

/// Bytes of every value, in an order that tells a gap, a repetition and a mix from the whole.
fn paste() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..PASTE / 8).flat_map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_see_the_size_of_their_terminal_and_its_changes() {
    let (engine, workspace) = desk("sizes").await;
    let program = "stty size; trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&workspace, command(program).cols(101u32).rows(33u32)).await;
    assert_eq!(terminal.until("ready").await, "33 101\r\n");
    for (cols, rows) in [(132, 50), (1, 1), (500, 200), (80, 24)] {
        terminal.process.resize(cols, rows).unwrap();
        terminal.until(&format!("now {rows} {cols}\r\n")).await;
    }
    drop(terminal);
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_has_its_keys_and_its_jobs() {
    let (engine, workspace) = desk("keys").await;
    let mut terminal = Terminal::bash(&workspace).await;
    // What is typed is shown as well: the words are written so that only the program's own are waited for.
    for (key, code) in [("\x03", 130), ("\x1c", 131)] {
        terminal.types("sh -c 'echo be''gan; exec sleep 1000'\r").await;
        terminal.until("began\r\n").await;
        terminal.types(key).await;
        terminal.until("> ").await;
        terminal.types("echo code=$?\r").await;
        terminal.until(&format!("code={code}\r\n")).await;
        terminal.until("> ").await;
    }
    terminal.types("sh -c 'echo be''gan; exec cat'\r").await;
    terminal.until("began\r\n").await;
    terminal.types("\x1a").await;
    terminal.until("Stopped").await;
    terminal.until("> ").await;
    terminal.types("jobs; ps -o stat= -p $(jobs -p) | cut -c1; fg\r").await;
    terminal.until("\r\nT\r\n").await;
    terminal.until("exec cat'\r\n").await;
    terminal.types("again\r").await;
    terminal.until("again\r\nagain\r\n").await;
    // The end of the program's input, then that of the shell's.
    terminal.types("\x04").await;
    terminal.until("> ").await;
    terminal.types("(exit 7)\r").await;
    terminal.until("> ").await;
    terminal.types("\x04").await;
    let (shown, exit) = terminal.end().await;
    assert_eq!((exit.exit_code, exit.signal), (7, None), "{shown}");
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn editors_write_what_was_typed() {
    let (engine, workspace) = desk("editors").await;
    let utf8 = || [("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
    // New, then again with what is there.
    for (ready, keys, text) in [
        ("[New]", "ifirst line\rzweite Zeile: schön\x1b:wq\r", "first line\nzweite Zeile: schön\n"),
        ("2L,", "ggOabove\x1bGddp:s/ö/oe/\r:x\r", "above\nfirst line\nzweite Zeile: schoen\n"),
    ] {
        let args = ["vim.tiny", "-u", "NONE", "-N", "note"].map(str::to_owned).to_vec();
        let mut vim = Terminal::start(&workspace, ExecOptions::default().args(args).env(utf8())).await;
        vim.until(ready).await;
        vim.types(keys).await;
        let (shown, exit) = vim.end().await;
        assert_eq!(exit.exit_code, 0, "{shown}");
        assert_eq!(said(sh(&workspace, "cat note").await), text.trim_end());
    }
    let args = ["nano", "--ignorercfiles", "letter"].map(str::to_owned).to_vec();
    let mut nano = Terminal::start(&workspace, ExecOptions::default().args(args).env(utf8())).await;
    nano.until("New File").await;
    nano.types("Dear 世界,\rit works.").await;
    nano.types("\x0f").await;
    nano.until("File Name to Write").await;
    nano.types("\r").await;
    nano.until("Wrote 2 lines").await;
    nano.types("\x18").await;
    let (shown, exit) = nano.end().await;
    assert_eq!(exit.exit_code, 0, "{shown}");
    assert_eq!(said(sh(&workspace, "cat letter").await), "Dear 世界,\nit works.");
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tmux_works_as_on_any_terminal() {
    let (engine, workspace) = desk("tmux").await;
    let tmux = async |arguments: &str| said(sh(&workspace, &format!("tmux -u {arguments}")).await);
    let start = "tmux -u -f /dev/null new-session -s desk 'sh -i'";
    let mut terminal = Terminal::start(&workspace, command(start).cols(100u32).rows(30u32)).await;
    terminal.until("[desk]").await;
    let size = "display-message -p -t desk '#{client_width}x#{client_height} #{window_panes}'";
    let client = "list-clients -F '#{client_width}x#{client_height} #{client_termname}'";
    assert_eq!(tmux(client).await, "100x30 xterm-256color");
    // A key of tmux's splits its window; a new size reaches what runs in it.
    terminal.types("\x02\"").await;
    until("there are two panes", async || tmux(size).await.ends_with(" 2")).await;
    terminal.process.resize(140, 45).unwrap();
    until("the client has grown", async || tmux(client).await.starts_with("140x45")).await;
    tmux("split-window -h -t desk 'sh -i'").await;
    assert!(tmux(size).await.ends_with(" 3"));
    // Keys from outside, and the screen as tmux draws it.
    tmux("send-keys -t desk.2 'stty size; echo $((6 * 7)) schön 世界' Enter").await;
    let shows =
        async |wanted: &str| tmux("capture-pane -p -t desk.2").await.lines().any(|line| line == wanted);
    until("the pane shows what its shell says", async || shows("42 schön 世界").await).await;
    let pane = tmux("display-message -p -t desk.2 '#{pane_height} #{pane_width}'").await;
    assert!(shows(&pane).await, "its terminal has the size of the pane: {pane}");
    // The client leaves; what it has started goes on.
    terminal.types("\x02d").await;
    let (shown, exit) = terminal.end().await;
    assert!(exit.exit_code == 0 && shown.contains("[detached (from session desk)]"), "{exit:?} {shown:?}");
    assert_eq!(tmux("list-sessions -F '#{session_name} #{session_attached}'").await, "desk 0");
    tmux("kill-server").await;
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_paste_arrives_and_stalls_nobody() {
    let (engine, workspace) = desk("paste").await;
    let pasted = paste();
    let store = format!("stty raw -echo; echo ready; head -c {PASTE} > pasted; echo stored; exec cat pasted");
    let mut terminal = Terminal::start(&workspace, command(&store)).await;
    terminal.until("ready").await;
    // One whose program never reads: what is pasted into it waits, and only that.
    let mut deaf = Terminal::start(&workspace, command("stty raw -echo; echo ready; sleep 100000")).await;
    deaf.until("ready").await;
    let stuck = deaf.process.write_stdin(pasted.clone());
    tokio::pin!(stuck);
    assert!(futures::poll!(&mut stuck).is_pending());
    let mut other = Terminal::start(&workspace, command("stty -echo; echo ready; exec cat")).await;
    other.until("ready\r\n").await;

    let work = async {
        let typing = terminal.process.write_stdin(pasted.clone());
        let talking = async {
            for n in 0..50 {
                other.types(format!("{n} here\r")).await;
                other.until(&format!("{n} here\r\n")).await;
            }
        };
        tokio::join!(typing, talking).0.unwrap();
        terminal.until("stored").await;
        // And all of it back the other way.
        let line_end = terminal.take(1).await;
        assert_eq!(line_end, b"\n");
        assert!(terminal.take(PASTE).await == pasted, "what comes back is not what was pasted");
    };
    tokio::select! {
        () = work => {}
        done = &mut stuck => panic!("nobody read it, and it went: {done:?}"),
    }
    let stored = workspace.fs().read(ReadOptions::default().path("pasted")).await.unwrap();
    assert!(stored == pasted, "what is stored is not what was pasted");
    let (_, exit) = terminal.end().await;
    assert_eq!(exit.exit_code, 0);
    // It can be ended over all that waits for it.
    let (exit, stuck) = tokio::join!(deaf.process.kill(), stuck);
    assert_eq!(exit.unwrap().signal, Some(9));
    fails(stuck, ErrorKind::FailedPrecondition, &["exited"]);
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn characters_in_pieces_arrive_whole() {
    let (engine, workspace) = desk("pieces").await;
    let text = "schön 世界 🚢 e\u{301}";
    let mut cat = Terminal::start(&workspace, command("stty -echo; echo ready; exec cat")).await;
    cat.until("ready\r\n").await;
    for byte in text.bytes().chain(*b"\r") {
        cat.types([byte]).await;
    }
    assert_eq!(cat.until("\r\n").await, text);
    // A program that counts characters, and edits them: the last one is taken back.
    let mut bash = Terminal::bash(&workspace).await;
    for byte in b"x='".iter().copied().chain(text.bytes()).chain("世\x7f'; echo n=${#x}\r".bytes()) {
        bash.types([byte]).await;
    }
    bash.until(&format!("n={}\r\n", text.chars().count())).await;
    // The other way: each byte is a write of its own, at its own time.
    let octal: Vec<String> = text.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    let slowly =
        format!("for b in {}; do printf $b; read x; done; echo .", octal.join(" ").replace('\\', "\\\\"));
    let mut slow = Terminal::start(&workspace, command(&format!("stty -echo; {slowly}"))).await;
    let mut shown = Vec::new();
    for byte in text.bytes() {
        let came = slow.take(1).await;
        assert_eq!(came, [byte]);
        shown.extend(came);
        slow.types("\r").await;
    }
    assert_eq!(String::from_utf8(shown).unwrap(), text);
    slow.until(".\r\n").await;
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_terminals_at_once_are_each_their_own() {
    let (engine, workspace) = desk("many").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16u32 {
        let workspace = workspace.clone();
        tasks.spawn(async move {
            let program = "tty; stty size; read -r code; echo told $code; exit $code";
            let options = command(program).cols(60 + n).rows(20 + n);
            let mut terminal = Terminal::start(&workspace, options).await;
            let tty = terminal.until("\r\n").await;
            terminal.until(&format!("{} {}\r\n", 20 + n, 60 + n)).await;
            // Each waits until all are there: they are at once.
            (tty, n, terminal)
        });
    }
    let terminals = tasks.join_all().await;
    let ttys: std::collections::BTreeSet<&String> = terminals.iter().map(|(tty, _, _)| tty).collect();
    assert_eq!(ttys.len(), 16, "{ttys:?}");
    for (_, n, mut terminal) in terminals {
        terminal.types(format!("{n}\r")).await;
        terminal.until(&format!("told {n}\r\n")).await;
        assert_eq!(terminal.end().await.1.exit_code, i32::try_from(n).unwrap());
    }
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_whose_host_goes_away_ends_with_all_it_ran() {
    let (engine, workspace) = desk("away").await;
    let other = RIG.engine().await;
    let watcher = other.workspace("away").unwrap();
    let left = async || said(sh(&watcher, "pgrep -cx sleep || true").await);
    for close in [false, true] {
        let bash = Terminal::bash(&workspace).await;
        // In the background, in the foreground, and one that does not heed the line going down.
        bash.types("sleep 100001 & (trap '' HUP; sleep 100002; :) & sh -c 'sleep 100003; :'\r").await;
        until("all three run", async || left().await == "3").await;
        if close {
            engine.close().await;
        }
        drop(bash);
        until("nothing of it runs", async || left().await == "0").await;
    }
    assert_eq!(said(sh(&watcher, "pgrep -cx bash || true").await), "0");
    remove(&watcher).await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_nobody_uses_is_ended() {
    let (engine, workspace) = desk("idle").await;
    // What it says keeps it, for longer than its limit; so does what is typed.
    let busy = "for n in $(seq 30); do echo busy $n; sleep 0.1; done; stty -echo; echo ready; \
                while read -r word; do [ $word = go ] || break; done; exec sleep 100000";
    let mut terminal = Terminal::start(&workspace, command(busy).idle_timeout_ms(2_000u64)).await;
    terminal.until("ready").await;
    for word in ["go"; 30] {
        terminal.types(format!("{word}\r")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    terminal.types("stop\r").await;
    let (shown, exit) = terminal.end().await;
    assert!(exit.idle_timed_out && !exit.timed_out, "{exit:?} {shown}");
    assert!(exit.signal.is_some(), "{exit:?}");
    assert_eq!(said(sh(&workspace, "pgrep -cx sleep || true").await), "0");
    remove(&workspace).await;
    engine.close().await;
}

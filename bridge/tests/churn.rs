//! Many commands: nothing is lost, and nothing stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Agent, Client, command, eventually, run};

/// Children of the agent that have ended and were not waited for.
fn zombies(agent: &Agent) -> usize {
    agent.children().iter().filter(|stat| stat.contains(") Z ")).count()
}

async fn numbered(client: &mut Client, number: usize) {
    let done =
        run(client, command(&format!("echo out {number}; echo err {number} >&2; exit {}", number % 7))).await;
    assert_eq!(done.out(), format!("out {number}\n"));
    assert_eq!(done.stderr, format!("err {number}\n").into_bytes());
    assert_eq!(done.code, Some(i32::try_from(number % 7).unwrap()));
}

#[tokio::test]
async fn a_thousand_in_a_row_leave_nothing_behind() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    numbered(&mut client, 0).await;
    let before = agent.open_files();
    for number in 0..1000 {
        numbered(&mut client, number).await;
    }
    eventually("every descriptor is closed", || agent.open_files() <= before);
    eventually("every child was waited for", || agent.children().is_empty());
}

#[tokio::test]
async fn a_hundred_at_once_lose_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    numbered(&mut client, 0).await;
    let before = agent.open_files();
    for _ in 0..3 {
        let all = (0..100).map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                numbered(&mut client, number).await;
                let big = run(&mut client, command("head -c 1000000 /dev/zero")).await;
                assert_eq!(big.stdout.len(), 1_000_000);
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
    }
    eventually("every descriptor is closed", || agent.open_files() <= before);
    assert_eq!(zombies(&agent), 0);
    eventually("every child was waited for", || agent.children().is_empty());
}

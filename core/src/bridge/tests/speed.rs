//! What the ways cost. Run by hand: `cargo test --release -p dunnage bridge::tests::speed -- --ignored --nocapture`.

use super::*;
use bytes::Bytes;
use std::time::Instant;

const SIZE: usize = 256 << 20;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap()
}

fn rate(time: Duration) -> f64 {
    SIZE as f64 / time.as_secs_f64() / 1e6
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn measure() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        client.run(&sh("true"), Bytes::new()).await.unwrap();
        times.push(began.elapsed());
    }
    println!("exec true, p50: {:?}", median(times));
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        client.write(&write("s"), Bytes::from_static(b"small")).await.unwrap();
        client.read(&read("s")).await.unwrap();
        times.push(began.elapsed());
    }
    println!("write and read a small file, p50: {:?}", median(times));
    let content = Bytes::from(vec![3; SIZE]);
    for way in ["descriptor", "gRPC"] {
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let began = Instant::now();
            client.write(&write("big"), content.clone()).await.unwrap();
            writes.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(client.read(&read("big")).await.unwrap().len(), SIZE);
            reads.push(began.elapsed());
        }
        println!("{way}: write {:.0} MB/s, read {:.0} MB/s", rate(median(writes)), rate(median(reads)));
        let _ = std::fs::remove_file(fixture.path("run").join("bridge-fd.sock"));
        fixture.pool.evict("w");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn measure_readiness() {
    agent_program();
    let mut times = Vec::new();
    for _ in 0..30 {
        let mut fixture = Fixture::idle();
        let began = Instant::now();
        fixture.start_agent();
        fixture.ready().await;
        times.push(began.elapsed());
    }
    println!("agent started and answers, p50: {:?}", median(times));
}

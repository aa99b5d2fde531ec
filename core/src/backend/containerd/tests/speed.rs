//! How long each call of a creation takes. Run it by name, with `--ignored --nocapture`.

use super::*;
use std::time::Instant;

const ROUNDS: usize = 21;

#[derive(Default)]
struct Laps(Vec<(&'static str, Vec<Duration>)>);

impl Laps {
    async fn lap<T>(&mut self, name: &'static str, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = call.await;
        self.add(name, begun.elapsed());
        done
    }

    fn add(&mut self, name: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, laps)) => laps.push(took),
            None => self.0.push((name, vec![took])),
        }
    }

    fn print(&mut self) {
        for (name, laps) in &mut self.0 {
            laps.sort();
            let ms = |d: Duration| d.as_secs_f64() * 1000.0;
            println!("{name:28} median {:7.2} ms  min {:7.2} ms", ms(laps[laps.len() / 2]), ms(laps[0]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run it by name"]
async fn each_call_of_a_creation() {
    let bench = Bench::new(&["busybox"]).await;
    let backend = &bench.backend;
    let mut laps = Laps::default();
    for round in 0..ROUNDS {
        let new = new_container(&format!("s{round}"), "sleep 600");
        let begun = Instant::now();
        let image = laps.lap("pull (present)", bench.unpacked("busybox")).await;
        let snapshot = NewSnapshot {
            snapshotter: "overlayfs".to_owned(),
            key: new.snapshot_key.clone(),
            parent: image.top_snapshot,
            labels: BTreeMap::new(),
        };
        laps.lap("prepare_snapshot", backend.prepare_snapshot(&snapshot)).await.unwrap();
        let user = backend.prepare_user("overlayfs", &snapshot.key, "", Some(Path::new("/data")));
        let user = laps.lap("prepare_user (root)", user).await.unwrap();
        let new = NewContainer { user, ..new };
        let container = laps.lap("create_container", backend.create_container(&new)).await.unwrap();
        laps.lap("create_task", backend.create_task(&container)).await.unwrap();
        laps.lap("start_task", backend.start_task(&container.id)).await.unwrap();
        laps.add("= create to running", begun.elapsed());
        laps.lap("task", backend.task(&container.id)).await.unwrap();
        laps.lap("container", backend.container(&container.id)).await.unwrap();
        let begun = Instant::now();
        backend.kill_task(&container.id, 9, true).await.unwrap();
        backend.wait_task(&container.id).await.unwrap();
        laps.add("kill and wait", begun.elapsed());
        laps.lap("delete_task", backend.delete_task(&container.id)).await.unwrap();
        laps.lap("delete_container", backend.delete_container(&container.id)).await.unwrap();
        let removed = backend.remove_snapshot("overlayfs", &container.snapshot_key);
        laps.lap("remove_snapshot", removed).await.unwrap();

        let id = format!("c{round}");
        let begun = Instant::now();
        bench.ctr(&["run", "-d", &name("busybox"), &id, "sleep", "600"]);
        laps.add("ctr run -d", begun.elapsed());
        bench.ctr(&["task", "kill", "-s", "9", &id]);
        backend.wait_task(&id).await.unwrap();
        bench.ctr(&["task", "rm", "-f", &id]);
        bench.ctr(&["container", "rm", &id]);
    }
    println!("containerd {}", backend.version().await.unwrap());
    laps.print();
}

//! From nothing to an agent that answers, beside `ctr run -d` of the same image, which waits for nothing inside.

use crate::Failure;
use crate::bed::Bed;
use crate::cni::Chain;
use crate::floor::Floor;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::types::{CreateOptions, NetworkMode, PortMapping};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Turns that are made and not counted.
const WARM_UP: usize = 2;

/// Without network.
pub(super) async fn no_network(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut floor = Floor::new(bed).await?;
    let mut row = Row {
        name: "create_no_network".into(),
        about: "create → agent answers, network none; peer: ctr run -d of the same image".into(),
        unit: "ms",
        bars: vec![Bar::TimesPeer(1.0)],
        moonshot: Some(Bar::TimesPeer(0.7)),
        ..Row::default()
    };
    let (mut peer, mut own, mut calls) = (Series::default(), OwnPhases::default(), BTreeMap::new());
    for turn in 0..bed.rounds + WARM_UP {
        let counts = turn >= WARM_UP;
        let ours = create(bed, bed.plain(), counts.then_some((&mut own, &mut calls))).await?;
        let theirs = peer_run(bed)?;
        floor.turn(counts).await?;
        if counts {
            row.ours.push_time(ours);
            peer.push_time(theirs);
        }
    }
    floor.end().await?;
    row.peer = Some(peer);
    row.phases = own.named();
    row.add_calls(calls);
    row.phases.extend(floor.phases());
    Ok(vec![row])
}

/// With a bridge and a published port.
pub(super) async fn cni(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let chain = Chain::of(&bed.containerd)?;
    let mut row = Row {
        name: "create_cni".into(),
        about:
            "create with CNI and one published port → agent answers; peer: ctr run -d, then the same plugins \
                run by hand"
                .into(),
        unit: "ms",
        bars: vec![Bar::TimesPeer(1.0)],
        ..Row::default()
    };
    let (mut peer, mut own, mut calls) = (Series::default(), OwnPhases::default(), BTreeMap::new());
    let (mut runs, mut adds) = (Series::default(), Series::default());
    for turn in 0..bed.rounds + WARM_UP {
        let counts = turn >= WARM_UP;
        let mut port = PortMapping::default();
        (port.host_port, port.container_port) = (free_port()?, 80);
        let options = bed.plain().network(NetworkMode::Cni).ports(vec![port]);
        let ours = create(bed, options, counts.then_some((&mut own, &mut calls))).await?;
        let run = peer_run(bed)?;
        let add = chain.add_and_del(&bed.name("cni"), free_port()?)?;
        if counts {
            row.ours.push_time(ours);
            peer.push_time(run + add);
            runs.push_time(run);
            adds.push_time(add);
        }
    }
    row.peer = Some(peer);
    row.phases = own.named();
    row.add_calls(calls);
    row.phases.extend([("peer: ctr run -d".into(), runs), ("peer: plugins' ADD".into(), adds)]);
    Ok(vec![row])
}

/// Creates a workspace, deletes it, and returns how long the creation took.
async fn create(
    bed: &Bed,
    options: CreateOptions,
    notes: Option<(&mut OwnPhases, &mut BTreeMap<String, Series>)>,
) -> Result<Duration, Failure> {
    let workspace = bed.engine.workspace(bed.name("c"))?;
    bed.calls.clear();
    let began = Instant::now();
    let created = workspace.create(options).await?;
    let took = began.elapsed();
    if let Some((own, calls)) = notes {
        bed.calls.take_into(calls);
        own.create.push(created.phases_ms.create as f64);
        own.start.push(created.phases_ms.start as f64);
        own.network.push(created.phases_ms.network as f64);
        own.ready.push(created.phases_ms.ready as f64);
        own.total.push(created.phases_ms.total as f64);
    }
    bed.delete(&workspace).await?;
    Ok(took)
}

/// Runs the peer's container, removes it, and returns how long the run took.
fn peer_run(bed: &Bed) -> Result<Duration, Failure> {
    let id = bed.name("peer");
    let took = bed.peer(&["run", "--detach", &bed.image, &id, "sleep", "3600"])?;
    bed.remove_peer(&id)?;
    Ok(took)
}

/// A port of this host that nobody listens on just now.
fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The phases that the result of a creation tells.
#[derive(Debug, Default)]
struct OwnPhases {
    create: Series,
    start: Series,
    network: Series,
    ready: Series,
    total: Series,
}

impl OwnPhases {
    fn named(self) -> Vec<(String, Series)> {
        [
            ("phase create (snapshot, files, container)", self.create),
            ("phase start (task made and started)", self.start),
            ("phase network (overlaps start)", self.network),
            ("phase ready (agent's first answer)", self.ready),
            ("phase total", self.total),
        ]
        .into_iter()
        .filter(|(_, series)| series.median() > 0.0)
        .map(|(name, series)| (name.to_owned(), series))
        .collect()
    }
}

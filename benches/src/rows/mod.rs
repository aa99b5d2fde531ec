//! The benches. Each measures the library and its peer turn by turn and returns its rows.

mod archives;
mod create;
mod data;
mod engines;
mod exec;
mod files;
mod list;
mod memory;
mod pull;
mod reconcile;
mod searches;
mod stop;
mod tools;
mod trees;
mod versions;

use crate::Failure;
use crate::bed::Bed;
use crate::report::Row;

/// One bench.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    CreateNoNetwork,
    CreateCni,
    PullCold,
    ExecTrue,
    Tools,
    ExecTogether,
    ExecOutput,
    Sessions,
    TerminalEcho,
    Files,
    ListDir,
    Grep,
    Archives,
    DataKept,
    DataCarried,
    Engines,
    Memory,
    List100,
    StopStart,
    SnapshotDowntime,
    SnapshotSize,
    Fork,
    Reconcile100,
    LongLine,
    Among10000,
}

/// All benches, in the order in which they run.
pub(crate) fn all() -> &'static [Bench] {
    const fn bench(name: &'static str, kind: Kind) -> Bench {
        Bench { name, kind }
    }
    const ALL: &[Bench] = &[
        bench("create_no_network", Kind::CreateNoNetwork),
        bench("create_cni", Kind::CreateCni),
        bench("stop_start", Kind::StopStart),
        bench("exec_true", Kind::ExecTrue),
        bench("tools", Kind::Tools),
        bench("exec_together", Kind::ExecTogether),
        bench("exec_output", Kind::ExecOutput),
        bench("sessions", Kind::Sessions),
        bench("terminal_echo", Kind::TerminalEcho),
        bench("files", Kind::Files),
        bench("list_100000", Kind::ListDir),
        bench("grep_25000", Kind::Grep),
        bench("archives", Kind::Archives),
        bench("data_kept", Kind::DataKept),
        bench("data_carried", Kind::DataCarried),
        bench("engines", Kind::Engines),
        bench("pull_cold", Kind::PullCold),
        bench("memory", Kind::Memory),
        bench("list_100", Kind::List100),
        bench("snapshot_downtime", Kind::SnapshotDowntime),
        bench("snapshot_size", Kind::SnapshotSize),
        bench("fork", Kind::Fork),
        bench("reconcile_100", Kind::Reconcile100),
        bench("long_line", Kind::LongLine),
        // Last: what it fills the daemon with goes with the daemon.
        bench("list_among_10000", Kind::Among10000),
    ];
    ALL
}

/// Runs one.
pub(crate) async fn run(bench: &Bench, bed: &Bed) -> Result<Vec<Row>, Failure> {
    match bench.kind {
        Kind::CreateNoNetwork => create::no_network(bed).await,
        Kind::CreateCni => create::cni(bed).await,
        Kind::PullCold => pull::cold(bed).await,
        Kind::ExecTrue => exec::command(bed).await,
        Kind::Tools => tools::read(bed).await,
        Kind::ExecTogether => exec::together(bed).await,
        Kind::ExecOutput => exec::output(bed).await,
        Kind::Sessions => exec::sessions(bed).await,
        Kind::TerminalEcho => exec::echo(bed).await,
        Kind::Engines => engines::alone(bed).await,
        Kind::Archives => archives::both_ways(bed).await,
        Kind::DataKept => data::keeping(bed).await,
        Kind::DataCarried => data::carried(bed).await,
        Kind::Files => files::both_ways(bed).await,
        Kind::ListDir => searches::list(bed).await,
        Kind::Grep => searches::grep(bed).await,
        Kind::Memory => memory::resident(bed).await,
        Kind::List100 => list::hundred(bed).await,
        Kind::StopStart => stop::stop_start(bed).await,
        Kind::SnapshotDowntime => versions::downtime(bed).await,
        Kind::SnapshotSize => versions::size(bed).await,
        Kind::Fork => versions::fork(bed).await,
        Kind::Reconcile100 => reconcile::hundred(bed).await,
        Kind::LongLine => versions::long_line(bed).await,
        Kind::Among10000 => versions::among_many(bed).await,
    }
}

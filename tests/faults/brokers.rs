//! A cluster of three brokers: the leaders are killed in turn.

use crate::{
    bed::{Bed as _, change, checked, dismiss, run_to_end, small_batches},
    cluster::{Cluster, Listener},
    suite::{Row, Run},
    support::place::{Place as _, Real},
};

const CHANGED: u32 = 60;

const PARTITIONS: usize = 3;

/// Amid a sync and a worker's drains the leader of each partition in turn is killed and, once the sync has ended without
/// it, started again. Two replicas of three are enough to go on.
pub async fn leaders_killed(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let mut cluster = Cluster::start(3, Listener::plain()).await;
    let mut bed: Real = small_batches().await;
    bed.set("KAFKA_BOOTSTRAP_SERVERS", &cluster.bootstrap_servers());
    bed.set("KAFKA_REPLICATION_FACTOR", "3");
    if let Some(trouble) = run_to_end(bed.command(&["migrate"]), "migrate").await {
        row.trouble(trouble);
    }
    let topic = bed.0.variables["KAFKA_TOPIC"].clone();
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let partition = usize::try_from(round).unwrap_or_default() % PARTITIONS;
        let sync = tokio::spawn(run_to_end(bed.command(&["sync", "leads"]), "a sync"));
        tokio::time::sleep(dice.moment(2_000)).await;
        let Some(leader) = cluster.leader(&topic, partition) else {
            row.trouble(format!("nobody leads partition {partition}"));
            break;
        };
        cluster.kill(leader);
        if let Some(trouble) = sync.await.expect("the sync runs") {
            row.trouble(format!("round {round}, though two of three brokers are there: {trouble}"));
        }
        cluster.restart(leader).await;
        cluster.await_replicas(&topic).await;
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

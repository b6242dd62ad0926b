//! The brokers fail, and the topic is not what it was.

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};

use crate::{
    bed::{Bed as _, change, checked, checked_in_time, dismiss, quietly, small_batches},
    check::Truth,
    dice::Dice,
    suite::{Row, Run},
    support::{
        place::{Place as _, Real},
        rows::{config, delete_topics_for_good},
        servers::Servers,
    },
};

const CHANGED: u32 = 60;

fn admin() -> AdminClient<DefaultClientContext> {
    config().create().expect("an admin client")
}

/// The only broker is killed amid a sync, and started again.
pub async fn broker_killed(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let servers = Servers::start_some(&["kafka"]).await;
    let mut bed: Real = small_batches().await;
    bed.set("KAFKA_BOOTSTRAP_SERVERS", &servers.bootstrap_servers());
    bed.set("KAFKA_REPLICATION_FACTOR", "1");
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(2_000)).await;
        servers.kill("kafka").await;
        servers.restart("kafka").await;
        sync.wait().await.expect("the sync ends");
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Something happens to the topic amid a sync; then it heals by itself.
async fn happening(run: Run, loses_records: bool, happen: impl AsyncFn(&Real, &mut Dice, u32)) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, CHANGED);
    row.found.add(checked(&bed).await);
    for round in 0..run.injections {
        change(&bed, &mut dice, round + 1, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        happen(&bed, &mut dice, round).await;
        sync.wait().await.expect("the sync ends");
        let lost = |truth: &mut Truth| truth.log_lost_records = loses_records;
        row.injected(checked_in_time(&bed, lost).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

pub async fn topic_made_anew(run: Run) -> Row {
    happening(run, true, async |bed: &Real, _: &mut Dice, _| {
        delete_topics_for_good(&[&bed.0.variables["KAFKA_TOPIC"]]).await;
    })
    .await
}

/// As retention would: also what no sink has applied yet.
pub async fn records_removed(run: Run) -> Row {
    happening(run, true, async |bed: &Real, _: &mut Dice, _| {
        let mut all = TopicPartitionList::new();
        for partition in 0..3 {
            let topic = &bed.0.variables["KAFKA_TOPIC"];
            all.add_partition_offset(topic, partition, Offset::End).expect("listed");
        }
        admin().delete_records(&all, &AdminOptions::new()).await.expect("removed");
    })
    .await
}

pub async fn partitions_added(run: Run) -> Row {
    happening(run, false, async |bed: &Real, _: &mut Dice, round: u32| {
        let more = NewPartitions::new(&bed.0.variables["KAFKA_TOPIC"], 4 + round as usize);
        admin().create_partitions([&more], &AdminOptions::new()).await.expect("an answer");
    })
    .await
}

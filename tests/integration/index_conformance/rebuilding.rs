//! An index that is built anew beside the one that serves.

use sluice::{index::IndexName, sink::Applied};

use super::{NEVER, documents, hits};
use crate::support::{
    elasticsearch::Corner,
    events::applied,
    indices::{Embedded, IndexBench, entities},
    on_each_adapter,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind,
    a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up,
}

async fn a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let documents = documents();
    applied(&*index, documents.clone()).await;
    let rebuild = index.begin_rebuild(entities("leads"), uuid::Uuid::nil()).await.expect("a rebuild");
    let sink = index.rebuild_sink(&rebuild);
    let outcome = applied(&*sink, documents[..1].to_vec()).await;
    assert_eq!(outcome, Applied { entities: 1, ..NEVER }, "only what is rebuilt is written");
    assert_eq!(hits(&*index, entities("leads"), "*").await, 3, "the old one serves");

    assert!(!index.serves_what_was_built(&rebuild).await.expect("an answer"));
    index.serve_rebuilt(&rebuild).await.expect("swapped");
    assert!(index.serves_what_was_built(&rebuild).await.expect("an answer"));
    index.serve_rebuilt(&rebuild).await.expect("swapped already");
    assert!(index.rebuilds().await.expect("rebuilds")[0].serves);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 1, "the new one serves");
    assert_eq!(applied(&*sink, documents[..2].to_vec()).await, Applied { entities: 1, stale: 1, ..NEVER });
    assert_eq!(applied(&*index, documents).await, Applied { duplicates: 6, entities: 1, stale: 4, ..NEVER });

    index.end_rebuild(&rebuild).await.expect("ended");
    index.end_rebuild(&rebuild).await.expect("ended already");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 3);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6);
    drop((index, sink));
    let again = bench.prepared().await;
    assert_eq!(hits(&*again, entities("leads"), "*").await, 3);
    assert!(again.serves_what_was_built(&rebuild).await.expect("an answer"), "also once it is over");
    let next = again.begin_rebuild(entities("leads"), uuid::Uuid::nil()).await.expect("another");
    assert_ne!(next.id, rebuild.id);
    again.end_rebuild(&next).await.expect("given up");
    assert!(!again.serves_what_was_built(&next).await.expect("an answer"), "what was given up never serves");
    assert!(again.serves_what_was_built(&rebuild).await.expect("an answer"));
}

async fn a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    let rebuild = index.begin_rebuild(IndexName::Eventos, uuid::Uuid::nil()).await.expect("a rebuild");
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(index.rebuilds().await.expect("rebuilds"), std::slice::from_ref(&rebuild));
    assert_eq!(index.begin_rebuild(IndexName::Eventos, uuid::Uuid::nil()).await.expect("the same"), rebuild);
    index.end_rebuild(&rebuild).await.expect("given up");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6, "the old one was never touched");
}

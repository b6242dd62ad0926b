//! Documents of erased entities.

use sluice::index::IndexName;

use super::{documents, hits, id};
use crate::support::{
    elasticsearch::Corner,
    events::applied,
    indices::{Embedded, IndexBench, entities},
    on_each_adapter, table,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    an_erased_entity_leaves_the_index_that_serves_and_the_one_that_is_built,
    what_is_discarded_is_gone_and_its_neighbours_stay,
}

async fn an_erased_entity_leaves_the_index_that_serves_and_the_one_that_is_built<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    let rebuilds = [entities("leads"), IndexName::Eventos];
    let mut building = Vec::new();
    for name in rebuilds {
        let rebuild = index.begin_rebuild(name, uuid::Uuid::nil()).await.expect("a rebuild");
        applied(&*index.rebuild_sink(&rebuild), documents()).await;
        building.push(rebuild);
    }
    let keys = [id(1).to_string(), id(99).to_string()];
    let erased = index.erase(table("leads"), &keys).await.expect("erased");
    assert_eq!(erased, 4, "a lead and its event, in two indices each");
    assert_eq!(index.erase(table("leads"), &keys).await.expect("erased"), 0);
    for serves in [false, true] {
        assert_eq!(hits(&*index, entities("leads"), "*").await, 2, "{serves}");
        assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 5, "{serves}");
        assert_eq!(hits(&*index, IndexName::Eventos, "joao").await, 0, "{serves}");
        for rebuild in &building {
            index.serve_rebuilt(rebuild).await.expect("swapped");
        }
    }
    assert_eq!(hits(&*index, entities("chat_sessions"), "*").await, 2);
    for rebuild in &building {
        index.end_rebuild(rebuild).await.expect("ended");
    }
}

async fn what_is_discarded_is_gone_and_its_neighbours_stay<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let documents = documents();
    applied(&*index, documents[1..].to_vec()).await;
    // The first is not there, which is as good.
    index.discard(&documents[..2]).await.expect("discarded");
    assert_eq!(hits(&*index, entities("leads"), "*").await, 1);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 4);
    let again = applied(&*index, documents[1..3].to_vec()).await;
    assert_eq!((again.inserted, again.duplicates), (1, 1), "it is the caller who leaves it out");
}

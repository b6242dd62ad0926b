//! PostgreSQL fails, each time on a server of the suite's own, since most of these faults are the whole server's.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    bed::{change, checked, quietly},
    suite::{Row, Run},
    support::{
        Pipeline, connect,
        place::{Place as _, Real},
        servers::Servers,
    },
};

const CHANGED: u32 = 60;

/// A server, and a way to break it.
pub struct Store {
    servers: Servers,
    /// A superuser's, in the pipeline's database.
    url: String,
}

impl Store {
    async fn admin(&self) -> PgConnection {
        connect(&self.url).await
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(sql)
            .execute(&mut self.admin().await)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Cuts every connection but the one that does it.
    async fn cut_all(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .await;
    }

    /// Has every write to the tables that matter fail so, as long as the condition holds.
    async fn raise(&self, code: &str, when: &str) {
        self.execute(&format!(
            "CREATE SEQUENCE IF NOT EXISTS falhas;
             GRANT USAGE ON SEQUENCE falhas TO PUBLIC;
             CREATE OR REPLACE FUNCTION falha() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF {when} THEN RAISE EXCEPTION 'injetada' USING ERRCODE = '{code}'; END IF; RETURN NULL; END $$;
             CREATE TRIGGER falha AFTER INSERT OR UPDATE ON eventos_raw EXECUTE FUNCTION falha();
             CREATE TRIGGER falha AFTER INSERT OR UPDATE ON sluice_appended EXECUTE FUNCTION falha()"
        ))
        .await;
    }

    async fn raise_no_more(&self) {
        self.execute("DROP FUNCTION falha() CASCADE").await;
    }
}

/// How the server fails; it is well again when the future ends.
type Break = for<'a> fn(&'a Store, Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A sync and a worker run, and at some instant the server fails for a while.
async fn breaking(run: Run, fail: Break) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let servers = Servers::start_some(&["postgres"]).await;
    let mut bed = Real(Pipeline::on(&servers.admin_url(), &servers.database_url()).await);
    bed.set("SLUICE_BATCH_RECORDS", "10");
    bed.set("SUPABASE_PAGE_SIZE", "20");
    bed.set("DATABASE_TIMEOUT_SECONDS", "2");
    bed.engine().await.prepare().await.expect("the tables are made");
    let name = bed.0.variables["DATABASE_URL"].rsplit('/').next().expect("a name").to_owned();
    let url = crate::support::postgres::on_database(&servers.admin_url(), &name);
    let store = Store { servers, url };
    let mut worker = quietly(bed.command(&["worker"]));
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        fail(&store, Duration::from_millis(500) + dice.moment(2_500)).await;
        sync.wait().await.expect("the sync ends");
        row.injected(checked(&bed).await);
    }
    worker.kill().await.expect("killed");
    bed.clean_up().await;
    row
}

pub async fn connections_cut(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            for _ in 0..4 {
                store.cut_all().await;
                tokio::time::sleep(pause / 8).await;
            }
        })
    })
    .await
}

pub async fn connections_exhausted(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            store.execute("ALTER ROLE sluice CONNECTION LIMIT 1").await;
            store.cut_all().await;
            tokio::time::sleep(pause).await;
            store.execute("ALTER ROLE sluice CONNECTION LIMIT -1").await;
        })
    })
    .await
}

pub async fn read_only(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            let mut admin = store.admin().await;
            // The one that takes it back must be able to.
            for sql in [
                "SET default_transaction_read_only = off",
                "ALTER SYSTEM SET default_transaction_read_only = on",
                "SELECT pg_reload_conf()",
            ] {
                sqlx::raw_sql(sql).execute(&mut admin).await.expect("it is read-only");
            }
            tokio::time::sleep(pause).await;
            for sql in ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"] {
                sqlx::raw_sql(sql).execute(&mut admin).await.expect("it is as it was");
            }
        })
    })
    .await
}

pub async fn locked(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            let mut keeper = store.admin().await;
            let lock = "BEGIN; LOCK TABLE leads, eventos_raw, sluice_appended, sluice_syncs IN ACCESS EXCLUSIVE MODE";
            sqlx::raw_sql(lock).execute(&mut keeper).await.expect("locked");
            tokio::time::sleep(pause).await;
            sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("given back");
        })
    })
    .await
}

pub async fn serialization_failures(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            store.raise("40001", "nextval('falhas') % 3 <> 0").await;
            tokio::time::sleep(pause * 2).await;
            store.raise_no_more().await;
        })
    })
    .await
}

pub async fn disk_full(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            store.raise("53100", "true").await;
            tokio::time::sleep(pause).await;
            store.raise_no_more().await;
        })
    })
    .await
}

pub async fn killed(run: Run) -> Row {
    breaking(run, |store, pause| {
        Box::pin(async move {
            // With transactions under way: a statement that waits for a lock is in one.
            let mut keeper = store.admin().await;
            let lock = "BEGIN; LOCK TABLE eventos_raw IN EXCLUSIVE MODE";
            sqlx::raw_sql(lock).execute(&mut keeper).await.expect("locked");
            tokio::time::sleep(pause / 4).await;
            store.servers.kill("postgres").await;
            store.servers.restart("postgres").await;
        })
    })
    .await
}

//! A connection that stays open between statements: transactions that last.

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

use super::postgres::Database;

/// One session of a database, as a thread of a test uses it.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    /// Logs in as the superuser.
    pub(crate) fn open(database: &Database) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let url = database.url();
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(&url, NoTls))
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        // It is driven whenever a statement is waited for.
        runtime.spawn(connection);
        Self { runtime, client }
    }

    /// Runs statements; fails the test if the server refuses them.
    #[track_caller]
    pub(crate) fn run(&self, statements: &str) {
        let done = self.runtime.block_on(self.client.batch_execute(statements));
        done.unwrap_or_else(|error| panic!("{error:?}\nin: {statements}"));
    }
}

//! A door in front of a real server: while it is shut, connections are cut and refused, as when the server is down;
//! while it is stuck, nothing comes through, as when the server hangs.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub struct Gate {
    pub address: String,
    open: Arc<watch::Sender<bool>>,
    stuck: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Gate {
    /// An open door to `target`, a host and a port.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (open, watching) = watch::channel(true);
        let (stuck, blocked) = watch::channel(false);
        let target = target.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut watching, blocked) = (target.clone(), watching.clone(), blocked.clone());
                tokio::spawn(async move {
                    if !*watching.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.split(), server.split());
                    tokio::select! {
                        () = pass(from_client, to_server, blocked.clone()) => {}
                        () = pass(from_server, to_client, blocked) => {}
                        _ = watching.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open: Arc::new(open), stuck: Arc::new(stuck), task }
    }

    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// From now on nothing comes through, and nobody is told.
    pub fn stick(&self) {
        self.stuck.send_replace(true);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut blocked: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if blocked.wait_for(|blocked| !blocked).await.is_err() || to.write_all(&chunk[..read]).await.is_err()
        {
            return;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

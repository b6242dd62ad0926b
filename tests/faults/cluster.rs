//! A Kafka cluster of the suite's own, of as many brokers as it needs, each a process that can be killed.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    metadata::{Metadata, MetadataTopic},
};

use crate::{
    bed::{PATIENCE, comes},
    support::folder::TestFolder,
};

/// How clients reach the brokers.
pub struct Listener {
    /// `PLAINTEXT`, or `SASL_SSL` with what else that needs.
    pub protocol: &'static str,
    pub properties: String,
    /// Users to make, as Kafka's own tool is told of them.
    pub users: Vec<String>,
    /// What a client of the suite's own needs besides addresses.
    pub client: Vec<(&'static str, String)>,
}

impl Listener {
    pub fn plain() -> Self {
        Self { protocol: "PLAINTEXT", properties: String::new(), users: Vec::new(), client: Vec::new() }
    }
}

struct Broker {
    port: u16,
    controller: u16,
    process: Option<Child>,
}

/// Ended and deleted when dropped.
pub struct Cluster {
    brokers: Vec<Broker>,
    listener: Listener,
    folder: TestFolder,
}

/// Held together, so that none is taken twice.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners =
        std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

impl Cluster {
    pub async fn start(brokers: usize, listener: Listener) -> Self {
        let brokers = (0..brokers).map(|_| {
            let [port, controller] = free_ports();
            Broker { port, controller, process: None }
        });
        let mut cluster = Self { brokers: brokers.collect(), listener, folder: TestFolder::new() };
        for broker in 0..cluster.brokers.len() {
            cluster.format(broker);
            cluster.run(broker);
        }
        cluster.await_brokers().await;
        cluster
    }

    pub fn bootstrap_servers(&self) -> String {
        let each: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        each.join(",")
    }

    /// The broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> Option<usize> {
        let metadata = self.metadata(Some(topic))?;
        let leader = metadata.topics().first()?.partitions().get(partition)?.leader();
        usize::try_from(leader).ok()?.checked_sub(1)
    }

    /// SIGKILL: nothing is handed over.
    pub fn kill(&mut self, broker: usize) {
        if let Some(mut process) = self.brokers[broker].process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    pub async fn restart(&mut self, broker: usize) {
        self.run(broker);
        self.await_brokers().await;
    }

    /// Waits until every replica of a topic is in sync again, so that the next broker may fail.
    pub async fn await_replicas(&self, topic: &str) {
        let all = self.brokers.len();
        let in_sync = comes(PATIENCE, async || {
            let metadata = self.metadata(Some(topic));
            metadata.is_some_and(|metadata| {
                let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
                let counts: Vec<usize> = partitions.map(|partition| partition.isr().len()).collect();
                !counts.is_empty() && counts.iter().all(|count| *count == all)
            })
        });
        assert!(in_sync.await, "the replicas of {topic} are not in sync again");
    }

    async fn await_brokers(&self) {
        let all = self.brokers.len();
        let there = comes(PATIENCE, async || {
            self.metadata(None).is_some_and(|metadata| metadata.brokers().len() == all)
        });
        assert!(there.await, "the brokers do not come up; see {}", self.folder.path().display());
    }

    fn metadata(&self, topic: Option<&str>) -> Option<Metadata> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_servers());
        for (name, value) in &self.listener.client {
            config.set(*name, value);
        }
        let client: BaseConsumer = config.create().expect("a client");
        client.fetch_metadata(topic, Duration::from_secs(5)).ok()
    }

    /// Gives a user of the brokers another password; what the suite asks from then on is asked with it.
    pub fn change_password(&mut self, user: &str, password: &str) {
        let lines = self.listener.client.iter().map(|(name, value)| java_client(name, value));
        let properties = lines.collect::<Vec<_>>().join("\n");
        let path = self.folder.path().join("client.properties");
        std::fs::write(&path, properties).expect("written");
        let mut command = java("kafka.admin.ConfigCommand");
        command.args(["--bootstrap-server", &self.bootstrap_servers(), "--command-config"]).arg(path);
        command.args(["--alter", "--entity-type", "users", "--entity-name", user, "--add-config"]);
        command.arg(format!("SCRAM-SHA-512=[password={password}]"));
        let output = command.output().expect("java runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the password is not changed: {said}");
        for (name, value) in &mut self.listener.client {
            if *name == "sasl.password" {
                password.clone_into(value);
            }
        }
    }

    fn path(&self, broker: usize, what: &str) -> PathBuf {
        self.folder.path().join(format!("{what}-{}", broker + 1))
    }

    fn format(&self, broker: usize) {
        let (protocol, id) = (self.listener.protocol, broker + 1);
        let Broker { port, controller, .. } = self.brokers[broker];
        let voters: Vec<String> = self
            .brokers
            .iter()
            .enumerate()
            .map(|(n, broker)| format!("{}@127.0.0.1:{}", n + 1, broker.controller))
            .collect();
        let replicas = self.brokers.len();
        let mut properties = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={protocol}://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n\
             inter.broker.listener.name={protocol}\nlog.dirs={}\nnum.partitions=3\n\
             default.replication.factor={replicas}\nmin.insync.replicas={}\nauto.create.topics.enable=false\n\
             offsets.topic.num.partitions=4\noffsets.topic.replication.factor={replicas}\n\
             transaction.state.log.num.partitions=4\ntransaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=6000\n",
            voters.join(","),
            self.path(broker, "data").display(),
            replicas.min(2),
        );
        properties.push_str(&self.listener.properties);
        let path = self.path(broker, "properties");
        std::fs::write(&path, properties).expect("written");
        let mut command = java("kafka.tools.StorageTool");
        command.args(["format", "-t", "sluiceFaultSuiteAAAAAA", "-c"]).arg(path);
        for user in &self.listener.users {
            command.args(["--add-scram", user]);
        }
        let output = command.output().expect("java runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the storage is not formatted: {said}");
    }

    fn run(&mut self, broker: usize) {
        let log = File::options().create(true).append(true).open(self.path(broker, "log")).expect("a log");
        let mut command = java("kafka.Kafka");
        command.arg(self.path(broker, "properties")).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.brokers[broker].process = Some(command.spawn().expect("java runs"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in 0..self.brokers.len() {
            self.kill(broker);
        }
    }
}

/// A setting of librdkafka as Kafka's own tools want it.
fn java_client(name: &str, value: &str) -> String {
    match name {
        "security.protocol" => format!("{name}={}", value.to_uppercase()),
        "sasl.username" => format!(
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n username=\"{value}\" \\"
        ),
        "sasl.password" => format!(" password=\"{value}\";"),
        "ssl.ca.location" => format!("ssl.truststore.type=PEM\nssl.truststore.location={value}"),
        other => format!("{other}={value}"),
    }
}

fn java(class: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let services =
        std::env::var("SLUICE_SERVICES_DIR").map_or_else(|_| root.join(".services"), PathBuf::from);
    let mut command = Command::new("java");
    command
        .args(["-Xms64m", "-Xmx256m"])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            root.join("tools/services.d/log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(services.join("libs/kafka/*"))
        .arg(class);
    command
}

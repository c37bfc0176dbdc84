//! Hosts of the test's own: network namespaces joined by a bridge, so that links
//! can be slowed and cut as they are between real hosts. Needs root and iproute2.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Hosts `10.86.0.1`, `10.86.0.2`, ... on one switch; gone when dropped.
pub(crate) struct Network {
    name: String,
    hosts: usize,
}

impl Network {
    /// Makes so many hosts.
    pub(crate) fn new(hosts: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hw{}n{number}", std::process::id() % 1_000_000);
        let network = Self { name, hosts };
        let switch = network.switch();
        run(&["netns", "add", &switch]);
        network.at_switch(&["link", "add", "br0", "type", "bridge"]);
        network.at_switch(&["link", "set", "br0", "up"]);
        for host in 0..hosts {
            let (name, port) = (network.host(host), format!("p{host}"));
            run(&["netns", "add", &name]);
            run(&[
                "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0",
                "netns", &name,
            ]);
            network.at_switch(&["link", "set", &port, "master", "br0", "up"]);
            let address = format!("{}/24", address(host));
            network.at(host, &["addr", "add", &address, "dev", "eth0"]);
            network.at(host, &["link", "set", "eth0", "up"]);
            network.at(host, &["link", "set", "lo", "up"]);
        }
        network
    }

    /// One line `address:port` for each host.
    pub(crate) fn hosts_file(&self, port: u16) -> String {
        (0..self.hosts)
            .map(|host| format!("{}:{port}\n", address(host)))
            .collect()
    }

    /// A command that runs on a host.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), program]);
        command
    }

    /// Drops all packets from and to a host, without a word to either side.
    pub(crate) fn cut(&self, host: usize) {
        self.at_switch(&["link", "set", &format!("p{host}"), "nomaster"]);
    }

    /// Undoes [`Network::cut`].
    pub(crate) fn mend(&self, host: usize) {
        self.at_switch(&["link", "set", &format!("p{host}"), "master", "br0"]);
    }

    /// What `from` sends to `to` gets lost; the other direction stays.
    pub(crate) fn cut_one_way(&self, from: usize, to: usize) {
        // To an Ethernet address that nobody has.
        let (to, nobody) = (address(to), "02:00:00:00:00:99");
        self.at(
            from,
            &[
                "neigh",
                "replace",
                &to,
                "lladdr",
                nobody,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ],
        );
    }

    /// Undoes [`Network::cut_one_way`].
    pub(crate) fn mend_one_way(&self, from: usize, to: usize) {
        self.at(from, &["neigh", "del", &address(to), "dev", "eth0"]);
    }

    /// Slows what each host sends, in bytes a second.
    pub(crate) fn slow(&self, bytes_per_second: u64) {
        let rate = format!("{}bit", bytes_per_second * 8);
        for host in 0..self.hosts {
            let mut tc = self.command(host, "tc");
            tc.args([
                "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate,
            ]);
            tc.args(["burst", "64kb", "latency", "200ms"]);
            succeed(&mut tc);
        }
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    fn host(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    fn at_switch(&self, arguments: &[&str]) {
        let switch = self.switch();
        run(&[&["-n", &switch], arguments].concat());
    }

    fn at(&self, host: usize, arguments: &[&str]) {
        let name = self.host(host);
        run(&[&["-n", &name], arguments].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|host| self.host(host));
        for name in hosts.chain([self.switch()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// The address of a host.
pub(crate) fn address(host: usize) -> String {
    format!("10.86.0.{}", host + 1)
}

fn run(arguments: &[&str]) {
    succeed(Command::new("ip").args(arguments));
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("ip and tc, of iproute2");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {problem} (hosts of their own need root)"
    );
}

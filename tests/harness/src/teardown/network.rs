//! Bridges, network namespaces and firewall rules of a harness's container network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{mounts, runc};
use crate::cni::Network;
use crate::warden::Children;

/// The file in a harness's directory that describes its network.
pub(crate) const FILE: &str = "network.json";

/// Where libcni remembers the results of its calls.
const RESULTS: &str = "/var/lib/cni/results";

/// Removes the networks that are described in `dir` or right below it.
pub(super) fn remove(dir: &Path, children: &Children) {
    let below = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in std::iter::once(dir.to_owned()).chain(below) {
        let Ok(text) = fs::read(place.join(FILE)) else { continue };
        let Ok(network) = serde_json::from_slice::<Network>(&text) else { continue };
        remove_network(&network, children);
        runc::remove_namespaces(&network.token);
    }
}

fn remove_network(network: &Network, children: &Children) {
    // A namespace is ours when its name has our token in it, or when it is wired to our bridge.
    let wired = wired_to(&network.bridge, children);
    for point in pinned_namespaces() {
        let name = point.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.contains(&network.token) || wired.contains(&point);
        if ours && mounts::detach(&point).is_ok() {
            let _ = fs::remove_file(&point);
        }
    }
    for table in ["nat", "filter"] {
        remove_rules(table, network, children);
    }
    // The link may never have been made.
    let _ = children.run("ip", &["link", "delete", "dev", &network.bridge]);
    for result in fs::read_dir(RESULTS).into_iter().flatten().flatten() {
        if result.file_name().to_string_lossy().starts_with(&format!("{}-", network.name)) {
            let _ = fs::remove_file(result.path());
        }
    }
}

/// Deletes the rules that plugins made for this network, told by its name in their comments or by an address of
/// its subnet, and the chains that only those rules used.
fn remove_rules(table: &str, network: &Network, children: &Children) {
    let Ok(saved) = children.run("iptables-save", &["-t", table]) else { return };
    let saved = String::from_utf8_lossy(&saved.stdout).into_owned();
    let plan = Plan::of(&saved, network);
    for rule in &plan.rules {
        delete_rule(table, rule, children);
    }
    for flag in ["-F", "-X"] {
        for chain in &plan.chains {
            let _ = children.run("iptables", &["-w", "-t", table, flag, chain]);
        }
    }
}

/// Chains that all networks of a host share. The plugins make them when they are missing, and never remove them.
const SHARED: [(&str, &[&str]); 2] = [
    ("nat", &["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"]),
    ("filter", &["CNI-FORWARD", "CNI-ADMIN"]),
];

/// Removes the shared chains that serve nobody any more. For the last harness of the host only.
pub(crate) fn remove_idle_chains(children: &Children) {
    for (table, chains) in SHARED {
        let Ok(saved) = children.run("iptables-save", &["-t", table]) else { continue };
        let Some(jumps) = idle(&String::from_utf8_lossy(&saved.stdout), chains) else { continue };
        for rule in jumps {
            delete_rule(table, &rule, children);
        }
        for flag in ["-F", "-X"] {
            for chain in chains {
                let _ = children.run("iptables", &["-w", "-t", table, flag, chain]);
            }
        }
    }
}

/// The rules that lead into `chains`, or `None` when one of these holds a rule for a container, or none exists.
fn idle(saved: &str, chains: &[&str]) -> Option<Vec<String>> {
    let mut jumps = Vec::new();
    for rule in saved.lines().filter(|line| line.starts_with("-A ")) {
        let words = split_words(rule);
        let inside = words.get(1).is_some_and(|chain| chains.contains(&chain.as_str()));
        let target = words.iter().skip_while(|word| *word != "-j").nth(1).map_or("", String::as_str);
        if chains.contains(&target) {
            // Rules between the shared chains come and go with them.
            if !inside {
                jumps.push(rule.to_owned());
            }
        } else if inside && !matches!(target, "MASQUERADE" | "MARK") {
            return None;
        }
    }
    (!jumps.is_empty()).then_some(jumps)
}

fn delete_rule(table: &str, rule: &str, children: &Children) {
    let words = split_words(rule);
    let mut arguments = vec!["-w", "-t", table, "-D"];
    arguments.extend(words.iter().skip(1).map(String::as_str));
    let _ = children.run("iptables", &arguments);
}

/// What is to be deleted from one table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    rules: Vec<String>,
    chains: Vec<String>,
}

impl Plan {
    fn of(saved: &str, network: &Network) -> Self {
        let mut plan = Self::default();
        for rule in saved.lines().filter(|line| line.starts_with("-A ")) {
            let words = split_words(rule);
            let comment = words.iter().skip_while(|word| *word != "--comment").nth(1);
            let by_name = comment.is_some_and(|text| text.contains(&format!("name: \"{}\"", network.name)));
            let by_address = words.iter().any(|word| network.contains(word));
            if !by_name && !by_address {
                continue;
            }
            let chain = words.get(1).cloned().unwrap_or_default();
            let target = words.iter().skip_while(|word| *word != "-j").nth(1).cloned().unwrap_or_default();
            // A chain of one container is named CNI- or CNI-DN- and a hash; the shared ones are not ours to drop.
            for name in [chain, target] {
                if is_container_chain(&name) && !plan.chains.contains(&name) {
                    plan.chains.push(name);
                }
            }
            plan.rules.push(rule.to_owned());
        }
        plan
    }
}

fn is_container_chain(name: &str) -> bool {
    let hash = name.strip_prefix("CNI-DN-").or_else(|| name.strip_prefix("CNI-"));
    hash.is_some_and(|hash| hash.len() >= 20 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Splits a saved rule into words; quoted words may hold spaces and escaped quotes.
fn split_words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = rule.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => word.extend(chars.next()),
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

/// All network namespaces of this host that are pinned by a mount.
pub(crate) fn pinned_namespaces() -> Vec<PathBuf> {
    mounts::all().into_iter().filter(|mount| mount.kind == "nsfs").map(|mount| mount.point).collect()
}

/// How many firewall rules exist for a network.
pub(crate) fn firewall_rules(network: &Network) -> u64 {
    ["nat", "filter"]
        .iter()
        .filter_map(|table| Command::new("iptables-save").args(["-t", table]).output().ok())
        .map(|saved| Plan::of(&String::from_utf8_lossy(&saved.stdout), network).rules.len() as u64)
        .sum()
}

/// The named network namespaces that are wired to `bridge`.
fn wired_to(bridge: &str, children: &Children) -> Vec<PathBuf> {
    let json = |arguments: &[&str]| -> Vec<Value> {
        let output = children.run("ip", arguments).map(|output| output.stdout).unwrap_or_default();
        serde_json::from_slice(&output).unwrap_or_default()
    };
    let ids: Vec<_> = json(&["-json", "link", "show", "master", bridge])
        .iter()
        .filter_map(|link| link.get("link_netnsid").and_then(Value::as_i64))
        .collect();
    if ids.is_empty() {
        return Vec::new();
    }
    json(&["-json", "netns", "list-id"])
        .iter()
        .filter(|entry| entry.get("nsid").and_then(Value::as_i64).is_some_and(|id| ids.contains(&id)))
        .filter_map(|entry| Some(Path::new("/run/netns").join(entry.get("name")?.as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Plan, idle, split_words};
    use crate::cni::Network;

    fn network() -> Network {
        Network {
            token: "1a2b3c4d".into(),
            name: "dunh-1a2b3c4d".into(),
            bridge: "dh1a2b3c4d".into(),
            subnet: "10.99.7.0/24".into(),
        }
    }

    #[test]
    fn quoted_comments_stay_one_word() {
        let words = split_words(r#"-A X -m comment --comment "name: \"n\" id: \"i\"" -j Y"#);
        assert_eq!(words[5], r#"name: "n" id: "i""#);
        assert_eq!(words.last().map(String::as_str), Some("Y"));
    }

    #[test]
    fn only_rules_of_this_network_are_planned() {
        let saved = concat!(
            "*nat\n:CNI-0123456789abcdef01234567 - [0:0]\n",
            "-A POSTROUTING -s 10.99.7.2/32 -m comment --comment \"name: \\\"dunh-1a2b3c4d\\\" id: \\\"w\\\"\" -j CNI-0123456789abcdef01234567\n",
            "-A CNI-0123456789abcdef01234567 -d 10.99.7.0/24 -m comment --comment \"name: \\\"dunh-1a2b3c4d\\\" id: \\\"w\\\"\" -j ACCEPT\n",
            "-A POSTROUTING -s 10.99.70.2/32 -m comment --comment \"name: \\\"other\\\" id: \\\"w\\\"\" -j CNI-ffff456789abcdef01234567\n",
            "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\nCOMMIT\n",
        );
        let plan = Plan::of(saved, &network());
        assert_eq!(plan.rules.len(), 2);
        assert_eq!(plan.chains, ["CNI-0123456789abcdef01234567"]);
    }

    #[test]
    fn shared_chains_stay_while_somebody_uses_them() {
        let chains = ["CNI-FORWARD", "CNI-ADMIN"];
        let unused = "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD\n\
                      -A CNI-FORWARD -m comment --comment \"overrides\" -j CNI-ADMIN\n";
        assert_eq!(idle(unused, &chains).map(|jumps| jumps.len()), Some(1));
        assert_eq!(idle(&format!("{unused}-A CNI-FORWARD -s 10.4.0.2/32 -j ACCEPT\n"), &chains), None);
        assert_eq!(idle("-A FORWARD -j OTHER\n", &chains), None);
    }
}

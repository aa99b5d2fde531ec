//! Connecting and disconnecting as it should go.

use super::host::{ip_in, on_own_host, output};
use crate::ErrorKind;
use crate::types::PortMapping;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

#[test]
fn a_container_is_connected_and_nothing_stays_afterwards() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        manager.check(&ports).unwrap();
        // The plugins' shared chains are made once and stay: they belong to no container.
        let first = manager.namespace("first").await.unwrap();
        manager.attach("first", &first, &ports).await.unwrap();
        manager.detach("first").await.unwrap();
        let before = host.rules();

        let netns = manager.namespace("one").await.unwrap();
        assert!(ip_in(&netns, "link show lo").contains("UP"));
        let info = manager.attach("one", &netns, &ports).await.unwrap();
        assert!(info.addresses[0].starts_with("10.199.0."), "{info:?}");
        assert!(info.addresses[0].ends_with("/24"), "{info:?}");
        assert_eq!(info.gateways, ["10.199.0.1"]);
        assert_eq!(info.network, "dntest0");
        assert_eq!(info.ports, ports);
        assert_eq!(manager.info("one"), Some(info.clone()));
        assert!(ip_in(&netns, "addr show eth0").contains(&info.addresses[0]));
        assert!(ip_in(&netns, "route").contains("default via 10.199.0.1"));
        assert_ne!(host.rules(), before);

        manager.detach("one").await.unwrap();
        assert_eq!(host.rules(), before);
        assert_eq!((host.veths(), host.given_away()), (0, 0));
        assert_eq!(manager.info("one"), None);
        assert!(host.files("netns").is_empty() && host.files("network").is_empty());
        manager.detach("one").await.unwrap();
        manager.detach("never-there").await.unwrap();
        assert!(output("ip", &["link", "show", "dntest0"]).contains("dntest0"));
    });
}

#[test]
fn a_published_port_leads_inside() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let netns = manager.namespace("web").await.unwrap();
        manager.attach("web", &netns, &[PortMapping::tcp(8080, 80)]).await.unwrap();
        let (ready, listening) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("0.0.0.0:80").unwrap();
            ready.send(()).unwrap();
            listener.accept().unwrap().0.write_all(b"inside").unwrap();
        });
        listening.recv().unwrap();
        let address = "10.199.0.1:8080".parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        server.join().unwrap();
        manager.detach("web").await.unwrap();
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err());
    });
}

#[test]
fn a_live_connection_is_never_made_twice_and_survives_the_program() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        let netns = manager.namespace("one").await.unwrap();
        let inode = netns.metadata().unwrap().ino();
        let info = manager.attach("one", &netns, &ports).await.unwrap();
        let rules = host.rules();
        assert_eq!(manager.attach("one", &netns, &ports).await.unwrap(), info);
        drop(manager);

        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        assert_eq!(netns.metadata().unwrap().ino(), inode);
        assert_eq!(manager.info("one"), Some(info.clone()));
        assert_eq!(manager.attach("one", &netns, &ports).await.unwrap(), info);
        assert_eq!(manager.repair("one", &netns, &ports).await.unwrap(), info);
        assert_eq!(host.rules(), rules);
        assert_eq!((host.veths(), host.given_away()), (1, 1));
        manager.detach("one").await.unwrap();
    });
}

#[test]
fn other_ports_make_another_connection() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        manager.attach("one", &netns, &[PortMapping::tcp(8080, 80)]).await.unwrap();
        let info = manager.attach("one", &netns, &[PortMapping::tcp(9090, 80)]).await.unwrap();
        assert_eq!(info.ports, [PortMapping::tcp(9090, 80)]);
        assert!(host.rules().contains("9090") && !host.rules().contains("8080"));
        assert_eq!((host.veths(), host.given_away()), (1, 1));
        manager.detach("one").await.unwrap();
    });
}

#[test]
fn twenty_at_once_get_twenty_addresses_and_leave_nothing() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let all = |from: u16| (from..from + 20).map(|n| (format!("c{n}"), [PortMapping::tcp(8000 + n, 80)]));
        let warm = manager.namespace("warm").await.unwrap();
        manager.attach("warm", &warm, &[PortMapping::tcp(7999, 80)]).await.unwrap();
        manager.detach("warm").await.unwrap();
        let before = host.rules();
        let started = std::time::Instant::now();
        let made = futures::future::join_all(all(0).map(|(name, ports)| {
            let manager = manager.clone();
            async move {
                let netns = manager.namespace(&name).await.unwrap();
                manager.attach(&name, &netns, &ports).await.unwrap().addresses[0].clone()
            }
        }))
        .await;
        eprintln!("20 attachments at once: {:?}", started.elapsed());
        let distinct: std::collections::HashSet<_> = made.iter().collect();
        assert_eq!(distinct.len(), 20, "{made:?}");
        let rules = host.rules();
        for (_, ports) in all(0) {
            let port = format!("--dports {}", ports[0].host_port);
            assert_eq!(rules.matches(&port).count(), 1, "{port} in {rules}");
        }
        let gone = futures::future::join_all(all(0).map(|(name, _)| {
            let manager = manager.clone();
            async move { manager.detach(&name).await }
        }))
        .await;
        gone.into_iter().for_each(|done| done.unwrap());
        assert_eq!(host.rules(), before);
        assert_eq!((host.veths(), host.given_away()), (0, 0));
        assert!(host.files("netns").is_empty() && host.files("network").is_empty());
    });
}

#[test]
fn the_first_ones_of_a_host_may_come_all_at_once() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let made = futures::future::join_all((0..8).map(|n: u16| {
            let manager = manager.clone();
            async move {
                let name = format!("c{n}");
                let netns = manager.namespace(&name).await.unwrap();
                manager.attach(&name, &netns, &[PortMapping::tcp(8000 + n, 80)]).await.unwrap()
            }
        }))
        .await;
        assert_eq!(made.len(), 8);
        let rules = host.rules();
        for jump in ["-A PREROUTING", "-A OUTPUT", "-j CNI-HOSTPORT-MASQ", "-j CNI-FORWARD", "-j CNI-ADMIN"] {
            assert_eq!(rules.matches(jump).count(), 1, "{jump} in {rules}");
        }
        for n in 0..8 {
            manager.detach(&format!("c{n}")).await.unwrap();
        }
        assert_eq!((host.veths(), host.given_away()), (0, 0));
    });
}

#[test]
fn one_of_two_that_want_a_port_at_once_gets_it() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        let (one, two) = (manager.namespace("one").await.unwrap(), manager.namespace("two").await.unwrap());
        let (first, second) =
            tokio::join!(manager.attach("one", &one, &ports), manager.attach("two", &two, &ports));
        assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
        manager.detach("one").await.unwrap();
        manager.detach("two").await.unwrap();
    });
}

#[test]
fn two_data_roots_on_one_bridge_keep_apart() {
    on_own_host(|host| async move {
        let (one, other) = (host.manager_of("root"), host.manager_of("other"));
        let first = one.attach("same", &one.namespace("same").await.unwrap(), &[]).await.unwrap();
        let second = other.attach("same", &other.namespace("same").await.unwrap(), &[]).await.unwrap();
        assert_ne!(first.addresses, second.addresses);
        let rules = host.rules();
        one.detach("same").await.unwrap();
        assert_ne!(host.rules(), rules);
        let address = second.addresses[0].split('/').next().unwrap();
        assert!(host.rules().contains(address));
        assert_eq!(host.given_away(), 1);
        other.detach("same").await.unwrap();
        assert_eq!(host.given_away(), 0);
    });
}

#[test]
fn older_configurations_work() {
    on_own_host(|host| async move {
        for version in ["0.3.1", "0.4.0"] {
            let mut list = host.own_list();
            list["cniVersion"] = version.into();
            host.configure(&list);
            let manager = host.manager();
            let ports = [PortMapping::tcp(8080, 80)];
            let netns = manager.namespace("old").await.unwrap();
            let info = manager.attach("old", &netns, &ports).await.unwrap();
            assert!(info.addresses[0].starts_with("10.199.0."), "{version}: {info:?}");
            assert_eq!(manager.repair("old", &netns, &ports).await.unwrap(), info);
            // What made it takes it down, whatever is configured by then.
            std::fs::remove_dir_all(&host.config.config_dir).unwrap();
            manager.detach("old").await.unwrap();
            assert!(!host.rules().contains("8080"), "{version}");
            assert_eq!((host.veths(), host.given_away()), (0, 0), "{version}");
        }
        let single = r#"{"cniVersion":"1.0.0","name":"lo-only","type":"loopback"}"#;
        std::fs::create_dir_all(&host.config.config_dir).unwrap();
        std::fs::write(host.config.config_dir.join("a.conf"), single).unwrap();
        let error = host.manager().check(&[PortMapping::tcp(1, 1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        host.manager().check(&[]).unwrap();
    });
}

/// Prints what a connection takes here beside the plugins themselves; fails only when that is absurd.
#[test]
fn the_cost_beside_the_plugins_is_small() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        let (mut namespaces, mut attachments, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10 {
            let started = std::time::Instant::now();
            let netns = manager.namespace("one").await.unwrap();
            namespaces.push(started.elapsed());
            let started = std::time::Instant::now();
            manager.attach("one", &netns, &ports).await.unwrap();
            attachments.push(started.elapsed());
            let started = std::time::Instant::now();
            manager.attach("one", &netns, &ports).await.unwrap();
            again.push(started.elapsed());
            manager.detach("one").await.unwrap();
        }
        for list in [&mut namespaces, &mut attachments, &mut again] {
            list.sort_unstable();
        }
        eprintln!(
            "medians: namespace {:?}, attach {:?}, attach again {:?}",
            namespaces[5], attachments[5], again[5]
        );
        assert!(again[5] < Duration::from_millis(50), "{again:?}");
    });
}

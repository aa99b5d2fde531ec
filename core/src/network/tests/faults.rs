//! What must not go wrong when something else does.

use super::host::{ip_in, on_own_host, output};
use crate::ErrorKind;
use crate::types::PortMapping;
use std::time::Duration;

/// Makes the plugins' shared chains, so that rules can be compared exactly.
macro_rules! warm {
    ($host:expr) => {{
        let manager = $host.manager();
        let netns = manager.namespace("warm").await.unwrap();
        manager.attach("warm", &netns, &[PortMapping::tcp(7999, 80)]).await.unwrap();
        manager.detach("warm").await.unwrap();
        $host.rules()
    }};
}

#[test]
fn a_lost_namespace_leaks_neither_rules_nor_address() {
    on_own_host(|host| async move {
        let before = warm!(host);
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        manager.attach("one", &netns, &[PortMapping::tcp(8080, 80)]).await.unwrap();
        host.lose_namespace("one");
        manager.detach("one").await.unwrap();
        assert_eq!(host.rules(), before);
        assert_eq!((host.veths(), host.given_away()), (0, 0));
        assert!(host.files("netns").is_empty() && host.files("network").is_empty());
    });
}

#[test]
fn a_reboot_is_survived() {
    on_own_host(|host| async move {
        let before = warm!(host);
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        let netns = manager.namespace("one").await.unwrap();
        manager.attach("one", &netns, &ports).await.unwrap();
        host.lose_namespace("one");
        assert!(netns.is_file());
        let netns = manager.namespace("one").await.unwrap();
        let info = manager.attach("one", &netns, &ports).await.unwrap();
        assert!(ip_in(&netns, "addr show eth0").contains(&info.addresses[0]));
        assert_eq!((host.veths(), host.given_away()), (1, 1));
        manager.detach("one").await.unwrap();
        assert_eq!(host.rules(), before);
    });
}

#[test]
fn a_lost_interface_is_made_anew_without_a_second_set_of_rules() {
    on_own_host(|host| async move {
        let before = warm!(host);
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        let netns = manager.namespace("one").await.unwrap();
        manager.attach("one", &netns, &ports).await.unwrap();
        for harm in ["link del eth0", "addr flush dev eth0", "link set eth0 down"] {
            ip_in(&netns, harm);
            let info = manager.attach("one", &netns, &ports).await.unwrap();
            assert!(ip_in(&netns, "addr show eth0").contains(&info.addresses[0]), "{harm}");
            assert_eq!((host.veths(), host.given_away()), (1, 1), "{harm}");
            assert_eq!(host.rules().matches("--dports 8080").count(), 1, "{harm}");
        }
        manager.detach("one").await.unwrap();
        assert_eq!(host.rules(), before);
    });
}

#[test]
fn the_repair_of_one_leaves_the_others_alone() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let (one, other) =
            (manager.namespace("one").await.unwrap(), manager.namespace("other").await.unwrap());
        let ports = [PortMapping::tcp(8080, 80)];
        let theirs = manager.attach("other", &other, &[PortMapping::tcp(8081, 80)]).await.unwrap();
        let link = output("ip", &["-o", "link", "show", "master", "dntest0"]);
        let bridge = output("ip", &["-o", "link", "show", "dntest0"]);
        let addresses = ip_in(&other, "-o addr show eth0");
        manager.attach("one", &one, &ports).await.unwrap();
        let cut = output("ip", &["-o", "link", "show", "master", "dntest0"]);
        let mine = cut.lines().find(|line| !link.contains(*line)).unwrap();
        let name = mine.split(": ").nth(1).unwrap().split('@').next().unwrap();
        output("ip", &["link", "set", name, "nomaster"]);

        let repaired = manager.repair("one", &one, &ports).await.unwrap();
        assert!(ip_in(&one, "addr show eth0").contains(&repaired.addresses[0]));
        let joined = output("ip", &["-o", "link", "show", "master", "dntest0"]);
        assert_eq!(joined.lines().count(), 2, "{joined}");
        assert!(joined.contains(link.trim()), "{joined} lacks {link}");
        let index = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        assert_eq!(index(&output("ip", &["-o", "link", "show", "dntest0"])), index(&bridge));
        assert_eq!(ip_in(&other, "-o addr show eth0"), addresses);
        assert_eq!(manager.info("other"), Some(theirs));
        assert_eq!(host.rules().matches("--dports 8081").count(), 1);
        manager.detach("one").await.unwrap();
        assert!(host.rules().contains("8081"));
        manager.detach("other").await.unwrap();
    });
}

#[test]
fn a_failed_connection_leaves_nothing() {
    on_own_host(|mut host| async move {
        let before = warm!(host);
        host.plugin(
            "broken",
            r#"cat >/dev/null; [ $CNI_COMMAND = DEL ] && exit 0; echo '{"code":7,"msg":"bad luck"}'; exit 1"#,
        );
        let mut list = host.own_list();
        list["plugins"].as_array_mut().unwrap().push(serde_json::json!({"type": "broken"}));
        host.configure(&list);
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        let error = manager.attach("one", &netns, &[PortMapping::tcp(8080, 80)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let text = error.to_string();
        assert!(text.contains("bad luck") && text.contains("container: one"), "{text}");
        assert_eq!(host.rules(), before);
        assert_eq!((host.veths(), host.given_away()), (0, 0));
        assert_eq!(manager.info("one"), None);
        assert!(host.files("network").is_empty());
        manager.detach("one").await.unwrap();
    });
}

#[test]
fn a_passing_fault_is_tried_again() {
    on_own_host(|mut host| async move {
        let counter = host.root("counter");
        host.plugin(
            "moody",
            &format!(
                r#"input=$(cat); [ $CNI_COMMAND = ADD ] || exit 0
echo x >> {0}; [ $(wc -l < {0}) -gt 2 ] || {{ echo '{{"code":100,"msg":"device or resource busy"}}'; exit 1; }}
echo "$input" | sed 's/.*"prevResult":\({{.*}}\),"type".*/\1/'"#,
                counter.display()
            ),
        );
        let mut list = host.own_list();
        list["plugins"].as_array_mut().unwrap().push(serde_json::json!({"type": "moody"}));
        host.configure(&list);
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        let info = manager.attach("one", &netns, &[]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&counter).unwrap().lines().count(), 3);
        assert_eq!(info.addresses.len(), 1);
        assert_eq!((host.veths(), host.given_away()), (1, 1));
        manager.detach("one").await.unwrap();
        assert_eq!((host.veths(), host.given_away()), (0, 0));
    });
}

#[test]
fn a_plugin_that_hangs_ends_in_timeout_and_nothing_stays() {
    on_own_host(|mut host| async move {
        let before = warm!(host);
        host.plugin("stuck", "[ $CNI_COMMAND = DEL ] || exec sleep 60");
        let mut list = host.own_list();
        list["plugins"].as_array_mut().unwrap().push(serde_json::json!({"type": "stuck"}));
        host.configure(&list);
        host.limits.network_ms = 4_000;
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        let error = manager.attach("one", &netns, &[PortMapping::tcp(8080, 80)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("stuck"), "{error}");
        assert_eq!(host.rules(), before);
        assert_eq!((host.veths(), host.given_away()), (0, 0));
        manager.detach("one").await.unwrap();
    });
}

#[test]
fn what_a_crash_leaves_half_made_is_taken_down() {
    on_own_host(|host| async move {
        let before = warm!(host);
        let manager = host.manager();
        let ports = [PortMapping::tcp(8080, 80)];
        // At several moments of the chain: before, during and after the bridge plugin, and during portmap.
        for milliseconds in [1, 10, 20, 30, 40, 60, 80, 100, 120, 150] {
            let netns = manager.namespace("one").await.unwrap();
            let limit = Duration::from_millis(milliseconds);
            let _ = tokio::time::timeout(limit, manager.attach("one", &netns, &ports)).await;
            if milliseconds % 20 == 0 {
                let info = manager.attach("one", &netns, &ports).await.unwrap();
                assert_eq!((host.veths(), host.given_away()), (1, 1), "after {limit:?}");
                assert!(ip_in(&netns, "addr show eth0").contains(&info.addresses[0]));
            }
            manager.detach("one").await.unwrap();
            assert_eq!(host.rules(), before, "after {limit:?}");
            assert_eq!((host.veths(), host.given_away()), (0, 0), "after {limit:?}");
        }
    });
}

#[test]
fn a_torn_record_is_no_obstacle() {
    on_own_host(|host| async move {
        let manager = host.manager();
        let netns = manager.namespace("one").await.unwrap();
        manager.attach("one", &netns, &[]).await.unwrap();
        std::fs::write(host.root("root").join("network/one.json"), "{\"con").unwrap();
        assert_eq!(manager.info("one"), None);
        manager.attach("one", &netns, &[]).await.unwrap();
        assert_eq!((host.veths(), host.given_away()), (1, 1));
        std::fs::write(host.root("root").join("network/one.json"), "").unwrap();
        manager.detach("one").await.unwrap();
        assert_eq!((host.veths(), host.given_away()), (0, 0));
    });
}

#[test]
fn no_free_address_and_a_taken_port_are_told_apart() {
    on_own_host(|mut host| async move {
        host.config.subnet = "10.199.0.0/29".to_owned();
        let manager = host.manager();
        let mut full = None;
        for n in 0..6 {
            let name = format!("c{n}");
            let netns = manager.namespace(&name).await.unwrap();
            if let Err(error) = manager.attach(&name, &netns, &[]).await {
                full = Some(error);
                manager.detach(&name).await.unwrap();
            }
        }
        assert_eq!(full.unwrap().kind(), ErrorKind::ResourceExhausted);
        for n in 0..6 {
            manager.detach(&format!("c{n}")).await.unwrap();
        }
        let ports = [PortMapping::tcp(8080, 80)];
        let one = manager.namespace("one").await.unwrap();
        manager.attach("one", &one, &ports).await.unwrap();
        let two = manager.namespace("two").await.unwrap();
        let error = manager.attach("two", &two, &ports).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("other_container: one"), "{error}");
        manager.detach("two").await.unwrap();
        manager.detach("one").await.unwrap();
        assert_eq!((host.veths(), host.given_away()), (0, 0));
    });
}

#[test]
fn missing_plugins_and_bad_names_are_refused_before_anything_is_made() {
    on_own_host(|mut host| async move {
        host.config.plugin_dirs = vec![host.root("nowhere")];
        let manager = host.manager();
        let error = manager.check(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("bridge, host-local, portmap"), "{error}");
        assert!(error.to_string().contains("nowhere"), "{error}");
        for bad in ["", "../x", "a/b", "a b"] {
            assert_eq!(manager.namespace(bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
            assert_eq!(manager.detach(bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(!host.root("root").exists());
    });
}

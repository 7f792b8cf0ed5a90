use super::*;

/// Each: the object, what is written on v1, and on v2.
#[test]
fn each_field() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (r#"{"memory":{"limit":1048576}}"#, &["memory.limit_in_bytes=1048576"], &["memory.max=1048576"]),
        (
            r#"{"memory":{"limit":100,"swap":150}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150"],
            &["memory.max=100", "memory.swap.max=50"],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            &["memory.max=max", "memory.swap.max=max"],
        ),
        (
            r#"{"memory":{"limit":100,"swap":-1}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=-1"],
            &["memory.max=100", "memory.swap.max=max"],
        ),
        (
            r#"{"memory":{"limit":9223372036854775807,"swap":9223372036854775807}}"#,
            &["memory.limit_in_bytes=9223372036854775807", "memory.memsw.limit_in_bytes=9223372036854775807"],
            &["memory.max=9223372036854775807", "memory.swap.max=0"],
        ),
        (r#"{"memory":{"swap":-1}}"#, &["memory.memsw.limit_in_bytes=-1"], &["memory.swap.max=max"]),
        (r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#, &[], &[]),
        (r#"{"memory":{"reservation":7}}"#, &["memory.soft_limit_in_bytes=7"], &["memory.low=7"]),
        (r#"{"memory":{"kernelTCP":7}}"#, &["memory.kmem.tcp.limit_in_bytes=7"], &[]),
        (r#"{"memory":{"kernel":7}}"#, &[], &[]),
        (r#"{"memory":{"swappiness":0}}"#, &["memory.swappiness=0"], &[]),
        (r#"{"memory":{"swappiness":18446744073709551615}}"#, &[], &[]),
        (r#"{"memory":{"disableOOMKiller":true}}"#, &["memory.oom_control=1"], &[]),
        (r#"{"memory":{"disableOOMKiller":false}}"#, &["memory.oom_control=0"], &[]),
        (r#"{"memory":{"useHierarchy":true}}"#, &["memory.use_hierarchy=1"], &[]),
        (r#"{"memory":{"useHierarchy":false}}"#, &[], &[]),
        (r#"{"cpu":{"shares":512}}"#, &["cpu.shares=512"], &["cpu.weight=20"]),
        (r#"{"cpu":{"shares":0}}"#, &[], &[]),
        (
            r#"{"cpu":{"quota":50000,"period":20000,"burst":10}}"#,
            &["cpu.cfs_period_us=20000", "cpu.cfs_burst_us=10", "cpu.cfs_quota_us=50000"],
            &["cpu.max.burst=10", "cpu.max=50000 20000"],
        ),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]),
        (r#"{"cpu":{"quota":0,"period":7000}}"#, &["cpu.cfs_period_us=7000"], &["cpu.max=max 7000"]),
        (r#"{"cpu":{"quota":0,"period":0}}"#, &[], &[]),
        (r#"{"cpu":{"idle":1,"shares":512}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (
            r#"{"cpu":{"idle":0,"shares":2}}"#,
            &["cpu.idle=0", "cpu.shares=2"],
            &["cpu.idle=0", "cpu.weight=1"],
        ),
        (r#"{"cpu":{"cpus":" 0-3,5\n","mems":""}}"#.trim(), &["cpuset.cpus=0-3,5"], &["cpuset.cpus=0-3,5"]),
        (r#"{"cpu":{"mems":"0"}}"#, &["cpuset.mems=0"], &["cpuset.mems=0"]),
        (r#"{"pids":{"limit":100}}"#, &["pids.max=100"], &["pids.max=100"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"], &["pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &["pids.max=max"], &["pids.max=max"]),
        (r#"{"blockIO":{"weight":0}}"#, &[], &[]),
        (r#"{"blockIO":{"weight":1000}}"#, &["blkio.weight=1000"], &["io.bfq.weight=1000"]),
        (r#"{"blockIO":{"leafWeight":10}}"#, &["blkio.leaf_weight=10"], &[]),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":16,"weight":300,"leafWeight":20}]}}"#,
            &["blkio.weight_device=8:16 300", "blkio.leaf_weight_device=8:16 20"],
            &["io.bfq.weight=8:16 300"],
        ),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
                "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":6}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":7}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
            &[
                "blkio.throttle.read_bps_device=8:0 5",
                "blkio.throttle.write_bps_device=8:0 6",
                "blkio.throttle.read_iops_device=8:0 7",
                "blkio.throttle.write_iops_device=8:0 0",
            ],
            &["io.max=8:0 rbps=5", "io.max=8:0 wbps=6", "io.max=8:0 riops=7", "io.max=8:0 wiops=max"],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0},{"pageSize":"1GB","limit":-1}]}"#,
            &[
                "hugetlb.2MB.limit_in_bytes=0",
                "hugetlb.2MB.rsvd.limit_in_bytes=0",
                "hugetlb.1GB.limit_in_bytes=-1",
                "hugetlb.1GB.rsvd.limit_in_bytes=-1",
            ],
            &[
                "hugetlb.2MB.max=0",
                "hugetlb.2MB.rsvd.max=0",
                "hugetlb.1GB.max=max",
                "hugetlb.1GB.rsvd.max=max",
            ],
        ),
        (
            r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#,
            &["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
            &[],
        ),
        (
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"mlx4_0":{"hcaObjects":1},"x":{}}}"#,
            &["rdma.max=mlx4_0 hca_object=1", "rdma.max=mlx5_1 hca_handle=3 hca_object=10"],
            &["rdma.max=mlx4_0 hca_object=1", "rdma.max=mlx5_1 hca_handle=3 hca_object=10"],
        ),
    ];
    for (json, on_v1, on_v2) in cases {
        let json = json.replace("\\n", "");
        assert_eq!(files(&json, v1), *on_v1, "v1 {json}");
        assert_eq!(files(&json, v2), *on_v2, "v2 {json}");
    }
}

#[test]
fn v1_only_fields() {
    let realtime = r#"{"cpu":{"realtimeRuntime":950,"realtimePeriod":1000}}"#;
    assert_eq!(files(realtime, v1), ["cpu.rt_period_us=1000", "cpu.rt_runtime_us=950"]);
    assert_eq!(
        refused(realtime, v2),
        "linux.resources.cpu.realtimeRuntime needs cgroup v1, \
         and this host has the controller cpu on cgroup v2"
    );
    for (json, field) in [
        (r#"{"memory":{"kernelTCP":7}}"#, "memory.kernelTCP"),
        (r#"{"memory":{"kernel":7}}"#, "memory.kernel"),
        (r#"{"memory":{"swappiness":7}}"#, "memory.swappiness"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
        (r#"{"blockIO":{"leafWeight":10}}"#, "blockIO.leafWeight"),
        (r#"{"network":{"classID":1}}"#, "network.classID"),
    ] {
        let notes = planned(json, v2).unwrap().notes;
        assert_eq!(notes.len(), 1, "{json}");
        assert!(notes[0].starts_with(&format!("linux.resources.{field} is ignored: ")), "{}", notes[0]);
    }
}

#[test]
fn unified() {
    let json = r#"{"memory":{"limit":5},"unified":{"memory.max":"6","io.max":"8:0 rbps=1\n8:16 wiops=2\n"}}"#;
    assert_eq!(files(json, v2), ["memory.max=5", "io.max=8:0 rbps=1", "io.max=8:16 wiops=2", "memory.max=6"]);
    assert!(refused(json, v1).ends_with("needs cgroup v2, and this host has the controller io on cgroup v1"));
    assert_eq!(files(r#"{"unified":{"memory.high":"7","cgroup.max.depth":"3"}}"#, hybrid).len(), 2);
    assert!(refused(r#"{"unified":{"hugetlb.2MB.max":"0"}}"#, hybrid).contains("does not offer"));
    for key in [
        "",
        ".",
        "..",
        "x",
        ".x",
        "x.",
        "memory",
        "memory/x.high",
        "../memory.high",
        "memory..high",
        "a b.c",
        "memory.high\\n",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.kill",
        "cgroup.freeze",
        "cgroup.type",
        "cgroup.subtree_control",
        "cgroup.pressure",
        "cgroup.new",
    ] {
        let error = refused(&format!(r#"{{"unified":{{"{key}":"1"}}}}"#), v2);
        assert!(error.starts_with("linux.resources.unified: "), "{key}: {error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn hybrid_takes_each_controller_where_it_is() {
    let json = r#"{"memory":{"limit":5},"cpu":{"shares":3,"cpus":"0"},"pids":{"limit":2}}"#;
    assert_eq!(files(json, hybrid), ["memory.max=5", "cpu.shares=3", "cpuset.cpus=0", "pids.max=2"]);
    // with v1 about, packets could have been marked
    let one = |controller: &str| if controller.starts_with("net_") { None } else { hybrid(controller) };
    let resources: LinuxResources = serde_json::from_str(r#"{"network":{"classID":1}}"#).unwrap();
    let error = plan(&resources, &one).unwrap_err().to_string();
    assert!(error.contains("network.classID needs the cgroup controller net_cls"), "{error}");
}

#[test]
fn missing_controllers() {
    for (json, controller) in [
        (r#"{"memory":{"limit":5}}"#, "memory"),
        (r#"{"memory":{"reservation":5}}"#, "memory"),
        (r#"{"memory":{"swappiness":5}}"#, "memory"),
        (r#"{"cpu":{"shares":3}}"#, "cpu"),
        (r#"{"cpu":{"quota":3000}}"#, "cpu"),
        (r#"{"cpu":{"burst":3000}}"#, "cpu"),
        (r#"{"cpu":{"idle":1}}"#, "cpu"),
        (r#"{"cpu":{"realtimePeriod":1}}"#, "cpu"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpuset"),
        (r#"{"pids":{"limit":1}}"#, "pids"),
        (r#"{"blockIO":{"weight":10}}"#, "io"),
        (r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#, "io"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#, "hugetlb"),
        (r#"{"rdma":{"x":{"hcaHandles":3}}}"#, "rdma"),
        (r#"{"unified":{"misc.max":"x 3"}}"#, "misc"),
    ] {
        let end = format!("needs the cgroup controller {controller}, which this host does not offer");
        let error = refused(json, nothing);
        assert!(error.starts_with("linux.resources.") && error.ends_with(&end), "{error}");
    }
    for json in [
        r#"{"memory":{"limit":-1,"swap":-1,"reservation":-1,"disableOOMKiller":false,"useHierarchy":true}}"#,
        r#"{"cpu":{"shares":1024,"quota":-1,"period":100000,"burst":0,"idle":0,"realtimeRuntime":0,"cpus":""}}"#,
        r#"{"pids":{"limit":-1},"hugepageLimits":[{"pageSize":"2MB","limit":-1}],"rdma":{"x":{}}}"#,
        r#"{"network":{"classID":0},"unified":{},"blockIO":{"weight":0}}"#,
    ] {
        assert_eq!(planned(json, nothing).unwrap(), Plan::default(), "{json}");
    }
}

#[test]
fn refused_values() {
    for (json, start) in [
        (r#"{"memory":{"limit":-2}}"#, r#"memory.limit: "-2" is negative"#),
        (r#"{"memory":{"reservation":-5}}"#, "memory.reservation: "),
        (r#"{"memory":{"swap":5}}"#, "memory.swap: \"5\" needs a memory.limit"),
        (r#"{"memory":{"limit":-1,"swap":5}}"#, "memory.swap: \"5\" needs a memory.limit"),
        (r#"{"memory":{"limit":6,"swap":5}}"#, "memory.swap: \"5\" is below"),
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: "),
        (r#"{"cpu":{"quota":-3}}"#, "cpu.quota: "),
        (r#"{"cpu":{"idle":2}}"#, "cpu.idle: "),
        (r#"{"cpu":{"realtimeRuntime":-2}}"#, "cpu.realtimeRuntime: "),
        (r#"{"cpu":{"cpus":"0\n1"}}"#, "cpu.cpus: "),
        (r#"{"pids":{"limit":-2}}"#, "pids.limit: "),
        (r#"{"blockIO":{"weight":9}}"#, "blockIO.weight: "),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":1001}]}}"#,
            "blockIO.weightDevice[0].weight: ",
        ),
        (r#"{"blockIO":{"weightDevice":[{"major":-1,"minor":0}]}}"#, "blockIO.weightDevice[0].major: "),
        (
            r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":1,"minor":1048576,"rate":1}]}}"#,
            "blockIO.throttleReadIOPSDevice[0].minor: ",
        ),
        (r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":0}]}"#, "hugepageLimits[0].pageSize: "),
        (r#"{"hugepageLimits":[{"pageSize":"MB","limit":0}]}"#, "hugepageLimits[0].pageSize: "),
        (r#"{"hugepageLimits":[{"pageSize":"2TB","limit":0}]}"#, "hugepageLimits[0].pageSize: "),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-2}]}"#, "hugepageLimits[0].limit: "),
        (r#"{"network":{"priorities":[{"name":"a b","priority":1}]}}"#, "network.priorities[0].name: "),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, r#"rdma["a b"]: "#),
    ] {
        for host in [v1, v2 as Host] {
            let error = refused(json, host);
            assert!(error.starts_with(&format!("linux.resources.{start}")), "{json}: {error}");
        }
    }
}

#[test]
fn weights() {
    for (shares, weight) in [(0, 1), (2, 1), (3, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(cpu::weight(shares), weight, "{shares}");
    }
    for (v1, v2) in [(0, 1), (10, 1), (100, 910), (1000, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(io::v2_weight(v1), v2, "{v1}");
    }
}

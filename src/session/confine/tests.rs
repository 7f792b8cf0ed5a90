//! A process confines itself, in earnest, and tries what it may not do: each time a child that was forked for it.

use rustix::process::{Pid, WaitOptions, waitpid};

use super::*;

const NEEDS: WorkerNeeds = WorkerNeeds { psi_triggers: false };

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Exit(i32),
    Signal(i32),
}

/// Runs `f` in a child, which exits with what it returns.
fn in_child(f: impl FnOnce() -> i32) -> Did {
    // SAFETY: the child runs `f` alone and ends without unwinding; the C library makes its allocator usable in it.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let code = f();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).unwrap(),
    };
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), None) => Did::Exit(code),
        (_, signal) => Did::Signal(signal.unwrap()),
    }
}

/// Confines the child as a worker, then runs `f`.
fn as_worker(f: impl FnOnce() -> i32) -> Did {
    in_child(|| match worker(&NEEDS) {
        Ok(()) => f(),
        Err(_) => 200,
    })
}

/// A system call without a pointer that leads anywhere; its error number, 0 where there was none.
fn call(number: libc::c_long, arguments: [usize; 4]) -> i32 {
    let [a, b, c, d] = arguments;
    // SAFETY: no pointer leads anywhere: what the kernel cannot read or write is EFAULT.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(255),
        _ => 0,
    }
}

#[test]
fn a_worker_works() {
    let did = as_worker(|| {
        let read =
            std::fs::read("/proc/self/stat").is_ok() && std::fs::read_link("/proc/self/ns/pid").is_ok();
        let heap = std::hint::black_box(vec![1u8; 32 << 20]).len() == 32 << 20;
        let thread = std::thread::Builder::new().name("another".to_owned()).spawn(|| 7);
        i32::from(!(read && heap && thread.is_ok_and(|thread| thread.join().is_ok_and(|seven| seven == 7))))
    });
    assert_eq!(did, Did::Exit(0));
}

#[test]
fn what_ends_a_worker() {
    for call_ in calls::deadly() {
        let Some(number) = call_.number else { continue };
        let did = as_worker(|| call(number.into(), [0; 4]));
        assert_eq!(did, Did::Signal(libc::SIGSYS), "{}", call_.name());
    }
}

#[test]
fn it_ends_whole() {
    // the one thread's deed takes the other along
    let did = as_worker(|| {
        let thread = std::thread::spawn(|| call(libc::SYS_execve, [0; 4]));
        std::thread::sleep(std::time::Duration::from_secs(10));
        thread.join().unwrap_or(1)
    });
    assert_eq!(did, Did::Signal(libc::SIGSYS));
}

#[test]
fn what_is_refused() {
    let did = as_worker(|| {
        let tries = [
            (libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0, 0], libc::EPERM),
            (libc::SYS_socket, [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, 0], libc::EPERM),
            (libc::SYS_kill, [1, 0, 0, 0], libc::EPERM),
            (libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0], libc::EPERM),
            (libc::SYS_clone3, [0; 4], libc::ENOSYS),
            (libc::SYS_mmap, [0, 4096, (libc::PROT_READ | libc::PROT_EXEC) as usize, 0x22], libc::EPERM),
            (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0], libc::EPERM),
            (libc::SYS_capset, [0; 4], libc::EPERM),
            (libc::SYS_fchmodat, [0; 4], libc::EPERM),
            (100_000, [0; 4], libc::ENOSYS),
        ];
        match tries.iter().position(|(number, arguments, want)| call(*number, *arguments) != *want) {
            None => 0,
            Some(at) => 1 + at as i32,
        }
    });
    assert_eq!(did, Did::Exit(0), "the number is that of the try that went otherwise");
}

#[test]
fn memory_has_a_bound() {
    let did = as_worker(|| {
        let mut heap = Vec::<u8>::new();
        let too_much = heap.try_reserve_exact(WORKER_MEMORY as usize).is_err();
        // what is shared does not count: as the snapshots, which lie in memory that the holder made
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that is there.
        let shared = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * WORKER_MEMORY as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                shared,
                -1,
                0,
            )
        };
        i32::from(!too_much) + 2 * i32::from(shared == libc::MAP_FAILED)
    });
    assert_eq!(did, Did::Exit(0));
    // and an allocation that cannot fail ends the process
    let did = as_worker(|| {
        // SAFETY: the child's stderr, which nothing else owns: what it says in the end is of no use to anybody.
        unsafe { libc::close(2) };
        std::hint::black_box(vec![1u8; WORKER_MEMORY as usize]).len() as i32
    });
    assert_eq!(did, Did::Signal(libc::SIGABRT));
}

#[test]
fn a_worker_has_its_rights_alone() {
    let before = rights::permitted().unwrap();
    let wanted = rights::of_worker(&NEEDS, before);
    let did = as_worker(move || {
        let sets = rustix::thread::capabilities(None); // refused: SYS_capget is for triggers
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        let set = |name| u64::from_str_radix(line(name), 16).unwrap_or(u64::MAX);
        let wanted = wanted.bits();
        let as_wanted = set("CapEff:") == wanted && set("CapPrm:") == wanted;
        let empty = set("CapInh:") == 0 && set("CapAmb:") == 0;
        let bounded = set("CapBnd:") == wanted || before.is_empty(); // an ordinary user cannot cut it
        let fixed = line("NoNewPrivs:") == "1" && line("Seccomp:") == "2" && sets.is_err();
        i32::from(!as_wanted) + 2 * i32::from(!empty) + 4 * i32::from(!bounded) + 8 * i32::from(!fixed)
    });
    assert_eq!(did, Did::Exit(0));
}

#[test]
fn the_parents_death_is_still_told() {
    let did = in_child(|| {
        let signal = Some(rustix::process::Signal::KILL);
        let set = set_parent_process_death_signal(signal).is_ok() && worker(&NEEDS).is_ok();
        i32::from(!(set && parent_process_death_signal() == Ok(signal)))
    });
    assert_eq!(did, Did::Exit(0));
}

#[test]
fn threads_are_noticed() {
    let did = in_child(|| {
        let _thread = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(10)));
        i32::from(!matches!(worker(&NEEDS), Err(ConfineError::Threads(2))))
    });
    assert_eq!(did, Did::Exit(0));
}

/// A worker comes out of a holder by execve(2) as root under no_new_privs: it must still have what it needs.
#[test]
fn a_holders_child_has_the_workers_rights() {
    let before = rights::permitted().unwrap();
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run it by tests/run unit");
    for needs in [NEEDS, WorkerNeeds { psi_triggers: true }] {
        let wanted = rights::of_worker(&needs, before).bits();
        let did = in_child(move || {
            let dir = std::path::Path::new("/nonexistent");
            if holder(&needs, dir).is_err() {
                return 200;
            }
            let Ok(output) = std::process::Command::new("cat").arg("/proc/self/status").output() else {
                return 201;
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap_or("");
            let permitted = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            i32::from(permitted & wanted != wanted)
        });
        assert_eq!(did, Did::Exit(0), "{needs:?}");
    }
}

#[test]
fn registrations_are_given_away_once() {
    use std::os::unix::fs::MetadataExt;
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run it by tests/run unit");
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("a.json"), dir.path().join("b.json"));
    let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
    std::fs::write(&old, "").unwrap();
    limits::give(dir.path(), rights::WORKER_ID).unwrap();
    assert_eq!((owner(dir.path()), owner(&old)), (rights::WORKER_ID, rights::WORKER_ID));
    std::fs::write(&new, "").unwrap();
    limits::give(dir.path(), rights::WORKER_ID).unwrap();
    assert_eq!(owner(&new), 0, "what came later may be an intruder's link");
    limits::give(&dir.path().join("missing"), rights::WORKER_ID).unwrap();
}

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;

type Job = Box<dyn FnOnce() + Send>;

fn lanes(readers: usize) -> Arc<Lanes<Job>> {
    Arc::new(Lanes::new(readers))
}

/// All that is queued, in the order in which one thread of the pool would do it.
fn drain(lanes: &Lanes<&'static str>) -> Vec<&'static str> {
    let mut done = Vec::new();
    loop {
        let taken = lanes.take(&mut lanes.waiting.lock(), Kind::All);
        match taken {
            Some((_turn, job)) => done.push(job),
            None => return done,
        }
    }
}

#[test]
fn r8_a_lane_leaves_one_reading_thread_to_the_others() {
    for (readers, most) in [(1, 1), (2, 1), (4, 3)] {
        let lanes = lanes(readers);
        let turns: Vec<_> = std::iter::from_fn(|| lanes.enter(5)).take(10).collect();
        assert_eq!(turns.len(), most, "{readers} threads");
        assert!(lanes.enter(6).is_some(), "another lane");
        drop(turns);
        assert!(lanes.enter(5).is_some());
    }
}

#[test]
fn r8_lanes_take_turns_and_a_lane_keeps_its_order() {
    let lanes = Lanes::new(2);
    for job in ["a1", "a2", "a3", "a4"] {
        lanes.queue(1, job);
    }
    for job in ["b1", "b2"] {
        lanes.queue(2, job);
    }
    lanes.queue(3, "c1");
    assert_eq!(drain(&lanes), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
}

#[test]
fn what_was_queued_behind_a_running_request_is_done_after_it() {
    let lanes = Lanes::new(2);
    let turn = lanes.enter(1).expect("free");
    lanes.queue(1, "behind");
    lanes.queue(2, "other");
    assert!(lanes.take(&mut lanes.waiting.lock(), Kind::All).is_some_and(|(_, job)| job == "other"));
    assert!(lanes.take(&mut lanes.waiting.lock(), Kind::All).is_none(), "one of a lane at a time");
    drop(turn);
    assert_eq!(drain(&lanes), ["behind"]);
}

#[test]
fn a_slow_lane_is_for_the_pool_until_it_is_quick_again() {
    let lanes: Lanes<&str> = Lanes::new(4);
    lanes.lane(1).running.store(1, Ordering::SeqCst);
    lanes.leave(1, SLOW);
    lanes.queue(1, "slow");
    assert!(lanes.enter(1).is_none());
    assert!(
        lanes.take(&mut lanes.waiting.lock(), Kind::Quick).is_none(),
        "not with the thread for quick ones"
    );
    let first = lanes.start(1);
    assert!(first.is_some() && lanes.start(1).is_none(), "one at a time");
    drop(first);
    for _ in 1..PROBATION {
        assert!(lanes.enter(1).is_none());
        drop(lanes.start(1));
    }
    assert!(lanes.enter(1).is_some());
}

#[test]
fn r8_a_lane_whose_queue_does_not_empty_has_threads_of_its_own() {
    let lanes: Lanes<u32> = Lanes::new(4);
    (0..PATIENCE + 3).for_each(|job| lanes.queue(1, job));
    let take = |kind| {
        let taken = lanes.take(&mut lanes.waiting.lock(), kind);
        taken.map(|(_turn, job)| job)
    };
    for job in 0..PATIENCE {
        assert_eq!(take(Kind::Busy), None);
        assert_eq!(take(if job % 2 == 0 { Kind::All } else { Kind::Quick }), Some(job));
    }
    assert!(lanes.enter(1).is_none(), "nor may a thread that reads requests do any");
    assert!(lanes.enter(2).is_some(), "another lane");
    assert_eq!((take(Kind::All), take(Kind::Quick)), (None, None));
    assert_eq!(take(Kind::Busy), Some(PATIENCE));
    assert_eq!(take(Kind::Busy), Some(PATIENCE + 1));
    assert_eq!(take(Kind::Busy), Some(PATIENCE + 2), "the last, which leaves none behind");
    assert!(lanes.enter(1).is_some(), "it is as all others again");
    lanes.queue(1, 0);
    assert_eq!(take(Kind::Quick), Some(0));
}

/// However the ways in, out and through the queue meet: each job is done once, and never two of a lane beyond its bound.
#[test]
fn r8_nothing_is_left_behind() {
    const JOBS: usize = 20_000;
    for readers in [2, 4] {
        let lanes = lanes(readers);
        lanes.start_pool(|job| job()).expect("threads");
        let (send, receive) = mpsc::channel();
        let running: Arc<[AtomicUsize; 3]> = Arc::default();
        std::thread::scope(|scope| {
            for thread in 0..readers {
                let (lanes, send, running) = (&lanes, send.clone(), Arc::clone(&running));
                scope.spawn(move || {
                    for number in 0..JOBS {
                        let lane = (number + thread) % 3;
                        let (send, running) = (send.clone(), Arc::clone(&running));
                        let job = move || {
                            assert!(running[lane].fetch_add(1, Ordering::SeqCst) < readers.max(2) - 1);
                            if number % 1000 == 0 {
                                std::thread::sleep(SLOW);
                            }
                            running[lane].fetch_sub(1, Ordering::SeqCst);
                            send.send(()).expect("heard");
                        };
                        match lanes.enter(lane as u16) {
                            Some(_turn) => job(),
                            None => lanes.queue(lane as u16, Box::new(job)),
                        }
                    }
                });
            }
        });
        for done in 0..JOBS * readers {
            receive.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("only {done} were done"));
        }
        lanes.close();
    }
}

#[test]
fn r8_a_slow_request_does_not_hold_up_another_lane() {
    let lanes = lanes(2);
    lanes.start_pool(|job| job()).expect("threads");
    let (send, receive) = mpsc::channel();
    // Two slow lanes with many requests each take all that they can get.
    for lane in [1, 2] {
        lanes.lane(lane).slow.store(PROBATION, Ordering::SeqCst);
        for _ in 0..4 {
            lanes.queue(lane, Box::new(|| std::thread::sleep(Duration::from_millis(300))));
        }
    }
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    let (turn, sender) = (lanes.enter(3).expect("free"), send.clone());
    lanes.queue(3, Box::new(move || sender.send(()).expect("heard")));
    drop(turn);
    receive.recv_timeout(Duration::from_secs(5)).expect("done");
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    lanes.close();
}

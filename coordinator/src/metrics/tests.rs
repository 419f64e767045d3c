//! What a status becomes, and a driver that does not answer.

use std::time::Duration;

use tokio::sync::mpsc;
use votum_proto::runtime::Seams;

use super::*;
use crate::driver::HEURISTIC;
use crate::driver::request::DriverHandle;

fn alarm(code: &str, gtid: &str, participant: &str) -> v1::Alarm {
    v1::Alarm {
        code: code.into(),
        gtid: gtid.into(),
        participant: participant.into(),
        detail: "as was seen".into(),
    }
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|shown| shown == line)
}

#[test]
fn alarms_are_counted_by_code_and_participant_and_those_that_are_over_are_gone() {
    let metrics = Metrics::default();
    let mut status = v1::GetStatusResponse {
        alarms: vec![
            alarm("VOTUM-1402", "one", "a"),
            alarm("VOTUM-1402", "other", "a"),
            alarm("VOTUM-1402", "one", "b"),
            alarm(HEURISTIC, "one", "taken-out"),
        ],
        ..Default::default()
    };
    let page = metrics.page(&status).unwrap();
    assert!(has(&page, "votum_alarm{code=\"VOTUM-1402\",participant=\"a\"} 2"), "{page}");
    assert!(has(&page, "votum_alarm{code=\"VOTUM-1402\",participant=\"b\"} 1"), "{page}");
    assert!(has(&page, "votum_participant_heuristics{participant=\"taken-out\"} 1"), "{page}");
    status.alarms.truncate(1);
    let page = metrics.page(&status).unwrap();
    assert!(has(&page, "votum_alarm{code=\"VOTUM-1402\",participant=\"a\"} 1"), "{page}");
    assert!(!page.contains("participant=\"b\"") && !page.contains("taken-out"), "{page}");
}

/// What is sent to the driver is answered between two turns, and one that is stuck is said to be.
#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_answer_keeps_nobody_waiting() {
    let (requests, _inbox) = mpsc::channel(1);
    let seams = Seams::production();
    let page = page(Metrics::default(), DriverHandle::new(requests), seams.clock.clone());
    // The second time the queue is full: that one does not even get in.
    for _ in 0..2 {
        let answer = seams.clock.timeout(Duration::from_secs(6), page()).await;
        assert!(answer.expect("it waits for ever").unwrap_err().contains("has not answered"));
    }
}

//! What is answered, and what is not waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;
use crate::runtime::Seams;
use crate::service::listen::listen;

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: votum\r\n\r\n")
}

/// Serves `page` on a free port.
async fn served(page: Page) -> (String, Serving) {
    let seams = Seams::production();
    let listening = listen(&"127.0.0.1:0".parse().unwrap(), Arc::clone(&seams.clock)).await.unwrap();
    let Address::Tcp(host_port) = listening.local().clone() else { panic!("not TCP") };
    (host_port, serve(listening, page, &seams))
}

/// What must not take longer than this.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    Seams::production().clock.timeout(limit, work).await.expect("it takes too long")
}

/// Sends `request`, and reads until the connection ends.
async fn whole_answer_to(host_port: &str, request: &str) -> String {
    let mut connection = TcpStream::connect(host_port).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The same, of a server that has not lost its patience: the answer ends the connection.
async fn answer_to(host_port: &str, request: &str) -> String {
    within(PATIENCE / 2, whole_answer_to(host_port, request)).await
}

#[tokio::test]
async fn the_page_is_made_anew_for_each_who_asks_and_nothing_else_is_there() {
    let asked = Arc::new(AtomicUsize::new(0));
    let page: Page = Arc::new(move || {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(format!("votum_asked {number}\n")) })
    });
    let (host_port, _serving) = served(page).await;
    for number in 0..2 {
        let answer = answer_to(&host_port, &ask("/metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(OPEN_METRICS), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\nvotum_asked {number}\n")), "{answer}");
    }
    for (request, refused) in [
        (ask("/"), "404"),
        (ask("/metrics").replace("GET", "POST"), "405"),
        ("nonsense\r\n\r\n".into(), "400"),
    ] {
        // As the others do, it asks for one answer only.
        let request = request.replace("Host: votum", "Host: votum\r\nConnection: close");
        let answer = answer_to(&host_port, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {refused} ")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_made_is_an_error_that_says_why() {
    let (host_port, _serving) =
        served(Arc::new(|| Box::pin(async { Err("the driver is busy".into()) }))).await;
    let answer = answer_to(&host_port, &ask("/metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the driver is busy"), "{answer}");
}

#[tokio::test]
async fn one_page_is_made_at_a_time_however_many_ask() {
    let (making, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (made, go_on) = (Arc::clone(&most), Arc::new(Notify::new()));
    let gate = Arc::clone(&go_on);
    let page: Page = Arc::new(move || {
        let (making, most, gate) = (Arc::clone(&making), Arc::clone(&most), Arc::clone(&gate));
        Box::pin(async move {
            most.fetch_max(making.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.notified().await;
            making.fetch_sub(1, Ordering::SeqCst);
            Ok(String::new())
        })
    });
    let (host_port, _serving) = served(page).await;
    let ask = ask("/metrics");
    let asking = futures::future::join_all((0..4).map(|_| answer_to(&host_port, &ask)));
    let letting = async {
        loop {
            go_on.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let (asking, letting) = (std::pin::pin!(asking), std::pin::pin!(letting));
    let futures::future::Either::Left((answers, _)) = futures::future::select(asking, letting).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_connect_and_say_nothing_are_closed_and_keep_others_out_no_longer() {
    let clock = Seams::production().clock;
    let (host_port, _serving) = served(Arc::new(|| Box::pin(async { Ok("votum_here 1\n".into()) }))).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(&host_port).await.unwrap());
    }
    let answer = within(PATIENCE * 2, whole_answer_to(&host_port, &ask("/metrics"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(clock.now().0 >= PATIENCE, "there was room for one more");
    for mut connection in silent {
        assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0, "it was told something");
    }
}

#[tokio::test]
async fn it_ends_with_what_keeps_it() {
    let (host_port, serving) = served(Arc::new(|| Box::pin(async { Ok("votum_here 1\n".into()) }))).await;
    drop(serving);
    let refused = async {
        while TcpStream::connect(&host_port).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(Duration::from_secs(30), refused).await;
}

#[test]
fn an_address_for_everybody_and_the_clients_own_are_mistakes() {
    let beside: Address = "127.0.0.1:7400".parse().unwrap();
    let section = |listen: &str, insecure| MetricsSection { listen: Some(listen.parse().unwrap()), insecure };
    assert_eq!(MetricsSection::default().problems(&beside), Vec::<String>::new());
    assert_eq!(section("127.0.0.1:9464", false).problems(&beside), Vec::<String>::new());
    assert_eq!(section("0.0.0.0:9464", true).problems(&beside), Vec::<String>::new());
    let exposed = section("0.0.0.0:9464", false).problems(&beside);
    assert!(matches!(exposed.as_slice(), [only] if only.contains("insecure = true")), "{exposed:?}");
    let taken = section("127.0.0.1:7400", false).problems(&beside);
    assert!(matches!(taken.as_slice(), [only] if only.contains("same address")), "{taken:?}");
    let any: Address = "127.0.0.1:0".parse().unwrap();
    assert_eq!(section("127.0.0.1:0", false).problems(&any), Vec::<String>::new());
}

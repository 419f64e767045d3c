//! The exchange with an agent in another process: one bidirectional gRPC stream.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use votum_proto::address::Address;
use votum_proto::exchange::{Broken, CoordinatorEnd, DEPTH, End};
use votum_proto::v1::agent_client::AgentClient;

use super::Dialer;

/// The largest frame taken from an agent, in bytes. A hello lists everything that is prepared at its
/// databases: at about 100 bytes each, this holds some hundred thousand branches in doubt.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// Reaches an agent over TCP or a Unix-domain socket.
#[derive(Debug, Clone)]
pub struct GrpcDialer {
    address: Address,
}

impl GrpcDialer {
    /// A dialer of the agent that listens at `address`.
    pub fn new(address: Address) -> Self {
        Self { address }
    }
}

#[async_trait]
impl Dialer for GrpcDialer {
    /// Each dialling makes a connection of its own: a connection on which an exchange broke is not trusted
    /// with the next one.
    async fn dial(&self) -> Result<CoordinatorEnd, String> {
        let endpoint = self.address.endpoint().map_err(|error| chain(&error))?;
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_FRAME);
        let (outgoing, frames) = mpsc::channel(DEPTH);
        // The call itself runs when the first frame is waited for, not here: an agent may well read the
        // hello before it answers the call, and the hello is sent only once there is an exchange.
        let call = async move {
            let answer =
                client.exchange(ReceiverStream::new(frames)).await.map_err(|status| broken(&status))?;
            Ok(answer.into_inner().map_err(|status| broken(&status)))
        };
        let incoming = futures::stream::once(call).try_flatten().boxed();
        Ok(End { outgoing, incoming })
    }

    fn address(&self) -> String {
        self.address.to_string()
    }
}

fn broken(status: &Status) -> Broken {
    Broken(format!("{:?}: {}", status.code(), status.message()))
}

/// An error with its causes: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some layers repeat the text of the one below them.
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;

    use tonic::transport::Server;
    use tonic::{Request, Response, Streaming};
    use votum_proto::names::{Epoch, Incarnation, Life};
    use votum_proto::runtime::Seams;
    use votum_proto::service::listen::listen;
    use votum_proto::v1;
    use votum_proto::v1::agent_message::Kind as FromAgent;
    use votum_proto::v1::agent_server::{Agent, AgentServer};

    use super::super::link::start_link;
    use super::super::{DurablePosition, LinkEvent};
    use super::*;

    /// Reads the hello before it answers the call at all, then ends the stream with an error.
    struct LateAgent;

    #[tonic::async_trait]
    impl Agent for LateAgent {
        type ExchangeStream = Pin<Box<dyn futures::Stream<Item = Result<v1::AgentFrame, Status>> + Send>>;

        async fn exchange(
            &self,
            request: Request<Streaming<v1::CoordinatorFrame>>,
        ) -> Result<Response<Self::ExchangeStream>, Status> {
            let mut frames = request.into_inner();
            let first = frames.message().await?.ok_or_else(|| Status::invalid_argument("no hello"))?;
            let hello = v1::AgentHello { instance: first.messages.len() as u64, ..Default::default() };
            let message = v1::AgentMessage { kind: Some(FromAgent::Hello(hello)) };
            let said = [
                Ok(v1::AgentFrame { messages: vec![message], ..Default::default() }),
                Err(Status::aborted("enough")),
            ];
            Ok(Response::new(Box::pin(tokio_stream::iter(said))))
        }
    }

    #[tokio::test]
    async fn an_agent_may_read_the_hello_before_it_answers_the_call() {
        let seams = Seams::production();
        let local: Address = "127.0.0.1:0".parse().unwrap();
        let listening = listen(&local, seams.clock.clone()).await.unwrap();
        let dialer = Arc::new(GrpcDialer::new(listening.local().clone()));
        let serving =
            Server::builder().add_service(AgentServer::new(LateAgent)).serve_with_incoming(listening);
        seams.spawn(async move {
            let _ = serving.await;
        });
        let life = Life { epoch: Epoch(7), incarnation: Incarnation::from_low_bits(1) };
        let (events, mut told) = mpsc::unbounded_channel();
        let durable = DurablePosition::default();
        let hello = v1::CoordinatorHello::default();
        let _link = start_link(3, dialer, hello, durable, life, events, &seams);
        let Some(LinkEvent::Up { agent: 3, hello, .. }) = told.recv().await else { panic!("not up") };
        assert_eq!(hello.instance, 1, "the agent answered before it had read the hello");
        let Some(LinkEvent::Down { why, .. }) = told.recv().await else { panic!("not down") };
        assert!(why.contains("enough"), "{why}");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_reported_with_the_cause() {
        let dialer = GrpcDialer::new("unix:/nonexistent/agent.sock".parse().unwrap());
        let why = dialer.dial().await.err().unwrap();
        assert!(why.contains("No such file"), "{why}");
    }
}

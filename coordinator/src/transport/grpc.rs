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

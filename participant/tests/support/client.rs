//! A client, as a test plays it.

use tonic::Status;
use votum_participant::Agent;
use votum_proto::names::Gtid;
use votum_proto::v1;

use super::BANK;

/// One branch, as a client sees it.
#[derive(Clone)]
pub struct ClientBranch {
    pub agent: Agent,
    pub gtid: Gtid,
    pub secret: Vec<u8>,
    pub session: Option<v1::SessionName>,
    pub ordinal: u64,
    pub options: v1::BranchOptions,
}

/// A reply, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    pub started: Option<v1::Started>,
    pub rows: Vec<Vec<Option<v1::value::Kind>>>,
    pub count: u64,
}

impl ClientBranch {
    pub fn request(&self, ordinal: u64, statement: &str) -> v1::ExecuteRequest {
        v1::ExecuteRequest {
            gtid: self.gtid.to_string(),
            secret: self.secret.clone(),
            participant: BANK.into(),
            ordinal,
            session: if ordinal == 1 { None } else { self.session },
            statement: statement.into(),
            options: Some(self.options),
            ..Default::default()
        }
    }

    /// Sends a request, and reads its reply to the end.
    pub async fn send(&self, request: v1::ExecuteRequest) -> (Reply, Option<Status>) {
        let mut reply = Reply::default();
        let mut parts = match self.agent.execute(request) {
            Ok(parts) => parts,
            Err(status) => return (reply, Some(status)),
        };
        while let Some(part) = parts.recv().await {
            match part.map(|part| part.part.unwrap()) {
                Ok(v1::execute_response::Part::Started(started)) => {
                    assert!(reply.started.is_none(), "Started twice");
                    reply.started = Some(started);
                }
                Ok(v1::execute_response::Part::Row(row)) => {
                    reply.rows.push(row.values.into_iter().map(|value| value.kind).collect());
                }
                Ok(v1::execute_response::Part::Finished(finished)) => reply.count = finished.rows,
                Err(status) => return (reply, Some(status)),
            }
        }
        (reply, None)
    }

    /// Runs the next statement.
    pub async fn run(&mut self, statement: &str) -> (Reply, Option<Status>) {
        self.run_with(statement, Vec::new()).await
    }

    pub async fn run_with(
        &mut self,
        statement: &str,
        parameters: Vec<v1::value::Kind>,
    ) -> (Reply, Option<Status>) {
        let parameters = parameters.into_iter().map(|kind| v1::Value { kind: Some(kind) }).collect();
        let request = v1::ExecuteRequest { parameters, ..self.request(self.ordinal + 1, statement) };
        let (reply, status) = self.send(request).await;
        if let Some(started) = &reply.started {
            self.ordinal += 1;
            self.session = started.session;
        }
        (reply, status)
    }

    /// Runs the next statement, which must succeed.
    pub async fn ok(&mut self, statement: &str) -> Reply {
        self.ok_with(statement, Vec::new()).await
    }

    pub async fn ok_with(&mut self, statement: &str, parameters: Vec<v1::value::Kind>) -> Reply {
        let (reply, status) = self.run_with(statement, parameters).await;
        assert!(status.is_none(), "{statement}: {status:?}");
        reply
    }

    /// Runs the next statement, which must fail.
    pub async fn fails(&mut self, statement: &str) -> Status {
        self.run(statement).await.1.unwrap_or_else(|| panic!("{statement} succeeded"))
    }
}

/// The code and SQLSTATE of an error.
pub fn code(status: &Status) -> (String, String) {
    let detail = votum_proto::error::detail(status).expect("a status without detail");
    (detail.code, detail.sql.map(|sql| sql.sqlstate).unwrap_or_default())
}

//! Consent: a tool that destroys something acts only after a person, or the caller on a person's behalf, said so.
//!
//! A client that can ask its user is made to: older ones by an elicitation while the call waits, stateless ones by an
//! answer that says what is to be asked and a sealed note of what it was about, which comes back with the user's
//! word. The note is good for the same call with the same consequence only. A client that can't ask says `confirm`.
//!
//! A call that is taken back, or whose session ends, while its question waits has changed nothing and will not: the
//! question is withdrawn, and an answer that comes late is an answer to nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::request::Parts;
use rmcp::{
    RoleServer,
    model::{
        BooleanSchema, CallToolRequestParams, ClientCapabilities, ClientResult, ElicitRequest,
        ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, Extensions, InputRequest,
        InputRequests, InputRequiredResult, InputResponses, PrimitiveSchemaDefinition, RequestStateCodec,
        SealOptions, ServerRequest,
    },
    service::{PeerRequestOptions, RequestContext, RequestHandle},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{answer::ToolError, server::is_stateless};

/// What the question is called in what goes to and fro.
const QUESTION: &str = "consent";

/// The one member of its answer.
const YES: &str = "confirm";

/// How long a person may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long the client may take to be told that a question is withdrawn.
const WITHDRAWAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Says, among the extensions of a request's HTTP head, that its client reads nothing before the answer, so that no
/// question would reach it.
#[derive(Clone)]
pub(super) struct ReadsAnswersOnly;

/// Until when the client behind a request can be asked; among the extensions of its context.
#[derive(Clone)]
pub(super) struct AskedUntil(pub(super) CancellationToken);

/// The key that seals notes; one a process, so a note does not outlive it.
#[derive(Clone)]
pub(super) struct Seal(RequestStateCodec);

impl Seal {
    pub(super) fn new() -> Self {
        Self(RequestStateCodec::new_unchecked(rand::random::<[u8; 32]>()))
    }
}

/// What a call brings to a question, and the question it may leave behind.
pub(super) struct Asking {
    seal: Seal,
    /// The call a note belongs to.
    call: Vec<u8>,
    note: Option<String>,
    answers: Option<InputResponses>,
    asked: Mutex<Option<InputRequiredResult>>,
}

impl Asking {
    pub(super) fn new(seal: Seal, request: &CallToolRequestParams) -> Arc<Self> {
        // Members of an object are sorted here, so the same arguments are the same bytes.
        let call = serde_json::to_vec(&(&request.name, &request.arguments)).unwrap_or_default();
        Arc::new(Self {
            seal,
            call,
            note: request.request_state.clone(),
            answers: request.input_responses.clone(),
            asked: Mutex::default(),
        })
    }

    /// The question that must go to the client in place of an answer.
    pub(super) fn question(&self) -> Option<InputRequiredResult> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The user's word, where it was given for this call and this consequence.
    fn word(&self, what: &str) -> Option<ElicitResult> {
        let note = self.seal.0.open_with(self.note.as_deref()?, &self.call).ok()?;
        let answer = self.answers.as_ref()?.get(QUESTION)?;
        if note != what.as_bytes() {
            return None;
        }
        serde_json::from_value(answer.clone()).ok()
    }

    fn ask(&self, what: &str) -> ToolError {
        let options = SealOptions::new().associated_data(&self.call).ttl(PATIENCE);
        let note = self.seal.0.seal_with(what.as_bytes(), &options);
        let question = InputRequest::Elicitation(ElicitRequest::new(form(what)));
        let questions = InputRequests::from([(QUESTION.to_owned(), question)]);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(InputRequiredResult::new(Some(questions), Some(note)));
        ToolError::argument(YES, format_args!("this {what}; the user has not been asked yet"))
    }
}

/// Passes when a person, or the caller on a person's behalf, agreed. `what` finishes the sentence "this …", for
/// example "deletes 12 dead letters for good"; it holds no personal data but keys, and is the same when the call comes again.
///
/// # Errors
/// When nobody agreed; the tool returns the error as it is and has changed nothing.
pub(super) async fn ask(
    context: &RequestContext<RoleServer>,
    confirm: Option<bool>,
    what: &str,
) -> Result<(), ToolError> {
    if !context.client_capabilities().is_some_and(|client| can_ask(&client)) {
        return confirmed(confirm, what);
    }
    if !is_stateless(context) {
        if reads_answers_only(&context.extensions) {
            return confirmed(confirm, what);
        }
        return ask_meanwhile(context, what).await;
    }
    let Some(asking) = context.extensions.get::<Arc<Asking>>() else { return confirmed(confirm, what) };
    match asking.word(what) {
        Some(word) => agreed(&word, what),
        None => Err(asking.ask(what)),
    }
}

/// Asks the user while the call waits.
async fn ask_meanwhile(context: &RequestContext<RoleServer>, what: &str) -> Result<(), ToolError> {
    let unasked = |why: &dyn std::fmt::Display| {
        let problem = format_args!("this {what}, and the user could not be asked: {why}; nothing was done");
        ToolError::argument(YES, problem)
    };
    let question = ServerRequest::ElicitRequest(ElicitRequest::new(form(what)));
    let asked = context.peer.send_request_with_option(question, PeerRequestOptions::no_options()).await;
    let mut asked = asked.map_err(|error| unasked(&error))?;
    let until = context.extensions.get::<AskedUntil>().map_or_else(CancellationToken::new, |at| at.0.clone());
    let word = tokio::select! {
        // A word that comes together with the end of its question comes too late.
        biased;
        () = context.ct.cancelled() => {
            withdraw(asked, "the call was taken back");
            return Err(unasked(&"the call was taken back before an answer came"));
        }
        () = until.cancelled() => {
            withdraw(asked, "the session ends");
            return Err(unasked(&"the session ended before an answer came"));
        }
        word = timeout(PATIENCE, &mut asked.rx) => word,
    };
    match word {
        Ok(Ok(Ok(ClientResult::ElicitResult(word)))) => agreed(&word, what),
        Ok(Ok(Ok(_))) => Err(unasked(&"the client answered something else")),
        Ok(Ok(Err(error))) => Err(unasked(&error)),
        Ok(Err(_)) => Err(unasked(&"the session ended before an answer came")),
        Err(_) => {
            withdraw(asked, "no answer came in time");
            Err(unasked(&format_args!("no answer came within {} minutes", PATIENCE.as_secs() / 60)))
        }
    }
}

/// Tells the client to ask no more. The call does not wait for that: a session that ends may send nothing any more.
fn withdraw(question: RequestHandle<RoleServer>, why: &'static str) {
    tokio::spawn(timeout(WITHDRAWAL_TIMEOUT, question.cancel(Some(why.to_owned()))));
}

fn reads_answers_only(extensions: &Extensions) -> bool {
    extensions.get::<Parts>().is_some_and(|parts| parts.extensions.get::<ReadsAnswersOnly>().is_some())
}

/// Forms are what a client can show that says no more than that it elicits.
fn can_ask(client: &ClientCapabilities) -> bool {
    client.elicitation.as_ref().is_some_and(|modes| modes.form.is_some() || modes.url.is_none())
}

fn form(what: &str) -> ElicitRequestParams {
    let yes = BooleanSchema::new().title("Do it").with_default(false);
    let mut schema =
        ElicitationSchema::new([(YES.to_owned(), PrimitiveSchemaDefinition::Boolean(yes))].into());
    schema.required = Some(vec![YES.to_owned()]);
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("sluice: this {what}. Go on?"),
        requested_schema: schema,
    }
}

fn agreed(word: &ElicitResult, what: &str) -> Result<(), ToolError> {
    let yes = word.content.as_ref().and_then(|content| content.get(YES)).and_then(serde_json::Value::as_bool);
    if word.action == ElicitationAction::Accept && yes == Some(true) {
        return Ok(());
    }
    Err(ToolError::argument(YES, format_args!("this {what}, and the user said no; nothing was done")))
}

/// Passes when the arguments carry `confirm: true`; otherwise the error tells what would happen and how to go on.
fn confirmed(confirm: Option<bool>, what: &str) -> Result<(), ToolError> {
    if confirm == Some(true) {
        return Ok(());
    }
    Err(ToolError::argument(
        YES,
        format_args!("this {what}; ask the user, then call again with the same arguments and confirm: true"),
    ))
}

//! Descriptions that the crate has no call for: topics with their ids, and groups.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface: the crate has no DescribeTopics, no DescribeConsumerGroups"
)]

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use taskhost_core::record::TopicPartition;
use uuid::Uuid;

use super::context::{self, Logging};
use super::error::{Disposition, Error, Result};
use super::events::{Content, Event, partitions_of};
use super::native::{Queue, text_of};

/// What a topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Kafka's id of it: a topic that was deleted and made again has another.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
}

/// What a consumer group is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Kafka's own word: `Stable`, `PreparingRebalance`, `Empty`, …; `unknown` for what has none.
    pub state: &'static str,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: String,
    /// The client.id it has configured.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// What it is assigned.
    pub partitions: Vec<TopicPartition>,
}

type Client = AdminClient<Logging>;

pub(crate) fn topics(
    client: &Client,
    names: &[String],
    patience: Duration,
) -> Result<HashMap<String, TopicDescription>> {
    const DOING: &str = "describing topics";
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let names = names
        .iter()
        .map(|name| c_text(DOING, name))
        .collect::<Result<Vec<_>>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the names are alive and as many as is said; librdkafka copies them.
    let collection = unsafe {
        sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len())
    };
    let answer = ask(
        client,
        DOING,
        sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        patience,
        |options, queue| {
            // SAFETY: everything is alive; librdkafka copies what it keeps.
            unsafe {
                sys::rd_kafka_DescribeTopics(
                    client.inner().native_ptr(),
                    collection,
                    options,
                    queue,
                )
            }
        },
    );
    // SAFETY: ours, destroyed once.
    unsafe { sys::rd_kafka_TopicCollection_destroy(collection) }
    let answer = answer?;
    // SAFETY: the event is of this kind, or the result is null and then not read.
    let descriptions = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.as_ptr());
        if result.is_null() {
            return Err(other_answer(DOING));
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(list, count)
        }
    };
    let mut described = HashMap::new();
    for description in descriptions {
        // SAFETY: descriptions and what they lead to live as long as the event.
        unsafe {
            let code =
                sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(*description)).into();
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    continue;
                }
                code => return Err(Error::code(DOING, code)),
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(*description);
            let id = Uuid::from_u64_pair(
                sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
                sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
            );
            let mut partitions = 0;
            sys::rd_kafka_TopicDescription_partitions(*description, &raw mut partitions);
            let name = text_of(sys::rd_kafka_TopicDescription_name(*description));
            described.insert(name, TopicDescription { id, partitions });
        }
    }
    Ok(described)
}

pub(crate) fn group(client: &Client, name: &str, patience: Duration) -> Result<Group> {
    const DOING: &str = "describing a group";
    let name = c_text(DOING, name)?;
    let mut names = [name.as_ptr()];
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let answer = ask(client, DOING, operation, patience, |options, queue| {
        // SAFETY: everything is alive; librdkafka copies what it keeps.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(
                client.inner().native_ptr(),
                names.as_mut_ptr(),
                names.len(),
                options,
                queue,
            );
        }
    })?;
    // SAFETY: the event is of this kind, or the result is null and then not read; everything that is read
    // lives as long as the event, and the description has as many members as it says.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(answer.as_ptr());
        if result.is_null() {
            return Err(other_answer(DOING));
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count == 0 {
            return Err(other_answer(DOING));
        }
        let description = *list;
        let code =
            sys::rd_kafka_error_code(sys::rd_kafka_ConsumerGroupDescription_error(description))
                .into();
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::GroupIdNotFound => {
                return Ok(Group {
                    state: "Dead",
                    members: Vec::new(),
                });
            }
            code => return Err(Error::code(DOING, code)),
        }
        let members =
            (0..sys::rd_kafka_ConsumerGroupDescription_member_count(description)).map(|index| {
                let member = sys::rd_kafka_ConsumerGroupDescription_member(description, index);
                let assignment = sys::rd_kafka_MemberDescription_assignment(member);
                GroupMember {
                    id: text_of(sys::rd_kafka_MemberDescription_consumer_id(member)),
                    client_id: text_of(sys::rd_kafka_MemberDescription_client_id(member)),
                    host: text_of(sys::rd_kafka_MemberDescription_host(member)),
                    partitions: if assignment.is_null() {
                        Vec::new()
                    } else {
                        partitions_of(sys::rd_kafka_MemberAssignment_partitions(assignment))
                    },
                }
            });
        let members = members.collect();
        Ok(Group {
            state: state(sys::rd_kafka_ConsumerGroupDescription_state(description)),
            members,
        })
    }
}

fn state(state: sys::rd_kafka_consumer_group_state_t) -> &'static str {
    use sys::rd_kafka_consumer_group_state_t as S;
    match state {
        S::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => "PreparingRebalance",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => "CompletingRebalance",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => "Stable",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => "Dead",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => "Empty",
        _ => "unknown",
    }
}

/// Nobody else serves an admin client's log queue.
pub(crate) fn serve_log(client: &Client) {
    // SAFETY: the client is alive, and outlives the queue, which is dropped here.
    let queue = unsafe { Queue::main(client.inner().native_ptr()) };
    while let Some(event) = queue.as_ref().and_then(|queue| queue.poll(Duration::ZERO)) {
        if let Content::Log {
            level,
            facility,
            text,
        } = event.content()
        {
            context::log(level, &facility, &text);
        }
    }
}

/// Sends a request and waits for its answer.
fn ask(
    client: &Client,
    doing: &'static str,
    operation: sys::rd_kafka_admin_op_t,
    patience: Duration,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Event> {
    let native = client.inner().native_ptr();
    // SAFETY: the client is alive, and outlives the queue, which is dropped here.
    let queue = unsafe { Queue::new(native) }.ok_or_else(|| other_answer(doing))?;
    let options = Options::new(native, operation, patience).ok_or_else(|| other_answer(doing))?;
    send(options.0.as_ptr(), queue.as_ptr());
    let deadline = Instant::now() + patience + Duration::from_secs(1);
    let answer = queue
        .poll(deadline.saturating_duration_since(Instant::now()))
        .ok_or_else(|| {
            Error::new(
                doing,
                Disposition::Trouble,
                "the broker did not answer in time",
            )
        })?;
    match answer.code() {
        RDKafkaErrorCode::NoError => Ok(answer),
        code => Err(Error::new(
            doing,
            Error::code(doing, code).disposition(),
            answer.reason(),
        )),
    }
}

/// Options of a request.
struct Options(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(
        client: *mut sys::rd_kafka_t,
        operation: sys::rd_kafka_admin_op_t,
        patience: Duration,
    ) -> Option<Self> {
        // SAFETY: the client is alive.
        let options = Self(NonNull::new(unsafe {
            sys::rd_kafka_AdminOptions_new(client, operation)
        })?);
        let patience_ms = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
        let mut text: [c_char; 256] = [0; 256];
        // A time that is refused leaves the default. SAFETY: the options are alive, the buffer is as long as
        // is said.
        unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                patience_ms,
                text.as_mut_ptr(),
                text.len(),
            );
        }
        Some(options)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

fn c_text(doing: &'static str, text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|error| Error::new(doing, Disposition::Configuration, error.to_string()))
}

fn other_answer(doing: &'static str) -> Error {
    Error::new(
        doing,
        Disposition::Trouble,
        "librdkafka gave another answer than was asked for",
    )
}

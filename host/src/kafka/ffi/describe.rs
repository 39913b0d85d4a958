//! Descriptions of topics with their ids, and of groups: the crate has no calls for them.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface: the crate has no DescribeTopics, no DescribeConsumerGroups"
)]

use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use taskhost_core::record::TopicPartition;
use uuid::Uuid;

use super::c_text::text_of;
use super::events::{Content, Event, partitions_of};
use super::native::{CallError, Queue};
use crate::kafka::context::{self, Logging};
use crate::log::Operation;
use crate::log::{Disposition, Error, Result};

/// A topic's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Kafka's id of the topic. A recreated topic has another id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
}

/// The state of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Kafka's own word: `Stable`, `PreparingRebalance`, `Empty`, …; `unknown` for what has none.
    pub state: &'static str,
    /// The assignor that its members agreed on; empty until they have.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

impl Group {
    /// Whether its members are about to assign the partitions again.
    pub fn is_rebalancing(&self) -> bool {
        matches!(self.state, PREPARING | COMPLETING)
    }

    /// Why a host can't join: the group has a consumer with another assignor. Names its members.
    pub fn other_consumer(&self, name: &str) -> Option<String> {
        if self.members.is_empty() || matches!(&*self.assignor, "" | ASSIGNOR) {
            return None;
        }
        let members = self.members.iter();
        let members: Vec<String> = members
            .map(|member| format!("{} at {}", member.client_id, member.host))
            .collect();
        let (assignor, members) = (&self.assignor, members.join(", "));
        Some(format!(
            "{} (its members assign partitions by {assignor}: {members})",
            other_consumer(name)
        ))
    }
}

/// What INCONSISTENT_GROUP_PROTOCOL means, and what to do about it.
pub(crate) fn other_consumer(group: &str) -> String {
    format!(
        "another kind of consumer, such as one of kafkajs, is in the group {group}, and the two can't share it: stop \
         the other one first (docs/migrating.md); this host joins by itself once it has left"
    )
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

/// The states of a group during a rebalance.
const PREPARING: &str = "PreparingRebalance";
const COMPLETING: &str = "CompletingRebalance";

/// The assignor of hosts under the classic protocol.
pub(crate) const ASSIGNOR: &str = "cooperative-sticky";

pub(crate) type Client = AdminClient<Logging>;

/// The broker's answer about a topic.
#[derive(Debug)]
pub(crate) struct DescribedTopic {
    pub(crate) name: String,
    /// Why there is no description.
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) description: TopicDescription,
    /// The operations that this user may do, if the broker says.
    operations: Option<Vec<sys::rd_kafka_AclOperation_t>>,
}

impl DescribedTopic {
    pub(crate) fn allows(&self, operation: Operation) -> bool {
        allows(self.operations.as_deref(), operation)
    }

    /// Whether the topic doesn't exist. Without the right to DESCRIBE it, the broker doesn't say.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(
            self.code,
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
        )
    }
}

fn allows(operations: Option<&[sys::rd_kafka_AclOperation_t]>, operation: Operation) -> bool {
    use sys::rd_kafka_AclOperation_t as Acl;
    let wanted = match operation {
        Operation::Read => Acl::RD_KAFKA_ACL_OPERATION_READ,
        Operation::Write => Acl::RD_KAFKA_ACL_OPERATION_WRITE,
    };
    operations.is_none_or(|known| known.contains(&wanted))
}

/// All requested topics by name; `operations` also asks for the allowed operations.
pub(crate) fn topics(
    client: &Client,
    names: &[String],
    operations: bool,
    patience: Duration,
) -> Result<Vec<DescribedTopic>> {
    const DOING: &str = "describing topics";
    if names.is_empty() {
        return Ok(Vec::new());
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
        operations,
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
    // SAFETY: descriptions and what they lead to live as long as the event.
    let described = descriptions
        .iter()
        .map(|description| unsafe { described_topic(*description) });
    Ok(described.collect())
}

/// # Safety
/// The description is alive.
unsafe fn described_topic(description: *const sys::rd_kafka_TopicDescription_t) -> DescribedTopic {
    // SAFETY: the caller's promise; what the description leads to lives as long.
    unsafe {
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        let id = Uuid::from_u64_pair(
            sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
            sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
        );
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        let mut count = 0;
        let list =
            sys::rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
        DescribedTopic {
            name: text_of(sys::rd_kafka_TopicDescription_name(description)),
            code: sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description))
                .into(),
            description: TopicDescription { id, partitions },
            operations: operations_of(list, count),
        }
    }
}

/// A copy of the allowed operations; null if the broker doesn't say.
///
/// # Safety
/// The pointer is null, or leads to that many operations that are alive.
unsafe fn operations_of(
    list: *const sys::rd_kafka_AclOperation_t,
    count: usize,
) -> Option<Vec<sys::rd_kafka_AclOperation_t>> {
    // SAFETY: the caller's promise.
    (!list.is_null()).then(|| unsafe { std::slice::from_raw_parts(list, count) }.to_vec())
}

/// Whether this user may be a member of a group, as far as the broker says.
pub(crate) fn may_join(client: &Client, name: &str, patience: Duration) -> Result<bool> {
    let read = |description| {
        let mut count = 0;
        // SAFETY: the description is alive, and the list lives as long.
        unsafe {
            let list = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(
                description,
                &raw mut count,
            );
            operations_of(list, count)
        }
    };
    match described_group(client, name, true, patience, read)? {
        Ok(operations) => Ok(allows(operations.as_deref(), Operation::Read)),
        Err(code) => Ok(code != RDKafkaErrorCode::GroupAuthorizationFailed),
    }
}

pub(crate) fn group(client: &Client, name: &str, patience: Duration) -> Result<Group> {
    // SAFETY: the description is alive, and so is what it leads to.
    let read = |description| unsafe { group_of(description) };
    match described_group(client, name, false, patience, read)? {
        Ok(group) => Ok(group),
        Err(RDKafkaErrorCode::GroupIdNotFound) => Ok(Group {
            state: "Dead",
            assignor: String::new(),
            members: Vec::new(),
        }),
        Err(code) => Err(Error::code("describing a group", code)),
    }
}

/// Reads a group's description, if the broker gives one.
fn described_group<T>(
    client: &Client,
    name: &str,
    operations: bool,
    patience: Duration,
    read: impl FnOnce(*const sys::rd_kafka_ConsumerGroupDescription_t) -> T,
) -> Result<std::result::Result<T, RDKafkaErrorCode>> {
    const DOING: &str = "describing a group";
    let name = c_text(DOING, name)?;
    let mut names = [name.as_ptr()];
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let answer = ask(
        client,
        DOING,
        operation,
        operations,
        patience,
        |options, queue| {
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
        },
    )?;
    // SAFETY: the event is of this kind, or the result is null and then not read; everything that is read
    // lives as long as the event.
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
        let error = sys::rd_kafka_ConsumerGroupDescription_error(description);
        Ok(match sys::rd_kafka_error_code(error).into() {
            RDKafkaErrorCode::NoError => Ok(read(description)),
            code => Err(code),
        })
    }
}

/// # Safety
/// The description is alive.
unsafe fn group_of(description: *const sys::rd_kafka_ConsumerGroupDescription_t) -> Group {
    // SAFETY: the caller's promise; the description has as many members as it says, and they live as long.
    unsafe {
        let members = 0..sys::rd_kafka_ConsumerGroupDescription_member_count(description);
        let members = members.map(|index| {
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
        Group {
            members: members.collect(),
            state: state(sys::rd_kafka_ConsumerGroupDescription_state(description)),
            assignor: text_of(sys::rd_kafka_ConsumerGroupDescription_partition_assignor(
                description,
            )),
        }
    }
}

fn state(state: sys::rd_kafka_consumer_group_state_t) -> &'static str {
    use sys::rd_kafka_consumer_group_state_t as S;
    match state {
        S::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => PREPARING,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => COMPLETING,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => "Stable",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => "Dead",
        S::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => "Empty",
        _ => "unknown",
    }
}

/// Nobody else serves an admin client's log queue.
pub(crate) fn serve_log(client: &Client) {
    Queue::drain_main(client.inner(), |content| {
        if let Content::Log {
            level,
            facility,
            text,
        } = content
        {
            context::log(level, &facility, &text);
        }
    });
}

/// Sends a request and waits for its answer.
fn ask(
    client: &Client,
    doing: &'static str,
    operation: sys::rd_kafka_admin_op_t,
    operations: bool,
    patience: Duration,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Event> {
    let native = client.inner().native_ptr();
    // SAFETY: the client is alive, and outlives the queue, which is dropped here.
    let queue = unsafe { Queue::new(native) }.ok_or_else(|| other_answer(doing))?;
    let options = Options::new(native, operation, patience).ok_or_else(|| other_answer(doing))?;
    if operations {
        options.include_operations();
    }
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

    /// Also asks for the allowed operations. If that is refused, the broker says nothing, which counts as allowed.
    fn include_operations(&self) {
        // SAFETY: the options are alive; the error is ours to destroy.
        unsafe {
            drop(CallError::take(
                sys::rd_kafka_AdminOptions_set_include_authorized_operations(self.0.as_ptr(), 1),
            ));
        }
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
        "librdkafka returned another kind of answer than requested",
    )
}

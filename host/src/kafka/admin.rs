//! Asks the cluster for its metadata and settings, and creates topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::Settings;
use super::context::Logging;
use super::ffi::describe::{self, Group, TopicDescription};
use super::rebootstrap::Rebootstrap;
use super::rights::{self, Needs};
use crate::log::MissingRight;
use crate::log::{Disposition, Error, Result};

/// The topic's setting that limits the size of its record batches.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// A topic in the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A broker in the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// Its advertised address: `host:port`.
    pub address: String,
}

/// A client for the cluster's administration.
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<Logging>>,
    patience: Duration,
    _watch: Arc<Rebootstrap>,
}

impl Admin {
    /// A client whose questions each take at most `patience`.
    ///
    /// # Errors
    /// If a setting is wrong; nothing is connected yet.
    pub fn new(settings: &Settings, patience: Duration) -> Result<Self> {
        let config = settings.for_client();
        let client = config
            .create_with_context(Logging)
            .map_err(|error| Error::kafka("starting the admin client", &error))?;
        let client = Arc::new(client);
        let watch = Rebootstrap::watch(&client, AdminClient::inner, &config);
        Ok(Self {
            client,
            patience,
            _watch: Arc::new(watch),
        })
    }

    /// The same client with another timeout.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// All topics and brokers.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn cluster(&self) -> Result<(Vec<Broker>, Vec<Topic>)> {
        self.blocking(|client, patience| {
            let metadata = client
                .inner()
                .fetch_metadata(None, patience)
                .map_err(|error| Error::kafka("reading the cluster's metadata", &error))?;
            let broker = |broker: &rdkafka::metadata::MetadataBroker| Broker {
                id: broker.id(),
                address: format!("{}:{}", broker.host(), broker.port()),
            };
            let topic = |topic: &rdkafka::metadata::MetadataTopic| Topic {
                name: topic.name().to_owned(),
                partitions: topic.partitions().len(),
            };
            Ok((
                metadata.brokers().iter().map(broker).collect(),
                metadata.topics().iter().map(topic).collect(),
            ))
        })
        .await
    }

    /// Ids and partitions of topics, by name; those that don't exist are missing.
    ///
    /// # Errors
    /// If the broker doesn't answer, or refuses to describe one of them.
    pub async fn describe(&self, topics: &[&str]) -> Result<HashMap<String, TopicDescription>> {
        let names = topics.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.blocking(move |client, patience| {
            let described = describe::topics(client, &names, false, patience)?;
            let there = described.into_iter().filter(|topic| !topic.is_missing());
            there
                .map(|topic| match topic.code {
                    RDKafkaErrorCode::NoError => Ok((topic.name, topic.description)),
                    code => Err(Error::topic("describing a topic", code, &topic.name)),
                })
                .collect()
        })
        .await
    }

    /// The rights that this client's user lacks.
    ///
    /// # Errors
    /// If the broker doesn't answer.
    pub async fn missing_rights(&self, needs: &Needs) -> Result<Vec<MissingRight>> {
        let needs = needs.clone();
        self.blocking(move |client, patience| rights::missing(client, &needs, patience))
            .await
    }

    /// Creates a topic with the broker's default replication, unless it exists. True if it was created.
    ///
    /// # Errors
    /// If the broker doesn't answer or refuses.
    pub async fn create(&self, topic: &str, partitions: i32) -> Result<bool> {
        self.create_with(topic, partitions, &[]).await
    }

    /// Like [`Admin::create`], with settings of the topic.
    ///
    /// # Errors
    /// If the broker doesn't answer or refuses.
    pub async fn create_with(
        &self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<bool> {
        const DOING: &str = "creating a topic";
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let new = settings
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        let options = self.options().operation_timeout(Some(self.patience));
        let results = self.client.create_topics([&new], &options).await;
        match results
            .map_err(|error| Error::kafka(DOING, &error))?
            .into_iter()
            .next()
        {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(Error::topic(DOING, code, topic)),
            None => Err(Error::new(
                DOING,
                Disposition::Trouble,
                "the broker gave no answer for it",
            )),
        }
    }

    /// The largest record batch that each topic takes; those whose settings this user may not read are missing.
    ///
    /// # Errors
    /// If the broker doesn't answer.
    pub async fn limits(&self, topics: &[&str]) -> Result<HashMap<String, usize>> {
        const DOING: &str = "reading a topic's settings";
        let asked: Vec<_> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(topic))
            .collect();
        let answers = self.client.describe_configs(&asked, &self.options()).await;
        let mut limits = HashMap::new();
        for (topic, answer) in topics
            .iter()
            .zip(answers.map_err(|error| Error::kafka(DOING, &error))?)
        {
            let settings = match answer {
                Ok(settings) => settings,
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => continue,
                Err(code) => return Err(Error::topic(DOING, code, topic)),
            };
            let limit = settings
                .get(MAX_MESSAGE_BYTES)
                .and_then(|entry| entry.value.as_ref()?.parse().ok());
            if let Some(limit) = limit {
                limits.insert((*topic).to_owned(), limit);
            }
        }
        Ok(limits)
    }

    /// State and members of a consumer group.
    ///
    /// # Errors
    /// If the coordinator doesn't answer or refuses.
    pub async fn group(&self, group: &str) -> Result<Group> {
        let group = group.to_owned();
        self.blocking(move |client, patience| describe::group(client, &group, patience))
            .await
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.patience))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&AdminClient<Logging>, Duration) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (client, patience) = (Arc::clone(&self.client), self.patience);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask(&client, patience);
            describe::serve_log(&client);
            answer
        });
        asked.await.unwrap_or_else(|error| {
            Err(Error::new(
                "asking the cluster",
                Disposition::Trouble,
                error.to_string(),
            ))
        })
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

// One batch of records: read and lock the tasks, decide, write in one transaction, send and await the events.
//
// At least once: offsets are committed after the batch, and what dies between the commit of Postgres and the send loses events.
package bench;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.stereotype.Component;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

@Component
class Listeners {

    private final Rules rules;
    private final Tasks tasks;
    private final KafkaTemplate<String, byte[]> kafka;
    private final TransactionTemplate transaction;
    private final String events;
    private final String statuses;

    Listeners(Rules rules, Tasks tasks, KafkaTemplate<String, byte[]> kafka, PlatformTransactionManager manager,
            @Value("${TASK_EVENTS_TOPIC}") String events, @Value("${TASK_STATUS_TOPIC}") String statuses) {
        this.rules = rules;
        this.tasks = tasks;
        this.kafka = kafka;
        this.transaction = new TransactionTemplate(manager);
        this.events = events;
        this.statuses = statuses;
    }

    @KafkaListener(topics = "${WEB_CRAWL_REQUEST_TOPIC}")
    void requests(List<ConsumerRecord<String, byte[]>> records) {
        handle(true, records);
    }

    @KafkaListener(topics = "${TASK_STATUS_TOPIC}")
    void statuses(List<ConsumerRecord<String, byte[]>> records) {
        handle(false, records);
    }

    private void handle(boolean request, List<ConsumerRecord<String, byte[]>> records) {
        List<ProducerRecord<String, byte[]>> outgoing = new ArrayList<>();
        transaction.executeWithoutResult(status -> {
            outgoing.clear();
            outgoing.addAll(decide(request, records));
        });
        List<CompletableFuture<?>> sent = new ArrayList<>(outgoing.size());
        for (ProducerRecord<String, byte[]> record : outgoing) {
            sent.add(kafka.send(record));
        }
        kafka.flush();
        CompletableFuture.allOf(sent.toArray(CompletableFuture[]::new)).join();
    }

    private List<ProducerRecord<String, byte[]>> decide(boolean request, List<ConsumerRecord<String, byte[]>> records) {
        List<ProducerRecord<String, byte[]>> outgoing = new ArrayList<>();
        List<Rules.Decoded> decoded = new ArrayList<>(records.size());
        Set<String> ids = new HashSet<>();
        for (ConsumerRecord<String, byte[]> record : records) {
            try {
                Rules.Decoded message = rules.decode(request, record.key(), record.value(), record.timestamp());
                decoded.add(message);
                ids.add(message.id());
            } catch (Rejected rejected) {
                outgoing.add(new ProducerRecord<>(record.topic() + ".dlq", record.key(), record.value()));
            }
        }
        Map<String, Task> known = tasks.lock(ids);
        Set<String> existing = new HashSet<>(known.keySet());
        Map<String, Task> changed = new LinkedHashMap<>();
        List<Outcome> outcomes = new ArrayList<>();
        for (Rules.Decoded message : decoded) {
            Outcome outcome;
            try {
                outcome = rules.decide(message, known.get(message.id()));
            } catch (Rejected rejected) {
                outgoing.add(new ProducerRecord<>(statuses + ".dlq", message.id(), message.body().toString().getBytes(StandardCharsets.UTF_8)));
                continue;
            }
            if (outcome == null) {
                continue;
            }
            known.put(message.id(), outcome.task());
            changed.put(message.id(), outcome.task());
            outcomes.add(outcome);
            ProducerRecord<String, byte[]> event = new ProducerRecord<>(events, message.id(), outcome.published());
            event.headers().add("eventId", outcome.eventId().getBytes(StandardCharsets.UTF_8));
            outgoing.add(event);
            if (outcome.announced() != null) {
                outgoing.add(new ProducerRecord<>(statuses, message.id(), outcome.announced()));
            }
        }
        List<Task> created = changed.values().stream().filter(task -> !existing.contains(task.id())).toList();
        List<Task> updated = changed.values().stream().filter(task -> existing.contains(task.id())).toList();
        tasks.write(created, updated, outcomes);
        return outgoing;
    }
}

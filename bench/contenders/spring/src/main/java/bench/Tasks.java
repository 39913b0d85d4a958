// The tables: one read and JDBC batches for what a batch of messages changes.
package bench;

import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.stereotype.Repository;

@Repository
class Tasks {

    private static final String READ =
            "SELECT id, type, status, data, version, created_at, updated_at FROM tasks WHERE id = ANY (?) ORDER BY id FOR UPDATE";
    private static final String CREATE =
            "INSERT INTO tasks (id, type, status, data, version, created_at, updated_at) VALUES (?, ?, ?, ?::json, ?, ?, ?)";
    private static final String UPDATE = "UPDATE tasks SET status = ?, data = ?::json, version = ?, updated_at = ? WHERE id = ?";
    private static final String EVENT =
            "INSERT INTO task_events (task_id, version, kind, from_status, to_status, data, at, trace_id) VALUES (?, ?, ?, ?, ?, ?::json, ?, ?)";

    /** How many rows go into one JDBC batch. */
    private static final int BATCH = 1_000;

    private final JdbcTemplate jdbc;
    private final Rules rules;

    Tasks(JdbcTemplate jdbc, Rules rules) {
        this.jdbc = jdbc;
        this.rules = rules;
    }

    Map<String, Task> lock(Collection<String> ids) {
        Map<String, Task> tasks = new HashMap<>();
        jdbc.query(READ, statement -> statement.setArray(1, statement.getConnection().createArrayOf("text", ids.toArray())),
                row -> {
                    Task task = new Task(row.getString(1), row.getString(2), row.getString(3),
                            rules.parse(row.getString(4).getBytes(StandardCharsets.UTF_8)), row.getLong(5),
                            row.getObject(6, OffsetDateTime.class).toInstant(), row.getObject(7, OffsetDateTime.class).toInstant());
                    tasks.put(task.id(), task);
                });
        return tasks;
    }

    void write(List<Task> created, List<Task> updated, List<Outcome> outcomes) {
        jdbc.batchUpdate(CREATE, created, BATCH, (statement, task) -> {
            statement.setString(1, task.id());
            statement.setString(2, task.type());
            statement.setString(3, task.status());
            statement.setString(4, task.data().toString());
            statement.setLong(5, task.version());
            statement.setObject(6, task.createdAt().atOffset(ZoneOffset.UTC));
            statement.setObject(7, task.updatedAt().atOffset(ZoneOffset.UTC));
        });
        jdbc.batchUpdate(UPDATE, updated, BATCH, (statement, task) -> {
            statement.setString(1, task.status());
            statement.setString(2, task.data().toString());
            statement.setLong(3, task.version());
            statement.setObject(4, task.updatedAt().atOffset(ZoneOffset.UTC));
            statement.setString(5, task.id());
        });
        jdbc.batchUpdate(EVENT, outcomes, BATCH, (statement, outcome) -> {
            statement.setString(1, outcome.task().id());
            statement.setLong(2, outcome.task().version());
            statement.setString(3, outcome.kind());
            statement.setString(4, outcome.from());
            statement.setString(5, outcome.task().status());
            statement.setString(6, outcome.gained().toString());
            statement.setObject(7, outcome.at().atOffset(ZoneOffset.UTC));
            statement.setString(8, outcome.traceId());
        });
    }
}

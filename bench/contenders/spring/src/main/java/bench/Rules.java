// The rules of the document: the same as those of the two plugins that taskhost is shipped with.
package bench;

import java.net.URI;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.Map;
import java.util.regex.Pattern;

import org.springframework.stereotype.Component;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

@Component
class Rules {

    private static final Pattern EMAIL = Pattern.compile("[^\\s@<>]+@[^\\s@<>]+");
    private static final Map<String, String> KINDS =
            Map.of("new", "task.created", "started", "task.started", "completed", "task.completed", "error", "task.failed");

    private final JsonMapper mapper;

    Rules(JsonMapper mapper) {
        this.mapper = mapper;
    }

    /** A decoded message, and the id of the task that it is about. */
    record Decoded(boolean request, ObjectNode headers, ObjectNode body, Instant at, String id) {
    }

    Decoded decode(boolean request, String key, byte[] value, long timestamp) {
        ObjectNode whole = parse(value);
        boolean enveloped = whole.get("headers") instanceof ObjectNode && whole.get("message") instanceof ObjectNode;
        ObjectNode headers = enveloped ? (ObjectNode) whole.get("headers") : mapper.createObjectNode();
        ObjectNode body = enveloped ? (ObjectNode) whole.get("message") : whole;
        return new Decoded(request, headers, body, Instant.ofEpochMilli(timestamp), id(request, headers, body, key));
    }

    private String id(boolean request, ObjectNode headers, ObjectNode body, String key) {
        if (request) {
            return required(text(headers, "requestId"));
        }
        String named = text(headers, "taskId");
        String inBody = text(body, "taskId");
        String id = required(inBody != null ? inBody : named != null ? named : key);
        if (named != null && !named.equals(id)) {
            throw new Rejected("task-id-mismatch");
        }
        return id;
    }

    private static String required(String id) {
        if (id == null || id.isEmpty()) {
            throw new Rejected("task-id-missing");
        }
        return id;
    }

    /** What becomes of the task; null if nothing changes. */
    Outcome decide(Decoded message, Task task) {
        return message.request() ? request(message, task) : status(message, task);
    }

    private Outcome request(Decoded message, Task task) {
        ObjectNode body = message.body();
        String email = text(body, "userEmail");
        String query = text(body, "userQuery");
        if (email == null || !EMAIL.matcher(email).matches()) {
            throw new Rejected("invalid-email");
        }
        if (query == null || query.isBlank() || query.length() > 10_000) {
            throw new Rejected("query-blank");
        }
        checkUrl(text(body, "originalUrl"));
        checkTime(body, "requestedAt");
        if (task != null) {
            return null;
        }
        ObjectNode data = mapper.createObjectNode();
        ObjectNode announced = mapper.createObjectNode().put("taskId", message.id());
        for (String field : new String[] {"userEmail", "userQuery", "originalUrl"}) {
            data.set(field, body.get(field));
            announced.set(field, body.get(field));
        }
        if (body.hasNonNull("requestedAt")) {
            data.set("requestedAt", body.get("requestedAt"));
        }
        data.put("receivedAt", message.at().toString());
        announced.put("receivedAt", message.at().toString()).put("status", "new");
        return next(message, null, "new", data, data, envelope(message, announced));
    }

    private Outcome status(Decoded message, Task task) {
        ObjectNode gained = message.body().deepCopy();
        gained.remove("taskId");
        JsonNode named = gained.remove("status");
        String status = named == null ? "" : named.asString();
        if (!KINDS.containsKey(status)) {
            throw new Rejected("unknown-status");
        }
        checkTime(gained, "startedAt");
        checkTime(gained, "finishedAt");
        String result = status.equals("completed") ? "result" : "error";
        if ((status.equals("completed") || status.equals("error")) && !gained.has(result)) {
            gained.putNull(result);
        }
        if (task == null) {
            if (!status.equals("new")) {
                throw new IllegalStateException("no task " + message.id() + " yet");
            }
            return next(message, null, status, gained, gained, null);
        }
        String from = task.status();
        if (status.equals("new") || status.equals("started") && !from.equals("new")) {
            return null;
        }
        if (!from.equals("new") && !from.equals("started")) {
            if (status.equals(from) && gained.get(result).equals(task.data().get(result))) {
                return null;
            }
            throw new Rejected("illegal-transition");
        }
        ObjectNode data = task.data().deepCopy();
        data.setAll(gained);
        return next(message, task, status, data, gained, null);
    }

    private Outcome next(Decoded message, Task task, String status, ObjectNode data, ObjectNode gained, byte[] announced) {
        long version = task == null ? 1 : task.version() + 1;
        String from = task == null ? null : task.status();
        String type = task == null ? type(message) : task.type();
        String eventId = message.id() + ":" + version + ":0";
        ObjectNode event = mapper.createObjectNode().put("eventId", eventId).put("taskId", message.id()).put("taskType", type)
                .put("version", version).put("kind", KINDS.get(status)).put("from", from).put("to", status)
                .put("at", message.at().toString());
        event.set("data", gained);
        Instant created = task == null ? message.at() : task.createdAt();
        Task after = new Task(message.id(), type, status, data, version, created, message.at());
        return new Outcome(after, from, KINDS.get(status), gained, message.at(), text(message.headers(), "traceId"), eventId,
                envelope(message, event), announced);
    }

    private byte[] envelope(Decoded message, ObjectNode body) {
        ObjectNode whole = mapper.createObjectNode();
        whole.putObject("headers").put("taskId", message.id()).put("taskType", type(message))
                .put("timestamp", message.at().toString()).put("traceId", text(message.headers(), "traceId"))
                .put("spanId", text(message.headers(), "spanId"));
        whole.set("message", body);
        return mapper.writeValueAsBytes(whole);
    }

    ObjectNode parse(byte[] json) {
        try {
            if (mapper.readTree(json) instanceof ObjectNode object) {
                return object;
            }
        } catch (JacksonException error) {
            throw new Rejected("not-json");
        }
        throw new Rejected("not-an-object");
    }

    private static String type(Decoded message) {
        String type = text(message.headers(), "taskType");
        return type != null ? type : text(message.headers(), "requestType");
    }

    private static String text(ObjectNode node, String field) {
        JsonNode value = node.get(field);
        return value != null && value.isString() ? value.asString() : null;
    }

    private static void checkUrl(String url) {
        try {
            if (url != null && url.length() <= 8_192) {
                String scheme = URI.create(url).getScheme();
                if ("http".equalsIgnoreCase(scheme) || "https".equalsIgnoreCase(scheme)) {
                    return;
                }
            }
        } catch (IllegalArgumentException error) {
            throw new Rejected("invalid-url");
        }
        throw new Rejected("invalid-url");
    }

    private static void checkTime(ObjectNode body, String field) {
        String time = text(body, field);
        if (time != null) {
            try {
                OffsetDateTime.parse(time);
            } catch (DateTimeParseException error) {
                throw new Rejected("invalid-time");
            }
        }
    }
}

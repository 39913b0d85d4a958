// What became of a message: the task after it, its event, and what is to be sent.
package bench;

import java.time.Instant;

import tools.jackson.databind.node.ObjectNode;

record Outcome(Task task, String from, String kind, ObjectNode gained, Instant at, String traceId, String eventId, byte[] published, byte[] announced) {
}

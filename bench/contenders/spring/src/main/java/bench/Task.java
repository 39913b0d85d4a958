// A task as its row has it.
package bench;

import java.time.Instant;

import tools.jackson.databind.node.ObjectNode;

record Task(String id, String type, String status, ObjectNode data, long version, Instant createdAt, Instant updatedAt) {
}

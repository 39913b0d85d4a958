-- Partitions that halt say why in their row, and what a person decides about them is written there.

ALTER TABLE progress
    ADD COLUMN halted_code       text,
    ADD COLUMN halted_reason     text,
    ADD COLUMN halted_topic      text,
    ADD COLUMN halted_batch      bigint,
    ADD COLUMN halted_at         timestamptz,
    ADD COLUMN decided_watermark bigint CHECK (decided_watermark >= 0),
    ADD CHECK ((halted_code IS NULL) = (halted_at IS NULL) AND (halted_code IS NULL) = (halted_reason IS NULL));

COMMENT ON COLUMN progress.halted_code IS 'Why the partition stands still, as in docs/http.md; null while it doesn''t. A command that resolves it makes it null, and its host goes on.';
COMMENT ON COLUMN progress.halted_reason IS 'The same for people, with the command that resolves it.';
COMMENT ON COLUMN progress.halted_topic IS 'The output topic that refuses a message, where that is the reason.';
COMMENT ON COLUMN progress.halted_batch IS 'The batch that the message belongs to.';
COMMENT ON COLUMN progress.decided_watermark IS 'What a person decided to count as published, where the watermark in Kafka can''t be explained. Null again once the partition is ready.';

ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_stage_check,
    ADD CONSTRAINT dead_letters_stage_check CHECK (stage IN ('decode', 'decide', 'publish'));

COMMENT ON COLUMN dead_letters.record_offset IS 'With record_topic and record_partition: where the record was read. For a message that was set aside because its topic refused it (stage publish): the topic that it was for, and -1.';

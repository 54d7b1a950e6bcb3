-- Every row of events keeps its place, `_block_number` and `_block_offset`, through merges; the tail reads by it.
-- See docs/adr/0016-tailing-the-store.md. Repeating it changes nothing.

ALTER TABLE events MODIFY SETTING enable_block_number_column = 1, enable_block_offset_column = 1;

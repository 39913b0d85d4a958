-- beside: no
--
-- A schema of its own. What is done here was done before this text: the schema and its table `migrations` were made, and the
-- tables of an earlier host moved into it (`host/src/store/migrate/earlier.rs`).
--
-- Each migration from here on begins with `-- beside: yes` or `no`: whether the build before may run beside it. This one and
-- the next are one upgrade, for which all hosts are stopped. An index on a table that has rows is not made in a migration's
-- text, which locks the table, but named at its beginning: `-- concurrently: <name> ON <table> (<columns>)`.
SELECT 1;

package postgres

import "strings"

// A row is a lock. Beside the record stands what is looked for without reading
// it, in µs since 1970 by the server's clock: until when somebody holds the lock or
// waits for it, until when somebody waits, and from when the row may go.
const schema = `do $do$ begin
  if to_regclass('TABLE') is null then
    -- Two that make a table at once would fail, and a user who may not make one
    -- needs not to if it is there.
    perform pg_advisory_xact_lock(hashtext('TABLE'));
    create table if not exists TABLE (
      lock_id text collate "C" primary key,
      record json not null,
      busy_until bigint not null,
      waited_until bigint not null,
      keep_until bigint not null
    ) with (fillfactor = 50);
  end if;
end $do$`

// clock is the server's, in µs since 1970, when it is read; now() would be the
// time at which the transaction began, before it waited for the row.
const clock = `(extract(epoch from clock_timestamp()) * 1000000)::bigint`

// queue is where calls on one lock wait for each other. Those that wait for a row
// that everybody changes come in no order, and some wait for long; here it is first
// come, first served. Locks whose hashes meet wait for each other too.
const queue = `select pg_advisory_xact_lock(hashtextextended($1, 0))`

// statements are those of one table.
type statements struct{ schema, take, read, write, list, collect string }

func statementsFor(table string) statements {
	s := strings.NewReplacer("TABLE", table, "CLOCK", clock)
	return statements{
		schema: s.Replace(schema),
		// Makes the row, or locks the one that is there and leaves it as it is.
		take: s.Replace(`insert into TABLE as t (lock_id, record, busy_until, waited_until, keep_until) values ($1, $2, 0, 0, 0)
			on conflict (lock_id) do update set record = excluded.record where false`),
		read:  s.Replace(`select record, CLOCK from TABLE where lock_id = $1`),
		write: s.Replace(`update TABLE set record = $2, busy_until = $3, waited_until = $4, keep_until = $5 where lock_id = $1`),
		list: s.Replace(`select lock_id, record, CLOCK from TABLE
			where lock_id > $1 and lock_id ^@ $2 and case when $3 then waited_until else busy_until end > CLOCK
			order by lock_id limit $4`),
		collect: s.Replace(`delete from TABLE where keep_until <= CLOCK`),
	}
}

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// moment is when a decision is made.
type moment struct {
	// origin is just before the send of the call: from here a lease's remaining
	// time counts for its holder.
	origin driver.Instant
	// now is the server's clock, read under the row's lock.
	now micros
}

// transact has calls decide about a lock, one after the other. It is two round
// trips: the first locks the row and reads it with the clock, the second writes it
// and commits. Until the second is sent, nothing can have happened.
func (s *Store) transact(lockID string, calls []*call) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // in the middle of a transaction this closes it
	before, now, err := s.take(ctx, conn, lockID)
	if err != nil {
		return s.undone(err)
	}
	r, err := decode(before)
	if err != nil {
		return fmt.Errorf("the row of %q: %w", lockID, err)
	}
	r.prune(now)
	for _, c := range calls {
		c.decide(r, now)
	}
	// A refusal is an answer too, and what it saw run out is written with it.
	if after := r.encode(); after != before {
		return s.commit(ctx, conn, lockID, after, r, now)
	}
	_, _ = conn.Exec(ctx, "rollback") // a row that take made goes with it
	return nil
}

func (s *Store) take(ctx context.Context, conn *pgxpool.Conn, lockID string) (record string, now micros, err error) {
	batch := &pgx.Batch{}
	// The clock must be read after the row was waited for, and the record by a
	// statement that began after that: hence one statement for each.
	batch.Queue("begin isolation level read committed read write")
	batch.Queue(queue, lockID)
	batch.Queue(s.sql.take, lockID, newRecord().encode())
	batch.Queue(s.sql.read, lockID).QueryRow(func(row pgx.Row) error { return row.Scan(&record, &now) })
	err = conn.SendBatch(ctx, batch).Close() // which runs the scan
	return record, now, err
}

// commit writes the record. Only its own error can leave it open whether the
// change was made: unless the server itself says that it undid it. pgx's
// SafeToRetry is no help here, for it is true of a connection, too, that was lost
// while the answer was awaited.
func (s *Store) commit(ctx context.Context, conn *pgxpool.Conn, lockID, image string, r *record, now micros) error {
	busy, waited := r.until()
	batch := &pgx.Batch{}
	// Kept also until the clock has passed the last token, however far ahead that is.
	batch.Queue(s.sql.write, lockID, image, busy, waited, max(now, busy, micros(r.Last)).add(s.o.Retention))
	batch.Queue("commit")
	results := conn.SendBatch(ctx, batch)
	_, write := results.Exec()
	tag, commit := results.Exec()
	err := errors.Join(write, commit, results.Close())
	var refused *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return nil
	case err == nil: // a commit can be answered by ROLLBACK
		return s.undone(fmt.Errorf("the commit was answered by %s", tag))
	case errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR": // FATAL may come after the commit
		return s.undone(err)
	}
	return fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
}

// undone is the error of a call that has certainly changed nothing.
func (s *Store) undone(err error) error {
	if s.isClosed() {
		return driver.ErrClosed
	}
	return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
}

// connect takes a connection, to a server that has the table.
func (s *Store) connect(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, s.undone(err)
	}
	if !s.ready.Load() {
		if _, err := conn.Exec(ctx, s.sql.schema); err != nil {
			conn.Release()
			return nil, s.undone(err)
		}
		s.ready.Store(true)
	}
	return conn, nil
}

package postgres

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/driver/driverurl"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"postgres", "postgresql"}

// parsed is what a URL says: the driver's own options, and what is pgx's.
type parsed struct {
	o     Options
	query url.Values
}

// parameters are those of the URL's query. Those of libpq that an operator may
// need are passed on; an unknown one is refused, where libpq would send it to the
// server.
var parameters = driverurl.Parameters[*parsed]{
	"prefix":               func(p *parsed, v string) error { p.o.Table = v; return nil },
	"timeout":              func(p *parsed, v string) error { return driverurl.Duration(&p.o.Timeout, v) },
	"poll":                 func(p *parsed, v string) error { return driverurl.Duration(&p.o.Poll, v) },
	"host":                 libpq("host"), // the directory of a Unix socket
	"passfile":             libpq("passfile"),
	"sslmode":              libpq("sslmode"),
	"sslrootcert":          libpq("sslrootcert"),
	"sslcert":              libpq("sslcert"),
	"sslkey":               libpq("sslkey"),
	"target_session_attrs": libpq("target_session_attrs"),
	"pool_max_conns":       libpq("pool_max_conns"),
}

func libpq(name string) func(*parsed, string) error {
	return func(p *parsed, v string) error { p.query.Set(name, v); return nil }
}

// OpenURL opens postgres://user@host:port/database. The query's prefix is the name
// of the table, timeout bounds a call and poll a waiter's sleep; host, passfile,
// sslmode, sslrootcert, sslcert, sslkey and target_session_attrs are libpq's,
// pool_max_conns is pgxpool's.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	p := &parsed{o: Options{Clock: env.Clock}, query: url.Values{}}
	if err := parameters.Read(u, p); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	reduced := *u
	reduced.RawQuery = p.query.Encode()
	password, secret := u.User.Password()
	if secret { // an error would quote it
		reduced.User = url.User(u.User.Username())
	}
	var err error
	if p.o.Pool, err = pgxpool.ParseConfig(reduced.String()); err != nil {
		return nil, fmt.Errorf("postgres: %w: %w", driver.ErrInvalid, err)
	}
	if secret {
		p.o.Pool.ConnConfig.Password = password
	}
	s, err := New(p.o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

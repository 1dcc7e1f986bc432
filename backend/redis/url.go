package redis

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/driver/driverurl"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}

// parameters are those of the URL's query, each with what it sets.
var parameters = driverurl.Parameters[*parsed]{
	"prefix":         func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":        func(p *parsed, v string) error { return driverurl.Duration(&p.o.Timeout, v) },
	"poll":           func(p *parsed, v string) error { return driverurl.Duration(&p.o.Poll, v) },
	"retention":      func(p *parsed, v string) error { return driverurl.Duration(&p.o.Retention, v) },
	"max_ttl":        func(p *parsed, v string) error { return driverurl.Duration(&p.o.MaxTTL, v) },
	"new":            func(p *parsed, v string) error { return truth(&p.o.New, v) },
	"db":             func(p *parsed, v string) error { return natural(&p.o.Client.DB, v) },
	"wait_replicas":  func(p *parsed, v string) error { return natural(&p.o.WaitReplicas, v) },
	"allow_eviction": func(p *parsed, v string) error { return truth(&p.o.AllowEviction, v) },
	"username":       func(p *parsed, v string) error { p.o.Client.Username = v; return nil },
	"password_file":  func(p *parsed, v string) error { return p.locks.from(v) },
	"ca_file":        func(p *parsed, v string) error { p.tls.CA = v; return nil },
	"cert_file":      func(p *parsed, v string) error { p.tls.Cert = v; return nil },
	"key_file":       func(p *parsed, v string) error { p.tls.Key = v; return nil },

	"sentinel_username":      func(p *parsed, v string) error { p.sentinel.Username = v; return nil },
	"sentinel_password_file": func(p *parsed, v string) error { return p.sentinels.from(v) },
}

// parsed is what a URL says.
type parsed struct {
	o        Options
	sentinel Sentinel
	tls      driverurl.TLSFiles
	// locks and sentinels are the passwords that stand in files.
	locks, sentinels passwordFile
}

// passwordFile is the path of a file with a password; empty if there is none.
type passwordFile string

func (f *passwordFile) from(path string) error {
	*f = passwordFile(path)
	_, err := f.read()
	return err
}

func (f passwordFile) read() (password string, err error) {
	err = driverurl.Secret(&password, string(f))
	return password, err
}

// credentials are those of a user whose password is read for each connection anew,
// as it may be replaced while this process runs; nil without a file.
func (f passwordFile) credentials(user string) func(context.Context) (string, string, error) {
	if f == "" {
		return nil
	}
	return func(context.Context) (string, string, error) {
		password, err := f.read()
		if err != nil {
			err = unsentError{err} // no command goes before the credentials
		}
		return user, password, err
	}
}

func natural(into *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("%q is no number", v)
	}
	if n < 0 {
		return fmt.Errorf("%d is negative", n)
	}
	*into = n
	return nil
}

func truth(into *bool, v string) error {
	switch v {
	case "1", "true":
		*into = true
	case "0", "false":
		*into = false
	default:
		return fmt.Errorf("%q is neither 1 nor 0", v)
	}
	return nil
}

// OpenURL opens a URL, in which rediss instead of redis means TLS:
//
//	redis://[user:password@]host[:port][/db]
//	redis+unix:///path
//	redis+sentinel://[user:password@]sentinel[:port],.../primary
//	redis+cluster://[user:password@]node[:port],...
//
// Of several hosts, the last one has a port if any has. Its parameters are prefix,
// timeout, poll, retention, max_ttl, new, db, username, password_file, ca_file,
// cert_file, key_file, allow_eviction, wait_replicas, sentinel_username and
// sentinel_password_file.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	p := parsed{o: Options{Clock: env.Clock, Logger: env.Logger}}
	if err := parameters.Read(u, &p); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if u.User != nil {
		p.o.Client.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			p.o.Client.Password = password
		}
	}
	p.o.Client.CredentialsProviderContext = p.locks.credentials(p.o.Client.Username)
	p.sentinel.credentials = p.sentinels.credentials(p.sentinel.Username)
	plain, secure := strings.CutPrefix(u.Scheme, "rediss")
	shape := strings.TrimPrefix(plain, "redis")
	if shape != "+sentinel" && (p.sentinel.Username != "" || p.sentinels != "") {
		return nil, fmt.Errorf("redis: %w: sentinel_username and sentinel_password_file need redis+sentinel://", driver.ErrInvalid)
	}
	host := ""
	var err error
	switch shape {
	case "+unix":
		err = p.unix(u)
	case "+sentinel":
		err = p.sentinelsOf(u)
	case "+cluster":
		err = p.cluster(u)
	default:
		host, err = p.server(u)
	}
	if err != nil {
		return nil, err
	}
	if err := p.secure(secure, host); err != nil {
		return nil, err
	}
	return New(p.o)
}

func (p *parsed) unix(u *url.URL) error {
	p.o.Client.Network, p.o.Client.Addr = "unix", u.Path
	if u.Host != "" || u.Path == "" {
		return fmt.Errorf("redis: %w: want redis+unix:///path/of/the/socket", driver.ErrInvalid)
	}
	return nil
}

func (p *parsed) server(u *url.URL) (host string, err error) {
	if strings.Contains(u.Host, ",") {
		return "", fmt.Errorf("redis: %w: several hosts need redis+sentinel:// or redis+cluster://", driver.ErrInvalid)
	}
	addrs, err := addresses(u, "6379")
	if err != nil {
		return "", err
	}
	p.o.Client.Addr = addrs[0]
	if path := strings.Trim(u.Path, "/"); path != "" {
		if err := natural(&p.o.Client.DB, path); err != nil {
			return "", fmt.Errorf("redis: %w: the path %q is not a database number", driver.ErrInvalid, u.Path)
		}
	}
	return u.Hostname(), nil
}

func (p *parsed) sentinelsOf(u *url.URL) (err error) {
	if p.sentinel.Addrs, err = addresses(u, "26379"); err != nil {
		return err
	}
	p.sentinel.Primary = strings.TrimPrefix(u.Path, "/")
	if p.sentinel.Primary == "" || strings.Contains(p.sentinel.Primary, "/") {
		return fmt.Errorf("redis: %w: the path %q is not the name of a primary: want redis+sentinel://h1,h2,h3/name, and a database as the parameter db", driver.ErrInvalid, u.Path)
	}
	p.o.Sentinel = &p.sentinel
	return nil
}

func (p *parsed) cluster(u *url.URL) (err error) {
	if p.o.Cluster, err = addresses(u, "6379"); err != nil {
		return err
	}
	if strings.Trim(u.Path, "/") != "" || p.o.Client.DB != 0 {
		return fmt.Errorf("redis: %w: a Cluster has no databases: want redis+cluster://h1,h2,h3", driver.ErrInvalid)
	}
	return nil
}

func addresses(u *url.URL, port string) ([]string, error) {
	addrs, err := driverurl.Addresses(u, port)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return addrs, nil
}

func (p *parsed) secure(secure bool, host string) error {
	if !secure {
		if p.tls != (driverurl.TLSFiles{}) {
			return fmt.Errorf("redis: %w: ca_file, cert_file and key_file need rediss://, rediss+sentinel:// or rediss+cluster://", driver.ErrInvalid)
		}
		return nil
	}
	config, err := p.tls.Config()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	config.ServerName = host
	p.o.Client.TLSConfig = config
	return nil
}

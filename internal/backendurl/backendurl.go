// Package backendurl knows which backend URLs the daemon's drivers take, for
// those that do not link the drivers.
//
// It guarantees that its lists are the drivers' own: tests of each driver and of
// internal/app compare them. It shows nothing of a URL but its scheme and the
// names of its parameters.
//
// It does not guarantee that a driver takes a URL: hosts, paths and the values of
// parameters are not looked at.
package backendurl

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// ErrPassword is a password in a URL that others may read.
var ErrPassword = errors.New("its URL has a password")

// Parameters are the names of the parameters of each driver's URLs, in order, by
// the driver's package.
var Parameters = map[string][]string{
	"embedded": {"poll", "prefix", "timeout"},
	"redis": {
		"allow_eviction", "ca_file", "cert_file", "db", "key_file", "max_ttl", "new", "password_file", "poll", "prefix", "retention",
		"sentinel_password_file", "sentinel_username", "timeout", "username", "wait_replicas",
	},
	"etcd": {"ca_file", "cert_file", "key_file", "max_ttl", "min_ttl", "password_file", "poll", "prefix", "retention", "timeout", "username"},
	"dynamodb": {
		"ca_file", "cert_file", "create", "credentials_file", "endpoint", "key_file", "poll", "prefix", "profile", "region", "timeout",
	},
}

// Drivers are the drivers' packages by the schemes of their URLs.
var Drivers = map[string]string{
	"embedded": "embedded",
	"redis":    "redis", "rediss": "redis", "redis+unix": "redis", "redis+sentinel": "redis", "rediss+sentinel": "redis",
	"redis+cluster": "redis", "rediss+cluster": "redis",
	"etcd": "etcd", "etcds": "etcd",
	"dynamodb": "dynamodb",
}

// Check refuses a URL whose scheme or parameters no driver knows, and, as
// [ErrPassword], one with a password in it.
func Check(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("its URL cannot be read") // the parser's error would quote it
	}
	if _, secret := u.User.Password(); secret {
		return ErrPassword
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("the parameters of its URL cannot be read")
	}
	for name := range query {
		if n := strings.ToLower(name); strings.Contains(n, "passw") && !strings.HasSuffix(n, "_file") {
			return ErrPassword
		}
	}
	of, ok := Drivers[u.Scheme]
	if !ok {
		return fmt.Errorf("its URL has the unknown scheme %q; known are %s", u.Scheme, strings.Join(slices.Sorted(maps.Keys(Drivers)), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(Parameters[of], name) {
			return fmt.Errorf("its URL has the unknown parameter %q; those of %s are %s", name, u.Scheme, strings.Join(Parameters[of], ", "))
		}
	}
	return nil
}

// Package driverurl reads what the backend URLs of drivers have in common: the
// parameters of the query, the hosts and the files of TLS.
//
// It guarantees that what it refuses is a driver.ErrInvalid, which says what is
// allowed and shows no value of the URL but the one that a parameter's own setter
// names. It does not guarantee that an address can be reached.
package driverurl

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Parameters are those that a driver knows, by their names, each with what sets
// its value in T, which holds what the URL says.
type Parameters[T any] map[string]func(into T, value string) error

// Read sets the parameters of a URL's query. One that is unknown is an error that
// lists the known ones; of one that is repeated, the last value counts.
func (p Parameters[T]) Read(u *url.URL, into T) error {
	known := func() string { return strings.Join(slices.Sorted(maps.Keys(p)), ", ") }
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil { // its text would show a value
		return fmt.Errorf("%w: the query cannot be parsed; known parameters are %s", driver.ErrInvalid, known())
	}
	for name, values := range query {
		set := p[name]
		if set == nil {
			return fmt.Errorf("%w: unknown parameter %q; known are %s", driver.ErrInvalid, name, known())
		}
		if err := set(into, values[len(values)-1]); err != nil {
			return fmt.Errorf("parameter %s: %w: %w", name, driver.ErrInvalid, err)
		}
	}
	return nil
}

// Duration sets a duration, which must be positive.
func Duration(into *time.Duration, value string) error {
	d, err := time.ParseDuration(value)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%v is not positive", d)
	}
	*into = d
	return err
}

// Secret sets what stands in a file, without the newline at its end.
func Secret(into *string, file string) error {
	raw, err := os.ReadFile(file)
	*into = strings.TrimRight(string(raw), "\r\n")
	return err
}

// Addresses are the URL's hosts, which commas separate, with their ports; port is
// that of a host without one.
func Addresses(u *url.URL, port string) (addrs []string, err error) {
	for part := range strings.SplitSeq(u.Host, ",") {
		one := url.URL{Host: part}
		host, p := one.Hostname(), one.Port()
		if host == "" || strings.Contains(host, ":") != strings.HasPrefix(part, "[") {
			return nil, fmt.Errorf("%w: the URL names no host where one is needed", driver.ErrInvalid)
		}
		if p == "" {
			p = port
		}
		addrs = append(addrs, net.JoinHostPort(host, p))
	}
	return addrs, nil
}

// TLSFiles are the PEM files of ca_file, cert_file and key_file; empty means none.
type TLSFiles struct{ CA, Cert, Key string }

// Config is TLS 1.2 or newer that trusts the authorities of CA, or the system's
// without it, and shows the certificate of Cert, if there is one.
func (f TLSFiles) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		raw, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w: %w", driver.ErrInvalid, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("ca_file %s: %w: no certificate in it", f.CA, driver.ErrInvalid)
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, fmt.Errorf("%w: cert_file and key_file belong together", driver.ErrInvalid)
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w: %w", driver.ErrInvalid, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

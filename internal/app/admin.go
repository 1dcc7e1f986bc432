package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/admin"
	"github.com/locksidecar/locksidecar/internal/config"
)

// listenAdmin opens the listener for operators; nil if there is none.
func (d *daemon) listenAdmin(ctx context.Context) (net.Listener, error) {
	c := &d.o.Config.Admin
	if c.Listen == "" {
		return nil, nil
	}
	security, err := adminTLS(c)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	switch {
	case err != nil && c.Spare:
		d.o.Logger.Warn("operators are not served", driver.LogError, err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	l = admin.Limit(l)
	scheme := "http"
	if security != nil {
		l, scheme = tls.NewListener(l, security), "https"
	}
	url := scheme + "://" + l.Addr().String() + "/"
	d.o.Logger.Info("operators are served", driver.LogAddress, url)
	if d.o.Operators != nil {
		d.o.Operators(url)
	}
	return l, nil
}

// adminTLS is the listener's; nil if it is in the clear.
func adminTLS(c *config.Admin) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey) // it may have been renewed
		return &pair, err
	}}
	if c.ClientCA == "" {
		return t, nil
	}
	raw, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, err
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s has no certificate", c.ClientCA)
	}
	if t.ClientAuth = tls.RequireAndVerifyClientCert; c.TokenFile != "" || c.Token != "" {
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return t, nil
}

// serveAdmin serves operators until ctx ends.
func (d *daemon) serveAdmin(ctx context.Context, l net.Listener) error {
	c := &d.o.Config.Admin
	o := admin.Options{
		Address: l.Addr(), Hosts: c.Hosts, Certificates: c.ClientCA != "", Logger: d.o.Logger,
		API: func(who string) http.Handler { return d.server.Admin(who, c.Write) },
	}
	switch {
	case c.TokenFile != "":
		o.Token = func() (string, error) {
			raw, err := os.ReadFile(c.TokenFile)
			return strings.TrimSpace(string(raw)), err
		}
	case c.Token != "":
		o.Token = func() (string, error) { return c.Token, nil }
	}
	s := admin.New(o)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

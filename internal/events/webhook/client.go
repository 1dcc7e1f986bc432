package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// maxToken bounds the file with the bearer token, in bytes.
const maxToken = 64 << 10

// CheckURL says what is wrong with the URL of a consumer. No message quotes it.
func CheckURL(raw string, token bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("want a URL such as https://host/path")
	case u.User != nil:
		return errors.New("the URL has credentials in it: use token_file")
	case token && u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("token_file needs an https URL, unless the host is this one")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newClient is a client with the files of the options.
func newClient(o *Options) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		raw, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("ca_file: %s has no certificate in PEM form", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("cert_file and key_file go together")
	}
	if o.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		// Read for each connection: certificates are renewed.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &c, err
		}
	}
	if o.TokenFile != "" {
		if _, err := token(o.TokenFile); err != nil {
			return nil, err
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = conf, o.Parallel, o.Parallel
	return &http.Client{
		Transport: t, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // where the token goes is configured
	}, nil
}

// token reads the bearer token: it may have been renewed.
func token(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxToken))
	text := strings.TrimSpace(string(raw))
	if err == nil && (text == "" || strings.ContainsAny(text, "\r\n")) {
		err = errors.New("want one line")
	}
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	return text, nil
}

// post makes one attempt.
func (s *Sink) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "locksidecar")
	if s.o.TokenFile != "" {
		t, err := token(s.o.TokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+t)
	}
	res, err := s.client.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err // the URL may be a secret
		}
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	_ = res.Body.Close()
	switch {
	case res.StatusCode >= 200 && res.StatusCode <= 299:
		return nil
	case refuses(res.StatusCode):
		return fmt.Errorf("%w: %s", errRefused, res.Status)
	}
	return fmt.Errorf("the consumer answered %s", res.Status)
}

// errRefused is of an event that the consumer will never take.
var errRefused = errors.New("the consumer refused it")

// refuses says whether a status is about the event, which would get it again: not
// those of a moment, and not those that an operator may mend, of the URL, its
// method and who may post there.
func refuses(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status <= 499
}

package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// MinToken is the least length of a token.
	MinToken = 16
	// atOnce bounds the calls under way.
	atOnce = 32
)

// Options configure a Server. API and one of Token and Certificates must be set.
type Options struct {
	// Address is that of the listener, as it listens.
	Address net.Addr
	// Hosts are further names under which operators reach it, without a port.
	Hosts []string
	// Token is the bearer token, as it is now; nil means that there is none.
	Token func() (string, error)
	// Certificates: a client whose certificate the listener has verified needs no
	// token.
	Certificates bool
	// API serves the calls of an operator by that name.
	API func(who string) http.Handler
	// Logger is told who was refused, a bounded number of times; nil discards it.
	Logger *slog.Logger
}

// New returns a server of the page and the API. The caller listens, by TLS where
// it is configured.
func New(o Options) *http.Server {
	return &http.Server{
		Handler: &handler{o: o, slots: make(chan struct{}, atOnce), refused: refusals{to: driver.Logger(o.Logger)}}, ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		// What net/http would log is about clients that misbehave, of which there may
		// be any number: each failed handshake would be a line.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

type handler struct {
	o       Options
	slots   chan struct{}
	refused refusals
}

// ServeHTTP lets through what is asked by somebody who may ask.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	switch {
	case !h.isOurs(r.Host):
		h.refuse(w, r, http.StatusMisdirectedRequest, "this listener has another name: add it to admin.hosts")
		return
	case h.isForeign(r):
		h.refuse(w, r, http.StatusForbidden, "the request comes from another site")
		return
	case r.URL.Path == "/" && r.Method == http.MethodGet:
		header.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
		return
	}
	who, err := h.operator(r)
	if err != nil {
		h.refuse(w, r, http.StatusServiceUnavailable, "the token cannot be read", driver.LogError, err)
		return
	}
	if who == "" {
		header.Set("WWW-Authenticate", "Bearer")
		h.refuse(w, r, http.StatusUnauthorized, "a token or a certificate is needed")
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method != http.MethodGet && (err != nil || kind != "application/json") {
		h.refuse(w, r, http.StatusUnsupportedMediaType, "want Content-Type: application/json")
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		h.refuse(w, r, http.StatusTooManyRequests, "too many calls are under way")
		return
	}
	h.o.API(who).ServeHTTP(w, r)
}

// refuse answers why, and writes it into the log with what is only for that.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, code int, why string, more ...any) {
	h.refused.write(r, why, more...)
	http.Error(w, why, code) // as text: no browser takes it for a page
}

// isOurs says whether a Host header names the listener: by an address of the loopback
// if it listens there, by its own address, or by a configured name. A name that
// somebody else's DNS leads here is none of those.
func (h *handler) isOurs(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil { // no port: that of the scheme
		name, port = strings.Trim(host, "[]"), ""
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if slices.ContainsFunc(h.o.Hosts, func(known string) bool { return strings.EqualFold(known, name) }) {
		return true
	}
	at, ok := h.o.Address.(*net.TCPAddr)
	if !ok || port != "" && port != strconv.Itoa(at.Port) {
		return false
	}
	ip := net.ParseIP(name)
	if at.IP.IsLoopback() || at.IP.IsUnspecified() {
		return name == "localhost" || ip != nil && (ip.IsLoopback() || at.IP.IsUnspecified())
	}
	return ip != nil && ip.Equal(at.IP)
}

// isForeign says whether a browser sent the request for another site's page.
func (*handler) isForeign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	origins := r.Header.Values("Origin")
	return len(origins) > 1 || len(origins) == 1 && origins[0] != scheme+"://"+r.Host
}

// operator names who asks; empty if they have not proven that they may.
func (h *handler) operator(r *http.Request) (who string, err error) {
	if h.o.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return fmt.Sprintf("certificate %q", r.TLS.VerifiedChains[0][0].Subject.String()), nil
	}
	if h.o.Token == nil {
		return "", nil
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	want, err := h.o.Token()
	if err != nil {
		return "", err
	}
	// Hashed, so that not even the length is told by the time that it takes.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	if len(want) < MinToken || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return "", nil
	}
	return "token", nil
}

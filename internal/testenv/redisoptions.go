package testenv

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions configure a server. The zero value is the system's redis-server
// without persistence, users, TLS or a limit of memory.
type RedisOptions struct {
	// Args are further arguments, which override everything else: for instance
	// "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru".
	Args []string
	// Edition is the program.
	Edition Edition
	// Config is the text of the server's redis.conf. CONFIG REWRITE changes the
	// file and a restart keeps it.
	Config string
	// AppendFsync is how the append-only file is synced: always, everysec or no.
	// Empty: there is no such file.
	AppendFsync string
	// Save is when a snapshot is written: seconds and changes, as "60 1". Empty:
	// never, but by SAVE.
	Save string
	// UnixSocket lets the server listen at Socket too.
	UnixSocket bool
	// TLS lets the server listen by TLS only.
	TLS *RedisTLS
	// Users is the text of the server's users.acl, "user app on >secret ~* +@all"
	// a line. A user by which the test's own Client comes is added.
	Users string
	// Password is that of the default user. It excludes Users.
	Password string
	// DownAfter is after what silence Sentinels take a node for dead; 0 means 1 s.
	DownAfter time.Duration

	cluster  bool
	sentinel string // the text of sentinel.conf: the server is a Sentinel
}

// RedisTLS is how a server and its clients prove themselves.
type RedisTLS struct {
	// Authority is whom the server trusts about clients, and URL names for the
	// server.
	Authority *Authority
	// Server is the certificate that the server shows.
	Server Certificate
	// Client is what Client shows and URL names. If it is set, the server turns
	// away a client without a certificate.
	Client Certificate
}

// Password is that of the default user, if the options have one.
func (r *Redis) Password() string { return r.o.Password }

// adminUser is by whom the test's own client comes where there are users.
const adminUser = "testenv"

// adminPassword is new in each run.
var adminPassword = rand.Text()

// command is what starts the server: its files are written once, so that what
// the server rewrites is kept by a restart.
func (r *Redis) command() (*exec.Cmd, error) {
	path, err := r.o.Edition.path()
	if err != nil {
		return nil, err
	}
	if r.o.Users != "" && r.o.Password != "" {
		return nil, errors.New("testenv: Users and Password exclude each other")
	}
	if err := os.MkdirAll(r.DataDir(), 0o700); err != nil {
		return nil, err
	}
	if r.o.sentinel != "" {
		file, err := r.write("sentinel.conf", r.o.sentinel)
		if err != nil {
			return nil, err
		}
		return exec.Command(path, file, "--sentinel", "--bind", "127.0.0.1", "--dir", r.DataDir(), "--port", strconv.Itoa(r.port)), nil
	}
	var args []string
	if r.o.Config != "" {
		file, err := r.write("redis.conf", r.o.Config)
		if err != nil {
			return nil, err
		}
		args = append(args, file)
	}
	args = append(args, "--bind", "127.0.0.1", "--dir", r.DataDir(), "--daemonize", "no", "--enable-debug-command", "local",
		// Without these a replica is behind for seconds after it was linked.
		"--repl-diskless-sync-delay", "0", "--repl-diskless-load", "on-empty-db")
	if r.o.Config == "" || r.o.Save != "" {
		args = append(args, "--save", "")
	}
	if r.o.Save != "" {
		args = append(append(args, "--save"), strings.Fields(r.o.Save)...)
	}
	if r.o.AppendFsync != "" {
		args = append(args, "--appendonly", "yes", "--appendfsync", r.o.AppendFsync)
	}
	if r.o.UnixSocket {
		args = append(args, "--unixsocket", r.Socket(), "--unixsocketperm", "700")
	}
	if r.o.Users != "" {
		file, err := r.write("users.acl", fmt.Sprintf("%s\nuser %s on >%s ~* &* +@all\n", strings.TrimRight(r.o.Users, "\n"), adminUser, adminPassword))
		if err != nil {
			return nil, err
		}
		args = append(args, "--aclfile", file)
	}
	if r.o.Password != "" {
		args = append(args, "--requirepass", r.o.Password, "--masterauth", r.o.Password)
	}
	if r.o.cluster {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(r.bus))
	}
	port := strconv.Itoa(r.port)
	if tls := r.o.TLS; tls == nil {
		args = append(args, "--port", port)
	} else {
		clients := "no"
		if tls.Client != (Certificate{}) {
			clients = "yes"
		}
		args = append(args, "--port", "0", "--tls-port", port, "--tls-auth-clients", clients, "--tls-ca-cert-file", tls.Authority.CertFile,
			"--tls-cert-file", tls.Server.CertFile, "--tls-key-file", tls.Server.KeyFile)
	}
	return exec.Command(path, append(args, r.o.Args...)...), nil
}

// write makes a file of the server's unless it is there.
func (r *Redis) write(name, text string) (string, error) {
	path := filepath.Join(r.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// DataDir is where the server keeps its data.
func (r *Redis) DataDir() string { return filepath.Join(r.dir, "data") }

// Socket is the path of the server's Unix socket, if it was asked for.
func (r *Redis) Socket() string { return filepath.Join(r.dir, "redis.sock") }

// URL is the server's backend URL, by TCP, with what Password and TLS ask of a
// client, and further parameters, "prefix=x". It names no user: a test of Users
// names its own. It says that the store is new, so that its first grants need no
// quarantine; a driver takes that for true once, so that what a test loses later
// is lost.
func (r *Redis) URL(parameters ...string) string {
	u := url.URL{Scheme: "redis", Host: r.Addr()}
	if r.o.Password != "" {
		u.User = url.UserPassword("", r.o.Password)
	}
	q := url.Values{"new": {"1"}}
	if t := r.o.TLS; t != nil {
		u.Scheme = "rediss"
		q.Set("ca_file", t.Authority.CertFile)
		if t.Client != (Certificate{}) {
			q.Set("cert_file", t.Client.CertFile)
			q.Set("key_file", t.Client.KeyFile)
		}
	}
	u.RawQuery = strings.Join(append([]string{q.Encode()}, parameters...), "&")
	return u.String()
}

// SocketURL is the backend URL by the Unix socket.
func (r *Redis) SocketURL() string { return "redis+unix://" + r.Socket() + asNew(nil) }

// asNew is the query of a store that is new.
func asNew(parameters []string) string {
	return "?" + strings.Join(append([]string{"new=1"}, parameters...), "&")
}

func (r *Redis) clientOptions() *redis.Options {
	o := &redis.Options{
		Addr: r.Addr(), MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true, Password: r.o.Password,
		ContextTimeoutEnabled: true, ReadTimeout: startTimeout,
	}
	if r.o.Users != "" {
		o.Username, o.Password = adminUser, adminPassword
	}
	o.TLSConfig = r.clientTLS()
	return o
}

// clientTLS is nil without TLS.
func (r *Redis) clientTLS() *tls.Config {
	if r.o.TLS == nil {
		return nil
	}
	c := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a test asks things of servers with wrong certificates too
	if shown := r.o.TLS.Client; shown != (Certificate{}) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(shown.CertFile, shown.KeyFile)
			return &pair, err
		}
	}
	return c
}

// dial opens a connection of the administrator's and sends a command whose
// replies the caller reads.
func (r *Redis) dial(command string) (net.Conn, error) {
	o := r.clientOptions()
	var conn net.Conn
	var err error
	if o.TLSConfig == nil {
		conn, err = net.DialTimeout("tcp", r.Addr(), startTimeout)
	} else {
		conn, err = tls.DialWithDialer(&net.Dialer{Timeout: startTimeout}, "tcp", r.Addr(), o.TLSConfig)
	}
	if err != nil {
		return nil, err
	}
	if o.Password != "" {
		user := o.Username
		if user == "" {
			user = "default"
		}
		command = "AUTH " + user + " " + o.Password + "\r\n" + command
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

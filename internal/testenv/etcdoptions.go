package testenv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// EtcdOptions configure an etcd. The zero value is one member without users or
// TLS, with the server's own intervals of heartbeat and election.
type EtcdOptions struct {
	// Members is how many servers there are; 0 means 1.
	Members int
	// Args are further arguments of each server, which override everything else:
	// for instance "--max-txn-ops", "64".
	Args []string
	// Sync lets the servers wait for the disk: what was acknowledged survives a
	// crash of the machine, not only of the process. No test crashes the machine.
	Sync bool
	// TLS lets the servers listen for clients by TLS only.
	TLS *EtcdTLS
	// Users may do what they are granted. If there are any, nobody else may do
	// anything, but the test's own Client.
	Users []EtcdUser
}

// EtcdTLS is how the servers and their clients prove themselves.
type EtcdTLS struct {
	// Authority is whom the servers trust about clients, and URL names for the
	// servers.
	Authority *Authority
	// Server is the certificate that the servers show.
	Server Certificate
	// Client is what Client shows and URL names. If it is set, the servers turn
	// away a client without a certificate.
	Client Certificate
}

// EtcdUser is a user with a role that may read and write the keys with a
// prefix. Without a password it is whoever shows a certificate with its name.
type EtcdUser struct {
	Name, Password, Prefix string
}

// etcdRoot is the user that may do everything, by its name in etcd.
const etcdRoot = "root"

// command is what starts the member.
func (m *EtcdMember) command() (*exec.Cmd, error) {
	path, err := etcdTool("etcd")
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if m.e.o.TLS != nil {
		scheme = "https"
	}
	client, peer := scheme+"://"+m.Addr(), m.peerURL()
	args := []string{
		"--name", m.name, "--data-dir", m.DataDir(),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", m.e.initialCluster(), "--initial-cluster-token", m.e.token,
		"--log-level", "warn", "--bcrypt-cost", "4", "--enable-grpc-gateway=false",
	}
	if !m.e.o.Sync {
		args = append(args, "--unsafe-no-fsync")
	}
	if tls := m.e.o.TLS; tls != nil {
		args = append(args, "--cert-file", tls.Server.CertFile, "--key-file", tls.Server.KeyFile)
		if tls.Client != (Certificate{}) {
			args = append(args, "--client-cert-auth", "--trusted-ca-file", tls.Authority.CertFile)
		}
	}
	return exec.Command(path, append(args, m.e.o.Args...)...), nil
}

// DataDir is where the member keeps its data.
func (m *EtcdMember) DataDir() string { return filepath.Join(m.e.dir, m.name) }

func (m *EtcdMember) peerURL() string { return "http://127.0.0.1:" + strconv.Itoa(m.peer) }

// initialCluster names the members for each other.
func (e *Etcd) initialCluster() string {
	var named []string
	for _, m := range e.Members {
		named = append(named, m.name+"="+m.peerURL())
	}
	return strings.Join(named, ",")
}

// etcdTool is the path of etcd, etcdctl or etcdutl.
func etcdTool(name string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "tools", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is needed: %w; build it by: make tools", name, err)
	}
	return path, nil
}

// Etcdctl is the path of etcdctl, of the version of the servers.
func Etcdctl(t testing.TB) string {
	t.Helper()
	path, err := etcdTool("etcdctl")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// dial is a client that may do everything.
func (e *Etcd) dial(addrs ...string) (*clientv3.Client, error) {
	c := clientv3.Config{Endpoints: addrs, TLS: e.clientTLS(), Logger: zap.NewNop(), DialTimeout: startTimeout, MaxUnaryRetries: 1}
	if e.users {
		c.Username, c.Password = etcdRoot, adminPassword
	}
	return clientv3.New(c)
}

// clientTLS is nil without TLS.
func (e *Etcd) clientTLS() *tls.Config {
	if e.o.TLS == nil {
		return nil
	}
	c := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a test asks things of servers with wrong certificates too
	if shown := e.o.TLS.Client; shown != (Certificate{}) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(shown.CertFile, shown.KeyFile)
			return &pair, err
		}
	}
	return c
}

// addUsers makes the users and lets nobody else in.
func (e *Etcd) addUsers(t testing.TB) {
	t.Helper()
	if len(e.o.Users) == 0 {
		return
	}
	c := e.Client(t)
	ctx := t.Context()
	for _, u := range e.o.Users {
		_, role := c.RoleAdd(ctx, u.Name)
		_, grant := c.RoleGrantPermission(ctx, u.Name, u.Prefix, clientv3.GetPrefixRangeEnd(u.Prefix), clientv3.PermissionType(clientv3.PermReadWrite))
		_, user := c.UserAddWithOptions(ctx, u.Name, u.Password, &clientv3.UserAddOptions{NoPassword: u.Password == ""})
		_, member := c.UserGrantRole(ctx, u.Name, u.Name)
		if err := errors.Join(role, grant, user, member); err != nil {
			t.Fatal(err)
		}
	}
	e.EnableUsers(t)
}

// EnableUsers lets nobody in from now on but the users that there are, and the
// test's own Client.
func (e *Etcd) EnableUsers(t testing.TB) {
	t.Helper()
	c := e.Client(t)
	_, root := c.UserAdd(t.Context(), etcdRoot, adminPassword)
	_, member := c.UserGrantRole(t.Context(), etcdRoot, etcdRoot)
	_, enable := c.AuthEnable(t.Context())
	if err := errors.Join(root, member, enable); err != nil {
		t.Fatal(err)
	}
	e.users = true
	wait(t, "the users are not enabled", func(ctx context.Context) error {
		r, err := e.dial(e.Addrs()...)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		_, err = r.Get(ctx, "ready")
		return err
	})
}

// Environ is an environment in which etcdctl speaks to the etcd, as nobody or,
// once there are users, as the one that may do everything.
func (e *Etcd) Environ(t testing.TB) []string {
	t.Helper()
	scheme := "http://"
	env := append(os.Environ(), "PATH="+filepath.Dir(Etcdctl(t))+":"+os.Getenv("PATH"))
	if tls := e.o.TLS; tls != nil {
		scheme = "https://"
		env = append(env, "ETCDCTL_CACERT="+tls.Authority.CertFile)
		if tls.Client != (Certificate{}) {
			env = append(env, "ETCDCTL_CERT="+tls.Client.CertFile, "ETCDCTL_KEY="+tls.Client.KeyFile)
		}
	}
	if e.users {
		env = append(env, "ETCDCTL_USER="+etcdRoot+":"+adminPassword)
	}
	return append(env, "ETCDCTL_ENDPOINTS="+scheme+strings.Join(e.Addrs(), ","+scheme))
}

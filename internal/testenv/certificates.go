package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority made for a test.
type Authority struct {
	// CertFile is its certificate, as PEM.
	CertFile string
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	dir      string
}

// Certificate is what an authority issued, as PEM files.
type Certificate struct {
	CertFile, KeyFile string
}

// NewAuthority makes an authority whose files live as long as the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir()}
	now := time.Now()
	a.cert = &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority " + filepath.Base(a.dir)},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c, cert, key := a.sign(t, "ca", a.cert)
	a.CertFile, a.cert, a.key = c.CertFile, cert, key
	return a
}

// Server issues a certificate of a server on loopback: 127.0.0.1, ::1 and
// localhost.
func (a *Authority) Server(t testing.TB) Certificate {
	t.Helper()
	return a.issue(t, "server", x509.ExtKeyUsageServerAuth, time.Now().Add(24*time.Hour))
}

// ExpiredServer is like Server, of a certificate that ended an hour ago.
func (a *Authority) ExpiredServer(t testing.TB) Certificate {
	t.Helper()
	return a.issue(t, "expired", x509.ExtKeyUsageServerAuth, time.Now().Add(-time.Hour))
}

// Client issues a certificate of a client with the common name.
func (a *Authority) Client(t testing.TB, name string) Certificate {
	t.Helper()
	return a.issue(t, name, x509.ExtKeyUsageClientAuth, time.Now().Add(24*time.Hour))
}

// ExpiredClient is like Client, of a certificate that ended an hour ago.
func (a *Authority) ExpiredClient(t testing.TB, name string) Certificate {
	t.Helper()
	return a.issue(t, name, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour))
}

// Trust is a pool of nothing but the authority.
func (a *Authority) Trust() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Config is a client's side of TLS that trusts the authority and shows the
// certificates.
func (a *Authority) Config(shown ...Certificate) (*tls.Config, error) {
	c := &tls.Config{RootCAs: a.Trust(), MinVersion: tls.VersionTLS12}
	for _, s := range shown {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = append(c.Certificates, pair)
	}
	return c, nil
}

func (a *Authority) issue(t testing.TB, name string, use x509.ExtKeyUsage, until time.Time) Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: until.Add(-36 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	if use == x509.ExtKeyUsageServerAuth {
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	c, _, _ := a.sign(t, name, template)
	return c
}

// sign writes the certificate and its new key; without a key of its own the
// authority signs itself.
func (a *Authority) sign(t testing.TB, name string, template *x509.Certificate) (Certificate, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(a.dir, "*")
	if err != nil {
		t.Fatal(err)
	}
	c := Certificate{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{
		c.CertFile: {Type: "CERTIFICATE", Bytes: der},
		c.KeyFile:  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, cert, key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

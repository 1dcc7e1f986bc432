package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Pair is a certificate with its key and its CA, as PEM.
type Pair struct {
	Cert, Key, CA []byte
	// parsed is what the three say.
	parsed *tls.Certificate
	leaf   *x509.Certificate
	cas    []*x509.Certificate
}

// backdated is how far before now a certificate begins, for clocks that differ.
const backdated = time.Hour

// make returns a new pair for names.
func makePair(names []string, now time.Time, validity time.Duration) (*Pair, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	from, until := now.Add(-backdated), now.Add(validity)
	ca := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("locksidecar-injector CA %x", serial)},
		NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	rawCA, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: new(big.Int).Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: "locksidecar-injector"},
		NotBefore: from, NotAfter: until, DNSNames: names, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return Parse(block("CERTIFICATE", raw), block("PRIVATE KEY", rawKey), block("CERTIFICATE", rawCA))
}

func block(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

// Parse reads a pair, which must belong together. ca may be empty.
func Parse(cert, key, ca []byte) (*Pair, error) {
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(parsed.Certificate[0])
	if err != nil {
		return nil, err
	}
	parsed.Leaf = leaf
	p := &Pair{Cert: cert, Key: key, CA: ca, parsed: &parsed, leaf: leaf}
	if len(ca) == 0 {
		return p, nil
	}
	if p.cas = authorities(ca); len(p.cas) == 0 {
		return nil, errors.New("the CA is no certificate")
	}
	return p, nil
}

// check says whether API servers would trust the pair for the names now.
func (p *Pair) check(names []string, now time.Time) error {
	o := x509.VerifyOptions{CurrentTime: now, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	for _, ca := range p.cas {
		o.Roots.AddCert(ca)
	}
	for _, raw := range p.parsed.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			o.Intermediates.AddCert(c)
		}
	}
	if len(p.cas) == 0 {
		o.Roots.AddCert(p.leaf) // whose CA is not known here
	}
	for _, name := range names {
		o.DNSName = name
		if _, err := p.leaf.Verify(o); err != nil {
			return err
		}
	}
	return nil
}

// same says whether two pairs have the same certificate.
func (p *Pair) same(q *Pair) bool { return p != nil && q != nil && bytes.Equal(p.Cert, q.Cert) }

// NotAfter is when the certificate ends.
func (p *Pair) NotAfter() time.Time { return p.leaf.NotAfter }

// authorities are the certificates of a bundle; what is none is left out.
func authorities(bundle []byte) (all []*x509.Certificate) {
	for {
		var b *pem.Block
		if b, bundle = pem.Decode(bundle); b == nil {
			return all
		}
		if c, err := x509.ParseCertificate(b.Bytes); err == nil {
			all = append(all, c)
		}
	}
}

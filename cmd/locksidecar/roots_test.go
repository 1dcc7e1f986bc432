package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// In an image without a file of certificates, DynamoDB's are trusted all the same.
func TestThereAreCertificatesWhereTheSystemHasNone(t *testing.T) {
	const inside = "LOCKSIDECAR_TEST_NO_CERTIFICATES"
	if os.Getenv(inside) == "" {
		// They are read once a process.
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inside+"=1", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if pool.Equal(x509.NewCertPool()) {
		t.Fatal("no certificates")
	}
}

package main

// The image has no CA certificates, and DynamoDB is spoken to by TLS: these are
// used where the system has none. A system's own, SSL_CERT_FILE and a backend's
// ca_file come first.
import _ "golang.org/x/crypto/x509roots/fallback"

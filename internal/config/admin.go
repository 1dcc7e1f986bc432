package config

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
)

// DefaultAdmin is where dev has the listener for operators.
const DefaultAdmin = "127.0.0.1:9717"

// Admin is the listener for operators; the zero value means that there is none.
type Admin struct {
	Listen                               string
	TokenFile, TLSCert, TLSKey, ClientCA string
	Hosts                                []string
	Write                                bool
	// Token is the token itself, where no file has it.
	Token string
	// Spare: the daemon does without the listener if it cannot listen.
	Spare bool
}

// Equal says whether both are the same listener.
func (a *Admin) Equal(b *Admin) bool {
	return a.Listen == b.Listen && a.TokenFile == b.TokenFile && a.TLSCert == b.TLSCert && a.TLSKey == b.TLSKey && a.ClientCA == b.ClientCA &&
		slices.Equal(a.Hosts, b.Hosts) && a.Write == b.Write && a.Token == b.Token
}

func (s *AdminSection) compile(a *Admin, o Overrides) error {
	*a = Admin{
		Listen: first(o.Admin, s.Listen), TokenFile: first(o.AdminToken, s.TokenFile), TLSCert: s.TLSCert, TLSKey: s.TLSKey, ClientCA: s.ClientCA,
		Hosts: s.Hosts, Write: s.Write == On,
	}
	if a.Listen == "" {
		*a = Admin{}
		return nil
	}
	switch {
	case (a.TLSCert == "") != (a.TLSKey == ""):
		return errors.New("admin: tls_cert and tls_key: want both or none")
	case a.ClientCA != "" && a.TLSCert == "":
		return errors.New("admin: client_ca needs tls_cert and tls_key")
	case a.TokenFile == "" && a.ClientCA == "":
		return errors.New("admin: want token_file or client_ca: nobody is served without a token or a certificate")
	}
	for _, host := range a.Hosts {
		if ip := net.ParseIP(host); ip == nil && !hostName.MatchString(host) {
			return fmt.Errorf("admin.hosts: %q: want a name or an address alone, without a scheme or a port, such as locks.example.com", host)
		}
	}
	return a.private()
}

// hostName is a DNS name (RFC 1123), as requests are compared with it: without the
// dot of the root.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// private says what is wrong with an address at which a token would be sent in the
// clear.
func (a *Admin) private() error {
	host, _, err := net.SplitHostPort(a.Listen)
	switch ip := net.ParseIP(host); {
	case err != nil:
		return fmt.Errorf("admin.listen %q: want host:port, such as %s", a.Listen, DefaultAdmin)
	case a.TLSCert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return fmt.Errorf("admin.listen %q: a token would cross the network in the clear: give tls_cert and tls_key, or listen on 127.0.0.1", a.Listen)
	}
	return nil
}

// DevAdmin is dev's listener, at the address if one is given: with a token of its
// own, and so without TLS on the loopback alone.
func DevAdmin(address, token string) (Admin, error) {
	a := Admin{Listen: first(address, DefaultAdmin), Token: token, Spare: address == ""}
	return a, a.private()
}

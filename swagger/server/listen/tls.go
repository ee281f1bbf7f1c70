package listen

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// tls reads the certificates. HTTP/2 is not offered: exec takes over the connection, which HTTP/2 cannot give.
func (c Config) tls() (*tls.Config, error) {
	if c.TLSCertificate == "" || c.TLSKey == "" {
		return nil, fault.New(fault.Invalid, "https needs a certificate and its key: set tls-certificate and tls-key")
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCertificate, c.TLSKey)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read the certificate %s and its key %s: %w", c.TLSCertificate, c.TLSKey, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if c.TLSCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("read the clients' CA: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "the clients' CA %s holds no certificate", c.TLSCA)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}

package evilorigin

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
	"testing"
	"time"
)

// Certs are an authority and what it signed, or did not.
type Certs struct {
	CA string // PEM, to be trusted

	Good, Expired, WrongName, SelfSigned tls.Certificate
}

// MakeCerts makes them anew for a test.
func MakeCerts(t testing.TB) *Certs {
	t.Helper()
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	leaf := func(name string, until time.Time, ip string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-2 * time.Hour), NotAfter: until,
			IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	}
	root := sign(t, ca, ca, nil)
	until := now.Add(time.Hour)
	own := leaf("self", until, "127.0.0.1")
	return &Certs{
		CA:         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate[0]})),
		Good:       sign(t, leaf("good", until, "127.0.0.1"), ca, root.PrivateKey),
		Expired:    sign(t, leaf("expired", now.Add(-time.Hour), "127.0.0.1"), ca, root.PrivateKey),
		WrongName:  sign(t, leaf("elsewhere", until, "192.0.2.1"), ca, root.PrivateKey),
		SelfSigned: sign(t, own, own, nil),
	}
}

// sign makes a key and a certificate; without the key of a parent it signs itself.
func sign(t testing.TB, c, parent *x509.Certificate, by any) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *Certs) config(cert tls.Certificate, h2 bool) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if h2 {
		cfg.NextProtos = []string{"h2"}
	}
	return cfg
}

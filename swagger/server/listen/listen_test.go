package listen

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
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func zero() *int { return new(int) }

func TestASocketIsPrivateAndGoesAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "s")
	open, err := Open(t.Context(), Config{SocketPath: path})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if got := open[0].URL(); got != "unix://"+path {
		t.Errorf("URL %s", got)
	}
	if err := Close(open); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestASocketInUseIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Open(t.Context(), Config{SocketPath: path})
	if err != nil {
		t.Fatal(err)
	}
	defer Close(first)
	if _, err := Open(t.Context(), Config{SocketPath: path}); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first is gone: %v", err)
	} else {
		conn.Close()
	}
}

func TestADeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	open, err := Open(t.Context(), Config{SocketPath: path})
	if err != nil {
		t.Fatal(err)
	}
	Close(open)
}

func TestAFileInTheWayIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{SocketPath: path}); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	if content, _ := os.ReadFile(path); string(content) != "mine" {
		t.Error("the file was touched")
	}
}

func TestASocketThatIsNoLongerOursIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	open, err := Open(t.Context(), Config{SocketPath: path})
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	Close(open)
	if _, err := os.Stat(path); err != nil {
		t.Error("the other's socket was removed")
	}
}

func TestPlainHTTPOnLoopbackOnly(t *testing.T) {
	for host, ok := range map[string]bool{"": true, "127.0.0.1": true, "localhost": true, "0.0.0.0": false, "192.0.2.1": false, "::": false} {
		open, err := Open(t.Context(), Config{Schemes: []string{HTTP}, Host: host, Port: zero()})
		if (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
		if err != nil && (!fault.Is(err, fault.Invalid) || fault.HintOf(err) == "") {
			t.Errorf("%q: %v, hint %q", host, err, fault.HintOf(err))
		}
		Close(open)
	}
	open, err := Open(t.Context(), Config{Schemes: []string{HTTP}, Host: "0.0.0.0", Port: zero(), InsecureHTTP: true})
	if err != nil {
		t.Error(err)
	}
	Close(open)
}

func TestNothingStaysOpenAfterAFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, bad := range []string{HTTPS, "gopher"} {
		if _, err := Open(t.Context(), Config{Schemes: []string{Unix, bad}, SocketPath: path}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the socket is still there", bad)
		}
	}
}

func TestHTTPSAsksForAClientCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	pair, pool := selfSigned(t, cert, key)
	open, err := Open(t.Context(), Config{Schemes: []string{HTTPS}, TLSPort: zero(), TLSCertificate: cert, TLSKey: key, TLSCA: cert})
	if err != nil {
		t.Fatal(err)
	}
	defer Close(open)
	go func() {
		for {
			conn, err := open[0].Accept()
			if err != nil {
				return
			}
			go func() { conn.Write([]byte("hello")); conn.Close() }()
		}
	}()
	for name, c := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"with a certificate": {&tls.Config{Certificates: []tls.Certificate{pair}}, true},
		"without":            {&tls.Config{}, false},
		"too old":            {&tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, false},
	} {
		c.config.RootCAs, c.config.ServerName = pool, "localhost"
		conn, err := tls.Dial("tcp", open[0].Addr().String(), c.config)
		if err == nil {
			_, err = conn.Read(make([]byte, 5)) // TLS 1.3 tells of a missing certificate only now
			conn.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func selfSigned(t *testing.T, certFile, keyFile string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	for name, content := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pair, pool
}

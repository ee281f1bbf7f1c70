//go:build guest

package initboot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/windlass-hpc/windlass/initramfs"
)

// proofs boots a machine whose clock is years behind from a web server with a certificate of the site's own authority, and with signed files. The
// certificate is first that of another authority, and the definition's signature that of another key: both are refused.
func proofs(t *testing.T, bin string) {
	site, stranger := newAuthority(t), newAuthority(t)
	initrd := image(t, bin, func(o *initramfs.Options) { o.CA = site.file })
	var mended atomic.Bool
	good, bad := site.certificate(t), stranger.certificate(t)
	plain := listen(t, "127.0.0.1:0")
	o := serve(t, tls.NewListener(plain, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if mended.Load() {
			return good, nil
		}
		return bad, nil
	}}), fmt.Sprintf("https://10.0.2.2:%d", port(plain)))
	boards := newOrigin(t) // reports come over http: they tell of certificates that are refused

	config, spec := "log_level: info\n", definition(o.url+"/box.squashfs", "/sbin/init", "")
	key, signature := signer(t)
	_, forged := signer(t)
	o.file("/box.squashfs", box(t, sleeper, nil))
	o.text("/windlass.yaml", config)
	o.text("/windlass.yaml.minisig", signature(config))
	o.text("/box.json", spec)
	o.text("/box.json.minisig", forged(spec))
	n := with{years: 26}.boot(t, initrd, 512, "windlass.report="+boards.url+"/report windlass.ntp="+timeServer(t), "windlass.config="+o.url+"/windlass.yaml windlass.config.key="+key,
		"windlass.container="+o.url+"/box.json windlass.container.key="+key, "windlass.api=http://0.0.0.0:8080 windlass.api.insecure")

	n.await("clock: set to "+today()+"T", "from 10.0.2.2:", "config: failed: ", "signed by unknown authority")
	within(t, "the boot server knows of the certificate", func() bool { return boards.reported("config", "failed", "signed by unknown authority") })
	n.await("A shell is on the console")
	mended.Store(true)
	n.types("exit") // has it tried again at once
	n.await("config: "+o.url+"/windlass.yaml", "signed (made for the test)", "image: failed: ")
	within(t, "the boot server knows of the signature", func() bool { return boards.reported("image", "failed", "is not taken") })
	within(t, "the next shell is there", func() bool { return strings.Count(n.text(), "A shell is on the console") == 2 })
	o.text("/box.json.minisig", signature(spec))
	n.types("exit")
	n.await("running: box is ready")
	if c := n.container(t); c.State != "running" {
		t.Errorf("%+v", c)
	}
}

// signer gives a public key and what signs with the other half.
func signer(t *testing.T) (public string, sign func(string) string) {
	t.Helper()
	pub, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub.String(), func(text string) string {
		return string(minisign.SignWithComments(private, []byte(text), "made for the test", ""))
	}
}

// authority is one for certificates.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem"), key: newKey(t), cert: &x509.Certificate{SerialNumber: big.NewInt(1),
		Subject: pkix.Name{CommonName: "site"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate gives one for the web server, good from an hour ago on: who does not know the time does not take it.
func (a *authority) certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "boot"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP("10.0.2.2")},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// timeServer answers NTP (RFC 4330), and gives where guests find it.
func timeServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	since1900 := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	go func() {
		for ask := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(ask)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			answer := make([]byte, 48)
			answer[0], answer[1] = 4<<3|4, 2 // version 4, a server, which has its time from another
			copy(answer[24:32], ask[40:48])
			for _, at := range []int{32, 40} {
				binary.BigEndian.PutUint32(answer[at:], uint32(time.Now().Unix()-since1900))
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return fmt.Sprintf("10.0.2.2:%d", conn.LocalAddr().(*net.UDPAddr).Port)
}

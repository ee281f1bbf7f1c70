//go:build lab

package storage

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// TestAddresses reaches the servers by a name and by IPv6, where the examples have an address of IPv4.
func TestAddresses(t *testing.T) {
	known(t, hostname)
	w := begin(t)
	for _, c := range []struct{ name, example, host string }{
		{"rbd by name", "rbd-squashfs", hostname},
		{"rbd by name and port", "rbd-squashfs", hostname + ":6789"},
		{"iscsi by name", "iscsi-squashfs", hostname},
		{"iscsi by IPv6", "iscsi-squashfs", address6},
		{"nfs by name", "nfs-directory", hostname},
		{"nfs by IPv6", "nfs-directory", address6},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := w.in(t)
			def := at.small(c.example, waits).Mount.Overlay.Lower[0]
			setHost(def, c.host)
			var m models.Mount
			at.d.Want(http.StatusCreated, http.MethodPost, "/mount", def, &m)
			at.sound(&m)
			at.clear()
		})
	}
}

func setHost(m *models.Mount, host string) {
	switch {
	case m.Nfs != nil:
		m.Nfs.Host = &host
	case m.Attach.Attach.Rbd != nil:
		m.Attach.Attach.Rbd.Monitors = []string{host}
	default:
		m.Attach.Attach.Iscsi.Host = &host
	}
}

// righted puts the servers' addresses in the place of the documentation's, of whom one server of ours stands for several; a name stays, and is
// made known.
func righted(t *testing.T, hosts []string) []string {
	t.Helper()
	var list []string
	for _, h := range hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.Trim(h, "[]"), ""
		}
		ip := net.ParseIP(host)
		switch {
		case ip == nil:
			known(t, host)
		case ip.To4() == nil:
			host = address6
		default:
			host = address
		}
		if port != "" {
			host = net.JoinHostPort(host, port)
		}
		list = append(list, host)
	}
	return list[:1]
}

// known has a name mean the servers.
func known(t *testing.T, name string) {
	t.Helper()
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if strings.Contains(string(hosts), " "+name+"\n") {
		return
	}
	must(t, os.WriteFile("/etc/hosts", append(hosts, "\n"+address+" "+name+"\n"...), 0o644))
}

//go:build lab

package storage

import (
	"context"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// connections lists the connections of this machine to the servers, but the one of the tests themselves.
func connections(t *testing.T) (list []string) {
	t.Helper()
	mine := map[string]bool{word4(address): true, word6(address6): true}
	const established, synSent, ordersPort = "01", "02", "1F40"
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		must(t, err)
		for _, line := range lines(string(data))[1:] {
			fields := strings.Fields(line)
			host, port, _ := strings.Cut(fields[2], ":")
			if mine[host] && port != ordersPort && (fields[3] == established || fields[3] == synSent) {
				list = append(list, fields[2])
			}
		}
	}
	return list
}

// word4 and word6 are addresses as the kernel shows them: in words of four bytes, the last one first.
func word4(address string) string { return words(net.ParseIP(address).To4()) }
func word6(address string) string { return words(net.ParseIP(address)) }

func words(ip net.IP) string {
	s := ""
	for n := 0; n < len(ip); n += 4 {
		s += strings.ToUpper(hex.EncodeToString([]byte{ip[n+3], ip[n+2], ip[n+1], ip[n]}))
	}
	return s
}

// told holds that no secret is to be had from the daemon's answers, its log, its files, a command line or an environment.
func (w *world) told() {
	w.t.Helper()
	info, err := os.Stat(string(w.node.Dir))
	must(w.t, err)
	if info.Mode().Perm() != 0o700 {
		w.t.Errorf("others may look into the run directory: %v", info.Mode())
	}
	texts := map[string]string{"the daemon's log": w.d.Log()}
	for _, path := range []string{"/container", "/attach", "/mount", "/event?since=0&follow=false"} {
		text, err := w.d.Text(context.Background(), path)
		if err != nil {
			w.t.Error(err)
		}
		texts["GET "+path] = text
	}
	for _, pattern := range []string{"cmdline", "environ"} {
		files, _ := filepath.Glob("/proc/[0-9]*/" + pattern)
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil {
				texts[file] = string(data)
			}
		}
	}
	for name, secret := range lab(w.t).secrets {
		for where, text := range texts {
			if strings.Contains(text, secret) {
				w.t.Errorf("%s shows the secret %s", where, name)
			}
		}
	}
}

// hanging lists what waits in the kernel and cannot be killed, with where it waits.
func hanging() (list string) {
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	for _, task := range tasks {
		stat, _ := os.ReadFile(filepath.Join(task, "stat"))
		if !strings.Contains(string(stat), ") D ") {
			continue
		}
		stack, _ := os.ReadFile(filepath.Join(task, "stack"))
		list += "\n" + string(stat[:strings.IndexByte(string(stat), ')')+1]) + "\n" + string(stack)
	}
	return list
}
